/** How far the driver of a benchmark at full rate runs ahead of replicas, and how it warms up. */
import { expect, test } from 'vitest';
import { drive, entriesOf, WARM_UP, warmUp } from '../../bench/children/drive.mjs';

const PAYLOAD_BYTES = 960;
const ENTRY_BYTES = 64 + PAYLOAD_BYTES;
const REPLICAS = 2;

/** A space whose replicas have flushed just what somebody has waited for. */
function fakeSpace() {
  let [last, flushed, asked] = [0, 0, 0];
  const ahead: number[] = [];
  return {
    ahead,
    lastSequence: () => last,
    asked: () => asked,
    status: () => ({ lastSequence: last }),
    tryAppend: () => {
      ahead.push(++last - flushed);
      return last;
    },
    flushed: (sequence: number, { replicas }: { replicas: number }) => {
      expect(replicas).toBe(REPLICAS);
      asked++;
      flushed = Math.max(flushed, Math.min(sequence, last));
      return Promise.resolve();
    },
  };
}

const most = (values: readonly number[]): number => values.reduce((a, b) => Math.max(a, b), 0);

test('no replica is more than the lead behind, and nobody waits without need', async () => {
  const space = fakeSpace();
  const last = await drive(space, [new Uint8Array(1)], 10, 40, 60_000, 200, REPLICAS);
  expect(last).toBe(200);
  expect(most(space.ahead)).toBe(40);
  // The first four bursts are within the lead.
  expect(space.asked()).toBe(20 - 4);
});

test('of bursts that are small against the lead several are waited for at once', async () => {
  const space = fakeSpace();
  await drive(space, [new Uint8Array(1)], 1, 64, 60_000, 200, REPLICAS);
  expect(most(space.ahead)).toBe(64);
  expect(space.asked()).toBe(Math.ceil((200 - 64) / (64 / 16 + 1)));
});

test('without a lead nobody waits for replicas', async () => {
  const space = fakeSpace();
  await drive(space, [new Uint8Array(1)], 10, 0, 60_000, 200, REPLICAS);
  expect(space.asked()).toBe(0);
});

test('it warms up in small commits first, and leaves the most to what is measured', async () => {
  const space = fakeSpace();
  const maxBytes = 96 * 1024 * 1024;
  const job = { payloadBytes: PAYLOAD_BYTES, maxBytes, leadBytes: 8 * 1024 * 1024, burst: 1_024 };
  const last = await warmUp(space, [new Uint8Array(PAYLOAD_BYTES)], job, REPLICAS);
  const entries = maxBytes / ENTRY_BYTES;
  const small = space.ahead.slice(0, entries * WARM_UP.share);
  expect(most(small) * ENTRY_BYTES).toBe(WARM_UP.leadBytes);
  expect(most(space.ahead) * ENTRY_BYTES).toBeGreaterThan(WARM_UP.leadBytes);
  expect(most(space.ahead) * ENTRY_BYTES).toBeLessThanOrEqual(job.leadBytes);
  expect(last).toBe(space.lastSequence());
  expect(last).toBeLessThan(entries * (WARM_UP.share + WARM_UP.fullShare) + job.burst);
  expect(entriesOf(job).most).toBe(entries);
});
