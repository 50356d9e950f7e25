/** How a life ends, with work under way; and what may have happened to its disk before. */
import { STATE_FILES } from '#src/main/recovery/recovery.js';
import { decodeState } from '#src/shared/log/state.js';
import { DISK_ERRORS, TELLING_CALLS } from '../sim/faults.js';
import type { Ending } from '../support/space-ledger.js';
import { HOST_OPERATIONS } from './hosts.js';
import { beginAppends, OPERATIONS } from './operations.js';
import { choose, type Operation, type World } from './world.js';

/** Of a segment. */
const FIRST_WRITE = TELLING_CALLS[0];
const SLOW_WRITE_MS = 30;
/** Of the segment that the log ends in. */
const READS_OF_AN_OPENING = 10;
const STATE = /^(open|write|rename) state/;

interface Way {
  readonly name: string;
  readonly how: Ending;
  end(world: World): Promise<void> | void;
}

const CLOSE: Way = {
  name: 'close',
  how: 'closed',
  end: async (world) => {
    await world.run('close', () => world.refusable(() => world.node.close()));
    world.sim.kill();
  },
};

const KILL: Way = { name: 'kill', how: 'killed', end: (world) => world.sim.kill() };

const POWER_LOSS: Way = {
  name: 'power loss',
  how: 'cache lost',
  end: (world) => {
    // What is durable by now must be there afterwards.
    world.look();
    world.sim.losePower();
  },
};

const BEGUN = HOST_OPERATIONS.filter(({ name }) => name === 'stops reading' || name === 'waits');

/** Some of what a host does, unless the process dies of it. */
async function live(world: World, operations: number): Promise<void> {
  for (let n = 0; n < operations && !world.isOver; n++) {
    beginAppends(world);
    await choose(OPERATIONS, world.chance).run(world);
  }
}

/** At any moment, with appends under way. */
function plainly(way: Way): Operation['run'] {
  return async (world) => {
    beginAppends(world);
    await world.pass(world.chance(4_000) / 1_000);
    await way.end(world);
    await world.ended(way.how);
  };
}

/** When a call of some sort is made. */
function atCall(way: Way): Operation['run'] {
  return async (world) => {
    // Mostly where a segment begins and a state is about to say so: there most can go wrong.
    const calls = [
      FIRST_WRITE,
      FIRST_WRITE,
      STATE,
      TELLING_CALLS[world.chance(TELLING_CALLS.length)]!,
    ];
    const call = calls[world.chance(calls.length)]!;
    world.note(`at ${call}`);
    // Segments begin seldom.
    const times = 1 + world.chance(call === FIRST_WRITE ? 2 : 6);
    world.sim.disk.when(
      (what) => call.test(what),
      times,
      () => void way.end(world),
    );
    await live(world, 12);
    if (!world.isOver) await way.end(world);
    await world.ended(way.how);
  };
}

/** A segment is listed by a durable state before anything stands in it, or just then. */
function atSlowHead(way: Way): Operation['run'] {
  return async (world) => {
    const { disk } = world.sim;
    let only = '';
    const isFirst = (what: string): boolean => {
      only = what;
      return FIRST_WRITE.test(what);
    };
    disk.when(isFirst, 1 + world.chance(2), () => {
      disk.delay = { only, ms: SLOW_WRITE_MS };
      setTimeout(() => void way.end(world), 1 + world.chance(SLOW_WRITE_MS));
    });
    await live(world, 12);
    if (!world.isOver) await way.end(world);
    await world.ended(way.how);
  };
}

/** While it opens or closes. */
function half(what: 'opening' | 'closing', way: Way): Operation['run'] {
  return async (world) => {
    beginAppends(world);
    // And whatever else a host may be waiting for.
    for (let n = world.chance(3); n > 0; n--) await choose(BEGUN, world.chance).run(world);
    if (what === 'closing') world.begin('close', () => world.node.close());
    else {
      await world.run('close', () => world.node.close());
      world.sim.kill();
      void world.sim.start();
    }
    await world.pass(world.chance(12_000) / 1_000);
    await way.end(world);
    await world.ended(way.how);
  };
}

/** A call fails, and some time later the life ends. */
function afterError(way: Way): Operation['run'] {
  return async (world) => {
    // Every second time the one that leaves pages behind which nobody will ever write.
    const error = DISK_ERRORS[world.chance(2) * world.chance(DISK_ERRORS.length)]!;
    world.isDisturbed = true;
    world.note(`${error.errno} at ${error.only}`);
    world.sim.disk.inject({ call: 1 + world.chance(6), ...error });
    await live(world, 1 + world.chance(6));
    await way.end(world);
    await world.ended('cache lost');
  };
}

