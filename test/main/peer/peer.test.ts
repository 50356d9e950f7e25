/** Peer calls: one node asks another, over real sockets. */
import net from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Node, NodeOptions } from '#src/main/index.js';
import { nodePlatform } from '#src/main/node/machine.js';
import { PeerClient, type PeerIdentity } from '#src/main/peer/client.js';
import { APPEND_CALLS_MAX, PEER_CALLS_PER_NODE_MAX } from '#src/shared/limits.js';
import type { Member } from '#src/shared/log/node-record.js';
import { idOf } from '#src/shared/names.js';
import { checkBatchEntries, decodeBatch } from '#src/shared/wire/batch.js';
import { FEATURE_PEER_CALL } from '#src/shared/wire/peer-frames.js';
import { decodeFrame, encodeFrame } from '#src/shared/wire/protocol.js';
import { NO_CREDENTIALS } from '#src/shared/wire/tls/certificates.js';
import { makeFolder, openSmall, removeFolder, until } from '../../support/cluster.js';
import { WireClient } from '../../support/wire-client.js';

const OWN: PeerIdentity = {
  clusterId: 'test',
  nodeId: 'asking',
  incarnation: 9n,
  directoryId: '9'.repeat(32),
  maxEntryBytes: 16 * 1024,
  credentials: NO_CREDENTIALS,
  maxFrameBytes: 128 * 1024,
  readTimeoutMs: 10_000,
  keepAliveMs: 10_000,
};
const LISTEN = { host: '127.0.0.1', port: 0 };
const WAIT_MS = 20_000;

let folder: string;
const open: Node[] = [];
const servers: net.Server[] = [];

beforeEach(() => {
  folder = makeFolder();
});

afterEach(async () => {
  for (const node of open.splice(0).reverse()) await node.close();
  for (const server of servers.splice(0)) server.close();
  removeFolder(folder);
});

async function start(nodeId: string, more: Partial<NodeOptions> = {}): Promise<Node> {
  const node = await openSmall(`${folder}/${nodeId}`, nodeId, { listen: LISTEN, ...more });
  open.push(node);
  return node;
}

function memberOf(node: Node, nodeId = node.nodeId): Member {
  return { nodeId, ...node.address! };
}

function client(change: Partial<PeerIdentity> = {}): PeerClient {
  return new PeerClient(nodePlatform, { ...OWN, ...change });
}

