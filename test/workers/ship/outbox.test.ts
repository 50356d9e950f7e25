/** What goes out when: by what the socket, the throttle and the log say. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { failure } from '#src/shared/errors.js';
import { allocateMemory, NodeMemory } from '#src/shared/memory/slab.js';
import { idOf } from '#src/shared/names.js';
import type { FrameBuilder } from '#src/shared/wire/batches/frame-builder.js';
import type { ByteSocket } from '#src/shared/wire/byte-socket.js';
import type { BatchSource, Filled } from '#src/workers/ship/batch-source.js';
import type { CatchUp } from '#src/workers/ship/catch-up.js';
import type { CountedSender } from '#src/workers/ship/counted-sender.js';
import { Outbox } from '#src/workers/ship/outbox.js';

const DELAY_MS = 10;
const ENTRY = new Uint8Array(100);

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** An outbox over a log that says what it is told to. */
function outbox(state: 'streaming' | 'catching-up', fills: (() => Filled)[]) {
  const told: string[] = [];
  let [readMs, sequence] = [0, 0];
  const memory = new NodeMemory(allocateMemory(4_096, 0, 1));
  const source = {
    cursor: 0,
    clear: () => undefined,
    pending: () => false,
    takeReplayed: () => 0,
    fill: (frame: FrameBuilder): Filled => {
      frame.begin(1, [1, 2, 3, 4], 1, ++sequence);
      frame.add(ENTRY, 1);
      source.cursor = memory.durableLsn;
      return fills.shift()!();
    },
  };
  const sender = {
    ...{ state, isOpen: true, hasWindow: true, frameBytes: 4_096 },
    readDelayMs: (nowMs: number) => Math.max(0, readMs - nowMs),
    bytesRead: (_: number, nowMs: number) => {
      readMs = nowMs + DELAY_MS;
    },
    replayed: () => undefined,
    batchesSent: () => told.push('sent'),
  };
  const catchUp = { isLoading: false, load: () => told.push('load') };
  const outbox = new Outbox(
    memory,
    sender as unknown as CountedSender,
    source as unknown as BatchSource,
    catchUp as unknown as CatchUp,
    { batchEntries: 100, batchDelayMs: DELAY_MS },
    {
      step: ({ kind }) => kind !== 'wrote' && told.push(kind),
      lost: (_, code) => told.push(code),
      caughtUp: () => undefined,
      eager: () => undefined,
    },
  );
  outbox.open({ write: () => true } as unknown as ByteSocket, 4_096, idOf('a'), undefined, false);
  outbox.joinAt(0);
  return { outbox, told, memory };
}

const damaged = (): Filled => {
  throw failure('CorruptionDetected', 'rot');
};

test('what the throttle has held back, and is damaged, ends the link as anything else', () => {
  const { outbox: box, told } = outbox('catching-up', [() => 'full', damaged]);
  box.pump();
  expect(told).toEqual(['sent']);
  vi.advanceTimersByTime(2 * DELAY_MS);
  expect(told).toEqual(['sent', 'CorruptionDetected']);
});

test('what waits for company goes out when it has waited; the log is read on at once', () => {
  const { outbox: box, told, memory } = outbox('streaming', [() => 'caught-up', () => 'disk']);
  memory.publishDurable(100);
  box.pump();
  memory.publishDurable(200);
  box.pump();
  expect(told).toEqual(['sent', 'caught-up']);
  vi.advanceTimersByTime(DELAY_MS);
  expect(told).toEqual(['sent', 'caught-up', 'sent', 'load']);
});

test('a pump goes no farther where nothing has come, and goes on where something has', () => {
  const { outbox: box, told, memory } = outbox('streaming', [() => 'caught-up', () => 'caught-up']);
  memory.publishDurable(100);
  box.pump();
  box.pump();
  vi.advanceTimersByTime(10 * DELAY_MS);
  expect(told).toEqual(['sent', 'caught-up']);
  // A space is streamed whose next entry stands before it.
  box.joinAt(50);
  box.pump();
  vi.advanceTimersByTime(DELAY_MS);
  expect(told).toEqual(['sent', 'caught-up', 'sent', 'caught-up']);
});

test('what ends at the end is caught up, though the disk was asked and nothing has come', () => {
  const fills = (['caught-up', 'disk', 'caught-up'] as const).map((filled) => () => filled);
  const { outbox: box, told, memory } = outbox('streaming', fills);
  memory.publishDurable(100);
  box.pump();
  // A space goes on far before it; main has sought, and nobody lacks anything there.
  box.joinAt(50);
  box.pump();
  vi.advanceTimersByTime(DELAY_MS);
  box.pump();
  vi.advanceTimersByTime(DELAY_MS);
  const once = ['sent', 'caught-up'];
  expect(told).toEqual([...once, 'sent', 'load', ...once]);
});
