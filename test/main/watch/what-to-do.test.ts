/** The words of a node say what their reader must do: nothing, soon, now. */
import path from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { statusText } from '#src/main/cli/text/status.js';
import type { Node, NodeOptions } from '#src/main/index.js';
import { openNodeOn } from '#src/main/node/open-node.js';
import { DISK_NOW_MS, DISK_SOON_MS, DiskRoom } from '#src/main/watch/health/disk-room.js';
import { exitCodeOf, HEALTH_WORDS, todoOf } from '#src/main/watch/health/words.js';
import type { StatusJson } from '#src/main/watch/status-json.js';
import { at, EachTest, heard, removeFolder, until } from '../../support/cluster.js';
import { freePort } from '../../support/etcd.js';
import { TINY } from '../../support/fake-cluster.js';
import { FakeDisk } from '../../support/fake-disk.js';

const each = new EachTest();
const LISTEN = { host: '127.0.0.1', port: 0 };
const HTTP = { host: '127.0.0.1', port: 0 };

function start(nodeId: string, more: Partial<NodeOptions> = {}): Promise<Node> {
  return each.start(nodeId, { ...TINY, http: HTTP, ...more });
}

async function fake(disk: FakeDisk, nodeId: string, more: Partial<NodeOptions> = {}) {
  const options = { ...TINY, dataDir: '/data', nodeId, http: HTTP, ...more };
  const node = await openNodeOn(disk.mount(), options);
  each.finally(() => node.close());
  return node;
}

