/**
 * What any node may ask a member of its cluster on a short connection of its own (a peer call):
 * a hello with FEATURE_PEER_CALL, then requests one after the other. Each is answered by frames of
 * its own kind and `peer-done`, or by `peer-declined`. Another request: two frames in a file like
 * this one, and a handler in main/peer/handlers.ts.
 */
import type { ByteReader, ByteWriter } from '../bytes.js';
import { failure } from '../errors.js';
import { ASK_SPACES_MAX } from '../limits.js';
import type { Role } from '../log/node-record.js';
import { type MembersRow, readMembersRows, writeMembersRows } from '../members/members.js';
import {
  readDirectory,
  rowBytes,
  withDirectories,
  writeDirectories,
  writeDirectory,
} from '../members/rows.js';
import type { Epoch, EpochStart, Position, Sequence } from '../position.js';
import { type FrameCodecs, oneOf, partsBySize, readRows } from './frame.js';

/** In the features of a hello: the connection asks, and follows nothing. */
export const FEATURE_PEER_CALL = 0x1_0000;
/** Beside it: the end that says so knows `glance-ask`; an older one would end the connection. */
export const FEATURE_GLANCE = 0x2_0000;
/** Of a longer epoch history the newest rows are told: what any frame holds. */
export const STANDING_HISTORY_MAX = 1_000;

/** Where a node stands in one space. Of an unknown one only `id` says anything. */
export interface StandingRow {
  /** 16 bytes, lower-case hex. */
  readonly id: string;
  readonly isKnown: boolean;
  readonly role: Role;
  readonly epoch: Epoch;
  readonly epochSeen: Epoch;
  /** The node that leads it, as far as is known there. */
  readonly primary: string;
  readonly position: Position;
  readonly flushed: Sequence;
  readonly applied: Sequence;
  /** The first retained entry. */
  readonly first: Sequence;
  /** Whether it can read all that it retains. */
  readonly isWhole: boolean;
  /** Oldest first. */
  readonly history: readonly EpochStart[];
  /** Of who answers; undefined in version 1. */
  readonly directoryId: string | undefined;
  /** Who counts by its log, the newest last; empty in version 1. */
  readonly sets: readonly MembersRow[];
  /** The directory that began the space; undefined: nobody knows it there, or version 1. */
  readonly founder: string | undefined;
  /** It has begun the space, and enough of those that it met then follow it. */
  readonly isFounded: boolean;
  /** The highest version of the protocol that it speaks. */
  readonly protocol: number;
}

/** What the leader of a space has durable, as it says itself. */
export interface TipRow {
  readonly id: string;
  /** It leads the space in this moment: with a lease, that lease has not run out. */
  readonly leads: boolean;
  /** Of its last durable entry; 0: it has none. */
  readonly epoch: Epoch;
  readonly sequence: Sequence;
}

/** What a node ships to another one, over all the spaces that go there. */
export interface GlanceLink {
  readonly replicaId: string;
  /** Of the link. */
  readonly state: string;
  readonly spaces: number;
  /** Of the space that lacks most, each for itself; ms undefined: not known. */
  readonly lagMs: number | undefined;
  readonly lagEntries: number;
  readonly lagBytes: number;
  /** Since the last byte came from it, ms; undefined: none ever. */
  readonly heardAgoMs: number | undefined;
}

/** A node as it says itself, in few words: of no space by its name, for not all may know it. */
export interface Glance {
  /** Of the package. */
  readonly version: string;
  /** As watch/health/words.ts has it. */
  readonly health: string;
  readonly problems: number;
  /** The kind of the worst of them; '': none. */
  readonly worst: string;
  readonly uptimeMs: number;
  readonly spaces: number;
  readonly led: number;
  /** Where people find its page; '': it cannot say. */
  readonly url: string;
  readonly links: readonly GlanceLink[];
}

/** Why a node cannot give an entry. */
export type LackReason = 'unknown' | 'trimmed' | 'beyond' | 'damaged';
const LACKS: readonly LackReason[] = ['unknown', 'trimmed', 'beyond', 'damaged'];
const ROLES: readonly Role[] = ['replica', 'primary'];

