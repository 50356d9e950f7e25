/** Keys and authorities that are taken away: links that were made by them end, all others go on. */
import { X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Node, NodeOptions } from '#src/main/index.js';
import { DiallerAuth, ListenerAuth, type Parties } from '#src/shared/wire/auth.js';
import { FEATURE_PEER_CALL } from '#src/shared/wire/peer-frames.js';
import { isStillProved } from '#src/shared/wire/tls/certificates.js';
import { Authority } from '../../support/certificates.js';
import { contentOf, EachTest, heard, until } from '../../support/cluster.js';
import { WireClient } from '../../support/wire-client.js';

const LISTEN = { host: '127.0.0.1', port: 0 };
const [OLD, NEW] = ['the old key of both nodes', 'the new key of both nodes'];
const life = new EachTest();
let ours: Authority;
let next: Authority;

beforeEach(async () => {
  ours = await Authority.make(life.folder);
  next = await Authority.make(life.folder);
});

type Files = Pick<NodeOptions, 'keyFile'> & { readonly tls: NonNullable<NodeOptions['tls']> };

async function filesOf(nodeId: string): Promise<Files> {
  const keyFile = path.join(life.folder, `key-${nodeId}`);
  fs.writeFileSync(keyFile, `${OLD}\n${NEW}\n`, { mode: 0o600 });
  return { keyFile, tls: await ours.tlsOf(nodeId) };
}

const WITHDRAWALS: Record<string, (files: Files) => Promise<void> | void> = {
  'a key': ({ keyFile }) => fs.writeFileSync(keyFile as string, `${NEW}\n`),
  'an authority': async ({ tls }) => {
    const made = await next.tlsOf(path.basename(path.dirname(tls.certFile)).split('-')[1]!);
    for (const part of ['caFile', 'certFile', 'keyFile'] as const) {
      fs.copyFileSync(made[part], tls[part]);
    }
  },
};

describe.each(Object.keys(WITHDRAWALS))('%s is taken away', (what) => {
  let a: Node;
  let b: Node;
  const files: Record<string, Files> = {};

  beforeEach(async () => {
    files.a = await filesOf('a');
    files.b = await filesOf('b');
    b = await life.start('b', { listen: LISTEN, ...files.b });
    const replicas = [{ nodeId: 'b', ...b.address! }];
    a = await life.start('a', { replicas, ...files.a });
    const space = await a.openSpace('s');
    await space.append(1, Buffer.from('x'), { ack: { replicas: 1 } });
  });

  const reason = (): string => a.status().replicas[0]!.reason;

  test('by who listens: the link ends, and the other end is not let in again', async () => {
    const told = heard(b, 'primary-connection');
    const refused = heard(b, 'connection-refused');
    await WITHDRAWALS[what]!(files.b!);
    await b.reloadCredentials();
    await until('it is gone', () => told.length > 0);
    expect(told[0]).toMatchObject({ connected: false });
    expect(told[0]!.reason).toBe('what it has proved itself by counts no more');
    await until('it is refused', () => reason().includes('AuthFailed'));
    if (what === 'an authority') expect(refused).toMatchObject([{ reason: 'auth' }]);
    await a.space('s').append(1, Buffer.from('y'));
    expect(await contentOf(b.space('s'))).toHaveLength(1);
    expect(told.filter((e) => e.connected)).toEqual([]);
  });

  test('by who dials: nothing more is sent there', async () => {
    const states = heard(a, 'replica-state');
    await WITHDRAWALS[what]!(files.a!);
    await a.reloadCredentials();
    await until('it is gone', () => states.length > 0);
    expect(states[0]!.reason).toBe('what the replica has proved itself by counts no more');
    await until('it is refused', () => reason().includes('AuthFailed'));
    await a.space('s').append(1, Buffer.from('y'));
    expect(await contentOf(b.space('s'))).toHaveLength(1);
  });

  test('by both, one after the other: they are linked again', async () => {
    for (const [node, own] of [
      [b, files.b!],
      [a, files.a!],
    ] as const) {
      await WITHDRAWALS[what]!(own);
      await node.reloadCredentials();
    }
    await until('it streams', () => reason().startsWith('streams'), 10_000);
    await a.space('s').append(1, Buffer.from('y'), { ack: { replicas: 1 } });
    const written = (await contentOf(b.space('s'))).filter((entry) => entry.split(' ')[2] === '1');
    expect(written).toHaveLength(2);
  });
});

