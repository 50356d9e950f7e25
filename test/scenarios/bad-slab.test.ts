/** Memory that changes between fdatasync and link: what is on the disk is right, and goes out. */
import path from 'node:path';
import { expect, test } from 'vitest';
import { nodePlatform, type Platform } from '#src/main/node/machine.js';
import { openNodeOn } from '#src/main/node/open-node.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { ENTRY_HEADER_BYTES } from '#src/shared/limits.js';
import type { SharedMemory } from '#src/shared/memory/slab.js';
import { at, contentOf, EachTest, SMALL, until } from '../support/cluster.js';

const LISTEN = { host: '127.0.0.1', port: 0 };
const ACK = { ack: { replicas: 1, timeoutMs: 10_000 } };
const each = new EachTest();

/** Of an entry: in its payload, size, sequence, and the highest byte of its epoch. */
const PLACES = [ENTRY_HEADER_BYTES + 50, 24, 4, 55] as const;

const kinds = PLACES.flatMap((place) => [
  [place, 'one space', 1, 'none'] as const,
  [place, 'spaces that share batches', 20, 'none'] as const,
  [place, 'spaces that share batches, compressed', 20, 'lz4'] as const,
]);

test.each(
  kinds,
)('byte %i of an entry in a slab changes, %s: it comes from the disk', async (...kind) => {
  const [place, , count, compression] = kind;
  let memory: SharedMemory | undefined;
  const platform: Platform = {
    ...nodePlatform,
    startShipper: (facts, hooks) => {
      memory = facts.memory;
      return nodePlatform.startShipper(facts, hooks);
    },
  };
  const b = await each.start('b', { listen: LISTEN });
  const { port } = b.address!;
  const dataDir = path.join(each.folder, 'a');
  const options = { ...SMALL, nodeId: 'a', dataDir, replicas: [at('b', port)], compression };
  const a = await openNodeOn(nodeDisk, options, platform);
  each.finally(() => a.close());
  const names = Array.from({ length: count }, (_, n) => `s${n}`);
  const spaces = await Promise.all(names.map((name) => a.openSpace(name)));
  await Promise.all(spaces.map((space) => space.append(1, Buffer.alloc(9), ACK)));
  await b.close();
  await until('the link is lost', () => a.status().replicas[0]!.consecutiveFailures > 0);
  const payload = Buffer.alloc(100, 'memory that changes');
  await Promise.all(spaces.map((space) => space.append(1, payload)));
  const slabs = Buffer.from(memory!.slabs);
  const found = slabs.lastIndexOf(payload);
  expect(found).toBeGreaterThanOrEqual(ENTRY_HEADER_BYTES);
  slabs[found - ENTRY_HEADER_BYTES + place]! ^= 4;

  const again = await each.start('b', { listen: { host: '127.0.0.1', port } });
  const ends = spaces.map((space) => space.status().lastSequence);
  const all = spaces.map((space, i) => space.flushed(ends[i]!, { replicas: 1, timeoutMs: 10_000 }));
  await Promise.all(all);
  // A sequence is looked at before it is sent, where it is where a run goes on.
  const isSeen = place === 4 && count === 1;
  expect(a.status().replicas[0]!.checksumFailures).toBe(isSeen ? 0 : 1);
  for (const [i, name] of names.entries()) {
    expect(await contentOf(again.space(name))).toEqual(await contentOf(spaces[i]!));
  }
});
