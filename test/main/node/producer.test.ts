/** Threads of a host that append by themselves: order, guarantees, and what their end leaves. */
import { setTimeout as sleep } from 'node:timers/promises';
import vm from 'node:vm';
import { describe, expect, test } from 'vitest';
import {
  type AppendOptions,
  attachProducer,
  type EngramError,
  type Producer,
} from '#src/main/index.js';
import { PRODUCERS_MAX } from '#src/shared/limits.js';
import { at, EachTest, until } from '../../support/cluster.js';
import { openFake } from '../../support/fake-cluster.js';
import { FakeDisk } from '../../support/fake-disk.js';
import { countsIn, openedAgain, Thread } from '../../support/producing.js';
import { Trio } from '../../support/trio.js';

const life = new EachTest();

const codeOf = async (work: Promise<unknown>): Promise<string | undefined> =>
  await work.then(
    () => undefined,
    (error: EngramError) => error.code,
  );

describe('producers in threads', () => {
  test('two on one space, one on another: each in order, told its own sequences', async () => {
    const node = await life.start('a');
    const [one, other] = [await node.openSpace('one'), await node.openSpace('other')];
    const job = { count: 3_000, bytes: 300 };
    const threads = [
      new Thread(life, one.producer(), 'x', job),
      new Thread(life, one.producer(), 'y', job),
      new Thread(life, other.producer(), 'z', job),
    ];
    const [x, y, z] = await Promise.all(threads.map(({ told }) => told));
    expect([x!.codes, y!.codes, z!.codes]).toEqual([{}, {}, {}]);
    expect(await countsIn(other)).toEqual(new Map([['z', 3_000]]));
    const found: Record<string, number[]> = { x: [], y: [] };
    for await (const { sequence, payload } of one.read()) {
      found[Buffer.from(payload).toString().split(':')[0]!]!.push(sequence);
    }
    expect(found.x).toEqual(x!.tokens.map((token) => token!.sequence));
    expect(found.y).toEqual(y!.tokens.map((token) => token!.sequence));
    expect(x!.tokens.every((token) => token!.epoch === 1)).toBe(true);
    // Each has given its producer back: as many may be made again.
    for (let i = 0; i < PRODUCERS_MAX; i++) one.producer({ ringBytes: 65_536 });
    expect(() => one.producer()).toThrow('Configuration');
  });

  test('a conditional append beside them is taken only right behind what it names', async () => {
    const space = await (await life.start('a')).openSpace('s');
    const threads = ['x', 'y'].map((id) => new Thread(life, space.producer(), id, { atOnce: 4 }));
    await until('both append', () => threads.every(({ acked }) => acked > 0));
    const taken = new Map<number, number>();
    for (let n = 0; taken.size < 20; n++) {
      const expected = space.status().lastHostSequence;
      const payload = Buffer.from(`main:${taken.size}:`);
      const appended = await space.append(1000, payload, { expected }).catch((e) => e);
      if (appended.sequence) taken.set(appended.sequence, expected);
      else expect(appended.code).toBe('SequenceConflict');
      // Whoever decides with the freshest figure wins now and then.
      if (n % 8 === 7) await sleep(1);
    }
    for (const { worker } of threads) await worker.terminate();
    for (const [sequence, expected] of taken) expect(sequence).toBe(expected + 1);
    expect((await countsIn(space)).get('main')).toBe(20);
  });

  test('it asks for replicas as append does, and fails as append does', async () => {
    const b = await life.start('b', { listen: { host: '127.0.0.1', port: 0 } });
    const a = await life.start('a', { replicas: [at('b', b.address!.port)] });
    const space = await a.openSpace('s');
    const acked = { count: 200, options: { ack: { replicas: 1 } } };
    const thread = new Thread(life, space.producer(), 'x', acked);
    const { codes, tokens } = await thread.told;
    expect([codes, tokens.length]).toEqual([{}, 200]);
    const { durableSequence } = b.space('s').status();
    expect(durableSequence).toBeGreaterThanOrEqual(tokens.at(-1)!.sequence);

    const p = attachProducer(space.producer());
    const ack = { replicas: 2 };
    expect(await codeOf(p.append(1000, Buffer.from('x:0'), { ack }))).toBe('Configuration');
    await b.close();
    const short = { ack: { replicas: 1, timeoutMs: 300 } };
    const own = await codeOf(space.append(1000, Buffer.from('m:0'), short));
    expect(['AckTimeout', 'NotEnoughReplicas']).toContain(own);
    await sleep(300);
    // None, or less than a millisecond, is a time as well, and more than 2^32 replicas are many.
    for (const timeoutMs of [0, 0.5]) {
      const none = { ack: { replicas: 1, timeoutMs } };
      expect(await codeOf(p.append(1000, Buffer.from('x:0'), none))).toBe('NotEnoughReplicas');
    }
    const many = { ack: { replicas: 2 ** 32 } };
    expect(await codeOf(p.append(1000, Buffer.from('x:0'), many))).toBe('Configuration');
    // What asks for less, behind it, gets it.
    const both = [p.append(1000, Buffer.from('x:1'), short), p.append(1000, Buffer.from('x:2'))];
    const codesNow = await Promise.all(both.map(codeOf));
    expect(codesNow).toEqual([
      await codeOf(space.append(1000, Buffer.from('m:1'), short)),
      undefined,
    ]);
    await p.close();
  });

  test('what it is given is checked where it is given', async () => {
    const node = await life.start('a');
    const space = await node.openSpace('s');
    const producer = space.producer();
    const p = attachProducer(producer);
    expect(() => attachProducer(producer)).toThrow('attached already');
    expect(() => attachProducer({} as Producer)).toThrow('Configuration');
    const { memory, ...rest } = space.producer();
    for (const bytes of [0, 10, 300_000, memory.byteLength - 8]) {
      const foreign = { ...rest, memory: new SharedArrayBuffer(bytes) };
      expect(() => attachProducer(foreign)).toThrow('Configuration');
    }
    // A thread whose code runs in a context of its own has other constructors.
    const kin = vm.runInNewContext(`new SharedArrayBuffer(${memory.byteLength})`);
    expect(attachProducer({ ...rest, memory: kin }).space).toBe('s');
    expect(() => space.producer({ ringBytes: 1 })).toThrow('ringBytes');
    const large = Buffer.alloc(16 * 1024 + 1);
    expect(await codeOf(p.append(1000, large))).toBe('EntryTooLarge');
    expect(() => p.tryAppend(1000, large)).toThrow('EntryTooLarge');
    expect(await codeOf(p.append(5, Buffer.alloc(1)))).toBe('Configuration');
    const unknown = { wait: false } as AppendOptions;
    expect(await codeOf(p.append(1000, Buffer.alloc(1), unknown))).toBe('Configuration');
    const signal = AbortSignal.abort();
    expect(await codeOf(p.append(1000, Buffer.alloc(1), { signal }))).toBe('Aborted');
    expect(await p.append(1000, large.subarray(1))).toEqual({ sequence: 1, epoch: 1 });
    expect(p.tryAppend(1000, new Uint8Array(0))).toBe(true);
    await p.flushed();
    expect(space.status().durableSequence).toBe(2);
    await p.close();
    expect(await codeOf(p.append(1000, Buffer.alloc(1)))).toBe('Closed');
    const late = attachProducer(space.producer());
    await node.close();
    expect(await codeOf(late.append(1000, Buffer.alloc(1)))).toBe('Closed');
    expect(() => space.producer()).toThrow('Closed');
  });

  test('a full ring: tryAppend says so, append waits, and after 5 s Backpressure', async () => {
    const space = await (await life.start('a')).openSpace('s');
    const p = attachProducer(space.producer({ ringBytes: 65_536 }));
    const payload = (n: number): Buffer =>
      Buffer.concat([Buffer.from(`x:${n}:`), Buffer.alloc(900)]);
    let put = 0;
    while (p.tryAppend(1000, payload(put))) put++;
    expect(put).toBeGreaterThan(60);
    const waiting = [p.append(1000, payload(put)), p.append(1000, payload(put + 1))];
    expect(p.tryAppend(1000, payload(0))).toBe(false);
    const tokens = await Promise.all(waiting);
    expect(tokens.map(({ sequence }) => sequence)).toEqual([put + 1, put + 2]);
    expect(await countsIn(space)).toEqual(new Map([['x', put + 2]]));

    // Main does nothing for so long: the thread is told by its own clock.
    const busy = { bytes: 900, atOnce: 400, untilError: true };
    const thread = new Thread(life, space.producer({ ringBytes: 65_536 }), 'y', busy);
    await until('it appends', () => thread.acked > 0);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5_500);
    expect(Object.keys((await thread.told).codes)).toEqual(['Backpressure']);
  });

  test('a node that closes under load: all is settled, what is acknowledged is there', async () => {
    const node = await life.start('a');
    const spaces = [await node.openSpace('s'), await node.openSpace('t')];
    const threads = spaces.map(
      (space) => new Thread(life, space.producer(), 'x', { untilError: true }),
    );
    await until('both append', () => threads.every(({ acked }) => acked > 500));
    const again = await openedAgain(life, node, 'a');
    for (const [i, { told }] of threads.entries()) {
      const { codes, tokens } = await told;
      expect(Object.keys(codes)).toEqual(['Closed']);
      const count = (await countsIn(again.space(spaces[i]!.name))).get('x')!;
      expect(count).toBe(tokens.length);
    }
  });

  test('a space that another node leads now: nothing acknowledged is lost', async () => {
    const trio = await Trio.make(['a', 'b']);
    life.finally(() => trio.close());
    const [a] = [await trio.start('a', { lead: true }), await trio.start('b')];
    const space = await a!.openSpace('s');
    const thread = new Thread(life, space.producer(), 'x', { untilError: true, atOnce: 16 });
    await until('it appends', () => thread.acked > 200);
    await a!.switchover('s', 'b');
    const { codes, tokens } = await thread.told;
    expect(Object.keys(codes).length).toBeGreaterThan(0);
    const allowed = ['NotPrimary', 'SwitchingOver', 'Fenced'];
    expect(Object.keys(codes).filter((code) => !allowed.includes(code))).toEqual([]);
    const there = new Set<string>();
    for await (const { sequence, payload } of trio.open.get('b')!.space('s').read()) {
      there.add(`${sequence} ${Buffer.from(payload).toString().split(':')[1]}`);
    }
    const lost = tokens.flatMap((token, n) =>
      token && !there.has(`${token.sequence} ${n}`) ? [n] : [],
    );
    expect(lost).toEqual([]);
  });

  test('a full disk and a failed one: the same errors, and it goes on after', async () => {
    const disk = new FakeDisk();
    const node = await openFake(disk);
    const space = await node.openSpace('s');
    const p = attachProducer(space.producer());
    await p.append(1000, Buffer.from('x:0:'));
    disk.inject({ call: 1, errno: 'ENOSPC', only: 'write' });
    expect(await codeOf(p.append(1000, Buffer.from('x:1:')))).toBe('DiskFull');
    expect(p.tryAppend(1000, Buffer.from('x:1:'))).toBe(true);
    expect(await codeOf(p.flushed())).toBe('DiskFull');
    disk.inject(undefined);
    await until('it goes on', () => node.status().log.state === 'ok');
    expect((await p.append(1000, Buffer.from('x:1:'))).sequence).toBe(2);
    await p.flushed();
    disk.inject({ call: 1, errno: 'EIO', only: 'fdatasync' });
    expect(await codeOf(p.append(1000, Buffer.from('x:2:')))).toBe('WalFailed');
    expect(await codeOf(p.append(1000, Buffer.from('x:3:')))).toBe('WalFailed');
    await node.close().catch(() => undefined);
    disk.inject(undefined);
    expect(await codeOf(p.append(1000, Buffer.from('x:4:')))).toBe('Closed');
  });

  test.each(['per-write', 'none'] as const)('fsync %s: as for append', async (fsync) => {
    const node = await life.start('a', { fsync });
    const space = await node.openSpace('s');
    const thread = new Thread(life, space.producer(), 'x', { count: 300 });
    expect((await thread.told).codes).toEqual({});
    if (fsync === 'per-write') expect(node.status().fdatasync.count).toBeGreaterThan(300);
    const again = await openedAgain(life, node, 'a');
    expect(await countsIn(again.space('s'))).toEqual(new Map([['x', 300]]));
  });
});
