import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import path from 'node:path';
import { connect as connectTls } from 'node:tls';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Node, NodeOptions } from '#src/main/index.js';
import { openNodeOn } from '#src/main/node/open-node.js';
import type { HttpOptions } from '#src/main/options/http.js';
import type { HealthJson, ReadyJson, StatusJson } from '#src/main/watch/status-json.js';
import { HTTP_REQUEST_MS } from '#src/shared/limits.js';
import type { RowsJson } from '#src/shared/metrics/rings.js';
import { makeCertificates } from '../../support/certificates.js';
import { makeFolder, openSmall, removeFolder, SMALL, until } from '../../support/cluster.js';
import { FakeDisk } from '../../support/fake-disk.js';

const ANY = { host: '127.0.0.1', port: 0 };

let dir: string;
let nodes: Node[];
beforeEach(() => {
  dir = makeFolder();
  nodes = [];
});
afterEach(async () => {
  await Promise.all(nodes.map((node) => node.close()));
  removeFolder(dir);
});

async function open(nodeId: string, more: Partial<NodeOptions> = {}): Promise<Node> {
  const node = await openSmall(path.join(dir, nodeId), nodeId, { http: ANY, ...more });
  nodes.push(node);
  return node;
}

function urlOf(node: Node, asked = ''): string {
  return `http://127.0.0.1:${node.httpAddress!.port}${asked}`;
}

async function json<T>(node: Node, asked: string): Promise<T> {
  const response = await fetch(urlOf(node, asked));
  return (await response.json()) as T;
}

