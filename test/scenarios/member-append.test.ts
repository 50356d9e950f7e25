/** Appends from members that do not lead: led to who does, once, or their outcome is unknown. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { EngramError, Node } from '#src/main/index.js';
import { LED_APPENDS_MAX } from '#src/shared/limits.js';
import { contentOf, until } from '../support/cluster.js';
import { Trio } from '../support/trio.js';

const bytes = (text: string): Uint8Array => Buffer.from(text);
const LONG_MS = 20_000;
const ALL = { ack: { replicas: 2, timeoutMs: LONG_MS }, timeoutMs: LONG_MS };

let trio: Trio;
let a: Node;
let b: Node;
let c: Node;

beforeEach(async () => {
  trio = await Trio.make(['a', 'b', 'c'], true);
  [b, c, a] = await Promise.all([trio.start('b'), trio.start('c'), trio.start('a')]);
  const space = await a.openSpace('s');
  await space.append(1000, bytes('first'), { ack: { replicas: 2, timeoutMs: LONG_MS } });
});

afterEach(() => trio.close());

async function payloads(node: Node): Promise<string[]> {
  const found: string[] = [];
  for await (const { type, payload } of node.space('s').read()) {
    if (type >= 1000) found.push(Buffer.from(payload).toString());
  }
  return found;
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return await work.then(
    () => 'none',
    (error: EngramError) => error.code,
  );
}

test('any member appends; with `here` it has the entry itself when the call resolves', async () => {
  const given = bytes('by b');
  const waiting = b.append('s', 1000, given, { timeoutMs: LONG_MS, here: true });
  given.fill(0);
  const { sequence, epoch } = await waiting;
  expect([sequence, epoch]).toEqual([2, 1]);
  expect(b.space('s').status().durableSequence).toBeGreaterThanOrEqual(sequence);
  expect(await c.append('s', 1000, bytes('by c'), ALL)).toEqual({ sequence: 3, epoch: 1 });
  expect(await a.append('s', 1000, bytes('by a'), { ...ALL, here: true })).toMatchObject({
    sequence: 4,
  });
  expect(await payloads(a)).toEqual(['first', 'by b', 'by c', 'by a']);
  await until('it is on b', () => b.space('s').status().durableSequence >= 4);
  expect(await contentOf(b.space('s'))).toEqual(await contentOf(a.space('s')));
});

test('until applied: this member’s own apply has returned for it, whoever leads', async () => {
  const stateless = b.append('s', 1000, bytes('no'), { until: 'applied' });
  await expect(stateless).rejects.toMatchObject({ code: 'Configuration' });
  await trio.stop('b');
  const applied: string[] = [];
  let go!: () => void;
  const gate = new Promise<void>((resolve) => {
    go = resolve;
  });
  b = await trio.start('b', {
    applyWhenLeading: true,
    apply: async (entries) => {
      if (entries.some(({ payload }) => Buffer.from(payload).toString() === 'slow')) await gate;
      for (const { type, payload } of entries) {
        if (type >= 1000) applied.push(Buffer.from(payload).toString());
      }
    },
  });
  const asked = { timeoutMs: LONG_MS, until: 'applied' } as const;
  await b.append('s', 1000, bytes('led'), asked);
  expect(applied.at(-1)).toBe('led');
  const slow = b.append('s', 1000, bytes('slow'), { ...asked, timeoutMs: 300 });
  await expect(slow).rejects.toMatchObject({ code: 'AckTimeout', details: { epoch: 1 } });
  go();
  await b.promote('s', { force: true });
  await b.append('s', 1000, bytes('own'), asked);
  expect(applied.slice(-2)).toEqual(['slow', 'own']);
});

test('who leads refuses under its own code, and names what a condition was against', async () => {
  const before = { expected: 0, timeoutMs: LONG_MS };
  const conflict = await b.append('s', 1000, bytes('no'), before).catch((error) => error);
  expect(conflict).toMatchObject({ code: 'SequenceConflict', details: { last: 1, epoch: 1 } });
  const on = { expected: { sequence: 1, epoch: 1 }, timeoutMs: LONG_MS };
  expect(await b.append('s', 1000, bytes('yes'), on)).toMatchObject({ sequence: 2 });
  expect(await codeOf(b.append('s', 5, bytes('type')))).toBe('Configuration');
  expect(await codeOf(b.append('s', 1000, new Uint8Array(100_000)))).toBe('EntryTooLarge');
  expect(await codeOf(b.append('s', 1000, bytes(''), { here: 1 as never }))).toBe('Configuration');
  expect(await codeOf(b.append('t', 1000, bytes('')))).toBe('SpaceUnknown');
  const many = { ack: { replicas: 7 }, timeoutMs: LONG_MS };
  expect(await codeOf(b.append('s', 1000, bytes(''), many))).toBe('Configuration');
  expect(await payloads(a)).toEqual(['first', 'yes']);
});

test('another node comes to lead: the next append finds it', async () => {
  expect(await c.append('s', 1000, bytes('one'), ALL)).toMatchObject({ epoch: 1 });
  await a.switchover('s', 'b');
  expect(await c.append('s', 1000, bytes('two'), ALL)).toMatchObject({ epoch: 2 });
  expect(await a.append('s', 1000, bytes('three'), ALL)).toMatchObject({ epoch: 2 });
  expect(await payloads(b)).toEqual(['first', 'one', 'two', 'three']);
});

test('who led is dead behind something that accepts: the one who leads now is found', async () => {
  await c.append('s', 1000, bytes('by a'), ALL);
  await a.switchover('s', 'b', { timeoutMs: LONG_MS });
  await trio.stop('a');
  const one = { ack: { replicas: 1, timeoutMs: LONG_MS }, timeoutMs: LONG_MS };
  expect(await c.append('s', 1000, bytes('by b'), one)).toMatchObject({ epoch: 2 });
  expect(await payloads(b)).toEqual(['first', 'by a', 'by b']);
});

test('the link is lost on the way: nobody knows, nobody tries again', async () => {
  // Taken by a, and held up there: what c says, whose word is asked for, does not arrive.
  trio.linkOf('a', 'c').stall('back');
  const waiting = codeOf(b.append('s', 1000, bytes('held up'), ALL));
  await until('a has it', () => a.space('s').status().durableSequence >= 2);
  await trio.cut('b', 'a');
  expect(await waiting).toBe('OutcomeUnknown');
  // What was not sent is refused as what it is.
  const unsent = await codeOf(b.append('s', 1000, bytes('not sent'), { timeoutMs: 2_000 }));
  expect(['ConnectionRefused', 'NotPrimary']).toContain(unsent);
  trio.linkOf('a', 'c').flow();
  await trio.heal();
  const last = await b.append('s', 1000, bytes('later'), { timeoutMs: LONG_MS, here: true });
  expect(last.sequence).toBe(3);
  expect(await payloads(a)).toEqual(['first', 'held up', 'later']);
});

test('the caller’s deadline holds where a member is silent, or it is not here yet', async () => {
  await b.append('s', 1000, bytes('one'), { timeoutMs: LONG_MS });
  trio.linkOf('b', 'a').stall('back');
  const beganMs = performance.now();
  expect(await codeOf(b.append('s', 1000, bytes('two'), { timeoutMs: 300 }))).toBe(
    'OutcomeUnknown',
  );
  expect(performance.now() - beganMs).toBeLessThan(5_000);
  trio.linkOf('b', 'a').flow();
  // a cannot ship to b: the entry is appended, and that is told.
  await trio.cut('a', 'b');
  const late = b.append('s', 1000, bytes('three'), { timeoutMs: 1_500, here: true });
  expect(await late.catch((error) => error)).toMatchObject({
    code: 'AckTimeout',
    details: { sequence: 4, epoch: 1 },
  });
  expect(await payloads(a)).toEqual(['first', 'one', 'two', 'three']);
});

test('so many are on their way, and no more; a signal ends the wait', async () => {
  trio.linkOf('a', 'c').stall('back');
  const stop = new AbortController();
  const calls = Array.from({ length: LED_APPENDS_MAX + 10 }, () =>
    codeOf(b.append('s', 1000, bytes('x'), { ...ALL, signal: stop.signal })),
  );
  const refused = await Promise.all(calls.slice(LED_APPENDS_MAX));
  expect(new Set(refused)).toEqual(new Set(['Backpressure']));
  stop.abort();
  const codes = await Promise.all(calls);
  expect(codes.filter((code) => code === 'Aborted')).toHaveLength(LED_APPENDS_MAX);
});
