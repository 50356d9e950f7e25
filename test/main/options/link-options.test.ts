/** Times, counts and sizes of links that a host may set: each has the effect that it names. */
import fs from 'node:fs';
import { expect, test } from 'vitest';
import { readOptions } from '#src/main/options/config.js';
import type { FrameBuilder } from '#src/shared/wire/batches/frame-builder.js';
import { Outbox } from '#src/workers/ship/outbox.js';
import { at, EachTest, heard, until } from '../../support/cluster.js';
import { freePort } from '../../support/etcd.js';
import { TcpProxy } from '../../support/tcp-proxy.js';

const each = new EachTest();
const LISTEN = { host: '127.0.0.1', port: 0 };

async function proxied(port: number): Promise<TcpProxy> {
  const proxy = new TcpProxy(port);
  await proxy.listen();
  each.finally(() => proxy.close());
  return proxy;
}

/** When the system probes the connections to this port on our side, in ms from now. */
function probesIn(port: number): number[] {
  const hex = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const rows = fs.readFileSync('/proc/net/tcp', 'utf8').split('\n').slice(1);
  const fields = rows.map((row) => row.trim().split(/\s+/));
  const own = fields.filter((f) => f[3] === '01' && (f[1]!.endsWith(hex) || f[2]!.endsWith(hex)));
  // Timer 02 is that of keepalive, in hundredths of a second.
  const timers = own.map((f) => f[5]!).filter((timer) => timer.startsWith('02:'));
  return timers.map((timer) => 10 * Number.parseInt(timer.slice(3), 16));
}

test('readTimeoutMs: each end gives up by its own; a beat a second is enough', async () => {
  const readTimeoutMs = 3_000;
  const b = await each.start('b', { listen: LISTEN, readTimeoutMs });
  const proxy = await proxied(b.address!.port);
  const a = await each.start('a', { replicas: [at('b', proxy.port)], readTimeoutMs });
  const c = await each.start('c', { replicas: [at('b', b.address!.port)] });
  for (const node of [a, c]) {
    const space = await node.openSpace(node.nodeId);
    await space.append(1, new Uint8Array(1), { ack: { replicas: 1 } });
  }
  const told = { a: heard(a, 'replica-state'), b: heard(b, 'primary-connection') };
  const quiet = heard(c, 'replica-state');
  const beganMs = performance.now();
  proxy.stall('forth', 'back');
  await until('both have given up', () => told.a.length > 0 && told.b.length > 0);
  const tookMs = performance.now() - beganMs;
  expect(tookMs).toBeGreaterThan(1_500);
  expect(tookMs).toBeLessThan(8_000);
  const reason = 'nothing received within the read timeout';
  expect(told.a[0]).toMatchObject({ reason });
  expect(told.b[0]).toMatchObject({ primaryId: 'a', connected: false, reason });
  // Beyond a readTimeoutMs of idle time, with an end that has another one.
  expect(quiet).toEqual([]);
});

