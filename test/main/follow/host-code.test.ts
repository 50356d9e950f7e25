/** Code of a host, and mistakes, in the middle of what a node does (FAULTS row 82). */
import path from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { EngramError, Member, Node, NodeOptions, Space } from '#src/main/index.js';
import { SnapshotChunks } from '#src/main/snapshot/chunks.js';
import { encodeNodeRecord } from '#src/shared/log/node-record.js';
import { SegmentIndex } from '#src/shared/log/segment-index.js';
import { newSpaceFacts } from '#src/shared/log/space-facts.js';
import { roleRecord } from '#src/shared/log/state.js';
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

async function open(nodeId: string, more: Partial<NodeOptions> = {}): Promise<Node> {
  const node = await openSmall(path.join(folder, nodeId), nodeId, more);
  nodes.push(node);
  return node;
}

const code = (error: unknown): string => (error as EngramError).code ?? `bare ${String(error)}`;
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

function explode(): never {
  throw new Error('code of the host');
}

/** As long as it is, it says that it is nothing. */
class Nothing extends Uint8Array {
  override get length(): number {
    return 0;
  }
}

async function contentOf(space: Space): Promise<string[]> {
  const found: string[] = [];
  for await (const { sequence, payload } of space.read()) {
    found.push(`${sequence} ${Buffer.from(payload).toString()}`);
  }
  return found;
}

test('FAULT-82 a fault inside a step fails the log, and leaves no hole', async () => {
  const node = await open('a');
  const space = await node.openSpace('s');
  const other = await node.openSpace('other');
  await space.append(1, bytes('1'));
  const failed: string[] = [];
  node.on('fatal', ({ error }) => failed.push(error.message));
  const add = vi.spyOn(SegmentIndex.prototype, 'add').mockImplementation(() => explode());
  const asked = [space.append(1, bytes('2')), other.append(1, bytes('x')), space.flushed(3)];
  const outcomes = await Promise.allSettled(asked.map((one) => one.catch(code)));
  add.mockRestore();
  expect(outcomes.map((one) => (one as { value?: unknown }).value)).toEqual(
    Array(3).fill('WalFailed'),
  );
  expect(await space.append(1, bytes('3')).catch(code)).toBe('WalFailed');
  expect(failed).toHaveLength(1);
  await node.close();
  const again = (await open('a')).space('s');
  const found = await contentOf(again);
  expect(found.slice(0, 1)).toEqual(['1 1']);
  const { sequence } = await again.append(1, bytes('4'));
  expect(await contentOf(again)).toEqual([...found, `${sequence} 4`]);
});

test('FAULT-82 more members than can be read again, or names that are none', async () => {
  const member = (_: unknown, n: number): Member => {
    return { nodeId: `n${n}`, host: '127.0.0.1', port: 1 };
  };
  const replicas = Array.from({ length: 64 }, member);
  expect(await open('a', { replicas }).catch(code)).toBe('Configuration');
  const members = Array.from({ length: 65 }, member);
  const record = roleRecord({ ...newSpaceFacts('ab'.repeat(16), 's'), members });
  expect(() => encodeNodeRecord(record)).toThrow(/^Configuration: 65 members/);
  const node = await open('a');
  const name = Symbol('s') as unknown as string;
  expect(() => node.space(name)).toThrow(/^Configuration: the name of a space/);
  for (const call of [node.openSpace(name), node.promote(name), node.locate(name)]) {
    expect(await call.catch(code)).toBe('Configuration');
  }
  expect(await node.switchover(name, 'b').catch(code)).toBe('Configuration');
});

test('FAULT-82 a registry that throws keeps no node open', async () => {
  const metricsRegistry = {
    contentType: 'text/plain',
    registerMetric: () => undefined,
    removeSingleMetric: explode,
    metrics: () => Promise.resolve(''),
  };
  const node = await open('a', { metricsRegistry });
  await node.close();
  await open('a');
});

test('FAULT-82 pieces of a snapshot that are nothing hold up nobody', async () => {
  let isOver = false;
  const endless = (function* () {
    while (!isOver) yield new Uint8Array(0);
    yield new Nothing(8).fill(7);
  })();
  const chunks = new SnapshotChunks(endless, 4);
  const first = chunks.next();
  await new Promise((resolve) => setTimeout(resolve, 5));
  isOver = true;
  expect(await first).toMatchObject({ bytes: new Uint8Array([7, 7, 7, 7]) });
  expect(await chunks.next()).toMatchObject({ bytes: new Uint8Array([7, 7, 7, 7]) });
  expect(await chunks.next()).toMatchObject({ chunks: 2, bytes: 8 });
});
