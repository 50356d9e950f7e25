/** What the main thread and a shipper say to each other. Hot facts travel in shared memory. */

import type { Member } from '../log/node-record.js';
import type { SharedMemory } from '../memory/slab.js';
import type { Epoch, Lsn, Sequence, Slot } from '../position.js';
import type { Compression } from '../wire/compression.js';
import type { SnapshotFrame } from '../wire/snapshot-frames.js';
import type { Credentials } from '../wire/tls/certificates.js';
import type { ShippedRows } from './shipped-rows.js';
import type { VerdictRows } from './verdict-rows.js';

/** What a shipper is started with. */
export interface ShipperStart {
  readonly memory: SharedMemory;
  readonly progress: SharedArrayBuffer;
  /** For metrics; they outlive the thread. */
  readonly counters: SharedArrayBuffer;
  readonly replica: Member;
  /** How many threads there were for this replica, itself included. */
  readonly life: number;
  readonly clusterId: string;
  readonly nodeId: string;
  /** 16 bytes, hex: the primary_node_id of batches. */
  readonly nodeHash: string;
  readonly incarnation: bigint;
  readonly directoryId: string;
  readonly dataDir: string;
  readonly salt: number;
  readonly maxEntryBytes: number;
  readonly windowBytes: number;
  readonly catchUpBatchBytes: number;
  readonly catchUpBytesPerSecond: number;
  readonly connectTimeoutMs: number;
  readonly backoffStepsMs: readonly number[];
  readonly maxRetries: number;
  readonly readTimeoutMs: number;
  readonly writeTimeoutMs: number;
  readonly keepAliveMs: number;
  readonly batchEntries: number;
  readonly batchDelayMs: number;
  /** What batches are compressed with where the replica can undo it. */
  readonly compression: Compression;
  /** As they were when it was started; newer ones come as a message. */
  readonly credentials: Credentials;
}

/** What batches have cost on the wire, frames included. */
export interface Traffic {
  /** Agreed on with the replica, on the newest connection. */
  readonly compression: Compression;
  /** What it would have been without compression, since the shipper was started. */
  readonly rawBytes: number;
  readonly sentBytes: number;
}

/** What a stream lacks first. */
export interface WantedEntry {
  readonly slot: Slot;
  readonly next: Sequence;
}

export interface SegmentPlace {
  readonly start: Lsn;
  readonly size: number;
  /** End of its last entry; undefined for the one that is being written. */
  readonly end: Lsn | undefined;
  /** Another one: its file was replaced since. */
  readonly generation: number;
}

export interface AskedSpace {
  readonly id: string;
  readonly name: string;
}

/** What a replica says of a space that it was asked about. */
export interface AnswerRow {
  readonly id: string;
  /** undefined: there was no link to ask over. */
  readonly answer: { known: boolean; epoch: Epoch; primary: string } | undefined;
}

export type ToShipper =
  | { readonly kind: 'spaces'; readonly spaces: ShippedRows }
  /** This replica gets nothing of the space: for good, or (cut) until it is introduced again. */
  | { readonly kind: 'leave'; readonly slot: Slot; readonly isCut: boolean }
  | { readonly kind: 'verdicts'; readonly connection: number; readonly rows: VerdictRows }
  | { readonly kind: 'segment'; readonly lsn: Lsn; readonly segment: SegmentPlace | undefined }
  /** Nothing that was asked for stands before it. */
  | { readonly kind: 'sought'; readonly lsn: Lsn }
  | {
      readonly kind: 'located';
      readonly connection: number;
      readonly slot: Slot;
      readonly next: Sequence;
      readonly lsn: Lsn;
    }
  /** Whether it knows these spaces: all that one turn asks. */
  | { readonly kind: 'ask'; readonly spaces: readonly AskedSpace[] }
  /** A whole frame, to be sent as it is. */
  | { readonly kind: 'frame'; readonly connection: number; readonly bytes: Uint8Array }
  /** Main could not answer: the link ends with this reason instead of waiting in silence. */
  | {
      readonly kind: 'give-up';
      readonly connection: number;
      readonly reason: string;
      readonly code: string;
    }
  /** Somebody waits for an answer: dial now, and let it not count where that fails. */
  | { readonly kind: 'again' }
  /** The replica has dialled this node, in this life: it can be dialled, most likely. */
  | { readonly kind: 'met'; readonly incarnation: bigint }
  /** For the next connection. */
  | { readonly kind: 'credentials'; readonly credentials: Credentials }
  /** What ended the link is mended: dial now, not when the backoff is over. */
  | { readonly kind: 'retry' }
  | { readonly kind: 'close' };

/** The named state of the link to one replica (DESIGN 7). */
export const LINK_STATES = [
  'connecting',
  'handshake',
  'catching-up',
  'streaming',
  'waiting',
  'failed',
  'closed',
] as const;
export type LinkState = (typeof LINK_STATES)[number];

export interface LinkReport {
  readonly state: LinkState;
  readonly reason: string;
  /** Links lost in a row; 0 while one is open. */
  readonly failures: number;
  /** The code of a fatal error: trying again soon will not help. */
  readonly fatal: string | undefined;
  /** Links that have ended because bytes were changed on the way, since the node was opened. */
  readonly checksumFailures: number;
}

export type FromShipper =
  | ({ readonly kind: 'state' } & LinkReport)
  | { readonly kind: 'traffic'; readonly traffic: Traffic }
  /** The replica has welcomed us. `directoryId`: undefined where it speaks version 1. */
  | {
      readonly kind: 'welcomed';
      readonly connection: number;
      readonly version: number;
      readonly directoryId: string | undefined;
    }
  | {
      readonly kind: 'positions';
      readonly connection: number;
      /** As `packAnswered` has them. */
      readonly rows: Float64Array;
    }
  /** A higher epoch of the space is known there, or another node leads it in this one. */
  | {
      readonly kind: 'fenced';
      readonly slot: Slot;
      readonly epoch: Epoch;
      readonly leader: Member | undefined;
    }
  | { readonly kind: 'segment'; readonly lsn: Lsn }
  /** Where, from `lsn` on, is the first of these entries? */
  | { readonly kind: 'seek'; readonly lsn: Lsn; readonly wanted: readonly WantedEntry[] }
  | { readonly kind: 'snapshot'; readonly connection: number; readonly frame: SnapshotFrame }
  /** The segment it was told last is not read any more. */
  | { readonly kind: 'segment-left' }
  /** The replica wants this space from `next` on (a gap). */
  | {
      readonly kind: 'locate';
      readonly connection: number;
      readonly slot: Slot;
      readonly next: Sequence;
    }
  | { readonly kind: 'answers'; readonly rows: readonly AnswerRow[] };
