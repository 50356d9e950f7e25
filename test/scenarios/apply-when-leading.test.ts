/** One way into the host's state for both roles: `apply` on the node that leads as well. */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Node, NodeOptions, Role, Space } from '#src/main/index.js';
import { APPLY_BEHIND_MAX } from '#src/shared/limits.js';
import { contentOf, EachTest, openSmall, until } from '../support/cluster.js';
import { openFake } from '../support/fake-cluster.js';
import { FakeDisk } from '../support/fake-disk.js';
import { Trio } from '../support/trio.js';

const life = new EachTest();
const LONG = { timeoutMs: 20_000 };

/** A host whose state is what it was handed, and which knows how far it is. */
class Host {
  readonly entries: string[] = [];
  readonly roles = new Set<Role>();
  upTo = 0;
  rewinds = 0;
  /** Awaited before anything is applied. */
  before: () => Promise<unknown> = async () => undefined;

  options(keepsPosition = true): Partial<NodeOptions> {
    return {
      applyWhenLeading: true,
      apply: async (entries, { position, role }) => {
        await this.before();
        this.roles.add(role);
        for (const { sequence, payload } of entries) {
          expect(sequence).toBe(this.upTo + 1);
          this.entries.push(`${sequence} ${Buffer.from(payload).toString('base64')}`);
          this.upTo = sequence;
        }
        expect(this.upTo).toBe(position.sequence);
      },
      rewound: (_, { from }) => {
        this.rewinds++;
        this.entries.length = Math.min(this.entries.length, from - 1);
        this.upTo = Math.min(this.upTo, from - 1);
      },
      ...(keepsPosition && { appliedUpTo: () => this.upTo }),
    };
  }

  /** Has each entry of the space once, in order, and nothing else. */
  async check(space: Space): Promise<void> {
    await until(`all is applied on ${space.name}`, () => {
      return this.upTo === space.status().durableSequence;
    });
    const log = (await contentOf(space)).map((line) => line.split(' '));
    expect(this.entries).toEqual(log.map(([sequence, , , , payload]) => `${sequence} ${payload}`));
    expect(space.status().appliedSequence).toBe(this.upTo);
  }
}

const entry = (n: number): Buffer => Buffer.from(`entry ${n}`);

describe('on one node', () => {
  test('an append resolves behind apply where that is asked, and only then', async () => {
    const host = new Host();
    const node = await life.start('a', host.options());
    const space = await node.openSpace('s');
    for (let n = 1; n <= 20; n++) {
      const { sequence } = await space.append(1, entry(n), { until: 'applied' });
      expect(host.upTo).toBeGreaterThanOrEqual(sequence);
    }
    let release = (): void => undefined;
    host.before = () =>
      new Promise<void>((resolve) => {
        release = resolve;
      });
    let isApplied = false;
    const waiting = space.append(1, entry(21), { until: 'applied' }).then(() => {
      isApplied = true;
    });
    await space.append(1, entry(22));
    expect([isApplied, host.upTo]).toEqual([false, 20]);
    host.before = async () => undefined;
    release();
    await waiting;
    await space.waitFor({ sequence: 22, epoch: 1 }, { ...LONG, applied: true });
    await host.check(space);
    expect([...host.roles]).toEqual(['primary']);
    const late = space.append(1, entry(23), {
      until: 'applied',
      ack: { replicas: 0, timeoutMs: 50 },
    });
    host.before = () => new Promise((resolve) => setTimeout(resolve, 300));
    await expect(late).rejects.toMatchObject({ code: 'AckTimeout' });
  });

  test.each([true, false])('after a crash: with a position of its own (%s)', async (isOwn) => {
    const disk = new FakeDisk();
    const host = new Host();
    let node = await openFake(disk, host.options(isOwn));
    const space = await node.openSpace('s');
    for (let n = 1; n <= 9; n++) await space.append(1, entry(n), { until: 'applied' });
    host.before = () => Promise.reject(new Error('busy'));
    for (let n = 10; n <= 15; n++) await space.append(1, entry(n));
    disk.kill();
    await node.close().catch(() => undefined);
    const handed: number[] = [];
    const note = (entries: readonly { sequence: number }[]): void =>
      void handed.push(...entries.map((e) => e.sequence));
    node = await openFake(disk, { ...host.options(isOwn), apply: note });
    life.finally(() => node.close());
    await until('all is handed over', () => handed.includes(15));
    // Without it what the node had noted counts: entries come again, and none is left out.
    if (isOwn) expect(handed[0]).toBe(10);
    else expect(handed[0]).toBeLessThanOrEqual(10);
    expect(handed).toEqual(handed.map((_, i) => handed[0]! + i));
  });

  test('a host that lags far behind makes appends wait, and then refuses them', async () => {
    let release = (): void => undefined;
    const stuck = new Promise<void>((resolve) => {
      release = resolve;
    });
    const node = await life.start('a', {
      applyWhenLeading: true,
      apply: (_, context) => (context.space === 's' ? stuck : undefined),
      memoryBudgetBytes: 8 * 1024 * 1024,
    });
    const space = await node.openSpace('s');
    const many = Array.from({ length: 10_000 }, () => new Uint8Array(0));
    for (let n = 0; n < APPLY_BEHIND_MAX; n += many.length) await space.appendBatch(1, many);
    expect(space.tryAppend(1, entry(1))).toBeUndefined();
    const refused = { code: 'Backpressure' };
    await expect(space.append(1, entry(1), { wait: false })).rejects.toMatchObject(refused);
    const other = await node.openSpace('t');
    await other.append(1, entry(1));
    const waiting = space.append(1, entry(1));
    release();
    expect(await waiting).toEqual({ sequence: APPLY_BEHIND_MAX + 1, epoch: 1 });
  });

  test('where nobody asks for an fdatasync, appends that wait for apply do', async () => {
    const node = await life.start('a', {
      ...{ applyWhenLeading: true, apply: () => undefined, fsync: 'none' as const },
      ...{ memoryBudgetBytes: 8 * 1024 * 1024, segmentBytes: 16 * 1024 * 1024 },
    });
    const space = await node.openSpace('s');
    const many = Array.from({ length: 10_000 }, () => new Uint8Array(0));
    for (let n = 0; n < APPLY_BEHIND_MAX; n += many.length) await space.appendBatch(1, many);
    const taken = { sequence: APPLY_BEHIND_MAX + 1, epoch: 1 };
    expect(await space.append(1, entry(1))).toEqual(taken);
    const replica = { nodeId: 'b', host: '127.0.0.1', port: 1 };
    await expect(node.addReplica(replica)).rejects.toMatchObject({ code: 'Configuration' });
  });

  test('what does not go together is refused', async () => {
    const alone = openSmall(path.join(life.folder, 'x'), 'x', { applyWhenLeading: true });
    await expect(alone).rejects.toMatchObject({ code: 'Configuration' });
    const space = await (await life.start('a', { apply: () => undefined })).openSpace('s');
    for (const until of ['applied', 'never'] as 'applied'[]) {
      const append = space.append(1, entry(1), { until });
      await expect(append).rejects.toMatchObject({ code: 'Configuration' });
    }
  });
});

