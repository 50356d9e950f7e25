/**
 * Every disk call fails once, each in its turn, in a small life of a node; and the power fails at
 * each. All of them with ENGRAM_TEST_FULL=1, else a sample of them.
 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Node, NodeOptions } from '#src/main/index.js';
import { openFake } from '../support/fake-cluster.js';
import { chanceFrom, FakeDisk } from '../support/fake-disk.js';
import { SpaceLedger } from '../support/space-ledger.js';

const IS_FULL = process.env.ENGRAM_TEST_FULL === '1';
const SEED = Number(process.env.ENGRAM_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const NAMES = ['s', 't'];
const MODES = ['per-batch', 'per-write', { timerMs: 2 }, 'none'] as const;

const unhandled: unknown[] = [];
const note = (error: unknown): void => {
  unhandled.push(error);
};

beforeAll(() => {
  process.on('unhandledRejection', note);
});

afterAll(() => {
  process.off('unhandledRejection', note);
});

type Ledgers = readonly SpaceLedger[];
type Fsync = NonNullable<NodeOptions['fsync']>;

function newLedgers(fsync: Fsync): Ledgers {
  return NAMES.map((name) => {
    const ledger = new SpaceLedger(name);
    ledger.promise = fsync === 'none' || typeof fsync === 'object' ? 'written' : 'durable';
    return ledger;
  });
}

/** Opens, appends over two rolls, reads, checkpoints, closes; goes on as far as it can. */
async function live(
  disk: FakeDisk,
  ledgers: Ledgers,
  fsync: Fsync = 'per-batch',
  die?: () => boolean,
): Promise<void> {
  let node: Node | undefined;
  try {
    node = await openFake(disk, { fsync });
    for (let round = 0; round < 9; round++) {
      if (die?.()) return;
      await Promise.all(ledgers.map((ledger) => oneRound(node!, ledger, round)));
    }
  } catch (error) {
    expect(error).toHaveProperty('code');
  } finally {
    // What has no disk any more cannot be closed well.
    if (!die?.()) await node?.close().catch((error) => expect(error).toHaveProperty('code'));
  }
}

async function oneRound(node: Node, ledger: SpaceLedger, round: number): Promise<void> {
  const space = await node.openSpace(ledger.name);
  await ledger.append(space, 300);
  await ledger.appendBatch(space, [900, 0, 1_200]);
  const { durableSequence } = space.status();
  ledger.covered(durableSequence);
  if (round !== 6) return;
  ledger.checkpoint = Math.max(1, durableSequence);
  await space.checkpoint(Math.max(1, durableSequence)).catch((error) => {
    expect(error).toHaveProperty('code');
  });
}

/** The disk is well again: everything is there, and the log goes on. */
async function healthy(disk: FakeDisk, ledgers: Ledgers, what: string): Promise<void> {
  for (let again = 0; again < 2; again++) {
    const node = await openFake(disk);
    expect(node.status().holes, what).toEqual([]);
    for (const ledger of ledgers) {
      const space = await node.openSpace(ledger.name);
      await ledger.check(space, what);
      expect(await ledger.append(space, 100), what).toBe(true);
    }
    await node.close();
  }
}

async function countCalls(fsync: Fsync = 'per-batch'): Promise<string[]> {
  const disk = new FakeDisk();
  disk.inject(undefined);
  await live(disk, newLedgers(fsync), fsync);
  return disk.calls;
}

describe(`every disk call, seed ${SEED}`, () => {
  test.each([
    'EIO',
    'ENOSPC',
    'EROFS',
  ])('a call that fails with %s: nothing acknowledged is lost', async (errno) => {
    const calls = await countCalls();
    const step = IS_FULL ? 1 : Math.ceil(calls.length / 16);
    for (let n = 1 + (SEED % step); n <= calls.length; n += step) {
      const disk = new FakeDisk(chanceFrom(SEED - n));
      const ledgers = newLedgers('per-batch');
      disk.inject({ call: n, errno });
      await live(disk, ledgers);
      const what = `call ${n} (${disk.calls[n - 1]}) fails with ${errno}`;
      disk.inject(undefined);
      if (n % 2 === 0) disk.crash(chanceFrom(SEED + n));
      else disk.kill();
      await healthy(disk, ledgers, what);
      expect(unhandled, what).toEqual([]);
    }
  });

  test.each(
    MODES.flatMap((fsync) => [['SIGKILL', fsync] as const, ['power loss', fsync] as const]),
  )('FAULT-16 %s at every call, fsync %j: a state before or after it', async (how, fsync) => {
    const calls = await countCalls(fsync);
    const step = IS_FULL ? 1 : Math.ceil(calls.length / 10);
    for (let n = 1 + (SEED % step); n <= calls.length; n += step) {
      const disk = new FakeDisk(chanceFrom(SEED - n));
      const ledgers = newLedgers(fsync);
      const end = (): void => (how === 'SIGKILL' ? disk.kill() : disk.crash(chanceFrom(SEED + n)));
      // From the n-th call on nothing reaches the disk.
      disk.when(() => true, n, end);
      await live(disk, ledgers, fsync);
      // Where it made fewer calls than were counted it is over now.
      disk.unwatch();
      end();
      for (const ledger of ledgers) ledger.ended(how === 'SIGKILL' ? 'killed' : 'cache lost');
      await healthy(
        disk,
        ledgers,
        `${how} at call ${n} (${calls[n - 1]}), ${JSON.stringify(fsync)}`,
      );
      expect(unhandled).toEqual([]);
    }
  });

  test('FAULT-21 power loss at every call of the recovery itself', async () => {
    const chance = chanceFrom(SEED);
    const first = new FakeDisk();
    const ledgers = newLedgers('per-batch');
    let rounds = 0;
    await live(first, ledgers, 'per-batch', () => rounds++ > 8);
    first.crash(chance);
    for (let n = 1, isOver = false; !isOver; n += IS_FULL ? 1 : 5) {
      // Each time a new tail to recover from: what the last healthy opening has left.
      first.when(
        () => true,
        n,
        () => first.crash(chance),
      );
      const node = await openFake(first).catch(() => undefined);
      isOver = node !== undefined;
      first.unwatch();
      await node?.close().catch(() => undefined);
      first.crash(chance);
      await healthy(first, ledgers, `call ${n} of the recovery`);
      const last = await openFake(first);
      for (const ledger of ledgers) await ledger.append(await last.openSpace(ledger.name), 500);
      first.crash(chance);
      await last.close().catch(() => undefined);
    }
    expect(unhandled).toEqual([]);
  });
});
