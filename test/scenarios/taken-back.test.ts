/**
 * Entries that a rewind takes back, and those who read, follow or wait for them meanwhile: what
 * each is given is one history, or Rewound (FAULTS rows 109, 110).
 */
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { EngramError, Entry, Node, Space } from '#src/main/index.js';
import { until } from '../support/cluster.js';
import { Trio } from '../support/trio.js';

let trio: Trio;

beforeEach(async () => {
  trio = await Trio.make(['a', 'b'], true);
});

afterEach(() => trio.close());

const code = (error: unknown): string => (error as EngramError).code ?? `bare ${String(error)}`;

async function fill(space: Space, entries: number, bytes = 8): Promise<void> {
  const waiting = [];
  for (let n = 0; n < entries; n++) {
    waiting.push(space.append(1, Buffer.from(`${space.status().epoch} `.padEnd(bytes, '.'))));
  }
  await Promise.all(waiting);
}

/** `a` leads, `b` has what stands before `more`, `a` alone the rest. */
async function diverged(shared: number, more: number, bytes?: number): Promise<[Node, Node]> {
  const a = await trio.start('a');
  const b = await trio.start('b');
  await fill(await a.openSpace('s'), shared, bytes);
  await trio.settled('a', 's', 1);
  await trio.isolate('a');
  await fill(a.space('s'), more, bytes);
  return [a, b];
}

/** `b` leads in the next epoch, with so many entries; `a` comes back and goes with it. */
async function overtaken(a: Node, b: Node, entries: number, bytes?: number): Promise<void> {
  const before = trio.heard('a', 'rewound').length;
  await b.promote('s', { force: true });
  await fill(b.space('s'), entries, bytes);
  await trio.heal();
  await until('it has gone back', () => trio.heard('a', 'rewound').length > before);
  const { durableSequence } = b.space('s').status();
  await until('it follows', () => a.space('s').status().durableSequence === durableSequence);
}

const lineOf = (e: Entry): string => `${e.epoch}/${e.sequence}`;

/** Takes entries until it has `count`, there is none left, or an error comes. */
async function take(from: AsyncGenerator<Entry>, count: number): Promise<string[]> {
  const given: string[] = [];
  try {
    while (given.length < count) {
      const { done, value } = await from.next();
      if (done) break;
      given.push(lineOf(value as Entry));
    }
  } catch (error) {
    given.push(`${code(error)} ${JSON.stringify((error as EngramError).details)}`);
  }
  return given;
}

test('FAULT-110 who stands before what is taken back goes on in the true history', async () => {
  const [a, b] = await diverged(5, 0);
  const space = a.space('s');
  const live = space.subscribe();
  const early = space.subscribe();
  const read = space.read({ to: 10 });
  expect(await take(live, 5)).toEqual(['1/1', '1/2', '1/3', '1/4', '1/5']);
  // From here on it follows live, and the pieces that it has not taken are void.
  const waiting = take(live, 1);
  await fill(space, 5);
  expect(await waiting).toEqual(['1/6']);
  expect(await take(early, 3)).toEqual(['1/1', '1/2', '1/3']);
  expect(await take(read, 3)).toEqual(['1/1', '1/2', '1/3']);
  const whole = space.subscribe();
  expect((await take(whole, 10)).length).toBe(10);
  const last = take(whole, 1);
  const ended = space.read();
  expect((await take(ended, 10)).at(-1)).toBe('1/10');
  await overtaken(a, b, 3);
  expect(await take(early, 6)).toEqual(['1/4', '1/5', '2/6', '2/7', '2/8', '2/9']);
  expect(await take(read, 9)).toEqual(['1/4', '1/5', '2/6', '2/7', '2/8', '2/9']);
  const rewound = [`Rewound ${JSON.stringify({ from: 6 })}`];
  expect(await take(live, 9)).toEqual(rewound);
  expect(await last).toEqual(rewound);
  expect(await take(ended, 9)).toEqual(rewound);
  await early.return(undefined);
});

