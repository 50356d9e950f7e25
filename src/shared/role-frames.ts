/**
 * Frames about who leads (kinds 32 to 39): a primary's epoch history before a verdict, the word
 * that fences it, and what a candidate asks of the members of a space (DESIGN 9).
 */
import type { ByteReader, ByteWriter } from './bytes.js';
import { type FrameCodecs, readRows } from './frame.js';
import { readDirectory, writeDirectory } from './members-rows.js';
import type { Member } from './node-record.js';
import type { Epoch, EpochStart, Position } from './position.js';

/** One epoch of one space, by its handle on the connection. */
export interface HistoryRow extends EpochStart {
  readonly handle: number;
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
  /** From a candidate: batches of lower epochs than this are to be refused from now on. */
  | {
      readonly kind: 'promise';
      readonly id: string;
      readonly epoch: Epoch;
      readonly candidate: Member;
      /** Of the hand-over that this is a part of; 0n: of none. */
      readonly handover: bigint;
    }
  | {
      readonly kind: 'promised';
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

function readPromised(r: ByteReader): Extract<RoleFrame, { kind: 'promised' }> {
  return {
    kind: 'promised',
    id: r.id(),
    isGranted: r.u8() === 1,
    epochSeen: r.u32(),
    position: readPosition(r),
    reason: r.text(),
  };
}

export const ROLE_CODECS: FrameCodecs<RoleFrame> = {
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
    write: (w, f) => {
      w.id(f.id).u8(Number(f.isGranted)).u32(f.epochSeen);
      writePosition(w, f.position);
      w.text(f.reason);
    },
    read: (r) => readPromised(r),
    since2: {
      code: 45,
      write: (w, f) => {
        w.id(f.id).u8(Number(f.isGranted)).u32(f.epochSeen);
        writePosition(w, f.position);
        w.text(f.reason);
        writeDirectory(w, f.directoryId);
      },
      read: (r) => ({ ...readPromised(r), directoryId: readDirectory(r) }),
    },
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
