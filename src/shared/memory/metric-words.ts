/** Which counters and histograms a node and each of its shippers keep in shared memory. */

import type { Slot } from '../position.js';
import { allocateCounters, type HistogramLayout, histogramCounters } from './counter-words.js';
import { LOSS_CAUSES } from './loss-cause.js';

const TIME_BOUNDS_MS = [
  0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000,
];
const ENTRY_BOUNDS = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000];
const BYTE_BOUNDS = [
  256, 1_024, 4_096, 16_384, 65_536, 131_072, 262_144, 524_288, 1_048_576, 2_097_152,
];
/** Sums of times in whole microseconds. */
const MICROS = 1_000;

/** Added to by the main thread alone. */
export const NODE_COUNTER = { writes: 0, bytesWritten: 1, groups: 2, fsyncs: 3 } as const;
const NODE_SINGLE = 4;

export const FSYNC_MS: HistogramLayout = {
  first: NODE_SINGLE,
  bounds: TIME_BOUNDS_MS,
  scale: MICROS,
};
export const FSYNC_WAIT_MS: HistogramLayout = {
  first: FSYNC_MS.first + histogramCounters(TIME_BOUNDS_MS),
  bounds: TIME_BOUNDS_MS,
  scale: MICROS,
};
export const APPEND_MS: HistogramLayout = {
  first: FSYNC_WAIT_MS.first + histogramCounters(TIME_BOUNDS_MS),
  bounds: TIME_BOUNDS_MS,
  scale: MICROS,
};
export const ROOM_WAIT_MS: HistogramLayout = {
  first: APPEND_MS.first + histogramCounters(TIME_BOUNDS_MS),
  bounds: TIME_BOUNDS_MS,
  scale: MICROS,
};
export const GROUP_ENTRIES: HistogramLayout = {
  first: ROOM_WAIT_MS.first + histogramCounters(TIME_BOUNDS_MS),
  bounds: ENTRY_BOUNDS,
  scale: 1,
};
const NODE_COUNTERS = GROUP_ENTRIES.first + histogramCounters(ENTRY_BOUNDS);

/** Added to by the shipper of one replica alone. */
export const SHIPPER_COUNTER = {
  batchesSent: 0,
  batchesAcked: 1,
  batchesFailed: 2,
  entriesSent: 3,
  entriesAcked: 4,
  entriesReplayed: 5,
  bytesSent: 6,
  bytesReceived: 7,
} as const;
const SHIPPER_SINGLE = 8;
/** One for each of LOSS_CAUSES. */
export const LINKS_LOST_FIRST = SHIPPER_SINGLE;
export const BATCH_BYTES: HistogramLayout = {
  first: LINKS_LOST_FIRST + LOSS_CAUSES.length,
  bounds: BYTE_BOUNDS,
  scale: 1,
};
/** So many spaces of a node, by slot, have series of their own about what is shipped of them. */
export const SPACE_SERIES_MAX = 1_000;
const SPACE_SHIPPED_FIRST = BATCH_BYTES.first + histogramCounters(BYTE_BOUNDS);
const SHIPPER_COUNTERS = SPACE_SHIPPED_FIRST + 2 * SPACE_SERIES_MAX;

/** Of one space: its batches, and behind it their bytes. @param slot 1 to SPACE_SERIES_MAX */
export function spaceShipped(slot: Slot): number {
  return SPACE_SHIPPED_FIRST + 2 * (slot - 1);
}

export function allocateNodeCounters(): SharedArrayBuffer {
  return allocateCounters(NODE_COUNTERS);
}

/** Kept by main: a shipper thread that dies takes nothing with it. */
export function allocateShipperCounters(): SharedArrayBuffer {
  return allocateCounters(SHIPPER_COUNTERS);
}