test('FAULT-110 backwards: what was taken back, and whoever was given some of it', async () => {
  const [a, b] = await diverged(5, 4);
  const space = a.space('s');
  const begun = space.read({ reverse: true });
  const fresh = space.read({ reverse: true, to: 20 });
  const below = space.read({ reverse: true, to: 5 });
  const last = space.read({ last: 2 });
  expect(await take(begun, 2)).toEqual(['1/9', '1/8']);
  expect(await take(below, 2)).toEqual(['1/5', '1/4']);
  await overtaken(a, b, 2);
  expect(await take(begun, 9)).toEqual([`Rewound ${JSON.stringify({ from: 6 })}`]);
  expect(await take(fresh, 3)).toEqual(['2/8', '2/7', '2/6']);
  expect(await take(below, 9)).toEqual(['1/3', '1/2', '1/1']);
  expect(await take(last, 9)).toEqual(['2/7', '2/8']);
  await fresh.return(undefined);
});

test('FAULT-110 live runs that wait for a subscriber are void with what they hold', async () => {
  const [a, b] = await diverged(5, 0);
  const space = a.space('s');
  const live = space.subscribe();
  expect((await take(live, 4)).length).toBe(4);
  // It comes to the live end, and has not asked again when more is handed over.
  expect(await take(live, 1)).toEqual(['1/5']);
  const waiting = live.next();
  await fill(space, 1);
  expect(lineOf((await waiting).value as Entry)).toBe('1/6');
  await overtaken(a, b, 4);
  await trio.settled('b', 's', 1);
  // Back to its own: it leads again, alone, and is overtaken below where nobody has read.
  await live.return(undefined);
  const second = space.subscribe({ from: 8 });
  expect(await take(second, 3)).toEqual(['2/8', '2/9', '2/10']);
  const third = second.next();
  await a.promote('s');
  expect(lineOf((await third).value as Entry)).toBe('3/11');
  await trio.settled('a', 's', 1);
  await trio.isolate('a');
  // Handed over one by one while it does not ask.
  for (let n = 0; n < 5; n++) await fill(space, 1);
  await overtaken(a, b, 3);
  expect(await take(second, 4)).toEqual(['4/12', '4/13', '4/14', '4/15']);
  await second.return(undefined);
});

test('FAULT-110 a reading that has passed a rewind is not told of it afterwards', async () => {
  const [a, b] = await diverged(100, 50, 4_000);
  const space = a.space('s');
  const log = space.subscribe();
  const given = await take(log, 3);
  await overtaken(a, b, 60, 4_000);
  given.push(...(await take(log, 158)));
  const wanted = Array.from({ length: 161 }, (_, n) => `${n < 100 ? 1 : 2}/${n + 1}`);
  expect(given).toEqual(wanted);
  const live = log.next();
  await fill(b.space('s'), 1, 4_000);
  expect(lineOf((await live).value as Entry)).toBe('2/162');
  await log.return(undefined);
}, 60_000);

test('FAULT-110 several rewinds, above and below where an iterator stands', async () => {
  const [a, b] = await diverged(20, 10);
  const space = a.space('s');
  const low = space.subscribe();
  const middle = space.subscribe();
  expect((await take(low, 10)).length).toBe(10);
  expect((await take(middle, 20)).at(-1)).toBe('1/20');
  await overtaken(a, b, 5);
  expect(await take(middle, 3)).toEqual(['2/21', '2/22', '2/23']);
  // Again, higher up: what `middle` has been given stays.
  await trio.settled('b', 's', 1);
  await a.promote('s');
  await trio.settled('a', 's', 1);
  await trio.isolate('a');
  await fill(space, 4);
  const high = space.subscribe({ from: 27 });
  expect(await take(high, 3)).toEqual(['3/27', '3/28', '3/29']);
  await overtaken(a, b, 6);
  expect(await take(high, 3)).toEqual([`Rewound ${JSON.stringify({ from: 28 })}`]);
  const wanted = ['2/24', '2/25', '2/26', '3/27', '4/28', '4/29'];
  expect(await take(middle, 6)).toEqual(wanted);
  const fromTen = Array.from({ length: 10 }, (_, n) => `1/${n + 11}`);
  expect(await take(low, 19)).toEqual([...fromTen, '2/21', '2/22', '2/23', ...wanted.slice(0)]);
  await low.return(undefined);
  await middle.return(undefined);
}, 60_000);

