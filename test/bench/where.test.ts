/** How `npm run bench -- where` makes steps and shares of what threads have noted. */
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import type { Watched } from '../../bench/processes.js';
import { handedMicros, STEPS, stepsOf } from '../../bench/where/commit.js';
import { type Profile, sharesOf, stageOf } from '../../bench/where/stages.js';

const [WRITE, SYNC, BATCH, ACK] = [1, 2, 3, 4];

function watched(notes: Record<string, number[][]>): Watched {
  const flat = Object.entries(notes).map(([name, values]) => ({
    name: name.replace(/ \d$/, ''),
    values: values.flat(),
  }));
  return { threads: {}, syncs: 1, notes: flat, calls: {}, fromMs: 0, toMs: 1 };
}

const replica = (delayMs: number): Watched =>
  watched({
    'log-writer': [
      [WRITE!, 10, 4 + delayMs],
      [SYNC!, 10, 5 + delayMs],
    ],
    main: [[ACK!, 10, 6 + delayMs]],
  });

const primary = watched({
  'log-writer': [
    [WRITE!, 5, 0.2],
    [SYNC!, 5, 0.9],
    [WRITE!, 10, 1],
    [SYNC!, 10, 2],
  ],
  'shipper-thread 1': [[BATCH!, 10, 3]],
  'shipper-thread 2': [
    [BATCH!, 7, 3.1],
    [BATCH!, 10, 3.5],
  ],
});

test('an entry is followed through the first write, sync, batch and ack that cover it', () => {
  const steps = stepsOf([[8, 0, 2.4, 9]], primary, [replica(0), replica(1)]);
  const micros = STEPS.map((step) => Math.round(steps.get(step)![0]!));
  // Called 0, written 1, durable 2, told 2.4; sent 3.5, written there 5, synced 6, acked 7, 9.
  expect(micros).toEqual([1000, 1000, 400, 1500, 1500, 1000, 1000, 2000]);
});

test('what some thread has not noted is left out', () => {
  const steps = stepsOf([[11, 0, 2.4, 9]], primary, [replica(0), replica(1)]);
  expect(steps.get(STEPS[0])).toEqual([]);
});

test('each batch is held against the fdatasync that covers its last entry', () => {
  expect(handedMicros(primary, 2).map(Math.round)).toEqual([1000, 1100, 1500]);
});

test('shares leave out what waits and what lies outside of the time that was watched', () => {
  const frame = (id: number, functionName: string, url: string) => ({
    id,
    callFrame: { functionName, url },
  });
  const profile: Profile = {
    thread: 'main',
    nodes: [
      frame(1, '(idle)', ''),
      frame(2, 'crc32cTable', 'file:///x/dist/shared/crc.js'),
      frame(3, '(garbage collector)', ''),
    ],
    samples: [2, 1, 2, 3, 3, 2],
    timeDeltas: [500, 1000, 600, 200, 200, 9000],
    startTime: 1_000_000,
  };
  // From 1,000.6 ms on, up to 1,003 ms: the first and the last sample are outside.
  const shares = sharesOf(profile, 1_000.6, 1_003);
  expect(shares.get('sums (CRC32C)')).toBeCloseTo(0.6);
  expect(shares.get('garbage collection')).toBeCloseTo(0.4);
  expect(shares.size).toBe(2);
});

test('every file of the hot path finds a stage of its own', () => {
  const root = path.join(import.meta.dirname, '../..');
  const folders = ['src/main/log/write', 'src/main/follow', 'src/workers/ship', 'src/shared/wire'];
  const rest = folders
    .flatMap((folder) => fs.readdirSync(path.join(root, folder)).map((f) => path.join(folder, f)))
    .filter((file) => file.endsWith('.ts'))
    .map((file) => file.replace('src/', 'file:///x/dist/').replace('.ts', '.js'))
    .filter((url) => stageOf({ functionName: 'f', url }, 'main') === 'the rest of ours');
  expect(rest).toEqual([]);
});
