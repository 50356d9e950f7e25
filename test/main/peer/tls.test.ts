/** Nodes with certificates: who has one of the cluster's authority comes in, under its own name. */
import fs from 'node:fs';
import type net from 'node:net';
import tls from 'node:tls';
import { beforeEach, describe, expect, test } from 'vitest';
import type { EngramError, Node, NodeOptions } from '#src/main/index.js';
import { nodePlatform } from '#src/main/node/machine.js';
import { PeerClient } from '#src/main/peer/client.js';
import { CredentialStore } from '#src/main/runtime/credentials.js';
import { GIVEN_UP } from '#src/shared/memory/loss-cause.js';
import { FrameAssembler } from '#src/shared/wire/frame.js';
import { decodeFrame, type Hello } from '#src/shared/wire/protocol.js';
import {
  type CredentialsNow,
  certificateName,
  NO_CREDENTIALS,
  namesIn,
} from '#src/shared/wire/tls/certificates.js';
import { Authority, EXPIRED } from '../../support/certificates.js';
import { contentOf, EachTest, heard, until } from '../../support/cluster.js';
import { TcpProxy } from '../../support/tcp-proxy.js';
import { WireClient } from '../../support/wire-client.js';

const LISTEN = { host: '127.0.0.1', port: 0 };
const KEY = 'a key of sixteen bytes, and more';
const life = new EachTest();
let ours: Authority;

type Tls = NonNullable<NodeOptions['tls']>;

beforeEach(async () => {
  ours = await Authority.make(life.folder);
});

async function pair(ofA: Partial<NodeOptions>, ofB: Partial<NodeOptions>): Promise<[Node, Node]> {
  const b = await life.start('b', { listen: LISTEN, ...ofB });
  const replicas = [{ nodeId: 'b', ...b.address! }];
  return [await life.start('a', { replicas, ...ofA }), b];
}

const reasonAt = (a: Node): string => a.status().replicas[0]!.reason;

function peers(nodeId: string, credentials: CredentialsNow): PeerClient {
  const caps = { maxEntryBytes: 1_024, maxFrameBytes: 1_048_576 };
  const times = { readTimeoutMs: 10_000, keepAliveMs: 10_000 };
  const own = { clusterId: 'test', nodeId, incarnation: 1n, directoryId: 'c'.repeat(32) };
  return new PeerClient(nodePlatform, { ...own, ...caps, ...times, credentials });
}

