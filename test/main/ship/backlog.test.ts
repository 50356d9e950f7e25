/** Lag of what a replica lacked before its primary was opened: by the log, not by the uptime. */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { at, EachTest, until } from '../../support/cluster.js';
import { freePort } from '../../support/etcd.js';

const each = new EachTest();

const SPACES = ['a', 'b', 'c', 'd', 'e'];
const OTHERS = 40;
const BATCH = Array.from({ length: 40 }, () => Buffer.alloc(200));
const BATCH_BYTES = 40 * 264;

test('FAULT-35 what was lacked before the primary was opened is told by the log', async () => {
  const port = await freePort();
  const listen = { host: '127.0.0.1', port };
  const b = await each.start('b', { listen });
  const more = { replicas: [at('b', port)], openConfirmMs: 100, lagPollMs: 200 };
  const before = await each.start('a', more);
  for (const name of SPACES) {
    const space = await before.openSpace(name);
    await space.append(1, Buffer.alloc(10), { ack: { replicas: 1 } });
  }
  await b.close();
  // Old entries of other spaces lie between, which are nobody's lag.
  const lone = await before.openSpace('lone', { replicas: [] });
  for (let n = 0; n < OTHERS; n++) await lone.appendBatch(1, BATCH);
  const sinceMs = performance.now();
  for (const name of SPACES) await before.space(name).appendBatch(1, BATCH);
  await before.close();
  await sleep(1_500);
  // It comes after so slowly that it can be looked at.
  const a = await each.start('a', {
    ...more,
    catchUpBytesPerSecond: 2_000,
    catchUpBatchBytes: 17 * 1024,
  });
  const spaces = await Promise.all(SPACES.map((name) => a.openSpace(name)));
  const pairs = () => spaces.map((space) => space.status().replicas[0]!);
  await each.start('b', { listen });
  await until('all positions are compared', () => pairs().every((p) => p.lagMs !== 'unknown'));
  // The bytes are looked up at the next tick.
  const bytes = (): number => pairs().reduce((sum, pair) => sum + pair.lagBytes, 0);
  const exact = (): number => pairs().reduce((sum, pair) => sum + 264 * pair.lagEntries, 0);
  expect(exact()).toBeGreaterThan(BATCH_BYTES);
  await until('its bytes are known', () => bytes() < 1.05 * exact());
  expect(exact()).toBeGreaterThan(BATCH_BYTES);
  expect(bytes()).toBeGreaterThan(0.95 * exact());
  for (const pair of pairs().filter(({ lagEntries }) => lagEntries > 0)) {
    const exactMs = performance.now() - sinceMs;
    expect(Math.abs((pair.lagMs as number) - exactMs)).toBeLessThan(Math.max(100, 0.05 * exactMs));
  }
});
