/** The frames that bring a snapshot of a space to a replica; docs/PROTOCOL.md has their bytes. */

import type { ByteReader, ByteWriter } from '../bytes.js';
import { failure } from '../errors.js';
import { SNAPSHOT_SEQUENCE_MAX } from '../limits.js';
import type { Epoch } from '../position.js';
import {
  readSnapshotFacts,
  readSnapshotSets,
  readSnapshotWhole,
  type SnapshotFacts,
  type SnapshotWhole,
  writeSnapshotFacts,
  writeSnapshotSets,
  writeSnapshotWhole,
} from '../snapshot/facts.js';
import type { FrameCodecs } from './frame.js';
import { oneOf } from './frame.js';

/** `stored`: the bytes are whole and durable there. `installed`: the space stands on them. */
export type SnapshotStage = 'stored' | 'installed';

export type SnapshotFrame =
  /** From a replica whose verdict was `snapshot`: what it has of one already. */
  | {
      readonly kind: 'snapshot-request';
      readonly handle: number;
      /** NO_SNAPSHOT: nothing. */
      readonly snapshot: string;
      readonly chunks: number;
    }
  /** From a primary: the chunks from `chunk` on follow. */
  | {
      readonly kind: 'snapshot-begin';
      readonly handle: number;
      /** The primary's current epoch of the space, its right to send. */
      readonly epoch: Epoch;
      readonly chunk: number;
      readonly facts: SnapshotFacts;
    }
  | {
      readonly kind: 'snapshot-chunk';
      readonly handle: number;
      readonly index: number;
      /** CRC32C of `bytes`. */
      readonly crc: number;
      readonly bytes: Uint8Array;
    }
  /** From a replica: so many chunks are durable there. */
  | { readonly kind: 'snapshot-progress'; readonly handle: number; readonly chunks: number }
  | { readonly kind: 'snapshot-end'; readonly handle: number; readonly whole: SnapshotWhole }
  | { readonly kind: 'snapshot-done'; readonly handle: number; readonly stage: SnapshotStage }
  /** From either side: nothing comes of this one. */
  | {
      readonly kind: 'snapshot-refuse';
      readonly handle: number;
      readonly code: string;
      readonly message: string;
      /** When to ask again, at the earliest. */
      readonly retryAfterMs: number;
    }
  /** From a primary: others come first. It begins by itself; asking again is for safety only. */
  | {
      readonly kind: 'snapshot-wait';
      readonly handle: number;
      /** How many come before. */
      readonly before: number;
      readonly retryAfterMs: number;
    };

const STAGES: readonly SnapshotStage[] = ['stored', 'installed'];

export const SNAPSHOT_CODECS: FrameCodecs<SnapshotFrame> = {
  'snapshot-request': {
    code: 16,
    write: (w, f) => w.u32(f.handle).id(f.snapshot).u32(f.chunks),
    read: (r) => ({
      kind: 'snapshot-request',
      handle: r.u32(),
      snapshot: r.id(),
      chunks: r.u32(),
    }),
  },
  'snapshot-begin': {
    code: 17,
    write: writeBegin,
    read: readBegin,
    since2: {
      code: 43,
      write: (w, f) => {
        writeBegin(w, f);
        writeSnapshotSets(w, f.facts);
      },
      read: (r) => {
        const begin = readBegin(r);
        return { ...begin, facts: readSnapshotSets(r, begin.facts, 'ProtocolViolation') };
      },
    },
  },
  'snapshot-chunk': {
    code: 18,
    write: (w, f) => w.u32(f.handle).u32(f.index).u32(f.crc).raw(f.bytes),
    read: (r) => ({
      kind: 'snapshot-chunk',
      handle: r.u32(),
      index: r.u32(),
      crc: r.u32(),
      bytes: r.raw(r.left),
    }),
  },
  'snapshot-progress': {
    code: 19,
    write: (w, f) => w.u32(f.handle).u32(f.chunks),
    read: (r) => ({ kind: 'snapshot-progress', handle: r.u32(), chunks: r.u32() }),
  },
  'snapshot-end': {
    code: 20,
    write: (w, f) => {
      w.u32(f.handle);
      writeSnapshotWhole(w, f.whole);
    },
    read: (r) => ({ kind: 'snapshot-end', handle: r.u32(), whole: readSnapshotWhole(r) }),
  },
  'snapshot-done': {
    code: 21,
    write: (w, f) => w.u32(f.handle).u8(STAGES.indexOf(f.stage)),
    read: (r) => ({ kind: 'snapshot-done', handle: r.u32(), stage: oneOf(STAGES, r.u8()) }),
  },
  'snapshot-refuse': {
    code: 22,
    write: (w, f) => w.u32(f.handle).text(f.code).text(f.message).u32(f.retryAfterMs),
    read: (r) => ({
      kind: 'snapshot-refuse',
      handle: r.u32(),
      code: r.text(),
      message: r.text(),
      retryAfterMs: r.u32(),
    }),
  },
  'snapshot-wait': {
    code: 23,
    write: (w, f) => w.u32(f.handle).u32(f.before).u32(f.retryAfterMs),
    read: (r) => ({
      kind: 'snapshot-wait',
      handle: r.u32(),
      before: r.u32(),
      retryAfterMs: r.u32(),
    }),
  },
};

type Begin = Extract<SnapshotFrame, { kind: 'snapshot-begin' }>;

function writeBegin(w: ByteWriter, f: Begin): void {
  w.u32(f.handle).u32(f.epoch).u32(f.chunk);
  writeSnapshotFacts(w, f.facts);
}

function readBegin(r: ByteReader): Begin {
  const head = { handle: r.u32(), epoch: r.u32(), chunk: r.u32() };
  const facts = readSnapshotFacts(r);
  const { sequence } = facts.position;
  // Nothing could be appended behind it, nor its space be in any state.
  if (sequence > SNAPSHOT_SEQUENCE_MAX) {
    throw failure('ProtocolViolation', `a snapshot of a space up to entry ${sequence}`);
  }
  return { kind: 'snapshot-begin', ...head, facts };
}

/** Whether a frame is one of these. */
export function isSnapshotFrame(frame: { readonly kind: string }): frame is SnapshotFrame {
  return frame.kind.startsWith('snapshot-');
}
