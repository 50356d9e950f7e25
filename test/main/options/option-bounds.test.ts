/** Numbers beyond what timers wait and memory holds (row 96), and how a wrong option is named. */
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import type { NodeOptions } from '#src/main/index.js';
import { openNode } from '#src/main/index.js';
import { readOptions } from '#src/main/options/config.js';
import { EachTest, SMALL } from '../../support/cluster.js';

const BASE = { dataDir: 'd', nodeId: 'a', clusterId: 'c' };
const TIMER_MAX_MS = 2 ** 31 - 1;
const LISTEN = { host: '127.0.0.1', port: 0 };
const each = new EachTest();

afterEach(() => vi.unstubAllGlobals());

/** The first line of the refusal; '' where there is none. */
function refusal(more: object): string {
  try {
    readOptions({ ...BASE, ...more } as NodeOptions);
    return '';
  } catch (error) {
    return (error as Error).message.split('\n', 1)[0]!;
  }
}

const ETCD = { kind: 'etcd', endpoints: ['http://127.0.0.1:2379'] };

/** Every option that is a time, as one that has this value. */
const TIMES: Record<string, (ms: unknown) => object> = {
  snapshotGraceMs: (ms) => ({ snapshotGraceMs: ms }),
  hostTimeoutMs: (ms) => ({ hostTimeoutMs: ms }),
  connectTimeoutMs: (ms) => ({ connectTimeoutMs: ms }),
  'backoffStepsMs[1]': (ms) => ({ backoffStepsMs: [1, ms] }),
  openConfirmMs: (ms) => ({ openConfirmMs: ms }),
  readTimeoutMs: (ms) => ({ readTimeoutMs: ms }),
  writeTimeoutMs: (ms) => ({ writeTimeoutMs: ms }),
  keepAliveMs: (ms) => ({ keepAliveMs: ms }),
  batchDelayMs: (ms) => ({ batchDelayMs: ms }),
  lagAlertThresholdMs: (ms) => ({ lagAlertThresholdMs: ms }),
  lagDegradedThresholdMs: (ms) => ({ lagDegradedThresholdMs: ms }),
  lagPollMs: (ms) => ({ lagPollMs: ms }),
  stalledAfterMs: (ms) => ({ stalledAfterMs: ms }),
  'fsync.timerMs': (ms) => ({ fsync: { timerMs: ms } }),
  'coordinator.ttlMs': (ms) => ({ listen: LISTEN, coordinator: { ...ETCD, ttlMs: ms } }),
};
const SIZES = [
  ...['segmentBytes', 'groupBytes', 'maxEntryBytes', 'memoryBudgetBytes', 'snapshotChunkBytes'],
  ...['catchUpBatchBytes', 'maxSpaces', 'sealerThreads', 'batchEntries'],
];
const COUNTS = [
  ...[
    'maxSlotBytes',
    'windowBytes',
    'maxSnapshots',
    'maxSnapshotBytes',
    'applyRetries',
    'catchUpBytesPerSecond',
  ],
  'slotIdleTimeoutMs',
  'maxRetries',
];

