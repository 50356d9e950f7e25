import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { idWords } from '#src/shared/bytes.js';
import {
  ENTRY_HEADER_BYTES,
  FRAME_HEADER_BYTES,
  FRAME_SMALLEST_BYTES,
} from '#src/shared/limits.js';
import { stageHeader } from '#src/shared/log/entry.js';
import type { Voided } from '#src/shared/log/rewind.js';
import { Sealer } from '#src/shared/log/seal.js';
import {
  allocateMemory,
  NodeMemory,
  RUN_BYTES,
  RUN_COUNT,
  RUN_FIELDS,
  RUN_FIRST,
  RUN_OFFSET,
  RUN_SLOT,
} from '#src/shared/memory/slab.js';
import { idOf } from '#src/shared/names.js';
import { checkBatchEntries, decodeBatch, FEATURE_MIXED } from '#src/shared/wire/batch.js';
import { FrameBuilder, PART_FIELDS } from '#src/shared/wire/batches/frame-builder.js';
import { BatchRuns } from '#src/shared/wire/batches/mixed-batch.js';
import { BatchSource } from '#src/workers/ship/batch-source.js';
import type { SegmentReader } from '#src/workers/ship/segment-reader.js';

const ID = '0123456789abcdef0123456789abcdef';
const ENTRIES = 3_000;
const MAX_ENTRY_BYTES = 1_024;

/** A group in which each space has one run, sealed where it stands. */
function sealed(
  memory: NodeMemory,
  slab: number,
  runs: number,
  bytes: number,
  start: number,
): void {
  const places = { staging: slab, target: slab, startLsn: start, durableLsn: start };
  memory.ship();
  expect(new Sealer(memory).seal({ ...places, runs, bytes, salt: 1 })).toBe(runs);
}

/** One run of entries of all sizes below `most`. @returns its bytes */
function fillSlab(memory: NodeMemory, count: number, most = 600): number {
  const { bytes, view, runs } = memory.slabs[0]!;
  let at = 0;
  for (let sequence = 1; sequence <= count; sequence++) {
    const size = (sequence * 7) % most;
    bytes.fill(sequence, at + ENTRY_HEADER_BYTES, at + ENTRY_HEADER_BYTES + size);
    stageHeader(view, at, sequence, 0, 0, 1, size, 1);
    at += ENTRY_HEADER_BYTES + size;
  }
  runs[RUN_SLOT] = 1;
  runs[RUN_FIRST] = 1;
  runs[RUN_COUNT] = count;
  runs[RUN_OFFSET] = 0;
  runs[RUN_BYTES] = at;
  memory.setSpace(1, idWords(ID), 1, 0);
  sealed(memory, 0, 1, at, 0);
  return at;
}

/** Sequences of the batches in a frame, each checked as a replica checks it. */
function sequencesIn(frame: Uint8Array): number[] {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  const found: number[] = [];
  for (let at = FRAME_HEADER_BYTES; at < frame.length; ) {
    const end = at + 4 + view.getUint32(at, true);
    const batch = decodeBatch(frame, view, at + 4, end);
    checkBatchEntries(frame, view, at + 4, batch, MAX_ENTRY_BYTES);
    for (let n = 0; n < batch.entryCount; n++) found.push(batch.startSequence + n);
    at = end;
  }
  return found;
}

test('a group in many small frames: each entry once, and none is walked over again', () => {
  const memory = new NodeMemory(allocateMemory(2 << 20, 8 << 20, 4));
  const slab = memory.slabs[0]!;
  const bytes = fillSlab(memory, ENTRIES);
  memory.withdrawSlab(0);
  memory.publishSlab(0, { previousEnd: 0, start: 0, bytes, entries: ENTRIES, runs: 1 });
  memory.publishDurable(bytes);
  const source = new BatchSource(memory, {} as SegmentReader, MAX_ENTRY_BYTES);
  source.add({ slot: 1, id: ID, words: idWords(ID), epoch: 1, voided: [], next: 1 });
  const frame = new FrameBuilder(FRAME_SMALLEST_BYTES, ID);
  const reads = vi.spyOn(slab.view, 'getUint32');

  const found: number[] = [];
  let filled: string;
  do {
    frame.reset(FRAME_SMALLEST_BYTES, undefined);
    filled = source.fill(frame);
    found.push(...sequencesIn(frame.finish()));
  } while (filled === 'full');

  expect(filled).toBe('caught-up');
  expect(found).toEqual(Array.from({ length: ENTRIES }, (_, n) => n + 1));
  expect(reads.mock.calls.length).toBeLessThan(2 * ENTRIES);
});

