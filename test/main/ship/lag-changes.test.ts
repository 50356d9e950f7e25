import { expect, test } from 'vitest';
import type { SpaceState } from '#src/main/log/space-table.js';
import { LagChanges } from '#src/main/ship/lag-changes.js';
import type { ShipperHandle } from '#src/main/ship/shipper-handle.js';
import { LAG_ALERTS, STAGES, STATUSES } from '#src/shared/link/pair-watch.js';
import { PAIR } from '#src/shared/memory/pair-rows.js';

const NO_CHANGE = { status: 0, before: 0, alert: 0, alertBefore: 0, stage: 0, stageBefore: 0 };

/** What is told of these spaces of one replica. @param change of each @param lagMs of each */
function told(
  count: number,
  change: (slot: number) => Partial<typeof NO_CHANGE>,
  lagMs: (slot: number) => number,
) {
  const found: unknown[] = [];
  const changes = new LagChanges({
    replicaStatus: (one) => found.push(one),
    lagAlert: (one) => found.push(one),
    stalled: (one) => found.push(one),
  });
  const pairs = {
    isFollowed: (slot: number) => slot !== 2,
    get: (slot: number, field: number) => (field === PAIR.lagMs ? lagMs(slot) : 0),
  };
  const shipper = {
    replica: { nodeId: 'b' },
    link: { reason: 'lost' },
    watch: { pairs, takeChange: (slot: number) => ({ ...NO_CHANGE, ...change(slot) }) },
  } as unknown as ShipperHandle;
  for (let slot = 1; slot <= count; slot++) {
    changes.add(shipper, { slot, facts: { name: `${slot}` } } as SpaceState);
  }
  changes.tell();
  changes.tell();
  return found;
}

test('each way to change is told once, in the order of the first space that has it', () => {
  const [one, two] = [{ status: 1 }, { status: 2, before: 1, stage: 2 }];
  const all = [one, one, two, {}, one, { stage: 1, stageBefore: 2 }, { stageBefore: 3 }];
  expect(
    told(
      7,
      (slot) => all[slot - 1]!,
      () => 0,
    ),
  ).toEqual([
    {
      replicaId: 'b',
      status: STATUSES[1],
      before: STATUSES[0],
      spaces: ['1', '5'],
      reason: 'lost',
    },
    { replicaId: 'b', status: STATUSES[2], before: STATUSES[1], spaces: ['3'], reason: 'lost' },
    { replicaId: 'b', isStalled: true, stage: STAGES[2], spaces: ['3'] },
    { replicaId: 'b', isStalled: false, stage: STAGES[3], spaces: ['7'] },
  ]);
});

test('an alert has the greatest lag, of as many spaces as a node may have', () => {
  const raised = (lagMs: (slot: number) => number) => told(200_000, () => ({ alert: 1 }), lagMs);
  expect(raised((slot) => slot % 1_000)).toMatchObject([
    { alert: LAG_ALERTS[1], before: LAG_ALERTS[0], lagMs: 999, spaces: { length: 199_999 } },
  ]);
  expect(raised((slot) => (slot === 77 ? Number.NaN : slot))).toMatchObject([{ lagMs: 'unknown' }]);
});
