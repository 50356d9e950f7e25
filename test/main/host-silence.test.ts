/** Callbacks of a host that do not return: they hold no end of a node up (FAULTS row 112). */
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { EngramError, Entry, Node, NodeOptions } from '#src/main/index.js';
import { makeFolder, openSmall, removeFolder, until } from '../support/cluster.js';

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
