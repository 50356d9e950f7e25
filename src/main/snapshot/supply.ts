/**
 * Snapshots on their primary: asks the host for them, keeps what comes behind them, and gives them
 * to the shippers piece by piece. shared/snapshot/queue.ts decides.
 */
import { randomBytes } from 'node:crypto';
import { EngramError, failure, withCode } from '../../shared/errors.js';
import type { Position, Sequence, Slot } from '../../shared/position.js';
import { epochAt } from '../../shared/position.js';
import { historyUpTo, type SnapshotFacts, setsAt } from '../../shared/snapshot/facts.js';
import {
  type Pair,
  type QueueEffect,
  type QueueInput,
  SnapshotQueue,
  type SupplyPhase,
} from '../../shared/snapshot/queue.js';
import type { PlainFrame } from '../../shared/wire/protocol.js';
import type { SnapshotFrame } from '../../shared/wire/snapshot-frames.js';
import type { SpaceState, SpaceTable } from '../log/space-table.js';
import type { LogReader } from '../read/reader.js';
import { SnapshotChunks } from './chunks.js';
import type { HostSnapshot, SnapshotConfig } from './options.js';

const TICK_MS = 500;
/** A replica is told again so late that there is nothing for it here. */
const UNAVAILABLE_MS = 60_000;

/** What events tell of a snapshot, on both nodes. */
export interface SnapshotNews {
  readonly started: { readonly sequence: Sequence; readonly chunk: number };
  readonly done: { readonly sequence: Sequence; readonly chunks: number; readonly bytes: number };
  readonly failed: {
    readonly code: string;
    readonly reason: string;
    readonly retryAfterMs: number;
  };
}

export interface SupplyHooks {
  send(pair: Pair, link: number, frame: PlainFrame): void;
  /** The link has said what no replica says. */
  giveUp(pair: Pair, link: number, error: EngramError): void;
  /** Compares positions with the replica anew. */
  join(pair: Pair): void;
  /** A snapshot is on its way to the replica, or no more. */
  active(pair: Pair, isActive: boolean): void;
  news<K extends keyof SnapshotNews>(pair: Pair, kind: K, news: SnapshotNews[K]): void;
}

/** A replica's snapshot of a space, as its primary sees it. */
export interface SupplyStatus {
  /** Besides its phases: `asked`, the replica is to ask for it; `failed`, until it asks again. */
  readonly phase: SupplyPhase | 'asked' | 'failed';
  /** Why it has failed. */
  readonly failure: string | undefined;
  /** The entry up to which it stands; 0 while the host has not said. */
  readonly sequence: Sequence;
  /** Durable on the replica. */
  readonly chunks: number;
  readonly bytes: number;
}

/** A pair whose replica needs a snapshot, since the verdict that said so. */
interface Wanting {
  readonly pair: Pair;
  failure: string | undefined;
}

export class SnapshotSupply {
  readonly #config: SnapshotConfig;
  readonly #spaces: SpaceTable;
  readonly #reader: LogReader;
  readonly #chunkBytes: number;
  readonly #hooks: SupplyHooks;
  readonly #queue: SnapshotQueue;
  readonly #wanting = new Map<string, Wanting>();
  /** Per pair: the sequence behind which everything is kept until the replica streams from it. */
  readonly #pins = new Map<string, Sequence>();
  readonly #open = new Map<string, SnapshotChunks>();
  /** Per pair: the call of the host that is waited for; what an older one brings is let go. */
  readonly #asked = new Map<string, object>();
  readonly #timer: NodeJS.Timeout;
  #isClosed = false;

  /** @param frameBytes the longest body of a frame that replicas take */
  constructor(
    config: SnapshotConfig,
    spaces: SpaceTable,
    reader: LogReader,
    frameBytes: number,
    hooks: SupplyHooks,
  ) {
    this.#config = config;
    this.#spaces = spaces;
    this.#reader = reader;
    this.#chunkBytes = Math.min(config.snapshotChunkBytes, frameBytes - 64);
    this.#hooks = hooks;
    this.#queue = new SnapshotQueue(config);
    this.#timer = setInterval(() => this.#carryAll(this.#queue.tick(performance.now())), TICK_MS);
    this.#timer.unref();
  }

  // --- what replication tells ----------------------------------------------------------------

