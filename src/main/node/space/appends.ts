/** Entries of the host on their way into one space: checked, staged, waited for. */
import { failure } from '../../../shared/errors.js';
import { payloadBytes, readGiven } from '../../../shared/host-input.js';
import { DEFAULT_ACK_TIMEOUT_MS } from '../../../shared/limits.js';
import { isAppendableType } from '../../../shared/log/entry.js';
import { describe } from '../../../shared/option-checks.js';
import type { Epoch, Sequence } from '../../../shared/position.js';
import { fencedError, mayAcknowledge, notLedHere } from '../../lead/fencing.js';
import type { Conflict, Expected } from '../../log/host-entries.js';
import type { SpaceState } from '../../log/space-table.js';
import { abortable } from '../../runtime/abort.js';
import { stayAlive } from '../../runtime/alive.js';
import {
  type AckLevel,
  type Appended,
  type AppendOptions,
  readAck,
  readExpected,
  readUntil,
} from './options.js';
import type { SpaceParts } from './parts.js';
import { StagedBatch } from './staged-batch.js';
import type { Waits } from './waits.js';

const KNOWN = ['ack', 'wait', 'until', 'expected', 'signal'] as const;

export class Appends {
  readonly #parts: SpaceParts;
  readonly #state: SpaceState;
  readonly #waits: Waits;

  constructor(parts: SpaceParts, state: SpaceState, waits: Waits) {
    this.#parts = parts;
    this.#state = state;
    this.#waits = waits;
  }

