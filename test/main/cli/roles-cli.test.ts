import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { contentOf, until } from '../../support/cluster.js';
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
