/**
 * The primary as a replica sees it, on one connection: which spaces it has introduced, what may
 * be taken from it, what is to be acknowledged. Pure; main/follow/server.ts carries it out.
 */

import { failure } from '../errors.js';
import { HEARTBEAT_MS } from '../limits.js';
import type { Epoch, Sequence } from '../position.js';
import type { ReadBatch } from '../wire/batch.js';
import type { AckRow, Handle, HeartbeatRow, PositionRow, VerdictRow } from '../wire/protocol.js';

/** What of a batch decides. */
type JudgedBatch = Pick<ReadBatch, 'spaceId' | 'epoch' | 'startSequence' | 'entryCount'>;

/** One space as this connection follows it. */
interface Followed {
  readonly handle: Handle;
  readonly id: string;
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

export class Receiver {
  readonly #byHandle = new Map<Handle, Followed>();
  readonly #byId = new Map<string, Followed>();
  readonly #ackDue = new Set<Followed>();
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
  follow(id: string, row: PositionRow, epoch: Epoch): void {
    const before = this.#byId.get(id);
    // Introduced anew, for other members: what is streamed goes on where it stands.
    const isStreamed = before?.isStreaming && !before.isFenced;
    if (isStreamed && before.handle === row.handle && before.epoch === epoch) return;
    const { sequence } = row.position;
    const followed: Followed = {
      handle: row.handle,
      id,
      epoch,
      received: sequence,
      flushed: sequence,
      applied: row.applied,
      toldApplied: row.applied,
      isStreaming: false,
      told: sequence,
      isFenced: false,
    };
    this.#byHandle.set(row.handle, followed);
    this.#byId.set(id, followed);
  }

  /**
   * @returns which space goes on, or back, by this verdict, and in which epoch; undefined: none
   * Throws ProtocolViolation where it could not.
   */
  verdict(row: VerdictRow): { readonly id: string; readonly epoch: Epoch } | undefined {
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
  fence(spaceId: string, epochSeen: Epoch): Handle | undefined {
    const followed = this.#byId.get(spaceId);
    if (!followed || followed.isFenced || followed.epoch >= epochSeen) return undefined;
    followed.isFenced = true;
    this.#ackDue.delete(followed);
    return followed.handle;
  }

  /**
   * Decides on a batch whose bytes have been checked.
   * Throws Fenced for an epoch other than the one introduced, ProtocolViolation for a space that
   * is not streamed.
   */
  judge(batch: JudgedBatch): BatchDecision {
    const followed = this.#byId.get(batch.spaceId);
    if (followed?.isFenced) return { kind: 'fenced' };
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
      return { kind: 'duplicate' };
    }
    return { kind: 'append', skip: received + 1 - batch.startSequence };
  }

  /** The space behind a handle, while its primary leads as far as is known here. */
  followedId(handle: Handle): string | undefined {
    const followed = this.#byHandle.get(handle);
    return followed && !followed.isFenced ? followed.id : undefined;
  }

  /** The batch's entries are staged. */
  received(spaceId: string, last: Sequence): void {
    const followed = this.#byId.get(spaceId);
    if (followed) followed.received = last;
  }

  /** An fdatasync has covered the space up to `sequence`. */
  flushed(handle: Handle, sequence: Sequence): void {
    const followed = this.#byHandle.get(handle);
    if (!followed || sequence <= followed.flushed) return;
    followed.flushed = sequence;
    this.#due(followed);
  }

  applied(handle: Handle, sequence: Sequence): void {
    const followed = this.#byHandle.get(handle);
    if (!followed || sequence <= followed.applied) return;
    followed.applied = sequence;
    this.#due(followed);
  }

  #due(followed: Followed): void {
    if (!followed.isFenced) this.#ackDue.add(followed);
  }

  /** The rows of the next ack frame; empty when nothing is due. */
  takeAcks(nowMs: number): AckRow[] {
    const rows: AckRow[] = [];
    for (const f of this.#ackDue) {
      rows.push({ handle: f.handle, epoch: f.epoch, flushed: f.flushed, applied: f.applied });
    }
    this.#ackDue.clear();
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