/** Asks until the answer is as wanted: what is shown may be a second old. */
async function jsonUntil<T>(
  node: Node,
  asked: string,
  what: string,
  is: (answer: T) => boolean,
): Promise<T> {
  const deadlineMs = performance.now() + 30_000;
  for (;;) {
    const answer = await json<T>(node, asked);
    if (is(answer)) return answer;
    if (performance.now() > deadlineMs) throw new Error(`not within 30 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

interface RawAnswer {
  code: number;
  headers: http.IncomingHttpHeaders;
  body: string;
}

/** fetch does not let one choose the Host header or send a body with GET. */
function raw(url: string, options: https.RequestOptions = {}, body?: string): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const { request } = url.startsWith('https') ? https : http;
    const asked = request(url, { agent: false, ...options }, (response) => {
      let text = '';
      response.on('data', (chunk) => (text += chunk));
      response.on('end', () => {
        resolve({ code: response.statusCode!, headers: response.headers, body: text });
      });
    });
    asked.on('error', reject);
    asked.end(body);
  });
}

async function pair(): Promise<{ a: Node; b: Node }> {
  // A member to whom it ships nothing, since it leads nothing.
  const rests = { nodeId: 'c', host: '127.0.0.1', port: 9 };
  const b = await open('b', { listen: ANY, replicas: [rests] });
  const a = await open('a', { replicas: [{ nodeId: 'b', ...b.address! }] });
  return { a, b };
}

describe('what a node answers over HTTP', () => {
  test('status, health and probes of a primary and its replica', async () => {
    const { a, b } = await pair();
    const space = await a.openSpace('tenant-a');
    for (let i = 0; i < 3; i++) await space.append(1, Buffer.from('x'), { ack: { replicas: 1 } });
    const status = await jsonUntil<StatusJson>(
      a,
      '/replication/status',
      'all three are flushed',
      (s) => s.rows[0]?.replicas[0]?.ackedSequence === 3,
    );
    expect(status).toMatchObject({
      health: 'healthy',
      nodeId: 'a',
      clusterId: 'test',
      problems: [],
      spaces: { total: 1, led: 1, healthy: 1 },
      node: { log: { state: 'ok' }, holes: 0 },
      page: { matching: 1, after: null },
    });
    expect(status.rows[0]).toMatchObject({
      name: 'tenant-a',
      role: 'primary',
      health: 'healthy',
      durableSequence: 3,
      minAckedSequence: 3,
      caughtUpReplicas: 1,
    });
    expect(status.rows[0]!.replicas[0]).toMatchObject({
      replicaId: 'b',
      sentSequence: 3,
      receivedSequence: 3,
      ackedSequence: 3,
      lagEntries: 0,
      lagMs: 0,
      slot: 'reserved',
      state: 'streaming',
    });
    expect(status.replicas[0]).toMatchObject({ replicaId: 'b', spaces: 1, health: 'healthy' });
    const followed = await json<StatusJson>(b, '/replication/status');
    expect(followed.rows[0]).toMatchObject({ role: 'replica', primaryNodeId: 'a' });
    expect(followed.replicas).toMatchObject([{ replicaId: 'c', spaces: 0, health: 'healthy' }]);
    expect(followed.primaries).toMatchObject([{ primaryId: 'a', isConnected: true }]);
    const health = await json<HealthJson>(a, '/cluster/health');
    expect(health).toMatchObject({ health: 'healthy', spaces: { total: 1 } });
    expect((await fetch(urlOf(a, '/live'))).status).toBe(200);
    const ready = await fetch(urlOf(a, '/ready'));
    expect(ready.status).toBe(200);
    expect(((await ready.json()) as ReadyJson).checks.every((check) => check.ok)).toBe(true);
  });

  test('a replica that was never reached, and a primary that is gone, are told', async () => {
    const { a, b } = await pair();
    await a.addReplica({ nodeId: 'c', host: '127.0.0.1', port: await freePort() });
    const space = await a.openSpace('tenant-a');
    await space.append(1, Buffer.from('x'), { ack: { replicas: 1 } });
    const lonely = await jsonUntil<HealthJson>(a, '/cluster/health', 'c is missing', (h) =>
      h.problems.some((p) => p.subject === 'c'),
    );
    expect(['degraded', 'failed']).toContain(lonely.health);
    const status = await json<StatusJson>(a, '/replication/status?space=tenant-a');
    const missing = status.rows[0]!.replicas.find((r) => r.replicaId === 'c')!;
    expect(missing.lagMs).toBe('unknown');
    expect(['degraded', 'failed']).toContain(missing.status);
    await a.close();
    const left = await jsonUntil<HealthJson>(b, '/cluster/health', 'a is gone', (h) =>
      h.problems.some((p) => p.kind === 'primary-gone'),
    );
    expect(left).toMatchObject({ health: 'failed', todo: 'now' });
    expect(left.problems[0]).toMatchObject({ subject: 'a', spaces: 1, examples: ['tenant-a'] });
    // A replica that waits for its primary can still be read.
    expect((await fetch(urlOf(b, '/ready'))).status).toBe(200);
  });

  test('a node that nobody uses says so', async () => {
    const b = await open('b', { listen: ANY });
    const health = await json<HealthJson>(b, '/cluster/health');
    expect(health).toMatchObject({ health: 'degraded', problems: [{ kind: 'unused' }] });
  });

  test('FAULT-10 a log that has failed: /live is ok, /ready fails and says why', async () => {
    const disk = new FakeDisk();
    const options = { ...SMALL, dataDir: '/a', nodeId: 'a', http: ANY };
    const node = await openNodeOn(disk.mount(), options);
    nodes.push(node);
    const space = await node.openSpace('s');
    expect((await fetch(urlOf(node, '/ready'))).status).toBe(200);
    disk.inject({ call: 1, errno: 'EIO', only: 'fdatasync' });
    await expect(space.append(1, Buffer.from('x'))).rejects.toMatchObject({ code: 'WalFailed' });
    const ready = await jsonUntil<ReadyJson>(node, '/ready', 'not ready', (r) => !r.ready);
    const log = ready.checks.find((check) => check.check === 'log')!;
    expect(log).toMatchObject({ ok: false });
    expect(log.reason).toContain('EIO');
    expect((await fetch(urlOf(node, '/ready'))).status).toBe(503);
    expect((await fetch(urlOf(node, '/live'))).status).toBe(200);
    const health = await json<HealthJson>(node, '/cluster/health');
    expect(health).toMatchObject({ health: 'failed', problems: [{ kind: 'log-failed' }] });
  });

  test('spaces by page, by part of the name, by problem and from the worst', async () => {
    const { a } = await pair();
    for (let i = 0; i < 25; i++) {
      const space = await a.openSpace(`tenant-${i}`);
      for (let n = 0; n <= i; n++) space.tryAppend(1, Buffer.from('x'));
      await space.flushed(i + 1, { replicas: 1 });
    }
    await jsonUntil<StatusJson>(
      a,
      '/replication/status?space=tenant-24',
      'all are shown',
      (s) => s.rows[0]?.durableSequence === 25,
    );
    const names: string[] = [];
    let after: string | null = '';
    while (after !== null) {
      const behind = after === '' ? '' : `&after=${encodeURIComponent(after)}`;
      const part: StatusJson = await json(a, `/replication/status?limit=10${behind}`);
      expect(part.page.matching).toBe(25);
      names.push(...part.rows.map((row) => row.name));
      after = part.page.after;
    }
    // As people count: 2 before 10.
    expect(names).toEqual(Array.from({ length: 25 }, (_, i) => `tenant-${i}`));
    const found = await json<StatusJson>(a, '/replication/status?search=NT-2&limit=3');
    expect(found.page.matching).toBe(6);
    expect(found.rows.map((row) => row.name)).toEqual(['tenant-2', 'tenant-20', 'tenant-21']);
    const most = await json<StatusJson>(a, '/replication/status?sort=entries&limit=1&offset=1');
    expect(most.rows[0]).toMatchObject({ name: 'tenant-23' });
    const bad = await json<StatusJson>(a, '/replication/status?problems=1');
    expect(bad.page).toMatchObject({ matching: 0, after: null });
    const caused = await json<StatusJson>(a, '/replication/status?cause=replica-failed:b');
    expect(caused.page.matching).toBe(0);
    const none = await json<StatusJson>(a, '/replication/status?limit=0');
    expect(none.rows).toEqual([]);
  });

  test('history: what was appended and acknowledged, and the lag', async () => {
    const { a } = await pair();
    const space = await a.openSpace('s');
    await json(a, '/replication/history');
    for (let i = 0; i < 50; i++) space.tryAppend(1, Buffer.from('x'));
    await space.flushed(50, { replicas: 1, timeoutMs: 20_000 });
    const { appended, agoMs, replicas } = await jsonUntil<{
      agoMs: number[];
      appended: number[];
      replicas: { replicaId: string; acked: (number | null)[]; lagMs: (number | null)[] }[];
    }>(a, '/replication/history', 'a sample', (h) => h.appended.some((rate) => rate > 0));
    expect(agoMs.length).toBe(appended.length);
    expect(replicas[0]!.replicaId).toBe('b');
    expect(replicas[0]!.lagMs.length).toBe(appended.length);
  });

  test('the day: a row a second, a row a minute, of all that was appended', async () => {
    const { a } = await pair();
    const space = await a.openSpace('s');
    for (let i = 0; i < 50; i++) await space.append(1, Buffer.alloc(100));
    const told = await jsonUntil<RowsJson>(
      a,
      '/replication/day?stepMs=1000',
      'all is in a row',
      (day) => day.worstLagMs.at(-1) !== undefined && day.diskFreeBytes.at(-1) !== null,
    );
    expect(told).toMatchObject({ stepMs: 1_000, keptMs: 300_000 });
    expect(Math.max(...told.entriesPerSecond)).toBeGreaterThan(0);
    expect(Math.max(...told.bytesPerSecond)).toBeGreaterThan(164);
    expect(told.fsyncP99Ms.some((ms) => ms !== null && ms > 0)).toBe(true);
    const minutes = await json<RowsJson>(a, '/replication/day');
    expect(minutes).toMatchObject({ stepMs: 60_000, keptMs: 86_400_000, bytes: told.bytes });
    expect(minutes.agoMs.length).toBeGreaterThan(0);
    expect((await fetch(urlOf(a, '/replication/day?stepMs=5'))).status).toBe(400);
  });
});

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as net.AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

describe('what a node does not answer', () => {
  test('nothing listens without the option, and nothing beyond the node’s life', async () => {
    const quiet = await openSmall(path.join(dir, 'q'), 'q');
    expect(quiet.httpAddress).toBeUndefined();
    await quiet.close();
    const a = await open('a');
    const url = urlOf(a, '/live');
    await fetch(url);
    await a.close();
    await expect(fetch(url)).rejects.toThrow();
  });

  test.each(['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS'])('%s is refused', async (method) => {
    const a = await open('a');
    for (const asked of ['/', '/cluster/health', '/nothing']) {
      const answer = await raw(urlOf(a, asked), { method });
      expect(answer).toMatchObject({ code: 405, headers: { allow: 'GET, HEAD' } });
    }
  });

  test('no body, no unknown path, no unknown or wild query', async () => {
    const a = await open('a');
    const body = await raw(urlOf(a, '/live'), { headers: { 'content-length': '3' } }, 'abc');
    expect(body.code).toBe(413);
    const head = await raw(urlOf(a, '/live'), { method: 'HEAD' });
    expect(head).toMatchObject({ code: 200, body: '' });
    for (const [asked, code] of [
      ['/nothing', 404],
      ['/%2e%2e/package.json', 404],
      ['/..%2f..%2fpackage.json', 404],
      ['/replication/status?limit=1001', 400],
      ['/replication/status?limit=-1', 400],
      ['/replication/status?limit=x', 400],
      ['/replication/status?wrong=1', 400],
      ['/replication/status?limit=1&limit=2', 400],
      [`/replication/status?search=${'x'.repeat(300)}`, 400],
      ['/live?x=1', 400],
    ] as const) {
      expect([asked, (await raw(urlOf(a, asked))).code]).toEqual([asked, code]);
    }
    const long = await raw(urlOf(a, '/live'), { headers: { 'x-long': 'x'.repeat(9_000) } });
    expect(long.code).toBe(431);
  });

  test('every answer carries the headers that keep a browser at home', async () => {
    const a = await open('a');
    for (const asked of ['/live', '/cluster/health', '/nothing']) {
      const { headers } = await raw(urlOf(a, asked));
      expect(headers['content-security-policy']).toMatch(/^default-src 'none'/);
      expect(headers['content-security-policy']).not.toMatch(/unsafe|\*|https?:/);
      expect(headers['x-content-type-options']).toBe('nosniff');
      expect(headers['cache-control']).toBe('no-store');
      expect(headers['access-control-allow-origin']).toBeUndefined();
    }
  });

  test('a web page elsewhere cannot be led here by its own name', async () => {
    const a = await open('a', { http: { ...ANY, names: ['wal.example.org'] } });
    const ask = async (host: string): Promise<number> =>
      (await raw(urlOf(a, '/cluster/health'), { headers: { host } })).code;
    expect(await ask('evil.example.org')).toBe(421);
    expect(await ask('127.0.0.1.evil.example.org')).toBe(421);
    expect(await ask('localhost:1')).toBe(200);
    expect(await ask('[::1]:80')).toBe(200);
    expect(await ask('wal.example.org')).toBe(200);
  });

  test('a flood is turned away, and the probes still answer', async () => {
    const a = await open('a');
    const agent = new http.Agent({ keepAlive: true, maxSockets: 16 });
    const ask = async (): Promise<number> =>
      (await raw(urlOf(a, '/cluster/health'), { agent })).code;
    const codes: number[] = [];
    // A slow machine floods slowly.
    for (let i = 0; i < 100 && !codes.includes(429); i++) {
      codes.push(...(await Promise.all(Array.from({ length: 40 }, ask))));
    }
    agent.destroy();
    expect(codes).toContain(200);
    expect(codes).toContain(429);
    expect(codes.filter((code) => code !== 200 && code !== 429)).toEqual([]);
    expect((await fetch(urlOf(a, '/live'))).status).toBe(200);
    expect((await fetch(urlOf(a, '/ready'))).status).toBe(200);
  });

  test('FAULT-47 who asks thousands at once is cut off, with TLS or without', async () => {
    const made = await makeCertificates(dir);
    const tls = { certFile: made.cert, keyFile: made.key };
    const nodes = { net: await open('a'), tls: await open('b', { http: { ...ANY, tls } }) };
    /** @returns how many answers come, once the connection has ended */
    const ask = (kind: 'net' | 'tls', times: number): Promise<number> =>
      new Promise((resolve) => {
        let said = '';
        const to = { host: '127.0.0.1', port: nodes[kind].httpAddress!.port };
        const socket =
          kind === 'net' ? net.connect(to) : connectTls({ ...to, rejectUnauthorized: false });
        const last = 'GET /live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n';
        socket.write('GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(times - 1) + last);
        socket.on('data', (chunk) => (said += chunk)).on('error', () => undefined);
        socket.on('close', () => resolve(said.split('HTTP/1.1 200').length - 1));
      });
    for (const kind of ['net', 'tls'] as const) {
      expect(await ask(kind, 8)).toBe(8);
      expect(await ask(kind, 900)).toBeLessThan(100);
      const [refused] = nodes[kind].status().refused.filter(({ reason }) => reason === 'rate');
      expect(refused).toMatchObject({ times: 1 });
    }
  });

  test('a connection that says nothing is ended', async () => {
    const a = await open('a');
    const socket = net.connect(a.httpAddress!.port, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write('GET /live HTTP/1.1\r\nHost: local');
    let isClosed = false;
    socket.on('close', () => {
      isClosed = true;
    });
    socket.resume();
    await until('it is ended', () => isClosed, 50_000);
  });

  test('so many connections and no more', async () => {
    const a = await open('a');
    let closed = 0;
    const sockets = Array.from({ length: 80 }, () => {
      const socket = net.connect(a.httpAddress!.port, '127.0.0.1');
      socket.on('error', () => undefined);
      socket.on('close', () => closed++);
      return socket;
    });
    await until('those beyond 64 are ended', () => closed >= 16);
    for (const socket of sockets) socket.destroy();
    await until('all are gone', () => closed === 80);
    await until('there is room again', () => a.httpAddress !== undefined);
    expect((await fetch(urlOf(a, '/live'))).status).toBe(200);
  });
});

describe('who may look', () => {
  const TOKEN = 'a-secret-of-enough-characters';

  test.each([
    [{ host: '0.0.0.0', port: 0 }, 'loopback'],
    [{ host: '::', port: 0 }, 'loopback'],
    [{ host: '10.0.0.1' }, 'loopback'],
    [{ token: 'short' }, '16 characters'],
    [{ port: 70_000 }, 'port'],
    [{ port: '80' }, 'port'],
    [{ tls: { certFile: 'x' } }, 'keyFile'],
    [{ wrong: 1 }, 'an object of'],
    [{ names: 'x' }, 'names'],
    [[], 'an object of'],
  ] as const)('%j is refused, and the option is named', async (wrong, why) => {
    const opened = open('a', { http: wrong as unknown as HttpOptions });
    await expect(opened).rejects.toMatchObject({ code: 'Configuration' });
    await expect(opened).rejects.toThrow('option http');
    await expect(opened).rejects.toThrow(why);
  });

  test('a port that is taken: the option is named, and the directory is free again', async () => {
    const a = await open('a');
    const taken = { host: '127.0.0.1', port: a.httpAddress!.port };
    const opened = open('b', { http: taken });
    await expect(opened).rejects.toMatchObject({ code: 'Configuration' });
    await expect(opened).rejects.toThrow('EADDRINUSE');
    await open('b');
  });

  test('beyond loopback with a token: nothing of spaces without it', async () => {
    const a = await open('a', { http: { host: '0.0.0.0', port: 0, token: TOKEN } });
    await a.openSpace('tenant-of-mine');
    const ask = (headers: http.OutgoingHttpHeaders): Promise<RawAnswer> =>
      raw(urlOf(a, '/replication/status'), { headers: { host: 'any.example.org', ...headers } });
    const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`;
    for (const authorization of ['', `Bearer ${TOKEN}x`, 'Bearer', basic('me'), basic(`me:x`)]) {
      const refused = await ask(authorization === '' ? {} : { authorization });
      expect(refused.code).toBe(401);
      expect(refused.headers['www-authenticate']).toContain('Basic');
      expect(refused.body).not.toMatch(/tenant|secret/);
    }
    for (const authorization of [`Bearer ${TOKEN}`, basic(`me:${TOKEN}`), basic(`:${TOKEN}`)]) {
      const answer = await ask({ authorization });
      expect(answer.code).toBe(200);
      expect(answer.body).toContain('tenant-of-mine');
      expect(answer.body).not.toContain(TOKEN);
    }
    // Probes carry no token, and tell nothing of spaces.
    expect((await raw(urlOf(a, '/live'))).code).toBe(200);
    expect((await raw(urlOf(a, '/ready'))).code).toBe(200);
  });

  test('TLS, and clients that must show a certificate', async () => {
    const ca = await makeCertificates(dir);
    const tls = { certFile: ca.cert, keyFile: ca.key, caFile: ca.ca };
    const a = await open('a', { http: { host: '0.0.0.0', port: 0, tls } });
    const url = urlOf(a, '/live').replace('http:', 'https:');
    const trusted = { ca: fs.readFileSync(ca.ca), servername: 'localhost' };
    const own = { cert: fs.readFileSync(ca.cert), key: fs.readFileSync(ca.key) };
    expect((await raw(url, { ...trusted, ...own })).code).toBe(200);
    await expect(raw(url, trusted)).rejects.toThrow();
    await expect(raw(urlOf(a, '/live'))).rejects.toThrow();
  });

  test('a certificate that is not there is named', async () => {
    const tls = { certFile: path.join(dir, 'none.pem'), keyFile: 'x' };
    await expect(open('a', { http: { ...ANY, tls } })).rejects.toThrow('http.tls.certFile');
  });
});

test('an answer that takes its time is waited for: nobody is cut off for our silence', async () => {
  const node = await open('a', {
    metricsRegistry: {
      contentType: 'text/plain',
      registerMetric: () => undefined,
      removeSingleMetric: () => undefined,
      metrics: () =>
        new Promise<string>((resolve) =>
          setTimeout(() => resolve('late'), HTTP_REQUEST_MS + 1_000),
        ),
    },
  });
  const answer = await fetch(urlOf(node, '/metrics'));
  expect([answer.status, await answer.text()]).toEqual([200, 'late']);
});