const settled = (wait: Promise<unknown>): Promise<string> => wait.then(() => 'flushed', code);

test('FAULT-109 a wait ends with the history that it was begun in', async () => {
  const [a, b] = await diverged(5, 5);
  const space = a.space('s');
  const timeoutMs = 20_000;
  const ofReplicas = settled(space.flushed(20, { replicas: 1, timeoutMs }));
  const here = settled(space.flushed(20, { timeoutMs }));
  const onReplica = settled(b.space('s').flushed(6, { timeoutMs }));
  const beganMs = performance.now();
  await overtaken(a, b, 3);
  expect(await Promise.all([ofReplicas, here, onReplica])).toEqual(['Fenced', 'Fenced', 'Fenced']);
  expect(performance.now() - beganMs).toBeLessThan(timeoutMs / 2);
  // In this history it comes, and is waited for.
  const again = settled(space.flushed(12, { timeoutMs }));
  await fill(b.space('s'), 3);
  expect(await again).toBe('flushed');
}, 60_000);

test('FAULT-110 a node leads only once its host has undone what was taken back', async () => {
  const calls = new Set<string>();
  let isReady = false;
  const host = {
    apply: () => undefined,
    rewound: () => {
      calls.add('rewound');
      if (!isReady) throw new Error('not yet');
      calls.add('undone');
    },
  };
  const a = await trio.start('a', host);
  const b = await trio.start('b');
  await fill(await a.openSpace('s'), 5);
  await trio.settled('a', 's', 1);
  await trio.isolate('a');
  await fill(a.space('s'), 5);
  await overtaken(a, b, 2);
  await until('it is told', () => calls.size > 0);
  const promoted = a.promote('s').then(() => calls.add('promoted'));
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect([...calls]).toEqual(['rewound']);
  isReady = true;
  await promoted;
  expect([...calls]).toEqual(['rewound', 'undone', 'promoted']);
});

test('FAULT-112 `rewound` never returns: neither log nor force waits', async () => {
  const host = { apply: () => undefined, rewound: () => new Promise<never>(() => undefined) };
  const a = await trio.start('a', { ...host, hostTimeoutMs: 300 });
  const b = await trio.start('b');
  await fill(await a.openSpace('s'), 5);
  await trio.settled('a', 's', 1);
  await trio.isolate('a');
  await fill(a.space('s'), 5);
  await overtaken(a, b, 2);
  await fill(b.space('s'), 3);
  await trio.settled('b', 's', 1);
  await until('it is told', () => trio.heard('a', 'apply-blocked').length > 0);
  const block = { sequence: 6, reason: 'silent', callback: 'rewound' };
  expect(trio.heard('a', 'apply-blocked')).toMatchObject([block]);
  await expect(a.promote('s')).rejects.toThrow("the host's rewound() has not returned for 300 ms");
  // Asked to take over, it says so, and the one that leads goes on.
  await expect(b.switchover('s', 'a', { timeoutMs: 3_000 })).rejects.toThrow('rewound()');
  await fill(b.space('s'), 1);
  const { applyBlocked } = await a.promote('s', { force: true });
  expect(applyBlocked).toMatchObject(block);
  await fill(a.space('s'), 1);
}, 40_000);

test('FAULT-110 what a host has yet to undo counts as applied nowhere', async () => {
  let undone: () => void = () => undefined;
  const gate = new Promise<void>((resolve) => (undone = resolve));
  const a = await trio.start('a', { apply: () => undefined, rewound: () => gate });
  const b = await trio.start('b');
  await fill(await a.openSpace('s'), 5);
  await trio.settled('a', 's', 1);
  await trio.isolate('a');
  await fill(a.space('s'), 10);
  await overtaken(a, b, 3);
  const seen = () => b.space('s').status().replicas[0]!;
  await until('it is acknowledged', () => seen().ackedSequence >= 9);
  await fill(b.space('s'), 1);
  await until('that, too', () => seen().ackedSequence >= 10);
  expect(a.space('s').status().appliedSequence).toBe(5);
  expect(seen().appliedSequence).toBe(5);
  undone();
  await until('all is applied', () => seen().appliedSequence >= 10);
});
