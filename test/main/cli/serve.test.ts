import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readServeConfig } from '#src/main/cli/serve-config.js';
import type { StatusJson } from '#src/main/watch/status-json.js';
import { makeFolder, openSmall, removeFolder, until } from '../../support/cluster.js';

const CLI = path.join(import.meta.dirname, '../../../dist/main/cli.js');
const TOKEN = 'a-secret-of-enough-characters';

let dir: string;
let children: ChildProcess[];
beforeEach(() => {
  dir = makeFolder();
  children = [];
});
afterEach(() => {
  for (const child of children) child.kill('SIGKILL');
  removeFolder(dir);
});

function config(text: string | object, name = 'wal.json'): string {
  const file = path.join(dir, name);
  fs.writeFileSync(file, typeof text === 'string' ? text : JSON.stringify(text, null, 2));
  return file;
}

interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

interface Running {
  child: ChildProcess;
  ended: Promise<Ended>;
  /** What it has written so far. */
  readonly out: { text: string };
}

function run(args: readonly string[], env: Record<string, string> = {}): Running {
  const child = spawn(process.execPath, [CLI, ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  children.push(child);
  const out = { text: '' };
  let stderr = '';
  child.stdout.on('data', (chunk) => (out.text += chunk));
  child.stderr.on('data', (chunk) => (stderr += chunk));
  const ended = new Promise<Ended>((resolve) => {
    child.once('close', (code, signal) => resolve({ code, signal, stdout: out.text, stderr }));
  });
  return { child, ended, out };
}

interface Served extends Running {
  url: string;
  address: { host: string; port: number };
}

/** Starts a node and waits until it says that it serves. */
async function serve(file: string): Promise<Served> {
  const running = run(['serve', '--config', file]);
  await until('it serves', () => lines(running).some((line) => line.event === 'serving'));
  const line = lines(running).find((one) => one.event === 'serving')!;
  return { ...running, url: line.page as string, address: line.address as Served['address'] };
}

function lines({ out }: Running): Record<string, unknown>[] {
  return out.text
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

const BASE = { nodeId: 'b', clusterId: 'c', dataDir: 'data', http: { port: 0 } };

describe('the file of serve', () => {
  test.each([
    ['{ "dataDir": "d",\n  "nodeId": }', ':2:13', 'ValueExpected'],
    ['{ "dataDir": "d"', ':1:17', 'CloseBraceExpected'],
    ['', ':1:1', 'ValueExpected'],
    ['[]', '', 'no object'],
    [
      '{\n  "dataDir": "d",\n  "nodeID": "a"\n}',
      ':3:3',
      'no option nodeID; known: dataDir, nodeId',
    ],
    ['{\n  "dataDir": "d",\n  "nodeId": "a",\n  "nodeId": "b"\n}', ':4:3', 'given twice'],
    ['{ "dataDir": "d", "nodeId": "a" }', '', 'openNode needs clusterId'],
    [{ ...BASE, segmentBytes: '64' }, ':8:3', 'option segmentBytes'],
    [{ ...BASE, http: { port: 0, host: '0.0.0.0' } }, ':5:3', 'option http'],
    [{ ...BASE, apply: 'x' }, ':8:3', 'apply is code'],
    [{ ...BASE, logLevel: 'loud' }, ':8:3', 'logLevel is none of'],
    [{ ...BASE, spaces: 'x' }, ':8:3', 'no array'],
    [{ ...BASE, spaces: ['a', { name: 'b', wrong: 1 }] }, ':12:7', 'no option wrong'],
    [{ ...BASE, spaces: ['a', ''] }, ':10:5', 'name of a space'],
    [{ ...BASE, spaces: [{ name: 'b', replicas: ['z'] }] }, ':11:7', 'replicas is no array'],
    [{ ...BASE, maxEntryBytes: 8_000_000, groupBytes: 4096 }, '', 'maxEntryBytes is 8000000'],
  ])('%j: the error names the place', async (text, place, what) => {
    const file = config(text);
    const read = readServeConfig(file);
    await expect(read).rejects.toMatchObject({ code: 'Configuration' });
    await expect(read).rejects.toThrow(`${file}${place}`);
    await expect(read).rejects.toThrow(what);
  });

  test('comments are allowed, and paths are meant from the file’s own folder', async () => {
    const text = '// where it lies\n{ "dataDir": "data", "nodeId": "a", /* c */ "clusterId": "c" }';
    const { options, spaces, logLevel } = await readServeConfig(config(text));
    expect(options).toEqual({ dataDir: path.join(dir, 'data'), nodeId: 'a', clusterId: 'c' });
    expect({ spaces, logLevel }).toEqual({ spaces: [], logLevel: 'info' });
  });

  test('secrets may stand in files of their own, and in no error', async () => {
    const secret = 'a secret of more than thirty-two bytes';
    fs.writeFileSync(path.join(dir, 'secret'), `${secret}\n`, { mode: 0o600 });
    const own = { ...BASE, keyFile: 'secret', http: { port: 0, tokenFile: './secret' } };
    const { options } = await readServeConfig(config(own));
    const keyFile = path.join(dir, 'secret');
    expect(options).toMatchObject({ keyFile, http: { port: 0, token: secret } });
    expect(options.key).toBeUndefined();
    for (const [wrong, why] of [
      [{ ...own, key: secret }, 'key is a secret: give it as keyFile, or as the variable'],
      [{ ...own, keyFile: 7 }, 'option keyFile is 7, not a path'],
      [{ ...own, segmentBytes: 1 }, 'segmentBytes'],
    ] as const) {
      const read = readServeConfig(config(wrong));
      await expect(read).rejects.toThrow(why);
      await expect(read).rejects.not.toThrow(secret);
    }
  });

  test('keys may come from the environment, certificates from the file’s folder', async () => {
    const secret = 'a secret of more than thirty-two bytes';
    const tls = {
      caFile: 'ca.pem',
      certFile: 'cert.pem',
      keyFile: '/etc/key.pem',
      names: { x: 'DNS:x' },
    };
    process.env.ENGRAM_WAL_KEY = `${secret}\n${secret}!\n`;
    try {
      const { options } = await readServeConfig(config({ ...BASE, tls }));
      expect(options.key).toEqual([Buffer.from(secret), Buffer.from(`${secret}!`)]);
      expect(options.tls).toEqual({
        ...{ caFile: path.join(dir, 'ca.pem'), certFile: path.join(dir, 'cert.pem') },
        ...{ keyFile: '/etc/key.pem', names: { x: 'DNS:x' } },
      });
      const both = readServeConfig(config({ ...BASE, keyFile: 'secret' }));
      await expect(both).rejects.toThrow('key and keyFile are both given');
      process.env.ENGRAM_WAL_KEY = 'too short';
      await expect(readServeConfig(config(BASE))).rejects.toThrow('shorter than 16 bytes');
    } finally {
      delete process.env.ENGRAM_WAL_KEY;
    }
  });

  test('what etcd is shown stands in the file’s folder, too', async () => {
    const files = { tls: { caFile: 'ca.pem' }, user: 'node', passwordFile: 'password' };
    const endpoints = ['https://127.0.0.1:2379'];
    const coordinator = { kind: 'etcd', endpoints, ...files };
    const listen = { host: '127.0.0.1', port: 7402 };
    const { options } = await readServeConfig(config({ ...BASE, listen, coordinator }));
    expect(options.coordinator).toMatchObject({
      ...{ endpoints, user: 'node', passwordFile: path.join(dir, 'password') },
      tls: { caFile: path.join(dir, 'ca.pem') },
    });
  });

  test('a wrong file, or none, is wrong usage', async () => {
    const none = await run(['serve', '--config', path.join(dir, 'none.json')]).ended;
    expect(none).toMatchObject({ code: 4, stdout: '' });
    expect(none.stderr).toContain('ENOENT');
    const wrong = await run(['serve', '--config', config('{ "dataDir": 1 }')]).ended;
    expect(wrong.code).toBe(4);
    expect(wrong.stderr).toContain('wal.json');
    expect((await run(['serve']).ended).code).toBe(4);
  });
});

describe('a served node', () => {
  test('a replica without a host of its own keeps a copy and tells of it', async () => {
    const listen = { host: '127.0.0.1', port: 0 };
    const served = await serve(config({ ...BASE, listen }));
    const a = await openSmall(path.join(dir, 'a'), 'a', {
      clusterId: 'c',
      replicas: [{ nodeId: 'b', ...served.address }],
    });
    const space = await a.openSpace('tenant-a');
    await space.append(1, Buffer.from('x'), { ack: { replicas: 1, timeoutMs: 20_000 } });
    await a.close();
    const status = (await (await fetch(`${served.url}replication/status`)).json()) as StatusJson;
    expect(status.rows).toMatchObject([{ name: 'tenant-a', role: 'replica', durableSequence: 1 }]);
    served.child.kill('SIGTERM');
    expect(await served.ended).toMatchObject({ code: 0, stderr: '' });
    expect(lines(served).map((line) => line.event)).toEqual(
      expect.arrayContaining(['serving', 'space-role', 'closing', 'closed']),
    );
    const b = await openSmall(path.join(dir, 'data'), 'b', { clusterId: 'c', listen });
    expect(b.space('tenant-a').status().durableSequence).toBe(1);
    await b.close();
  });

  test('a primary opens its spaces', async () => {
    const spaces = ['tenant-a', { name: 'tenant-b', replicas: [] }];
    const served = await serve(config({ ...BASE, spaces }));
    const status = (await (await fetch(`${served.url}replication/status`)).json()) as StatusJson;
    expect(status.rows.map((row) => row.name)).toEqual(['tenant-a', 'tenant-b']);
    served.child.kill('SIGINT');
    expect((await served.ended).code).toBe(0);
  });

  test('FAULT-80 SIGTERM under load: an end in order, with all that was acknowledged', async () => {
    const listen = { host: '127.0.0.1', port: 0 };
    const served = await serve(config({ ...BASE, listen }));
    const a = await openSmall(path.join(dir, 'a'), 'a', {
      clusterId: 'c',
      replicas: [{ nodeId: 'b', ...served.address }],
    });
    const space = await a.openSpace('tenant-a');
    await until('it is there', () => space.status().replicas[0]!.state === 'streaming');
    let acked = 0;
    const load = async (): Promise<void> => {
      const ack = { replicas: 1, timeoutMs: 10_000 };
      // Until it takes no more.
      for (;;) acked = (await space.append(1, Buffer.alloc(500), { ack })).sequence;
    };
    const loads = [load(), load(), load()].map((one) => one.catch(() => undefined));
    await until('it is under load', () => acked > 100);
    served.child.kill('SIGTERM');
    expect(await served.ended).toMatchObject({ code: 0, stderr: '' });
    await a.close();
    await Promise.all(loads);
    const b = await openSmall(path.join(dir, 'data'), 'b', { clusterId: 'c', listen });
    expect(b.space('tenant-a').status().durableSequence).toBeGreaterThanOrEqual(acked);
    await b.close();
  });

  test('FAULT-80 the second signal ends it at once, and nothing is broken', async () => {
    // A replica that takes connections and reads nothing: shipping the rest takes its time.
    const silent = net.createServer((socket) => void socket.pause());
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const { port } = silent.address() as net.AddressInfo;
    const replicas = [{ nodeId: 'z', host: '127.0.0.1', port }];
    const own = { ...BASE, replicas, spaces: ['tenant-a'], openConfirmMs: 0 };
    const served = await serve(config(own));
    served.child.kill('SIGTERM');
    await until('it closes', () => lines(served).some((line) => line.event === 'closing'));
    served.child.kill('SIGTERM');
    const { code } = await served.ended;
    silent.close();
    // Closed in order before the second came, or ended by it.
    expect([0, 143]).toContain(code);
    const again = await serve(config({ ...BASE, spaces: ['tenant-a'] }));
    again.child.kill('SIGTERM');
    expect((await again.ended).code).toBe(0);
  });

  test('a log that nobody reads any more does not end it', async () => {
    const served = await serve(config({ ...BASE, spaces: ['tenant-a'] }));
    served.child.stdout!.destroy();
    expect((await fetch(`${served.url}live`)).status).toBe(200);
    served.child.kill('SIGTERM');
    expect((await served.ended).code).toBe(0);
  });
});

describe('status', () => {
  test('says what is wrong, and ends with its code', async () => {
    const http = { port: 0, token: TOKEN };
    const a = await openSmall(path.join(dir, 'a'), 'a', {
      http,
      replicas: [{ nodeId: 'b', host: '127.0.0.1', port: 1 }],
      openConfirmMs: 0,
    });
    const env = { ENGRAM_WAL_TOKEN: TOKEN };
    const url = `127.0.0.1:${a.httpAddress!.port}`;
    const space = await a.openSpace('tenant-a');
    await space.append(1, Buffer.from('x'));
    await until('it counts as failed', () => a.status().replicas[0]!.state === 'failed');
    const text = await run(['status', '--url', url], env).ended;
    expect(text.code).toBe(2);
    expect(text.stdout).toContain('a in test: FAILED');
    expect(text.stdout).toContain('Replica b');
    expect(text.stdout).toContain('tenant-a');
    const json = await run(['status', '--json', '--url', url], env).ended;
    expect(json.code).toBe(2);
    expect(JSON.parse(json.stdout)).toMatchObject({ health: 'failed', nodeId: 'a' });
    const none = await run(['status', '--url', url, '--space', 'nobody'], env).ended;
    expect(none.code).toBe(4);
    expect(none.stderr).toContain('SpaceUnknown');
    const refused = await run(['status', '--url', url]).ended;
    expect(refused.code).toBe(4);
    expect(refused.stderr).toContain('ENGRAM_WAL_TOKEN');
    await a.close();
    const away = await run(['status', '--url', url], env).ended;
    expect(away.code).toBe(2);
    expect(away.stderr).toContain('ECONNREFUSED');
  });

  test('a sound node: 0; one that nobody uses: 1; no URL, no node: 4 and 2', async () => {
    const a = await openSmall(path.join(dir, 'a'), 'a', { http: { port: 0 } });
    const url = `http://127.0.0.1:${a.httpAddress!.port}/`;
    expect((await run(['status', '--url', url]).ended).code).toBe(0);
    await a.close();
    const listen = { host: '127.0.0.1', port: 0 };
    const b = await openSmall(path.join(dir, 'b'), 'b', { http: { port: 0 }, listen });
    const unused = await run(['status', '--url', `127.0.0.1:${b.httpAddress!.port}`]).ended;
    expect(unused.code).toBe(1);
    await b.close();
    expect((await run(['status', '--url', 'ftp://x']).ended).code).toBe(4);
    expect((await run(['status', '--url', 'http://[']).ended).code).toBe(4);
  });

  test('--watch goes on until it is told to end', async () => {
    const a = await openSmall(path.join(dir, 'a'), 'a', { http: { port: 0 } });
    const url = `127.0.0.1:${a.httpAddress!.port}`;
    const watching = run(['status', '--watch', '--json', '--every', '1', '--url', url]);
    await until('two reports', () => lines(watching).length >= 2);
    await a.close();
    await until('it is gone', () => lines(watching).at(-1)!.health === 'unreachable');
    watching.child.kill('SIGINT');
    expect((await watching.ended).code).toBe(2);
  });
});
