/**
 * Frames about who leads (kinds 32 to 39): a primary's epoch history before a verdict, the word
 * that fences it, and what a candidate asks of the members of a space (DESIGN 9).
 */
import type { ByteReader, ByteWriter } from '../bytes.js';
import { failure } from '../errors.js';
import { ASK_SPACES_MAX } from '../limits.js';
import type { Member } from '../log/node-record.js';
import { readDirectory, writeDirectory } from '../members/rows.js';
import type { Epoch, EpochStart, Position, Sequence } from '../position.js';
import { type FrameCodecs, partsBySize, readRows } from './frame.js';

/** One epoch of one space, by its handle on the connection. */
export interface HistoryRow extends EpochStart {
  readonly handle: number;
}

/** A member's word on an epoch of a space. */
export interface Promised {
  readonly id: string;
  readonly isGranted: boolean;
  /** The highest epoch seen, the granted one included. */
  readonly epochSeen: Epoch;
  /** Final for all lower epochs, where it is granted. */
  readonly position: Position;
  readonly reason: string;
  /** Of who answers; undefined in version 1. */
  readonly directoryId?: string | undefined;
}

export type RoleFrame =
  /** Before a verdict: the epochs of the spaces that it speaks of. May span frames. */
  | { readonly kind: 'history'; readonly rows: readonly HistoryRow[] }
  /** To a primary: a higher epoch is known of this space, or another node leads it in this one. */
  | {
      readonly kind: 'fenced';
      readonly handle: number;
      readonly epoch: Epoch;
      /** Who leads in it; undefined where nobody is known to, yet. */
      readonly leader: Member | undefined;
    }
  /**
   * From a primary that speaks version 2: this directory has acknowledged up to `flushed` and has
   * less. It gets nothing before it has another id.
   */
  | { readonly kind: 'regressed'; readonly handle: number; readonly flushed: Sequence }
  /** From a candidate: batches of lower epochs than this are to be refused from now on. */
  | {
      readonly kind: 'promise';
      readonly id: string;
      readonly epoch: Epoch;
      readonly candidate: Member;
      /** Of the hand-over that this is a part of; 0n: of none. */
      readonly handover: bigint;
    }
  | ({ readonly kind: 'promised' } & Promised)
  /** The same as `promise` for many spaces, of no hand-over. From version 2 on. */
  | {
      readonly kind: 'promises';
      readonly candidate: Member;
      readonly rows: readonly { readonly id: string; readonly epoch: Epoch }[];
    }
  /** In the order in which they are given; over as many frames as it takes. */
  | { readonly kind: 'promises-given'; readonly rows: readonly Promised[] }
  /** From a primary: lead this space, at whose end you stand. */
  | {
      readonly kind: 'take-over';
      readonly id: string;
      readonly position: Position;
      readonly handover: bigint;
    }
  | {
      readonly kind: 'took-over';
      readonly id: string;
      /** 0: it leads it not. */
      readonly epoch: Epoch;
      readonly code: string;
      readonly reason: string;
    };

const NOBODY: Member = { nodeId: '', host: '', port: 0 };

function writeMember(w: ByteWriter, member: Member): void {
  w.text(member.nodeId).text(member.host).u16(member.port);
}

function readMember(r: ByteReader): Member {
  return { nodeId: r.text(), host: r.text(), port: r.u16() };
}

function writePosition(w: ByteWriter, { epoch, sequence, headerCrc }: Position): void {
  w.u32(epoch).u64(sequence).u32(headerCrc);
}

function readPosition(r: ByteReader): Position {
  return { epoch: r.u32(), sequence: r.u64(), headerCrc: r.u32() };
}

function writePromised(w: ByteWriter, row: Promised): void {
  w.id(row.id).u8(Number(row.isGranted)).u32(row.epochSeen);
  writePosition(w, row.position);
  w.text(row.reason);
}

function readPromised(r: ByteReader): Promised {
  return {
    id: r.id(),
    isGranted: r.u8() === 1,
    epochSeen: r.u32(),
    position: readPosition(r),
    reason: r.text(),
  };
}

/** As version 2 tells it. */
function writeGiven(w: ByteWriter, row: Promised): void {
  writePromised(w, row);
  writeDirectory(w, row.directoryId);
}

