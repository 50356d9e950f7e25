/** What a node knows of one space, durably, and how what the log says changes it. */
import { failure } from '../errors.js';
import { HISTORY_MAX, REWINDS_MAX, SKIPS_MAX } from '../limits.js';
import { type MembersRow, rowsUpTo } from '../members/members.js';
import {
  type Epoch,
  type EpochStart,
  type Lsn,
  NO_POSITION,
  type Position,
  type Sequence,
} from '../position.js';
import type { SnapshotFacts, SnapshotWhole } from '../snapshot/facts.js';
import type { Member, Role } from './node-record.js';
import { addVoided, type PendingRewind, type Rewind, type Voided } from './rewind.js';

/** What a node knows of one space, durably. */
export interface SpaceFacts {
  /** 16 bytes, lower-case hex. */
  readonly id: string;
  name: string;
  role: Role;
  /** The epoch this node acts under. */
  epoch: Epoch;
  /** The highest epoch this node has heard of; at least `epoch`. */
  epochSeen: Epoch;
  primary: string;
  /** Of the primary, 32 hex digits; undefined: nobody has told us, or an older release leads. */
  directoryId: string | undefined;
  /**
   * The directory is a copy of another one, and has followed no primary since: it may lack what the
   * original has acknowledged behind its end. It leads by force alone.
   */
  copied: boolean;
  /** Where its nodes listen: hints. Who counts is in `sets`. */
  members: readonly Member[];
  /**
   * Who counts, as this node's own log of the space says it, oldest first: what entries of type 7
   * have set, above the newest that was settled before the first entry. Empty: nobody has said.
   */
  sets: MembersRow[];
  position: Position;
  /** Of the last entry, ns since the Unix epoch. */
  timestamp: bigint;
  history: EpochStart[];
  /** Kept by node records, where the host keeps none. */
  applied: Sequence;
  /** The first entry that is retained; 1 until a segment of this space was freed. */
  first: Sequence;
  /** The host needs nothing below on this node; 0: it has never said so. */
  checkpoint: Sequence;
  /** What replicas are known to have, by node id. */
  slots: Slots;
  /** What the host's apply callback is not given, ascending: somebody has said so (row 52). */
  skipped: Sequence[];
  /** Acknowledged entries that cannot be read, ascending. */
  damage: DamagedRange[];
  /** The host is being given this snapshot: until it has it, nothing is taken or applied. */
  begun: BegunSnapshot | undefined;
  /** Who has this node's promise to lead in `epochSeen`; '' where nobody has. */
  promisedTo: string;
  /** What rewinds have made void and the log still holds. */
  voided: Voided[];
  /** Of which the host is still to be told, the oldest first. */
  rewinds: PendingRewind[];
}

/** A snapshot whose bytes are whole in this node's spool. */
export interface BegunSnapshot {
  readonly snapshot: SnapshotFacts;
  readonly whole: SnapshotWhole;
}

/** What one replica still needs of one space. */
export interface SlotFacts {
  flushed: Sequence;
  /** It was too far behind, or away for too long: what it lacks may be gone. */
  lost: boolean;
  /**
   * For how long its replica has been away, ms of this node's own running time, as of the last look
   * at all slots; below 0 for one that was made since.
   */
  idleMs: number;
  /** Whose `flushed` it is, 32 hex digits; undefined: nobody has told. */
  directoryId?: string | undefined;
}

export type Slots = Map<string, SlotFacts>;

/** Entries of one space that damage concerns. */
export interface DamagedRange {
  readonly from: Sequence;
  /** 0: nobody knows how many there were. */
  readonly to: Sequence;
  /** Of the first bad byte. */
  readonly lsn: Lsn;
  /** A person has accepted the loss: the space takes entries again. */
  accepted: boolean;
  /**
   * What it is known by, where that is not a gap between entries of the space: a record of the node
   * is lost (`record`, no peer has it), or may be, with the log's end (`end`).
   */
  readonly doubt?: 'record' | 'end' | undefined;
}

/**
 * Of spaces on the same nodes, led by the same one, the first of each run: what is asked of nodes
 * is asked of thousands of spaces once. Alike is what shares its objects (bytes.ts, Recent).
 */
export function* unlike<S extends { readonly facts: SpaceFacts }>(
  spaces: Iterable<S>,
): Generator<S> {
  let last: SpaceFacts | undefined;
  for (const space of spaces) {
    const { facts } = space;
    if (last === undefined || !isAlike(facts, last)) yield space;
    last = facts;
  }
}

