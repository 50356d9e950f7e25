/** Callbacks of a host that do not return: they hold no end of a node up (FAULTS row 112). */
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type {
  EngramError,
  Entry,
  HostSnapshot,
  Node,
  NodeOptions,
  ReceivedSnapshot,
} from '#src/main/index.js';
import { at, makeFolder, openSmall, removeFolder, until } from '../../support/cluster.js';
import { freePort } from '../../support/etcd.js';

const LISTEN = { host: '127.0.0.1', port: 0 };
const BOUND_MS = 15_000;

let folder: string;
let nodes: Node[];

beforeEach(() => {
  folder = makeFolder();
  nodes = [];
});

afterEach(async () => {
  for (const node of nodes) await node.close();
  removeFolder(folder);
});

async function open(nodeId: string, more: Partial<NodeOptions> = {}): Promise<Node> {
  const node = await openSmall(path.join(folder, nodeId), nodeId, more);
  nodes.push(node);
  return node;
}

const code = (error: unknown): string => (error as EngramError).code ?? `bare ${String(error)}`;
const never = (): Promise<never> => new Promise(() => undefined);

async function closing(node: Node): Promise<string> {
  nodes = nodes.filter((other) => other !== node);
  const late = new Promise<string>((resolve) => setTimeout(resolve, BOUND_MS, 'hangs').unref());
  return await Promise.race([node.close().then(() => 'closed'), late]);
}

/** Opens the replica, appends an entry to it, waits until `called` says so. */
async function withEntry(callbacks: Partial<NodeOptions>, called: () => boolean): Promise<Node> {
  const replica = await open('b', { listen: LISTEN, ...callbacks });
  const primary = await open('a', { replicas: [{ nodeId: 'b', ...replica.address! }] });
  const space = await primary.openSpace('s');
  await space.append(1, Buffer.from('x'));
  await until('the host is called', called);
  return replica;
}

async function appliedAgain(): Promise<number[]> {
  const applied: number[] = [];
  const apply = (entries: Entry[]): void => void applied.push(...entries.map((e) => e.sequence));
  await open('b', { listen: LISTEN, apply });
  await until('applied again', () => applied.length > 0);
  return applied;
}

test.each([
  'apply',
  'appliedUpTo',
])('FAULT-112 %s never returns: close does, and the entry comes again', async (name) => {
  let isCalled = false;
  const silent = (): Promise<never> => {
    isCalled = true;
    return never();
  };
  const callbacks = { apply: () => undefined, [name]: silent };
  const replica = await withEntry(callbacks, () => isCalled);
  const here = (): boolean => replica.spaces[0]?.status().lastSequence === 1;
  await until('the entry is here', here);
  const told: string[] = [];
  replica.on('apply-failed', ({ error }) => told.push(code(error)));
  expect(await closing(replica)).toBe('closed');
  await until('it is told', () => told.length > 0);
  expect(told).toEqual(['Closed']);
  expect(await appliedAgain()).toEqual([1]);
}, 40_000);

test('FAULT-112 apply that waits for the end of its own node', async () => {
  const outcomes: string[] = [];
  const apply = async (): Promise<void> => {
    const own = nodes[0]!;
    outcomes.push('called');
    outcomes.push(await own.close().then(() => 'closed', code));
  };
  const replica = await withEntry({ apply }, () => outcomes.length > 0);
  expect(await closing(replica)).toBe('closed');
  await until('close has told apply', () => outcomes.length === 2);
  expect(outcomes).toEqual(['called', 'closed']);
  expect(await appliedAgain()).toEqual([1]);
}, 40_000);

test('FAULT-112 a promotion that waits for apply ends with its node', async () => {
  let isCalled = false;
  const apply = (): Promise<never> => {
    isCalled = true;
    return never();
  };
  const replica = await withEntry({ apply }, () => isCalled);
  const promoted = replica.promote('s', { force: true }).then(() => 'promoted', code);
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(await closing(replica)).toBe('closed');
  expect(await promoted).toBe('Closed');
  const again = await open('b', { listen: LISTEN });
  expect(again.space('s').status()).toMatchObject({ role: 'replica', epoch: 1 });
}, 40_000);

const HOST_TIMEOUT_MS = 400;

/** What an unforced and then a forced promotion of `s` come to, and how long each took. */
async function promotions(node: Node): Promise<{ codes: string[]; texts: string[]; ms: number }> {
  const codes: string[] = [];
  const texts: string[] = [];
  const beganMs = performance.now();
  for (const force of [false, true]) {
    await node.promote('s', { force }).then(
      ({ applyBlocked }) => codes.push(`promoted ${JSON.stringify(applyBlocked ?? null)}`),
      (error) => {
        codes.push(code(error));
        texts.push((error as Error).message);
      },
    );
  }
  return { codes, texts, ms: performance.now() - beganMs };
}

test.each([
  ['apply', 1],
  ['appliedUpTo', 0],
] as const)(
  'FAULT-112 %s never returns: told, refused, and force leads',
  async (name, sequence) => {
    let isCalled = false;
    const silent = (): Promise<never> => {
      isCalled = true;
      return never();
    };
    const callbacks = { apply: () => undefined, hostTimeoutMs: HOST_TIMEOUT_MS, [name]: silent };
    const replica = await withEntry(callbacks, () => isCalled);
    const told: unknown[] = [];
    replica.on('apply-blocked', (event) => told.push(event));
    await until('the entry is here', () => replica.spaces[0]?.status().durableSequence >= 1);
    const { codes, texts, ms } = await promotions(replica);
    const block = { sequence, reason: 'silent', callback: name };
    expect(codes).toEqual(['PromotionRefused', `promoted ${JSON.stringify(block)}`]);
    expect(texts[0]).toContain(`the host's ${name}() has not returned for ${HOST_TIMEOUT_MS} ms`);
    expect(ms).toBeLessThan(BOUND_MS);
    expect(told).toEqual([{ space: 's', ...block, error: undefined }]);
    const space = replica.space('s');
    expect(space.status()).toMatchObject({ role: 'primary', epoch: 2, applyBlocked: block });
    await space.append(1, Buffer.from('y'));
    expect(await closing(replica)).toBe('closed');
  },
  40_000,
);

