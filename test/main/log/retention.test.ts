/** What is freed, what is kept and for whom: checkpoint, slots, readers, bounds. */
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Node, NodeOptions, Space } from '#src/main/index.js';
import {
  contentOf,
  makeFolder,
  openSmall,
  removeFolder,
  SMALL,
  until,
} from '../../support/cluster.js';

const PAYLOAD = Buffer.alloc(8_000, 7);

let folder: string;
let nodes: Node[];

beforeEach(() => {
  folder = makeFolder();
  nodes = [];
});

afterEach(async () => {
  for (const node of nodes) await node.close();
  removeFolder(folder);
});

async function open(nodeId: string, more: Partial<NodeOptions> = {}): Promise<Node> {
  const node = await openSmall(path.join(folder, nodeId), nodeId, more);
  nodes.push(node);
  return node;
}

/** Appends until the log has rolled so many times. */
async function fill(node: Node, space: Space, rolls: number): Promise<void> {
  const until = node.status().durableLsn + rolls * SMALL.segmentBytes;
  while (node.status().durableLsn < until) {
    await space.appendBatch(
      1,
      Array.from({ length: 4 }, () => PAYLOAD),
    );
  }
}

function files(nodeId: string, end: string): string[] {
  return fs.readdirSync(path.join(folder, nodeId)).filter((f) => f.endsWith(end));
}

async function sequences(space: Space, range: { from?: number; to?: number }): Promise<number[]> {
  const found: number[] = [];
  for await (const entry of space.read(range)) found.push(entry.sequence);
  return found;
}

