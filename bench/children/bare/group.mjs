/** The open group of a bare node, and when it is closed: the rule of group commit, as ours has it. */
import fs from 'node:fs';
import path from 'node:path';
import {
  LARGE_GROUP_BYTES,
  Ring,
  ROW,
  SLAB_BYTES,
  SLABS,
  seal,
  TRAILER_BYTES,
  WORD,
} from './pipeline.mjs';

export class Groups {
  ring = new Ring();
  #replicas;
  #isSealed;
  group = 1;
  bytes = 0;
  count = 0;
  first = 1;
  /** Bytes behind the open group that are to become its next batch: they move with it. */
  partial = 0;

  /** @param isSealed entries come sealed: a replica */
  constructor(replicas, isSealed) {
    this.#replicas = replicas;
    this.#isSealed = isSealed;
  }

  get next() {
    return this.first + this.count;
  }

  /** @returns where so many bytes may be staged in the open group; -1 when there is no room */
  room(bytes) {
    if (this.bytes + bytes > SLAB_BYTES && !this.close()) return -1;
    if (this.bytes === 0 && this.group - this.#oldest() >= SLABS) return -1;
    return this.ring.start(this.group) + this.bytes;
  }

  add(bytes, count) {
    this.bytes += bytes;
    this.count += count;
  }

  /** The last group whose slab is free again. */
  #oldest() {
    let least = this.ring.get(WORD.durable);
    for (let r = 0; r < this.#replicas; r++) {
      least = Math.min(least, this.ring.get(WORD.sent + r));
    }
    return least;
  }

  /** Closes the open group where the disk is free, or where it is large and the next to be written. */
  pump() {
    if (this.bytes === 0) return;
    const isFree = this.ring.get(WORD.durable) === this.group - 1;
    if (isFree || this.bytes >= LARGE_GROUP_BYTES) this.close();
  }

  /** @returns false where another group waits for the disk already */
  close() {
    const { ring, group, bytes } = this;
    const sealed = ring.get(WORD.sealed);
    if (sealed < group - 1 || group - 1 - ring.get(WORD.durable) > 1) return false;
    ring.setRow(group, ROW.bytes, bytes);
    ring.setRow(group, ROW.first, this.first);
    ring.setRow(group, ROW.count, this.count);
    this.first += this.count;
    this.group++;
    this.bytes = 0;
    this.count = 0;
    const from = ring.start(group);
    const end = from + bytes;
    if (this.partial > 0) {
      ring.bytes.copyWithin(ring.start(this.group), end, end + this.partial);
    }
    if (this.#isSealed) ring.bytes.fill(0, end, end + TRAILER_BYTES);
    else if (bytes >= LARGE_GROUP_BYTES) {
      ring.set(WORD.toSeal, group);
      return true;
    } else seal(ring.bytes, ring.view, from, end);
    ring.set(WORD.sealed, group);
    return true;
  }
}

/** The warm blocks: what a node of ours finds as spare segments. */
export function openFiles(dir) {
  const names = fs.readdirSync(dir).filter((name) => name.endsWith('.seg'));
  if (names.length === 0) throw new Error(`no spare segment in ${dir}`);
  return names.sort().map((name) => fs.openSync(path.join(dir, name), 'r+'));
}
