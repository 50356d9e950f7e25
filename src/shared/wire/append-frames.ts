/**
 * An append that a member leads to the node that leads the space: the question of a peer call, and
 * its one answer.
 */
import { failure } from '../errors.js';
import type { Epoch, Sequence } from '../position.js';
import type { FrameCodecs } from './frame.js';

export interface AppendAsk {
  /** Of the space, 16 bytes in hex. */
  readonly id: string;
  readonly type: number;
  /** So many replicas are to have flushed it; undefined: as without `ack`. */
  readonly replicas: number | undefined;
  /** false: refuse at once instead of waiting for room. */
  readonly wait: boolean;
  readonly expected:
    | { readonly sequence: Sequence; readonly epoch?: Epoch | undefined }
    | undefined;
  /** What the caller still waits. */
  readonly leftMs: number;
  /** A view: valid as long as its frame is. */
  readonly payload: Uint8Array;
}

export type AppendFrame =
  | ({ readonly kind: 'append-ask' } & AppendAsk)
  | {
      readonly kind: 'appended';
      readonly id: string;
      readonly sequence: Sequence;
      readonly epoch: Epoch;
    }
  | {
      readonly kind: 'append-refused';
      readonly id: string;
      readonly code: string;
      readonly message: string;
      /** Of SequenceConflict: the last entry of a host, and its epoch; else 0. */
      readonly last: Sequence;
      readonly epoch: Epoch;
    };

const HAS_REPLICAS = 1;
const WAITS = 2;
const HAS_EXPECTED = 4;
const HAS_EPOCH = 8;
const ALL = 15;

export const APPEND_CODECS: FrameCodecs<AppendFrame> = {
  'append-ask': {
    code: 49,
    write: (w, { id, type, replicas, wait, expected, leftMs, payload }) => {
      let flags = wait ? WAITS : 0;
      if (replicas !== undefined) flags |= HAS_REPLICAS;
      if (expected) flags |= HAS_EXPECTED;
      if (expected?.epoch !== undefined) flags |= HAS_EPOCH;
      w.id(id)
        .u32(type)
        .u8(flags)
        .u32(replicas ?? 0)
        .u32(leftMs);
      w.u64(expected?.sequence ?? 0)
        .u32(expected?.epoch ?? 0)
        .raw(payload);
    },
    read: (r) => {
      const [id, type, flags] = [r.id(), r.u32(), r.u8()];
      if (flags > ALL) throw failure('ProtocolViolation', `flags ${flags} of an append`);
      const [replicas, leftMs, sequence, epoch] = [r.u32(), r.u32(), r.u64(), r.u32()];
      return {
        kind: 'append-ask',
        id,
        type,
        replicas: (flags & HAS_REPLICAS) === 0 ? undefined : replicas,
        wait: (flags & WAITS) !== 0,
        expected:
          (flags & HAS_EXPECTED) === 0
            ? undefined
            : { sequence, epoch: (flags & HAS_EPOCH) === 0 ? undefined : epoch },
        leftMs,
        payload: r.raw(r.left),
      };
    },
  },
  appended: {
    code: 50,
    write: (w, { id, sequence, epoch }) => w.id(id).u64(sequence).u32(epoch),
    read: (r) => ({ kind: 'appended', id: r.id(), sequence: r.u64(), epoch: r.u32() }),
  },
  'append-refused': {
    code: 51,
    write: (w, f) => w.id(f.id).text(f.code).text(f.message).u64(f.last).u32(f.epoch),
    read: (r) => ({
      kind: 'append-refused',
      id: r.id(),
      code: r.text(),
      message: r.text(),
      last: r.u64(),
      epoch: r.u32(),
    }),
  },
};
