import { expect, test } from 'vitest';
import { SegmentReader } from '#src/workers/ship/segment-reader.js';

test('FAULT-98 a segment is closed when what a shipper reads of it has come', async () => {
  const calls: string[] = [];
  let answer!: (bytes: number) => void;
  const file = {
    read: async () => {
      calls.push('read');
      const bytes = await new Promise<number>((resolve) => {
        answer = resolve;
      });
      calls.push('has read');
      return bytes;
    },
    close: async () => void calls.push('closed'),
  };
  const reader = new SegmentReader({ openSegment: async () => file }, '/data', 1, 1_024);
  await reader.enter({ start: 0, size: 4_096, end: undefined, generation: 1 });
  const loaded = reader.load(0, 2_000);
  const closed = reader.close();
  await new Promise((resolve) => setImmediate(resolve));
  // It is less than was asked for, and nothing more is read.
  answer(100);
  await Promise.all([loaded, closed]);
  expect(calls).toEqual(['read', 'has read', 'closed']);
  expect(await loaded).toBe(0);
});