/** As many frames as it takes. @returns their batches, and what of the slab was looked at */
function frames(memory: NodeMemory, limit: number, next = 1) {
  const source = new BatchSource(memory, {} as SegmentReader, MAX_ENTRY_BYTES);
  source.add({ slot: 1, id: ID, words: idWords(ID), epoch: 1, voided: [], next });
  const reads = vi.spyOn(memory.slabs[0]!.view, 'getUint32');
  const found: Uint8Array[] = [];
  let filled: string;
  do {
    const frame = new FrameBuilder(2 << 20, ID);
    frame.reset(limit);
    filled = source.fill(frame);
    found.push(frame.finish());
  } while (filled === 'full');
  const looked = reads.mock.calls.length;
  reads.mockRestore();
  return { found, looked };
}

describe('what the seal has summed', () => {
  const whole = (most?: number): NodeMemory => {
    const memory = new NodeMemory(allocateMemory(2 << 20, 8 << 20, 4));
    const bytes = fillSlab(memory, ENTRIES, most);
    memory.withdrawSlab(0);
    memory.publishSlab(0, { previousEnd: 0, start: 0, bytes, entries: ENTRIES, runs: 1 });
    memory.publishDurable(bytes);
    return memory;
  };

  test.each([
    ['all of it at once', 2 << 20, 1],
    ['in frames of some parts', 300_000, 1],
    ['in frames that have room for no part', 70_000, 1],
    ['from the middle on', 2 << 20, 1_234],
    ['from the middle on, in frames', 300_000, 2_999],
  ])('%s: each batch is right, in whole parts where it may be', (_, limit, next) => {
    const memory = whole();
    const { found, looked } = frames(memory, limit, next);
    const wanted = Array.from({ length: ENTRIES - next + 1 }, (_, n) => next + n);
    expect(found.flatMap(sequencesIn)).toEqual(wanted);
    // What stands before, and the rest of the part in which it begins.
    if (limit > 200_000) expect(looked).toBeLessThan(next + 300);
  });

  test('full batches go out as they are', () => {
    const { found, looked } = frames(whole(50), 2 << 20);
    expect(found.flatMap(sequencesIn).length).toBe(ENTRIES);
    expect(looked).toBeLessThan(30);
  });

  test('damage of the slab behind it is found by whoever takes the batch', () => {
    for (const at of [4, 30, 33, 40, 57, 62, ENTRY_HEADER_BYTES + 1]) {
      const memory = whole();
      memory.slabs[0]!.bytes[ENTRY_HEADER_BYTES + at]! ^= 1;
      const { found } = frames(memory, 2 << 20);
      expect(() => sequencesIn(found[0]!)).toThrow('ChecksumMismatch');
    }
  });
});

/** Entries of one space as a group has them. */
interface Run {
  readonly slot: number;
  readonly first: number;
  readonly count: number;
  readonly epoch: number;
  /** Of its first entry, where that is another one. */
  readonly firstEpoch?: number;
}

/** Each entry has 10 bytes of payload. */
const BYTES = ENTRY_HEADER_BYTES + 10;
const SPACES = 6;

/** A published group of these runs. @returns what ships it, with a stream of each space but 0 */
function shipping(
  groups: readonly (readonly Run[])[],
  next: (slot: number) => number,
  spaces = SPACES,
) {
  const epoch = 2;
  const memory = new NodeMemory(allocateMemory(2 << 20, 8 << 20, spaces));
  let start = 0;
  for (const [index, group] of groups.entries()) {
    const { view, runs } = memory.slabs[index]!;
    memory.withdrawSlab(index);
    let at = 0;
    for (const [i, run] of group.entries()) {
      const row = i * RUN_FIELDS;
      runs[row + RUN_SLOT] = run.slot;
      runs[row + RUN_FIRST] = run.first;
      runs[row + RUN_COUNT] = run.count;
      runs[row + RUN_OFFSET] = at;
      runs[row + RUN_BYTES] = run.count * BYTES;
      for (let n = 0; n < run.count; n++, at += BYTES) {
        const epoch = n === 0 ? (run.firstEpoch ?? run.epoch) : run.epoch;
        stageHeader(view, at, run.first + n, 0, 0, 1, 10, epoch);
      }
      memory.setSpace(run.slot, idWords(idOf(`${run.slot}`)), 1, 0);
    }
    sealed(memory, index, group.length, at, start);
    const entries = group.reduce((sum, { count }) => sum + count, 0);
    const place = { previousEnd: start, start, bytes: at, entries, runs: group.length };
    memory.publishSlab(index, place);
    start += at;
  }
  memory.publishDurable(start);
  const source = new BatchSource(memory, {} as SegmentReader, MAX_ENTRY_BYTES);
  const stream = (slot: number, voided: readonly Voided[] = []) => {
    const id = idOf(`${slot}`);
    source.add({ slot, id, words: idWords(id), epoch, voided, next: next(slot) });
  };
  for (let slot = 1; slot < spaces; slot++) stream(slot);
  return { memory, source, stream };
}

