/** A copy of a data directory is sound, somebody new, and leads by force alone. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import type { EngramError, Node, Space } from '#src/main/index.js';
import { at, contentOf, EachTest, openSmall, until } from '../../support/cluster.js';

const CLI = path.join(import.meta.dirname, '../../../dist/main/cli.js');
const LISTEN = { listen: { host: '127.0.0.1', port: 0 } };

const each = new EachTest();

function here(name: string): string {
  return path.join(each.folder, name);
}

async function open(dir: string, nodeId: string, more = {}): Promise<Node> {
  const node = await openSmall(here(dir), nodeId, more);
  each.finally(() => node.close());
  return node;
}

/** Entries of a space, short. */
async function rowsOf(space: Space, from: number, to?: number): Promise<string[]> {
  const rows = await contentOf(space, to === undefined ? { from } : { from, to });
  return rows.map((row) => createHash('sha256').update(row).digest('hex').slice(0, 16));
}

/** What a copy has is what the original has, as far as either retains it. @returns how much */
async function compare(copy: Space, original: Space): Promise<number> {
  const from = Math.max(...[copy, original].map((s) => s.status().firstSequence));
  const had = await rowsOf(copy, from);
  const to = from + had.length - 1;
  expect(had).toEqual(had.length === 0 ? [] : await rowsOf(original, from, to));
  return had.length;
}

/** Appends until it is told to stop. @returns ends it, with the last sequence acknowledged */
function load(space: Space): () => Promise<number> {
  let isOver = false;
  let last = 0;
  const done = (async () => {
    while (!isOver) {
      const batch = Array.from({ length: 20 }, (_, n) => Buffer.alloc(n === 0 ? 1 : 3_000, n));
      ({ lastSequence: last } = await space.appendBatch(1, batch));
    }
  })();
  return async () => {
    isOver = true;
    await done;
    return last;
  };
}

/** In a process of its own, while this one goes on: it may be the node that is asked. */
async function run(...args: string[]): Promise<{ status: unknown; out: string; err: string }> {
  return await runIn('', ...args);
}

async function runIn(
  cwd: string,
  ...args: string[]
): Promise<{ status: unknown; out: string; err: string }> {
  const child = spawn(process.execPath, [CLI, ...args], { cwd: here(cwd) });
  let [out, err] = ['', ''];
  child.stdout.on('data', (chunk) => {
    out += chunk;
  });
  child.stderr.on('data', (chunk) => {
    err += chunk;
  });
  const status = await new Promise((resolve) => child.on('close', resolve));
  return { status, out, err };
}

