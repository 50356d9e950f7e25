/** Nodes with a pre-shared key: who has it comes in, nobody else does. */
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { EngramError, Node, NodeEvents, NodeOptions } from '#src/main/index.js';
import { nodePlatform } from '#src/main/node/machine.js';
import { PeerClient } from '#src/main/peer/client.js';
import { DiallerAuth, ListenerAuth } from '#src/shared/wire/auth.js';
import { makeFolder, openSmall, removeFolder, until } from '../../support/cluster.js';
import { PRIMARY, WireClient } from '../../support/wire-client.js';

const TIMES = { readTimeoutMs: 10_000, keepAliveMs: 10_000 };

const LISTEN = { host: '127.0.0.1', port: 0 };
const KEY = 'a key of sixteen bytes, and more';
const PARTIES = { clusterId: 'test', dialler: PRIMARY, listener: 'b' };
const NONCE = Buffer.alloc(32, 7);
const VERSIONS = { minVersion: 1, maxVersion: 2 };

let folder: string;
const nodes: Node[] = [];

beforeEach(() => {
  folder = makeFolder();
});

afterEach(async () => {
  await Promise.all(nodes.splice(0).map((node) => node.close()));
  removeFolder(folder);
});

async function open(nodeId: string, more: Partial<NodeOptions>): Promise<Node> {
  const node = await openSmall(path.join(folder, nodeId), nodeId, more);
  nodes.push(node);
  return node;
}

async function pair(ofA: string | undefined, ofB: string | undefined): Promise<[Node, Node]> {
  const b = await open('b', { listen: LISTEN, ...(ofB && { key: ofB }) });
  const replicas = [{ nodeId: 'b', ...b.address! }];
  return [await open('a', { replicas, ...(ofA && { key: ofA }) }), b];
}

