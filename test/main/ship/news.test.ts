/** What a shipper's thread is told of very many spaces: in parts, and what they have alike once. */
import { expect, test, vi } from 'vitest';
import type { SpaceState } from '#src/main/log/space-table.js';
import type { ShipperThreads } from '#src/main/runtime/machine.js';
import { ShipperHandle, shippedSpace } from '#src/main/ship/shipper-handle.js';
import { SPACES_A_TURN } from '#src/shared/limits.js';
import type { ShipperStart, ToShipper } from '#src/shared/link/control.js';
import { type ShippedSpace, unpackShipped } from '#src/shared/link/shipped-rows.js';
import { newSpaceFacts } from '#src/shared/log/space-facts.js';
import { allocateProgress } from '#src/shared/memory/progress.js';

const SPACES = 3 * SPACES_A_TURN + 10;
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function shipped(): ShippedSpace[] {
  const next = { members: [{ nodeId: 'p', directoryId: '1'.repeat(32) }], keep: 1 };
  const row = { epoch: 1, sequence: 0, next, old: undefined };
  return Array.from({ length: SPACES }, (_, slot) => {
    const facts = newSpaceFacts(slot.toString(16).padStart(32, '0'), `space-${slot}`);
    facts.sets = [row];
    return shippedSpace({ slot, facts } as SpaceState);
  });
}

/** A handle whose thread keeps what it is told. */
function started() {
  const told: ToShipper[] = [];
  let ended: (reason?: string) => void;
  const threads = {
    startShipper: (_: ShipperStart, hooks: { exit(reason?: string): void }) => {
      ended = hooks.exit;
      const post = (message: ToShipper): void => {
        told.push(message);
        if (message.kind === 'close') ended();
      };
      return { post, terminate: () => ended() };
    },
  };
  const replica = { nodeId: 'r', host: 'host', port: 1 };
  const start = { progress: allocateProgress(SPACES), replica } as unknown as ShipperStart;
  const watch = { follow: () => undefined };
  const hooks = { message: () => undefined, lost: () => undefined };
  const handle = new ShipperHandle(
    threads as unknown as ShipperThreads,
    start,
    true,
    watch as never,
    hooks,
  );
  handle.wake();
  told.length = 0;
  return { handle, told, die: () => ended('it was killed') };
}

const spacesIn = (told: readonly ToShipper[]): number[][] =>
  told.flatMap((m) =>
    m.kind === 'spaces' ? [unpackShipped(m.spaces).map(({ slot }) => slot)] : [],
  );

test('of very many spaces a thread is told so many in a turn, in their order', async () => {
  const { handle, told } = started();
  const spaces = shipped();
  handle.addSpaces(spaces);
  await turn();
  expect(spacesIn(told)).toEqual([spaces.slice(0, SPACES_A_TURN).map(({ slot }) => slot)]);
  for (let n = 0; n < 3; n++) await turn();
  expect(spacesIn(told).flat()).toEqual(spaces.map(({ slot }) => slot));
  await handle.close();
});

test('a thread that is closed has been told of all of them before', async () => {
  const { handle, told } = started();
  handle.addSpaces(shipped());
  await turn();
  await handle.close();
  expect(spacesIn(told).flat().length).toBe(SPACES);
  expect(told.at(-1)).toEqual({ kind: 'close' });
});

test('a space that is left in the turn in which it came is not told of', async () => {
  const { handle, told } = started();
  const [first, second] = shipped();
  handle.addSpaces([first!, second!]);
  handle.removeSpace(first!.slot);
  await turn();
  expect(spacesIn(told)).toEqual([[second!.slot]]);
  expect(told[0]).toEqual({ kind: 'leave', slot: first!.slot, isCut: false });
  await handle.close();
});

test('what a thread said of its streams goes with it; the next is told of each space', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  const { handle, told, die } = started();
  handle.progress.setStreams(2);
  expect(handle.isStreaming).toBe(true);
  die();
  expect(handle.isStreaming).toBe(false);
  const spaces = shipped().slice(0, 2);
  handle.addSpaces(spaces);
  vi.advanceTimersByTime(5_000);
  vi.useRealTimers();
  await turn();
  expect(spacesIn(told)).toEqual([spaces.map(({ slot }) => slot)]);
  await handle.close();
});

test('a row that is begun anew while it is read says nothing', async () => {
  const { handle } = started();
  const { progress } = handle;
  progress.begin(1, 7, 40, 40);
  expect([handle.flushedOf(1, 7), handle.progressOf(1, 7).flushed]).toEqual([40, 40]);
  const { flushed } = progress;
  vi.spyOn(progress, 'flushed').mockImplementation((slot) => {
    const before = flushed.call(progress, slot);
    progress.begin(1, before === 40 ? 8 : 7, 50, 50);
    return before;
  });
  expect(handle.flushedOf(1, 7)).toBe(0);
  progress.begin(1, 7, 40, 40);
  expect(handle.progressOf(1, 7).flushed).toBe(0);
  await handle.close();
});

test('spaces that are alike share what is told of them', () => {
  const spaces = shipped();
  expect(new Set(spaces.map(({ sets }) => sets)).size).toBe(1);
  expect(new Set(spaces.map(({ voided }) => voided)).size).toBe(1);
});
