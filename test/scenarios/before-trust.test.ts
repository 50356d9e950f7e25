/** What strangers can do at a node's ports before they have proved anything: nothing for long. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Node } from '#src/main/index.js';
import { PRE_TRUST_CONNECTIONS_MAX } from '#src/shared/limits.js';
import { encodeFrame, type PlainFrame } from '#src/shared/wire/protocol.js';
import { at, EachTest, heard, openSmall, until } from '../support/cluster.js';
import { startCommand } from '../support/command-line.js';
import { freePort } from '../support/etcd.js';
import { WireClient } from '../support/wire-client.js';

const LISTEN = { host: '127.0.0.1', port: 0 };
const KEY = 'a key of sixteen bytes, and more';
const TOKEN = 'a-token-of-sixteen-bytes';
const CROWD = path.join(import.meta.dirname, '../support/crowd.mjs');
/** A hello that its sender never finishes. */
const HELLO = encodeFrame({
  kind: 'hello',
  hello: {
    ...{ minVersion: 1, maxVersion: 1, clusterId: 'test', nodeId: 'x', peerId: 'b' },
    ...{ incarnation: 1n, features: 0, maxFrameBytes: 65_536, maxEntryBytes: 1_024 },
  },
});

const world = new EachTest();

/** @param bytes what each of them says, one byte after the other; empty: nothing */
function crowd(port: number, count: number, againMs: number, bytes: Uint8Array): ChildProcess {
  const text = Buffer.from(bytes).toString('base64');
  const args = [CROWD, `${port}`, `${count}`, `${againMs}`, text];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  world.finally(async () => {
    child.stdin!.end();
    if (child.exitCode === null) await once(child, 'exit');
  });
  return child;
}

/** How many connections of the crowd have come about so far. */
async function comeOf({ stdin, stdout }: ChildProcess): Promise<number> {
  stdin!.write('?');
  const [line] = await once(stdout!, 'data');
  return Number(String(line));
}