export type PeerFrame =
  | { readonly kind: 'standing-ask'; readonly ids: readonly string[] }
  /** Rows in the order of the ids, over as many frames as it takes. */
  | { readonly kind: 'standing'; readonly rows: readonly StandingRow[] }
  | { readonly kind: 'tip-ask'; readonly ids: readonly string[] }
  /** Rows in the order of the ids, all as of one moment. */
  | { readonly kind: 'tips'; readonly rows: readonly TipRow[] }
  | {
      readonly kind: 'entries-ask';
      readonly id: string;
      readonly from: Sequence;
      readonly to: Sequence;
      /** The answer ends behind the entry that reaches so many bytes. */
      readonly maxBytes: number;
    }
  /** One batch (batch.ts), as a primary would ship it. A view: valid as long as its frame is. */
  | { readonly kind: 'entries'; readonly batch: Uint8Array }
  /** The answer ends here, for the node does not have `sequence`. */
  | {
      readonly kind: 'entries-lack';
      readonly sequence: Sequence;
      readonly reason: LackReason;
      /** What it retains and can name: `first` to `last`. */
      readonly first: Sequence;
      readonly last: Sequence;
    }
  /** How is the node that is asked? Only where both ends have said FEATURE_GLANCE. */
  | { readonly kind: 'glance-ask' }
  | ({ readonly kind: 'glance' } & Glance)
  /** The answer is complete. */
  | { readonly kind: 'peer-done' }
  /** There is no answer; the connection goes on. */
  | { readonly kind: 'peer-declined'; readonly code: string; readonly message: string };

export const PEER_CODECS: FrameCodecs<PeerFrame> = {
  'standing-ask': {
    code: 24,
    write: writeIds,
    read: (r) => ({ kind: 'standing-ask', ids: readIds(r) }),
  },
  'tip-ask': {
    code: 47,
    write: writeIds,
    read: (r) => ({ kind: 'tip-ask', ids: readIds(r) }),
  },
  tips: {
    code: 48,
    write: (w, { rows }) => {
      for (const { id, leads, epoch, sequence } of rows) {
        w.id(id).u8(Number(leads)).u32(epoch).u64(sequence);
      }
    },
    read: (r) => ({
      kind: 'tips',
      rows: readRows(r, (x) => ({
        id: x.id(),
        leads: oneOf([false, true], x.u8()),
        epoch: x.u32(),
        sequence: x.u64(),
      })),
    }),
  },
  standing: {
    code: 25,
    write: (w, { rows }) => {
      for (const row of rows) writeStanding(w, row);
    },
    read: (r) => ({ kind: 'standing', rows: readRows(r, readStanding) }),
    since2: {
      code: 44,
      write: (w, { rows }) => {
        for (const row of rows) {
          writeStanding(w, row);
          writeDirectory(w, row.directoryId);
          writeDirectories(w, row.history);
          writeMembersRows(w, row.sets);
          writeDirectory(w, row.founder);
          w.u8(Number(row.isFounded)).u16(row.protocol);
        }
      },
      read: (r) => ({
        kind: 'standing',
        rows: readRows(r, (x) => {
          const row = readStanding(x);
          return {
            ...row,
            directoryId: readDirectory(x),
            history: withDirectories(x, row.history),
            sets: readMembersRows(x, 'ProtocolViolation'),
            founder: readDirectory(x),
            isFounded: x.u8() === 1,
            protocol: x.u16(),
          };
        }),
      }),
    },
  },
  'entries-ask': {
    code: 26,
    write: (w, f) => w.id(f.id).u64(f.from).u64(f.to).u32(f.maxBytes),
    read: (r) => ({
      kind: 'entries-ask',
      id: r.id(),
      from: r.u64(),
      to: r.u64(),
      maxBytes: r.u32(),
    }),
  },
  entries: {
    code: 27,
    write: (w, { batch }) => w.raw(batch),
    read: (r) => ({ kind: 'entries', batch: r.raw(r.left) }),
  },
  'entries-lack': {
    code: 28,
    write: (w, f) => w.u64(f.sequence).u8(LACKS.indexOf(f.reason)).u64(f.first).u64(f.last),
    read: (r) => ({
      kind: 'entries-lack',
      sequence: r.u64(),
      reason: oneOf(LACKS, r.u8()),
      first: r.u64(),
      last: r.u64(),
    }),
  },
  'glance-ask': { code: 52, write: () => undefined, read: () => ({ kind: 'glance-ask' }) },
  glance: {
    code: 53,
    write: (w, g) => {
      w.text(g.version).text(g.health).u32(g.problems).text(g.worst).u64(g.uptimeMs);
      w.u32(g.spaces).u32(g.led).text(g.url).u8(g.links.length);
      for (const link of g.links) writeLink(w, link);
    },
    read: (r) => ({
      kind: 'glance',
      version: r.text(),
      health: r.text(),
      problems: r.u32(),
      worst: r.text(),
      uptimeMs: r.u64(),
      spaces: r.u32(),
      led: r.u32(),
      url: r.text(),
      links: Array.from({ length: r.u8() }, () => readLink(r)),
    }),
  },
  'peer-done': { code: 30, write: () => undefined, read: () => ({ kind: 'peer-done' }) },
  'peer-declined': {
    code: 31,
    write: (w, f) => w.text(f.code).text(f.message),
    read: (r) => ({ kind: 'peer-declined', code: r.text(), message: r.text() }),
  },
};

