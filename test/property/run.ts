/**
 * One seed against a model that fits on a card: what was acknowledged is there, what was not may
 * be, at its place; nothing else. Some lives of a node on a nasty disk, each with other options.
 */
import { chanceFrom } from '../support/chance.js';
import { endingsOf, rotState } from './endings.js';
import { HOST_OPERATIONS } from './hosts.js';
import { MODES, type Mode, nextLife } from './lives.js';
import { OPERATIONS } from './operations.js';
import { choose, type Operation, World } from './world.js';

const LIVES = 6;
const ALL_OPERATIONS = [...OPERATIONS, ...HOST_OPERATIONS];
const OPERATIONS_MAX = 14;
/** In one seed of so many each opening finds a full disk. */
const FULL_ONE_IN = 7;

export interface PropertyReport {
  readonly seed: number;
  readonly virtualMs: number;
  readonly acked: number;
  /** How often each operation and ending came. */
  readonly counts: Readonly<Record<string, number>>;
}

export class PropertyRun {
  readonly #seed: number;
  readonly #modes: readonly Mode[];
  readonly #endings: readonly Operation[];
  readonly #world: World;

  /** @param endings how lives may end */
  constructor(
    seed: number,
    trace?: (line: string) => void,
    modes: readonly Mode[] = MODES,
    endings: readonly Operation[] = endingsOf(seed),
  ) {
    this.#seed = seed;
    this.#modes = modes;
    this.#endings = endings;
    this.#world = new World(chanceFrom(seed), trace);
    this.#world.opensFull = seed % FULL_ONE_IN === 0;
  }

  /** Rejects where a promise is broken; the message tells what came before. */
  async run(): Promise<PropertyReport> {
    const world = this.#world;
    const uninstall = world.cluster.clock.install();
    try {
      for (let life = 0; life < LIVES; life++) await this.#life();
      await this.#open();
      await world.run('close', () => world.node.close());
      await world.ended('closed');
      const { acked, counts } = world;
      return { seed: this.#seed, virtualMs: Math.round(world.cluster.clock.nowMs), acked, counts };
    } catch (error) {
      throw new Error(`${(error as Error).message}; after ${world.history}`, { cause: error });
    } finally {
      world.sim.kill();
      uninstall();
    }
  }

  async #life(): Promise<void> {
    const world = this.#world;
    await this.#open();
    if (world.chance(3) === 0) {
      // Once more, with nothing in between: recovery is idempotent.
      world.sim.kill();
      await world.ended('killed');
      await this.#open();
    }
    // A short one writes a single state: where that rots, the last one of the life before counts.
    const isShort = world.chance(3) === 0;
    const operations = world.chance(isShort ? 3 : OPERATIONS_MAX);
    for (let n = operations; n > 0; n--) await this.#one(ALL_OPERATIONS);
    await this.#one(this.#endings);
    const rots = world.chance(isShort ? 2 : 4) === 0;
    if (rots && rotState(world)) world.note('the newer state rots');
  }

  async #open(): Promise<void> {
    const world = this.#world;
    await world.open(nextLife(world.chance, this.#modes, world.longestBytes));
    await world.check();
  }

  async #one(from: readonly Operation[]): Promise<void> {
    const world = this.#world;
    const { name, run } = choose(from, world.chance);
    world.note(name);
    world.count(name);
    await run(world);
  }
}
