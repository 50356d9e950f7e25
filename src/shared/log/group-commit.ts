/**
 * Group commit: which group is sealed, written and fdatasynced when, and which may be
 * acknowledged. No timer decides: the next group is closed when the disk can take it, or when
 * it is large enough that sealing it in the pool beside the running fdatasync pays.
 *
 *   staged -> (closed) -> sealing -> sealed -> writing -> written -> durable
 *
 * per-batch, per-write: a group is written only after the group before it is durable, so its
 * entries' durable_lsn is where that one ended (DESIGN 4). timer, none: it is written as soon as
 * the write before it has returned, and durable_lsn is what was durable at sealing.
 *
 * A write that the disk had no room for suspends: what is written becomes durable, everything
 * behind it is handed back (`suspended`), and nothing is sealed or written until `resume`.
 */
import { POOL_SEAL_BYTES, UNSYNCED_GROUPS_MAX } from '../limits.js';
import type { Lsn } from '../position.js';

export type FsyncMode = 'per-batch' | 'per-write' | { readonly timerMs: number } | 'none';

/** One group on its way. The shell hangs its own belongings (slabs, promises) on it. */
export interface Group {
  readonly bytes: number;
  startLsn: Lsn;
  /** End of the group before it; differs from startLsn where a segment begins. */
  previousEnd: Lsn;
  durableLsn: Lsn;
  /** This group opens a new segment. */
  rolls: boolean;
}

export type CommitInput<G extends Group> =
  | { readonly kind: 'closed'; readonly group: G }
  | { readonly kind: 'sealed' }
  | { readonly kind: 'written' }
  | { readonly kind: 'synced' }
  | { readonly kind: 'timer' }
  | { readonly kind: 'sync' }
  /** The next group begins the next segment. */
  | { readonly kind: 'roll' }
  /** The group that was being written did not get its place; others may, later. */
  | { readonly kind: 'refused' }
  /** The open segment, cleaned behind `end`, takes writes again. */
  | { readonly kind: 'resume'; readonly segment: OpenSegment }
  | { readonly kind: 'failed' };

/** The segment that is written, and the end of the log's last entry. */
export interface OpenSegment {
  readonly start: Lsn;
  readonly size: number;
  readonly end: Lsn;
}

/**
 * `close`: hand the open group over (input `closed`). `write` of a group that `rolls` stands for:
 * make what is written durable, then switch to the segment at its startLsn, then write. `sync`
 * covers all that was written when it was asked for; the groups in `durable` may be published
 * and acknowledged, the ones in `written` acknowledged only (timer, none).
 */
export type CommitEffect<G extends Group> =
  | { readonly kind: 'close' }
  | { readonly kind: 'seal'; readonly group: G; readonly where: 'main' | 'pool' }
  | { readonly kind: 'write'; readonly group: G }
  | { readonly kind: 'sync' }
  | { readonly kind: 'start-timer'; readonly ms: number }
  | { readonly kind: 'written'; readonly group: G }
  | { readonly kind: 'durable'; readonly groups: readonly G[]; readonly lsn: Lsn }
  | { readonly kind: 'suspended'; readonly groups: readonly G[] };

export class GroupCommit<G extends Group> {
  readonly #mode: FsyncMode;
  readonly #segmentBytes: number;
  #segmentStart: Lsn;
  #segmentSize: number;
  /** End of the last group that has its place. */
  #end: Lsn;
  #durable: Lsn;
  /** Durable before any group is written that has its place from here on: where a roll was. */
  #rolledAt: Lsn;
  readonly #closed: G[] = [];
  #sealing: G | undefined;
  #sealed: G | undefined;
  #writing: G | undefined;
  #written: G[] = [];
  #syncing: readonly G[] | undefined;
  #timerRuns = false;
  /** The timer has run out: one fdatasync of what is written. */
  #timerAsked = false;
  /** Somebody waits for everything: fdatasyncs until nothing is on its way. */
  #flushAsked = false;
  #failed = false;
  /** The groups that will never be written, while what is written before them is made durable. */
  #refused: G[] | undefined;
  #suspended = false;
  /** The next group goes to the next segment, whatever room there is in this one. */
  #mustRoll = false;