/** The batches of frames: `2:5-7` for entries of one space, several of them in a mixed one. */
function shipped(source: BatchSource, limit = 1 << 20, mixes = true): string[] {
  const frame = new FrameBuilder(1 << 20, ID);
  const found: string[] = [];
  const terms = { features: mixes ? FEATURE_MIXED : 0, maxBytes: 0 };
  for (let filled = 'full'; filled === 'full'; ) {
    frame.reset(limit, undefined, mixes);
    filled = source.fill(frame);
    const bytes = frame.finish();
    expect(bytes.length).toBeLessThanOrEqual(Math.max(limit, BYTES + 100));
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const told: string[] = [];
    for (let at = FRAME_HEADER_BYTES; at < bytes.length; ) {
      const end = at + 4 + view.getUint32(at, true);
      const batch = decodeBatch(bytes, view, at + 4, end, terms);
      const { isMixed, entryCount: count, startSequence: first, spaceId } = batch;
      if (!isMixed) {
        checkBatchEntries(bytes, view, at + 4, batch, MAX_ENTRY_BYTES);
        told.push(`${slotOf(spaceId)}:${first}-${first + count - 1}`);
      } else {
        const runs = new BatchRuns(bytes, view, at + 68, end, count, MAX_ENTRY_BYTES);
        const texts: string[] = [];
        while (runs.next()) {
          expect(runs.epoch).toBe(2);
          const last = runs.startSequence + runs.entryCount - 1;
          texts.push(`${slotOf(runs.spaceId)}:${runs.startSequence}-${last}`);
        }
        told.push(texts.join(' '));
      }
      at = end;
    }
    // What the sender is told of the frame is what stands in it.
    const parts: string[] = [];
    for (let i = 0; i < frame.parts.length; i += PART_FIELDS) {
      parts.push(`${frame.parts[i]}:${frame.parts[i + 1]}`);
    }
    const ends = told.flatMap((t) => t.split(' ')).map((t) => t.replace(/:\d+-/, ':'));
    expect(parts).toEqual(ends);
    found.push(...told);
  }
  return found;
}

const SLOTS = new Map<string, number>();

function slotOf(id: string): number {
  for (let slot = SLOTS.size; slot < 2_000 && !SLOTS.has(id); slot++) {
    SLOTS.set(idOf(`${slot}`), slot);
  }
  return SLOTS.get(id)!;
}

function runOf(slot: number, first: number, count = 1, epoch = 2): Run {
  return { slot, first, count, epoch };
}