describe('a key', () => {
  test('on both ends: entries come over, questions are answered', async () => {
    const [a, b] = await pair(KEY, KEY);
    const space = await a.openSpace('s');
    await space.append(1, Buffer.from('x'), { ack: { replicas: 1 } });
    const own = { clusterId: 'test', incarnation: 1n, directoryId: 'c'.repeat(32) };
    const caps = { maxEntryBytes: 1_024, maxFrameBytes: 1_048_576, ...TIMES };
    const ask = async (key: string | undefined, nodeId = 'a'): Promise<string> => {
      const client = new PeerClient(nodePlatform, {
        ...{ ...own, nodeId },
        ...caps,
        credentials: { now: { keys: key === undefined ? [] : [Buffer.from(key)], tls: undefined } },
      });
      const question = { kind: 'standing-ask', ids: [space.status().id] } as const;
      const member = { nodeId: 'b', ...b.address! };
      return await client.ask(member, question, ['standing'], 5_000).then(
        ([answer]) => `at ${answer!.rows[0]!.flushed}`,
        (error: EngramError) => error.code,
      );
    };
    expect(await ask(KEY)).toBe('at 1');
    expect(await ask(KEY, 'c')).toBe('NotMember');
    expect(await ask(`${KEY}!`)).toBe('AuthFailed');
    expect(await ask(undefined)).toBe('AuthFailed');
  });

  test.each([
    ['another one', KEY, `${KEY}!`],
    ['none on the replica', KEY, undefined],
    ['none on the primary', undefined, KEY],
  ])('%s: nothing comes over, and both say why', async (_, ofA, ofB) => {
    const b = await open('b', { listen: LISTEN, ...(ofB && { key: ofB }) });
    const replicas = [{ nodeId: 'b', ...b.address! }];
    const a = await open('a', { replicas, ...(ofA && { key: ofA }) });
    const states: NodeEvents['replica-state'][] = [];
    a.on('replica-state', (e) => states.push(e));
    const space = await a.openSpace('s');
    await space.append(1, Buffer.from('x'));
    const reason = (): string => a.status().replicas[0]!.reason;
    await until('it is refused', () => reason().includes('AuthFailed') || reason().includes('key'));
    expect(reason()).not.toContain(KEY.slice(0, 8));
    expect(a.status().replicas[0]!.state).toBe('failed');
    expect(b.status().spaces).toEqual([]);
  });

  test('a stranger learns nothing: no frame but a proof, no proof twice', async () => {
    const b = await open('b', { listen: LISTEN, key: KEY });
    // No proof but a question, and no way to be anybody meanwhile.
    const hasty = new WireClient(b.address!.port);
    const first = (await hasty.hello('b', { ...VERSIONS, auth: NONCE })).auth!;
    hasty.send({ kind: 'ask', id: '00112233445566778899aabbccddeeff', name: 'x' });
    expect((await hasty.next('bye')).code).toBe('ProtocolViolation');

    // What another connection has proved is worth nothing on this one.
    const dialler = new DiallerAuth([Buffer.from(KEY)], PARTIES, NONCE);
    const proof = dialler.welcomed(first, 2)!;
    const replayed = new WireClient(b.address!.port);
    expect((await replayed.hello('b', { ...VERSIONS, auth: NONCE })).auth).not.toEqual(first);
    replayed.send({ kind: 'proof', proof });
    expect(await replayed.next('bye')).toMatchObject({ code: 'AuthFailed', fatal: true });

    // The right proof comes in.
    const right = new WireClient(b.address!.port);
    const { auth } = await right.hello('b', { ...VERSIONS, auth: NONCE });
    right.send({ kind: 'proof', proof: dialler.welcomed(auth, 2)! });
    right.send({ kind: 'ask', id: '00112233445566778899aabbccddeeff', name: 'x' });
    expect((await right.next('answer')).known).toBe(false);
    for (const client of [hasty, replayed, right]) client.socket.destroy();
  });

  test('a proof is bound to its side, both nodes, the cluster and both nonces', () => {
    const key = Buffer.from(KEY);
    const other = Buffer.alloc(32, 8);
    const listener = new ListenerAuth([key], other);
    const welcome = listener.hello(NONCE, PARTIES, { ...VERSIONS, version: 2 })!;
    expect(() => new DiallerAuth([key], PARTIES, NONCE).welcomed(welcome, 2)).not.toThrow();
    const wrong = [
      { ...PARTIES, clusterId: 'tes' },
      { ...PARTIES, dialler: 'c' },
      { ...PARTIES, listener: 'c' },
      // The same letters, divided otherwise.
      { ...PARTIES, dialler: `${PRIMARY}b`, listener: '' },
    ];
    for (const parties of wrong) {
      expect(() => new DiallerAuth([key], parties, NONCE).welcomed(welcome, 2)).toThrow(
        'AuthFailed',
      );
    }
    expect(() => new DiallerAuth([key], PARTIES, other).welcomed(welcome, 2)).toThrow('AuthFailed');
    // What the listener has said is no proof of the dialler.
    expect(() => listener.proved(welcome.subarray(32))).toThrow('AuthFailed');
    // And after a wrong one the right one comes too late.
    const proof = new DiallerAuth([key], PARTIES, NONCE).welcomed(welcome, 2)!;
    expect(() => listener.proved(proof)).toThrow('AuthFailed');
  });

  test('FAULT-46: a proof is bound to the versions that were offered, and to the channel', () => {
    const [key, other] = [Buffer.from(KEY), Buffer.alloc(32, 8)];
    const channel = Buffer.alloc(32, 1);
    /** What the dialler thinks of a listener that was offered this, on such a channel. */
    const met = (
      offered: { minVersion: number; maxVersion: number; version: number },
      at = channel,
    ) => {
      const listener = new ListenerAuth([key], other, at);
      const welcome = listener.hello(NONCE, PARTIES, offered)!;
      const dialler = new DiallerAuth([key], PARTIES, NONCE, channel);
      return () => listener.proved(dialler.welcomed(welcome, offered.version)!);
    };
    expect(met({ ...VERSIONS, version: 2 })).not.toThrow();
    expect(met({ minVersion: 1, maxVersion: 3, version: 2 })).toThrow('another key');
    expect(met({ minVersion: 2, maxVersion: 2, version: 2 })).toThrow('another key');
    expect(met({ ...VERSIONS, version: 2 }, Buffer.alloc(32, 2))).toThrow('another key');
    expect(met({ ...VERSIONS, version: 2 }, Buffer.alloc(0))).toThrow('another key');
    // Whoever sits between has taken version 2 out of the hello.
    const lowered = met({ minVersion: 1, maxVersion: 1, version: 1 });
    expect(lowered).toThrow('the versions that b was offered were changed on the way');
  });

  test('of two keys the first proves, and each is accepted, at both ends', () => {
    const [first, second, third] = [1, 2, 3].map((n) => Buffer.alloc(16, n));
    const talk = (dialling: Buffer[], listening: Buffer[]) => (): void => {
      const listener = new ListenerAuth(listening, Buffer.alloc(32, 8));
      const welcome = listener.hello(NONCE, PARTIES, { ...VERSIONS, version: 2 })!;
      listener.proved(new DiallerAuth(dialling, PARTIES, NONCE).welcomed(welcome, 2)!);
    };
    for (const [one, another] of [
      [[first!], [first!, second!]],
      [
        [first!, second!],
        [second!, first!],
      ],
      [[second!], [second!, first!]],
    ] as const) {
      expect(talk([...one], [...another])).not.toThrow();
      expect(talk([...another], [...one])).not.toThrow();
    }
    // One that skips a step.
    expect(talk([first!], [second!, first!])).toThrow('b has another key');
    expect(talk([second!, first!], [first!])).toThrow(`${PRIMARY} has another key`);
    expect(talk([third!], [first!, second!])).toThrow('another key');
  });

  test('beyond loopback only with one, and not a short one', async () => {
    const code = (error: EngramError): string => error.message.split('\n', 1)[0]!;
    const far = { listen: { host: '0.0.0.0', port: 0 } };
    expect(await open('x', far).catch(code)).toContain('loopback hosts only');
    const replicas = [{ nodeId: 'b', host: '192.0.2.1', port: 7 }];
    expect(await open('x', { replicas }).catch(code)).toContain('loopback hosts only');
    expect(await open('x', { key: 'short' }).catch(code)).toContain('at least 16 bytes');
    for (const key of [[], [KEY, KEY], [KEY, `${KEY}1`, `${KEY}2`], [KEY, 'short'], [KEY, 7]]) {
      const refused = await open('x', { key: key as string[] }).catch(code);
      expect(refused).toContain('or an array of one or two different ones');
      expect(refused).not.toContain(KEY);
    }
    const both = { key: KEY, keyFile: path.join(folder, 'none') };
    expect(await open('x', both).catch(code)).toContain('key and keyFile are both given');
    const a = await open('a', {});
    const added = await a.addReplica(replicas[0]!).catch(code);
    expect(added).toContain('loopback hosts only');
    // Any address of this machine will do, where there is one that is not loopback.
    const host = Object.values(os.networkInterfaces())
      .flat()
      .find((i) => i && !i.internal && i.family === 'IPv4')?.address;
    if (host === undefined) return;
    const b = await open('b', { listen: { host, port: 0 }, key: KEY });
    const c = await open('c', { replicas: [{ nodeId: 'b', ...b.address! }], key: KEY });
    const space = await c.openSpace('s');
    await space.append(1, Buffer.from('x'), { ack: { replicas: 1 } });
  });
});
