/** An example as a process of its own: killed in the middle, run again, its promise checked. */
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { jsonCodec, openNode } from '#src/main/index.js';
import { EachTest } from '../support/cluster.js';
import { Example, engramWal, placesOf } from '../support/example.js';

const each = new EachTest();

describe('event-store.ts', () => {
  test('what was answered with ok is there, in its order, none below zero', async () => {
    const data = path.join(each.folder, 'data');
    const accounts = ['anna', 'ben', 'clara'];
    const answered = new Map(accounts.map((name) => [name, 0]));
    let asked = 0;
    for (let life = 0; life < 3; life++) {
      const store = new Example(each, 'event-store.ts', data);
      for (const name of accounts) store.say(`balance ${name}`);
      await store.until('all balances', () => store.lines.length === accounts.length);
      for (const name of accounts) {
        const [, version, balance] = (
          await store.line(new RegExp(`^ok balance ${name}: version (\\d+), balance (\\d+)$`))
        ).map(Number) as [number, number, number];
        // Each version deposits one: nothing is there twice, and nothing that was answered is not.
        expect(balance).toBe(version);
        expect(version).toBeGreaterThanOrEqual(answered.get(name)!);
        expect(version).toBeLessThanOrEqual(asked);
      }
      // More than it has: whatever was there before, none of these may pass.
      store.say(...accounts.map((name) => `withdraw ${name} 1000000`));
      for (const name of accounts) await store.line(new RegExp(`^no withdraw ${name} .*only \\d+`));
      for (let i = 0; i < 1_000; i++) store.say(...accounts.map((name) => `deposit ${name} 1`));
      asked += 1_000;
      await store.until('some answers', () => store.lines.length > 500);
      await store.kill();
      for (const name of accounts) {
        const told = store.lines.filter((line) => line.startsWith(`ok deposit ${name} `));
        const versions = told.map((line) => Number(/version (\d+)/.exec(line)![1]));
        expect(versions).toEqual([...versions].sort((a, b) => a - b));
        answered.set(name, versions.at(-1) ?? answered.get(name)!);
      }
    }
    expect(Math.min(...answered.values())).toBeGreaterThan(0);
  });

  test('SIGTERM answers what was asked for, and ends well', async () => {
    const store = new Example(each, 'event-store.ts', path.join(each.folder, 'data'));
    store.say('deposit anna 5', 'withdraw anna 6', 'withdraw anna 5', 'close anna');
    await store.until('answers', () => store.lines.length === 4);
    expect(await store.signal('SIGTERM')).toBe(0);
    expect(store.stderr).toBe('');
    expect(store.lines.toSorted()).toEqual([
      'no close anna: an amount is from 1: 100',
      'no withdraw anna 6: only 5 there',
      'ok deposit anna 5: version 1, balance 5',
      'ok withdraw anna 5: version 2, balance 0',
    ]);
  });

  test('on three machines: whoever is asked or killed, none goes below zero', async () => {
    const places = await placesOf('a', 'b', 'c');
    const dirOf = (name: string): string => path.join(each.folder, name);
    const start = (name: string): Example =>
      new Example(each, 'event-store.ts', dirOf(name), name, ...places);
    const a = start('a');
    const others = [start('b'), start('c')];
    const all = [a, ...others];
    a.say('deposit anna 20');
    await a.line(/^ok deposit anna 20/);
    for (const store of others) {
      await store.until('it has the account', () => {
        if (store.lines.at(-1) === undefined || /^no/.test(store.lines.at(-1)!)) {
          store.say('balance anna');
        }
        return store.lines.some((line) => line.startsWith('ok balance anna'));
      });
    }
    const oks = (): string[] =>
      all.flatMap((store) => store.lines.filter((line) => /^ok (deposit|withdraw)/.test(line)));
    const busy = (...stores: Example[]): void => {
      for (const store of stores) {
        for (let n = 0; n < 40; n++) store.say('withdraw anna 7', 'deposit anna 5');
      }
    };
    busy(...all);
    await a.until('commits', () => oks().length > 40);
    await a.kill();
    await engramWal('promote', dirOf('b'), '--space', 'anna');
    const before = others.map((store) => store.lines.filter((line) => /^ok/.test(line)).length);
    busy(...others);
    await others[0]!.until('both go on', () =>
      others.every((store, i) => {
        return store.lines.filter((line) => /^ok dep/.test(line)).length > before[i]! / 2 + 5;
      }),
    );
    const again = start('a');
    all.push(again);
    busy(again);
    expect(await again.end()).toBe(0);
    for (const store of others) expect(await store.end()).toBe(0);

    // The truth, by the log of the last leader.
    const node = await openNode({ dataDir: dirOf('b'), nodeId: 'b', clusterId: 'accounts' });
    each.finally(() => node.close());
    const space = await node.openSpace('anna', {
      codec: jsonCodec<{ kind: string; amount: number }[]>(),
    });
    let balance = 0;
    const after = new Map<number, string>();
    for await (const { sequence, value } of space.read()) {
      for (const { kind, amount } of value) balance += kind === 'deposited' ? amount : -amount;
      expect(balance).toBeGreaterThanOrEqual(0);
      after.set(sequence, `${value[0]!.kind} ${balance}`);
    }
    const told = oks().map((line) => {
      const [, verb, version, is] = /^ok (\w+) .*version (\d+), balance (\d+)$/.exec(line)!;
      return [Number(version), `${verb === 'deposit' ? 'deposited' : 'withdrawn'} ${is}`] as const;
    });
    expect(told.length).toBeGreaterThan(80);
    // Each answer is an entry of its own, and says the balance that it left.
    expect(new Set(told.map(([version]) => version)).size).toBe(told.length);
    for (const [version, text] of told) expect(after.get(version)).toBe(text);
    expect([...others, again].map((store) => store.stderr)).toEqual(['', '', '']);
  }, 180_000);
});
