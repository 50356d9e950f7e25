/** What a primary asks members, while the threads that it asks them over come and go. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { ShipperThreads } from '#src/main/runtime/machine.js';
import { MemberQuestions } from '#src/main/ship/member-questions.js';
import { ShipperHandle } from '#src/main/ship/shipper-handle.js';
import type { FromShipper, LinkState, ShipperStart, ToShipper } from '#src/shared/link/control.js';
import { allocateProgress } from '#src/shared/memory/progress.js';

interface Thread {
  readonly asked: string[];
  readonly hooks: { message(message: FromShipper): void; exit(reason?: string): void };
}

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Questions over one link, whose threads answer nothing by themselves. */
function world(isEager = true) {
  const threads: Thread[] = [];
  const closed: number[] = [];
  const startShipper = (_: ShipperStart, hooks: Thread['hooks']) => {
    const asked: string[] = [];
    threads.push({ asked, hooks });
    const post = (message: ToShipper): void => {
      if (message.kind === 'ask') asked.push(...message.spaces.map(({ id }) => id));
      if (message.kind === 'close') closed.push(threads.length);
    };
    return { post, terminate: () => hooks.exit() };
  };
  const replica = { nodeId: 'b', host: 'host', port: 1 };
  const questions = new MemberQuestions(() => [handle]);
  const handle: ShipperHandle = new ShipperHandle(
    { startShipper } as unknown as ShipperThreads,
    { progress: allocateProgress(4), replica, maxRetries: 3 } as unknown as ShipperStart,
    isEager,
    { follow: () => undefined } as never,
    {
      message: (from, message) => {
        if (message.kind !== 'answers') return;
        for (const { id, answer } of message.rows) questions.answered(from, id, answer);
      },
      lost: (from) => questions.lost(from),
    },
  );
  return { questions, handle, threads, closed };
}

function tell({ hooks }: Thread, state: LinkState): void {
  const facts = { reason: '', failures: 0, fatal: undefined, checksumFailures: 0 };
  hooks.message({ kind: 'state', state, ...facts });
}

test('a thread that dies with a question takes no answer with it: the next one asks', async () => {
  const { questions, threads } = world();
  tell(threads[0]!, 'streaming');
  const asked = questions.ask('1f', 'space', ['b'], 5_000);
  await vi.advanceTimersByTimeAsync(100);
  expect(threads[0]!.asked).toEqual(['1f']);
  threads[0]!.hooks.exit('it was killed');
  await vi.advanceTimersByTimeAsync(1_500);
  expect(threads.length).toBe(2);
  tell(threads[1]!, 'streaming');
  await vi.advanceTimersByTimeAsync(200);
  expect(threads[1]!.asked).toEqual(['1f']);
  const answer = { known: true, epoch: 3, primary: 'c' };
  threads[1]!.hooks.message({ kind: 'answers', rows: [{ id: '1f', answer }] });
  expect(await asked).toMatchObject({ known: [{ replicaId: 'b', epoch: 3 }], silent: [] });
});

test('a link whose thread has died is one on which nothing was judged', async () => {
  const { questions, handle, threads } = world();
  tell(threads[0]!, 'streaming');
  const space = { slot: 1, replicas: ['b'] } as never;
  questions.judgedBy(handle).add(space);
  const woken = questions.judgedBy(handle).next(space);
  threads[0]!.hooks.exit('it was killed');
  await woken;
  expect(questions.judgedBy(handle).has(space)).toBe(false);
  // Nor on a space that this node leads no more.
  questions.judgedBy(handle).add(space);
  questions.judgedBy(handle).delete(space);
  expect(questions.judgedBy(handle).has(space)).toBe(false);
});

/** A member that nothing is shipped to any more, whose thread is about to end. */
async function idle(state: LinkState = 'streaming') {
  const made = world(false);
  const sets = { members: [], sets: [], voided: [] };
  made.handle.addSpaces([{ slot: 1, id: '01', name: 'one', epoch: 1, ...sets }]);
  tell(made.threads[0]!, state);
  await vi.advanceTimersByTimeAsync(10);
  made.handle.removeSpace(1);
  return made;
}

test('a thread that ends for want of work while it is asked: the next one asks', async () => {
  const { questions, threads, closed } = await idle();
  await vi.advanceTimersByTimeAsync(60_000);
  expect(closed).toEqual([1]);
  const asked = questions.ask('1f', 'space', ['b'], 5_000);
  await vi.advanceTimersByTimeAsync(100);
  threads[0]!.hooks.exit();
  await vi.advanceTimersByTimeAsync(100);
  expect(threads.map((one) => one.asked)).toEqual([[], ['1f']]);
  const answer = { known: false, epoch: 0, primary: '' };
  threads[1]!.hooks.message({ kind: 'answers', rows: [{ id: '1f', answer }] });
  expect(await asked).toMatchObject({ silent: [], met: [{ nodeId: 'b' }] });
});

test('a thread without work that is asked has time to answer before it ends', async () => {
  const { questions, closed } = await idle();
  await vi.advanceTimersByTimeAsync(59_990);
  const asked = questions.ask('1f', 'space', ['b'], 5_000);
  await vi.advanceTimersByTimeAsync(4_900);
  expect(closed).toEqual([]);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(closed).toEqual([1]);
  await asked;
});

test('neither a thread that has ended nor one that is about to leaves a question', async () => {
  for (const state of ['streaming', 'waiting'] as const) {
    const { questions, threads } = await idle(state);
    await vi.advanceTimersByTimeAsync(state === 'streaming' ? 60_000 : 59_500);
    if (state === 'streaming') tell(threads[0]!, 'closed');
    const asked = questions.ask('1f', 'space', ['b'], 5_000);
    await vi.advanceTimersByTimeAsync(150);
    // The first has ended; the second one has not: it is asked for.
    if (state === 'streaming') threads[0]!.hooks.exit();
    await vi.advanceTimersByTimeAsync(150);
    expect(threads.length).toBe(state === 'streaming' ? 2 : 1);
    tell(threads.at(-1)!, 'streaming');
    await vi.advanceTimersByTimeAsync(150);
    expect(threads.at(-1)!.asked).toEqual(['1f']);
    const answer = { known: false, epoch: 0, primary: '' };
    threads.at(-1)!.hooks.message({ kind: 'answers', rows: [{ id: '1f', answer }] });
    expect(await asked).toMatchObject({ silent: [], met: [{ nodeId: 'b' }] });
  }
});

test('a thread that dies while it is to end has died; its answers are for it alone', async () => {
  const { handle, threads, closed } = await idle();
  await vi.advanceTimersByTimeAsync(60_000);
  const { reply } = handle;
  threads[0]!.hooks.exit('it was killed');
  expect([handle.deaths, handle.link.reason]).toEqual([1, expect.stringContaining('killed')]);
  await vi.advanceTimersByTimeAsync(1_500);
  expect(threads.length).toBe(2);
  reply({ kind: 'ask', spaces: [{ id: '2f', name: 'late' }] });
  handle.reply({ kind: 'ask', spaces: [{ id: '3f', name: 'now' }] });
  expect(threads.map((one) => one.asked)).toEqual([[], ['3f']]);
  // It has nothing to do either.
  await vi.advanceTimersByTimeAsync(61_000);
  expect(closed).toEqual([1, 2]);
});
