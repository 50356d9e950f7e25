/**
 * What the entries behind a state say about spaces, taken in LSN order: positions, epochs, node
 * records; and around damage, which spaces it concerns (DESIGN 4, "What damage concerns").
 */
import { crc32c } from '../../shared/crc.js';
import { type EngramError, failure } from '../../shared/errors.js';
import { UNKNOWN_OWNER } from '../../shared/lead/epoch.js';
import { ENTRY_HEADER_BYTES, HOLES_MAX } from '../../shared/limits.js';
import {
  readEpoch,
  readHeaderCrc,
  readPayloadSize,
  readSequence,
  readSpaceId,
  readSpaceIdWord,
  readTimestamp,
  readType,
} from '../../shared/log/entry.js';
import {
  decodeNodeRecord,
  encodeNodeRecord,
  isFiller,
  NODE_SPACE_ID,
  type NodeRecord,
} from '../../shared/log/node-record.js';
import {
  addSkip,
  applyRewind,
  type DamagedRange,
  newSpaceFacts,
  passCheckpoint,
  rewoundTold,
  type SpaceFacts,
  seeEpoch,
  setBase,
  trimHistory,
  undoBehind,
} from '../../shared/log/space-facts.js';
import type { Hole, State } from '../../shared/log/state.js';
import { decodeMembers, MEMBERS_ENTRY } from '../../shared/members/members.js';
import { addMembersRow, joinRows } from '../../shared/members/rows.js';
import { idOf } from '../../shared/names.js';
import type { Lsn, Position, Sequence } from '../../shared/position.js';
import type { BadPlace, NamedEntry } from '../segments/walk.js';

const MARK_PAYLOAD = encodeNodeRecord({ kind: 'mark' });
const MARK_CRC = crc32c(MARK_PAYLOAD);

export function corrupt(found: string, details?: Record<string, unknown>): EngramError {
  return failure('CorruptionDetected', found, details ? { details } : {});
}

/** Adds to a list that must stay bounded: beyond the cap the last one grows over what comes. */
export function addHole(holes: Hole[], hole: Hole): void {
  const last = holes.at(-1);
  if (last && (last.end === hole.start || holes.length >= HOLES_MAX)) {
    const start = Math.min(last.start, hole.start);
    holes[holes.length - 1] = { start, end: Math.max(last.end, hole.end) };
  } else {
    holes.push(hole);
  }
}

/** What of the holes lies outside of a range of the log. */
export function holesOutside(holes: readonly Hole[], start: Lsn, end: Lsn): Hole[] {
  return holes.flatMap((h) => {
    const before = { start: h.start, end: Math.min(h.end, start) };
    const behind = { start: Math.max(h.start, end), end: h.end };
    return [before, behind].filter((part) => part.start < part.end);
  });
}

/** Adds a damaged range in its place; joined to the one before where they touch. */
export function addDamage(facts: SpaceFacts, range: DamagedRange): void {
  const { damage } = facts;
  // A node that runs finds damage in any order.
  const at = damage.findLastIndex((d) => d.from <= range.from);
  const before = damage[at];
  const isOne = before && before.to !== 0 && !before.accepted && range.from <= before.to + 1;
  if (!isOne && damage.length < HOLES_MAX) {
    damage.splice(at + 1, 0, range);
    return;
  }
  const wide = Math.max(at, 0);
  const row = damage[wide]!;
  damage[wide] = {
    from: Math.min(row.from, range.from),
    to: row.to === 0 || range.to === 0 ? 0 : Math.max(row.to, range.to),
    lsn: Math.min(row.lsn, range.lsn),
    accepted: row.accepted && range.accepted,
    doubt: range.doubt ?? row.doubt,
  };
}

/** Holes that a replay tells apart; beyond, the last one grows over what comes. */
const UNNAMED_MAX = 65_536;

/**
 * Places of the log in their order, none over another: found by halving, for a replay asks at each
 * gap (FAULTS row 81).
 */
class Places {
  readonly #places: Hole[] = [];

