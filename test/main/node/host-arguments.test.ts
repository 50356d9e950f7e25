/** Arguments of calls, of every odd kind: refused by name, and nothing has happened (row 82). */
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { EngramError, Node } from '#src/main/index.js';
import { makeFolder, openSmall, removeFolder } from '../../support/cluster.js';

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

async function open(nodeId: string): Promise<Node> {
  const node = await openSmall(path.join(folder, nodeId), nodeId);
  nodes.push(node);
  return node;
}

const code = (error: unknown): string => (error as EngramError).code ?? `bare ${String(error)}`;

describe('FAULT-82 arguments of calls that change who leads, or where', () => {
  const odd = Symbol('odd');
  test.each<[string, (node: Node) => Promise<unknown>]>([
    ['openSpace: lead is "no"', (n) => n.openSpace('new', { lead: 'no' as never })],
    ['openSpace: replicas is 1', (n) => n.openSpace('new', { replicas: 1 as never })],
    ['openSpace: replicas is an array', (n) => n.openSpace('new', { replicas: [odd] as never })],
    ['promote: force is "false"', (n) => n.promote('s', { force: 'false' as never })],
    ['promote: dryRun is 1', (n) => n.promote('s', { dryRun: 1 as never })],
    ['promote: dryRun is null', (n) => n.promote('s', { dryRun: null as never })],
    ['switchover was given is Symbol(odd)', (n) => n.switchover('s', odd as never)],
    ['append: space is Symbol(odd)', (n) => n.append(odd as never, 1000, new Uint8Array(1))],
    ['append: space is 5', (n) => n.append(5 as never, 1000, new Uint8Array(1))],
    [
      'tryAppend takes no options',
      async (n) => n.space('s').tryAppend(1000, new Uint8Array(1), { expected: 0 } as never),
    ],
    ['removeReplica was given is Symbol(odd)', (n) => n.removeReplica(odd as never)],
    ['removeReplica was given is an object', (n) => n.removeReplica({ toString: null } as never)],
    [
      'a list of 4294967295',
      (n) => n.addReplica(Object.assign([], { length: 2 ** 32 - 1 }) as never),
    ],
  ])('%s', async (found, call) => {
    const node = await open('a');
    await node.openSpace('s');
    const error = (await call(node).catch((e) => e)) as EngramError;
    expect(code(error)).toBe('Configuration');
    expect(error.message).toContain(found);
    expect(node.spaces.map((s) => s.name)).toEqual(['s']);
  });
});

test('a directory that this very process has open is told as that', async () => {
  const node = await open('a');
  const error = (await open('a').catch((e) => e)) as EngramError;
  expect(code(error)).toBe('Locked');
  expect(error.message).toContain('is in use by this very process');
  expect(error.message).toContain('to do: close the node');
  await node.close();
});

test('hundreds of listeners are no leak', async () => {
  const warnings: string[] = [];
  const warned = ({ name }: Error): void => void warnings.push(name);
  process.on('warning', warned);
  const node = await open('a');
  for (let i = 0; i < 300; i++) node.on('fatal', () => undefined);
  await new Promise((resolve) => setImmediate(resolve));
  process.off('warning', warned);
  expect(warnings).toEqual([]);
});