describe('a key is taken away while a handshake by it is under way', () => {
  const NONCE = Buffer.alloc(32, 7);
  const by = (listener: string): Parties => ({ clusterId: 'test', dialler: 'a', listener });

  async function keyFile(nodeId: string): Promise<string> {
    const file = path.join(life.folder, `key-${nodeId}`);
    fs.writeFileSync(file, `${OLD}\n${NEW}\n`, { mode: 0o600 });
    return file;
  }

  /** Has heard the welcome, and proved nothing yet. */
  async function greeted(to: Node, features: number): Promise<[WireClient, Buffer]> {
    const client = new WireClient(to.address!.port);
    life.finally(() => client.socket.destroy());
    const hello = { minVersion: 1, maxVersion: 2, nodeId: 'a', auth: NONCE, features };
    const { auth } = await client.hello('b', hello);
    const dialler = new DiallerAuth([Buffer.from(OLD)], by('b'), NONCE);
    return [client, Buffer.from(dialler.welcomed(auth, 2)!)];
  }

  test.each([
    ['a link', 0],
    ['a peer call', FEATURE_PEER_CALL],
  ])('%s that comes is not let in; one that was is ended', async (_, features) => {
    const file = await keyFile('b');
    const b = await life.start('b', { listen: LISTEN, keyFile: file });
    const [inside, itsProof] = await greeted(b, features);
    const asks = (client: WireClient): void => {
      if (features !== 0) client.send({ kind: 'standing-ask', ids: [] });
      else client.send({ kind: 'ask', id: '00112233445566778899aabbccddeeff', name: 'x' });
    };
    inside.send({ kind: 'proof', proof: itsProof });
    asks(inside);
    await inside.next(features === 0 ? 'answer' : 'peer-done');
    const [late, proof] = await greeted(b, features);
    fs.writeFileSync(file, `${NEW}\n`);
    await b.reloadCredentials();
    late.send({ kind: 'proof', proof });
    asks(late);
    await Promise.all([inside.closed, late.closed]);
    expect(late.frames.filter(({ kind }) => kind !== 'bye')).toEqual([]);
  });

  test('who is dialled, for a link or a peer call, is told nothing', async () => {
    const file = await keyFile('a');
    const waiting = new Map<'link' | 'call', () => void>();
    const ended = new Map<'link' | 'call', string[]>();
    // Proves itself by the old key once that is gone at the other end.
    const server = net.createServer((socket) => {
      const client = new WireClient(socket);
      life.finally(() => socket.destroy());
      void (async () => {
        const { hello } = await client.next('hello');
        const auth = new ListenerAuth([Buffer.from(OLD)], NONCE);
        const { minVersion, maxVersion, clusterId, features } = hello;
        const versions = { minVersion, maxVersion, version: 2 };
        const said = auth.hello(hello.auth, by('b'), versions);
        const how = (features & FEATURE_PEER_CALL) === 0 ? 'link' : 'call';
        if (waiting.has(how)) return;
        await new Promise<void>((resolve) => waiting.set(how, resolve));
        const caps = { maxFrameBytes: hello.maxFrameBytes, maxEntryBytes: hello.maxEntryBytes };
        const who = { version: 2, clusterId, nodeId: 'b', incarnation: 1n, features };
        client.send({ kind: 'welcome', welcome: { ...who, ...caps, auth: said } });
        await client.closed;
        ended.set(
          how,
          client.frames.map(({ kind }) => kind).filter((kind) => kind !== 'bye'),
        );
      })().catch(() => undefined);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    life.finally(() => server.close());
    const { port } = server.address() as net.AddressInfo;
    const replicas = [{ nodeId: 'b', host: '127.0.0.1', port }];
    const a = await life.start('a', { keyFile: file, replicas, http: LISTEN });
    // How all members are.
    const asked = fetch(`http://127.0.0.1:${a.httpAddress!.port}/cluster`);
    await until('it is dialled for both', () => waiting.size === 2);
    fs.writeFileSync(file, `${NEW}\n`);
    await a.reloadCredentials();
    for (const go of waiting.values()) go();
    await until('both have ended', () => ended.size === 2);
    await (await asked).text();
    expect(Object.fromEntries(ended)).toEqual({ link: [], call: [] });
  });
});

test('what is added, put first or made anew by the same authority ends no link', async () => {
  const [ofA, ofB] = [await filesOf('a'), await filesOf('b')];
  const b = await life.start('b', { listen: LISTEN, ...ofB });
  const replicas = [{ nodeId: 'b', ...b.address! }];
  const a = await life.start('a', { replicas, ...ofA });
  const space = await a.openSpace('s');
  await space.append(1, Buffer.from('x'), { ack: { replicas: 1 } });
  const changes = [...[a, b].map((node) => heard(node, 'credentials'))];
  const lost = [heard(a, 'replica-state'), heard(b, 'primary-connection')];
  for (const [node, { keyFile, tls }] of [
    [a, ofA],
    [b, ofB],
  ] as const) {
    fs.writeFileSync(keyFile as string, `${NEW}\n${OLD}\n`);
    fs.writeFileSync(tls.caFile, `${next.ca}${ours.ca}`);
    const made = await ours.tlsOf(node.nodeId);
    for (const part of ['certFile', 'keyFile'] as const) fs.copyFileSync(made[part], tls[part]);
    await node.reloadCredentials();
  }
  await space.append(1, Buffer.from('y'), { ack: { replicas: 1 } });
  expect(changes.map(([news]) => news?.change)).toEqual(['reloaded', 'reloaded']);
  expect(lost.flat()).toEqual([]);
});

test('a chain counts as far as each of it has made the one before', async () => {
  const der = (pem: string): Uint8Array => new X509Certificate(pem).raw;
  const read = async (authority: Authority): Promise<Uint8Array> =>
    der(fs.readFileSync((await authority.tlsOf('a')).certFile, 'utf8'));
  const [leaf, newLeaf] = [await read(ours), await read(next)];
  const isTaken = (chain: Uint8Array[], ca: string, by = ''): boolean => {
    const proven = { names: [], channel: new Uint8Array(32), ca: by, chain: () => chain };
    const tls = { ca, cert: '', key: '', names: {} };
    return isStillProved({ proven, key: undefined }, { keys: [], tls });
  };
  expect(isTaken([leaf], ours.ca)).toBe(true);
  expect(isTaken([leaf, der(ours.ca)], ours.ca)).toBe(true);
  expect(isTaken([leaf], `${next.ca}${ours.ca}`)).toBe(true);
  // Both authorities have one name; only one has made it.
  expect(isTaken([leaf], next.ca)).toBe(false);
  expect(isTaken([leaf, der(ours.ca)], next.ca)).toBe(false);
  // What anybody may send along vouches for nobody.
  expect(isTaken([leaf, der(next.ca)], next.ca)).toBe(false);
  expect(isTaken([leaf, newLeaf], next.ca)).toBe(false);
  expect(isTaken([], ours.ca)).toBe(false);
  // Whom these very authorities have let in needs no second look.
  expect(isTaken([], ours.ca, ours.ca)).toBe(true);
});
