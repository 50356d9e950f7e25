/** Spaces of very many epochs: histories are bounded, and what is older is not guessed. */
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Node, NodeOptions } from '#src/main/index.js';
import { divergedFrom } from '#src/main/snapshot/install.js';
import { HISTORY_MAX, SNAPSHOT_HISTORY_MAX } from '#src/shared/limits.js';
import { newSpaceFacts, type SpaceFacts } from '#src/shared/log/space-facts.js';
import { idOf } from '#src/shared/names.js';
import type { EpochStart } from '#src/shared/position.js';
import { historyUpTo, NO_SNAPSHOT } from '#src/shared/snapshot/facts.js';
import { at, contentOf, makeFolder, openSmall, removeFolder, until } from '../support/cluster.js';
import { batchFrame, WireClient } from '../support/wire-client.js';

const LISTEN = { host: '127.0.0.1', port: 0 };
const EPOCHS = HISTORY_MAX + 1_000;

let folder: string;
let ends: (() => unknown)[];

beforeEach(() => {
  folder = makeFolder();
  ends = [];
});

afterEach(async () => {
  for (const end of ends.reverse()) await end();
  removeFolder(folder);
});

async function open(nodeId: string, more: Partial<NodeOptions> = {}): Promise<Node> {
  const node = await openSmall(path.join(folder, nodeId), nodeId, { listen: LISTEN, ...more });
  ends.push(() => node.close());
  return node;
}

/** Entries 1 to `count`, each of an epoch of its own, as a primary of epoch `epoch` ships them. */
async function ship(
  node: Node,
  count: number,
  epoch: number,
  epochOf: (sequence: number) => number,
): Promise<void> {
  const client = new WireClient(node.address!.port);
  await client.hello(node.nodeId, { maxFrameBytes: 256 * 1024 });
  let from = (await client.follow('s', 1, epoch)) + 1;
  for (; from <= count; from += 200) {
    client.socket.write(batchFrame('s', from, Math.min(from + 199, count), epoch, epochOf));
    // Of each frame, so that no group holds all of them.
    const last = Math.min(from + 199, count);
    await until('it is here', () => node.space('s').status().durableSequence >= last);
  }
  client.socket.destroy();
}

test('FAULT-66 more epochs than a history holds: a diverged replica finds its way', async () => {
  const b = await open('b');
  await ship(b, EPOCHS, EPOCHS, (sequence) => sequence);
  await b.close();
  const c = await open('c');
  // The same up to 3,000; then one of an epoch that went another way.
  await ship(c, 3_001, 3_500, (sequence) => (sequence > 3_000 ? 3_500 : sequence));
  const own = { replicas: [at('c', c.address!.port)], openConfirmMs: 5_000 };
  const again = await open('b', own);
  await again.promote('s', { force: true });
  const rewinds: unknown[] = [];
  c.on('rewound', (event) => rewinds.push(event));
  await until('all of it is there', () => again.space('s').status().isReplicated(1));
  await until('it has gone back', () => rewinds.length > 0);
  expect(rewinds).toMatchObject([{ from: 3_001, to: 3_001 }]);
  expect(await contentOf(c.space('s'))).toEqual(await contentOf(again.space('s')));
}, 120_000);

function rows(from: number, to: number): EpochStart[] {
  const all: EpochStart[] = [];
  for (let epoch = from; epoch <= to; epoch++) {
    all.push({ epoch, startSequence: 10 * epoch, primaryNodeId: idOf('a') });
  }
  all[0] = { ...all[0]!, startSequence: 1 };
  return all;
}

function factsAt(history: EpochStart[], sequence: number): SpaceFacts {
  const facts = newSpaceFacts(idOf('s'), 's');
  facts.history = history;
  facts.position = { epoch: history.at(-1)!.epoch, sequence, headerCrc: 1 };
  return facts;
}

test('FAULT-58 a snapshot too many epochs ahead to compare: all that is here is kept', () => {
  const whole = rows(1, 400);
  const history = historyUpTo(whole, 4_005);
  expect(history.length).toBe(SNAPSHOT_HISTORY_MAX);
  const position = { epoch: 400, sequence: 4_005, headerCrc: 2 };
  const snapshot = { id: NO_SNAPSHOT, position, timestamp: 0n, history, sets: [] };
  // Within what it names: a part of it, and not.
  expect(divergedFrom(factsAt(rows(1, 350), 3_505), snapshot)).toBeUndefined();
  const other = [...rows(1, 350), { epoch: 351, startSequence: 3_508, primaryNodeId: idOf('b') }];
  expect(divergedFrom(factsAt(other, 3_600), snapshot)).toBe(3_508);
  // Before it: its last epoch may have been another node's.
  expect(divergedFrom(factsAt(rows(1, 20), 205), snapshot)).toBe(1);
  const trimmed = factsAt(rows(1, 20), 205);
  trimmed.first = 100;
  expect(divergedFrom(trimmed, snapshot)).toBe(100);
});
