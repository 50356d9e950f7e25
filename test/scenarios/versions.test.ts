/** Two versions of the protocol: each node speaks the highest that both know. */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { FRAME_HEADER_BYTES } from '#src/shared/limits.js';
import { CHANCE_BYTES, DiallerAuth, nonceOf } from '#src/shared/wire/auth.js';
import { directoryOf } from '#src/shared/wire/greeting.js';
import { decodeFrame, encodeFrame, type Hello, type Welcome } from '#src/shared/wire/protocol.js';
import { at, contentOf, EachTest, heard, until } from '../support/cluster.js';
import { batchFrame, PRIMARY, WireClient } from '../support/wire-client.js';
import { WireReplica } from '../support/wire-replica.js';

const LISTEN = { host: '127.0.0.1', port: 0 };
const DIRECTORY = '00112233445566778899aabbccddeeff';
const AUTH = Buffer.from(DIRECTORY, 'hex');
const life = new EachTest();

const GOLDEN = JSON.parse(
  fs.readFileSync(path.join(import.meta.dirname, '../golden/wire/greetings.json'), 'utf8'),
) as Record<string, string>;

const HELLO: Hello = {
  minVersion: 1,
  maxVersion: 2,
  clusterId: 'demo',
  nodeId: 'a',
  peerId: 'b',
  incarnation: 0x0102030405060708n,
  features: 0,
  maxFrameBytes: 2_101_248,
  maxEntryBytes: 1_048_576,
};
const { minVersion: _, maxVersion: __, peerId: ___, ...WHO } = HELLO;
const KEY = Buffer.from('a key that is long enough');
const PARTIES = { clusterId: 'demo', dialler: 'a', listener: 'b' };
const NONCE = nonceOf(DIRECTORY, Buffer.alloc(CHANCE_BYTES, 5));

/** What either end says first, with its directory, in both versions, with and without a key. */
const GREETINGS: Record<string, { hello: Hello } | { welcome: Welcome }> = {
  'hello, version 1': { hello: { ...HELLO, maxVersion: 1 } },
  'hello, version 2': {
    hello: { ...HELLO, auth: new DiallerAuth([], PARTIES, NONCE).hello },
  },
  'hello, version 2, key': {
    hello: { ...HELLO, auth: new DiallerAuth([KEY], PARTIES, NONCE).hello },
  },
  'welcome, version 1': { welcome: { ...WHO, nodeId: 'b', version: 1 } },
  'welcome, version 2': { welcome: { ...WHO, nodeId: 'b', version: 2, auth: AUTH } },
};

describe('greetings', () => {
  test.each(Object.keys(GREETINGS))('%s: golden bytes, and back', (name) => {
    const said = GREETINGS[name]!;
    const kind = 'hello' in said ? 'hello' : 'welcome';
    const bytes = encodeFrame({ kind, ...said } as never);
    expect(Buffer.from(bytes).toString('hex')).toBe(GOLDEN[name]);
    const back = decodeFrame(bytes[4]!, bytes.subarray(FRAME_HEADER_BYTES)) as never as typeof said;
    const [version, auth] =
      'hello' in back
        ? [back.hello.maxVersion, back.hello.auth]
        : [back.welcome.version, back.welcome.auth];
    expect(directoryOf(version, auth)).toBe(name.includes('version 2') ? DIRECTORY : undefined);
  });

  test('no golden greeting is left unread', () => {
    expect(Object.keys(GOLDEN)).toEqual(Object.keys(GREETINGS));
  });
});

