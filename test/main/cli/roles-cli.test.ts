import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { contentOf, until } from '../../support/cluster.js';
import { freePort } from '../../support/etcd.js';
import { Trio } from '../../support/trio.js';

const CLI = path.join(import.meta.dirname, '../../../dist/main/cli.js');

let trio: Trio;

afterEach(async () => {
  await trio.close();
});

interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

async function run(...args: string[]): Promise<Ran> {
  const child = spawn(process.execPath, [CLI, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk) => {
    out += chunk;
  });
  child.stderr.on('data', (chunk) => {
    err += chunk;
  });
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  return { code, out, err };
}

describe('the command line about who leads', () => {
  test('promote of all that a lost node led, and of a restored backup, at one call', async () => {
    trio = await Trio.make();
    const dir = (id: string): string => path.join(trio.folder, id);
    const a = await trio.start('a');
    const b = await trio.start('b');
    await trio.start('c');
    const names = Array.from({ length: 40 }, (_, n) => `tenant-${n}`);
    const spaces = await Promise.all(names.map((name) => a.openSpace(name)));
    const ack = { replicas: 2, timeoutMs: 20_000 };
    await Promise.all(spaces.map((space) => space.append(1, Buffer.from('kept'), { ack })));
    for (const wrong of [[], ['--of', 'a', '--space', 'tenant-1'], ['--of', 'nobody-here']]) {
      expect(await run('promote', dir('b'), ...wrong)).toMatchObject({ code: 4, out: '' });
    }
    const copy = path.join(trio.folder, 'copy');
    await b.backup(copy);
    await trio.stop('c');
    await Promise.all(spaces.slice(0, 3).map((space) => space.append(1, Buffer.from('b has it'))));
    for (const space of spaces.slice(0, 3)) await space.flushed(2, { replicas: 1 });
    await trio.stop('a');
    await trio.start('c');

    const dry = await run('promote', dir('c'), '--of', 'a', '--dry-run');
    expect(dry).toMatchObject({ code: 1, err: '' });
    expect(dry.out).toContain('this node may lead 37 of 40 spaces');
    expect(dry.out).toContain('tenant-2 not: ');
    const done = await run('promote', dir('b'), '--of', 'a');
    expect(done).toMatchObject({ code: 0, out: 'this node leads 40 of 40 spaces\n' });
    expect(names.every((name) => b.space(name).status().epoch === 2)).toBe(true);

    for (const id of ['b', 'c']) await trio.stop(id);
    fs.rmSync(dir('b'), { recursive: true });
    fs.renameSync(copy, dir('b'));
    await trio.start('b');
    const refused = JSON.parse((await run('promote', dir('b'), '--orphans', '--json')).out);
    expect(refused).toMatchObject({ spaces: 40, led: 0 });
    expect(refused.refused).toHaveLength(20);
    const forced = await run('promote', dir('b'), '--orphans', '--force');
    expect(forced.code).toBe(0);
    expect(forced.out).toContain('this node leads 40 of 40 spaces');
  }, 60_000);

  test('promote, locate, switchover on running nodes; quarantine ls and export', async () => {
    trio = await Trio.make(['a', 'b']);
    const dir = (id: string): string => path.join(trio.folder, id);
    const a = await trio.start('a');
    const b = await trio.start('b');
    const space = await a.openSpace('s');
    for (let n = 1; n <= 10; n++) await space.append(1, Buffer.from(`entry ${n}`));
    await space.flushed(10, { replicas: 1, timeoutMs: 20_000 });
    await trio.stop('b');
    for (let n = 11; n <= 14; n++) await space.append(1, Buffer.from(`entry ${n}`));
    await trio.stop('a');
    await trio.start('b');

    const dry = await run('promote', dir('b'), '--space', 's', '--dry-run', '--replicas', '1');
    expect(dry).toMatchObject({ code: 0, err: '' });
    expect(dry.out).toContain('s: this node may lead; it ends at entry 10 of epoch 1');
    expect(dry.out).toContain('a is silent');
    const strict = await run('promote', dir('b'), '--space', 's', '--replicas', '0', '--json');
    expect(strict.code).toBe(2);
    expect(strict.err).toContain('PromotionRefused');
    const done = await run('promote', dir('b'), '--space', 's', '--json');
    expect(done.code).toBe(0);
    expect(JSON.parse(done.out)).toMatchObject({ isPromoted: true, epoch: 2, lost: [] });

    await trio.start('a');
    await until('a has gone back', () => trio.heard('a', 'rewound').length === 1);
    await trio.settled('b', 's', 1);
    const found = await run('locate', dir('a'), '--space', 's', '--json');
    expect(JSON.parse(found.out)).toMatchObject({ nodeId: 'b', epoch: 2 });

    const list = await run('quarantine', 'ls', dir('a'), '--json');
    const [kept] = JSON.parse(list.out).rewinds;
    expect(kept).toMatchObject({ space: 's', from: 11, to: 14, entries: 4 });
    expect((await run('quarantine', 'ls', dir('a'))).out).toContain('s 11 to 14, 4 entries');
    const exported = await run('quarantine', 'export', dir('a'), kept.file);
    const rows = exported.out.trim().split('\n');
    expect(rows.map((row) => JSON.parse(row).sequence)).toEqual([11, 12, 13, 14]);
    expect(Buffer.from(JSON.parse(rows[0]!).payload, 'base64').toString()).toBe('entry 11');
    const none = await run('quarantine', 'export', dir('a'), '../node.json');
    expect(none).toMatchObject({ code: 4, out: '' });

    const over = await run('switchover', dir('b'), '--space', 's', '--to', 'a', '--json');
    expect(over.err).toBe('');
    expect(JSON.parse(over.out)).toMatchObject({ from: 'b', to: 'a', epoch: 3 });
    await trio.settled('a', 's', 1);
    const [atA, atB] = ['a', 'b'].map((id) => contentOf(trio.open.get(id)!.space('s')));
    expect(await atA).toEqual(await atB);
    expect(b).toBeDefined();
  });

  test('drain hands over, names what stays; rebalance gives what is too much', async () => {
    trio = await Trio.make();
    const dir = (id: string): string => path.join(trio.folder, id);
    const nodes = [await trio.start('b'), await trio.start('c'), await trio.start('a')];
    const a = nodes[2]!;
    const led = (): number[] =>
      nodes.map((node) => node.spaces.filter((s) => s.status().role === 'primary').length);
    const names = ['s1', 's2', 's3', 's4', 's5', 's6'];
    for (const name of names) {
      const space = await a.openSpace(name, name === 's6' ? { replicas: ['c'] } : {});
      await space.append(1, Buffer.from(name), { ack: { replicas: 1, timeoutMs: 20_000 } });
    }
    expect(led()).toEqual([0, 0, 6]);
    const drained = await run('drain', dir('a'), '--json');
    expect(drained).toMatchObject({ code: 0, err: '' });
    expect(JSON.parse(drained.out)).toEqual({ handed: { b: 3, c: 3 }, led: 0, kept: [] });
    expect(led()).toEqual([3, 3, 0]);

    // Who has just been given a space may not have met its other nodes yet.
    const met = (): boolean =>
      nodes[1]!.spaces
        .map((space) => space.status())
        .filter(({ role }) => role === 'primary')
        .every(({ replicas }) => replicas.every(({ state }) => state === 'streaming'));
    await until('c has met them', met);
    // Nobody but c and a has s6; c gives a what it leads more than a does.
    const given = await run('rebalance', dir('c'));
    expect(given).toMatchObject({ code: 0, out: 'a leads 1 more; this node leads 2\n' });
    expect((await run('rebalance', dir('c'))).out).toContain('nothing was handed over');
    for (const name of names) {
      const here = nodes.flatMap((n) => n.spaces).filter((s) => s.name === name);
      const space = here.find((s) => s.status().role === 'primary');
      await space!.append(1, Buffer.from('goes on'), { ack: { replicas: 1, timeoutMs: 20_000 } });
      const told = (await contentOf(space!)).map((e) => e.split(' ').at(-1)!);
      const texts = told.map((text) => Buffer.from(text, 'base64').toString());
      expect(texts.filter((text) => text === name || text === 'goes on')).toEqual([
        name,
        'goes on',
      ]);
    }

    await trio.stop('c');
    await trio.stop('a');
    const alone = await run('drain', dir('b'));
    expect(alone.code).toBe(1);
    expect(alone.out).toContain('nothing was handed over; this node leads 3');
    expect(alone.out).toContain('stays: none of its other nodes is connected');
    expect(await run('log-level', dir('b'), 'debug')).toMatchObject({ code: 4 });
  });

  test('a node that has moved is dialled where it is now', async () => {
    trio = await Trio.make(['a', 'b']);
    const a = await trio.start('a');
    await trio.start('b');
    const space = await a.openSpace('s');
    const ack = { ack: { replicas: 1, timeoutMs: 20_000 } };
    await space.append(1, Buffer.from('before'), ack);
    await trio.stop('b');
    const port = await freePort();
    await trio.start('b', { listen: { host: '127.0.0.1', port } });
    const moved = ['--node', 'b', '--host', '127.0.0.1', '--port', String(port)];
    expect((await run('add-replica', path.join(trio.folder, 'a'), ...moved)).code).toBe(0);
    await space.append(1, Buffer.from('after'), ack);
    const again = await run('add-replica', path.join(trio.folder, 'a'), ...moved);
    expect(again).toMatchObject({ code: 4 });
    expect(again.err).toContain('the nodeId b is taken');
  });

  test('only who may read the directory can ask; a node that is not there is told', async () => {
    trio = await Trio.make(['a']);
    const dir = path.join(trio.folder, 'a');
    await trio.start('a');
    const told = path.join(dir, 'admin');
    expect(fs.statSync(told).mode & 0o777).toBe(0o600);
    await trio.stop('a');
    expect(fs.existsSync(told)).toBe(false);
    const gone = await run('promote', dir, '--space', 's');
    expect(gone.code).toBe(2);
    expect(gone.err).toContain('NotRunning');
    expect((await run('promote', dir)).code).toBe(4);
  });
});