/** Asks until it is as wanted: what is shown may be a second old. */
async function seen(
  node: Node,
  is: (status: StatusJson) => boolean,
  space?: string,
  asked = space === undefined ? '' : `?space=${space}`,
) {
  const url = `http://127.0.0.1:${node.httpAddress!.port}/replication/status${asked}`;
  const deadlineMs = performance.now() + 30_000;
  for (;;) {
    const status = (await (await fetch(url)).json()) as StatusJson;
    if (is(status)) return status;
    if (performance.now() > deadlineMs) throw new Error(JSON.stringify(status.problems));
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const has =
  (kind: string) =>
  ({ problems }: StatusJson): boolean =>
    problems.some((problem) => problem.kind === kind);

test('each word has one meaning and one exit code', () => {
  const told = HEALTH_WORDS.map((word) => [word, todoOf(word), exitCodeOf(word)]);
  expect(told).toEqual([
    ['healthy', 'nothing', 0],
    ['lagging', 'nothing', 0],
    ['degraded', 'soon', 1],
    ['failed', 'now', 2],
    ['corrupt', 'now', 3],
  ]);
});

describe('a replica is dead', () => {
  test('of two, while appends go on: soon, for the node and its spaces', async () => {
    const b = await start('b', { listen: LISTEN });
    const c = await start('c', { listen: LISTEN });
    const replicas = [at('b', b.address!.port), at('c', c.address!.port)];
    const a = await start('a', { replicas });
    const spaces = await Promise.all(['s', 't'].map((name) => a.openSpace(name)));
    for (const space of spaces) await space.append(1, Buffer.from('x'), { ack: { replicas: 2 } });
    await c.close();
    for (const space of spaces) await space.append(1, Buffer.from('y'), { ack: { replicas: 1 } });
    const status = await seen(a, has('replica-failed'));
    expect(status).toMatchObject({ health: 'degraded', todo: 'soon' });
    // One cause is one problem, and says where the handbook speaks of it.
    expect(status.problems).toHaveLength(1);
    expect(status.problems[0]).toMatchObject({
      subject: 'c',
      todo: 'soon',
      spaces: 2,
      chapter: 'a-replica-lags',
    });
    expect(status.spaces).toMatchObject({ degraded: 2, failed: 0 });
    // The spaces of one cause are found by it; of another one there are none.
    const caused = await seen(a, () => true, undefined, '?cause=replica-failed:c');
    expect(caused.rows.map(({ name }) => name)).toEqual(['s', 't']);
    const others = await seen(a, () => true, undefined, '?cause=replica-failed:b');
    expect(others.rows).toEqual([]);
    const text = statusText(status);
    expect(text).toMatch(/SOON for .*OPERATIONS.md#a-replica-lags\)\n {4}spaces: s, t\n {4}do: /);
    expect(text).toMatch(/start c again.*\n {6}systemctl restart engram-wal {2}# on c\n/);
  });

  test('and is the only one: now, for what is appended has one copy', async () => {
    const b = await start('b', { listen: LISTEN });
    const a = await start('a', { replicas: [at('b', b.address!.port)] });
    const space = await a.openSpace('s');
    await space.append(1, Buffer.from('x'), { ack: { replicas: 1 } });
    await b.close();
    await space.append(1, Buffer.from('y'));
    const status = await seen(a, has('replica-failed'));
    expect(status).toMatchObject({ health: 'failed', todo: 'now' });
    expect(status.problems[0]!.text).toMatch(/appends to s are on too few disks/);
  });

  test('and nothing was ever appended: what has no entries lacks no copy', async () => {
    const ports = [await freePort(), await freePort()];
    const replicas = [at('b', ports[0]!), at('c', ports[1]!)];
    // It is made before anybody has come, so that its first set names nobody else.
    const a = await start('a', { replicas });
    const space = await a.openSpace('s');
    const b = await start('b', { listen: { host: '127.0.0.1', port: ports[0]! } });
    const c = await start('c', { listen: { host: '127.0.0.1', port: ports[1]! } });
    await until('both follow', () =>
      space.status().replicas.every(({ state }) => state === 'streaming'),
    );
    const well = await seen(a, ({ health }) => health === 'healthy');
    expect(well.rows.map((row) => row.health)).toEqual(['healthy']);
    await c.close();
    const status = await seen(a, has('replica-failed'));
    expect(status).toMatchObject({ health: 'degraded', todo: 'soon' });
    expect(status.problems[0]!.text).not.toContain('too few');
    await b.close();
  });

  test('and a new disk under its name: now, as long as it does not count', async () => {
    const b = await start('b', { listen: LISTEN });
    const { port } = b.address!;
    const a = await start('a', { replicas: [at('b', port)] });
    const space = await a.openSpace('s');
    await space.append(1, Buffer.from('x'), { ack: { replicas: 1 } });
    await b.close();
    removeFolder(path.join(each.folder, 'b'));
    await start('b', { listen: { ...LISTEN, port } });
    await until('it has all', () => space.status().replicas[0]!.lagEntries === 0);
    await until('it is new', () => space.status().members.learners.includes('b'));
    const ack = { replicas: 1, timeoutMs: 100 };
    await expect(space.append(1, Buffer.from('y'), { ack })).rejects.toMatchObject({
      code: 'AckTimeout',
    });
    const status = await seen(a, has('learner'));
    expect(status).toMatchObject({ health: 'failed', todo: 'now' });
    expect(status.rows.map((row) => row.health)).toEqual(['failed']);
    expect(status.spaces).toMatchObject({ healthy: 0, failed: 1 });
    expect(status.problems[0]!.text).toMatch(/b does not count yet .*: s; appends to s are on too/);
    // As the advice says.
    await a.removeReplica('b', { force: true });
    await a.addReplica(at('b', port));
    await space.append(1, Buffer.from('z'), { ack: { replicas: 1 } });
    await seen(a, ({ health, problems }) => health === 'healthy' && problems.length === 0);
  });

  test('of a full disk: its reason says so once', async () => {
    const disk = new FakeDisk();
    const b = await fake(disk, 'b', { listen: LISTEN });
    const a = await start('a', { replicas: [at('b', b.address!.port)] });
    const space = await a.openSpace('s');
    await space.append(1, Buffer.from('x'), { ack: { replicas: 1 } });
    disk.capacityBytes = disk.usedBytes + 4_096;
    for (let n = 0; n < 60; n++) await space.append(1, Buffer.alloc(500, n));
    const isFull = ({ problems }: StatusJson) => problems.some((p) => p.text.includes('DiskFull'));
    const { problems, replicas } = await seen(a, isFull);
    for (const text of [...problems.map((p) => p.text), replicas[0]!.lastLoss ?? '']) {
      expect(text.split('DiskFull').length - 1, text).toBeLessThanOrEqual(1);
      expect(text).not.toMatch(/expected:|to do:/);
    }
    const own = await seen(b, has('log-read-only'));
    expect(own).toMatchObject({ todo: 'now', spaces: { healthy: 0, failed: 1 } });
    expect(own.rows.map((row) => row.health)).toEqual(['failed']);
    const caused = await seen(b, () => true, undefined, '?cause=log-read-only');
    expect(caused.rows.map(({ name }) => name)).toEqual(['s']);
    disk.capacityBytes = Number.POSITIVE_INFINITY;
  });
});

describe('a leader is dead', () => {
  test('with nobody else to lead: now; led by another: forgotten', async () => {
    const c = await start('c', { listen: LISTEN });
    const b = await start('b', { listen: LISTEN, replicas: [at('c', c.address!.port)] });
    const replicas = [at('b', b.address!.port), at('c', c.address!.port)];
    const a = await start('a', { replicas, listen: LISTEN, lead: true });
    const space = await a.openSpace('s');
    await space.append(1, Buffer.from('x'), { ack: { replicas: 2 } });
    await a.close();
    const alone = await seen(c, has('primary-gone'));
    expect(alone).toMatchObject({ health: 'failed', todo: 'now' });
    expect(alone.primaries.map((primary) => primary.primaryId)).toEqual(['a']);
    await b.promote('s');
    const followed = await seen(c, (status) => status.problems.length === 0);
    expect(followed).toMatchObject({ health: 'healthy', todo: 'nothing' });
    expect(followed.primaries.map((primary) => primary.primaryId)).toEqual(['b']);
    // Whom it is to get back, or to remove: one copy less.
    await seen(b, ({ problems, todo }) => {
      return todo === 'soon' && problems.some(({ subject }) => subject === 'a');
    });
  });
});

describe('asked for one space', () => {
  test('the others’ problems are not told, nor do they count', async () => {
    const b = await start('b', { listen: LISTEN });
    const c = await start('c', { listen: LISTEN });
    const replicas = [at('b', b.address!.port), at('c', c.address!.port)];
    const a = await start('a', { replicas });
    const sound = await a.openSpace('sound', { replicas: ['b'] });
    const other = await a.openSpace('other', { replicas: ['c'] });
    for (const space of [sound, other]) {
      await space.append(1, Buffer.from('x'), { ack: { replicas: 1 } });
    }
    await c.close();
    await other.append(1, Buffer.from('y'));
    const whole = await seen(a, has('replica-failed'));
    expect(whole.todo).toBe('now');
    const of = await seen(a, () => true, 'sound');
    expect(of).toMatchObject({ health: 'healthy', todo: 'nothing', problems: [] });
    const its = await seen(a, () => true, 'other');
    expect(its).toMatchObject({ todo: 'now', problems: [{ kind: 'replica-failed' }] });
  });

  test('a node without a host says nothing of what is applied', async () => {
    const b = await start('b', { listen: LISTEN });
    const applied = await start('c', { listen: LISTEN, apply: () => undefined });
    const replicas = [at('b', b.address!.port), at('c', applied.address!.port)];
    const a = await start('a', { replicas });
    const space = await a.openSpace('s');
    await space.append(1, Buffer.from('x'), { ack: { replicas: 2 } });
    expect((await seen(b, () => true, 's')).rows[0]!.appliedSequence).toBeNull();
    await seen(applied, ({ rows }) => rows[0]!.appliedSequence === 1, 's');
  });
});

describe('a disk that fills', () => {
  const GIB = 2 ** 30;
  /** Samples of an hour at most, five seconds apart. */
  function filled(minutes: number, freeAt: (minute: number) => number): DiskRoom {
    const room = new DiskRoom(() => Promise.resolve(0));
    for (let s = 0; s <= 60 * minutes; s += 5) room.add(1_000 * s, freeAt(s / 60));
    return room;
  }

  test('is told by hours, at the pace of the last hour', () => {
    // 1 GiB an hour, 10 left.
    const { status } = filled(180, (minute) => 13 * GIB - (minute * GIB) / 60);
    expect(status!.freeBytes).toBe(10 * GIB);
    expect(status!.fullInMs! / 3_600_000).toBeCloseTo(10, 0);
    expect(status!.fullInMs).toBeLessThan(DISK_SOON_MS);
  });

  test('a burst of minutes says nothing of tomorrow, and enough of the next hour', () => {
    const calm = filled(60, () => 10 * GIB);
    expect(calm.status!.fullInMs).toBeUndefined();
    // 0.1 GiB a minute for five minutes: by the hour's pace there is time enough.
    const burst = filled(60, (minute) => (10 - Math.max(0, minute - 55) / 10) * GIB);
    expect(burst.status!.fullInMs! / 3_600_000).toBeGreaterThan(15);
    // What has come and gone is no pace at all.
    const gone = filled(60, (minute) => (minute > 20 && minute < 50 ? 1 : 10 - minute / 100) * GIB);
    expect(gone.status!.fullInMs).toBeUndefined();
    const fast = filled(10, (minute) => (10 - minute * 0.75) * GIB);
    expect(fast.status!.fullInMs).toBeLessThan(DISK_NOW_MS);
  });

  test('is an event of a node that nobody watches, and another one when it is over', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] });
    each.finally(() => vi.useRealTimers());
    const disk = new FakeDisk();
    disk.capacityBytes = 2 ** 30;
    const node = await openNodeOn(disk.mount(), { ...TINY, dataDir: '/data', nodeId: 'a' });
    each.finally(() => node.close());
    const told = heard(node, 'disk-room');
    const minutes = async (n: number): Promise<void> => {
      for (let i = 0; i < n; i++) {
        await vi.advanceTimersByTimeAsync(60_000);
        await new Promise((resolve) => setImmediate(resolve));
      }
    };
    await minutes(3);
    for (let n = 0; n < 30; n++) {
      disk.capacityBytes -= 2 ** 20;
      await minutes(1);
    }
    expect(told).toMatchObject([{ todo: 'soon', fullInMs: expect.any(Number) }]);
    await minutes(70);
    expect(told).toMatchObject([{ todo: 'soon' }, { todo: 'nothing' }]);
    const said = node.recentEvents.filter(({ event }) => event === 'disk-room');
    expect(said.map(({ level }) => level)).toEqual(['warn', 'info']);
  });

  test('what does not answer is unknown, and what it knew is forgotten', async () => {
    let free: Promise<number> = Promise.resolve(5);
    const room = new DiskRoom(() => free);
    expect(room.status).toBeUndefined();
    await room.look();
    expect(room.status).toEqual({ freeBytes: 5, fullInMs: undefined });
    free = Promise.reject(new Error('gone'));
    const later = new DiskRoom(() => free);
    await later.look();
    expect(later.status).toBeUndefined();
  });
});