describe('retention', () => {
  test('nothing is freed before a checkpoint; then segments are, and recycled', async () => {
    let node = await open('a');
    let space = await node.openSpace('s');
    await fill(node, space, 3);
    expect(files('a', '.log').length).toBeGreaterThanOrEqual(4);
    const last = space.status().durableSequence;
    await space.checkpoint(last);
    await until('old segments are spares', () => node.status().retention.spareSegments >= 2);
    const first = space.status().firstSequence;
    expect(first).toBeGreaterThan(1);
    expect(first).toBeLessThanOrEqual(last);
    await expect(sequences(space, { from: first - 1 })).rejects.toMatchObject({
      code: 'Trimmed',
      details: { firstSequence: first },
    });
    expect((await sequences(space, {}))[0]).toBe(first);
    await fill(node, space, 3);
    expect(node.status().retention.recycledSegments).toBeGreaterThanOrEqual(2);
    const content = await contentOf(space);
    await node.close();
    node = await open('a');
    space = await node.openSpace('s');
    expect(await contentOf(space)).toEqual(content);
    expect(space.status()).toMatchObject({ firstSequence: first, checkpoint: last, damage: [] });
  });

  test('a segment is freed only when both states list it no more', async () => {
    const node = await open('a');
    const space = await node.openSpace('s');
    await fill(node, space, 3);
    await space.checkpoint(space.status().durableSequence);
    await until('old segments are spares', () => node.status().retention.spareSegments >= 2);
    const { firstSequence } = space.status();
    const content = await contentOf(space, { from: firstSequence });
    const copy = path.join(folder, 'copy');
    // The newest state is lost: the one before knows nothing of what was freed, either.
    for (const name of ['state-0', 'state-1']) {
      fs.cpSync(path.join(folder, 'a'), copy, { recursive: true });
      fs.rmSync(path.join(copy, name));
      const again = await openSmall(copy, 'a');
      expect(again.status().holes, `without ${name}`).toEqual([]);
      const found = again.space('s');
      expect(found.status()).toMatchObject({ firstSequence, damage: [] });
      expect(await contentOf(found, { from: firstSequence })).toEqual(content);
      await again.close();
      removeFolder(copy);
    }
  });

  test('a segment waits for every space that has entries in it', async () => {
    const node = await open('a');
    const s = await node.openSpace('s');
    const t = await node.openSpace('t');
    await t.append(1, Buffer.from('kept'));
    await fill(node, s, 3);
    await s.checkpoint(s.status().durableSequence);
    await until('the segments behind it are freed', () => node.status().segments === 2);
    // The first one stays for t; s has passed what it held there.
    expect(files('a', '.log')).toContain('wal-0000000000000000.log');
    expect(await sequences(t, {})).toEqual([1]);
    const first = s.status().firstSequence;
    expect(await sequences(s, {})).toEqual(
      Array.from({ length: s.status().durableSequence - first + 1 }, (_, i) => first + i),
    );
    await t.checkpoint(2);
    await until('all is freed', () => node.status().segments === 1);
    expect(t.status().firstSequence).toBe(2);
    expect(await sequences(t, {})).toEqual([]);
  });

  test('FAULT-53 a reader keeps the segment that it reads', async () => {
    const node = await open('a');
    const space = await node.openSpace('s');
    await fill(node, space, 3);
    const reading = space.read({ from: 1 });
    const first = await reading.next();
    expect(first.value?.sequence).toBe(1);
    const last = space.status().durableSequence;
    await space.checkpoint(last);
    await until('others are freed', () => node.status().retention.spareSegments > 0);
    await fill(node, space, 2);
    // Its segment is neither overwritten nor gone: it yields what it held, then is cut cleanly.
    const seen = [1];
    const rest = (async () => {
      for await (const entry of reading) {
        expect(Buffer.from(entry.payload)).toEqual(PAYLOAD);
        seen.push(entry.sequence);
      }
    })();
    await expect(rest).rejects.toMatchObject({ code: 'Trimmed' });
    expect(seen).toEqual(Array.from({ length: seen.length }, (_, i) => i + 1));
    expect(seen.length).toBeGreaterThan(20);
    await until(
      'then it is freed too',
      () => !files('a', '.log').includes('wal-0000000000000000.log'),
    );
  });

  test('what a replica lacks is kept for it; past maxSlotBytes its slot is lost', async () => {
    const listen = { host: '127.0.0.1', port: 0 };
    const b = await open('b', { listen });
    const replicas = [{ nodeId: 'b', ...b.address! }];
    const a = await open('a', { replicas, maxSlotBytes: 5 * SMALL.segmentBytes });
    const lost: unknown[] = [];
    a.on('slot-lost', (event) => lost.push(event));
    const space = await a.openSpace('s');
    await space.append(1, PAYLOAD);
    await space.flushed(1, { replicas: 1 });
    await b.close();
    await fill(a, space, 3);
    await space.checkpoint(space.status().durableSequence);
    await fill(a, space, 1);
    expect(space.status().firstSequence).toBe(1);
    expect(lost).toEqual([]);
    await fill(a, space, 3);
    await until('the slot is lost', () => lost.length > 0);
    expect(lost).toEqual([{ space: 's', replicaId: 'b', flushed: 1, why: 'bytes' }]);
    await until('and the segments are freed', () => space.status().firstSequence > 32);
    // It comes back too late: told, not served with a gap.
    const refused: unknown[] = [];
    a.on('replica-refused', (event) => refused.push(event));
    await open('b', { listen: { host: '127.0.0.1', port: replicas[0]!.port } });
    await until('the replica is refused', () => refused.length > 0);
    expect(refused[0]).toEqual({ space: 's', replicaId: 'b', verdict: 'snapshot' });
    await space.append(1, PAYLOAD);
  });

  test('a replica frees what its own host has checkpointed, and what is applied', async () => {
    const listen = { host: '127.0.0.1', port: 0 };
    let isHeld = true;
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const b = await open('b', { listen, apply: () => (isHeld ? held : undefined) });
    const a = await open('a', { replicas: [{ nodeId: 'b', ...b.address! }] });
    const space = await a.openSpace('s');
    await fill(a, space, 3);
    const last = space.status().durableSequence;
    await space.flushed(last, { replicas: 1, timeoutMs: 20_000 });
    const replica = b.space('s');
    await replica.checkpoint(last);
    expect(replica.status().firstSequence).toBe(1);
    isHeld = false;
    release();
    await until('all is applied', () => replica.status().appliedSequence >= last);
    await until('and recorded, and freed', () => {
      void replica.checkpoint(last + 1).catch(() => undefined);
      return replica.status().firstSequence > 1;
    });
  });

  test('a host that is behind what is retained: applying is blocked, visibly', async () => {
    const listen = { host: '127.0.0.1', port: 0 };
    const apply = (): undefined => undefined;
    let b = await open('b', { listen, apply });
    const a = await open('a', { replicas: [{ nodeId: 'b', ...b.address! }] });
    const space = await a.openSpace('s');
    await fill(a, space, 3);
    await space.flushed(space.status().lastSequence, { replicas: 1, timeoutMs: 20_000 });
    const last = space.status().durableSequence;
    await until('all applied', () => b.space('s').status().appliedSequence >= last);
    await until('some are freed', () => {
      void b.space('s').checkpoint(last);
      return b.space('s').status().firstSequence > 2;
    });
    const { firstSequence } = b.space('s').status();
    await b.close();
    // Its data are of an old backup.
    b = await open('b', { listen: b.address!, apply, appliedUpTo: () => firstSequence - 2 });
    const event = await new Promise((resolve) => b.on('apply-blocked', resolve));
    const sequence = firstSequence - 2;
    expect(event).toMatchObject({ space: 's', sequence, reason: 'before-log' });
    // Its log goes on.
    await space.append(1, PAYLOAD);
    await space.flushed(last + 1, { replicas: 1, timeoutMs: 20_000 });
    // On a busy machine more has been freed since.
    const appliedUpTo = b.space('s').status().firstSequence - 1;
    await b.close();
    b = await open('b', { listen: b.address!, apply, appliedUpTo: () => appliedUpTo });
    await until('all applied', () => b.space('s').status().appliedSequence >= last + 1);
  });

  test('RetentionFull until the host checkpoints', async () => {
    const node = await open('a', { maxRetainedBytes: 3 * SMALL.segmentBytes });
    const space = await node.openSpace('s');
    await expect(fill(node, space, 6)).rejects.toMatchObject({ code: 'RetentionFull' });
    expect(node.status().retention.hostBytes).toBeGreaterThan(3 * SMALL.segmentBytes);
    expect(() => space.tryAppend(1, PAYLOAD)).toThrow(/RetentionFull/);
    await space.checkpoint(space.status().durableSequence);
    await until('there is room', () => node.status().retention.hostBytes < SMALL.segmentBytes);
    await fill(node, space, 2);
  });

  test('a checkpoint beyond the log is refused; one that goes back changes nothing', async () => {
    const node = await open('a');
    const space = await node.openSpace('s');
    await space.append(1, PAYLOAD);
    await expect(space.checkpoint(3)).rejects.toMatchObject({ code: 'Configuration' });
    await expect(space.checkpoint(0)).rejects.toMatchObject({ code: 'Configuration' });
    await space.checkpoint(2);
    await space.checkpoint(1);
    expect(space.status().checkpoint).toBe(2);
  });

  test('an index whose segment is gone, or grows again, goes at opening', async () => {
    let node = await open('a');
    const space = await node.openSpace('s');
    await fill(node, space, 3);
    await node.close();
    const dir = path.join(folder, 'a');
    const names = files('a', '.idx');
    const last = files('a', '.log').at(-2)!.replace('.log', '.idx');
    for (const left of [last, 'wal-000000000ff00000.idx']) {
      fs.copyFileSync(path.join(dir, names[0]!), path.join(dir, left));
    }
    node = await open('a');
    const live = node.summary().segments;
    expect(files('a', '.idx').length).toBeLessThan(live);
    expect(files('a', '.idx')).not.toContain('wal-000000000ff00000.idx');
    expect(await contentOf(node.space('s'))).toHaveLength(space.status().durableSequence);
  });

  test('a lost or damaged index is built again', async () => {
    let node = await open('a');
    let space = await node.openSpace('s');
    await fill(node, space, 3);
    const content = await contentOf(space);
    await node.close();
    const indexes = files('a', '.idx').map((f) => path.join(folder, 'a', f));
    expect(indexes.length).toBeGreaterThanOrEqual(2);
    fs.rmSync(indexes[0]!);
    const bytes = fs.readFileSync(indexes[1]!);
    bytes[20]! ^= 1;
    fs.writeFileSync(indexes[1]!, bytes);
    node = await open('a');
    space = await node.openSpace('s');
    expect(await contentOf(space)).toEqual(content);
    await space.append(1, PAYLOAD);
    await fill(node, space, 1);
    await until('both are files again', () => files('a', '.idx').length >= indexes.length);
  });
});