  /**
   * @param segmentBytes the size of segments to come
   * @param segment the one that is open for writing, and the end of its last entry
   */
  constructor(mode: FsyncMode, segmentBytes: number, segment: OpenSegment) {
    this.#mode = mode;
    this.#segmentBytes = segmentBytes;
    this.#segmentStart = segment.start;
    this.#segmentSize = segment.size;
    this.#end = segment.end;
    this.#durable = segment.end;
    this.#rolledAt = segment.end;
  }

  get durableLsn(): Lsn {
    return this.#durable;
  }

  /** Nothing of any group is on its way; the open group is the shell's to know. */
  get idle(): boolean {
    return (
      this.#closed.length === 0 &&
      !this.#sealing &&
      !this.#sealed &&
      !this.#writing &&
      !this.#syncing &&
      !this.#refused
    );
  }

  /** Written, and not yet covered by an fdatasync. */
  get hasUnsynced(): boolean {
    return this.#written.length > 0 || this.#syncing !== undefined;
  }

  /**
   * Takes one input and says what to do next, in this order.
   * @param openBytes what the open group holds
   */
  step(input: CommitInput<G> | undefined, openBytes: number): CommitEffect<G>[] {
    const effects: CommitEffect<G>[] = [];
    if (input) this.#take(input, effects);
    if (this.#failed || this.#suspended) return effects;
    if (this.#refused) {
      this.#suspend(this.#refused, effects);
      return effects;
    }
    this.#startWrite(effects);
    this.#startSeal(effects, openBytes);
    this.#startSync(effects, openBytes);
    return effects;
  }

  #take(input: CommitInput<G>, effects: CommitEffect<G>[]): void {
    switch (input.kind) {
      case 'closed':
        this.#closed.push(input.group);
        return;
      case 'sealed':
        this.#sealed = this.#sealing;
        this.#sealing = undefined;
        return;
      case 'written': {
        const group = this.#writing!;
        this.#writing = undefined;
        if (group.rolls) this.#durableUpTo(group.previousEnd, effects);
        this.#written.push(group);
        if (!this.#acksDurableOnly) {
          effects.push({ kind: 'written', group });
          // Each is kept until then, with all who have waited for it.
          if (this.#written.length >= UNSYNCED_GROUPS_MAX) this.#timerAsked = true;
        }
        if (typeof this.#mode === 'object' && !this.#timerRuns) {
          this.#timerRuns = true;
          effects.push({ kind: 'start-timer', ms: this.#mode.timerMs });
        }
        return;
      }
      case 'synced': {
        const groups = this.#syncing!;
        this.#syncing = undefined;
        this.#publish(groups, effects);
        return;
      }
      case 'timer':
        this.#timerRuns = false;
        this.#timerAsked = true;
        return;
      case 'sync':
        this.#flushAsked = true;
        return;
      case 'roll':
        this.#mustRoll = true;
        return;
      case 'refused':
        this.#refused = [this.#writing!];
        this.#writing = undefined;
        return;
      case 'resume': {
        const { start, size, end } = input.segment;
        this.#segmentStart = start;
        this.#segmentSize = size;
        this.#end = end;
        // A roll that had its place was taken back with the rest.
        this.#rolledAt = end;
        this.#suspended = false;
        return;
      }
      case 'failed':
        this.#failed = true;
        return;
    }
  }

  /** Waits for the seal and the fdatasync that are under way; then all that is left goes back. */
  #suspend(refused: G[], effects: CommitEffect<G>[]): void {
    if (!this.#syncing && this.#written.length > 0) {
      this.#syncing = this.#written;
      this.#written = [];
      effects.push({ kind: 'sync' });
    }
    if (this.#syncing || this.#sealing) return;
    if (this.#sealed) refused.push(this.#sealed);
    refused.push(...this.#closed.splice(0));
    this.#sealed = undefined;
    this.#refused = undefined;
    this.#suspended = true;
    effects.push({ kind: 'suspended', groups: refused });
  }

  get #acksDurableOnly(): boolean {
    return this.#mode === 'per-batch' || this.#mode === 'per-write';
  }

  /** A roll has made durable all that stood before it, whatever the mode. */
  #durableUpTo(lsn: Lsn, effects: CommitEffect<G>[]): void {
    const groups = this.#written;
    this.#written = [];
    if (groups.length > 0) this.#publish(groups, effects);
    if (lsn > this.#durable) this.#durable = lsn;
  }

  #publish(groups: readonly G[], effects: CommitEffect<G>[]): void {
    const last = groups.at(-1);
    if (!last) return;
    const lsn = last.startLsn + last.bytes;
    if (lsn > this.#durable) this.#durable = lsn;
    effects.push({ kind: 'durable', groups, lsn: this.#durable });
  }

  #startWrite(effects: CommitEffect<G>[]): void {
    const group = this.#sealed;
    if (!group || this.#writing) return;
    if (this.#syncing && (this.#acksDurableOnly || group.rolls)) return;
    if (this.#acksDurableOnly && this.#written.length > 0) return;
    this.#sealed = undefined;
    this.#writing = group;
    effects.push({ kind: 'write', group });
  }

  #startSeal(effects: CommitEffect<G>[], openBytes: number): void {
    if (this.#sealing || this.#sealed) return;
    const group = this.#closed[0];
    if (!group) {
      const diskFree = !this.#writing && !(this.#acksDurableOnly && this.hasUnsynced);
      if (openBytes > 0 && (diskFree || openBytes >= POOL_SEAL_BYTES)) {
        effects.push({ kind: 'close' });
      }
      return;
    }
    this.#closed.shift();
    this.#place(group);
    this.#sealing = group;
    const where = group.bytes >= POOL_SEAL_BYTES ? 'pool' : 'main';
    effects.push({ kind: 'seal', group, where });
  }

  /** Gives the group its LSN: behind the last one, or at the head of the next segment. */
  #place(group: G): void {
    group.previousEnd = this.#end;
    // Behind a segment whose head was torn, the log goes on at that head.
    group.startLsn = Math.max(group.previousEnd, this.#segmentStart);
    const isFull = group.startLsn + group.bytes > this.#segmentStart + this.#segmentSize;
    // One without an entry is as good as the next one.
    group.rolls = isFull || (this.#mustRoll && this.#end > this.#segmentStart);
    this.#mustRoll = false;
    if (group.rolls) {
      group.startLsn = this.#segmentStart + this.#segmentSize;
      this.#segmentStart = group.startLsn;
      this.#segmentSize = this.#segmentBytes;
      this.#rolledAt = group.previousEnd;
    }
    // A roll makes durable all before it, in every mode, and whatever has its place behind it is
    // written later: so each first good header of a segment tells where the one before ends.
    const known = Math.max(this.#durable, this.#rolledAt);
    group.durableLsn = this.#acksDurableOnly ? group.previousEnd : known;
    this.#end = group.startLsn + group.bytes;
  }

  #startSync(effects: CommitEffect<G>[], openBytes: number): void {
    // A write that rolls makes everything before it durable by itself.
    if (this.#syncing || this.#writing?.rolls) return;
    if (!this.#acksDurableOnly && !this.#timerAsked && !this.#flushAsked) return;
    this.#timerAsked = false;
    if (this.idle && openBytes === 0) this.#flushAsked = false;
    if (this.#written.length === 0) return;
    this.#syncing = this.#written;
    this.#written = [];
    effects.push({ kind: 'sync' });
  }
}
