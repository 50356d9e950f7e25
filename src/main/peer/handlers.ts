/** What this node answers to peers that ask (wire/peer-frames.ts), one handler for each kind. */

import type { SpaceIdWords } from '../../shared/bytes.js';
import { EngramError, failure } from '../../shared/errors.js';
import type { Standing } from '../../shared/lead/promotion-verdict.js';
import {
  BATCH_HEADER_BYTES,
  BATCH_MAX_ENTRIES,
  ENTRY_HEADER_BYTES,
  PEER_ENTRIES_MAX_BYTES,
  PROTOCOL_VERSION,
} from '../../shared/limits.js';
import { type Entry, sealLocal, stageHeader } from '../../shared/log/entry.js';
import { UNKNOWN_DIRECTORY } from '../../shared/members/members.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import { idOf } from '../../shared/names.js';
import { NO_POSITION, type Sequence } from '../../shared/position.js';
import { encodeBatchHeader } from '../../shared/wire/batch.js';
import {
  type Glance,
  type LackReason,
  STANDING_HISTORY_MAX,
  type StandingRow,
  standingInFrames,
} from '../../shared/wire/peer-frames.js';
import type { PlainFrame } from '../../shared/wire/protocol.js';
import type { SpaceState, SpaceTable } from '../log/space-table.js';
import type { LogReader } from '../read/reader.js';
import type { PeerHandler, PeerHandlers } from './answers.js';

/** What the handlers look at. */
export interface PeerFacts {
  readonly nodeId: string;
  /** As who it greets; its directory may be renewed. */
  readonly own: { readonly directoryId: string };
  readonly memory: NodeMemory;
  readonly spaces: SpaceTable;
  readonly reader: LogReader;
  appliedTo(space: SpaceState): Sequence;
  /** As who this directory is for a candidate. */
  standingOf(space: SpaceState): Standing;
}

/** The handlers of this release. */
export function peerHandlers(facts: PeerFacts): PeerHandlers {
  return { 'standing-ask': standing(facts), 'entries-ask': entries(facts) };
}

/** Tells how this node is. @param look as of now, at most a second old */
export function glanceHandler(look: () => Promise<Glance>): PeerHandlers {
  return {
    'glance-ask': async function* (): AsyncGenerator<PlainFrame> {
      yield { kind: 'glance', ...(await look()) };
    },
  };
}

function standing({
  spaces,
  memory,
  own,
  appliedTo,
  standingOf,
}: PeerFacts): PeerHandler<'standing-ask'> {
  return function* (question) {
    const { directoryId } = own;
    const rows = question.ids.map((id): StandingRow => {
      const space = spaces.byId(id);
      // The node's own space is nobody's business.
      if (!space || space.slot === 0) return unknown(id, directoryId);
      const { role, epoch, epochSeen, primary, position, first, damage } = space.facts;
      const { history, sets } = space.facts;
      const { founder, isFounded } = standingOf(space);
      return {
        id,
        isKnown: true,
        role,
        epoch,
        epochSeen,
        primary,
        position,
        flushed: memory.durable(space.slot),
        applied: appliedTo(space),
        first,
        isWhole: damage.length === 0 && !space.isInstalling,
        history: history.slice(-STANDING_HISTORY_MAX),
        directoryId,
        // The newest one counts; it is one or two sets.
        sets: sets.slice(-1),
        founder: founder === UNKNOWN_DIRECTORY ? undefined : founder,
        isFounded,
        protocol: PROTOCOL_VERSION,
      };
    });
    for (const part of standingInFrames(rows)) yield { kind: 'standing', rows: part };
  };
}

function unknown(id: string, directoryId: string): StandingRow {
  const none = { epoch: 0, epochSeen: 0, primary: '', position: NO_POSITION };
  const nobody = { sets: [], founder: undefined, isFounded: false, protocol: PROTOCOL_VERSION };
  const figures = { flushed: 0, applied: 0, first: 0, isWhole: true, history: [] };
  return { id, isKnown: false, role: 'replica', ...none, ...figures, directoryId, ...nobody };
}

