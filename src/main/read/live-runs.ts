/**
 * What became durable while those that follow its space were busy: one copy for all of them, and
 * all copies of a node within one bound. Who falls farther behind reads the log until it has caught
 * up (FAULTS row 93).
 */

import { copyBytes } from '../../shared/bytes.js';
import { ENTRY_HEADER_BYTES, RUN_OBJECT_BYTES, TAIL_QUEUE_BYTES } from '../../shared/limits.js';
import { type Entry, readPayloadSize } from '../../shared/log/entry.js';
import { EntryCopies } from '../../shared/log/entry-copies.js';
import type { Sequence } from '../../shared/position.js';
import type { RunConsumer, SpaceState } from '../log/space-table.js';
import type { ReadingMemory } from './memory.js';

interface LiveRun {
  readonly feed: Feed;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly first: Sequence;
  readonly count: number;
}

export class LiveRuns {
  readonly #memory: ReadingMemory;
  readonly #feeds = new Map<SpaceState, Feed>();
  /** Of all spaces, the oldest first. */
  readonly #kept = new Set<LiveRun>();

  constructor(memory: ReadingMemory) {
    this.#memory = memory;
  }

  follow(space: SpaceState): Follower {
    let feed = this.#feeds.get(space);
    if (!feed) {
      feed = new Feed(this);
      this.#feeds.set(space, feed);
      space.consumers = [...space.consumers, feed];
    }
    return new Follower(feed, () => this.#left(space));
  }

  #left(space: SpaceState): void {
    const feed = this.#feeds.get(space);
    if (!feed || feed.followers > 0) return;
    feed.drop();
    this.#feeds.delete(space);
    space.consumers = space.consumers.filter((consumer) => consumer !== feed);
  }

  /** The oldest ones make room, whosever they are. @returns undefined where it is too long */
  keep(feed: Feed, slab: Uint8Array, first: Sequence, count: number): LiveRun | undefined {
    const { most } = this.#memory;
    const size = slab.length + RUN_OBJECT_BYTES;
    if (size > most) return undefined;
    for (const oldest of this.#kept) {
      if (this.#memory.liveBytes + size <= most) break;
      oldest.feed.runs.shift();
      this.drop(oldest);
    }
    const bytes = new Uint8Array(slab.length);
    copyBytes(bytes, 0, slab);
    const run = { feed, bytes, view: new DataView(bytes.buffer), first, count };
    this.#memory.liveBytes += size;
    this.#kept.add(run);
    return run;
  }

  drop(run: LiveRun): void {
    if (this.#kept.delete(run)) this.#memory.liveBytes -= run.bytes.length + RUN_OBJECT_BYTES;
  }
}

/** The newest runs of one space, contiguous. */
class Feed implements RunConsumer {
  readonly #live: LiveRuns;
  readonly runs: LiveRun[] = [];
  followers = 0;
  readonly waiting = new Set<() => void>();
  /** Kept since anybody has taken or waited: where all are stuck nothing more is. */
  #unread = 0;

  constructor(live: LiveRuns) {
    this.#live = live;
  }

  run(bytes: Uint8Array | undefined, first: Sequence, count: number): void {
    const last = this.runs.at(-1);
    const isNext = last !== undefined && last.first + last.count === first;
    if (!isNext) this.drop();
    if (this.waiting.size > 0) this.#unread = 0;
    const isWanted = isNext || this.waiting.size > 0;
    this.#unread += bytes?.length ?? 0;
    const isRoom = this.#unread <= TAIL_QUEUE_BYTES;
    const kept = bytes && isWanted && isRoom && this.#live.keep(this, bytes, first, count);
    if (kept) this.runs.push(kept);
    else this.drop();
    for (const wake of this.waiting) wake();
  }

  /** The run that holds `sequence`. */
  at(sequence: Sequence): LiveRun | undefined {
    let low = 0;
    let high = this.runs.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const run = this.runs[middle]!;
      if (sequence < run.first) high = middle - 1;
      else if (sequence >= run.first + run.count) low = middle + 1;
      else {
        this.#unread = 0;
        return run;
      }
    }
    return undefined;
  }

  drop(): void {
    for (const run of this.runs.splice(0)) this.#live.drop(run);
  }
}

/** One that follows a space: where it stands, and its waiting. */
export class Follower {
  readonly #feed: Feed;
  readonly #left: () => void;
  readonly #copies = new EntryCopies();
  /** Where the entry behind the last piece stands. */
  #run: LiveRun | undefined;
  #next = 0;
  #at = 0;

  constructor(feed: Feed, left: () => void) {
    this.#feed = feed;
    this.#left = left;
    feed.followers++;
  }

  /** Entries from `next` on, of about `most` bytes; undefined: the log has them, if anything. */
  take(next: Sequence, most: number): Entry[] | undefined {
    const run = this.#feed.at(next);
    if (!run) {
      this.#run = undefined;
      return undefined;
    }
    const { bytes, view, first, count } = run;
    let at = run === this.#run && next === this.#next ? this.#at : offsetOf(run, next);
    const start = at;
    let sequence = next;
    const entries: Entry[] = [];
    while (sequence < first + count) {
      const end = at + ENTRY_HEADER_BYTES + readPayloadSize(view, at);
      if (entries.length > 0 && end - start > most) break;
      entries.push(this.#copies.take(bytes, view, at));
      at = end;
      sequence++;
    }
    this.#run = sequence < first + count ? run : undefined;
    this.#next = sequence;
    this.#at = at;
    return entries;
  }

  /** Resolves when something became durable, or the signal is aborted. */
  async wait(signal: AbortSignal): Promise<void> {
    const { waiting } = this.#feed;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        signal.removeEventListener('abort', done);
        waiting.delete(done);
        resolve();
      };
      waiting.add(done);
      signal.addEventListener('abort', done, { once: true });
      if (signal.aborted) done();
    });
  }

  close(): void {
    this.#run = undefined;
    this.#feed.followers--;
    this.#left();
  }
}

function offsetOf({ view, first }: LiveRun, sequence: Sequence): number {
  let at = 0;
  for (let n = first; n < sequence; n++) at += ENTRY_HEADER_BYTES + readPayloadSize(view, at);
  return at;
}