describe('a backup of a running node', () => {
  test('has what was durable when it was taken, and leads by force alone', async () => {
    const a = await open('a', 'a');
    const spaces = await Promise.all(['s', 't', 'u'].map((name) => a.openSpace(name)));
    const ends = spaces.map(load);
    await until('some segments', () => a.summary().segments > 4);
    const durable = spaces.map((space) => space.status().durableSequence);
    const report = await a.backup(here('b'));
    await Promise.all(ends.map((end) => end()));
    expect(report).toMatchObject({ target: here('b'), nodeId: 'a', spaces: 3, damagedPlaces: 0 });
    expect(report.directoryId).not.toBe(a.status().directoryId);
    expect(fs.readdirSync(each.folder).sort()).toEqual(['a', 'b']);

    const b = await open('b', 'a');
    expect(b.status().directoryId).toBe(report.directoryId);
    for (const [i, space] of spaces.entries()) {
      const copy = b.space(space.name);
      expect(await compare(copy, space)).toBeGreaterThanOrEqual(durable[i]!);
      expect(copy.status().role).toBe('replica');
      await expect(copy.append(1, Buffer.from('x'))).rejects.toMatchObject({ code: 'NotPrimary' });
    }

    const from = b.space('s').status().lastSequence + 1;
    const dry = await b.promote('s', { dryRun: true });
    expect(dry).toMatchObject({ isQualified: false, mayLackFrom: from });
    const refused = b.promote('s');
    await expect(refused).rejects.toMatchObject({ code: 'PromotionRefused' });
    await expect(refused).rejects.toThrow(`a copied directory: entries from ${from} on may lack`);
    const forced = await b.promote('s', { force: true });
    expect(forced).toMatchObject({ isPromoted: true, epoch: 2, mayLackFrom: from });
    await b.space('s').append(1, Buffer.from('on'));
    await b.close();
    // What it has become lasts; what it was not made stays a copy.
    const again = await open('b', 'a');
    expect(again.space('s').status().role).toBe('primary');
    expect(again.space('t').status().role).toBe('replica');
    await expect(again.promote('t')).rejects.toMatchObject({ code: 'PromotionRefused' });
  });

  test('under another name it follows its original in the same epoch', async () => {
    const a = await open('a', 'a');
    const space = await a.openSpace('s');
    await space.appendBatch(1, [Buffer.from('1'), Buffer.from('2')]);
    await a.backup(here('c'), { nodeId: 'c' });
    await space.append(1, Buffer.from('3'));
    const c = await open('c', 'c', LISTEN);
    await a.addReplica(at('c', c.address!.port));
    await space.flushed(3, { replicas: 1, timeoutMs: 20_000 });
    const counts = (): number => space.status().members?.counting.length ?? 0;
    await until('it is a member', () => counts() === 2 && space.status().isReplicated(1));
    expect(await contentOf(c.space('s'))).toEqual(await contentOf(space));
    // It is a replica like any other now.
    expect((await c.promote('s', { dryRun: true, replicas: 0 })).mayLackFrom).toBeUndefined();
    await c.close();
    const again = await open('c', 'c', LISTEN);
    expect((await again.promote('s', { dryRun: true })).mayLackFrom).toBeUndefined();
  });

  test('takes the place of a node that is lost, and follows who leads since', async () => {
    const b = await open('b', 'b', LISTEN);
    const a = await open('a', 'a', { ...LISTEN, lead: true, replicas: [at('b', b.address!.port)] });
    const port = a.address!.port;
    const space = await a.openSpace('s');
    await space.append(1, Buffer.from('1'), { ack: { replicas: 1, timeoutMs: 20_000 } });
    await a.backup(here('a2'));
    await space.append(1, Buffer.from('2'), { ack: { replicas: 1, timeoutMs: 20_000 } });
    await a.close();
    fs.rmSync(here('a'), { recursive: true });
    await b.promote('s', { force: true });
    await b.space('s').append(1, Buffer.from('3'));
    await open('a2', 'a', { listen: { host: '127.0.0.1', port } });
    // A copy is another directory, and of a set of two too few are left to exchange one.
    await until('it waits', () => b.space('s').status().members?.pending !== undefined);
    await b.removeReplica('a', { force: true });
    await b.addReplica(at('a', port));
    await b.space('s').flushed(4, { replicas: 1, timeoutMs: 20_000 });
  });

  test('segments that are freed meanwhile are in it', async () => {
    const a = await open('a', 'a');
    const space = await a.openSpace('s');
    const end = load(space);
    await until('some segments', () => a.summary().segments > 8);
    await end();
    const before = a.summary().segments;
    const taken = a.backup(here('b'));
    await space.checkpoint(space.status().lastSequence);
    await until('they are freed', () => a.summary().segments < before / 2);
    const report = await taken;
    const b = await open('b', 'a');
    expect(await compare(b.space('s'), space)).toBeGreaterThan(0);
    // Of before the checkpoint, or of behind it: whole in either case.
    const { firstSequence, lastSequence } = b.space('s').status();
    expect((await rowsOf(b.space('s'), firstSequence)).length).toBe(
      lastSequence - firstSequence + 1,
    );
    expect(report.segments).toBeGreaterThan(0);
  });

  test('nothing of that name is left where it fails, and nothing is overwritten', async () => {
    const a = await open('a', 'a', { segmentBytes: 64 * 1024, groupBytes: 32 * 1024 });
    const space = await a.openSpace('s');
    await space.appendBatch(
      1,
      Array.from({ length: 60 }, () => Buffer.alloc(2_000, 7)),
    );
    fs.mkdirSync(here('there'));
    const noPath = [here('a'.repeat(300)), here('b'.repeat(250)), here('a/lock/x')];
    for (const target of [here('there'), here('a'), here('a/inside'), ...noPath]) {
      await expect(a.backup(target)).rejects.toMatchObject({ code: 'Configuration' });
    }
    await expect(a.backup('x\0y')).rejects.toMatchObject({ name: 'StorageError' });
    await expect(a.backup(7 as never)).rejects.toMatchObject({ code: 'Configuration' });
    // Rot that nobody has noticed yet.
    const segment = path.join(here('a'), 'wal-0000000000000000.log');
    const fd = fs.openSync(segment, 'r+');
    fs.writeSync(fd, Buffer.from('rot'), 0, 3, 10_000);
    fs.closeSync(fd);
    await expect(a.backup(here('b'))).rejects.toMatchObject({ code: 'CorruptionDetected' });
    expect(fs.readdirSync(each.folder).sort()).toEqual(['a', 'there']);
    expect(fs.readdirSync(here('there'))).toEqual([]);
    await a.close();
    await expect(a.backup(here('b'))).rejects.toMatchObject({ code: 'Closed' });
  });

  test('known damage is copied as it is and told, what nobody knew of fails it', async () => {
    const a = await open('a', 'a', { segmentBytes: 64 * 1024, groupBytes: 32 * 1024 });
    const space = await a.openSpace('s');
    for (let n = 0; n < 5; n++) {
      await space.appendBatch(
        1,
        Array.from({ length: 25 }, () => Buffer.alloc(2_000, 7)),
      );
    }
    const spoil = (segment: string, at: number): void => {
      const fd = fs.openSync(path.join(here('a'), segment), 'r+');
      fs.writeSync(fd, Buffer.from('rot'), 0, 3, at);
      fs.closeSync(fd);
    };
    const [first, second] = fs.readdirSync(here('a')).filter((name) => name.endsWith('.log'));
    spoil(first!, 10_000);
    await expect(contentOf(space)).rejects.toMatchObject({ name: 'StorageError' });
    await until('it is known', () => a.status().holes.length === 1);
    expect((await a.backup(here('known'))).damagedPlaces).toBeGreaterThan(0);
    spoil(second!, 20_000);
    await expect(a.backup(here('b'))).rejects.toMatchObject({ code: 'CorruptionDetected' });
    spoil(first!, 30_000);
    await expect(a.backup(here('b'))).rejects.toThrow('damage that nobody knew of');
    await a.close();
    // Of a closed directory just the same.
    const closed = await run('backup', here('a'), here('b'));
    expect(closed.status).toBe(3);
    expect(closed.err).toContain('damage that nobody knew of');
    const copy = await run('backup', here('known'), here('again'), '--json');
    expect(copy).toMatchObject({ status: 0, err: '' });
    expect(JSON.parse(copy.out).damagedPlaces).toBeGreaterThan(0);
    expect(fs.readdirSync(each.folder).sort()).toEqual(['a', 'again', 'known']);
  });

  test('a node that closes gives it up', async () => {
    const a = await open('a', 'a');
    const space = await a.openSpace('s');
    const end = load(space);
    await until('some segments', () => a.summary().segments > 8);
    await end();
    const taken = a.backup(here('b')).catch((error: EngramError) => error.code);
    await a.close();
    expect(['Closed', 'Io']).toContain(await taken);
    expect(fs.existsSync(here('b'))).toBe(false);
  });
});

