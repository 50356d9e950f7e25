/** Keys and authorities that are taken away: links that were made by them end, all others go on. */
import { X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Node, NodeOptions } from '#src/main/index.js';
import { isStillProved } from '#src/shared/wire/tls/certificates.js';
import { Authority } from '../../support/certificates.js';
import { contentOf, EachTest, heard, until } from '../../support/cluster.js';

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
    expect(await contentOf(b.space('s'))).toHaveLength(2);
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
  const isTaken = (chain: Uint8Array[], ca: string): boolean => {
    const proven = { names: [], channel: new Uint8Array(32), chain };
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
});