describe('certificates on both ends', () => {
  test.each([
    ['alone', {}],
    ['and a key', { key: KEY }],
  ])('%s: entries come over, questions are answered, the wire is TLS 1.3', async (_, more) => {
    const [tlsA, tlsB] = [await ours.tlsOf('a'), await ours.tlsOf('b')];
    const [a, b] = await pair({ tls: tlsA, ...more }, { tls: tlsB, ...more });
    const space = await a.openSpace('s');
    const payloads = Array.from({ length: 200 }, (_, i) => Buffer.alloc(4_096, i));
    await space.appendBatch(1, payloads);
    await space.append(1, Buffer.from('the last'), { ack: { replicas: 1 } });
    expect(await contentOf(b.space('s'))).toEqual(await contentOf(space));
    const store = await CredentialStore.open({
      ...{ clusterId: 'test', nodeId: 'a', tls: await ours.tlsOf('a') },
      keys: 'key' in more ? [Buffer.from(more.key)] : [],
    });
    const question = { kind: 'standing-ask', ids: [space.status().id] } as const;
    const member = { nodeId: 'b', ...b.address! };
    const [answer] = await peers('a', store).ask(member, question, ['standing'], 5_000);
    expect(answer!.rows[0]!.flushed).toBe(201);
    const older = byHand(b.address!.port, tlsA, { minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' });
    await expect(older.hello('b', { nodeId: 'a' })).rejects.toThrow('closed before');
  });
});

test('a replica that takes nothing costs a few buffers and is given up, with TLS too', async () => {
  const b = await life.start('b', { listen: LISTEN, tls: await ours.tlsOf('b') });
  const proxy = new TcpProxy(b.address!.port);
  await proxy.listen();
  life.finally(() => proxy.close());
  const replicas = [{ nodeId: 'b', host: '127.0.0.1', port: proxy.port }];
  const waits = { writeTimeoutMs: 1_000, windowBytes: 256 * 1024 ** 2 };
  const a = await life.start('a', { replicas, tls: await ours.tlsOf('a'), ...waits });
  const space = await a.openSpace('s');
  await space.append(1, Buffer.from('x'), { ack: { replicas: 1 } });
  const states = heard(a, 'replica-state');
  proxy.stall('forth');
  const before = process.memoryUsage();
  for (let n = 0; n < 32; n++) {
    await space.appendBatch(
      1,
      Array.from({ length: 64 }, () => Buffer.alloc(16_000, n)),
    );
  }
  await until('it is given up', () => states.some((e) => e.reason === GIVEN_UP.writeStalled));
  const { sentBytes } = a.status().replicas[0]!.traffic;
  // 32 MB wait; what the system's own buffers hold of them, and three of ours, have gone out.
  expect(sentBytes).toBeLessThan(16 * 1024 ** 2);
  const grown = process.memoryUsage().external - before.external;
  expect(grown).toBeLessThan(24 * 1024 ** 2);
  proxy.flow();
  const last = space.status().durableSequence;
  await space.flushed(last, { replicas: 1, timeoutMs: 30_000 });
});

/** A TLS client that is no node. `own`: what it shows; undefined: nothing. */
function byHand(port: number, own: Tls | undefined, more: tls.ConnectionOptions = {}): WireClient {
  const files = own && { cert: fs.readFileSync(own.certFile), key: fs.readFileSync(own.keyFile) };
  const to = { host: '127.0.0.1', port, rejectUnauthorized: false };
  return new WireClient(tls.connect({ ...to, ...files, ...more }));
}

const DIRECTORY = Buffer.alloc(16, 7);
const hello = (nodeId: string): Partial<Hello> => ({ nodeId, maxVersion: 2, auth: DIRECTORY });

describe('FAULT-48: a certificate that is not the one', () => {
  /** What the dialler shows, and what is said to it. */
  const SHOWN: Record<string, [() => Promise<Tls | undefined>, string]> = {
    'of another authority': [
      async () => (await Authority.make(life.folder)).tlsOf('a'),
      'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
    ],
    'of another cluster': [
      () => ours.tlsOf('a', { clusterId: 'other' }),
      'is of URI:engram-wal:other/a, not of a (URI:engram-wal:test/a)',
    ],
    'of another node': [
      () => ours.tlsOf('c'),
      'is of URI:engram-wal:test/c, not of a (URI:engram-wal:test/a)',
    ],
    'signed by itself': [() => ours.signedByItself('a'), 'DEPTH_ZERO_SELF_SIGNED_CERT'],
    'that has expired': [() => ours.tlsOf('a', { validity: EXPIRED }), 'CERT_HAS_EXPIRED'],
    'that there is not': [async () => undefined, 'it has shown none'],
  };

  test.each(Object.keys(SHOWN))('%s: the dialler is refused, and told so', async (name) => {
    const [shown, text] = SHOWN[name]!;
    const b = await life.start('b', { listen: LISTEN, tls: await ours.tlsOf('b') });
    const refused = heard(b, 'connection-refused');
    const client = byHand(b.address!.port, await shown());
    client.socket.on('secureConnect', () => {
      void client.hello('b', hello('a')).catch(() => undefined);
    });
    const bye = await client.next('bye');
    expect(bye).toMatchObject({ code: 'AuthFailed', fatal: true });
    expect(bye.message).toContain(text);
    await client.closed;
    // It was told nothing else, and the node that refused it tells whoever runs it.
    expect(client.frames).toEqual([]);
    expect(refused).toMatchObject([{ door: 'replication', reason: 'auth', times: 1 }]);
    expect(refused[0]!.detail).toContain(text);
    const right = byHand(b.address!.port, await ours.tlsOf('a'));
    await new Promise((resolve) => right.socket.on('secureConnect', resolve));
    expect((await right.hello('b', hello('a'))).nodeId).toBe('b');
    right.socket.destroy();
  });

  test.each([
    ['of another authority', async () => (await Authority.make(life.folder)).tlsOf('b')],
    ['of another node', () => ours.tlsOf('c')],
    ['of another cluster', () => ours.tlsOf('b', { clusterId: 'other' })],
    ['that has expired', () => ours.tlsOf('b', { validity: EXPIRED })],
  ])('%s, where it is dialled: failed for that, and slow to try again', async (_, shown) => {
    const { certFile, keyFile } = await shown();
    const told: { code: string; message: string }[] = [];
    let tries = 0;
    const pems = { cert: fs.readFileSync(certFile), key: fs.readFileSync(keyFile) };
    const impostor = tls.createServer(pems, (socket) => {
      tries++;
      socket.on('error', () => undefined);
      const assembler = new FrameAssembler(1_024);
      socket.on('data', (chunk) =>
        assembler.feed(chunk, (kind, body) => {
          told.push(decodeFrame(kind, Uint8Array.from(body)) as never);
          return true;
        }),
      );
    });
    await new Promise<void>((resolve) => impostor.listen(0, '127.0.0.1', resolve));
    life.finally(() => impostor.close());
    const { port } = impostor.address() as net.AddressInfo;
    const replicas = [{ nodeId: 'b', host: '127.0.0.1', port }];
    const tlsA = await ours.tlsOf('a');
    const a = await life.start('a', { replicas, tls: tlsA, backoffStepsMs: [20, 60_000] });
    await until('it is refused', () => a.status().replicas[0]!.state === 'failed');
    expect(a.status().replicas[0]!.reason).toMatch(
      /^AuthFailed: the certificate of the other end /,
    );
    await until('the other end is told', () => told.length > 0);
    expect(told[0]).toMatchObject({ kind: 'bye', code: 'AuthFailed', fatal: true });
    // Not one byte but that one came over, and what it has waits within its bound.
    expect(told).toHaveLength(1);
    const space = await a.openSpace('s');
    await space.append(1, Buffer.from('x'));
    // A new space is worth one more try at once; from then on it waits the longest of its steps.
    // Who asks its members meanwhile dials as well, once.
    await until('it is tried for the new space', () => tries >= 2);
    await new Promise((resolve) => setTimeout(resolve, 200));
    const tried = tries;
    expect(tried).toBeLessThanOrEqual(3);
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(tries).toBe(tried);

    const store = await CredentialStore.open({
      ...{ clusterId: 'test', nodeId: 'a', keys: [], tls: tlsA },
    });
    const question = { kind: 'standing-ask', ids: [space.status().id] } as const;
    const asked = peers('a', store).ask(replicas[0]!, question, ['standing'], 5_000);
    await expect(asked).rejects.toMatchObject({ code: 'AuthFailed' });
  });

  test('that expires while nodes run: the link goes on, the next one is refused', async () => {
    const soon = { from: new Date(Date.now() - 1_000), until: new Date(Date.now() + 6_000) };
    const tlsB = await ours.tlsOf('b');
    const b = await life.start('b', { listen: LISTEN, tls: tlsB });
    const replicas = [{ nodeId: 'b', ...b.address! }];
    const tlsA = await ours.tlsOf('a', { validity: soon });
    const a = await life.start('a', { replicas, tls: tlsA, backoffStepsMs: [20, 60_000] });
    const space = await a.openSpace('s');
    await until('it is over', () => a.status().credentials.certificate!.daysLeft < 0);
    await space.append(1, Buffer.from('x'), { ack: { replicas: 1 } });
    await b.close();
    const again = { listen: { ...LISTEN, port: b.address!.port }, tls: tlsB };
    await life.start('b', again);
    await until('it is refused', () => reasonAt(a).includes('AuthFailed'));
    expect(reasonAt(a)).toContain('CERT_HAS_EXPIRED');
    expect(a.status().replicas[0]!.state).toBe('failed');
    // The primary goes on by itself.
    await space.append(1, Buffer.from('y'));
    // And the replica is there again with the next certificate, at once.
    const next = await ours.tlsOf('a');
    for (const key of ['certFile', 'keyFile'] as const) fs.copyFileSync(next[key], tlsA[key]);
    await a.reloadCredentials();
    await until('it is linked', () => reasonAt(a).startsWith('streams'), 10_000);
    await space.append(1, Buffer.from('z'), { ack: { replicas: 1 } });
    expect(a.status().credentials.certificate!.daysLeft).toBeGreaterThan(0.9);
  });
});

describe('FAULT-42: TLS on one end only', () => {
  test.each([
    ['dialled with TLS, listens without', true, false],
    ['dialled without, listens with TLS', false, true],
  ])('%s: both say so, and it is tried slowly', async (_, isA, isB) => {
    const listen = { listen: LISTEN };
    const b = await life.start('b', isB ? { ...listen, tls: await ours.tlsOf('b') } : listen);
    const refused = heard(b, 'connection-refused');
    const replicas = [{ nodeId: 'b', ...b.address! }];
    const slow = { replicas, backoffStepsMs: [20, 60_000] };
    const tlsOfA = await ours.tlsOf('a');
    const a = await life.start('a', isA ? { ...slow, tls: tlsOfA } : slow);
    await until('it is refused', () => a.status().replicas[0]!.state === 'failed');
    expect(reasonAt(a)).toContain('TlsMismatch: ');
    await until('both say so', () => refused.length > 0);
    expect(refused[0]).toMatchObject({ reason: 'protocol' });
    expect(refused[0]!.detail).toContain('TlsMismatch: ');
    const store = isA
      ? await CredentialStore.open({ clusterId: 'test', nodeId: 'a', keys: [], tls: tlsOfA })
      : NO_CREDENTIALS;
    const member = { nodeId: 'b', ...b.address! };
    const question = { kind: 'standing-ask', ids: ['0'.repeat(32)] } as const;
    const asked = peers('a', store).ask(member, question, ['standing'], 5_000);
    await expect(asked).rejects.toMatchObject({ code: 'TlsMismatch' });
  });

  test('bytes that come one by one, and garbage: recognised as well', async () => {
    const b = await life.start('b', { listen: LISTEN });
    const c = await life.start('c', { listen: LISTEN, tls: await ours.tlsOf('c') });
    const sent = async (to: Node, bytes: number[]): Promise<string> => {
      const client = new WireClient(to.address!.port);
      for (const byte of bytes) {
        client.socket.write(Uint8Array.of(byte));
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      const bye = await client.next('bye');
      await client.closed;
      return bye.code;
    };
    expect(await sent(b, [0x16, 0x03, 0x01])).toBe('TlsMismatch');
    expect(await sent(b, [0x15, 0x03, 0x03])).toBe('TlsMismatch');
    expect(await sent(c, [0x16, 0x03, 0x00])).toBe('TlsMismatch');
    expect(await sent(c, [...Buffer.from('GET')])).toBe('TlsMismatch');
    // A frame of 790 bytes is none of TLS.
    const frame = [0x16, 0x03, 0x00, 0x00, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    expect(await sent(b, frame)).toBe('ChecksumMismatch');
  });
});

describe('FAULT-46: what was said once', () => {
  test('a session is never resumed: each connection shows its certificate', async () => {
    const b = await life.start('b', { listen: LISTEN, tls: await ours.tlsOf('b') });
    const tlsA = await ours.tlsOf('a');
    const sessions: Buffer[] = [];
    const first = byHand(b.address!.port, tlsA);
    (first.socket as tls.TLSSocket).on('session', (session) => sessions.push(session));
    await new Promise((resolve) => first.socket.on('secureConnect', resolve));
    await first.hello('b', hello('a'));
    first.socket.destroy();
    await first.closed;
    const session = sessions.at(-1);
    const second = byHand(b.address!.port, undefined, session && { session });
    second.socket.on('secureConnect', () => void second.hello('b', hello('a')).catch(() => 0));
    expect(await second.next('bye')).toMatchObject({ code: 'AuthFailed' });
    expect((second.socket as tls.TLSSocket).isSessionReused()).toBe(false);
  });
});

test('a replica is told by the primary that does not take it for the one it dials', async () => {
  const c = await life.start('c', { listen: LISTEN, tls: await ours.tlsOf('c') });
  const refused = heard(c, 'connection-refused');
  const replicas = [{ nodeId: 'b', ...c.address! }];
  const a = await life.start('a', { replicas, tls: await ours.tlsOf('a') });
  await until('it is refused', () => a.status().replicas[0]!.state === 'failed');
  await until('both say so', () => refused.length > 0);
  const text = 'is of URI:engram-wal:test/c, not of b (URI:engram-wal:test/b)';
  expect(reasonAt(a)).toContain(text);
  expect(refused[0]).toMatchObject({ reason: 'auth' });
  expect(refused[0]!.detail).toContain(text);
});

describe('names in certificates', () => {
  test('a name that holds a comma is one name', () => {
    const name = certificateName('test', 'b');
    expect(name).toBe('URI:engram-wal:test/b');
    expect(namesIn(`DNS:x, ${name}`)).toEqual(['DNS:x', name]);
    expect(namesIn(`DNS:"x, ${name}, y"`)).toEqual([`DNS:"x, ${name}, y"`]);
    expect(namesIn(`DNS:"x\\", ${name}, DNS:"y"`)).not.toEqual([]);
    expect(namesIn(undefined)).toEqual([]);
    expect(certificateName('a/b', 'c d')).toBe('URI:engram-wal:a%2Fb/c%20d');
  });

  test('another name by the option: it is the one that counts', async () => {
    const names = { b: 'DNS:b.example' };
    const of = async (nodeId: string, hosts: string[] = []): Promise<Tls> => {
      return { ...(await ours.tlsOf(nodeId, { hosts })), names };
    };
    const other = await of('x', ['b.example']);
    const [a] = await pair({ tls: await of('a') }, { tls: other });
    const space = await a.openSpace('s');
    await space.append(1, Buffer.from('x'), { ack: { replicas: 1 } });
    const own = { listen: LISTEN, tls: await of('b') };
    const refused = await life.start('b2', { ...own, nodeId: 'b' }).catch((e: EngramError) => e);
    expect((refused as EngramError).message).toContain('not of this node (DNS:b.example)');
  });
});
