/** The operator's socket: found by whoever shares the directory, and nobody else's. */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { placeSocket } from '#src/main/watch/admin/socket.js';
import { makeFolder, removeFolder } from '../../support/cluster.js';

const CLI = path.join(import.meta.dirname, '../../../dist/main/cli.js');

let folder: string;
const children: ChildProcess[] = [];

beforeEach(() => {
  folder = makeFolder();
});

afterEach(async () => {
  for (const child of children.splice(0)) {
    const ended = new Promise((resolve) => child.once('close', resolve));
    if (child.exitCode === null && child.kill('SIGKILL')) await ended;
  }
  removeFolder(folder);
});

interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

async function run(args: string[], env: Record<string, string> = {}): Promise<Ran> {
  const child = spawn(process.execPath, [CLI, ...args], { env: { ...process.env, ...env } });
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

/** `engram-wal serve` in a process of its own, with one space. */
async function serve(dataDir: string, env: Record<string, string> = {}): Promise<ChildProcess> {
  const config = path.join(folder, 'wal.json');
  const spaces = [{ name: 's', lead: true }];
  const own = { nodeId: 'a', clusterId: 'test', segmentBytes: 65_536, maxEntryBytes: 4_096 };
  fs.writeFileSync(config, JSON.stringify({ dataDir, ...own, spaces }));
  const child = spawn(process.execPath, [CLI, 'serve', '--config', config], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.push(child);
  await new Promise<void>((resolve, reject) => {
    let said = '';
    const hear = (chunk: Buffer): void => {
      said += chunk;
      if (said.includes('"event":"serving"')) resolve();
    };
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    child.on('close', () => reject(new Error(said)));
  });
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  const closed = new Promise((resolve) => child.once('close', resolve));
  child.kill('SIGTERM');
  await closed;
}

const remove = (dir: string): string[] => ['remove-replica', dir, '--node', 'nobody'];
const locate = (dir: string): string[] => ['locate', dir, '--space', 's'];

describe('the socket of a running node', () => {
  test('what is longer than any entry is refused by the node, not told as no node', async () => {
    const dir = path.join(folder, 'a');
    await serve(dir);
    const { code, err } = await run([
      'append',
      dir,
      '--space',
      's',
      '--payload',
      'x'.repeat(99_999),
    ]);
    expect(err).toMatch(/a question of \d+ bytes, .* shorten the payload/);
    expect(code).toBe(4);
    expect(await run(locate(dir))).toMatchObject({ code: 0, err: '' });
  });

  test('FAULT-87 service and tool have different folders for temporary files', async () => {
    const dir = path.join(folder, 'a');
    const its = path.join(folder, 'private-tmp');
    fs.mkdirSync(its);
    // As PrivateTmp does it: the service's folder is not there for anybody else.
    const child = await serve(dir, { TMPDIR: its });
    fs.renameSync(its, `${its}-hidden`);
    expect(await run(locate(dir))).toMatchObject({ code: 0, err: '' });
    const odd = { TMPDIR: path.join(folder, 'not-there') };
    expect(await run(locate(dir), odd)).toMatchObject({ code: 0, err: '' });
    await end(child);
    expect(fs.readdirSync(dir).filter((name) => name.startsWith('admin'))).toEqual([]);
  });

  test('FAULT-87 a TMPDIR that is not there, a file, or far too long', async () => {
    const dir = path.join(folder, 'a');
    const long = path.join(folder, 'x'.repeat(120));
    fs.mkdirSync(long);
    for (const TMPDIR of [path.join(folder, 'none'), process.execPath, long]) {
      const child = await serve(dir, { TMPDIR });
      expect(await run(locate(dir))).toMatchObject({ code: 0, err: '' });
      await end(child);
    }
  });

  test('FAULT-87 a data directory whose path is longer than a socket may have', async () => {
    const dir = path.join(folder, ...Array.from({ length: 8 }, (_, i) => `${i}`.repeat(40)));
    const child = await serve(dir);
    expect(await run(locate(dir))).toMatchObject({ code: 0, err: '' });
    await end(child);
    expect(fs.readdirSync(dir).filter((name) => name.startsWith('admin'))).toEqual([]);
  });

  test('FAULT-87 after SIGKILL the next node of the directory is asked', async () => {
    const dir = path.join(folder, 'a');
    const child = await serve(dir);
    const closed = new Promise((resolve) => child.once('close', resolve));
    child.kill('SIGKILL');
    await closed;
    expect((await run(locate(dir))).err).toContain('NotRunning');
    await serve(dir);
    expect(await run(locate(dir))).toMatchObject({ code: 0, err: '' });
    expect(fs.statSync(path.join(dir, 'admin')).mode & 0o777).toBe(0o600);
  });

  test('FAULT-87 in the runtime folder of a service, where it has one', async () => {
    const dir = path.join(folder, 'a');
    const runtime = path.join(folder, 'run');
    fs.mkdirSync(runtime);
    const child = await serve(dir, { RUNTIME_DIRECTORY: runtime });
    expect(fs.readdirSync(runtime)).toHaveLength(1);
    expect(await run(locate(dir))).toMatchObject({ code: 0, err: '' });
    await end(child);
    expect(fs.readdirSync(runtime)).toEqual([]);
    // One that is too long, or not there.
    for (const RUNTIME_DIRECTORY of [path.join(folder, 'x'.repeat(120)), '/nowhere']) {
      const other = await serve(dir, { RUNTIME_DIRECTORY });
      expect(await run(locate(dir))).toMatchObject({ code: 0, err: '' });
      await end(other);
    }
  });

  test('who does not show the secret is refused, who says nothing is sent away', async () => {
    const dir = path.join(folder, 'a');
    await serve(dir);
    const [address, place] = fs.readFileSync(path.join(dir, 'admin'), 'utf8').split('\n');
    const ask = (line: string): Promise<string> =>
      new Promise((resolve, reject) => {
        let said = '';
        const socket = net.connect(address!.replace('@', '\0'));
        socket.on('data', (chunk) => {
          said += chunk;
        });
        socket.on('error', reject).on('close', () => resolve(said));
        socket.write(line);
      });
    for (const secret of [undefined, 7, '', 'x'.repeat(32)]) {
      const question = { verb: 'locate', space: 's', place, secret };
      expect(await ask(`${JSON.stringify(question)}\n`)).toContain('NotRunning');
    }
    expect(await ask('{')).toBe('');
  });

  test('FAULT-47 who has no secret locks no operator out, whatever is left open', async () => {
    const dir = path.join(folder, 'a');
    await serve(dir);
    const [address] = fs.readFileSync(path.join(dir, 'admin'), 'utf8').split('\n');
    const others = new Set<net.Socket>();
    let isOver = false;
    // Half of them have asked, were refused and do not go; the others come again and again.
    const come = (isAsking: boolean): void => {
      const socket = net.connect({ path: address!.replace('@', '\0'), allowHalfOpen: true });
      others.add(socket);
      socket.on('error', () => undefined).on('data', () => undefined);
      if (isAsking) socket.write('x\n');
      socket.on('close', () => {
        others.delete(socket);
        if (!isOver) setTimeout(() => come(isAsking), 10);
      });
    };
    for (let n = 0; n < 200; n++) come(n % 2 === 0);
    for (let n = 0; n < 3; n++) expect(await run(locate(dir))).toMatchObject({ code: 0, err: '' });
    isOver = true;
    for (const socket of others) socket.destroy();
  });

  test('FAULT-87 who listens where a killed node did is not believed', async () => {
    const dir = path.join(folder, 'a');
    const child = await serve(dir);
    const closed = new Promise((resolve) => child.once('close', resolve));
    child.kill('SIGKILL');
    await closed;
    const [address] = fs.readFileSync(path.join(dir, 'admin'), 'utf8').split('\n');
    const other = net.createServer((socket) => {
      socket.on('error', () => undefined);
      // It shows all that it was shown.
      socket.once('data', (said) => {
        const shown = JSON.parse(`${said}`) as object;
        socket.end(`${JSON.stringify({ ...shown, result: { nodeId: 'x', epoch: 1 } })}\n`);
      });
    });
    await new Promise<void>((resolve) => other.listen(address!.replace('@', '\0'), resolve));
    const asked = await run(locate(dir));
    await new Promise((resolve) => other.close(resolve));
    expect(asked).toMatchObject({ code: 2, out: '' });
    expect(asked.err).toContain('has not read its file admin');
  });

  test('what is wrong with its file is told as that, and no other address is tried', async () => {
    const dir = path.join(folder, 'a');
    fs.mkdirSync(path.join(dir, 'admin'), { recursive: true });
    const tried: string[] = [];
    const placed = placeSocket(dir, async (socket) => void tried.push(socket));
    await expect(placed).rejects.toThrow(/directory/);
    expect(tried).toHaveLength(1);
  });

  test('FAULT-86 tools on a copy of a directory do nothing to the original', async () => {
    const dir = path.join(folder, 'a');
    await serve(dir);
    const copy = path.join(folder, 'copy');
    fs.cpSync(dir, copy, { recursive: true });
    for (const args of [remove(copy), locate(copy)]) {
      const asked = await run(args);
      expect(asked).toMatchObject({ code: 2, out: '' });
      expect(asked.err).toContain('NotRunning');
      expect(asked.err).toContain('copy of the directory of another node');
    }
    // Even one that is led to the right socket: the question names the directory it is meant for.
    const { dev, ino } = fs.statSync(copy, { bigint: true });
    const [socket, , secret] = fs.readFileSync(path.join(dir, 'admin'), 'utf8').split('\n');
    fs.writeFileSync(path.join(copy, 'admin'), `${socket}\n${dev}:${ino}\n${secret}\n`);
    const misled = await run(remove(copy));
    expect(misled.code).toBe(2);
    expect(misled.err).toContain('this node has another directory than the one that is meant');
    expect(await run(locate(dir))).toMatchObject({ code: 0, err: '' });
  });

  test('FAULT-86 a copy that is opened leaves the original its socket', async () => {
    const dir = path.join(folder, 'a');
    const first = await serve(dir);
    const told = fs.readFileSync(path.join(dir, 'admin'), 'utf8');
    const copy = path.join(folder, 'copy');
    fs.cpSync(dir, copy, { recursive: true });
    const second = await serve(copy);
    expect(await run(locate(copy))).toMatchObject({ code: 0, err: '' });
    await end(second);
    expect(await run(locate(dir))).toMatchObject({ code: 0, err: '' });
    expect(fs.readFileSync(path.join(dir, 'admin'), 'utf8')).toBe(told);
    await end(first);
  });
});
