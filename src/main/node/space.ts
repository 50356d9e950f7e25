/** What the host holds of a space: append, read, subscribe, wait, status. */

import { type EngramError, failure } from '../../shared/errors.js';
import { atCall, payloadBytes, readGiven, readList } from '../../shared/host-input.js';
import { DEFAULT_ACK_TIMEOUT_MS } from '../../shared/limits.js';
import { type Entry, isAppendableType } from '../../shared/log/entry.js';
import { cursorAt } from '../../shared/log/truth.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import { checkTimeout, describe, wrong } from '../../shared/option-checks.js';
import type { Epoch, Sequence } from '../../shared/position.js';
import type { Applier } from '../follow/apply.js';
import { keepsOf } from '../follow/checkpoint-follower.js';
import { fencedError, mayAcknowledge, notLedHere } from '../lead/fencing.js';
import type { MembersStatus } from '../lead/members/changes.js';
import type { Retention } from '../log/retention/retention.js';
import type { SpaceState } from '../log/space-table.js';
import type { Wal } from '../log/wal.js';
import type { NodeConfig } from '../options/options.js';
import type { LogReader } from '../read/reader.js';
import { stayAlive } from '../runtime/alive.js';
import type { PairGlance } from '../ship/lag-monitor.js';
import type { Replication } from '../ship/replication.js';
import type { SnapshotIntake } from '../snapshot/intake.js';
import { pairOf } from '../snapshot/supply.js';
import type { SpaceGlance, SpaceStatus } from '../watch/status.js';
import { StagedBatch } from './staged-batch.js';

export interface AckLevel {
  /** So many replicas have flushed the entry, besides this node. */
  readonly replicas: number;
  /** Default 5,000. */
  readonly timeoutMs?: number;
}

export interface AppendOptions {
  /** Default: durable on this node. */
  readonly ack?: AckLevel;
  /** false: reject Backpressure at once instead of waiting for room. */
  readonly wait?: boolean;
}

export interface Appended {
  readonly sequence: Sequence;
  readonly epoch: Epoch;
}

export interface AppendedBatch {
  readonly firstSequence: Sequence;
  readonly lastSequence: Sequence;
  readonly epoch: Epoch;
}

/** The parts of a node that a space works with. */
export interface SpaceParts {
  readonly config: NodeConfig;
  readonly memory: NodeMemory;
  readonly wal: Wal;
  readonly reader: LogReader;
  readonly replication: Replication;
  readonly retention: Retention;
  /** Why nothing may be acknowledged at this moment, whatever has been flushed. */
  ackRefusal(): EngramError | undefined;
  readonly stop: AbortSignal;
  appliedTo(space: SpaceState): Sequence;
  /** That the connected primary speaks; undefined: none is. */
  versionOf(primaryId: string): number | undefined;
  readonly applier: Applier | undefined;
  readonly snapshots: SnapshotIntake;
  membersOf(space: SpaceState): MembersStatus;
}

/** For the node; no host can reach it. */
export let makeSpace: (parts: SpaceParts, state: SpaceState) => Space;
/** For the node; see SeenNode. */
export let glanceAt: (space: Space, pair: PairGlance, each: () => void) => SpaceGlance;

/** Made by `openSpace` and `space` of a node. */
export class Space {
  readonly #parts: SpaceParts;
  readonly #state: SpaceState;

  static {
    makeSpace = (parts, state) => new Space(parts, state);
    glanceAt = (space, pair, each) => space.#glance(pair, each);
  }

  private constructor(parts: SpaceParts, state: SpaceState) {
    this.#parts = parts;
    this.#state = state;
  }

  get name(): string {
    return this.#state.facts.name;
  }

