/** What stands where our node and its space would: staging, and how far everything is. */
import { sleep } from '../child.mjs';
import { Groups } from './group.mjs';
import { HEADER_BYTES, ROW, stageHeader, WORD } from './pipeline.mjs';

export class Bare {
  groups;
  #replicas;
  /** Called where the durable end or an acknowledgement has moved. */
  heard = () => undefined;

  constructor(replicas) {
    this.#replicas = replicas;
    this.groups = new Groups(replicas, false);
  }

  /** A thread has got on. */
  woken() {
    this.groups.pump();
    this.heard();
  }

  tryAppend(payload, timestampNs) {
    const { groups } = this;
    const size = HEADER_BYTES + payload.length;
    const at = groups.room(size);
    if (at < 0) return false;
    groups.ring.bytes.set(payload, at + HEADER_BYTES);
    stageHeader(groups.ring.view, at, groups.next, timestampNs, payload.length);
    groups.add(size, 1);
    return true;
  }

  /** The last entry that is durable here. */
  get durable() {
    const { ring } = this.groups;
    const group = ring.get(WORD.durable);
    return group === 0 ? 0 : ring.row(group, ROW.first) + ring.row(group, ROW.count) - 1;
  }

  /** The last one that every replica has flushed. */
  get acked() {
    let least = Number.POSITIVE_INFINITY;
    for (let r = 0; r < this.#replicas; r++) {
      least = Math.min(least, this.groups.ring.get(WORD.acked + r));
    }
    return least;
  }

  async until(isDone) {
    while (!isDone()) await sleep(1);
  }
}
