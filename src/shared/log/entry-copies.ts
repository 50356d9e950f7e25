/**
 * Entries taken out of a window of the log. Who keeps one keeps its own bytes and not the window:
 * small payloads share chunks of a few KiB, others have memory of their own (FAULTS row 93).
 */

import { ENTRY_HEADER_BYTES, PAYLOAD_CHUNK_BYTES } from '../limits.js';
import {
  type Entry,
  readEpoch,
  readPayloadSize,
  readSequence,
  readTimestamp,
  readType,
} from './entry.js';

/** What an entry takes in memory beside its payload, about. */
const ENTRY_OBJECT_BYTES = 256;

export class EntryCopies {
  #chunk = new Uint8Array(0);
  #used = 0;

  /** The entry at `offset` of memory that may be used again, or be much larger. */
  take(bytes: Uint8Array, view: DataView, offset: number): Entry {
    const start = offset + ENTRY_HEADER_BYTES;
    return {
      sequence: readSequence(view, offset),
      epoch: readEpoch(view, offset),
      type: readType(view, offset),
      timestamp: readTimestamp(view, offset),
      payload: this.#copy(bytes.subarray(start, start + readPayloadSize(view, offset))),
    };
  }

  #copy(payload: Uint8Array): Uint8Array {
    const size = payload.length;
    // At most a quarter of a chunk is lost at its end.
    if (4 * size > PAYLOAD_CHUNK_BYTES) return new Uint8Array(payload);
    if (this.#used + size > this.#chunk.length) {
      this.#chunk = new Uint8Array(PAYLOAD_CHUNK_BYTES);
      this.#used = 0;
    }
    const copy = this.#chunk.subarray(this.#used, this.#used + size);
    copy.set(payload);
    this.#used += size;
    return copy;
  }
}

/** About how much memory these entries take. */
export function entriesBytes(entries: readonly Entry[]): number {
  let bytes = 0;
  for (const { payload } of entries) bytes += payload.length + ENTRY_OBJECT_BYTES;
  return bytes;
}
