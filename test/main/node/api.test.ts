import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Entry, EntryType, type Node, type NodeOptions, openNode } from '#src/main/index.js';
import {
  contentOf,
  makeFolder,
  openSmall,
  removeFolder,
  SMALL,
  until,
} from '../../support/cluster.js';

const LISTEN = { host: '127.0.0.1', port: 0 };

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

/** Who waits for the others waits as long as a busy machine may take: all of them are there. */
const ASKS_LONG = { openConfirmMs: 20_000 };

/** A replica that listens, and a primary that ships to it. */
async function pair(replicaOptions: Partial<NodeOptions> = {}): Promise<{ a: Node; b: Node }> {
  const b = await open('b', { listen: LISTEN, ...replicaOptions });
  const a = await open('a', { replicas: [{ nodeId: 'b', ...b.address! }] });
  return { a, b };
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const textOf = (entry: Entry): string => new TextDecoder().decode(entry.payload);

describe('append and read', () => {
  test('append, appendBatch and tryAppend number from 1, without gaps', async () => {
    const space = await (await open('a')).openSpace('s');
    expect(await space.append(EntryType.EpisodeStore, bytes('1'))).toEqual({
      sequence: 1,
      epoch: 1,
    });
    const batch = await space.appendBatch(1000, [bytes('2'), bytes('3')]);
    expect(batch).toEqual({ firstSequence: 2, lastSequence: 3, epoch: 1 });
    expect(space.tryAppend(6, bytes('4'))).toBe(4);
    await space.flushed(4);
    const entries: Entry[] = [];
    for await (const entry of space.read()) entries.push(entry);
    expect(entries.map(textOf)).toEqual(['1', '2', '3', '4']);
    expect(entries.map((e) => e.type)).toEqual([1, 1000, 1000, 6]);
    expect(entries.every((e) => e.epoch === 1 && e.timestamp > 1_600_000_000n * 10n ** 9n)).toBe(
      true,
    );
    const some: number[] = [];
    for await (const entry of space.read({ from: 2, to: 3 })) some.push(entry.sequence);
    expect(some).toEqual([2, 3]);
  });

  test('the payload is copied before append returns', async () => {
    const space = await (await open('a')).openSpace('s');
    const payload = bytes('before');
    const appended = space.append(1, payload);
    payload.fill(0);
    await appended;
    for await (const entry of space.read()) expect(textOf(entry)).toBe('before');
  });

  test('many callers, spaces and segments: all there after reopening', async () => {
    let node = await open('a');
    const names = ['x', 'y', 'z'];
    const spaces = await Promise.all(names.map((name) => node.openSpace(name)));
    const payload = Buffer.alloc(700, 1);
    const all = Array.from({ length: 600 }, (_, i) => spaces[i % 3]!.append(1, payload));
    const appended = await Promise.all(all);
    expect(new Set(appended.slice(0, 9).map((a) => a.sequence))).toEqual(new Set([1, 2, 3]));
    const big = Array.from({ length: 400 }, (_, i) => Buffer.alloc(1_500, i));
    expect(await spaces[0]!.appendBatch(1, big)).toMatchObject({ lastSequence: 600 });
    const before = await Promise.all(spaces.map((s) => contentOf(s)));
    expect(node.status().segments).toBeGreaterThan(3);
    await node.close();
    node = await open('a');
    expect(await Promise.all(names.map((name) => contentOf(node.space(name))))).toEqual(before);
    expect(before.map((lines) => lines.length)).toEqual([600, 200, 200]);
  });

  test('FAULT-39 a payload beyond the cap is rejected before a sequence is taken', async () => {
    const space = await (await open('a')).openSpace('s');
    const tooLarge = Buffer.alloc(SMALL.maxEntryBytes + 1);
    await expect(space.append(1, tooLarge)).rejects.toMatchObject({ code: 'EntryTooLarge' });
    await expect(space.appendBatch(1, [bytes('x'), tooLarge])).rejects.toMatchObject({
      code: 'EntryTooLarge',
    });
    expect(() => space.tryAppend(1, tooLarge)).toThrow(/EntryTooLarge/);
    const largest = Buffer.alloc(SMALL.maxEntryBytes);
    expect(await space.append(1, largest)).toMatchObject({ sequence: 1 });
  });

  test('types that are not the host’s are refused', async () => {
    const space = await (await open('a')).openSpace('s');
    for (const type of [0, 5, 7, 999, 1.5]) {
      await expect(space.append(type, bytes('x'))).rejects.toMatchObject({ code: 'Configuration' });
    }
    await expect(space.append(1, 'text' as unknown as Uint8Array)).rejects.toMatchObject({
      code: 'Configuration',
    });
  });

  test('FAULT-77 a used-up budget: undefined, Backpressure at once, or waiting', async () => {
    const space = await (await open('a')).openSpace('s');
    const payload = Buffer.alloc(SMALL.maxEntryBytes, 1);
    let taken = 0;
    while (space.tryAppend(1, payload) !== undefined) taken++;
    expect(taken * payload.length).toBeLessThan(SMALL.memoryBudgetBytes);
    const atOnce = space.append(1, payload, { wait: false });
    await expect(atOnce).rejects.toMatchObject({ code: 'Backpressure', retryable: true });
    expect(await space.append(1, payload)).toMatchObject({ sequence: taken + 1 });
    const batch = Array.from({ length: 200 }, () => payload);
    expect(await space.appendBatch(1, batch)).toMatchObject({ lastSequence: taken + 201 });
  });

  test('10,000 spaces take an entry each, and keep it', async () => {
    const options = { memoryBudgetBytes: 8 << 20, segmentBytes: 8 << 20, groupBytes: 1 << 20 };
    let node = await open('a', options);
    const names = Array.from({ length: 10_000 }, (_, i) => `tenant-${i}`);
    for (let i = 0; i < names.length; i += 1_000) {
      const part = names.slice(i, i + 1_000);
      await Promise.all(
        part.map(async (name) => (await node.openSpace(name)).append(1, bytes(name))),
      );
    }
    await node.close();
    node = await open('a', options);
    for (const name of [names[0]!, names[5_000]!, names[9_999]!]) {
      for await (const entry of node.space(name).read()) expect(textOf(entry)).toBe(name);
      expect(node.space(name).status().durableSequence).toBe(1);
    }
  });

  test.each([
    'per-batch',
    'per-write',
    { timerMs: 20 },
    'none',
  ] as const)('fsync mode %j keeps what it acknowledged over reopening', async (fsync) => {
    let node = await open('a', { fsync });
    let space = await node.openSpace('s');
    const payload = Buffer.alloc(3_000, 5);
    // No more at once than a slow disk syncs, one by one, while an append waits for room: 5 s.
    for (let n = 0; n < 300; n += 20) {
      await Promise.all(Array.from({ length: 20 }, () => space.append(1, payload)));
    }
    await node.close();
    node = await open('a', { fsync });
    space = await node.openSpace('s');
    expect(await contentOf(space)).toHaveLength(300);
    expect(await space.append(1, payload)).toMatchObject({ sequence: 301 });
  });
});

describe('options and names', () => {
  test('an unknown or contradictory option is named', async () => {
    const base = { ...SMALL, dataDir: path.join(folder, 'x'), nodeId: 'x' };
    const replicas = [{ nodeId: 'b', host: '127.0.0.1', port: 1 }];
    const wrong: [object, RegExp][] = [
      [{ ...base, fsyncMode: 'none' }, /fsyncMode/],
      [{ ...base, nodeId: undefined }, /nodeId/],
      [{ ...base, fsync: 'sometimes' }, /fsync/],
      [{ ...base, fsync: 'none', replicas }, /none/],
      [{ ...base, fsync: { timerMs: 501 }, replicas }, /timerMs is 501.* 500 at most/],
      [{ ...base, segmentBytes: 1000 }, /segmentBytes/],
      [{ ...base, groupBytes: 1024 * 1024 }, /groupBytes/],
      [{ ...base, memoryBudgetBytes: 1024 }, /memoryBudgetBytes/],
      [{ ...base, maxEntryBytes: 64 * 1024 }, /maxEntryBytes/],
      [{ ...base, listen: { host: '0.0.0.0', port: 0 } }, /loopback/],
      [{ ...base, replicas: [{ ...replicas[0], host: '10.0.0.1' }] }, /loopback/],
      [{ ...base, replicas: [...replicas, ...replicas] }, /twice/],
      [{ ...base, replicas: [{ ...replicas[0], nodeId: 'x' }] }, /twice/],
      [{ ...base, appliedUpTo: () => 0 }, /apply/],
    ];
    for (const [options, message] of wrong) {
      const opening = openNode(options as NodeOptions);
      await expect(opening, String(message)).rejects.toMatchObject({ code: 'Configuration' });
      await expect(openNode(options as NodeOptions)).rejects.toThrow(message);
    }
    const space = await (await open('a')).openSpace('s');
    const options = { acks: 1 } as object;
    await expect(space.append(1, bytes('x'), options)).rejects.toThrow(/acks/);
    await expect(space.flushed(1, { timeout: 1 } as object)).rejects.toThrow(/timeout/);
    await expect(space.read({ form: 1 } as object).next()).rejects.toThrow(/form/);
  });

  test('names of spaces are 1 to 255 bytes of UTF-8', async () => {
    const node = await open('a');
    for (const name of ['', 'x'.repeat(256), 'é'.repeat(128), '\ud800']) {
      await expect(node.openSpace(name)).rejects.toMatchObject({ code: 'Configuration' });
    }
    const longest = 'é'.repeat(127);
    await (await node.openSpace(longest)).append(1, bytes('x'));
    expect(node.space(longest).status()).toMatchObject({ durableSequence: 1, role: 'primary' });
  });

  test('another node’s or cluster’s directory is refused', async () => {
    await (await open('a')).close();
    const dir = path.join(folder, 'a');
    await expect(openSmall(dir, 'b')).rejects.toMatchObject({ code: 'Configuration' });
    const other = openSmall(dir, 'a', { clusterId: 'other' });
    await expect(other).rejects.toMatchObject({ code: 'Configuration' });
  });

  test('Engram’s own directory is refused and left alone', async () => {
    const golden = path.join(import.meta.dirname, '../../golden/engram-wal/01-all-types');
    const dir = path.join(folder, 'engram');
    const { cpSync, readdirSync } = await import('node:fs');
    cpSync(golden, dir, { recursive: true });
    await expect(openSmall(dir, 'a')).rejects.toMatchObject({ code: 'EngramDirectory' });
    expect(readdirSync(dir).filter((f) => f !== 'lock')).toEqual(readdirSync(golden));
  });

  test('a space is created where the node leads, and nowhere else', async () => {
    const b = await open('b', { listen: LISTEN });
    await expect(b.openSpace('s')).rejects.toMatchObject({ code: 'SpaceUnknown' });
    expect(() => b.space('s')).toThrow(/SpaceUnknown/);
    const space = await b.openSpace('s', { lead: true });
    expect(await space.append(1, bytes('x'))).toEqual({ sequence: 1, epoch: 1 });
    const a = await open('a', { lead: false });
    await expect(a.openSpace('s')).rejects.toMatchObject({ code: 'SpaceUnknown' });
    await expect(b.openSpace('s', { replicas: ['c'] })).rejects.toMatchObject({
      code: 'ReplicaNotFound',
    });
  });

  test('a closed node says so; closing twice is closing once', async () => {
    const node = await open('a');
    const space = await node.openSpace('s');
    await Promise.all([node.close(), node.close()]);
    await expect(space.append(1, bytes('x'))).rejects.toMatchObject({ code: 'Closed' });
    await expect(node.openSpace('t')).rejects.toMatchObject({ code: 'Closed' });
  });

  test('FAULT-79 a listener that throws harms nobody', async () => {
    const node = await open('a');
    let heard = 0;
    node.on('space-role', () => {
      throw new Error('the host’s own');
    });
    node.on('space-role', () => heard++);
    await (await node.openSpace('s')).append(1, bytes('x'));
    expect(heard).toBe(1);
  });
});

describe('replication', () => {
  test('ack levels, flushed, status on both sides', async () => {
    const { a, b } = await pair();
    const space = await a.openSpace('s');
    const ack = { replicas: 1, timeoutMs: 10_000 };
    expect(await space.append(1, bytes('x'), { ack })).toMatchObject({ sequence: 1 });
    expect(b.space('s').status()).toMatchObject({ durableSequence: 1, role: 'replica' });
    const status = space.status();
    expect(status.replicas[0]).toMatchObject({
      replicaId: 'b',
      sentSequence: 1,
      receivedSequence: 1,
      ackedSequence: 1,
      lagEntries: 0,
      lagBytes: 0,
      lagMs: 0,
      status: 'healthy',
      consecutiveFailures: 0,
    });
    expect(status.minAckedSequence).toBe(1);
    expect([status.isReplicated(1), status.isReplicated(2)]).toEqual([true, false]);
    expect(status.rpo).toEqual({ entries: 0, ms: 0 });
    const many = { replicas: 2, timeoutMs: 10 };
    await expect(space.append(1, bytes('x'), { ack: many })).rejects.toMatchObject({
      code: 'Configuration',
    });
    expect(space.status().lastSequence).toBe(1);
    await expect(space.flushed(5, { timeoutMs: 20 })).rejects.toMatchObject({ code: 'AckTimeout' });
    expect(await contentOf(b.space('s'))).toEqual(await contentOf(space));
  });

  test('append on a replica names the primary', async () => {
    const { a, b } = await pair();
    const space = await a.openSpace('s');
    await space.append(1, bytes('x'), { ack: { replicas: 1 } });
    await expect(b.space('s').append(1, bytes('x'))).rejects.toMatchObject({
      code: 'NotPrimary',
      details: { primaryNodeId: 'a' },
    });
    expect(() => b.space('s').tryAppend(1, bytes('x'))).toThrow(/NotPrimary/);
  });

  test('subscribe gives history, then what comes, on both sides; abort ends it', async () => {
    const { a, b } = await pair();
    const space = await a.openSpace('s');
    await space.appendBatch(1, [bytes('1'), bytes('2')], { ack: { replicas: 1 } });
    const follow = async (of: typeof space): Promise<string[]> => {
      const stop = new AbortController();
      const found: string[] = [];
      for await (const entry of of.subscribe({ from: 2, signal: stop.signal })) {
        found.push(textOf(entry));
        if (found.length === 301) stop.abort();
      }
      return found;
    };
    const both = Promise.all([follow(space), follow(b.space('s'))]);
    for (let i = 3; i <= 302; i++) await space.append(1, bytes(String(i)));
    const expected = Array.from({ length: 301 }, (_, i) => String(i + 2));
    expect(await both).toEqual([expected, expected]);
  });

  test('a replica that comes late, or was away, gets all it lacks from segments', async () => {
    const b = await open('b', { listen: LISTEN });
    const { address } = b;
    await b.close();
    const a = await open('a', { replicas: [{ nodeId: 'b', ...address! }] });
    const space = await a.openSpace('s');
    const payload = Buffer.alloc(1_000, 3);
    const batch = Array.from({ length: 1_500 }, () => payload);
    await space.appendBatch(1, batch);
    expect(space.status().replicas[0]).toMatchObject({ lagMs: 'unknown', lagEntries: 1_500 });
    for (let round = 2; round <= 3; round++) {
      const late = await open('b', { listen: address! });
      await space.flushed((round - 1) * 1_500, { replicas: 1, timeoutMs: 20_000 });
      await late.close();
      await space.appendBatch(1, batch);
    }
    const last = await open('b', { listen: address! });
    await space.flushed(4_500, { replicas: 1, timeoutMs: 20_000 });
    expect(await contentOf(last.space('s'))).toEqual(await contentOf(space));
  });

  test('a space with few replicas goes to those alone; a new one may join later', async () => {
    const b = await open('b', { listen: LISTEN });
    const c = await open('c', { listen: LISTEN });
    const replicas = [
      { nodeId: 'b', ...b.address! },
      { nodeId: 'c', ...c.address! },
    ];
    const a = await open('a', { replicas });
    const space = await a.openSpace('s', { replicas: ['b'] });
    await space.append(1, bytes('x'), { ack: { replicas: 1 } });
    const both = { ack: { replicas: 2 } };
    await expect(space.append(1, bytes('x'), both)).rejects.toMatchObject({
      code: 'Configuration',
    });
    expect(() => c.space('s')).toThrow(/SpaceUnknown/);
    await a.openSpace('s', { replicas: ['b', 'c'] });
    await space.flushed(1, { replicas: 2, timeoutMs: 10_000 });
    await until('c has all of it', () => {
      const { lastSequence, members } = space.status();
      return (
        members?.pending === undefined && c.space('s').status().durableSequence === lastSequence
      );
    });
    expect(await contentOf(c.space('s'))).toEqual(await contentOf(space));
  });

  test('two nodes that list each other lead spaces of their own', async () => {
    const ports = [await open('a', { listen: LISTEN }), await open('b', { listen: LISTEN })];
    const [pa, pb] = ports.map((n) => n.address!);
    for (const node of ports) await node.close();
    const lead = true;
    const a = await open('a', { listen: pa!, lead, replicas: [{ nodeId: 'b', ...pb! }] });
    const b = await open('b', { listen: pb!, lead, replicas: [{ nodeId: 'a', ...pa! }] });
    const ack = { replicas: 1, timeoutMs: 10_000 };
    await until('both are linked', () =>
      [a, b].every((n) => n.status().replicas[0]!.state === 'streaming'),
    );
    await (await a.openSpace('of-a')).append(1, bytes('a'), { ack });
    await (await b.openSpace('of-b')).append(1, bytes('b'), { ack });
    // Known there already: opening it makes this node its replica, whatever `lead` says.
    expect((await b.openSpace('of-a')).status()).toMatchObject({ role: 'replica' });
    expect(await contentOf(a.space('of-b'))).toEqual(await contentOf(b.space('of-b')));
  });

  test('a leader asks first: a space that a member knows is not made twice', async () => {
    const { a, b } = await pair();
    await (await a.openSpace('s')).append(1, bytes('x'), { ack: { replicas: 1 } });
    const d = await open('d', { replicas: [{ nodeId: 'b', ...b.address! }], ...ASKS_LONG });
    const space = await d.openSpace('s');
    expect(space.status()).toMatchObject({ role: 'replica', primaryNodeId: 'a' });
    await expect(space.append(1, bytes('y'))).rejects.toMatchObject({ code: 'NotPrimary' });
  });

  test('a primary whose disk went back in time fills itself up before it appends', async () => {
    const { cpSync } = await import('node:fs');
    const { a, b } = await pair();
    const space = await a.openSpace('s');
    await space.append(1, bytes('1'), { ack: { replicas: 1 } });
    await a.close();
    cpSync(path.join(folder, 'a'), path.join(folder, 'backup'), { recursive: true });
    const replicas = [{ nodeId: 'b', ...b.address! }];
    const again = await open('a', { replicas });
    const ahead = again.space('s');
    await ahead.append(1, bytes('2'), { ack: { replicas: 1 } });
    await again.close();
    removeFolder(path.join(folder, 'a'));
    cpSync(path.join(folder, 'backup'), path.join(folder, 'a'), { recursive: true });
    const stale = await open('a', { replicas, ...ASKS_LONG });
    const filled = await stale.openSpace('s');
    expect(await filled.append(1, bytes('other'))).toEqual({ sequence: 4, epoch: 2 });
    await filled.flushed(4, { replicas: 1 });
    expect(await contentOf(b.space('s'))).toEqual(await contentOf(filled));
  });
});

describe('apply', () => {
  test('in order, acknowledged as applied, and not again after a clean restart', async () => {
    const applied: string[] = [];
    const apply = (entries: Entry[], { space }: { space: string }): void => {
      for (const e of entries) applied.push(`${space} ${e.sequence}`);
    };
    const { a, b } = await pair({ apply });
    const space = await a.openSpace('s');
    for (let i = 0; i < 50; i++) await space.append(1, bytes('x'));
    await until('applied is told', () => space.status().replicas[0]!.appliedSequence >= 50);
    expect(applied).toEqual(Array.from({ length: 50 }, (_, i) => `s ${i + 1}`));
    const listen = b.address!;
    await b.close();
    const again = await open('b', { listen, apply });
    await space.append(1, bytes('x'));
    await until('the new one is applied', () => again.space('s').status().appliedSequence >= 51);
    expect(applied.at(-1)).toBe('s 51');
    expect(applied).toHaveLength(51);
  });

  test('a callback that throws gets the same entries again; nothing is skipped', async () => {
    let failures = 0;
    const seen: number[] = [];
    const apply = (entries: Entry[]): void => {
      if (entries.some((e) => e.sequence >= 3) && failures < 2) {
        failures++;
        throw new Error('not now');
      }
      seen.push(...entries.map((e) => e.sequence));
    };
    const { a, b } = await pair({ apply });
    const events: number[] = [];
    b.on('apply-failed', (e) => events.push(e.attempts));
    const space = await a.openSpace('s');
    for (let i = 0; i < 5; i++) await space.append(1, bytes('x'));
    await space.flushed(5, { replicas: 1, timeoutMs: 20_000 });
    await until('all applied', () => b.space('s').status().appliedSequence >= 5);
    expect(seen).toEqual([1, 2, 3, 4, 5]);
    expect(events).toEqual([1, 2]);
  });

  test('the host’s own position is where applying begins; beyond the log: blocked', async () => {
    const { a, b } = await pair();
    const space = await a.openSpace('s');
    for (let i = 0; i < 5; i++) await space.append(1, bytes('x'), { ack: { replicas: 1 } });
    const listen = b.address!;
    await b.close();
    const seen: number[] = [];
    const apply = (entries: Entry[]): void => {
      seen.push(...entries.map((e) => e.sequence));
    };
    const third = await open('b', { listen, apply, appliedUpTo: () => 3 });
    await until('applied', () => third.space('s').status().appliedSequence >= 5);
    expect(seen).toEqual([4, 5]);
    await third.close();
    const blocked = await open('b', { listen, apply, appliedUpTo: async () => 9 });
    const event = await new Promise((resolve) => blocked.on('apply-blocked', resolve));
    expect(event).toMatchObject({ space: 's', sequence: 9, reason: 'beyond-log' });
    expect(seen).toEqual([4, 5]);
  });
});
