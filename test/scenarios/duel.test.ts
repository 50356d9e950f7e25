/** Candidates at the same moment, on timers of the same length (row 113). */
import { expect, test, vi } from 'vitest';
import { Duels } from '#src/main/lead/promotion/duels.js';
import type { SpaceState } from '#src/main/log/space-table.js';
import { duelWaitMs } from '#src/shared/lead/duel.js';
import { EachTest, until } from '../support/cluster.js';
import { Trio } from '../support/trio.js';

const each = new EachTest();

test('FAULT-113 of those who answer only candidates are let go first', async () => {
  vi.useFakeTimers();
  const position = { epoch: 2, sequence: 10, headerCrc: 0 };
  const facts = { position, promisedTo: 'b', epochSeen: 3 };
  const space = { facts } as unknown as SpaceState;
  const others = ['a', 'z'].map((nodeId) => ({ nodeId, position }));
  const duels = new Duels('b');
  const waits = async (): Promise<number> => {
    const startMs = performance.now();
    const gone = duels.giveWay(space, others, 3, 1);
    await vi.runAllTimersAsync();
    expect(await gone).toBeUndefined();
    return performance.now() - startMs;
  };
  duels.begins(space);
  // z might be one: so might everybody.
  expect(await waits()).toBeGreaterThanOrEqual(100);
  duels.asked(space, 'a');
  expect(await waits()).toBeLessThanOrEqual(50);
  duels.asked(space, 'z');
  expect(await waits()).toBeGreaterThanOrEqual(100);
  vi.useRealTimers();
});

test('FAULT-113 the farthest goes first, of equal ones the higher id; steps grow', () => {
  const at = (nodeId: string, epoch: number, sequence: number) => ({
    nodeId,
    position: { epoch, sequence, headerCrc: 0 },
  });
  const b = at('b', 2, 10);
  const wait = (own: typeof b, others: (typeof b)[], round = 1): number[] =>
    [0, 0.99].map((chance) => Math.round(duelWaitMs(own, others, round, chance)));
  expect(wait(b, [at('c', 2, 9)])).toEqual([0, 50]);
  expect(wait(b, [at('c', 2, 10)])).toEqual([100, 150]);
  expect(wait(b, [at('a', 2, 10)])).toEqual([0, 50]);
  expect(wait(b, [at('a', 3, 1)], 2)).toEqual([200, 299]);
  expect(wait(b, [], 9)).toEqual([0, 396]);
});

test('FAULT-113 two promotes at once, over and over on equal timers: one leads', async () => {
  const trio = await Trio.make();
  each.finally(() => trio.close());
  const a = await trio.start('a');
  const nodes = [await trio.start('b'), await trio.start('c')];
  const space = await a.openSpace('s');
  await space.append(1, Buffer.from('one'), { ack: { replicas: 2, timeoutMs: 15_000 } });
  await trio.stop('a');
  let epoch = 1;
  for (let duel = 0; duel < 5; duel++) {
    const refused: string[] = [];
    const calls = nodes.map((node) =>
      node.promote('s').then(
        (report) => report,
        (error) => {
          refused.push(error.message.split('\n', 1)[0]);
          return undefined;
        },
      ),
    );
    const reports = (await Promise.all(calls)).filter((r) => r?.isPromoted);
    // The first time they are called, and in an epoch or two: nobody has to try again.
    expect(reports.length, refused.join('; ')).toBeGreaterThanOrEqual(1);
    const next = Math.max(...reports.map((r) => r!.epoch));
    expect(next - epoch).toBeLessThanOrEqual(4);
    epoch = next;
    // Who follows it may have its epoch as well by now.
    const leads = ({ role, epoch: now }: { role: string; epoch: number }): boolean =>
      role === 'primary' && now === next;
    const leader = nodes.find((node) => leads(node.space('s').status()))!;
    await until('the other one follows', () => leader.space('s').status().isReplicated(1));
  }
});
