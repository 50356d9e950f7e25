import { expect, test, vi } from 'vitest';
import { idWords } from '#src/shared/bytes.js';
import {
  ENTRY_HEADER_BYTES,
  FRAME_HEADER_BYTES,
  FRAME_SMALLEST_BYTES,
} from '#src/shared/limits.js';
import { sealLocal, stageHeader } from '#src/shared/log/entry.js';
import {
  allocateMemory,
  NodeMemory,
  RUN_BYTES,
  RUN_COUNT,
  RUN_FIRST,
  RUN_OFFSET,
  RUN_SLOT,
  type Slab,
} from '#src/shared/memory/slab.js';
import { checkBatchEntries, decodeBatch } from '#src/shared/wire/batch.js';
import { FrameBuilder } from '#src/shared/wire/frame-builder.js';
import { BatchSource } from '#src/workers/ship/batch-source.js';
import type { SegmentReader } from '#src/workers/ship/segment-reader.js';

const ID = '0123456789abcdef0123456789abcdef';
const ENTRIES = 3_000;
const MAX_ENTRY_BYTES = 1_024;

/** One run of entries of all sizes. @returns its bytes */
function fillSlab({ bytes, view, runs }: Slab, count: number): number {
  let at = 0;
  for (let sequence = 1; sequence <= count; sequence++) {
    const size = (sequence * 7) % 600;
    bytes.fill(sequence, at + ENTRY_HEADER_BYTES, at + ENTRY_HEADER_BYTES + size);
    stageHeader(view, at, sequence, 0, 0, 1, size, 1);
    sealLocal(bytes, view, at, idWords(ID), 1, at, 0);
    at += ENTRY_HEADER_BYTES + size;
  }
  runs[RUN_SLOT] = 1;
  runs[RUN_FIRST] = 1;
  runs[RUN_COUNT] = count;
  runs[RUN_OFFSET] = 0;
  runs[RUN_BYTES] = at;
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
  const bytes = fillSlab(slab, ENTRIES);
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