/** What opens the log next may read what an fdatasync has failed to write, and then it is gone. */
async function leavesPages(world: World): Promise<void> {
  const { disk } = world.sim;
  world.isDisturbed = true;
  disk.inject({ call: 1 + world.chance(6), only: 'fdatasync', errno: 'EIO' });
  await live(world, 1 + world.chance(6));
  disk.readsLeft = world.chance(READS_OF_AN_OPENING);
  KILL.end(world);
  await world.ended('cache lost');
}

/** The disk is full; perhaps there is room again, and the log is about to go on. */
function whenFull(way: Way): Operation['run'] {
  return async (world) => {
    const { disk } = world.sim;
    world.isDisturbed = true;
    disk.capacityBytes = disk.usedBytes + world.chance(30_000);
    await live(world, 4 + world.chance(8));
    if (world.chance(2) === 0) {
      disk.capacityBytes = Number.POSITIVE_INFINITY;
      // The next calls are those of the log that is made fit again.
      const close = (): void => world.begin('close', () => world.node.close());
      if (world.chance(2) === 0) disk.when(() => true, 1 + world.chance(12), close);
      await world.pass(world.chance(1_500));
      disk.unwatch();
    }
    await way.end(world);
    await world.ended('cache lost');
  };
}

function allOf(way: Way, weight: number): Operation[] {
  const { name } = way;
  return [
    { name, weight: 3 * weight, run: plainly(way) },
    { name: `${name} after an error`, weight, run: afterError(way) },
    { name: `${name} when full`, weight, run: whenFull(way) },
  ];
}

const CUT_OFF = [KILL, POWER_LOSS].flatMap((way): Operation[] => [
  { name: `${way.name} at a call`, weight: 4, run: atCall(way) },
  { name: `${way.name} at a slow head`, weight: 2, run: atSlowHead(way) },
  { name: `${way.name} while it opens`, weight: 1, run: half('opening', way) },
  { name: `${way.name} while it closes`, weight: 1, run: half('closing', way) },
]);

/** Closed; and the next life has another directory than this one had. */
function closed(then: (world: World) => void): Operation['run'] {
  return async (world) => {
    beginAppends(world);
    await CLOSE.end(world);
    await world.ended(CLOSE.how);
    then(world);
  };
}

const DIRECTORIES: readonly Operation[] = [
  {
    name: 'close, and a copy',
    weight: 2,
    run: closed((world) => void world.copies.push(world.copy())),
  },
  {
    name: 'an earlier directory is put back',
    weight: 1,
    run: closed((world) => world.putBack(world.copies[world.chance(world.copies.length)]!)),
  },
];

const ENDINGS: readonly Operation[] = [
  ...DIRECTORIES,
  ...allOf(CLOSE, 1),
  ...allOf(KILL, 1),
  ...allOf(POWER_LOSS, 2),
  ...CUT_OFF,
];

/** Between two lives: of two good states the newer one rots, and the older one counts. */
export function rotState({ sim }: World): boolean {
  const states = STATE_FILES.flatMap((name) => {
    let generation: number | undefined;
    if (!sim.disk.list('/data').includes(name)) return [];
    sim.disk.edit(`/data/${name}`, (bytes) => {
      generation = generationOf(bytes);
    });
    return generation === undefined ? [] : [{ name, generation }];
  });
  if (states.length < 2) return false;
  const [newer] = states.sort((a, b) => b.generation - a.generation);
  sim.disk.edit(`/data/${newer!.name}`, (bytes) => {
    bytes[bytes.length >> 1]! ^= 1;
  });
  return true;
}

function generationOf(bytes: Uint8Array): number | undefined {
  try {
    return decodeState(bytes).generation;
  } catch {
    return undefined;
  }
}

/** In every fifth seed half of the lives leave pages behind that are not on the disk. */
export function endingsOf(seed: number): readonly Operation[] {
  if (seed % 5 < 4) return ENDINGS;
  const weight = ENDINGS.reduce((sum, ending) => sum + ending.weight, 0);
  return [...ENDINGS, { name: 'pages that are not on the disk', weight, run: leavesPages }];
}

export const POWER_LOSSES = ENDINGS.filter(({ name }) => name.startsWith(POWER_LOSS.name));
