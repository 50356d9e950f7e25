/**
 * Entries of a range from whichever member has them (peer request `entries`), for one round of
 * repair: members are asked in turn, each on one connection; who could not be asked is remembered.
 */

import { EngramError, failure } from '../../shared/errors.js';
import {
  BATCH_HEADER_BYTES,
  ENTRY_HEADER_BYTES,
  REPAIR_ANSWER_MS,
  REPAIR_PIECE_BYTES,
} from '../../shared/limits.js';
import { readPayloadSize } from '../../shared/log/entry.js';
import type { Member } from '../../shared/log/node-record.js';
import type { Sequence } from '../../shared/position.js';
import { checkBatchEntries, decodeBatch } from '../../shared/wire/batch.js';
import type { PeerCall, PeerClient } from '../peer/client.js';

/** Gets each entry in order, where it lies; false: no more. Throws what is wrong with it. */
export type TakeEntry = (bytes: Uint8Array, view: DataView, at: number, size: number) => boolean;

export interface SourceHooks {
  /** A member gave an entry that cannot be the one that was written. */
  refused(spaceName: string, member: Member, error: EngramError): void;
}

export interface WantedRange {
  readonly spaceId: string;
  readonly spaceName: string;
  readonly from: Sequence;
  /** Infinity: all that there are. */
  readonly to: Sequence;
  /** Awaited after each piece: what was taken goes on from memory. */
  readonly drain?: () => Promise<void>;
}

export class EntrySource {
  readonly #client: PeerClient;
  readonly #connectTimeoutMs: number;
  readonly #maxEntryBytes: number;
  readonly #hooks: SourceHooks;
  readonly #calls = new Map<string, PeerCall>();
  /** By node id: why it could not be asked, or not to the end. */
  readonly unreachable = new Map<string, string>();

  constructor(
    client: PeerClient,
    connectTimeoutMs: number,
    maxEntryBytes: number,
    hooks: SourceHooks,
  ) {
    this.#client = client;
    this.#connectTimeoutMs = connectTimeoutMs;
    this.#maxEntryBytes = maxEntryBytes;
    this.#hooks = hooks;
  }

  /**
   * Hands over the range, as far as the members have it.
   * @returns the first sequence that was not taken: `to` + 1 when all were
   */
  async fetch(range: WantedRange, members: readonly Member[], take: TakeEntry): Promise<Sequence> {
    let next = range.from;
    let isStopped = false;
    const counted: TakeEntry = (bytes, view, at, size) => {
      isStopped = !take(bytes, view, at, size);
      if (!isStopped) next++;
      return !isStopped;
    };
    for (const member of members) {
      if (this.unreachable.has(member.nodeId)) continue;
      try {
        await this.#from(
          member,
          range,
          () => next,
          counted,
          () => isStopped,
        );
      } catch (error) {
        this.#failed(member, range, error);
      }
      if (isStopped || next > range.to) break;
    }
    return next;
  }

  /** A bad copy is no copy: then the member has answered. */
  #failed(member: Member, range: WantedRange, error: unknown): void {
    if (!(error instanceof EngramError)) throw error;
    const isBad = error.code === 'Fork' || error.code === 'ChecksumMismatch';
    if (isBad) this.#hooks.refused(range.spaceName, member, error);
    else this.unreachable.set(member.nodeId, error.message.split('\n', 1)[0]!);
    this.#calls.get(member.nodeId)?.close();
    this.#calls.delete(member.nodeId);
  }

  async #from(
    member: Member,
    range: WantedRange,
    next: () => Sequence,
    take: TakeEntry,
    isStopped: () => boolean,
  ): Promise<void> {
    const kinds = ['entries', 'entries-lack'] as const;
    const to = Math.min(range.to, Number.MAX_SAFE_INTEGER);
    while (next() <= to) {
      const before = next();
      const ask = { id: range.spaceId, from: before, to, maxBytes: REPAIR_PIECE_BYTES };
      const call = await this.#call(member);
      const parts = await call.ask({ kind: 'entries-ask', ...ask }, kinds, REPAIR_ANSWER_MS);
      for (const part of parts) {
        if (part.kind === 'entries-lack') return;
        this.#batch(part.batch, range, next, take, isStopped);
        await range.drain?.();
        if (isStopped()) return;
      }
      // It says that this is all, and it is not: asking on would not end.
      if (next() === before) return;
    }
  }

  #batch(
    batch: Uint8Array,
    range: WantedRange,
    next: () => Sequence,
    take: TakeEntry,
    isStopped: () => boolean,
  ): void {
    const view = new DataView(batch.buffer, batch.byteOffset, batch.byteLength);
    const header = decodeBatch(batch, view, 0, batch.length);
    if (header.spaceId !== range.spaceId || header.startSequence !== next()) {
      const found = `${header.startSequence} of ${header.spaceId}`;
      throw failure('ProtocolViolation', `a batch from ${found}, asked was ${next()}`);
    }
    if (header.startSequence + header.entryCount - 1 > range.to) {
      throw failure('ProtocolViolation', `${header.entryCount} entries, more than were asked for`);
    }
    checkBatchEntries(batch, view, 0, header, this.#maxEntryBytes);
    for (let at = BATCH_HEADER_BYTES; at < batch.length && !isStopped(); ) {
      const size = ENTRY_HEADER_BYTES + readPayloadSize(view, at);
      take(batch, view, at, size);
      at += size;
    }
  }

  async #call(member: Member): Promise<PeerCall> {
    const known = this.#calls.get(member.nodeId);
    if (known && !known.isOver) return known;
    if (member.port === 0) throw failure('ConnectionRefused', `${member.nodeId} listens nowhere`);
    const call = await this.#client.open(member, this.#connectTimeoutMs);
    this.#calls.set(member.nodeId, call);
    return call;
  }

  close(): void {
    for (const call of this.#calls.values()) call.close();
    this.#calls.clear();
  }
}