test('FAULT-112 a callback that returns late is told as well, and then all goes on', async () => {
  let back: () => void = () => undefined;
  const late = new Promise<void>((resolve) => (back = resolve));
  let calls = 0;
  const apply = async (): Promise<void> => {
    if (++calls === 1) await late;
  };
  const replica = await withEntry({ apply, hostTimeoutMs: 200 }, () => calls > 0);
  const told: string[] = [];
  replica.on('apply-blocked', ({ reason }) => told.push(reason));
  replica.on('apply-resumed', ({ sequence }) => told.push(`resumed ${sequence}`));
  await until('it is told', () => told.length > 0);
  expect(replica.space('s').status().applyBlocked).toMatchObject({ callback: 'apply' });
  back();
  const { applyBlocked } = await replica.promote('s');
  expect(applyBlocked).toBeUndefined();
  await until('that too', () => told.length > 1);
  expect(told).toEqual(['silent', 'resumed 1']);
  expect(replica.space('s').status().applyBlocked).toBeUndefined();
}, 40_000);

test.each([
  'at once',
  'later',
])('FAULT-112 promote that is awaited inside apply does not wait for itself (%s)', async (when) => {
  const outcomes: string[] = [];
  let own: Node | undefined;
  const apply = async (): Promise<void> => {
    if (when === 'later') await new Promise((resolve) => setTimeout(resolve, 5));
    outcomes.push(await own!.promote('s').then(() => 'promoted', code));
  };
  // What is asked in the same turn does not wait for as long as a host may be silent.
  const hostTimeoutMs = when === 'at once' ? 2 * BOUND_MS : HOST_TIMEOUT_MS;
  own = await open('b', { listen: LISTEN, apply, hostTimeoutMs });
  const primary = await open('a', { replicas: [{ nodeId: 'b', ...own.address! }] });
  await (await primary.openSpace('s')).append(1, Buffer.from('x'));
  await until('it has an answer', () => outcomes.length > 0, BOUND_MS);
  expect(outcomes).toEqual(['PromotionRefused']);
  // Once apply has returned there is nothing in the way.
  await until('it is applied', () => own.space('s').status().appliedSequence >= 1);
  expect((await own.promote('s')).isPromoted).toBe(true);
}, 40_000);

test('FAULT-112 with force a promotion inside apply leads at once', async () => {
  const outcomes: string[] = [];
  let own: Node | undefined;
  const apply = async (): Promise<void> => {
    outcomes.push(await own!.promote('s', { force: true }).then(() => 'promoted', code));
  };
  own = await open('b', { listen: LISTEN, apply, hostTimeoutMs: HOST_TIMEOUT_MS });
  const primary = await open('a', { replicas: [{ nodeId: 'b', ...own.address! }] });
  await (await primary.openSpace('s')).append(1, Buffer.from('x'));
  await until('it has an answer', () => outcomes.length > 0, BOUND_MS);
  expect(outcomes).toEqual(['promoted']);
  expect(own.space('s').status().role).toBe('primary');
}, 40_000);

test('FAULT-112 restore that never returns is told, and holds no end of the node up', async () => {
  let isGiven = false;
  const restore = async (_: string, { chunks }: ReceivedSnapshot): Promise<void> => {
    for await (const chunk of chunks) isGiven ||= chunk.length > 0;
    await never();
  };
  const state = Buffer.alloc(40_000, 7);
  const snapshot = (): HostSnapshot => ({ sequence: 60, chunks: [state] });
  const replicas = [at('b', await freePort())];
  const sizes = { segmentBytes: 128 * 1024, maxSlotBytes: 1 };
  const primary = await open('a', { replicas, snapshot, ...sizes, openConfirmMs: 50 });
  const space = await primary.openSpace('s');
  for (let n = 0; n < 60; n++) await space.append(1, Buffer.alloc(10_000));
  await until('what it lacks is freed', () => {
    void space.checkpoint(space.status().durableSequence + 1);
    return space.status().firstSequence > 1;
  });
  const listen = { host: '127.0.0.1', port: replicas[0]!.port };
  const host = { apply: () => undefined, hostTimeoutMs: HOST_TIMEOUT_MS };
  const replica = await open('b', { listen, restore, ...host });
  const told: string[] = [];
  replica.on('snapshot-failed', ({ code: why, reason }) => told.push(`${why}: ${reason}`));
  await until('it is given the snapshot', () => isGiven);
  await until('it is told', () => told.length > 0);
  expect(told[0]).toContain("SnapshotFailed: the host's restore() has not come further for 400 ms");
  // It has half of a state: nobody leads with that.
  const promoted = replica.promote('s', { force: true }).then(() => 'promoted', code);
  expect(await promoted).toBe('PromotionRefused');
  expect(await closing(replica)).toBe('closed');
  await until('it is told', () => told.some((line) => line.startsWith('Closed')));
  // Given again, by the next life.
  let sequence = 0;
  await open('b', {
    listen,
    ...host,
    restore: async (_, given) => {
      for await (const chunk of given.chunks) sequence = chunk.length && given.sequence;
    },
  });
  await until('it is restored', () => sequence === 60);
}, 60_000);