describe('a group of several spaces', () => {
  const GROUP = [runOf(1, 1, 2), runOf(2, 7), runOf(0, 1), runOf(3, 4, 3), runOf(4, 1)];
  const next = (slot: number) => GROUP.find((run) => run.slot === slot)?.first ?? 1;

  test('goes out as one batch, without what is not streamed', () => {
    expect(shipped(shipping([GROUP], next).source)).toEqual(['1:1-2 2:7-7 3:4-6 4:1-1']);
  });

  test('to a replica that takes none goes out space by space', () => {
    const { source } = shipping([GROUP], next);
    expect(shipped(source, 1 << 20, false)).toEqual(['1:1-2', '2:7-7', '3:4-6', '4:1-1']);
  });

  test('older epochs, and what is here in part, have batches of their own', () => {
    const old = [runOf(1, 1), runOf(2, 1), runOf(3, 1, 2, 1), runOf(4, 1, 4), runOf(5, 1)];
    const { source } = shipping([old], (slot) => (slot === 4 ? 3 : 1));
    expect(shipped(source)).toEqual(['1:1-1 2:1-1', '3:1-2', '4:3-4 5:1-1']);
  });

  test('a run that begins in an older epoch joins none', () => {
    const group = [runOf(1, 1), { ...runOf(2, 1, 2), firstEpoch: 1 }, runOf(3, 1)];
    expect(shipped(shipping([group], () => 1).source)).toEqual(['1:1-1', '2:1-2', '3:1-1']);
  });

  test('groups behind each other: what goes on is joined in each of them', () => {
    const groups = [
      [runOf(1, 1), runOf(2, 1, 2), runOf(3, 1)],
      [runOf(1, 2), runOf(2, 3), runOf(3, 2)],
    ];
    const all = ['1:1-1 2:1-2 3:1-1', '1:2-2 2:3-3 3:2-2'];
    expect(shipped(shipping(groups, () => 1).source)).toEqual(all);
  });

  test('an entry that a rewind has voided travels in none of them', () => {
    const { source, stream } = shipping([[runOf(1, 1), runOf(2, 1, 3), runOf(3, 1)]], () => 1);
    stream(2, [{ first: 2, lsn: 1_000_000 }]);
    expect(shipped(source)).toEqual(['1:1-1', '2:1-1', '3:1-1']);
  });

  test('long runs have batches of their own, a batch its most entries, a frame its limit', () => {
    const group = [runOf(1, 1, 16), runOf(2, 1, 17), runOf(3, 1), runOf(4, 1, 1_200), runOf(5, 1)];
    const all = ['1:1-16', '2:1-17', '3:1-1', '4:1-1000', '4:1001-1200', '5:1-1'];
    expect(shipped(shipping([group], () => 1).source)).toEqual(all);
    const many = Array.from({ length: 1_003 }, (_, n) => runOf(1 + n, 1));
    const { source } = shipping([many], () => 1, 1_004);
    expect(shipped(source).map((t) => t.split(' ').length)).toEqual([1_000, 3]);
    expect([...source.streams.values()].filter(({ next }) => next !== 2)).toEqual([]);
    const few = [runOf(1, 1), runOf(2, 1), runOf(3, 1, 2), runOf(4, 1), runOf(5, 1)];
    const limit = FRAME_HEADER_BYTES + 68 + 3 * BYTES;
    expect(shipped(shipping([few], () => 1).source, limit)).toEqual([
      '1:1-1 2:1-1',
      '3:1-2 4:1-1',
      '5:1-1',
    ]);
  });

  test('a slab that is taken away meanwhile: nothing of what was read goes out', () => {
    const { source, memory } = shipping([GROUP, [runOf(5, 1)]], next);
    const isUnchanged = vi.spyOn(memory, 'isUnchanged');
    // The descriptor is read, then the slab is overwritten while it is copied.
    isUnchanged.mockReturnValueOnce(true).mockImplementationOnce((index) => {
      memory.withdrawSlab(index);
      return false;
    });
    const frame = new FrameBuilder(1 << 20, ID);
    frame.reset(1 << 20, undefined, true);
    const disk = { resolve: () => undefined } as unknown as SegmentReader;
    const again = new BatchSource(memory, disk, MAX_ENTRY_BYTES);
    for (const stream of source.streams.values()) again.add(stream);
    expect(again.fill(frame)).toBe('disk');
    expect([frame.isEmpty, frame.parts.length]).toEqual([true, 0]);
    expect([...again.streams.values()].map((s) => s.next)).toEqual([1, 7, 4, 1, 1]);
  });

  test('whatever stands in groups: each entry that is wanted, once, in its order', () => {
    const run = fc.tuple(fc.nat(SPACES - 1), fc.integer({ min: 1, max: 5 }), fc.boolean());
    const groups = fc.array(fc.array(run, { minLength: 1, maxLength: 12 }), { maxLength: 3 });
    const had = fc.array(fc.nat(6), { minLength: SPACES, maxLength: SPACES });
    const limit = fc.integer({ min: 150, max: 3_000 });
    fc.assert(
      fc.property(groups, had, limit, fc.boolean(), (made, has, most, mixes) => {
        const last = new Array<number>(SPACES).fill(0);
        const isNow = new Array<boolean>(SPACES).fill(false);
        const laid = made.map((group) => {
          // Sealed, each space has one run in a group; its epochs never fall.
          const seen = new Set<number>();
          return group.flatMap(([slot, count, now]) => {
            if (seen.has(slot)) return [];
            seen.add(slot);
            isNow[slot] ||= now;
            const first = last[slot]! + 1;
            last[slot]! += count;
            return [runOf(slot, first, count, isNow[slot] ? 2 : 1)];
          });
        });
        const found = shipped(shipping(laid, (slot) => has[slot]! + 1).source, most, mixes);
        const wanted: string[] = [];
        for (const { slot, first, count } of laid.flat()) {
          for (let n = first; n < first + count; n++) {
            if (slot > 0 && n > has[slot]!) wanted.push(`${slot}:${n}`);
          }
        }
        const came = found
          .flatMap((text) => text.split(' '))
          .flatMap((text) => {
            const [slot, from, to] = text.split(/[:-]/).map(Number);
            return Array.from({ length: to! - from! + 1 }, (_, i) => `${slot}:${from! + i}`);
          });
        expect(came).toEqual(wanted);
        if (!mixes) expect(found.every((text) => !text.includes(' '))).toBe(true);
      }),
      { numRuns: 500 },
    );
  });
});

