/**
 * For one segment: which entries of each space it holds, and at least every 256 KiB of a space's
 * own entries where the next ones stand. For reading and retention only; the log is the truth,
 * and a lost index is built again from it.
 *
 * File: magic "EGWI", format u32, start u64, end u64, spaces u32, then for each space (id, first
 * u64, last u64, points u32, then (sequence u64, lsn u64) each), then CRC32C of all before it.
 */
import { ByteReader, ByteWriter } from './bytes.js';
import { crc32c } from './crc.js';
import { failure } from './errors.js';
import { INDEX_EVERY_BYTES } from './limits.js';
import type { Lsn, Sequence, Slot } from './position.js';

const MAGIC = 0x49574745;
const FORMAT = 1;

interface SpacePoints {
  /** Sequence and LSN, in turn, ascending. */
  readonly points: number[];
  last: Sequence;
  bytesSincePoint: number;
}

export class SegmentIndex {
  readonly #spaces = new Map<Slot, SpacePoints>();

  /**
   * Takes a run of entries of one space, in the order of the log. One that goes back makes void
   * what it had before: for one sequence the later entry counts.
   */
  add(slot: Slot, first: Sequence, count: number, lsn: Lsn, bytes: number): void {
    let space = this.#spaces.get(slot);
    if (!space || first <= space.last) {
      space = { points: [], last: 0, bytesSincePoint: INDEX_EVERY_BYTES };
      this.#spaces.set(slot, space);
    }
    if (space.bytesSincePoint >= INDEX_EVERY_BYTES) {
      space.points.push(first, lsn);
      space.bytesSincePoint = 0;
    }
    space.last = first + count - 1;
    space.bytesSincePoint += bytes;
  }

  /** Entries of the space from `first` on are void. */
  rewind(slot: Slot, first: Sequence): void {
    const space = this.#spaces.get(slot);
    if (!space || space.last < first) return;
    const { points } = space;
    while (points.length > 0 && points[points.length - 2]! >= first) points.length -= 2;
    if (points.length === 0) this.#spaces.delete(slot);
    space.last = first - 1;
    // The next entry stands somewhere else than behind this one.
    space.bytesSincePoint = INDEX_EVERY_BYTES;
  }

  /** The spaces that have entries here. */
  get slots(): IterableIterator<Slot> {
    return this.#spaces.keys();
  }

  /** Sequence and LSN of known places of a space, in turn, ascending. */
  points(slot: Slot): readonly number[] {
    return this.#spaces.get(slot)?.points ?? [];
  }

  first(slot: Slot): Sequence | undefined {
    return this.#spaces.get(slot)?.points[0];
  }

  last(slot: Slot): Sequence | undefined {
    return this.#spaces.get(slot)?.last;
  }

  /** The nearest known LSN at or before `sequence`; undefined when the space begins behind it. */
  find(slot: Slot, sequence: Sequence): Lsn | undefined {
    const points = this.#spaces.get(slot)?.points;
    if (!points || points[0]! > sequence) return undefined;
    let low = 0;
    let high = points.length / 2 - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (points[2 * middle]! <= sequence) low = middle;
      else high = middle - 1;
    }
    return points[2 * low + 1];
  }

  /** @param idOf the space's id; the file outlives slots */
  encode(start: Lsn, end: Lsn, idOf: (slot: Slot) => string): Uint8Array {
    const w = new ByteWriter();
    w.u32(MAGIC).u32(FORMAT).u64(start).u64(end).u32(this.#spaces.size);
    for (const [slot, space] of this.#spaces) {
      w.id(idOf(slot)).u64(space.points[0]!).u64(space.last);
      w.u32(space.points.length / 2);
      for (const value of space.points) w.u64(value);
    }
    return w.u32(crc32c(w.bytes())).bytes();
  }

  /**
   * Reads an index file; rows are read as long as there are bytes. Throws CorruptionDetected.
   * @param slotOf undefined for a space that is not here any more: its row is left out
   */
  static decode(
    bytes: Uint8Array,
    start: Lsn,
    end: Lsn,
    slotOf: (id: string) => Slot | undefined,
  ): SegmentIndex {
    const body = bytes.subarray(0, Math.max(0, bytes.length - 4));
    const crc = new ByteReader(bytes.subarray(body.length), 'CorruptionDetected').u32();
    if (crc !== crc32c(body)) throw bad('its CRC does not fit');
    const r = new ByteReader(body, 'CorruptionDetected');
    if (r.u32() !== MAGIC || r.u32() !== FORMAT) throw bad('another format');
    if (r.u64() !== start || r.u64() !== end) throw bad('another segment');
    const index = new SegmentIndex();
    const count = r.u32();
    for (let i = 0; i < count; i++) {
      const slot = slotOf(r.id());
      const first = r.u64();
      const last = r.u64();
      const points: number[] = [];
      const pointCount = r.u32();
      for (let n = 0; n < 2 * pointCount; n++) points.push(r.u64());
      if (points[0] !== first || last < first) throw bad('a row that contradicts itself');
      if (slot !== undefined) index.#spaces.set(slot, { points, last, bytesSincePoint: 0 });
    }
    r.end();
    return index;
  }
}

function bad(what: string): Error {
  return failure('CorruptionDetected', `a segment index: ${what}`);
}