  /** @param hole mostly behind all others */
  add(hole: Hole): void {
    const at = this.#firstBehind(hole.start);
    const next = this.#places[at];
    if (next && next.start < hole.end) {
      const end = Math.max(next.end, hole.end);
      this.#places[at] = { start: Math.min(next.start, hole.start), end };
    } else if (this.#places.length < UNNAMED_MAX) {
      this.#places.splice(at, 0, hole);
    } else {
      const near = Math.min(at, UNNAMED_MAX - 1);
      const { start, end } = this.#places[near]!;
      const wide = { start: Math.min(start, hole.start), end: Math.max(end, hole.end) };
      this.#places[near] = wide;
    }
  }

  /** The first one that reaches behind one place and begins before another. */
  between(after: Lsn, before: Lsn): Hole | undefined {
    const place = this.#places[this.#firstBehind(after)];
    return place && place.start < before ? place : undefined;
  }

  get isEmpty(): boolean {
    return this.#places.length === 0;
  }

  /** Index of the first one that ends behind an LSN. */
  #firstBehind(lsn: Lsn): number {
    let low = 0;
    let high = this.#places.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#places[middle]!.end > lsn) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

/** One space during a replay. */
interface Track {
  readonly id: string;
  /** The state's row is as of this LSN; 0: there is none. */
  readonly rowLsn: Lsn;
  /** LSN of its last entry in this replay. */
  lastLsn: Lsn;
}

function tracksOf(state: State | undefined): Map<string, Track> {
  const rows = state?.spaces ?? [];
  return new Map(
    rows.map(({ lsn, facts: { id } }) => [id, { id, rowLsn: lsn, lastLsn: 0 }] as const),
  );
}

export class Replay {
  readonly spaces = new Map<string, SpaceFacts>();
  readonly holes: Hole[];
  nodeSequence: Sequence;
  /** Entries taken, for the report. */
  entries = 0;
  readonly #isHanded: boolean;
  readonly #state: State | undefined;
  /** Made with the first entry: behind a state that was written at the end there is none. */
  #tracks: Map<string, Track> | undefined;
  readonly #nodeLsn: Lsn;
  /** Neighbours are mostly of one space: its id as words, and its track. */
  #lastId: readonly number[] = [];
  #lastTrack: Track | undefined;
  /** Holes met in this replay that nothing names. */
  readonly #unnamed = new Places();
  /** What a repair put in place of lost bytes that no peer has: records of the node. */
  readonly #fillers = new Places();
  /** A record of the node itself is missing: since this LSN. */
  #nodeDamage: Lsn | undefined;

  /** @param isHanded the host applies what it is handed, in both roles, and nothing besides */
  constructor(state: State | undefined, isHanded = false) {
    this.#isHanded = isHanded;
    this.nodeSequence = state?.nodeSequence ?? 0;
    this.#nodeLsn = state?.lsn ?? 0;
    this.holes = [...(state?.holes ?? [])];
    this.#state = state;
    for (const { facts } of state?.spaces ?? []) this.spaces.set(facts.id, facts);
  }

  #track(id: string): Track {
    this.#tracks ??= tracksOf(this.#state);
    let track = this.#tracks.get(id);
    if (!track) {
      track = { id, rowLsn: 0, lastLsn: 0 };
      this.#tracks.set(id, track);
    }
    return track;
  }

  #trackAt(view: DataView, at: number): Track {
    const last = this.#lastId;
    for (let i = 0; ; i++) {
      if (i === 4 && this.#lastTrack) return this.#lastTrack;
      if (readSpaceIdWord(view, at, i) !== last[i]) break;
    }
    this.#lastId = [0, 1, 2, 3].map((i) => readSpaceIdWord(view, at, i));
    this.#lastTrack = this.#track(readSpaceId(view, at));
    return this.#lastTrack;
  }