describe('on three', () => {
  async function threeOf(isCuttable = false) {
    const trio = await Trio.make(['a', 'b', 'c'], isCuttable);
    life.finally(() => trio.close());
    const hosts = { a: new Host(), b: new Host(), c: new Host() };
    const start = (id: 'a' | 'b' | 'c'): Promise<Node> => trio.start(id, hosts[id].options());
    const a = await start('a');
    const [b, c] = [await start('b'), await start('c')];
    return { trio, hosts, nodes: { a, b, c }, s: await a.openSpace('s'), start };
  }

  test('each entry once on each, through hand-overs there and back', async () => {
    const { hosts, nodes, s } = await threeOf();
    const appendTo = async (space: Space, from: number): Promise<void> => {
      const all = Array.from({ length: 50 }, (_, n) => space.append(1, entry(from + n)));
      await Promise.all(all);
    };
    await appendTo(s, 1);
    const during = s.append(1, entry(0), { until: 'applied' }).catch(() => undefined);
    await nodes.a.switchover('s', 'b');
    await during;
    await appendTo(nodes.b.space('s'), 100);
    await nodes.b.switchover('s', 'a');
    await appendTo(s, 200);
    await s.flushed(s.status().lastSequence, { replicas: 2, ...LONG });
    for (const id of ['a', 'b', 'c'] as const) await hosts[id].check(nodes[id].space('s'));
    expect([...hosts.a.roles].sort()).toEqual(['primary', 'replica']);
    expect([...hosts.c.roles]).toEqual(['replica']);
    expect(hosts.a.rewinds + hosts.b.rewinds + hosts.c.rewinds).toBe(0);
  });

  test('what a leader had applied and nobody received is undone, and replaced', async () => {
    const { trio, hosts, nodes, s } = await threeOf(true);
    await s.append(1, entry(1), { ack: { replicas: 2, ...LONG } });
    await trio.isolate('a');
    for (let n = 2; n <= 6; n++) await s.append(1, entry(n), { until: 'applied' });
    expect(hosts.a.upTo).toBe(6);
    await nodes.b.promote('s', { force: true });
    const led = nodes.b.space('s');
    for (let n = 10; n <= 13; n++) await led.append(1, entry(n), { until: 'applied' });
    const lost = s.append(1, entry(7), { until: 'applied' }).catch((error) => error);
    await trio.heal();
    await until('a has gone back', () => trio.heard('a', 'rewound').length > 0);
    expect(await lost).not.toMatchObject({ epoch: 2 });
    await led.flushed(led.status().lastSequence, { replicas: 2, ...LONG });
    for (const id of ['a', 'b', 'c'] as const) await hosts[id].check(nodes[id].space('s'));
    expect(hosts.a.rewinds).toBe(1);
  });

  test.each([
    'a crash',
    'an orderly end',
  ])('%s behind a hand-over leaves nothing out', async (how) => {
    const { trio, hosts, nodes } = await threeOf();
    await trio.stop('a');
    const a = await trio.start('a', hosts.a.options(false));
    const space = a.space('s');
    await space.append(1, entry(1), { until: 'applied' });
    hosts.a.before = () => Promise.reject(new Error('cannot'));
    for (let n = 2; n <= 6; n++) await space.append(1, entry(n));
    await trio.settled('a', 's', 2);
    await a.switchover('s', 'b');
    await until('a follows', () => space.status().role === 'replica');
    const dir = path.join(trio.folder, 'a');
    const image = path.join(life.folder, 'image');
    fs.cpSync(dir, image, { recursive: true });
    await trio.stop('a');
    if (how === 'a crash') {
      fs.rmSync(dir, { recursive: true });
      fs.cpSync(image, dir, { recursive: true });
    }
    const handed: number[] = [];
    const apply: NodeOptions['apply'] = (entries) =>
      void handed.push(...entries.map((e) => e.sequence));
    await trio.start('a', { ...hosts.a.options(false), lead: false, apply });
    await until('all is handed over', () => handed.includes(7));
    expect(handed[0]).toBeLessThanOrEqual(2);
    expect(handed).toEqual(handed.map((_, i) => handed[0]! + i));
    expect(nodes.b.space('s').status().role).toBe('primary');
  });
});
