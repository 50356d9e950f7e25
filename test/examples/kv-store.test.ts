/** An example as a process of its own: killed in the middle, run again, its promise checked. */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { EachTest } from '../support/cluster.js';
import { Example, engramWal, placesOf } from '../support/example.js';

const each = new EachTest();

describe('kv-store.ts', () => {
  const VALUE = 'v'.repeat(16_000);

  /** The answer to the one command that is under way. */
  async function ask(store: Example, command: string): Promise<string> {
    const told = store.lines.length;
    store.say(command);
    await store.until(command, () => store.lines.length > told);
    return store.lines[told]!;
  }
  /** `no` until it has the space, and can ask who leads it. */
  const count = (store: Example, expected: unknown): Promise<unknown> =>
    expect.poll(() => ask(store, 'count'), { timeout: 40_000, interval: 100 }).toEqual(expected);
  const counted = async (store: Example): Promise<number> =>
    Number(/^(\d+) keys/.exec(await ask(store, 'count'))![1]);

  test('survives kill -9; an empty follower gets the state, and what comes after it', async () => {
    const places = await placesOf('a', 'b');
    const start = (name: string): Example =>
      new Example(each, 'kv-store.ts', path.join(each.folder, name), name, ...places);
    let a = start('a');
    for (let i = 0; i < 1_500; i++) a.say(`put key-${i} ${VALUE}${i}`);
    const acked = (store: Example): number =>
      store.lines.filter((line) => line.startsWith('ok')).length;
    const allAcked = async (store: Example, number: number): Promise<void> =>
      store.until(`${number} answers`, () => acked(store) === number);
    await a.until('most answers', () => acked(a) > 1_000);
    await a.kill();
    const last = acked(a) - 1;
    a = start('a');
    expect(await ask(a, 'get key-0')).toBe(`${VALUE}0`);
    expect(await ask(a, `get key-${last}`)).toBe(`${VALUE}${last}`);
    expect(await ask(a, 'del key-0')).toMatch(/^ok/);
    // What is saved is not kept in the log as well, nor for one that is away, beyond a bound.
    expect(await ask(a, 'save')).toMatch(/^saved \d+$/);
    for (let i = 0; i < 1_500; i++) a.say(`put more-${i} ${VALUE}`);
    await allAcked(a, 1_501);
    await ask(a, 'save');
    const wanted = await counted(a);
    expect(wanted).toBeGreaterThanOrEqual(last + 1_500);
    await a.until('the beginning is freed', () => {
      const names = fs.readdirSync(path.join(each.folder, 'a/log'));
      return !names.includes('wal-0000000000000000.log');
    });

    let b = start('b');
    await count(b, expect.stringContaining(`${wanted} keys`));
    expect(fs.existsSync(path.join(each.folder, 'b/state'))).toBe(true);
    // Killed under load; what it lacks comes to it from the log.
    for (let i = 0; i < 500; i++) a.say(`put late-${i} ${VALUE}`);
    await a.until('some answers', () => acked(a) > 1_600);
    await b.kill();
    await allAcked(a, 2_001);
    await ask(a, 'put last one');
    await ask(a, 'del late-0');
    expect(await counted(a)).toBe(wanted + 500);
    b = start('b');
    await count(b, expect.stringContaining(`${wanted + 500} keys`));
    expect(await ask(b, 'get last')).toBe('one');
    expect(await ask(b, 'get late-0')).toBe('(none)');
    // Either takes changes, and either shows them at once.
    expect(await ask(b, 'put here too')).toMatch(/^ok/);
    expect(await ask(a, 'get here')).toBe('too');

    // The leader is lost, and comes back with what nobody else had got of it.
    const before = await ask(b, 'count');
    expect(before).toContain(`${wanted + 501} keys`);
    // Not stopped: what had come as far as its socket would be its own when it goes on.
    await b.kill();
    for (let i = 0; i < 5; i++) expect(await ask(a, `put lost-${i} x`)).toMatch(/^ok/);
    await a.kill();
    b = start('b');
    expect(await ask(b, 'save')).toMatch(/^saved/);
    await engramWal('promote', path.join(each.folder, 'b/log'), '--space', 'kv');
    expect(await ask(b, 'put led by-b')).toMatch(/^ok/);
    a = start('a');
    await count(a, await ask(b, 'count'));
    expect(await ask(a, 'get led')).toBe('by-b');
    expect(await ask(a, 'get lost-4')).toBe('(none)');
    expect(await ask(a, 'put again a')).toMatch(/^ok/);
    expect(await ask(b, 'get again')).toBe('a');
    expect(await b.signal('SIGTERM')).toBe(0);
    expect(await a.signal('SIGTERM')).toBe(0);
    expect([a.stderr, b.stderr]).toEqual(['', '']);
  }, 180_000);
});