describe('entries of several spaces out of a segment', () => {
  /** The same groups, whose slabs are gone: they are read from the segment, one by one. */
  function fromSegment(group: readonly Run[]): BatchSource {
    const { memory, source } = shipping([group], () => 1);
    const { bytes, view } = memory.slabs[0]!;
    const sizeAt = (lsn: number) => (lsn < memory.durableLsn ? BYTES : 0);
    const same = (lsn: number) => lsn;
    vi.spyOn(memory, 'groupAt').mockReturnValue(undefined);
    const window = { bytes, view, resolve: same, offsetOf: same, sizeAt };
    const reader = window as unknown as SegmentReader;
    const read = new BatchSource(memory, reader, MAX_ENTRY_BYTES);
    for (const stream of source.streams.values()) read.add(stream);
    return read;
  }

  test('go out as one batch; older epochs have batches of their own', () => {
    const group = [runOf(1, 1), runOf(2, 1), runOf(3, 1, 2, 1), runOf(4, 1), runOf(5, 1)];
    expect(shipped(fromSegment(group))).toEqual(['1:1-1 2:1-1', '3:1-2', '4:1-1 5:1-1']);
    const other = [runOf(1, 1, 1, 1), runOf(2, 1)];
    expect(shipped(fromSegment(other))).toEqual(['1:1-1', '2:1-1']);
  });

  test('what goes on in one space is one batch, up to its most entries', () => {
    const group = [runOf(1, 1, 1_200), runOf(2, 1), runOf(1, 1_201, 3), runOf(3, 1, 2)];
    const all = ['1:1-1000', '1:1001-1200', '2:1-1 1:1201-1203 3:1-2'];
    expect(shipped(fromSegment(group))).toEqual(all);
  });

  test('ends where a gap is, a later epoch, or what a rewind has voided', () => {
    const gap = [runOf(1, 1, 2), runOf(1, 4, 2)];
    expect(shipped(fromSegment(gap))).toEqual(['1:1-2']);
    const later = [runOf(1, 1, 2), runOf(1, 3, 2, 3)];
    expect(shipped(fromSegment(later))).toEqual(['1:1-2']);
    const source = fromSegment([runOf(1, 1, 5)]);
    const { slot, id, words, epoch, next } = source.streams.get(1)!;
    source.add({ slot, id, words, epoch, next, voided: [{ first: 3, lsn: 1_000_000 }] });
    expect(shipped(source)).toEqual(['1:1-2']);
  });

  test('fill a frame to its limit, and never beyond', () => {
    const group = [runOf(1, 1), runOf(2, 1), runOf(3, 1)];
    const two = FRAME_HEADER_BYTES + 68 + 2 * BYTES;
    for (const limit of [two, two + BYTES - 1]) {
      expect(shipped(fromSegment(group), limit)).toEqual(['1:1-1 2:1-1', '3:1-1']);
    }
    expect(shipped(fromSegment(group), two + BYTES)).toEqual(['1:1-1 2:1-1 3:1-1']);
    const run = [runOf(1, 1, 5)];
    expect(shipped(fromSegment(run), two)).toEqual(['1:1-2', '1:3-4', '1:5-5']);
    // What begins a batch of its own needs room for its header, too.
    const own = [runOf(1, 1), runOf(2, 1, 1, 1)];
    expect(shipped(fromSegment(own), two + 67)).toEqual(['1:1-1', '2:1-1']);
  });
});