  entry(bytes: Uint8Array, view: DataView, at: number, lsn: Lsn): void {
    this.entries++;
    const track = this.#trackAt(view, at);
    if (track.id === NODE_SPACE_ID) {
      if (isFiller(view, at)) {
        this.#fillers.add({ start: lsn, end: lsn + 1 });
        return;
      }
      this.#nodeEntry(readSequence(view, at), lsn);
      const start = at + ENTRY_HEADER_BYTES;
      this.#record(bytes.subarray(start, start + readPayloadSize(view, at)), lsn);
      return;
    }
    if (lsn < track.rowLsn) return;
    const position = {
      epoch: readEpoch(view, at),
      sequence: readSequence(view, at),
      headerCrc: readHeaderCrc(view, at),
    };
    this.#spaceEntry(track, position, readTimestamp(view, at), lsn);
    if (readType(view, at) !== MEMBERS_ENTRY) return;
    const start = at + ENTRY_HEADER_BYTES;
    const members = decodeMembers(bytes.subarray(start, start + readPayloadSize(view, at)));
    const { epoch, sequence } = position;
    addMembersRow(this.spaces.get(track.id)!.sets, { epoch, sequence, ...members });
  }

  /** Bytes that are not what was written; `end` is where the next good entry begins. */
  bad(place: BadPlace): void {
    addHole(this.holes, { start: place.start, end: place.end });
    if (place.entry) this.#namedEntry(place.entry, place.start);
    else this.#unnamed.add({ start: place.start, end: place.end });
  }

  /** A segment is not there. @param from where this replay begins */
  missing(hole: Hole, from: Lsn): void {
    addHole(this.holes, hole);
    if (hole.end > from) this.#unnamed.add(hole);
  }

  /** The first hole behind one place and before another that nothing names. */
  #holeBetween(after: Lsn, before: Lsn): Hole | undefined {
    return this.#unnamed.between(after, before);
  }

  /** The entry is lost, but its header says all that its space's position needs. */
  #namedEntry(entry: NamedEntry, lsn: Lsn): void {
    const { id, position, timestamp } = entry;
    if (id === NODE_SPACE_ID) {
      this.#nodeEntry(position.sequence, lsn);
      const isMark = entry.payloadSize === MARK_PAYLOAD.length && entry.payloadCrc === MARK_CRC;
      if (!isMark) this.#nodeDamage ??= lsn;
      return;
    }
    const track = this.#track(id);
    if (lsn < track.rowLsn) return;
    this.#spaceEntry(track, position, timestamp, lsn);
    const { sequence } = position;
    addDamage(this.spaces.get(id)!, { from: sequence, to: sequence, lsn, accepted: false });
  }

  #spaceEntry(track: Track, position: Position, timestamp: bigint, lsn: Lsn): void {
    const { id } = track;
    const facts = this.spaces.get(id);
    const { epoch, sequence } = position;
    if (!facts) throw corrupt(`entry at LSN ${lsn} of a space ${id} that no record registers`);
    const after = facts.position.sequence;
    if (sequence !== after + 1) {
      const hole = this.#holeBetween(Math.max(track.lastLsn, track.rowLsn), lsn);
      const isBack = sequence <= after;
      if (!hole && !(isBack && this.#nodeDamage !== undefined)) {
        throw corrupt(`entry ${sequence} of ${facts.name} at LSN ${lsn} follows entry ${after}`);
      }
      if (isBack) undoBehind(facts, sequence - 1, lsn);
      else {
        const range = { from: after + 1, to: sequence - 1, lsn: hole!.start, accepted: false };
        addDamage(facts, range);
      }
    }
    if (epoch > (facts.history.at(-1)?.epoch ?? 0)) {
      // Whose an older epoch was its primary tells with the next handshake.
      const primaryNodeId = epoch === facts.epoch ? idOf(facts.primary) : UNKNOWN_OWNER;
      const directoryId = epoch === facts.epoch ? facts.directoryId : undefined;
      facts.history.push({ epoch, startSequence: sequence, primaryNodeId, directoryId });
      trimHistory(facts.history);
    }
    facts.position = position;
    facts.timestamp = timestamp;
    track.lastLsn = lsn;
  }

  #nodeEntry(sequence: Sequence, lsn: Lsn): void {
    const track = this.#track(NODE_SPACE_ID);
    // The state's node sequence may run ahead of its LSN: rows are taken while entries come.
    if (sequence > this.nodeSequence) {
      if (sequence !== this.nodeSequence + 1 && lsn >= this.#nodeLsn) {
        const hole =
          this.#holeBetween(track.lastLsn, lsn) ?? this.#fillers.between(track.lastLsn, lsn);
        const after = this.nodeSequence;
        if (!hole) throw corrupt(`node record ${sequence} at LSN ${lsn} follows ${after}`);
        this.#nodeDamage ??= hole.start;
      }
      this.nodeSequence = sequence;
    }
    track.lastLsn = lsn;
  }

  #record(payload: Uint8Array, lsn: Lsn): void {
    const record = decodeNodeRecord(payload);
    if (record.kind === 'mark' || record.kind === 'filler') return;
    const track = this.#track(record.id);
    if (lsn < track.rowLsn) return;
    applyRecord(this.spaces, record, lsn, this.#isHanded);
    // Says all that there is of the space: nothing bad before it concerns it.
    if (record.kind === 'base') track.lastLsn = lsn;
  }

  /** The log is read: who is not cleared of the damage met counts as concerned. */
  finish(): void {
    if (this.#nodeDamage === undefined && this.#unnamed.isEmpty) return;
    const nodeSeen = this.#track(NODE_SPACE_ID).lastLsn;
    // A record may stand in it: of a role, of an epoch that was promised.
    const atEnd = this.#holeBetween(nodeSeen, Number.POSITIVE_INFINITY)?.start;
    const nodeDamage = this.#nodeDamage ?? atEnd;
    const known = this.#nodeDamage === undefined ? 'end' : 'record';
    const doubt = nodeDamage === undefined ? undefined : known;
    for (const [id, facts] of this.spaces) {
      const track = this.#track(id);
      const seen = Math.max(track.lastLsn, track.rowLsn);
      const hole = this.#holeBetween(seen, Number.POSITIVE_INFINITY);
      const lsn = nodeDamage ?? hole?.start;
      if (lsn === undefined) continue;
      addDamage(facts, { from: facts.position.sequence + 1, to: 0, lsn, accepted: false, doubt });
    }
  }
}

