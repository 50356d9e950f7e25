/**
 * Brings one space of this node up to where another member stands, by asking it for the entries:
 * for a primary whose disk went back (FAULTS rows 23, 27), and a candidate that a promise has
 * shown to be behind. Nothing is taken unless the entry at our own last position is the same there.
 */

import { EngramError, failure } from '../../shared/errors.js';
import {
  BATCH_HEADER_BYTES,
  MEMBER_CALLS_MAX,
  PEER_ENTRIES_MAX_BYTES,
} from '../../shared/limits.js';
import { readEpoch, readHeaderCrc, readSequence } from '../../shared/log/entry.js';
import type { Member } from '../../shared/log/node-record.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import type { Position, Sequence } from '../../shared/position.js';
import { checkBatchEntries, decodeBatch } from '../../shared/wire/batch.js';
import { wholeEntries } from '../follow/batch-intake.js';
import type { SpaceState } from '../log/space-table.js';
import type { Wal } from '../log/wal.js';
import { receivedRun } from '../log/write/received-runs.js';
import type { PeerCall, PeerClient } from '../peer/client.js';
import { pause } from '../runtime/deadline.js';
import { MemberGates } from '../runtime/turns.js';

const ANSWER_MS = 10_000;
const ROOM_POLL_MS = 10;

export class Refill {
  readonly #memory: NodeMemory;
  readonly #wal: Wal;
  readonly #peers: PeerClient;
  readonly #maxEntryBytes: number;
  readonly #turns = new MemberGates(MEMBER_CALLS_MAX);

  constructor(memory: NodeMemory, wal: Wal, peers: PeerClient, maxEntryBytes: number) {
    this.#memory = memory;
    this.#wal = wal;
    this.#peers = peers;
    this.#maxEntryBytes = maxEntryBytes;
  }

  /**
   * Durable up to `sequence` when it resolves. Rejects Fork where the entry at our end is another
   * one, PromotionRefused where somebody leads the space meanwhile, and as a peer call does.
   */
  async from(space: SpaceState, member: Member, sequence: Sequence): Promise<void> {
    await this.#turns.through(member.nodeId, () => this.#from(space, member, sequence));
  }

  async #from(space: SpaceState, member: Member, sequence: Sequence): Promise<void> {
    const { facts, slot } = space;
    const { epoch, epochSeen } = facts;
    const isAlone = (): boolean => facts.epoch === epoch && facts.epochSeen === epochSeen;
    await this.#wal.whenDurable(space, this.#memory.allocated(slot));
    const end = facts.position;
    const call = await this.#peers.open(member, ANSWER_MS);
    try {
      let next = end.sequence + 1;
      if (end.sequence > 0) await this.#compare(call, space, end);
      while (next <= sequence) {
        next = await this.#take(call, space, next, sequence, isAlone);
        await this.#wal.whenDurable(space, next - 1);
      }
    } finally {
      call.close();
    }
  }

  /** Its entry at our end must be ours. */
  async #compare(call: PeerCall, space: SpaceState, end: Position): Promise<void> {
    const { name, id } = space.facts;
    const [batch] = await this.#ask(call, id, end.sequence, end.sequence, 1);
    const view = batch && new DataView(batch.buffer, batch.byteOffset, batch.byteLength);
    const at = BATCH_HEADER_BYTES;
    const isSame =
      view &&
      readSequence(view, at) === end.sequence &&
      readEpoch(view, at) === end.epoch &&
      readHeaderCrc(view, at) === end.headerCrc;
    if (isSame) return;
    throw failure('Fork', `entry ${end.sequence} of ${name} is another one there than here`);
  }

  /** @returns the sequence behind the last one that was staged */
  async #take(
    call: PeerCall,
    space: SpaceState,
    from: Sequence,
    to: Sequence,
    isAlone: () => boolean,
  ): Promise<Sequence> {
    let next = from;
    for (const batch of await this.#ask(call, space.facts.id, from, to, PEER_ENTRIES_MAX_BYTES)) {
      next = await this.#stage(space, batch, next, isAlone);
    }
    if (next === from) throw failure('ConnectionLost', `no entry ${from} came`);
    return next;
  }

  async #ask(
    call: PeerCall,
    id: string,
    from: Sequence,
    to: Sequence,
    maxBytes: number,
  ): Promise<Uint8Array[]> {
    const question = { kind: 'entries-ask', id, from, to, maxBytes } as const;
    const frames = await call.ask(question, ['entries', 'entries-lack'], ANSWER_MS);
    const batches: Uint8Array[] = [];
    for (const frame of frames) {
      if (frame.kind === 'entries') batches.push(frame.batch);
      else if (batches.length === 0) {
        throw failure('Trimmed', `it lacks entry ${frame.sequence}: ${frame.reason}`);
      }
    }
    return batches;
  }

  async #stage(
    space: SpaceState,
    batch: Uint8Array,
    first: Sequence,
    isAlone: () => boolean,
  ): Promise<Sequence> {
    const view = new DataView(batch.buffer, batch.byteOffset, batch.byteLength);
    const header = decodeBatch(batch, view, 0, batch.length);
    if (header.spaceId !== space.facts.id || header.startSequence !== first) {
      throw failure('ProtocolViolation', `entries from ${header.startSequence}, asked ${first}`);
    }
    checkBatchEntries(batch, view, 0, header, this.#maxEntryBytes);
    let next = first;
    for (let at = BATCH_HEADER_BYTES; at < batch.length; ) {
      const whole = wholeEntries(view, at, batch.length, this.#wal.groupBytes);
      const { to, count, holdsMembers } = whole;
      const piece = batch.subarray(at, to);
      await this.#room(() => {
        if (!isAlone()) throw overtaken(space);
        const run = receivedRun(space.slot, next, count, piece.length, holdsMembers);
        return this.#wal.stageReceived(piece, run);
      });
      next += count;
      at = to;
    }
    return next;
  }

  async #room(stage: () => boolean): Promise<void> {
    for (;;) {
      try {
        return await this.#wal.whenRoom(stage);
      } catch (error) {
        if (!(error instanceof EngramError) || error.code !== 'Backpressure') throw error;
        // It is said at once where too many wait: nothing would come to be free meanwhile.
        await pause(ROOM_POLL_MS);
      }
    }
  }
}

/**
 * Who leads the space in a later epoch streams from where it stood when that epoch was seen: from
 * then on nothing else is added.
 */
function overtaken({ facts }: SpaceState): EngramError {
  const why = `epoch ${facts.epochSeen} was seen while entries were fetched`;
  return failure('PromotionRefused', `${facts.name} is not led from here: ${why}`);
}
