/** The log goes on where the open group stands at a small place. */
import { expect, test, vi } from 'vitest';
import type { WalHooks } from '#src/main/log/hooks.js';
import { SpaceTable } from '#src/main/log/space-table.js';
import { Wal } from '#src/main/log/wal.js';
import { NodeCounts } from '#src/main/log/write/counts.js';
import { SealerPool } from '#src/main/log/write/sealer-pool.js';
import type { Segments } from '#src/main/segments/segments.js';
import { ENTRY_HEADER_BYTES } from '#src/shared/limits.js';
import { newSpaceFacts } from '#src/shared/log/space-facts.js';
import { allocateMemory, NodeMemory } from '#src/shared/memory/slab.js';
import { until } from '../../support/cluster.js';

const GROUP_BYTES = 64 * 1024;
const SEGMENT_BYTES = 1 << 20;

/** A log on a disk that takes everything, of a node with links. */
function logOf() {
  const memory = new NodeMemory(allocateMemory(GROUP_BYTES, 8 * GROUP_BYTES, 4));
  memory.ship();
  const spaces = new SpaceTable(memory);
  const space = spaces.add(newSpaceFacts('0123456789abcdef0123456789abcdef', 's'));
  const write = vi.fn(async () => undefined);
  const file = { write, sync: async () => undefined };
  const current = { start: 0, size: SEGMENT_BYTES };
  const disk = { file, current, at: () => undefined, displaced: async () => undefined };
  const options = {
    mode: 'per-batch',
    groupBytes: GROUP_BYTES,
    segmentBytes: SEGMENT_BYTES,
    salt: 1,
    end: 0,
  } as const;
  const failed = vi.fn();
  const hooks = new Proxy({ failed } as unknown as WalHooks, {
    get: (known, name: keyof WalHooks) => known[name] ?? (() => undefined),
  });
  const segments = disk as unknown as Segments;
  const pool = new SealerPool(memory, 1);
  const counts = new NodeCounts();
  return {
    wal: new Wal(memory, spaces, segments, pool, options, counts, hooks),
    space,
    failed,
    write,
  };
}

test('FAULT-82 a payload that cannot be copied, then one that needs a larger place', async () => {
  const { wal, space, failed, write } = logOf();
  const gone = new Uint8Array(10);
  structuredClone(gone, { transfer: [gone.buffer] });
  const long = new Uint8Array(GROUP_BYTES - ENTRY_HEADER_BYTES);
  for (let n = 1; n <= 40; n++) {
    const length = wal.durableLsn;
    expect(() => wal.stage(space, 1, gone, 10)).toThrow('Configuration');
    // Each time another place is tried, the last one of a slab as well.
    const payload = n % 8 === 0 ? long : new Uint8Array(10);
    expect(wal.stage(space, 1, payload, payload.length)).toBe(n);
    await until('it is durable', () => wal.durableLsn > length || failed.mock.calls.length > 0);
    expect(failed).not.toHaveBeenCalled();
    // No group without an entry: who reads the log from one to the next would stay there.
    expect(write).toHaveBeenCalledTimes(n);
    expect(wal.durableLsn - length).toBe(ENTRY_HEADER_BYTES + payload.length);
  }
  expect(wal.slabsInUse).toBe(0);
  await wal.close().catch(() => undefined);
});