function readGiven(r: ByteReader): Promised {
  return { ...readPromised(r), directoryId: readDirectory(r) };
}

/** Rows in parts that any frame holds. */
export function promisedInFrames(rows: readonly Promised[]): Promised[][] {
  return partsBySize(rows, (row) => 64 + 3 * row.reason.length);
}

export const ROLE_CODECS: FrameCodecs<RoleFrame> = {
  regressed: {
    code: 46,
    write: (w, f) => w.u32(f.handle).u64(f.flushed),
    read: (r) => ({ kind: 'regressed', handle: r.u32(), flushed: r.u64() }),
  },
  history: {
    code: 32,
    write: (w, { rows }) => {
      for (const row of rows) {
        w.u32(row.handle).u32(row.epoch).u64(row.startSequence).id(row.primaryNodeId);
      }
    },
    read: (r) => ({
      kind: 'history',
      rows: readRows(r, (x) => ({
        handle: x.u32(),
        epoch: x.u32(),
        startSequence: x.u64(),
        primaryNodeId: x.id(),
      })),
    }),
    since2: {
      code: 42,
      write: (w, { rows }) => {
        for (const row of rows) {
          w.u32(row.handle).u32(row.epoch).u64(row.startSequence).id(row.primaryNodeId);
          writeDirectory(w, row.directoryId);
        }
      },
      read: (r) => ({
        kind: 'history',
        rows: readRows(r, (x) => ({
          handle: x.u32(),
          epoch: x.u32(),
          startSequence: x.u64(),
          primaryNodeId: x.id(),
          directoryId: readDirectory(x),
        })),
      }),
    },
  },
  fenced: {
    code: 33,
    write: (w, f) => {
      w.u32(f.handle).u32(f.epoch);
      writeMember(w, f.leader ?? NOBODY);
    },
    read: (r) => {
      const handle = r.u32();
      const epoch = r.u32();
      const leader = readMember(r);
      return { kind: 'fenced', handle, epoch, leader: leader.nodeId ? leader : undefined };
    },
  },
  promise: {
    code: 34,
    write: (w, f) => {
      w.id(f.id).u32(f.epoch).big(f.handover);
      writeMember(w, f.candidate);
    },
    read: (r) => {
      const id = r.id();
      const epoch = r.u32();
      const handover = r.big();
      return { kind: 'promise', id, epoch, handover, candidate: readMember(r) };
    },
  },
  promised: {
    code: 35,
    write: writePromised,
    read: (r) => ({ kind: 'promised', ...readPromised(r) }),
    since2: {
      code: 45,
      write: writeGiven,
      read: (r) => ({ kind: 'promised', ...readGiven(r) }),
    },
  },
  promises: {
    code: 38,
    write: (w, { candidate, rows }) => {
      writeMember(w, candidate);
      for (const { id, epoch } of rows) w.id(id).u32(epoch);
    },
    read: (r) => {
      const candidate = readMember(r);
      const rows = readRows(r, (x) => ({ id: x.id(), epoch: x.u32() }));
      if (rows.length > ASK_SPACES_MAX) {
        throw failure('ProtocolViolation', `${rows.length} spaces in one question`);
      }
      return { kind: 'promises', candidate, rows };
    },
  },
  'promises-given': {
    code: 39,
    write: (w, { rows }) => {
      for (const row of rows) writeGiven(w, row);
    },
    read: (r) => ({ kind: 'promises-given', rows: readRows(r, readGiven) }),
  },
  'take-over': {
    code: 36,
    write: (w, f) => {
      w.id(f.id).big(f.handover);
      writePosition(w, f.position);
    },
    read: (r) => ({
      kind: 'take-over',
      id: r.id(),
      handover: r.big(),
      position: readPosition(r),
    }),
  },
  'took-over': {
    code: 37,
    write: (w, f) => {
      w.id(f.id).u32(f.epoch).text(f.code).text(f.reason);
    },
    read: (r) => ({
      kind: 'took-over',
      id: r.id(),
      epoch: r.u32(),
      code: r.text(),
      reason: r.text(),
    }),
  },
};