  /**
   * A verdict was given, to `continue` or another one.
   * @param sequence at which the replica stands
   * @param isRefusing it takes nothing of the space, for a reason of its own
   */
  judged(pair: Pair, isSnapshot: boolean, sequence: Sequence, isRefusing: boolean): void {
    const slot = this.#spaceOf(pair.slot).facts.slots.get(pair.replicaId);
    const isNone = this.#wanting.size === 0 && this.#pins.size === 0 && this.#queue.isEmpty;
    // As a rule; thousands of spaces are judged in one moment.
    if (isNone && !isSnapshot && !slot?.lost) return;
    const key = keyOf(pair);
    if (isSnapshot) {
      const failure = isRefusing ? 'the replica takes nothing of the space' : undefined;
      if (!this.#wanting.has(key)) this.#wanting.set(key, { pair, failure });
      this.#showPhase(pair);
      return;
    }
    if (this.#wanting.delete(key)) this.#hooks.active(pair, false);
    this.#carryAll(this.#queue.forget(pair, performance.now()));
    this.#pins.delete(key);
    // Until its shipper tells the same: what it had told before the slot was lost is no need.
    if (slot?.lost) this.#pins.set(key, sequence);
  }

  /**
   * What a replica has flushed, as retention is to see it: at least what a snapshot on its way
   * brings it, until it streams from there (row 59).
   */
  flushed(pair: Pair, told: Sequence): Sequence {
    const pin = this.#pins.size === 0 ? undefined : this.#pins.get(keyOf(pair));
    if (pin === undefined || this.#queue.progressOf(pair)) return Math.max(told, pin ?? 0);
    if (told >= pin) this.#pins.delete(keyOf(pair));
    return Math.max(told, pin);
  }

  /** More has come behind the snapshot than a slot keeps: it would be too old when it is whole. */
  slotLost(pair: Pair): void {
    this.#pins.delete(keyOf(pair));
    const reason = 'more entries have come behind it than maxSlotBytes keeps';
    this.#carryAll(this.#queue.drop(pair, 'SnapshotFailed', reason, performance.now()));
  }

  unlinked(replicaId: string): void {
    this.#carryAll(this.#queue.step({ kind: 'unlinked', replicaId }, performance.now()));
  }

  /** The replica follows the space no more, or the space is not led here any more. */
  forget(pair: Pair): void {
    this.#carryAll(this.#queue.forget(pair, performance.now()));
    if (this.#wanting.size + this.#pins.size === 0) return;
    this.#wanting.delete(keyOf(pair));
    this.#pins.delete(keyOf(pair));
  }

  forgetReplica(replicaId: string): void {
    for (const { pair } of [...this.#wanting.values()]) {
      if (pair.replicaId === replicaId) this.forget(pair);
    }
  }

  /** undefined: the replica needs none. */
  statusOf(pair: Pair): SupplyStatus | undefined {
    const wanting = this.#wanting.size === 0 ? undefined : this.#wanting.get(keyOf(pair));
    if (!wanting) return undefined;
    const { failure } = wanting;
    const phase = failure === undefined ? 'asked' : 'failed';
    const known = this.#queue.progressOf(pair) ?? { phase, sequence: 0, chunks: 0, bytes: 0 };
    const { sequence, chunks, bytes } = known;
    return { phase: known.phase, failure, sequence, chunks, bytes };
  }

  #showPhase(pair: Pair): void {
    const phase = this.statusOf(pair)?.phase;
    this.#hooks.active(pair, phase !== undefined && phase !== 'failed');
  }

  /** A frame of a replica, on its link. */
  take(replicaId: string, link: number, frame: SnapshotFrame): void {
    const space = this.#spaces.bySlot[frame.handle];
    if (!space?.replicas.includes(replicaId)) return;
    const pair = pairOf(space, replicaId);
    switch (frame.kind) {
      case 'snapshot-request': {
        const { snapshot, chunks } = frame;
        if (!this.#wanting.has(keyOf(pair))) return;
        if (this.#config.snapshot) {
          this.#step({ kind: 'requested', pair, link, snapshot, chunks }, link);
        } else {
          this.#refuse(pair, link);
        }
        return;
      }
      case 'snapshot-progress':
        this.#step({ kind: 'progress', pair, chunks: frame.chunks }, link);
        return;
      case 'snapshot-done':
        this.#step({ kind: frame.stage, pair }, link);
        return;
      case 'snapshot-refuse': {
        const { code, message: reason, retryAfterMs } = frame;
        if (!this.#queue.progressOf(pair)) this.#failed(pair, { code, reason, retryAfterMs });
        this.#step({ kind: 'refused', pair, code, reason }, link);
        return;
      }
      default: {
        const error = failure('ProtocolViolation', `a frame ${frame.kind} from a replica`);
        this.#hooks.giveUp(pair, link, error);
      }
    }
  }

  #refuse(pair: Pair, link: number): void {
    const { first } = this.#spaceOf(pair.slot).facts;
    const message = `entries before ${first} are freed, and the primary has no snapshot()`;
    const refused = { code: 'SnapshotUnavailable', retryAfterMs: UNAVAILABLE_MS };
    const { slot: handle } = pair;
    this.#hooks.send(pair, link, { kind: 'snapshot-refuse', handle, ...refused, message });
    this.#failed(pair, { ...refused, reason: message });
  }

  #failed(pair: Pair, failed: SnapshotNews['failed']): void {
    const wanting = this.#wanting.get(keyOf(pair));
    if (wanting) wanting.failure = withCode(failed.code, failed.reason);
    this.#showPhase(pair);
    this.#hooks.news(pair, 'failed', failed);
  }

  // --- the machine ---------------------------------------------------------------------------

  #step(input: QueueInput & { pair: Pair }, link?: number): void {
    try {
      this.#carryAll(this.#queue.step(input, performance.now()));
    } catch (error) {
      if (link === undefined || !(error instanceof EngramError)) throw error;
      this.#hooks.giveUp(input.pair, link, error);
    }
  }

  #carryAll(effects: readonly QueueEffect[]): void {
    if (this.#isClosed) return;
    for (const effect of effects) this.#carry(effect);
    for (const { pair } of effects) this.#showPhase(pair);
  }

  #carry(effect: QueueEffect): void {
    const { pair } = effect;
    const key = keyOf(pair);
    const { slot: handle } = pair;
    switch (effect.kind) {
      case 'open':
        void this.#ask(pair);
        return;
      case 'pull':
        void this.#pull(pair);
        return;
      case 'close':
        this.#asked.delete(key);
        this.#open.get(key)?.close();
        this.#open.delete(key);
        return;
      case 'unpin':
        this.#unpin(pair);
        return;
      case 'join':
        this.#hooks.join(pair);
        return;
      case 'begin': {
        const { link, facts, chunk } = effect;
        const { epoch } = this.#spaceOf(handle).facts;
        this.#hooks.send(pair, link, { kind: 'snapshot-begin', handle, epoch, chunk, facts });
        const wanting = this.#wanting.get(key);
        if (wanting) wanting.failure = undefined;
        this.#hooks.news(pair, 'started', { sequence: facts.position.sequence, chunk });
        return;
      }
      case 'chunk': {
        const { link, index, chunk } = effect;
        this.#hooks.send(pair, link, { kind: 'snapshot-chunk', handle, index, ...chunk });
        return;
      }
      case 'end':
        this.#hooks.send(pair, effect.link, { kind: 'snapshot-end', handle, whole: effect.whole });
        return;
      case 'wait': {
        const { link, before, retryAfterMs } = effect;
        this.#hooks.send(pair, link, { kind: 'snapshot-wait', handle, before, retryAfterMs });
        return;
      }
      case 'refuse': {
        const { link, code, reason: message, retryAfterMs } = effect;
        const told = { kind: 'snapshot-refuse', handle, code, message, retryAfterMs } as const;
        this.#hooks.send(pair, link, told);
        return;
      }
      case 'done': {
        const { sequence, chunks, bytes } = effect.progress;
        this.#hooks.news(pair, 'done', { sequence, chunks, bytes });
        return;
      }
      case 'lost': {
        const { code, reason, retryAfterMs } = effect;
        this.#failed(pair, { code, reason, retryAfterMs });
        return;
      }
    }
  }

  // --- the host ------------------------------------------------------------------------------

  async #ask(pair: Pair): Promise<void> {
    const space = this.#spaceOf(pair.slot);
    const call = {};
    this.#asked.set(keyOf(pair), call);
    const isWanted = (): boolean => !this.#isClosed && this.#asked.get(keyOf(pair)) === call;
    // Nothing that comes from now on goes before it is known where the snapshot stands.
    this.#pin(space, pair, space.facts.position.sequence);
    let chunks: SnapshotChunks | undefined;
    try {
      const given = checkGiven(await this.#config.snapshot!(space.facts.name));
      chunks = new SnapshotChunks(given.chunks, this.#chunkBytes);
      if (isWanted()) {
        checkSequence(given.sequence, space);
        if (this.#config.rewound) checkUndone(space);
        this.#pin(space, pair, given.sequence);
        const facts = await this.#factsAt(space, given.sequence);
        if (isWanted()) {
          this.#open.set(keyOf(pair), chunks);
          this.#step({ kind: 'opened', pair, facts });
          return;
        }
      }
    } catch (error) {
      if (isWanted()) this.#hostFailed(pair, error);
    }
    chunks?.close();
  }

  async #pull(pair: Pair): Promise<void> {
    const chunks = this.#open.get(keyOf(pair));
    if (!chunks) return;
    try {
      const next = await chunks.next();
      if (this.#open.get(keyOf(pair)) !== chunks) return;
      if ('digest' in next) this.#step({ kind: 'ended', pair, whole: next });
      else this.#step({ kind: 'pulled', pair, chunk: next });
    } catch (error) {
      if (this.#open.get(keyOf(pair)) === chunks) this.#hostFailed(pair, error);
    }
  }

  #hostFailed(pair: Pair, error: unknown): void {
    const isOurs = error instanceof EngramError;
    const code = isOurs ? error.code : 'SnapshotFailed';
    const found = String((error as Error | undefined)?.message ?? error).split('\n', 1)[0]!;
    const reason = isOurs ? found : `the host's snapshot() threw: ${found.slice(0, 150)}`;
    this.#step({ kind: 'failed', pair, code, reason });
  }

  /** What the bytes stand for, as the replica will have to continue it. */
  async #factsAt(space: SpaceState, sequence: Sequence): Promise<SnapshotFacts> {
    const id = randomBytes(16).toString('hex');
    const history = historyUpTo(space.facts.history, sequence);
    const sets = setsAt(space.facts.sets, sequence);
    const { position: last, timestamp: lastTimestamp, first } = space.facts;
    if (sequence === last.sequence) {
      return { id, position: last, timestamp: lastTimestamp, history, sets };
    }
    const found = sequence < first ? undefined : await this.#reader.lookUp([{ space, sequence }]);
    const there = found?.get(space)?.position;
    if (there) {
      let timestamp = 0n;
      for await (const [entry] of this.#reader.read(space, sequence, sequence)) {
        timestamp = entry!.timestamp;
      }
      return { id, position: there, timestamp, history, sets };
    }
    if (sequence !== space.facts.first - 1) {
      const found = `entry ${sequence} was freed while the host made its snapshot`;
      throw failure('SnapshotFailed', found);
    }
    // The entry itself is gone, what follows is not: the epoch alone is compared (DESIGN 8).
    const position: Position = { epoch: epochAt(history, sequence), sequence, headerCrc: 0 };
    return { id, position, timestamp: 0n, history, sets };
  }

  // --- what is kept --------------------------------------------------------------------------

  /** From here on the slot keeps what comes behind `sequence`, and the old need is void. */
  #pin(space: SpaceState, pair: Pair, sequence: Sequence): void {
    if (this.#isClosed) return;
    this.#pins.set(keyOf(pair), sequence);
    space.facts.slots.set(pair.replicaId, { flushed: sequence, lost: false, idleMs: 0 });
  }

  #unpin({ replicaId, slot }: Pair): void {
    if (!this.#pins.delete(keyOf({ replicaId, slot }))) return;
    // What the replica lacks is not here; a new one is pinned anew.
    const facts = this.#spaceOf(slot).facts.slots.get(replicaId);
    if (facts) facts.lost = true;
  }

  #spaceOf(slot: Slot): SpaceState {
    return this.#spaces.bySlot[slot]!;
  }

  close(): void {
    this.#isClosed = true;
    clearInterval(this.#timer);
    for (const chunks of this.#open.values()) chunks.close();
    this.#open.clear();
  }
}

export function pairOf(space: SpaceState, replicaId: string): Pair {
  return { slot: space.slot, replicaId };
}

function keyOf({ replicaId, slot }: Pair): string {
  return `${slot} ${replicaId}`;
}

/** Throws SnapshotFailed for what is no snapshot at all. */
function checkGiven(given: HostSnapshot): HostSnapshot {
  const chunks: unknown = given?.chunks;
  const isIterable =
    typeof chunks === 'object' &&
    chunks !== null &&
    (Symbol.asyncIterator in chunks || Symbol.iterator in chunks);
  if (isIterable) return given;
  throw failure('SnapshotFailed', 'the host gave no { sequence, chunks }');
}

/** A node may lead by force while its host has void entries in its state. Throws SnapshotFailed. */
function checkUndone({ facts }: SpaceState): void {
  const [rewind] = facts.rewinds;
  if (!rewind) return;
  const found = `the host has yet to undo what was taken back, ${rewind.from} to ${rewind.to}`;
  throw failure('SnapshotFailed', found);
}

/** Whether the log continues what the host has given. Throws SnapshotFailed. */
function checkSequence(sequence: Sequence, space: SpaceState): void {
  const { first, position } = space.facts;
  const least = Math.max(1, first - 1);
  const isWithin = sequence >= least && sequence <= position.sequence;
  if (Number.isSafeInteger(sequence) && isWithin) return;
  const range = `${least} to ${position.sequence}`;
  throw failure('SnapshotFailed', `the host's snapshot is of entry ${sequence}, not of ${range}`);
}