function writeStanding(w: ByteWriter, row: StandingRow): void {
  w.id(row.id)
    .u8(Number(row.isKnown))
    .u8(ROLES.indexOf(row.role))
    .u32(row.epoch)
    .u32(row.epochSeen)
    .text(row.primary);
  const { epoch, sequence, headerCrc } = row.position;
  w.u32(epoch).u64(sequence).u32(headerCrc);
  w.u64(row.flushed).u64(row.applied).u64(row.first).u8(Number(row.isWhole));
  w.u16(row.history.length);
  for (const h of row.history) w.u32(h.epoch).u64(h.startSequence).id(h.primaryNodeId);
}

function readStanding(r: ByteReader): StandingRow {
  return {
    id: r.id(),
    isKnown: r.u8() === 1,
    role: oneOf(ROLES, r.u8()),
    epoch: r.u32(),
    epochSeen: r.u32(),
    primary: r.text(),
    position: { epoch: r.u32(), sequence: r.u64(), headerCrc: r.u32() },
    flushed: r.u64(),
    applied: r.u64(),
    first: r.u64(),
    isWhole: r.u8() === 1,
    history: readHistory(r),
    directoryId: undefined,
    sets: [],
    founder: undefined,
    isFounded: false,
    protocol: 1,
  };
}

function readHistory(r: ByteReader): EpochStart[] {
  const count = r.u16();
  const history: EpochStart[] = [];
  for (let i = 0; i < count; i++) {
    history.push({ epoch: r.u32(), startSequence: r.u64(), primaryNodeId: r.id() });
  }
  return history;
}

const LAG_KNOWN = 1;
const EVER_HEARD = 2;

function writeLink(w: ByteWriter, link: GlanceLink): void {
  const { lagMs, heardAgoMs } = link;
  const flags = (lagMs === undefined ? 0 : LAG_KNOWN) | (heardAgoMs === undefined ? 0 : EVER_HEARD);
  w.text(link.replicaId).text(link.state).u32(link.spaces).u8(flags);
  w.u64(lagMs ?? 0)
    .u64(link.lagEntries)
    .u64(link.lagBytes)
    .u64(heardAgoMs ?? 0);
}

function readLink(r: ByteReader): GlanceLink {
  const [replicaId, state, spaces, flags] = [r.text(), r.text(), r.u32(), r.u8()];
  const [lagMs, lagEntries, lagBytes, heardAgoMs] = [r.u64(), r.u64(), r.u64(), r.u64()];
  if (flags > (LAG_KNOWN | EVER_HEARD)) {
    throw failure('ProtocolViolation', `flags ${flags} of a link`);
  }
  return {
    ...{ replicaId, state, spaces, lagEntries, lagBytes },
    lagMs: (flags & LAG_KNOWN) === 0 ? undefined : lagMs,
    heardAgoMs: (flags & EVER_HEARD) === 0 ? undefined : heardAgoMs,
  };
}

/** Rows in parts that any frame holds. */
export function standingInFrames(rows: readonly StandingRow[]): StandingRow[][] {
  return partsBySize(rows, (row) => {
    let bytes = 133 + 3 * row.primary.length + 44 * row.history.length;
    for (const set of row.sets) bytes += rowBytes(set);
    return bytes;
  });
}

function writeIds(w: ByteWriter, { ids }: { readonly ids: readonly string[] }): void {
  for (const id of ids) w.id(id);
}

function readIds(r: ByteReader): string[] {
  const ids = readRows(r, (x) => x.id());
  if (ids.length > ASK_SPACES_MAX) {
    throw failure('ProtocolViolation', `${ids.length} spaces in one question`);
  }
  return ids;
}
