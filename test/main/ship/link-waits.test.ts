/** Appends that wait for links: what a link's thread has said in shared memory counts at once. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { SpaceState } from '#src/main/log/space-table.js';
import type { ShipperThreads } from '#src/main/runtime/machine.js';
import { LinkWaits } from '#src/main/ship/link-waits.js';
import { ShipperHandle } from '#src/main/ship/shipper-handle.js';
import type { EngramError } from '#src/shared/errors.js';
import type { FromShipper, LinkState, ShipperStart } from '#src/shared/link/control.js';
import { newSpaceFacts } from '#src/shared/log/space-facts.js';
import { allocateProgress } from '#src/shared/memory/progress.js';

const SPACE = {
  facts: newSpaceFacts('0'.repeat(32), 's'),
  replicas: ['r0', 'r1'],
  hostWaits: new Set(),
} as unknown as SpaceState;

interface Hooks {
  message(message: FromShipper): void;
  exit(reason?: string): void;
}

/** A link whose thread says what it is told to say. */
function shipper(nodeId: string) {
  let hooks!: Hooks;
  const startShipper = (_: ShipperStart, its: Hooks) => {
    hooks = its;
    return { post: () => undefined, terminate: () => undefined };
  };
  const replica = { nodeId, host: 'host', port: 1 };
  const start = { progress: allocateProgress(4), replica, maxRetries: 3 };
  const handle = new ShipperHandle(
    { startShipper } as unknown as ShipperThreads,
    start as unknown as ShipperStart,
    true,
    { follow: () => undefined } as never,
    { message: () => undefined, lost: () => undefined },
  );
  const say = (state: LinkState, failures = 0): void =>
    hooks.message({
      ...{ kind: 'state', state, failures },
      ...{ reason: '', fatal: undefined, checksumFailures: 0 },
    });
  return { handle, say, exit: () => hooks.exit('x') };
}

const outcome = (wait: Promise<void> | undefined): Promise<string> =>
  (wait ?? Promise.resolve()).then(
    () => 'linked',
    (error) => (error as EngramError).code,
  );

let links: ReturnType<typeof shipper>[];
let waits: LinkWaits;

beforeEach(() => {
  vi.useFakeTimers();
  links = ['r0', 'r1'].map(shipper);
  waits = new LinkWaits(() => links.map((link) => link.handle), false);
  for (const link of links) link.say('failed', 3);
});
afterEach(() => {
  vi.useRealTimers();
});

test('FAULT-117 a replica whose acks are seen is connected', async () => {
  const [link] = links;
  expect(await outcome(waits.whenConnected(SPACE, 1, 1_000))).toBe('NotEnoughReplicas');
  // It has come back: its thread writes where it stands before main reads its word of the link.
  link!.handle.progress.setStreams(1);
  expect(waits.whenConnected(SPACE, 1, 1_000)).toBeUndefined();
  expect(waits.whenConnected(SPACE, 1, 0)).toBeUndefined();
  expect(await outcome(waits.whenConnected(SPACE, 2, 1_000))).toBe('NotEnoughReplicas');
  // Both say so, each in its way; then one of them is lost.
  links[1]!.say('streaming');
  expect(waits.whenConnected(SPACE, 2, 1_000)).toBeUndefined();
  link!.handle.progress.setStreams(0);
  expect(await outcome(waits.whenConnected(SPACE, 2, 1_000))).toBe('NotEnoughReplicas');
});

test('FAULT-117 who may come with one that is here is waited for', async () => {
  links[0]!.handle.progress.setStreams(1);
  links[1]!.say('waiting', 1);
  const wait = outcome(waits.whenConnected(SPACE, 2, 1_000));
  waits.look();
  links[1]!.say('catching-up');
  waits.look();
  expect(await wait).toBe('linked');
});

test('a loop that was blocked for longer than a wait looks before that is late', async () => {
  links[0]!.say('waiting', 1);
  const wait = outcome(waits.whenConnected(SPACE, 1, 1_000));
  links[0]!.handle.progress.setStreams(1);
  vi.advanceTimersByTime(2_000);
  expect(await wait).toBe('linked');
  links[0]!.handle.progress.setStreams(0);
  const other = outcome(waits.whenConnected(SPACE, 1, 1_000));
  vi.advanceTimersByTime(2_000);
  expect(await other).toBe('NotEnoughReplicas');
});

test('FAULT-76 of a thread that has died nothing is connected', async () => {
  const { handle, say, exit } = links[0]!;
  say('streaming');
  handle.progress.setStreams(3);
  exit();
  expect([handle.progress.streams, handle.isStreaming]).toEqual([0, false]);
  expect(await outcome(waits.whenConnected(SPACE, 2, 1_000))).toBe('NotEnoughReplicas');
});
