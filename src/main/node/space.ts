/** What the host holds of a space: append, read, subscribe, wait, status. */

import { failure } from '../../shared/errors.js';
import { payloadBytes, readList } from '../../shared/host-input.js';
import type { Entry } from '../../shared/log/entry.js';
import type { Sequence } from '../../shared/position.js';
import type { SpaceState } from '../log/space-table.js';
import type { Entries } from '../read/entry-stream.js';
import { type Abortable, abortable, withoutSignal } from '../runtime/abort.js';
import { stayAlive } from '../runtime/alive.js';
import type { PairGlance } from '../ship/lag-monitor.js';
import type { SpaceGlance, SpaceStatus } from '../watch/status.js';
import { makeProducer, type Producer, type ProducerOptions } from './produce/producer.js';
import { Appends } from './space/appends.js';
import { glanceOf, statusOf } from './space/figures.js';
import {
  type AckLevel,
  type Appended,
  type AppendedBatch,
  type AppendOptions,
  checkSequence,
  readAck,
  readToken,
  readWait,
  type WaitOptions,
} from './space/options.js';
import type { SpaceParts } from './space/parts.js';
import {
  openRead,
  openSubscription,
  type ReadRange,
  readTime,
  type SubscribeOptions,
} from './space/readings.js';
import { Waits } from './space/waits.js';

const WAIT = ['applied', 'timeoutMs'] as const;

/** For the node; no host can reach it. */
export let makeSpace: (parts: SpaceParts, state: SpaceState) => Space;
/** For the node; see SeenNode. */
export let glanceAt: (space: Space, pair: PairGlance, each: () => void) => SpaceGlance;

/** Made by `openSpace` and `space` of a node. */
export class Space {
  readonly #parts: SpaceParts;
  readonly #state: SpaceState;
  readonly #appends: Appends;
  readonly #waits: Waits;