describe('FAULT-96 numbers are honoured, or refused with option, value and bound', () => {
  test('every option that ends in Ms, Bytes or PerSecond is tried here', () => {
    const { coordinator: _, ...config } = readOptions({ ...BASE, ...SMALL });
    const numbers = Object.keys(config).filter((key) => /(Ms|Bytes|PerSecond)$/.test(key));
    const tried = [...Object.keys(TIMES), ...SIZES, ...COUNTS, 'maxRetainedBytes'];
    expect(numbers.filter((key) => !tried.some((t) => t.split('[')[0] === key))).toEqual([]);
  });

  test.each(Object.keys(TIMES))('%s', (name) => {
    const given = TIMES[name]!;
    const month = 30 * 24 * 3_600_000;
    const values = [month, TIMER_MAX_MS + 1, 2 ** 53, NaN, Infinity, -1, 1.5, '5', null, true];
    for (const value of [...values, 10n, [], {}]) {
      const found = refusal(given(value));
      expect(found).toContain(`Configuration: option ${name} is `);
      expect(found).toMatch(/, not a (whole number of ms|multiple of 1000,) from \d+ to \d+$/);
      if (typeof value === 'number') expect(found).toContain(`is ${value}, not`);
    }
    if (name !== 'coordinator.ttlMs')
      expect(refusal(given(name === 'readTimeoutMs' ? 3_000 : 1_000))).toBe('');
  });

  test.each(SIZES)('%s', (name) => {
    for (const value of [2 ** 50, 2 ** 40, 2 ** 33, NaN, Infinity, -1, 0, 1.5, '64', null]) {
      const found = refusal({ [name]: value });
      const shown = typeof value === 'string' ? '"64"' : String(value);
      expect(found).toContain(`Configuration: option ${name} is ${shown}, not a whole number`);
      expect(found).toMatch(/from 1 to \d+$/);
    }
  });

  test.each(COUNTS)('%s', (name) => {
    for (const value of [NaN, Infinity, -1, 1.5, '64', null, 2 ** 53]) {
      expect(refusal({ [name]: value })).toContain(`Configuration: option ${name} is `);
    }
    // Only compared, never waited for or allocated.
    expect(refusal({ [name]: 2 ** 50 })).toBe('');
  });

  test('the largest that are taken open, and so do tiny groups in a large budget', async () => {
    const most = { memoryBudgetBytes: 2 ** 32, maxSpaces: 2 ** 20, catchUpBatchBytes: 2 ** 28 };
    const wide = { openConfirmMs: TIMER_MAX_MS, lagPollMs: TIMER_MAX_MS };
    const own = { clusterId: 'test', nodeId: 'a' };
    const options: Partial<NodeOptions>[] = [
      { ...most, ...wide },
      { groupBytes: 1024, maxEntryBytes: 512 },
      { segmentBytes: 2 ** 31 - 64, groupBytes: 2 ** 28 },
      { segmentBytes: 4096 },
    ];
    for (const [i, more] of options.entries()) {
      const node = await openNode({ ...own, dataDir: path.join(each.folder, `${i}`), ...more });
      const space = await node.openSpace('s');
      expect(await space.append(1, new Uint8Array(100))).toMatchObject({ sequence: 1 });
      await node.close();
    }
  });

  test('a process that cannot have the memory is told which option asks for it', async () => {
    const noMore = new Proxy(SharedArrayBuffer, {
      construct(real, [bytes]: [number]) {
        if (bytes > 2 ** 20) throw new RangeError('Array buffer allocation failed');
        return new real(bytes);
      },
    });
    const dataDir = path.join(each.folder, 'a');
    vi.stubGlobal('SharedArrayBuffer', noMore);
    const opening = openNode({ ...BASE, dataDir });
    await expect(opening).rejects.toMatchObject({ code: 'Configuration' });
    await expect(opening).rejects.toThrow(/memoryBudgetBytes 67108864 and maxSpaces 16384/);
  });

  test('times of single calls', async () => {
    const node = await each.start('a');
    const space = await node.openSpace('s');
    const payload = new Uint8Array(1);
    for (const timeoutMs of [TIMER_MAX_MS + 1, NaN, Infinity, -1, '5', null] as number[]) {
      const named = /timeoutMs is .*, not a number of ms from 0 to 2147483647/;
      const calls = [
        space.append(1, payload, { ack: { replicas: 0, timeoutMs } }),
        space.flushed(1, { timeoutMs }),
        node.switchover('s', 'b', { timeoutMs }),
      ];
      for (const call of calls) {
        await expect(call).rejects.toMatchObject({ code: 'Configuration' });
        await expect(call).rejects.toThrow(named);
      }
    }
  });
});

