/** What a host does with a node that is open. */
import type { Operation, World } from './world.js';

/** Several at once, of several spaces. */
async function appends(world: World): Promise<void> {
  const { chance } = world;
  await Promise.all(
    Array.from({ length: 1 + chance(4) }, () => {
      const [ledger, space] = world.any();
      return ledger.append(space, chance(1_500));
    }),
  );
}

async function batch(world: World): Promise<void> {
  const [ledger, space] = world.any();
  const sizes = Array.from({ length: 1 + world.chance(5) }, () => world.chance(1_900));
  await ledger.appendBatch(space, sizes);
}

async function checkpoint(world: World): Promise<void> {
  const [ledger, space] = world.any();
  const to = 1 + world.chance(space.status().durableSequence + 1);
  ledger.checkpoint = Math.max(ledger.checkpoint, to);
  await space.checkpoint(to);
}

/** Appends and batches that an ending may cut off. */
export function beginAppends(world: World): void {
  world.begin('appends', () => appends(world));
  world.begin('batch', () => batch(world));
}

const host = (work: (world: World) => Promise<void>) => (world: World) =>
  world.run('an operation', () => world.refusable(() => work(world)));

export const OPERATIONS: readonly Operation[] = [
  { name: 'appends', weight: 6, run: host(appends) },
  { name: 'batch', weight: 3, run: host(batch) },
  { name: 'checkpoint', weight: 2, run: host(checkpoint) },
  {
    name: 'appends that go on',
    weight: 2,
    run: async (world) => {
      beginAppends(world);
      await world.pass(world.chance(3));
    },
  },
  {
    name: 'flushed',
    weight: 1,
    run: host(async (world) => {
      const [ledger, space] = world.any();
      const { lastSequence } = space.status();
      if (lastSequence === 0) return;
      await space.flushed(lastSequence);
      ledger.covered(lastSequence);
      world.look();
    }),
  },
  { name: 'read', weight: 1, run: (world) => world.refusable(() => world.check()) },
  // Long enough for a mark, and a timer.
  { name: 'idle', weight: 1, run: (world) => world.pass(150) },
];