test('a link that is dialled again goes on in the middle of any group', () => {
  let from = 1;
  const groups = [[runOf(1, 1, 50)], [runOf(1, 51, 50)]];
  const { source, stream } = shipping(groups, () => from, 2);
  const frame = new FrameBuilder(1 << 20, ID);
  frame.reset(20 * BYTES);
  expect(source.fill(frame)).toBe('full');
  from = 70;
  source.clear();
  stream(1);
  source.cursor = (from - 1) * BYTES;
  expect(shipped(source)).toEqual(['1:70-100']);
});

test('who goes on farther ahead leaves out nothing that others lack', () => {
  const { source } = shipping([[runOf(1, 1, 3), runOf(2, 1, 3)]], () => 1, 3);
  source.relocate(source.streams.get(2)!, 3, 5 * BYTES);
  expect(shipped(source)).toEqual(['1:1-3', '2:3-3']);
});

test('handles that a replica has made up take no memory', () => {
  const memory = new NodeMemory(allocateMemory(2 << 20, 8 << 20, 4));
  const source = new BatchSource(memory, {} as SegmentReader, MAX_ENTRY_BYTES);
  const before = process.memoryUsage().heapUsed;
  for (let n = 1; n <= 400_000; n++) source.remove(10_000 * n);
  expect(process.memoryUsage().heapUsed - before).toBeLessThan(4 << 20);
  expect(source.streams.size).toBe(0);
});

test('a size that has changed before what is wanted: the segment is read', () => {
  const memory = new NodeMemory(allocateMemory(2 << 20, 8 << 20, 4));
  const { view } = memory.slabs[0]!;
  const bytes = fillSlab(memory, 10);
  memory.withdrawSlab(0);
  memory.publishSlab(0, { previousEnd: 0, start: 0, bytes, entries: 10, runs: 1 });
  memory.publishDurable(bytes);
  let third = 0;
  for (let n = 1; n < 3; n++) third += ENTRY_HEADER_BYTES + view.getUint32(third + 24, true);
  for (const bit of [1, 1 << 16]) {
    const sound = view.getUint32(third + 24, true);
    const filled = [sound, sound ^ bit].map((size) => {
      view.setUint32(third + 24, size, true);
      const reader = { resolve: () => undefined } as unknown as SegmentReader;
      const source = new BatchSource(memory, reader, MAX_ENTRY_BYTES);
      source.add({ slot: 1, id: ID, words: idWords(ID), epoch: 1, voided: [], next: 6 });
      const frame = new FrameBuilder(1 << 20, ID);
      frame.reset(1 << 20, undefined);
      const how = source.fill(frame);
      return [how, sequencesIn(frame.finish()), source.cursor];
    });
    view.setUint32(third + 24, sound, true);
    expect(filled).toEqual([
      ['caught-up', [6, 7, 8, 9, 10], bytes],
      ['disk', [], 0],
    ]);
  }
});

test('a row of another place, read while its slab is filled anew, ends in no error', () => {
  const memory = new NodeMemory(allocateMemory(2 << 20, 8 << 20, 4));
  const { view, runs } = memory.slabs[0]!;
  const bytes = fillSlab(memory, 10);
  memory.withdrawSlab(0);
  memory.publishSlab(0, { previousEnd: 0, start: 0, bytes, entries: 10, runs: 1 });
  memory.publishDurable(bytes);
  runs[RUN_OFFSET] = view.byteLength - 8;
  runs[RUN_BYTES] = 128;
  runs[RUN_FIRST] = 5;
  const reader = { resolve: () => undefined } as unknown as SegmentReader;
  const source = new BatchSource(memory, reader, MAX_ENTRY_BYTES);
  source.add({ slot: 1, id: ID, words: idWords(ID), epoch: 1, voided: [], next: 3 });
  const frame = new FrameBuilder(1 << 20, ID);
  frame.reset(1 << 20, undefined);
  expect(source.fill(frame)).toBe('disk');
});