describe('how a wrong option is named', () => {
  test.each<[object, string]>([
    [{ apply: 1 }, 'option apply is 1, not a function'],
    [{ metricsRegistry: {} }, 'option metricsRegistry is an object, not a registry of prom'],
    [{ logger: () => 0 }, 'option logger is a function, not an object with debug'],
    [{ lead: 'yes' }, 'option lead is "yes", not true or false'],
    [{ fsync: { timer: 1 } }, "option fsync is an object, not 'per-batch'"],
    [{ listen: 7401 }, 'option listen is 7401, not an object of host, port'],
    [{ listen: { host: '', port: 1 } }, 'option listen.host is "", not a non-empty string'],
    [{ listen: { host: 'x', port: 65_536 } }, 'option listen.port is 65536, not a port, 0 to'],
    [
      { replicas: [{ host: '127.0.0.1', port: 0 }] },
      'option replicas[0].nodeId is undefined, not a non-empty string',
    ],
    [{ key: 'short secret' }, 'option key is a string of 12 characters, not a string'],
    [{ http: { token: 'secret' } }, 'option http.token is a string of 6 characters, not a string'],
    [{ http: { host: '10.0.0.1' } }, 'option http.host is "10.0.0.1", not on loopback'],
    [{ coordinator: { kind: 'raft' } }, `option coordinator.kind is "raft", not 'static'`],
    [{ nodeId: 'x'.repeat(300) }, 'nodeId has 300 bytes, allowed are 1..255'],
    [{ groupBytes: 4096, maxEntryBytes: 4096 }, 'maxEntryBytes is 4096, not at most groupBytes'],
    [{ lagAlertThresholdMs: 9, lagDegradedThresholdMs: 5 }, 'lagDegradedThresholdMs is 5, not at'],
  ])('%j', (more, message) => {
    expect(refusal(more)).toContain(`Configuration: ${message}`);
  });

  test('what is no object of options', async () => {
    for (const value of [null, undefined, 1, [], 'x']) {
      const opening = openNode(value as unknown as NodeOptions);
      await expect(opening).rejects.toMatchObject({ code: 'Configuration' });
    }
  });

  test('defaults fit what is set', () => {
    const of = (more: object) => {
      const c = readOptions({ ...BASE, ...more } as NodeOptions);
      return [c.segmentBytes, c.groupBytes, c.maxEntryBytes, c.memoryBudgetBytes];
    };
    const [KiB, MiB] = [1024, 1024 * 1024];
    expect(of({})).toEqual([64 * MiB, 4 * MiB, MiB, 64 * MiB]);
    expect(of({ segmentBytes: 64 * KiB })).toEqual([64 * KiB, 64 * KiB, 64 * KiB - 64, 64 * MiB]);
    expect(of({ groupBytes: 64 * KiB })).toEqual([64 * MiB, 64 * KiB, 64 * KiB - 64, 64 * MiB]);
    const large = 128 * MiB;
    expect(of({ groupBytes: large })).toEqual([large, large, MiB, 4 * (large + 64)]);
    expect(of({ maxEntryBytes: 8 * MiB })[1]).toBe(8 * MiB + 64);
    expect(readOptions({ ...BASE, lagDegradedThresholdMs: 500 })).toMatchObject({
      lagAlertThresholdMs: 500,
      lagDegradedThresholdMs: 500,
    });
  });
});

test('a dataDir that cannot be made or held has a code of its own', async () => {
  const file = path.join(each.folder, 'file');
  fs.writeFileSync(file, '');
  for (const dataDir of [path.join(file, 'data'), file]) {
    const opening = openNode({ ...BASE, dataDir });
    await expect(opening, dataDir).rejects.toMatchObject({
      ...{ name: 'MemorySpaceError', code: 'DataRootUnavailable' },
      details: { option: 'dataDir' },
    });
    await expect(opening).rejects.toThrow(dataDir);
  }
});
