/**
 * The primary as a replica sees it, on one connection: which spaces it has introduced, what may
 * be taken from it, what is to be acknowledged. Pure; main/follow/server.ts carries it out.
 */

import { failure } from '../errors.js';
import { HEARTBEAT_MS } from '../limits.js';
import type { Epoch, Sequence, Slot } from '../position.js';
import type { ReadBatch } from '../wire/batch.js';
import type { AckRow, Handle, HeartbeatRow, PositionRow, VerdictRow } from '../wire/protocol.js';

/** What of a batch decides. */
export type JudgedBatch = Pick<ReadBatch, 'spaceId' | 'epoch' | 'startSequence' | 'entryCount'>;

/** One space as this connection follows it. */
interface Followed {
  readonly handle: Handle;
  readonly slot: Slot;
  readonly epoch: Epoch;
  /** Last sequence staged here, from this connection or before it. */
  received: Sequence;
  flushed: Sequence;
  applied: Sequence;
  /** As the position said that the primary judged. */
  readonly toldApplied: Sequence;
  /** The primary's verdict was `continue`. */
  isStreaming: boolean;
  /** The received sequence that the last heartbeat told. */
  told: Sequence;
  /** A higher epoch is known: nothing more is taken from here, and nothing acknowledged. */
  isFenced: boolean;
  /** It is to be acknowledged. */
  isDue: boolean;
}

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
  readonly #byHandle = new Map<Handle, Followed>();
  /** By the number of the space on this node. */
  readonly #bySlot: (Followed | undefined)[] = [];
  #ackDue: Followed[] = [];
  readonly #readTimeoutMs: number;
  #lastHeardMs: number;
  #lastSentMs: number;

  /** @param readTimeoutMs after which a silent peer is given up */
  constructor(nowMs: number, readTimeoutMs: number) {
    this.#readTimeoutMs = readTimeoutMs;
    this.#lastHeardMs = nowMs;
    this.#lastSentMs = nowMs;
  }

  /** The space is registered here and stands at `row`'s position. */
  follow(slot: Slot, row: PositionRow, epoch: Epoch): void {
    const before = this.#bySlot[slot];
    // Introduced anew, for other members: what is streamed goes on where it stands.
    const isStreamed = before?.isStreaming && !before.isFenced;
    if (isStreamed && before.handle === row.handle && before.epoch === epoch) return;
    const { sequence } = row.position;
    const followed: Followed = {
      handle: row.handle,
      slot,
      epoch,
      received: sequence,
      flushed: sequence,
      applied: row.applied,
      toldApplied: row.applied,
      isStreaming: false,
      told: sequence,
      isFenced: false,
      isDue: false,
    };
    this.#byHandle.set(row.handle, followed);
    this.#bySlot[slot] = followed;
  }

  /**
   * @returns which space goes on, or back, by this verdict, and in which epoch; undefined: none
   * Throws ProtocolViolation where it could not.
   */
  verdict(row: VerdictRow): { readonly slot: Slot; readonly epoch: Epoch } | undefined {
    const followed = this.#byHandle.get(row.handle);
    if (followed) followed.isStreaming = row.verdict === 'continue';
    // Before its verdict the primary takes no acks: what was told then is told again.
    if (followed?.isStreaming && followed.applied > followed.toldApplied) this.#due(followed);
    if (row.verdict !== 'continue' && row.verdict !== 'rewind') return undefined;
    if (!followed) throw failure('ProtocolViolation', `a verdict on handle ${row.handle}`);
    return followed;
  }

  /**
   * Takes and acknowledges nothing more of a space that is followed in an epoch below this one.
   * @returns its handle; undefined where it is not so followed, or is fenced already
   */
  fence(slot: Slot, epochSeen: Epoch): Handle | undefined {
    const followed = this.#bySlot[slot];
    if (!followed || followed.isFenced || followed.epoch >= epochSeen) return undefined;
    followed.isFenced = true;
    return followed.handle;
  }

  /**
   * Decides on a batch, or a run of a mixed one, whose bytes have been checked.
   * @param slot undefined: its space is not here
   * Throws Fenced for an epoch other than the one introduced, ProtocolViolation for a space that
   * is not streamed.
   */
  judge(slot: Slot | undefined, batch: JudgedBatch): BatchDecision {
    const followed = slot === undefined ? undefined : this.#bySlot[slot];
    if (followed?.isFenced) return FENCED;
    if (!followed?.isStreaming) {
      throw failure(
        'ProtocolViolation',
        `a batch of space ${batch.spaceId}, which is not streamed`,
      );
    }
    const { handle, epoch, received } = followed;
    if (batch.epoch !== epoch) {
      throw failure('Fenced', `a batch of epoch ${batch.epoch}, introduced was ${epoch}`);
    }
    const last = batch.startSequence + batch.entryCount - 1;
    if (batch.startSequence > received + 1) {
      return { kind: 'gap', handle, epoch, expected: received + 1 };
    }
    if (last <= received) {
      this.#due(followed);
      return DUPLICATE;
    }
    const skip = received + 1 - batch.startSequence;
    return skip === 0 ? APPEND : { kind: 'append', skip };
  }

  /** The space behind a handle, while its primary leads as far as is known here. */
  followedSlot(handle: Handle): Slot | undefined {
    const followed = this.#byHandle.get(handle);
    return followed && !followed.isFenced ? followed.slot : undefined;
  }

  /** Entries up to `last` are staged, or no more than those. */
  received(slot: Slot, last: Sequence): void {
    const followed = this.#bySlot[slot];
    if (followed) followed.received = last;
  }

  /** An fdatasync has covered the space up to `sequence`. */
  flushed(slot: Slot, sequence: Sequence): void {
    const followed = this.#bySlot[slot];
    if (!followed || sequence <= followed.flushed) return;
    followed.flushed = sequence;
    this.#due(followed);
  }

  applied(slot: Slot, sequence: Sequence): void {
    const followed = this.#bySlot[slot];
    if (!followed || sequence <= followed.applied) return;
    followed.applied = sequence;
    this.#due(followed);
  }

  #due(followed: Followed): void {
    if (followed.isDue || followed.isFenced) return;
    followed.isDue = true;
    this.#ackDue.push(followed);
  }

  /** The rows of the next ack frame; empty when nothing is due. */
  takeAcks(nowMs: number): AckRow[] {
    const rows: AckRow[] = [];
    for (const f of this.#ackDue) {
      f.isDue = false;
      if (f.isFenced) continue;
      rows.push({ handle: f.handle, epoch: f.epoch, flushed: f.flushed, applied: f.applied });
    }
    this.#ackDue = [];
    if (rows.length > 0) this.#lastSentMs = nowMs;
    return rows;
  }

  heard(nowMs: number): void {
    this.#lastHeardMs = nowMs;
  }

  /** What time asks for: a heartbeat with the positions that changed, or giving up on the peer. */
  tick(nowMs: number): { kind: 'heartbeat'; rows: HeartbeatRow[] } | { kind: 'drop' } | undefined {
    if (nowMs - this.#lastHeardMs >= this.#readTimeoutMs) return { kind: 'drop' };
    if (nowMs - this.#lastSentMs < HEARTBEAT_MS) return undefined;
    this.#lastSentMs = nowMs;
    const rows: HeartbeatRow[] = [];
    for (const f of this.#byHandle.values()) {
      if (f.received === f.told) continue;
      f.told = f.received;
      rows.push({ handle: f.handle, sequence: f.received });
    }
    return { kind: 'heartbeat', rows };
  }
}