function isAlike(a: SpaceFacts, b: SpaceFacts): boolean {
  const [own, other] = [a.sets.at(-1), b.sets.at(-1)];
  const isOfSame = own?.next === other?.next && own?.old === other?.old;
  return isOfSame && a.role === b.role && a.primary === b.primary && a.members === b.members;
}

/** Where the log of a space ends, and what is heard of it: what every run is held against. */
export interface LogEnd {
  position: Position;
  timestamp: bigint;
  epochSeen: Epoch;
}

const END = Symbol('end');

interface WithEnd {
  [END]: LogEnd;
}

/** Of all facts the same functions: V8 keeps objects that share theirs in one shape. */
const OF_END: PropertyDescriptorMap & ThisType<WithEnd> = {
  position: {
    enumerable: true,
    configurable: true,
    get() {
      return this[END].position;
    },
    set(position: Position) {
      this[END].position = position;
    },
  },
  timestamp: {
    enumerable: true,
    configurable: true,
    get() {
      return this[END].timestamp;
    },
    set(timestamp: bigint) {
      this[END].timestamp = timestamp;
    },
  },
  epochSeen: {
    enumerable: true,
    configurable: true,
    get() {
      return this[END].epochSeen;
    },
    set(epoch: Epoch) {
      this[END].epochSeen = epoch;
    },
  },
};

/** From now on the end of these facts stands there, and is changed there. */
export function keepEndIn(facts: SpaceFacts, end: LogEnd): void {
  end.position = facts.position;
  end.timestamp = facts.timestamp;
  end.epochSeen = facts.epochSeen;
  if (END in facts) (facts as WithEnd)[END] = end;
  else withEnd(facts, end);
}

function withEnd(facts: object, end: LogEnd): SpaceFacts {
  // Not enumerable: a copy of facts has the end as it is, and two are alike wherever theirs stand.
  Object.defineProperty(facts, END, { value: end, writable: true });
  return Object.defineProperties(facts, OF_END) as SpaceFacts;
}

/** An epoch has been heard of. Where it is news, nobody has been promised it here. */
export function seeEpoch(facts: SpaceFacts, epoch: Epoch): void {
  if (epoch <= facts.epochSeen) return;
  facts.epochSeen = epoch;
  facts.promisedTo = '';
}

/**
 * The first entry of the epoch that this node acts in; Infinity: it has none yet. Nothing is
 * acknowledged by replicas before they have it.
 */
export function epochBegins({ epoch, history }: SpaceFacts): Sequence {
  const row = history.at(-1);
  if (row?.epoch === epoch) return row.startSequence;
  return Number.POSITIVE_INFINITY;
}

/** Facts of a space that has no entry yet. */
export function newSpaceFacts(id: string, name: string): SpaceFacts {
  const facts: Omit<SpaceFacts, keyof LogEnd> = {
    id,
    name,
    role: 'replica',
    epoch: 0,
    primary: '',
    directoryId: undefined,
    copied: false,
    members: [],
    sets: [],
    history: [],
    applied: 0,
    first: 1,
    checkpoint: 0,
    slots: new Map(),
    skipped: [],
    damage: [],
    begun: undefined,
    promisedTo: '',
    voided: [],
    rewinds: [],
  };
  return withEnd(facts, { position: NO_POSITION, timestamp: 0n, epochSeen: 0 });
}

/**
 * The space stands on a snapshot: what the log holds of it before is void, the damage in it too.
 * @param lsn what stands before it, and behind the snapshot's sequence, is void
 */
export function setBase(facts: SpaceFacts, snapshot: SnapshotFacts, lsn: Lsn): void {
  const { sequence } = snapshot.position;
  if (facts.position.sequence > sequence) addVoided(facts.voided, lsn, sequence + 1);
  // The host has a whole state: there is nothing that it would have to undo.
  facts.rewinds = [];
  facts.position = snapshot.position;
  if (snapshot.timestamp > facts.timestamp) facts.timestamp = snapshot.timestamp;
  facts.history = [...snapshot.history];
  facts.sets = [...snapshot.sets];
  facts.first = sequence + 1;
  facts.applied = sequence;
  facts.checkpoint = Math.min(facts.checkpoint, sequence + 1);
  facts.skipped = facts.skipped.filter((s) => s > sequence);
  facts.damage = [];
  facts.begun = undefined;
}

