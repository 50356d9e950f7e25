/**
 * A state of many spaces is taken over several turns of the event loop. Whatever happens in each of
 * them, a power loss behind it finds a state that is true: the log goes on where it begins, and
 * what a row counts on is listed.
 */
import { describe, expect, test } from 'vitest';
import { StateKeeper } from '#src/main/log/retention/state-keeper.js';
import { STATE_FILES } from '#src/main/recovery/recovery.js';
import { decodeState, type State } from '#src/shared/log/state.js';
import { FakeDisk } from '../../support/fake-disk.js';
import { RetentionWorld } from '../../support/retention-world.js';

const DIR = '/data';
const SPACES = 1_200;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

interface Lived {
  readonly disk: FakeDisk;
  readonly world: RetentionWorld;
  readonly keeper: StateKeeper;
}

/** So many spaces; the first one has entries in four segments, and needs none of them any more. */
async function live(): Promise<Lived> {
  const disk = new FakeDisk();
  await disk.mount().makeDir(DIR);
  let keeper: StateKeeper | undefined;
  const world = new RetentionWorld(SPACES + 8, {}, ({ memory, spaces, segments }) => {
    const own = { nodeId: 'a', clusterId: 'c', directoryId: '0'.repeat(32), madeAs: 2 };
    const nothing = (): void => undefined;
    keeper = new StateKeeper(
      disk.mount(),
      DIR,
      memory,
      spaces,
      segments,
      own,
      0,
      () => [],
      nothing,
    );
    return keeper;
  });
  for (let n = 0; n < SPACES; n++) world.addSpace(`s${n}`);
  return { disk, world, keeper: keeper! };
}

async function states(disk: FakeDisk): Promise<State[]> {
  const found: State[] = [];
  for (const name of STATE_FILES) {
    if (!disk.list(DIR).includes(name)) continue;
    disk.edit(`${DIR}/${name}`, (bytes) => found.push(decodeState(bytes.slice())));
  }
  return found;
}

/** What recovery counts on (DESIGN 4, State). */
function isTrue(state: State, what: string): void {
  const [first] = state.segments;
  // The log is read from here on: nothing of it may be missing.
  expect(first!.start, what).toBeLessThanOrEqual(state.lsn);
  for (const [i, { start, size }] of state.segments.entries()) {
    const next = state.segments[i + 1];
    if (next && next.start > state.lsn) expect(next.start, what).toBe(start + size);
  }
  for (const { lsn, facts } of state.spaces) {
    expect(lsn, what).toBeGreaterThanOrEqual(state.lsn);
    // Ten entries in each segment, from the first one on.
    if (facts.name !== 's0' || facts.position.sequence === 0) continue;
    const gone = Math.round(first!.start / first!.size) * 10;
    expect(facts.first, what).toBe(gone + 1);
  }
}

describe('a state and what happens while it is taken', () => {
  test('segments freed and rolled at every turn of it: what it says is true', async () => {
    for (let at = 0; at <= 6; at++) {
      const { disk, world, keeper } = await live();
      const space = world.spaces.byName('s0')!;
      for (let n = 0; n < 3; n++) {
        world.append(space, 10);
        world.roll();
      }
      world.append(space, 10);
      // Begins in the segment that is rolled, given up and freed while the state is taken.
      const written = keeper.write();
      for (let n = 0; n < at; n++) await turn();
      world.roll();
      const given = world.retention.checkpoint(space, 41);
      for (let n = 0; n < 3; n++) await turn();
      world.append(space, 10);
      await written;
      for (const state of await states(disk)) isTrue(state, `freed at turn ${at}`);
      await given;
      await world.retention.close();
      expect(world.segments.list).toHaveLength(1);
      for (const state of await states(disk)) isTrue(state, `behind turn ${at}`);
    }
  });
});