async function untilCome(child: ChildProcess, count: number): Promise<void> {
  for (;;) {
    if ((await comeOf(child)) >= count) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** A primary comes in, and its entry is flushed on b. @returns how long that took, ms */
async function comesIn(b: Node): Promise<number> {
  const startMs = performance.now();
  const replicas = [at('b', b.address!.port)];
  const a = await world.start('a', { key: KEY, replicas });
  const space = await a.openSpace('s');
  await space.append(1, Buffer.from('x'), { ack: { replicas: 1, timeoutMs: 30_000 } });
  const tookMs = performance.now() - startMs;
  await a.close();
  return tookMs;
}

/** Resolves when somebody listens there. */
async function untilListening(port: number): Promise<void> {
  for (;;) {
    const socket = net.connect({ host: '127.0.0.1', port });
    const isThere = await new Promise((resolve) => {
      socket.on('connect', () => resolve(true));
      socket.on('error', () => resolve(false));
    });
    socket.destroy();
    if (isThere) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Of this process. */
function openSockets(): number {
  return process.getActiveResourcesInfo().filter((kind) => kind.startsWith('TCP')).length;
}

function refusedOf(node: Node, reason: string): number {
  const rows = node.status().refused.filter((row) => row.reason === reason);
  return rows.reduce((sum, { times }) => sum + times, 0);
}

describe('before trust', () => {
  test('FAULT-47 connections that say nothing lock no member out, and this is told', async () => {
    const b = await world.start('b', { key: KEY, listen: LISTEN });
    const told = heard(b, 'connection-refused');
    const idle = crowd(b.address!.port, 200, 50, new Uint8Array(0));
    await untilCome(idle, 200);
    expect(await comesIn(b)).toBeLessThan(5_000);
    // A member that is started again, as often as it likes.
    expect(await comesIn(b)).toBeLessThan(5_000);
    await until('it is told', () => told.some(({ reason }) => reason === 'evicted'));
    expect(told.find((one) => one.reason === 'evicted')).toMatchObject({ door: 'replication' });
    // A flood is a line or two, and every one of it is counted.
    expect(told.length).toBeLessThan(20);
    expect(refusedOf(b, 'evicted')).toBeGreaterThan(told.length);
    const { body } = await b.metrics();
    expect(body).toMatch(/engram_refused_connections_total\{[^}]*reason="evicted"[^}]*\} [1-9]/);
  });

  test('FAULT-47 5,000 slow connections leave a pair alone, and let it come back', async () => {
    const b = await world.start('b', { key: KEY, listen: LISTEN });
    const replicas = [at('b', b.address!.port)];
    const c = await world.start('c', { key: KEY, replicas, mayReplicate: { b: ['c*'] } });
    const space = await c.openSpace('c1');
    await space.append(1, Buffer.from('x'), { ack: { replicas: 1 } });
    const links = heard(c, 'replica-state');
    const slow = crowd(b.address!.port, 5_000, 2_000, HELLO);
    await untilCome(slow, 5_000);
    await until('they go for each other', () => refusedOf(b, 'evicted') > 4_000, 60_000);
    // Those with a place, both ends of the link, and those that listen.
    await until('the others are closed', () => openSockets() < PRE_TRUST_CONNECTIONS_MAX + 20);
    for (let n = 0; n < 50; n++) {
      await space.append(1, Buffer.from(`${n}`), { ack: { replicas: 1, timeoutMs: 10_000 } });
    }
    expect(links).toEqual([]);
    expect(b.status().primaries).toMatchObject([{ primaryId: 'c', isConnected: true }]);
    // All of them at once, and the member that is started again among them.
    const { port } = b.address!;
    await b.close();
    const back = await openSmall(path.join(world.folder, 'b'), 'b', {
      ...{ key: KEY, listen: { host: '127.0.0.1', port } },
    });
    world.finally(() => back.close());
    // While it was away its primary had given it up: then an append is refused at once.
    await until('it is in', () => back.status().primaries.some((p) => p.isConnected), 5_000);
    await space.append(1, Buffer.from('y'), { ack: { replicas: 1, timeoutMs: 30_000 } });
    slow.stdin!.end();
  });

  test('FAULT-47 a node with many members has as many places for strangers as any', async () => {
    const b = await world.start('b', { listen: LISTEN });
    const { port } = b.address!;
    const come = async (nodeId: string): Promise<WireClient> => {
      const client = new WireClient(port);
      world.finally(() => client.socket.destroy());
      await client.hello('b', { nodeId });
      return client;
    };
    const members: WireClient[] = [];
    for (let n = 0; n < 200; n++) members.push(await come(`n${n}`));
    const idle = Array.from({ length: 90 }, (_, n) =>
      net.connect({ host: '127.0.0.1', port, localAddress: `127.0.1.${n + 1}` }),
    );
    for (const socket of idle) world.finally(() => socket.destroy());
    await until('all have come', () => idle.every((socket) => !socket.connecting));
    expect((await come('one more')).socket.destroyed).toBe(false);
    expect([...idle, ...members.map(({ socket }) => socket)].some((s) => s.destroyed)).toBe(false);
    expect(b.status().refused).toEqual([]);
  });

  test('FAULT-47 who comes while a node is busy finds room, with 1,000 before it', async () => {
    const ports = [await freePort(), await freePort()];
    const config = path.join(world.folder, 'wal.json');
    const dataDir = path.join(world.folder, 'busy');
    const [listen, http] = ports.map((port) => ({ host: '127.0.0.1', port }));
    const text = JSON.stringify({ dataDir, nodeId: 'n', clusterId: 'test', listen, http });
    fs.writeFileSync(config, text, { mode: 0o600 });
    const { child, ended } = startCommand(world.folder, ['serve', '--config', config]);
    world.finally(async () => {
      child.kill('SIGKILL');
      await ended;
    });
    for (const port of ports) await untilListening(port);
    // It takes nobody: the system does, for a while.
    child.kill('SIGSTOP');
    const most = Number(fs.readFileSync('/proc/sys/net/core/somaxconn', 'utf8'));
    for (const port of ports) {
      const all = Array.from({ length: Math.min(1_000, most) }, () =>
        net.connect({ host: '127.0.0.1', port }),
      );
      for (const socket of all) {
        socket.on('error', () => undefined);
        world.finally(() => socket.destroy());
      }
      await until('all have room', () => all.every((socket) => !socket.connecting), 10_000);
    }
  });

  test('FAULT-47 five seconds are five seconds, for whoever dribbles', async () => {
    const b = await world.start('b', { listen: LISTEN, key: KEY });
    const startMs = performance.now();
    const client = new WireClient(b.address!.port);
    let sent = 0;
    const drip = setInterval(() => client.socket.write(HELLO.subarray(sent, ++sent)), 250);
    await client.closed;
    clearInterval(drip);
    expect(performance.now() - startMs).toBeGreaterThan(4_500);
    expect(performance.now() - startMs).toBeLessThan(7_500);
    expect(refusedOf(b, 'late')).toBe(1);
  });

  test('FAULT-45 wrong keys are told and slowed down; a right one from there is not', async () => {
    const b = await world.start('b', { key: KEY, listen: LISTEN });
    const told = heard(b, 'connection-refused');
    const guesses = Array.from({ length: 40 }, () => new WireClient(b.address!.port));
    const startMs = performance.now();
    for (const guess of guesses) {
      guess.hello('b', { auth: Buffer.alloc(32, 7) }).catch(() => undefined);
      guess.send({ kind: 'proof', proof: Buffer.alloc(32) });
    }
    const tookMs = guesses.map((guess) => guess.closed.then(() => performance.now() - startMs));
    expect(await comesIn(b)).toBeLessThan(5_000);
    // They wait for their answer, a few at a time: the others were let go for those that came.
    const slow = (await Promise.all(tookMs)).filter((ms) => ms > 900);
    expect(slow.length).toBeGreaterThan(1);
    expect(refusedOf(b, 'auth')).toBeGreaterThan(10);
    expect(told.length).toBeLessThan(10);
    expect(told.find(({ reason }) => reason === 'auth')?.detail).not.toContain(KEY.slice(0, 8));
  });
});

describe('in the place of a replica', () => {
  test('FAULT-45 who has proved nothing says nothing that counts', async () => {
    const position = { epoch: 9, sequence: 9, headerCrc: 9 };
    const row = { handle: 1, answer: 'follows', epochSeen: 9, position, applied: 0 } as const;
    const said: PlainFrame[] = [
      { kind: 'fenced', handle: 1, epoch: 9, leader: { nodeId: 'x', host: 'x', port: 1 } },
      { kind: 'positions', rows: [row] },
      { kind: 'nack', handle: 1, epoch: 1, expected: 1 },
      { kind: 'answer', id: '0'.repeat(32), known: true, epoch: 9, primary: 'x' },
      { kind: 'acks', timestampMs: 0, rows: Float64Array.of(1, 1, 1, 1) },
      { kind: 'heartbeat', stalledMs: 0, rows: [] },
      { kind: 'ping' },
    ];
    const rest = [...said];
    const stranger = net.createServer((socket) => {
      socket.on('error', () => undefined);
      socket.once('data', () => {
        const frame = rest.shift();
        if (frame) socket.write(encodeFrame(frame));
      });
    });
    await once(stranger.listen(0, '127.0.0.1'), 'listening');
    world.finally(() => stranger.close());
    const { port } = stranger.address() as net.AddressInfo;
    const options = { key: KEY, backoffStepsMs: [10], openConfirmMs: 0, replicas: [at('b', port)] };
    const a = await world.start('a', options);
    const links = heard(a, 'replica-state');
    const space = await a.openSpace('s');
    for (const { kind } of said) {
      const told = `ProtocolViolation: a frame ${kind} before`;
      await until(`${kind} is refused`, () => links.some((link) => link.reason.includes(told)));
    }
    expect(await space.append(1, Buffer.from('x'))).toEqual({ sequence: 1, epoch: 1 });
  });
});

describe('before a request is whole', () => {
  const http = { ...LISTEN, token: TOKEN };
  const ask = (node: Node, at: string, token?: string): Promise<Response> =>
    fetch(`http://127.0.0.1:${node.httpAddress!.port}${at}`, {
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
      signal: AbortSignal.timeout(3_000),
    });

  test('FAULT-47 slow requests silence no probe, and end after 5 s', async () => {
    const node = await world.start('n', { http });
    const slow: net.Socket[] = [];
    const lives: Promise<number>[] = [];
    for (let n = 0; n < 150; n++) {
      const socket = net.connect({ host: '127.0.0.1', port: node.httpAddress!.port });
      const startMs = performance.now();
      socket.on('error', () => undefined);
      socket.on('connect', () => socket.write('GET /live HTTP/1.1\r\nHost: localhost\r\nX: '));
      const drip = setInterval(() => socket.write('x'), 500);
      world.finally(() => clearInterval(drip));
      world.finally(() => socket.destroy());
      slow.push(socket);
      const closed = new Promise((resolve) => socket.on('close', resolve));
      lives.push(closed.then(() => performance.now() - startMs));
    }
    await until('all have come', () => slow.every((socket) => !socket.connecting));
    for (let n = 0; n < 20; n++) {
      expect((await ask(node, '/live')).status).toBe(200);
      expect((await ask(node, '/ready')).status).toBe(200);
    }
    const longest = Math.max(...(await Promise.all(lives)));
    expect(longest).toBeGreaterThan(4_000);
    expect(longest).toBeLessThan(7_500);
    expect(refusedOf(node, 'late') + refusedOf(node, 'evicted')).toBeGreaterThanOrEqual(150);
  });

  test('FAULT-45 wrong tokens are told and slowed down; the right one is not', async () => {
    const node = await world.start('n', { http });
    const told = heard(node, 'connection-refused');
    expect((await ask(node, '/cluster/health')).status).toBe(401);
    const startMs = performance.now();
    let answered = 0;
    const wrong = Array.from({ length: 20 }, async (_, n) => {
      expect((await ask(node, '/cluster/health', `${TOKEN}${n}`)).status).toBe(401);
      answered++;
    });
    expect((await ask(node, '/cluster/health', TOKEN)).status).toBe(200);
    expect(answered).toBeLessThan(5);
    await Promise.all(wrong);
    expect(performance.now() - startMs).toBeGreaterThan(900);
    await until('it is told', () => told.length > 0);
    expect(told[0]).toMatchObject({ door: 'http', reason: 'auth', addressClass: 'loopback' });
    expect(refusedOf(node, 'auth')).toBe(20);
    const health = await (await ask(node, '/cluster/health', TOKEN)).text();
    expect(JSON.parse(health)).toMatchObject({ health: 'healthy' });
    expect(health).toContain('20 auth (http, loopback)');
  });
});
