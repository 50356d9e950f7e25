/**
 * The primary as a replica sees it, on one connection: which spaces it has introduced, what may
 * be taken from it, what is to be acknowledged. Pure; main/follow/server.ts carries it out.
 */

import { ByteRoom } from '../bytes.js';
import { failure } from '../errors.js';
import { HEARTBEAT_MS } from '../limits.js';
import type { Epoch, Sequence, Slot } from '../position.js';
import type { ReadBatch } from '../wire/batch.js';
import {
  ACK_APPLIED,
  ACK_EPOCH,
  ACK_FIELDS,
  ACK_FLUSHED,
  ACK_HANDLE,
  type Handle,
  type HeartbeatRow,
  type PositionRow,
  type VerdictRow,
} from '../wire/protocol.js';

/** What of a batch decides. */
export type JudgedBatch = Pick<ReadBatch, 'spaceId' | 'epoch' | 'startSequence' | 'entryCount'>;

/**
 * One space as this connection follows it: a row by its number here, one cache line. Of thousands
 * that a commit was of, objects would be in no cache.
 */
const FIELDS = 8;
const HANDLE = 0;
const EPOCH = 1;
/** Last sequence staged here, from this connection or before it. */
const RECEIVED = 2;
const FLUSHED = 3;
const APPLIED = 4;
/** As the position said that the primary judged. */
const TOLD_APPLIED = 5;
/** The received sequence that the last heartbeat told. */
const TOLD = 6;
const FLAGS = 7;

/** The primary's verdict was `continue`. */
const STREAMING = 1;
/** A higher epoch is known: nothing more is taken from here, and nothing acknowledged. */
const FENCED_OFF = 2;
/** It is to be acknowledged. */
const DUE = 4;
/** The row is one of a space at all. */
const FOLLOWED = 8;
const STREAM_FLAGS = STREAMING | FENCED_OFF | FOLLOWED;

const FIRST_ROWS = 64;

/** What to do with a batch. `skip`: entries at its head that are here already. */
export type BatchDecision =
  | { readonly kind: 'append'; readonly skip: number }
  | { readonly kind: 'duplicate' }
  /** The primary has been told that it leads no more; this was on its way. */
  | { readonly kind: 'fenced' }
  | {
      readonly kind: 'gap';
      readonly handle: Handle;
      readonly epoch: Epoch;
      readonly expected: Sequence;
    };

const APPEND: BatchDecision = { kind: 'append', skip: 0 };
const DUPLICATE: BatchDecision = { kind: 'duplicate' };
const FENCED: BatchDecision = { kind: 'fenced' };

export class Receiver {
  readonly #byHandle = new Map<Handle, Slot>();
  /** By the number of the space on this node. */
  #rows = new Float64Array(FIELDS * FIRST_ROWS);
  /** Spaces that are to be acknowledged, each once, and some that were and are not any more. */
  readonly #due: Slot[] = [];
  #dueCount = 0;
  /** Used again: as garbage outside of the heap it would make V8 mark all of that. */
  #acks = new Float64Array(ACK_FIELDS * FIRST_ROWS);
  /** ... and what their frames are written into. */
  readonly ackRoom = new ByteRoom();
  readonly #readTimeoutMs: number;
  #lastHeardMs: number;
  #lastSentMs: number;

  /** @param readTimeoutMs after which a silent peer is given up */
  constructor(nowMs: number, readTimeoutMs: number) {
    this.#readTimeoutMs = readTimeoutMs;
    this.#lastHeardMs = nowMs;
    this.#lastSentMs = nowMs;
  }