/**
 * What a durable node record means for the facts of the space it names.
 * @param lsn where the record stands
 */
export function applyRecord(
  spaces: Map<string, SpaceFacts>,
  record: Exclude<NodeRecord, { kind: 'mark' | 'filler' }>,
  lsn: Lsn,
  isHanded: boolean,
): void {
  let facts = spaces.get(record.id);
  if (!facts) {
    facts = newSpaceFacts(record.id, record.kind === 'space' ? record.name : '');
    spaces.set(record.id, facts);
  }
  switch (record.kind) {
    case 'space':
      // What it has led it has applied itself.
      if (facts.role === 'primary' && record.role === 'replica' && !isHanded) {
        facts.applied = facts.position.sequence;
      }
      facts.name = record.name;
      facts.role = record.role;
      facts.epoch = record.epoch;
      seeEpoch(facts, record.epoch);
      facts.primary = record.primary;
      facts.copied = false;
      facts.members = record.members;
      facts.directoryId = record.directoryId;
      facts.sets = joinRows(record.sets ?? [], facts.sets);
      break;
    case 'epoch-seen':
      seeEpoch(facts, record.epoch);
      break;
    case 'promise':
      seeEpoch(facts, record.epoch);
      if (facts.epochSeen === record.epoch) facts.promisedTo = record.candidate;
      break;
    case 'rewind':
      applyRewind(facts, record, lsn);
      break;
    case 'rewound':
      rewoundTold(facts, record.from, record.to);
      break;
    case 'applied':
      facts.applied = Math.max(facts.applied, record.sequence);
      break;
    case 'checkpoint':
      passCheckpoint(facts, record.sequence);
      break;
    case 'skip':
      addSkip(facts, record.sequence);
      break;
    case 'begun':
      facts.begun = { snapshot: record.snapshot, whole: record.whole };
      break;
    case 'base':
      setBase(facts, record.snapshot, lsn);
      break;
  }
}