function entries({ nodeId, spaces, memory, reader }: PeerFacts): PeerHandler<'entries-ask'> {
  return async function* ({ id, from, to, maxBytes }, peer) {
    const space = spaces.byId(id);
    if (!space || space.slot === 0) {
      yield lack(from, 'unknown', 0, 0);
      return;
    }
    const { facts, slot } = space;
    const durable = memory.durable(slot);
    const cap = Math.min(maxBytes, PEER_ENTRIES_MAX_BYTES);
    const words = memory.spaceId(slot) as SpaceIdWords;
    const builder = new AnswerBatch(id, words, idOf(nodeId), facts.epoch, peer.maxFrameBytes);
    let next = Math.max(1, from);
    let sent = 0;
    try {
      for await (const piece of reader.read(space, next, to)) {
        for (const entry of piece) {
          if (!builder.takes(entry) || sent + builder.bytes >= cap) {
            sent += builder.bytes;
            if (builder.count > 0) yield builder.finish();
            if (sent >= cap) return;
          }
          builder.add(entry);
          next = entry.sequence + 1;
        }
      }
      if (builder.count > 0) yield builder.finish();
    } catch (error) {
      const reason = lackOf(error);
      if (!reason) throw error;
      // What came before is good.
      if (builder.count > 0) yield builder.finish();
      yield lack(next, reason, facts.first, durable);
      return;
    }
    if (next <= to) yield lack(next, 'beyond', facts.first, durable);
  };
}

function lack(sequence: Sequence, reason: LackReason, first: Sequence, last: Sequence): PlainFrame {
  return { kind: 'entries-lack', sequence, reason, first, last };
}

function lackOf(error: unknown): LackReason | undefined {
  if (!(error instanceof EngramError)) return undefined;
  if (error.code === 'Trimmed') return 'trimmed';
  return error.code === 'CorruptionDetected' || error.code === 'Repairing' ? 'damaged' : undefined;
}

/** One batch of an answer, in memory of its own. */
class AnswerBatch {
  readonly #spaceId: string;
  readonly #words: SpaceIdWords;
  readonly #nodeHash: string;
  readonly #epoch: number;
  readonly #maxBytes: number;
  #entries: Entry[] = [];
  bytes = 0;

  constructor(
    spaceId: string,
    words: SpaceIdWords,
    nodeHash: string,
    epoch: number,
    maxBytes: number,
  ) {
    this.#spaceId = spaceId;
    this.#words = words;
    this.#nodeHash = nodeHash;
    this.#epoch = epoch;
    this.#maxBytes = maxBytes - BATCH_HEADER_BYTES;
  }

  get count(): number {
    return this.#entries.length;
  }

  takes(entry: Entry): boolean {
    const bytes = ENTRY_HEADER_BYTES + entry.payload.length;
    return this.bytes + bytes <= this.#maxBytes && this.count < BATCH_MAX_ENTRIES;
  }

  /** Throws EntryTooLarge where the peer takes no frame that would hold it. */
  add(entry: Entry): void {
    const bytes = ENTRY_HEADER_BYTES + entry.payload.length;
    if (bytes > this.#maxBytes) {
      throw failure(
        'EntryTooLarge',
        `${bytes} bytes against ${this.#maxBytes} that the peer takes`,
      );
    }
    this.#entries.push(entry);
    this.bytes += bytes;
  }

  /** The batch as a frame; the next one begins empty. */
  finish(): PlainFrame {
    const bytes = new Uint8Array(BATCH_HEADER_BYTES + this.bytes);
    const view = new DataView(bytes.buffer);
    let at = BATCH_HEADER_BYTES;
    for (const entry of this.#entries) at += writeEntry(bytes, view, at, entry, this.#words);
    encodeBatchHeader(bytes, view, 0, {
      primaryNodeId: this.#nodeHash,
      spaceId: this.#spaceId,
      startSequence: this.#entries[0]!.sequence,
      entryCount: this.#entries.length,
      totalSize: this.bytes,
      epoch: this.#epoch,
    });
    this.#entries = [];
    this.bytes = 0;
    return { kind: 'entries', batch: bytes };
  }
}

/** The bytes that travel are a function of what the entry says; its stamp stays zero. */
function writeEntry(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  entry: Entry,
  words: SpaceIdWords,
): number {
  const { sequence, timestamp, type, payload, epoch } = entry;
  bytes.set(payload, at + ENTRY_HEADER_BYTES);
  const low = Number(timestamp & 0xffff_ffffn);
  stageHeader(view, at, sequence, low, Number(timestamp >> 32n), type, payload.length, epoch);
  sealLocal(bytes, view, at, words, 0, 0, 0);
  return ENTRY_HEADER_BYTES + payload.length;
}