  /** The plain case, one promise an entry; undefined when it must wait for room. */
  quick(type: number, payload: Uint8Array): Promise<Appended> | undefined {
    try {
      this.checkLeads();
      const { gate } = this.#parts;
      if (gate?.isShut(this.#state)) return undefined;
      const size = this.check(type, payload);
      const waiting = new WaitingAppend(this.#state);
      const sequence = this.#parts.wal.stage(this.#state, type, payload, size, waiting);
      if (sequence === 0) return undefined;
      waiting.sequence = sequence;
      return waiting.promise;
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /** Stages all payloads, in one go or as room comes free. */
  async staged(
    what: string,
    type: number,
    payloads: readonly Uint8Array[],
    options: AppendOptions | undefined,
  ): Promise<{ first: Sequence; last: Sequence; epoch: Epoch }> {
    // Read before anything else: nothing that the host does from here on changes it.
    const given = readGiven<AppendOptions>(what, options, KNOWN);
    return await abortable(what, given.signal, () => this.#staged(what, type, payloads, given));
  }

  async #staged(
    what: string,
    type: number,
    payloads: readonly Uint8Array[],
    given: AppendOptions,
  ): Promise<{ first: Sequence; last: Sequence; epoch: Epoch }> {
    const { ack: asked, wait = true } = given;
    if (typeof wait !== 'boolean') {
      throw failure('Configuration', `${what}: wait ${describe(wait)} is neither true nor false`);
    }
    let ack = asked === undefined ? undefined : readAck('ack', asked);
    const expected = given.expected === undefined ? undefined : readExpected(given.expected);
    if (expected && what !== 'append') {
      throw failure('Configuration', `${what}: expected is for one entry, not for several`);
    }
    const until = readUntil(what, given.until, this.#parts.gate !== undefined);
    this.checkLeads();
    let sizes = payloads.map((payload) => this.check(type, payload));
    const { gate } = this.#parts;
    if (gate?.isShut(this.#state)) {
      await stayAlive(gate.opened(this.#state, wait));
      this.checkLeads();
      sizes = payloads.map((payload) => this.check(type, payload));
    }
    const linked = ack && this.whenLinked(ack, wait);
    if (ack && linked) {
      ack = { ...ack, timeoutMs: await linked };
      // Time has passed, and the payloads are the host's.
      this.checkLeads();
      sizes = payloads.map((payload) => this.check(type, payload));
    }
    const { wal, memory } = this.#parts;
    const batch = new StagedBatch(wal, memory, this.#state, type, payloads, sizes, expected);
    try {
      await batch.staged(wait, false);
      while (batch.conflict) {
        await this.#whenFinal(batch.conflict, expected!, batch.epoch);
        this.checkLeads();
        await batch.staged(wait, true);
      }
      if (ack) {
        await this.whenFlushed(batch.last, ack);
        if (!mayAcknowledge(this.#state, batch.epoch)) throw fencedError(this.#state);
      }
      if (until) {
        const token = { sequence: batch.last, epoch: batch.epoch };
        await stayAlive(this.#waits.until(token, true, ack?.timeoutMs ?? DEFAULT_ACK_TIMEOUT_MS));
      }
    } catch (error) {
      throw batch.conflict ? error : await batch.settledError(error, memory);
    }
    return batch;
  }

  /**
   * Throws SequenceConflict once that is the truth: the entry that stands against the append is
   * durable, in an epoch that goes on here. Resolves where it was lost: judged anew. Of an entry
   * that a failed log holds nobody can say either: its own error.
   */
  async #whenFinal(conflict: Conflict, expected: Expected, epoch: Epoch): Promise<void> {
    const space = this.#state;
    const { wal, memory } = this.#parts;
    try {
      await stayAlive(wal.whenDurable(space, conflict.last));
    } catch (error) {
      if (memory.allocated(space.slot) >= conflict.last) throw error;
      return;
    }
    if (!mayAcknowledge(space, epoch)) throw fencedError(space);
    const refusal = this.#parts.ackRefusal();
    if (refusal) throw refusal;
    const { name } = space.facts;
    const asked = expected.epoch === undefined ? '' : ` of epoch ${expected.epoch}`;
    const found = `${name}: ${expected.sequence}${asked} was expected to be its last entry`;
    throw failure('SequenceConflict', `${found}, and that is ${conflict.last}`, {
      details: { last: conflict.last, epoch: conflict.epoch },
    });
  }

  /**
   * Enough replicas are connected before a sequence is taken, or may be soon (row 117).
   * @returns undefined: they are; else what is left of the time, once they are
   */
  whenLinked({ replicas, timeoutMs }: AckLevel, wait: boolean): Promise<number> | undefined {
    const { acks, links } = this.#parts.replication;
    acks.requireConfigured(this.#state, replicas);
    const sinceMs = performance.now();
    const linked = links.whenConnected(this.#state, replicas, wait ? timeoutMs! : 0);
    const leftMs = (): number => Math.max(1, timeoutMs! - (performance.now() - sinceMs));
    return linked && stayAlive(linked).then(leftMs);
  }

  checkLeads(): void {
    const { facts, refusal, pause, isFenced } = this.#state;
    if (this.#parts.stop.aborted) throw failure('Closed', 'append on a closed node');
    if (pause) throw pause;
    if (isFenced) throw fencedError(this.#state);
    if (facts.role !== 'primary') throw notLedHere('NotPrimary', this.#state);
    if (refusal) throw refusal;
    if (this.#parts.retention.refusal) throw this.#parts.retention.refusal;
  }

  /** @returns the bytes of the payload */
  check(type: number, payload: Uint8Array): number {
    return checkPayload(type, payload, this.#parts.config.maxEntryBytes);
  }

  async whenFlushed(sequence: Sequence, ack: Required<AckLevel>): Promise<void> {
    const { replicas, timeoutMs } = ack;
    const { acks } = this.#parts.replication;
    await stayAlive(acks.flushed(this.#state, sequence, replicas, timeoutMs));
    const { facts, isFenced } = this.#state;
    if (replicas > 0 && isFenced) throw fencedError(this.#state);
    const refusal = facts.role === 'primary' ? this.#parts.ackRefusal() : undefined;
    if (refusal) throw refusal;
  }
}

/** @returns the bytes of the payload. Throws Configuration, EntryTooLarge. */
export function checkPayload(type: number, payload: Uint8Array, maxEntryBytes: number): number {
  if (typeof type !== 'number' || !isAppendableType(type)) {
    const allowed = 'allowed are 1-4, 6, and 1000 to 2^32-1';
    throw failure('Configuration', `entry type ${describe(type)}: ${allowed}`);
  }
  const size = payloadBytes(payload);
  if (size > maxEntryBytes) {
    throw failure('EntryTooLarge', `a payload of ${size} bytes, cap ${maxEntryBytes}`);
  }
  return size;
}

let resolveNext!: (appended: Appended) => void;
let rejectNext!: (error: Error) => void;

/** One for all: a function made for each append would be garbage of each, and so its scope. */
function takeNext(resolve: typeof resolveNext, reject: typeof rejectNext): void {
  resolveNext = resolve;
  rejectNext = reject;
}

/** An append on its way to the disk. */
class WaitingAppend {
  readonly promise: Promise<Appended>;
  readonly #space: SpaceState;
  readonly #epoch: Epoch;
  readonly #resolve: (appended: Appended) => void;
  readonly #reject: (error: Error) => void;
  sequence = 0;

  constructor(space: SpaceState) {
    this.#space = space;
    this.#epoch = space.facts.epoch;
    this.promise = new Promise(takeNext);
    this.#resolve = resolveNext;
    this.#reject = rejectNext;
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