  /** Where the row of the space begins; -1: it is not followed. */
  #rowOf(slot: Slot | undefined): number {
    if (slot === undefined) return -1;
    const row = FIELDS * slot;
    return row < this.#rows.length && this.#has(row, FOLLOWED) ? row : -1;
  }

  #has(row: number, flag: number): boolean {
    return (this.#rows[row + FLAGS]! & flag) !== 0;
  }

  #set(row: number, flag: number, isSet: boolean): void {
    const flags = this.#rows[row + FLAGS]!;
    this.#rows[row + FLAGS] = isSet ? flags | flag : flags & ~flag;
  }

  /** The space is registered here and stands at `row`'s position. */
  follow(slot: Slot, { handle, position, applied }: PositionRow, epoch: Epoch): void {
    const before = this.#rowOf(slot);
    if (before >= 0) {
      // Introduced anew, for other members: what is streamed goes on where it stands.
      const isSame = this.#rows[before + HANDLE] === handle && this.#rows[before + EPOCH] === epoch;
      const isStreamed = this.#has(before, STREAMING) && !this.#has(before, FENCED_OFF);
      if (isStreamed && isSame) return;
      this.#byHandle.delete(this.#rows[before + HANDLE]!);
    }
    const row = FIELDS * slot;
    if (row >= this.#rows.length) this.#grow(row + FIELDS);
    this.#byHandle.set(handle, slot);
    const { sequence } = position;
    const fields = [handle, epoch, sequence, sequence, applied, applied, sequence, FOLLOWED];
    this.#rows.set(fields, row);
  }

  #grow(fields: number): void {
    const rows = new Float64Array(Math.max(fields, 2 * this.#rows.length));
    rows.set(this.#rows);
    this.#rows = rows;
  }

  /**
   * @returns which space goes on, or back, by this verdict, and in which epoch; undefined: none
   * Throws ProtocolViolation where it could not.
   */
  verdict(row: VerdictRow): { readonly slot: Slot; readonly epoch: Epoch } | undefined {
    const slot = this.#byHandle.get(row.handle);
    const at = this.#rowOf(slot);
    if (at >= 0) {
      const isStreaming = row.verdict === 'continue';
      this.#set(at, STREAMING, isStreaming);
      // Before its verdict the primary takes no acks: what was told then is told again.
      const hasMore = this.#rows[at + APPLIED]! > this.#rows[at + TOLD_APPLIED]!;
      if (isStreaming && hasMore) this.#makeDue(slot!, at);
    }
    if (row.verdict !== 'continue' && row.verdict !== 'rewind') return undefined;
    if (at < 0) throw failure('ProtocolViolation', `a verdict on handle ${row.handle}`);
    return { slot: slot!, epoch: this.#rows[at + EPOCH]! };
  }

  /**
   * Takes and acknowledges nothing more of a space that is followed in an epoch below this one.
   * @returns its handle; undefined where it is not so followed, or is fenced already
   */
  fence(slot: Slot, epochSeen: Epoch): Handle | undefined {
    const row = this.#rowOf(slot);
    if (row < 0 || this.#has(row, FENCED_OFF) || this.#rows[row + EPOCH]! >= epochSeen) {
      return undefined;
    }
    this.#set(row, FENCED_OFF, true);
    return this.#rows[row + HANDLE];
  }

  /**
   * Decides on a batch, or a run of a mixed one, whose bytes have been checked.
   * @param slot undefined: its space is not here
   * Throws Fenced for an epoch other than the one introduced, ProtocolViolation for a space that
   * is not streamed.
   */
  judge(slot: Slot | undefined, batch: JudgedBatch): BatchDecision {
    const row = this.#rowOf(slot);
    if (row >= 0 && this.#has(row, FENCED_OFF)) return FENCED;
    if (row < 0 || !this.#has(row, STREAMING)) {
      throw failure(
        'ProtocolViolation',
        `a batch of space ${batch.spaceId}, which is not streamed`,
      );
    }
    const epoch = this.#rows[row + EPOCH]!;
    if (batch.epoch !== epoch) {
      throw failure('Fenced', `a batch of epoch ${batch.epoch}, introduced was ${epoch}`);
    }
    const expected = this.#rows[row + RECEIVED]! + 1;
    if (batch.startSequence === expected) return APPEND;
    if (batch.startSequence > expected) {
      return { kind: 'gap', handle: this.#rows[row + HANDLE]!, epoch, expected };
    }
    if (batch.startSequence + batch.entryCount <= expected) {
      this.#makeDue(slot!, row);
      return DUPLICATE;
    }
    return { kind: 'append', skip: expected - batch.startSequence };
  }

  /**
   * Takes the next entry of a space, sound by itself. @returns whether it goes on where the space
   * stands, as nearly all do; else `judge` says what it is
   */
  takeNext(slot: Slot, epoch: Epoch, sequence: Sequence): boolean {
    const row = FIELDS * slot;
    const rows = this.#rows;
    if (row >= rows.length || (rows[row + FLAGS]! & STREAM_FLAGS) !== (STREAMING | FOLLOWED)) {
      return false;
    }
    const isNext = rows[row + EPOCH] === epoch && rows[row + RECEIVED]! + 1 === sequence;
    if (!isNext || sequence >= Number.MAX_SAFE_INTEGER) return false;
    rows[row + RECEIVED] = sequence;
    return true;
  }

  /** The space behind a handle, while its primary leads as far as is known here. */
  followedSlot(handle: Handle): Slot | undefined {
    const slot = this.#byHandle.get(handle);
    const row = this.#rowOf(slot);
    return row >= 0 && !this.#has(row, FENCED_OFF) ? slot : undefined;
  }

  /** Entries up to `last` are staged, or no more than those. */
  received(slot: Slot, last: Sequence): void {
    const row = this.#rowOf(slot);
    if (row >= 0) this.#rows[row + RECEIVED] = last;
  }

  /** An fdatasync has covered the space up to `sequence`. */
  flushed(slot: Slot, sequence: Sequence): void {
    this.#reached(slot, FLUSHED, sequence);
  }

  applied(slot: Slot, sequence: Sequence): void {
    this.#reached(slot, APPLIED, sequence);
  }

  #reached(slot: Slot, field: number, sequence: Sequence): void {
    const row = this.#rowOf(slot);
    if (row < 0 || sequence <= this.#rows[row + field]!) return;
    this.#rows[row + field] = sequence;
    this.#makeDue(slot, row);
  }

  #makeDue(slot: Slot, row: number): void {
    if (this.#has(row, DUE | FENCED_OFF)) return;
    this.#set(row, DUE, true);
    this.#due[this.#dueCount++] = slot;
  }

  /** The rows of the next ack frame, until the next call; empty when nothing is due. */
  takeAcks(nowMs: number): Float64Array {
    const most = ACK_FIELDS * this.#dueCount;
    if (most > this.#acks.length) {
      this.#acks = new Float64Array(Math.max(most, 2 * this.#acks.length));
    }
    const acks = this.#acks;
    let at = 0;
    for (let i = 0; i < this.#dueCount; i++) {
      const row = FIELDS * this.#due[i]!;
      const isDue = this.#has(row, DUE) && !this.#has(row, FENCED_OFF);
      this.#set(row, DUE, false);
      if (!isDue) continue;
      acks[at + ACK_HANDLE] = this.#rows[row + HANDLE]!;
      acks[at + ACK_EPOCH] = this.#rows[row + EPOCH]!;
      acks[at + ACK_FLUSHED] = this.#rows[row + FLUSHED]!;
      acks[at + ACK_APPLIED] = this.#rows[row + APPLIED]!;
      at += ACK_FIELDS;
    }
    this.#dueCount = 0;
    if (at > 0) this.#lastSentMs = nowMs;
    return acks.subarray(0, at);
  }

  heard(nowMs: number): void {
    this.#lastHeardMs = nowMs;
  }

  /** What time asks for: a heartbeat with the positions that changed, or giving up on the peer. */
  tick(nowMs: number): { kind: 'heartbeat'; rows: HeartbeatRow[] } | { kind: 'drop' } | undefined {
    if (nowMs - this.#lastHeardMs >= this.#readTimeoutMs) return { kind: 'drop' };
    if (nowMs - this.#lastSentMs < HEARTBEAT_MS) return undefined;
    this.#lastSentMs = nowMs;
    const told: HeartbeatRow[] = [];
    for (const [handle, slot] of this.#byHandle) {
      const row = FIELDS * slot;
      const sequence = this.#rows[row + RECEIVED]!;
      if (sequence === this.#rows[row + TOLD]) continue;
      this.#rows[row + TOLD] = sequence;
      told.push({ handle, sequence });
    }
    return { kind: 'heartbeat', rows: told };
  }
}