describe('a node of version 2', () => {
  test('serves a primary of version 1: no directory, no checkpoint, its entries', async () => {
    const b = await life.start('b', { listen: LISTEN, follow: 'checkpoint' });
    const told = heard(b, 'primary-connection');
    const client = new WireClient(b.address!.port);
    life.finally(() => client.socket.destroy());
    const welcome = await client.hello('b');
    expect(welcome).toMatchObject({ version: 1, auth: undefined });
    await client.follow('s');
    client.socket.write(batchFrame('s', 1, 3));
    await client.next('acks');
    expect(await contentOf(b.space('s'))).toHaveLength(3);
    expect(told).toMatchObject([{ primaryId: PRIMARY, connected: true, directoryId: undefined }]);
    expect(b.status().primaries).toMatchObject([{ version: 1, directoryId: undefined }]);
    expect(b.space('s').status().keeps).toMatchObject({ by: 'nobody' });
    // It has no such frame: whoever sends it speaks otherwise than was agreed on.
    client.send({ kind: 'checkpoints', rows: [{ handle: 1, sequence: 2 }] });
    expect(await client.next('bye')).toMatchObject({ code: 'ProtocolViolation' });
  });

  test('ships to a replica of version 1, and tells it no checkpoint', async () => {
    const replica = new WireReplica('b');
    await replica.listen();
    life.finally(() => replica.close());
    const a = await life.start('a', { replicas: [at('b', replica.port)] });
    const space = await a.openSpace('s');
    for (let n = 1; n <= 3; n++) await space.append(1, Buffer.from(`${n}`));
    await until('they have come', () => replica.last === 3);
    replica.ack(3);
    await space.checkpoint(3);
    await until('a heartbeat, and another one', () => {
      return replica.frames.filter((f) => f.kind === 'heartbeat').length > 1;
    });
    expect(replica.frames.filter((f) => f.kind === 'checkpoints')).toEqual([]);
    const [hello] = replica.frames;
    expect(hello).toMatchObject({ kind: 'hello', hello: { minVersion: 1, maxVersion: 2 } });
    const [link] = a.status().replicas;
    expect(link).toMatchObject({ state: 'streaming', version: 1, directoryId: undefined });
  });

  test('both ends of version 2 know the other directory, with a key and without', async () => {
    for (const key of [undefined, 'a key that is long enough']) {
      const more = key === undefined ? {} : { key };
      const b = await life.start(`b${more.key ?? ''}`, { listen: LISTEN, ...more });
      const told = heard(b, 'primary-connection');
      const replicas = [at(b.nodeId, b.address!.port)];
      const a = await life.start(`a${more.key ?? ''}`, { replicas, ...more });
      const space = await a.openSpace('s');
      await space.append(1, Buffer.from('x'), { ack: { replicas: 1 } });
      const { directoryId } = a.status();
      expect(directoryId).toMatch(/^[0-9a-f]{32}$/);
      expect(told).toMatchObject([{ connected: true, directoryId }]);
      expect(b.status().primaries).toMatchObject([{ version: 2, directoryId }]);
      const theirs = b.status().directoryId;
      expect(theirs).not.toBe(directoryId);
      expect(a.status().replicas).toMatchObject([{ version: 2, directoryId: theirs }]);
    }
  });

  test('with one of the future it speaks 2; no common version is told', async () => {
    const b = await life.start('b', { listen: LISTEN });
    const dial = (): WireClient => {
      const client = new WireClient(b.address!.port);
      life.finally(() => client.socket.destroy());
      return client;
    };
    const future = await dial().hello('b', { minVersion: 1, maxVersion: 7, auth: AUTH });
    expect(future.version).toBe(2);
    expect(directoryOf(2, future.auth)).toBe(b.status().directoryId);
    for (const [change, code] of [
      [{ minVersion: 3, maxVersion: 7, auth: AUTH }, 'UnsupportedVersion'],
      [{ minVersion: 0, maxVersion: 0 }, 'UnsupportedVersion'],
      [{ maxVersion: 2 }, 'ProtocolViolation'],
      [{ maxVersion: 2, auth: AUTH.subarray(1) }, 'ProtocolViolation'],
    ] as const) {
      const client = dial();
      await expect(client.hello('b', { nodeId: 'other', ...change })).rejects.toThrow(/closed/);
      expect(client.frames).toMatchObject([{ kind: 'bye', code }]);
    }
  });
});