/** A listener that is no node. */
async function stranger(accept: (socket: net.Socket) => void): Promise<Member> {
  const server = net.createServer((socket) => {
    socket.on('error', () => undefined);
    accept(socket);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { nodeId: 'a', host: '127.0.0.1', port: (server.address() as net.AddressInfo).port };
}

async function filled(node: Node, name: string, count: number): Promise<void> {
  const space = await node.openSpace(name, { lead: true });
  const payloads = Array.from({ length: count }, (_, i) => Buffer.alloc(200, i));
  await space.appendBatch(1, payloads);
}

describe('peer calls', () => {
  test('standing: what a node has of several spaces, known or not', async () => {
    const a = await start('a');
    await filled(a, 's', 7);
    const ids = [idOf('s'), idOf('nobody')];
    const question = { kind: 'standing-ask', ids } as const;
    const parts = await client().ask(memberOf(a), question, ['standing'], WAIT_MS);
    const [known, unknown] = parts.flatMap((p) => p.rows);
    expect(known).toMatchObject({
      id: idOf('s'),
      isKnown: true,
      role: 'primary',
      epoch: 1,
      epochSeen: 1,
      primary: 'a',
      position: { epoch: 1, sequence: 7 },
      flushed: 7,
      first: 1,
      isWhole: true,
      history: [{ epoch: 1, startSequence: 1, primaryNodeId: idOf('a') }],
    });
    expect(unknown).toMatchObject({ id: idOf('nobody'), isKnown: false });
  });

  test('entries: batches of a range, bounded by bytes, and what is lacking', async () => {
    const a = await start('a');
    await filled(a, 's', 900);
    const call = await client().open(memberOf(a), WAIT_MS);
    const id = idOf('s');
    const kinds = ['entries', 'entries-lack'] as const;
    const ask = (from: number, to: number, maxBytes: number) =>
      call.ask({ kind: 'entries-ask', id, from, to, maxBytes }, kinds, WAIT_MS);
    let next = 1;
    while (next <= 900) {
      const parts = await ask(next, 900, 50_000);
      expect(parts.length).toBeGreaterThan(0);
      let bytes = 0;
      for (const part of parts) {
        if (part.kind !== 'entries') throw new Error('it has them all');
        const { batch } = part;
        const view = new DataView(batch.buffer, batch.byteOffset, batch.length);
        const header = decodeBatch(batch, view, 0, batch.length);
        checkBatchEntries(batch, view, 0, header, 16 * 1024);
        expect(header).toMatchObject({ spaceId: id, startSequence: next, epoch: 1 });
        next += header.entryCount;
        bytes += header.totalSize;
      }
      expect(bytes).toBeLessThan(50_000 + 300);
    }
    expect(await ask(901, 902, 1_000)).toMatchObject([
      { kind: 'entries-lack', reason: 'beyond', sequence: 901, first: 1, last: 900 },
    ]);
    const both = await ask(899, 905, 100_000);
    expect(both.map((p) => p.kind)).toEqual(['entries', 'entries-lack']);
    const foreign = { kind: 'entries-ask', id: idOf('x'), from: 1, to: 2, maxBytes: 9 } as const;
    expect(await call.ask(foreign, kinds, WAIT_MS)).toMatchObject([{ reason: 'unknown' }]);
    call.close();
  });

  test('a primary of the same name keeps its place (row 26)', async () => {
    const b = await start('b', { lead: false });
    const reasons: string[] = [];
    b.on('primary-connection', (e) => reasons.push(e.reason));
    const a = await start('a', { lead: true, replicas: [memberOf(b)] });
    const space = await a.openSpace('s');
    await space.append(1, Buffer.from('x'), { ack: { replicas: 1, timeoutMs: WAIT_MS } });
    for (let i = 0; i < 5; i++) {
      const question = { kind: 'standing-ask', ids: [idOf('s')] } as const;
      const parts = await client({ nodeId: 'a' }).ask(memberOf(b), question, ['standing'], WAIT_MS);
      expect(parts[0]!.rows[0]).toMatchObject({ role: 'replica', primary: 'a', flushed: 1 });
    }
    await space.append(1, Buffer.from('y'), { ack: { replicas: 1, timeoutMs: WAIT_MS } });
    expect(reasons).toEqual(['hello']);
  });

  test('nobody there, silent, ended, another cluster, another node: each by its name', async () => {
    const a = await start('a');
    const question = { kind: 'standing-ask', ids: [] } as const;
    const ask = (to: Member, from = client(), ms = WAIT_MS) =>
      from.ask(to, question, ['standing'], ms);
    const free = await stranger(() => undefined);
    for (const server of servers.splice(0)) server.close();
    await expect(ask(free)).rejects.toMatchObject({ code: 'ConnectionRefused', retryable: true });
    const silent = await stranger(() => undefined);
    await expect(ask(silent, client(), 200)).rejects.toMatchObject({ code: 'ConnectionTimeout' });
    const ended = await stranger((socket) => socket.once('data', () => socket.destroy()));
    await expect(ask(ended)).rejects.toMatchObject({ code: 'ConnectionLost' });
    const other = client({ clusterId: 'other' });
    await expect(ask(memberOf(a), other)).rejects.toMatchObject({ code: 'WrongCluster' });
    await expect(ask(memberOf(a, 'c'))).rejects.toMatchObject({ code: 'WrongNode' });
    const garbage = await stranger((socket) => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n'));
    await expect(ask(garbage)).rejects.toMatchObject({ code: 'ProtocolViolation' });
  });

  test('a peer that answers without end is cut off, and a closed node asks nobody', async () => {
    const endless = await stranger((socket) => {
      const welcome = { version: 1, ...OWN, nodeId: 'a', features: FEATURE_PEER_CALL };
      socket.once('data', () => {
        socket.write(encodeFrame({ kind: 'welcome', welcome }));
        const part = encodeFrame({ kind: 'entries', batch: new Uint8Array(100_000) });
        const more = (): void => void socket.write(part, (error) => error ?? more());
        socket.once('data', more);
      });
    });
    const asking = client();
    const id = idOf('s');
    const question = { kind: 'entries-ask', id, from: 1, to: 2, maxBytes: 9 } as const;
    await expect(asking.ask(endless, question, ['entries'], WAIT_MS)).rejects.toMatchObject({
      code: 'ProtocolViolation',
    });
    const silent = await stranger(() => undefined);
    const waiting = asking.ask(silent, question, ['entries'], WAIT_MS);
    asking.close();
    await expect(waiting).rejects.toMatchObject({ code: 'Closed' });
    await expect(asking.open(silent, WAIT_MS)).rejects.toMatchObject({ code: 'Closed' });
  });

  test('who asks what no peer may ask is told so; too many calls at once are refused', async () => {
    const a = await start('a');
    await filled(a, 's', 1);
    const wire = new WireClient(a.address!.port);
    await wire.hello('a', { nodeId: 'b', features: FEATURE_PEER_CALL });
    wire.send({ kind: 'nack', handle: 1, epoch: 1, expected: 1 });
    expect(await wire.next('bye')).toMatchObject({ code: 'ProtocolViolation' });
    await wire.closed;
    const asking = client();
    const calls = [];
    for (let i = 0; i < PEER_CALLS_PER_NODE_MAX; i++) {
      calls.push(await asking.open(memberOf(a), WAIT_MS));
    }
    await expect(asking.open(memberOf(a), WAIT_MS)).rejects.toMatchObject({
      code: 'ConnectionRefused',
    });
    // Its appends leave it room for other questions; and another node has its own.
    expect(2 * APPEND_CALLS_MAX).toBeLessThanOrEqual(PEER_CALLS_PER_NODE_MAX);
    (await client({ nodeId: 'c' }).open(memberOf(a), WAIT_MS)).close();
    for (const call of calls) call.close();
    const question = { kind: 'standing-ask', ids: [idOf('s')] } as const;
    await until('room for a call', () => a.status().durableLsn > 0);
    for (;;) {
      const answer = await asking.ask(memberOf(a), question, ['standing'], WAIT_MS).catch((e) => e);
      if (!(answer instanceof Error)) break;
      expect(answer).toMatchObject({ code: 'ConnectionRefused' });
    }
  });

  test('entries-ask with numbers beyond reason', async () => {
    const a = await start('a');
    await filled(a, 's', 3);
    const kinds = ['entries', 'entries-lack'] as const;
    const id = idOf('s');
    for (const [from, to] of [
      [0, 0],
      [3, 1],
      [1, Number.MAX_SAFE_INTEGER],
    ] as const) {
      const question = { kind: 'entries-ask', id, from, to, maxBytes: 0 } as const;
      const parts = await client().ask(memberOf(a), question, kinds, WAIT_MS);
      expect(parts.length).toBeLessThanOrEqual(1);
    }
    expect(decodeFrame(30, new Uint8Array(0))).toEqual({ kind: 'peer-done' });
  });
});