describe('on the command line', () => {
  /** A process of its own that appends without end. */
  async function busy(dir: string): Promise<ChildProcess> {
    const node = path.join(import.meta.dirname, '../../support/busy-copy-node.mjs');
    const child = spawn(process.execPath, [node, dir], {
      stdio: ['ignore', 'pipe', 'inherit'],
      cwd: each.folder,
    });
    each.finally(async () => {
      const ended = new Promise((resolve) => child.once('close', resolve));
      if (child.exitCode === null && child.kill('SIGKILL')) await ended;
    });
    await new Promise<void>((resolve, reject) => {
      child.stdout.once('data', () => resolve());
      child.once('close', () => reject(new Error('it has ended')));
    });
    return child;
  }

  test('backup of a running and of a killed node; adopt of a copied directory', async () => {
    const child = await busy(here('a'));
    const live = await run('backup', here('a'), here('live'), '--json');
    expect(live).toMatchObject({ status: 0, err: '' });
    expect(JSON.parse(live.out)).toMatchObject({ nodeId: 'a', spaces: 40, damagedPlaces: 0 });
    const closed = new Promise((resolve) => child.once('close', resolve));
    child.kill('SIGKILL');
    await closed;
    const named = await run('backup', here('a'), here('killed'), '--node', 'b');
    expect(named).toMatchObject({ status: 0, err: '' });
    expect(named.out).toContain('of node b, directory id');
    fs.cpSync(here('a'), here('copied'), { recursive: true });
    const adopted = await run('adopt', here('copied'));
    expect(adopted).toMatchObject({ status: 0, err: '' });

    const original = await open('a', 'a');
    const ids = new Set([original.status().directoryId]);
    for (const [dir, nodeId] of [
      ['live', 'a'],
      ['killed', 'b'],
      ['copied', 'a'],
    ] as const) {
      const node = await open(dir, nodeId);
      ids.add(node.status().directoryId);
      for (const { name } of original.spaces) {
        await compare(node.space(name), original.space(name));
        expect(node.space(name).status().role).toBe('replica');
      }
      await expect(node.promote('s-1')).rejects.toMatchObject({ code: 'PromotionRefused' });
    }
    expect(ids.size).toBe(4);
    expect((await run('backup', here('a'), here('live'))).status).toBe(4);
    expect((await run('backup', here('nowhere'), here('x'))).status).toBe(4);
  });

  test('a target that is another place for the node is refused, not filled', async () => {
    await busy(here('a'));
    fs.mkdirSync(here('tools'));
    // One path, two places: as under PrivateTmp, where the copy would go when the service stops.
    const ran = await runIn('tools', 'backup', here('a'), '/proc/self/cwd/x');
    expect(ran.err).toContain('name one that both see');
    expect(ran.status).toBe(4);
    expect(fs.readdirSync(each.folder).sort()).toEqual(['a', 'tools']);
    expect(fs.readdirSync(here('tools'))).toEqual([]);
    // A folder that is not there yet is one place.
    expect((await run('backup', here('a'), here('new/folder/x'))).status).toBe(0);
  });

  test('a node that ends before it answers is not kept out by a copy', async () => {
    const a = await open('a', 'a');
    await (await a.openSpace('s')).append(1, Buffer.from('x'));
    await a.close();
    const socket = here('socket');
    const server = net.createServer((client) => client.once('data', () => client.destroy()));
    await new Promise<void>((resolve) => server.listen(socket, resolve));
    const { dev, ino } = fs.statSync(here('a'), { bigint: true });
    fs.writeFileSync(here('a/admin'), `${socket}\n${dev}:${ino}\nsecret\n`);
    const ran = await run('backup', here('a'), here('b'));
    await new Promise((resolve) => server.close(resolve));
    expect(ran.err).toContain('has ended before it answered');
    expect(ran.status).toBe(2);
    expect(fs.existsSync(here('b'))).toBe(false);
    // Nobody answers any more: it is closed.
    expect((await run('backup', here('a'), here('b'))).status).toBe(0);
  });

  test('a slow copy of a directory in use opens sound, or is refused with words', async () => {
    const child = await busy(here('a'));
    const outcomes: string[] = [];
    for (let n = 1; n <= 6; n++) {
      const to = here(`copy-${n}`);
      fs.mkdirSync(to);
      for (const name of fs.readdirSync(here('a'))) {
        // What goes away meanwhile is what happens to such a copy.
        try {
          fs.copyFileSync(path.join(here('a'), name), path.join(to, name));
        } catch {
          outcomes.push('gone');
        }
        await sleep(30);
      }
    }
    const closed = new Promise((resolve) => child.once('close', resolve));
    child.kill('SIGTERM');
    await closed;
    const original = await open('a', 'a');
    for (let n = 1; n <= 6; n++) {
      let node: Node;
      try {
        node = await open(`copy-${n}`, 'a');
      } catch (error) {
        expect((error as EngramError).code).toBe('CorruptionDetected');
        expect((error as EngramError).message).toContain('engram-wal backup');
        outcomes.push('refused');
        continue;
      }
      outcomes.push('opened');
      for (const space of node.spaces) {
        // Damage is named, or all is as it was.
        const compared = compare(space, original.space(space.name));
        const what = await compared.catch((error: EngramError) => error.code ?? error);
        if (typeof what !== 'number') expect(['CorruptionDetected', 'Repairing']).toContain(what);
      }
      await node.close();
    }
    expect(outcomes.filter((o) => o !== 'gone')).toHaveLength(6);
  });
});