  /**
   * Appends one entry. Resolves when it is durable here, or as `ack` asks.
   * @param type 1-4, 6, or 1000 and up
   * @param payload at most maxEntryBytes; a Uint8Array of any realm, or of shared memory; copied
   *   before this returns or, while the call waits for budget or for links, before it resolves
   * Where too few replicas for `ack` are connected and a link may come (a promotion, an opening,
   * one lost a moment ago), it is waited for within `timeoutMs`, before a sequence is taken: calls
   * that ask for fewer may get theirs before it.
   * Rejects Configuration (also for more `ack.replicas` than the space has), EntryTooLarge,
   * NotPrimary, Backpressure, DiskFull, WalFailed, NotEnoughReplicas, AckTimeout, Closed.
   */
  append(type: number, payload: Uint8Array, options?: AppendOptions): Promise<Appended> {
    if (options === undefined && !this.#parts.wal.isCrowded) {
      const quick = this.#quickAppend(type, payload);
      if (quick) return quick;
    }
    return this.#append('append', type, [payload], options).then(({ last, epoch }) => ({
      sequence: last,
      epoch,
    }));
  }

  /** The plain case, one promise an entry; undefined when it must wait for room. */
  #quickAppend(type: number, payload: Uint8Array): Promise<Appended> | undefined {
    try {
      this.#checkLeads();
      const size = this.#check(type, payload);
      const waiting = new WaitingAppend(this.#state);
      const sequence = this.#parts.wal.stage(this.#state, type, payload, size, waiting);
      if (sequence === 0) return undefined;
      waiting.sequence = sequence;
      return waiting.promise;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Appends entries with contiguous sequences: one promise for all. The list is copied at the
   * call, each payload when there is room for it, before this resolves. Not atomic: the error has
   * in `details` what has become of it: `firstSequence`, where something of it was appended, and
   * `lastDurableSequence`, which is final. With `wait: false` it takes what there is room for.
   * Rejects as `append` does.
   */
  async appendBatch(
    type: number,
    payloads: readonly Uint8Array[],
    options?: AppendOptions,
  ): Promise<AppendedBatch> {
    const list = readList('appendBatch', payloads, payloadBytes);
    const { first, last, epoch } = await this.#append('appendBatch', type, list, options);
    return { firstSequence: first, lastSequence: last, epoch };
  }

  /**
   * Appends without a promise: the sequence, or undefined when the budget is used up. When it is
   * durable `flushed` tells. Throws Configuration, EntryTooLarge, NotPrimary, WalFailed, Closed.
   */
  tryAppend(type: number, payload: Uint8Array): Sequence | undefined {
    this.#checkLeads();
    const size = this.#check(type, payload);
    const { wal } = this.#parts;
    if (wal.isCrowded) return undefined;
    return wal.stage(this.#state, type, payload, size) || undefined;
  }

  /** Stages all payloads, in one go or as room comes free. */
  async #append(
    what: string,
    type: number,
    payloads: readonly Uint8Array[],
    options: AppendOptions | undefined,
  ): Promise<{ first: Sequence; last: Sequence; epoch: Epoch }> {
    // Read before anything else: nothing that the host does from here on changes it.
    const { ack: asked, wait = true } = readGiven<AppendOptions>(what, options, ['ack', 'wait']);
    if (typeof wait !== 'boolean') {
      throw failure('Configuration', `${what}: wait ${describe(wait)} is neither true nor false`);
    }
    let ack = asked === undefined ? undefined : readAck('ack', asked);
    this.#checkLeads();
    let sizes = payloads.map((payload) => this.#check(type, payload));
    const linked = ack && this.#whenLinked(ack, wait);
    if (ack && linked) {
      ack = { ...ack, timeoutMs: await linked };
      // Time has passed, and the payloads are the host's.
      this.#checkLeads();
      sizes = payloads.map((payload) => this.#check(type, payload));
    }
    const batch = new StagedBatch(this.#parts.wal, this.#state, type, payloads, sizes);
    try {
      await batch.staged(wait);
      if (ack) {
        await this.#whenFlushed(batch.last, ack);
        if (!mayAcknowledge(this.#state, batch.epoch)) throw fencedError(this.#state);
      }
    } catch (error) {
      throw await batch.settledError(error, this.#parts.memory);
    }
    return batch;
  }

  /**
   * Enough replicas are connected before a sequence is taken, or may be soon (row 117).
   * @returns undefined: they are; else what is left of the time, once they are
   */
  #whenLinked({ replicas, timeoutMs }: AckLevel, wait: boolean): Promise<number> | undefined {
    const { acks, links } = this.#parts.replication;
    acks.requireConfigured(this.#state, replicas);
    const sinceMs = performance.now();
    const linked = links.whenConnected(this.#state, replicas, wait ? timeoutMs! : 0);
    const leftMs = (): number => Math.max(1, timeoutMs! - (performance.now() - sinceMs));
    return linked && stayAlive(linked).then(leftMs);
  }

  #checkLeads(): void {
    const { facts, refusal, pause, isFenced } = this.#state;
    if (this.#parts.stop.aborted) throw failure('Closed', 'append on a closed node');
    if (pause) throw pause;
    if (isFenced) throw fencedError(this.#state);
    if (facts.role !== 'primary') throw notLedHere('NotPrimary', this.#state);
    if (refusal) throw refusal;
    if (this.#parts.retention.refusal) throw this.#parts.retention.refusal;
  }

  /** @returns the bytes of the payload */
  #check(type: number, payload: Uint8Array): number {
    if (typeof type !== 'number' || !isAppendableType(type)) {
      const allowed = 'allowed are 1-4, 6, and 1000 to 2^32-1';
      throw failure('Configuration', `entry type ${describe(type)}: ${allowed}`);
    }
    const size = payloadBytes(payload);
    const { maxEntryBytes } = this.#parts.config;
    if (size > maxEntryBytes) {
      throw failure('EntryTooLarge', `a payload of ${size} bytes, cap ${maxEntryBytes}`);
    }
    return size;
  }

  /**
   * Durable entries `from` (default: the first retained one) to `to` (default: the durable end at
   * the call), inclusive. Throws Configuration, Trimmed, Rewound, CorruptionDetected, Io, Closed.
   */
  read(range?: { from?: Sequence; to?: Sequence }): AsyncGenerator<Entry, void, undefined> {
    const { memory, reader } = this.#parts;
    const space = this.#state;
    const durable = memory.durable(space.slot);
    const given = atCall(() => {
      const read = readGiven<{ from: Sequence; to: Sequence }>('read', range, ['from', 'to']);
      if (read.from !== undefined) checkSequence('read: from', read.from);
      if (read.to !== undefined && read.to !== 0) checkSequence('read: to', read.to);
      return read;
    });
    const at = cursorAt(0);
    const make = async function* (signal: AbortSignal) {
      const { from = 0, to = durable } = given();
      at.next = from;
      yield* reader.read(space, from, to, signal, at);
    };
    return reader.streams.open({ truth: space.truth, at, make }, false);
  }

  /**
   * Durable entries from `from` (default: the first retained one) on: history, then live, until
   * the signal is aborted, the loop is left or the node closes.
   * Throws Configuration, Trimmed, Rewound, CorruptionDetected, Io, Closed.
   */
  subscribe(options?: {
    from?: Sequence;
    signal?: AbortSignal;
  }): AsyncGenerator<Entry, void, undefined> {
    type Given = { from: Sequence; signal: AbortSignal };
    const { reader } = this.#parts;
    const space = this.#state;
    let asked: AbortSignal | undefined;
    const given = atCall(() => {
      const read = readGiven<Given>('subscribe', options, ['from', 'signal']);
      const { from, signal } = read;
      if (from !== undefined) checkSequence('subscribe: from', from);
      if (signal === undefined || signal instanceof AbortSignal) {
        asked = signal;
        return read;
      }
      throw failure('Configuration', `subscribe: signal ${describe(signal)} is not an AbortSignal`);
    });
    const at = cursorAt(0);
    const make = async function* (stop: AbortSignal) {
      at.next = given().from ?? 0;
      yield* reader.follow(space, at.next, stop, at);
    };
    return reader.streams.open({ truth: space.truth, at, make }, true, asked);
  }

  /**
   * Resolves when `sequence` is durable here and flushed on `replicas` replicas (default 0). It
   * may be beyond the last entry, and a replica may be away: both may come within `timeoutMs`
   * (default 5,000).
   * Rejects Configuration (also for more replicas than a led space has), AckTimeout (its
   * `details.lastSequence` names the last entry), WalFailed, Closed; and where the history in which
   * it was called does not go on: Fenced, LeaseLost, Rewound.
   */
  async flushed(sequence: Sequence, options?: Partial<AckLevel>): Promise<void> {
    checkSequence('flushed: sequence', sequence);
    const ack = readAck('flushed', options, 0);
    const { facts } = this.#state;
    if (facts.role === 'primary') {
      this.#parts.replication.acks.requireConfigured(this.#state, ack.replicas);
    }
    await this.#whenFlushed(sequence, ack);
  }

  async #whenFlushed(sequence: Sequence, ack: Required<AckLevel>): Promise<void> {
    const { replicas, timeoutMs } = ack;
    const { acks } = this.#parts.replication;
    await stayAlive(acks.flushed(this.#state, sequence, replicas, timeoutMs));
    const { facts, isFenced } = this.#state;
    if (replicas > 0 && isFenced) throw fencedError(this.#state);
    const refusal = facts.role === 'primary' ? this.#parts.ackRefusal() : undefined;
    if (refusal) throw refusal;
  }

  /**
   * The host needs nothing below `sequence` on this node any more: durable when it resolves. What
   * every space of a segment has passed, and every replica has, is freed. Never goes back.
   * Rejects Configuration, WalFailed, DiskFull, Closed.
   */
  async checkpoint(sequence: Sequence): Promise<void> {
    checkSequence('sequence', sequence);
    const { slot } = this.#state;
    if (this.#parts.stop.aborted) throw failure('Closed', 'checkpoint on a closed node');
    const durable = this.#parts.memory.durable(slot);
    if (sequence > durable + 1) {
      throw failure('Configuration', `checkpoint ${sequence} is beyond the last entry ${durable}`);
    }
    await stayAlive(this.#parts.retention.checkpoint(this.#state, sequence));
  }

  /**
   * The host does without the entry at which applying is blocked: it stays in the log, and is never
   * handed to `apply` again. Durable when it resolves. Rejects Configuration, WalFailed, DiskFull.
   */
  async skip(sequence: Sequence): Promise<void> {
    checkSequence('sequence', sequence);
    const { applier, stop } = this.#parts;
    if (stop.aborted) throw failure('Closed', 'skip on a closed node');
    if (!applier) throw failure('Configuration', 'skip on a node without apply');
    await stayAlive(applier.skip(this.#state, sequence));
  }

  #glance(pair: PairGlance, each: () => void): SpaceGlance {
    const { memory, replication, applier } = this.#parts;
    const { facts, slot, refusal, isFenced } = this.#state;
    let isTroubled = facts.damage.length > 0 || refusal !== undefined || isFenced;
    isTroubled ||= applier?.blockOf(this.#state) !== undefined;
    if (facts.role === 'primary') {
      const nowMs = performance.now();
      for (const shipper of replication.shippersOf(this.#state)) {
        replication.monitor.glance(this.#state, shipper, nowMs, pair);
        isTroubled ||= pair.status === 'degraded' || pair.status === 'failed';
        each();
      }
    }
    return {
      name: facts.name,
      role: facts.role,
      primaryNodeId: facts.primary,
      durableSequence: memory.durable(slot),
      isTroubled,
    };
  }

  #repairStatus(): SpaceStatus['repair'] {
    const { repair } = this.#state;
    if (!repair) return undefined;
    const { state, reason, unreachable, sinceMs } = repair;
    return { state, reason, unreachable, since: performance.now() - sinceMs };
  }

  /** The figures of this space, as of now. */
  status(): SpaceStatus {
    const { memory, replication, retention } = this.#parts;
    const { facts, slot } = this.#state;
    const durable = memory.durable(slot);
    const shippers = replication.shippersOf(this.#state);
    const replicas = replication.monitor.statusOf(this.#state, shippers).map((replica) => ({
      ...replica,
      slot: retention.slotState(this.#state, replica.replicaId),
      snapshot: replication.snapshots.statusOf(pairOf(this.#state, replica.replicaId)),
    }));
    // One that has failed holds nothing back, unless all have.
    const living = replicas.filter((r) => r.status !== 'failed');
    const acked = (living.length > 0 ? living : replicas).map((r) => r.ackedSequence);
    const lagEntries = replicas.map((r) => r.lagEntries);
    const rpoMs = replicas.map((r) => r.lagMs).filter((ms) => ms !== 'unknown');
    return {
      name: facts.name,
      id: facts.id,
      role: facts.role,
      epoch: facts.epoch,
      primaryNodeId: facts.primary,
      firstSequence: durable > 0 ? facts.first : 0,
      checkpoint: facts.checkpoint,
      keeps: keepsOf(this.#state, this.#parts.config.follow, this.#parts.versionOf),
      damage: facts.damage.map(({ from, to, accepted }) => ({ from, to, accepted })),
      repair: this.#repairStatus(),
      lastSequence: memory.allocated(slot),
      durableSequence: durable,
      appliedSequence: this.#parts.appliedTo(this.#state),
      refusal: refusalOf(this.#state),
      applyBlocked: this.#parts.applier?.blockOf(this.#state),
      skipped: [...facts.skipped],
      snapshot: this.#parts.snapshots.progressOf(this.#state),
      replicas,
      members: this.#parts.membersOf(this.#state),
      minAckedSequence: acked.length > 0 ? Math.min(...acked) : durable,
      isReplicated: (n) => replication.quorum.acknowledgedUpTo(this.#state, n) >= durable,
      rpo: {
        // A replica that has not spoken yet has what its slot is known to have.
        entries: facts.role === 'primary' ? Math.min(durable, ...lagEntries) : 0,
        ms: rpoMs.length > 0 ? Math.min(...rpoMs) : durable === 0 ? 0 : 'unknown',
      },
    };
  }
}

/** An append on its way to the disk. */
class WaitingAppend {
  readonly promise: Promise<Appended>;
  readonly #space: SpaceState;
  readonly #epoch: Epoch;
  #resolve!: (appended: Appended) => void;
  #reject!: (error: Error) => void;
  sequence = 0;

  constructor(space: SpaceState) {
    this.#space = space;
    this.#epoch = space.facts.epoch;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  resolve(): void {
    if (mayAcknowledge(this.#space, this.#epoch)) {
      this.#resolve({ sequence: this.sequence, epoch: this.#epoch });
    } else {
      this.#reject(fencedError(this.#space));
    }
  }

  reject(error: Error): void {
    this.#reject(error);
  }
}

function readAck(what: string, given: unknown, fewest?: number): Required<AckLevel> {
  const read = readGiven<AckLevel>(what, given, ['replicas', 'timeoutMs']);
  const { replicas = fewest, timeoutMs = DEFAULT_ACK_TIMEOUT_MS } = read;
  if (replicas === undefined || !Number.isSafeInteger(replicas) || replicas < 0) {
    throw wrong(`${what}: replicas`, replicas, 'a whole number from 0: { replicas: 1 }');
  }
  checkTimeout(`${what}: timeoutMs`, timeoutMs);
  return { replicas, timeoutMs };
}

function refusalOf(space: SpaceState): SpaceStatus['refusal'] {
  const refusal = space.refusal ?? (space.isFenced ? fencedError(space) : undefined);
  return refusal && { code: refusal.code, message: refusal.message.split('\n', 1)[0]! };
}

function checkSequence(what: string, sequence: unknown): asserts sequence is number {
  if (Number.isSafeInteger(sequence) && (sequence as number) >= 1) return;
  const isNumber = typeof sequence === 'number';
  const expected = isNumber ? 'sequences are whole numbers from 1' : 'a sequence is a number';
  throw failure('Configuration', `${what} is ${describe(sequence)}: ${expected}`);
}