test('writeTimeoutMs: what the system does not take is given up', async () => {
  const b = await each.start('b', { listen: LISTEN });
  const proxy = await proxied(b.address!.port);
  const replicas = [at('b', proxy.port)];
  const a = await each.start('a', { replicas, writeTimeoutMs: 500, windowBytes: 64 << 20 });
  const space = await a.openSpace('s');
  await space.append(1, new Uint8Array(1), { ack: { replicas: 1 } });
  const states = heard(a, 'replica-state');
  proxy.stall('forth');
  const payloads = Array.from({ length: 64 }, () => new Uint8Array(16_000));
  while (states.length === 0) {
    await space.appendBatch(1, payloads);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await until('it is given up', () => states.some((s) => s.reason.includes('write timeout')));
});

test('keepAliveMs: when the system begins to probe, at both ends', async () => {
  const b = await each.start('b', { listen: LISTEN, keepAliveMs: 30_000 });
  const { port } = b.address!;
  const a = await each.start('a', { replicas: [at('b', port)], keepAliveMs: 60_000 });
  const space = await a.openSpace('s');
  await space.append(1, new Uint8Array(1), { ack: { replicas: 1 } });
  await until('both timers run', () => probesIn(port).length === 2);
  const [first, second] = probesIn(port).sort((x, y) => x - y);
  expect(first).toBeGreaterThan(10_000);
  expect(first).toBeLessThanOrEqual(30_000);
  expect(second).toBeGreaterThan(30_000);
  expect(second).toBeLessThanOrEqual(60_000);
});

test.each([
  1, 5,
])('maxRetries %i: as many failures in a row, and it has failed', async (maxRetries) => {
  const replicas = [at('b', await freePort())];
  const options = { replicas, maxRetries, openConfirmMs: 0, backoffStepsMs: [10] };
  const a = await each.start('a', options);
  const states = heard(a, 'replica-state');
  await a.openSpace('s');
  const failed = () => states.filter(({ state }) => state === 'failed');
  await until('it has failed', () => failed().length > 0);
  const { consecutiveFailures, reason, fatal } = failed()[0]!;
  expect({ consecutiveFailures, fatal }).toEqual({
    consecutiveFailures: maxRetries,
    fatal: undefined,
  });
  expect(reason).toMatch(/^MaxRetriesExceeded: \d failures? in a row, the last: .*ECONNREFUSED/);
  const waiting = states.filter(({ state }) => state === 'waiting');
  expect(waiting.every((s) => s.consecutiveFailures < maxRetries)).toBe(true);
  await until('its status says so', () => a.space('s').status().replicas[0]!.status === 'failed');
});

/** An outbox whose socket has taken a first frame and is busy with it from then on. */
function busyOutbox(triggers: { batchEntries: number; batchDelayMs: number }) {
  const frames: number[] = [];
  const asked: number[] = [];
  let entries = 1;
  const memory = { durableLsn: 64 };
  const source = {
    cursor: 0,
    clear: () => undefined,
    takeReplayed: () => 0,
    pending: (enough: number) => {
      asked.push(enough);
      return entries >= enough;
    },
    fill: (frame: FrameBuilder) => {
      if (entries > 0) {
        frame.begin(1, [0, 0, 0, 0], 1, 1);
        frame.add(new Uint8Array(64 * entries), entries);
        frame.end();
      }
      entries = 0;
      source.cursor = memory.durableLsn;
      return 'caught-up';
    },
  };
  const sender = {
    ...{ isOpen: true, hasWindow: true, state: 'streaming', frameBytes: 64_000 },
    ...{ readDelayMs: () => 0, replayed: () => undefined, batchesSent: () => undefined },
  };
  const ignore = () => undefined;
  const hooks = { step: ignore, lost: ignore, caughtUp: ignore, eager: ignore };
  const rest = [sender, source, { isLoading: false }, triggers, hooks];
  const outbox = new Outbox(
    ...([memory, ...rest] as never as ConstructorParameters<typeof Outbox>),
  );
  const socket = { write: (bytes: Uint8Array) => frames.push(bytes.length) };
  outbox.open(socket as never, 64_000, '0'.repeat(32), undefined, false);
  outbox.joinAt(0);
  outbox.pump();
  expect(frames.length).toBe(1);
  return {
    frames,
    asked,
    add: (count: number) => {
      entries += count;
      memory.durableLsn += 64 * count;
      outbox.pump();
    },
  };
}

test('batchEntries: so many entries go out at once although the socket is busy', () => {
  const outbox = busyOutbox({ batchEntries: 7, batchDelayMs: 1_000 });
  for (let n = 0; n < 6; n++) outbox.add(1);
  expect([outbox.frames.length, outbox.asked.at(-1)]).toEqual([1, 7]);
  outbox.add(1);
  expect(outbox.frames.length).toBe(2);
});

test('batchDelayMs: fewer go out after this time', async () => {
  const outbox = busyOutbox({ batchEntries: 7, batchDelayMs: 300 });
  const beganMs = performance.now();
  outbox.add(1);
  await until('it goes out', () => outbox.frames.length === 2);
  expect(performance.now() - beganMs).toBeGreaterThan(250);
});

test('defaults, and what is refused', () => {
  const base = { dataDir: 'd', nodeId: 'a', clusterId: 'c' };
  expect(readOptions(base)).toMatchObject({
    ...{ readTimeoutMs: 10_000, writeTimeoutMs: 10_000, keepAliveMs: 10_000 },
    ...{ maxRetries: 3, batchEntries: 100, batchDelayMs: 10 },
  });
  for (const [more, bound] of [
    // Whoever waits less than a few beats would give up peers that live.
    [{ readTimeoutMs: 2_999 }, 'from 3000'],
    [{ writeTimeoutMs: 99 }, 'from 100'],
    [{ keepAliveMs: 999 }, 'from 1000'],
    [{ maxRetries: 0 }, 'from 1'],
    [{ batchEntries: 1_001 }, 'from 1 to 1000'],
    [{ batchDelayMs: -1 }, 'from 0 to 1000'],
  ] as const) {
    expect(() => readOptions({ ...base, ...more })).toThrow(bound);
  }
});