  static {
    makeSpace = (parts, state) => new Space(parts, state);
    glanceAt = (space, pair, each) => glanceOf(space.#parts, space.#state, pair, each);
  }

  private constructor(parts: SpaceParts, state: SpaceState) {
    this.#parts = parts;
    this.#state = state;
    this.#waits = new Waits(parts, state);
    this.#appends = new Appends(parts, state, this.#waits);
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
   * NotPrimary, SequenceConflict (for `expected`), Backpressure, DiskFull, WalFailed,
   * NotEnoughReplicas, AckTimeout, Aborted, Closed.
   */
  append(type: number, payload: Uint8Array, options?: AppendOptions): Promise<Appended> {
    if (options === undefined && !this.#parts.wal.isCrowded) {
      const quick = this.#appends.quick(type, payload);
      if (quick) return quick;
    }
    return this.#appends.staged('append', type, [payload], options).then(({ last, epoch }) => ({
      sequence: last,
      epoch,
    }));
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
    const { first, last, epoch } = await this.#appends.staged('appendBatch', type, list, options);
    return { firstSequence: first, lastSequence: last, epoch };
  }

  /**
   * Appends without a promise: the sequence, or undefined when the budget is used up. When it is
   * durable `flushed` tells. It takes no options: what they ask for takes a promise.
   * Throws Configuration, EntryTooLarge, NotPrimary, WalFailed, Closed.
   */
  tryAppend(type: number, payload: Uint8Array, options?: undefined): Sequence | undefined {
    if (options !== undefined) throw failure('Configuration', 'tryAppend takes no options');
    this.#appends.checkLeads();
    const size = this.#appends.check(type, payload);
    const { wal, gate } = this.#parts;
    if (wal.isCrowded || gate?.isShut(this.#state)) return undefined;
    return wal.stage(this.#state, type, payload, size) || undefined;
  }

  /**
   * A producer for another thread of this host: pass it in the `workerData` of a worker, and take
   * it there with `attachProducer`. Close it when the thread has ended. At most 64 on a node.
   * Throws Configuration, Closed.
   */
  producer(options?: ProducerOptions): Producer {
    return makeProducer(this.#parts, this.#state, this.#appends, options);
  }

  /**
   * Durable entries `from` (or `fromTime`, or the `last` n; default: from the first retained one
   * on) to `to` (default: the durable end at the call), inclusive; with `reverse` the newest first.
   * Throws Configuration, Trimmed, Rewound, CorruptionDetected, Io, Closed.
   */
  read(range?: ReadRange): Entries<Entry> {
    return openRead(this.#parts, this.#state, range);
  }

  /**
   * The first durable entry that is retained and was written at `time` or later, by the clock of
   * its primary; where there is none, the sequence behind the last one.
   * @param time a Date, or ns since the Unix epoch
   * Rejects Configuration, CorruptionDetected, Io, Aborted, Closed.
   */
  async seek(time: bigint | Date, options?: Abortable): Promise<Sequence> {
    const ns = readTime('seek: time', time);
    const [signal] = withoutSignal('seek', options, []);
    const { reader, stop } = this.#parts;
    if (stop.aborted) throw failure('Closed', 'seek on a closed node');
    return await stayAlive(abortable('seek', signal, () => reader.atTime(this.#state, ns)));
  }

  /**
   * Durable entries from `from` (default: the first retained one) on: history, then live, until
   * the signal is aborted, the loop is left or the node closes.
   * Throws Configuration, Trimmed, Rewound, CorruptionDetected, Io, Closed.
   */
  subscribe(options?: SubscribeOptions): Entries<Entry> {
    return openSubscription(this.#parts, this.#state, options);
  }

  /**
   * Resolves when `sequence` is durable here and flushed on `replicas` replicas (default 0). It
   * may be beyond the last entry, and a replica may be away: both may come within `timeoutMs`
   * (default 5,000).
   * Rejects Aborted, Configuration (also for more replicas than a led space has), AckTimeout (its
   * `details.lastSequence` names the last entry), WalFailed, Closed; and where the history in which
   * it was called does not go on: Fenced, LeaseLost, Rewound.
   */
  async flushed(sequence: Sequence, options?: Partial<AckLevel> & Abortable): Promise<void> {
    checkSequence('flushed: sequence', sequence);
    const [signal, rest] = withoutSignal<AckLevel>('flushed', options, ['replicas', 'timeoutMs']);
    const ack = readAck('flushed', rest, 0);
    const { facts } = this.#state;
    if (facts.role === 'primary') {
      this.#parts.replication.acks.requireConfigured(this.#state, ack.replicas);
    }
    await abortable('flushed', signal, () => this.#appends.whenFlushed(sequence, ack));
  }

  /**
   * Resolves when this very entry is durable here, and with `applied` when this node's `apply` has
   * returned for it: on any node that has the space, however many failovers lie between.
   * @param token what its append resolved with; one of another entry there is Rewound
   * Rejects Configuration, Rewound (history has a later epoch there: the entry was taken back),
   * AckTimeout, Aborted, WalFailed, Closed.
   */
  async waitFor(token: Appended, options?: WaitOptions & Abortable): Promise<void> {
    const read = readToken('waitFor: token', token);
    const [signal, rest] = withoutSignal<WaitOptions>('waitFor', options, WAIT);
    const { applied, timeoutMs } = readWait('waitFor', rest);
    if (this.#parts.stop.aborted) throw failure('Closed', 'waitFor on a closed node');
    const work = (): Promise<void> => stayAlive(this.#waits.until(read, applied, timeoutMs));
    await abortable('waitFor', signal, work);
  }

  /**
   * Asks the node that leads the space what it has durable, and waits for that here: what is read
   * from then on has all that was acknowledged before this call. Calls of one moment share a
   * question. With etcd the leader answers while its lease holds; else it is that node's own view,
   * and for a moment after a failover the old leader's. Where this node leads it resolves at once.
   * @returns the token of the leader's last entry; sequence 0: it has none
   * Rejects Configuration, NotPrimary (nobody led it all the time), ConnectionRefused,
   * ConnectionTimeout, ConnectionLost, AckTimeout (it was asked, and is farther), Rewound, Aborted,
   * WalFailed, Closed.
   */
  async catchUp(options?: WaitOptions & Abortable): Promise<Appended> {
    const [signal, rest] = withoutSignal<WaitOptions>('catchUp', options, WAIT);
    const { applied, timeoutMs } = readWait('catchUp', rest);
    const work = (): Promise<Appended> => stayAlive(this.#waits.caughtUp(applied, timeoutMs));
    return await abortable('catchUp', signal, work);
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

  /** The figures of this space, as of now. */
  status(): SpaceStatus {
    return statusOf(this.#parts, this.#state);
  }
}