/**
 * What these facts are in a copy of the directory: whoever it led, or followed, it leads nobody and
 * follows nobody until a primary introduces itself, or somebody promotes it by force.
 * @param isHanded its host applies what it is handed, in both roles, and nothing besides
 */
export function makeCopied(facts: SpaceFacts, isHanded = false): void {
  // What it has led it has applied itself.
  if (facts.role === 'primary' && !isHanded) facts.applied = facts.position.sequence;
  facts.role = 'replica';
  facts.primary = '';
  facts.copied = true;
  facts.slots.clear();
}

/** @param lsn what stands before it and behind the new end is void */
export function applyRewind(facts: SpaceFacts, rewind: Rewind, lsn: Lsn): void {
  const { position, timestamp, to, quarantine } = rewind;
  facts.position = position;
  facts.timestamp = timestamp;
  undoBehind(facts, position.sequence, lsn);
  addPending(facts.rewinds, { from: position.sequence + 1, to, quarantine });
}

/**
 * Entries behind `last` that stand before `lsn` count no more. Alone where the log goes back and
 * the record that says so is lost: only a rewind goes back.
 */
export function undoBehind(facts: SpaceFacts, last: Sequence, lsn: Lsn): void {
  facts.history = facts.history.filter((row) => row.startSequence <= last);
  facts.sets = rowsUpTo(facts.sets, last);
  facts.skipped = facts.skipped.filter((sequence) => sequence <= last);
  facts.checkpoint = Math.min(facts.checkpoint, last + 1);
  // What replicas had of it is as void.
  for (const slot of facts.slots.values()) slot.flushed = Math.min(slot.flushed, last);
  facts.damage = facts.damage
    .filter((range) => range.from <= last)
    .map((range) => (range.to === 0 || range.to > last ? { ...range, to: last } : range));
  addVoided(facts.voided, lsn, last + 1);
}

/** Bounded: beyond, the newest one stands for the one before it as well. */
function addPending(rewinds: PendingRewind[], rewind: PendingRewind): void {
  const before = rewinds.length < REWINDS_MAX ? undefined : rewinds.pop();
  const from = Math.min(rewind.from, before?.from ?? rewind.from);
  const to = Math.max(rewind.to, before?.to ?? rewind.to);
  rewinds.push({ from, to, quarantine: rewind.quarantine });
}

/**
 * The host needs nothing below `sequence`. It may have said so of entries that were taken back
 * while its word was on its way to the disk: of those in their place it has said nothing.
 */
export function passCheckpoint(facts: SpaceFacts, sequence: Sequence): void {
  const said = Math.min(sequence, facts.position.sequence + 1);
  facts.checkpoint = Math.max(facts.checkpoint, said);
}

/** Up to where a host that says `applied` has the true entries, with what it has yet to undo. */
export function trulyApplied({ rewinds }: SpaceFacts, applied: Sequence): Sequence {
  return rewinds.reduce((least, { from }) => Math.min(least, from - 1), applied);
}

/** The host has returned from `rewound`: it has undone what it had applied from there on. */
export function rewoundTold(facts: SpaceFacts, from: Sequence, to: Sequence): void {
  const at = facts.rewinds.findIndex((r) => r.from === from && r.to === to);
  if (at >= 0) facts.rewinds.splice(at, 1);
  facts.applied = Math.min(facts.applied, from - 1);
}

/** Of very many epochs the oldest are forgotten. */
export function trimHistory(rows: EpochStart[]): void {
  if (rows.length > HISTORY_MAX) rows.splice(0, rows.length - HISTORY_MAX);
}

/** Throws Configuration when a space has too many of them already. */
export function checkSkip(facts: SpaceFacts): void {
  if (facts.skipped.length < SKIPS_MAX) return;
  const found = `${facts.name} has ${SKIPS_MAX} skipped entries above its checkpoint already`;
  throw failure('Configuration', found);
}

/**
 * Where the entry was taken back meanwhile it was another one that was meant: nothing is skipped.
 * Throws as `checkSkip`.
 */
export function addSkip(facts: SpaceFacts, sequence: Sequence): void {
  if (sequence > facts.position.sequence || facts.skipped.includes(sequence)) return;
  checkSkip(facts);
  facts.skipped.push(sequence);
  facts.skipped.sort((a, b) => a - b);
}
