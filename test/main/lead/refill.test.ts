/** What is fetched for a space stops where another node leads it meanwhile. */
import { expect, test } from 'vitest';
import { Refill } from '#src/main/lead/refill.js';
import type { SpaceState } from '#src/main/log/space-table.js';
import type { Wal } from '#src/main/log/wal.js';
import type { ReceivedRuns } from '#src/main/log/write/received-runs.js';
import type { PeerClient } from '#src/main/peer/client.js';
import { failure } from '#src/shared/errors.js';
import { newSpaceFacts } from '#src/shared/log/space-facts.js';
import type { NodeMemory } from '#src/shared/memory/slab.js';
import { encodeBatchHeader } from '#src/shared/wire/batch.js';
import { entriesOf, SPACE as ID } from '../../support/batches.js';

const MEMBER = { nodeId: 'b', host: '127.0.0.1', port: 1 };

/** One entry of epoch 1, as a member answers with it. */
function batchOf(startSequence: number): Uint8Array {
  const entries = entriesOf([new Uint8Array(0)], startSequence, 1, ID);
  const bytes = Buffer.concat([Buffer.alloc(64), entries]);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const of = { primaryNodeId: ID, spaceId: ID, startSequence, entryCount: 1, epoch: 1 };
  encodeBatchHeader(bytes, view, 0, { ...of, totalSize: entries.length });
  return bytes;
}

/** @param asked called before each answer */
function refill(asked: (from: number) => void, hasRoom = (): boolean => true) {
  const facts = newSpaceFacts(ID, 's');
  Object.assign(facts, { epoch: 1, epochSeen: 2 });
  const space = { facts, slot: 1 } as unknown as SpaceState;
  const staged: number[] = [];
  const wal = {
    groupBytes: 4_096,
    whenDurable: async () => undefined,
    whenRoom: async (stage: () => boolean) => {
      if (!hasRoom()) throw failure('Backpressure', 'too many wait');
      stage();
    },
    stageReceived: (_: Uint8Array, runs: ReceivedRuns) => {
      staged.push(runs.first(0));
      return true;
    },
  } as unknown as Wal;
  const ask = async ({ from }: { from: number }) => {
    asked(from);
    return [{ kind: 'entries', batch: batchOf(from) }];
  };
  const peers = { open: async () => ({ ask, close: () => undefined }) } as unknown as PeerClient;
  const memory = { allocated: () => 0 } as unknown as NodeMemory;
  return { facts, staged, work: new Refill(memory, wal, peers, 1_024).from(space, MEMBER, 3) };
}

test('entries come up to the sequence that was asked for', async () => {
  const { staged, work } = refill(() => undefined);
  await work;
  expect(staged).toEqual([1, 2, 3]);
});

test.each(['epochSeen', 'epoch'] as const)('none comes once the %s has changed', async (fact) => {
  const made = refill((from) => {
    if (from === 3) made.facts[fact] = 3;
  });
  await expect(made.work).rejects.toMatchObject({ code: 'PromotionRefused' });
  expect(made.staged).toEqual([1, 2]);
});

test('where too many wait for room it waits as well, and lets others make some', async () => {
  let tries = 0;
  let isFree = false;
  const later = setTimeout(() => {
    isFree = true;
  }, 20);
  // Tried again at once, no timer would ever come.
  const made = refill(
    () => undefined,
    () => isFree || ++tries > 100_000,
  );
  await made.work;
  clearTimeout(later);
  expect(made.staged).toEqual([1, 2, 3]);
  expect(tries).toBeLessThan(100);
});
