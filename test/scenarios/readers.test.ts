/** Many readers, slow readers, readers that are left: what they hold, and that it ends. */
import fs from 'node:fs';
import path from 'node:path';
import v8 from 'node:v8';
import vm from 'node:vm';
import { describe, expect, test } from 'vitest';
import type { Entry, Node, Space } from '#src/main/index.js';
import { openNodeOn } from '#src/main/node/open-node.js';
import { pause } from '#src/main/runtime/deadline.js';
import type { Disk } from '#src/main/segments/disk.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { EachTest, SMALL, until } from '../support/cluster.js';

const each = new EachTest();

/** 64 MiB, of which readers may hold an eighth, and what is kept live another eighth. */
const BUDGET = { memoryBudgetBytes: 64 * 1024 * 1024, segmentBytes: 4 * 1024 * 1024 };
const EIGHTH = BUDGET.memoryBudgetBytes / 8;

async function fill(space: Space, bytes: number, size: number): Promise<void> {
  const payloads = Array.from({ length: 100 }, () => Buffer.alloc(size, 7));
  for (let done = 0; done < bytes; done += 100 * size) await space.appendBatch(1, payloads);
}

/** Memory of payloads and windows that somebody can still reach. */
async function reachableBytes(): Promise<number> {
  v8.setFlagsFromString('--expose-gc');
  const collect = vm.runInNewContext('gc') as () => void;
  collect();
  // What nobody reaches is given back by a thread of V8's: that takes a moment.
  await pause(100);
  collect();
  return process.memoryUsage().arrayBuffers;
}

function descriptorsIn(folder: string): string[] {
  return fs.readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const name = fs.readlinkSync(`/proc/self/fd/${fd}`);
      return name.startsWith(folder) ? [name] : [];
    } catch {
      return [];
    }
  });
}

describe('what readers hold', () => {
  test('FAULT-93 a kept entry keeps its own bytes, wherever it came from', async () => {
    const node = await each.start('a', BUDGET);
    const space = await node.openSpace('s');
    const live: Entry[] = [];
    const stop = new AbortController();
    const following = (async () => {
      for await (const entry of space.subscribe({ signal: stop.signal })) {
        if (entry.sequence % 100 === 0) live.push(entry);
      }
    })();
    await fill(space, 8 * 1024 * 1024, 300);
    const last = space.status().durableSequence;
    await until('the subscriber has all', () => live.at(-1)?.sequence === last);
    stop.abort();
    await following;
    const read: Entry[] = [];
    for await (const entry of space.read()) if (entry.sequence % 100 === 0) read.push(entry);
    for (const kept of [live, read]) {
      expect(kept.length).toBe(last / 100);
      const memory = new Set(kept.map((entry) => entry.payload.buffer));
      const bytes = [...memory].reduce((sum, { byteLength }) => sum + byteLength, 0);
      expect(bytes).toBeLessThanOrEqual(kept.length * 4_096);
    }
    // A long one does not share.
    await space.append(1, Buffer.alloc(5_000, 1));
    for await (const { payload } of space.read({ from: last + 1 })) {
      expect(payload.buffer.byteLength).toBe(5_000);
    }
  });

  test('FAULT-93 hundreds of subscribers that stop share one bound', async () => {
    const node = await each.start('a', BUDGET);
    const space = await node.openSpace('s');
    await space.append(1, Buffer.from('first'));
    // Each has waited for what comes, has taken it, and its host does not come back for more.
    const idle = Array.from({ length: 200 }, () => space.subscribe());
    for (const one of idle) expect((await one.next()).value?.sequence).toBe(1);
    const waiting = idle.map((one) => one.next());
    await space.append(1, Buffer.from('second'));
    for (const one of waiting) expect((await one).value?.sequence).toBe(2);
    const before = await reachableBytes();
    let most = 0;
    for (let round = 0; round < 24; round++) {
      await fill(space, 1024 * 1024, 1_000);
      most = Math.max(most, node.summary().memory.readAhead);
    }
    expect((await reachableBytes()) - before).toBeLessThan(16 * 1024 * 1024);
    expect(most).toBeLessThanOrEqual(EIGHTH + 200 * 1_024);
    // They come back, one entry each, and stop again: in the middle of a piece.
    for (const one of idle) expect((await one.next()).value?.sequence).toBe(3);
    expect(node.summary().memory.readAhead).toBeLessThanOrEqual(2 * EIGHTH);
    expect(node.summary().memory.readAhead).toBeGreaterThan(0);
    const last = space.status().durableSequence;
    // However little there was for them, they get all of it.
    const rest = idle[7]!;
    for (let next = 4; next <= last; next++) expect((await rest.next()).value?.sequence).toBe(next);
    for (const one of idle) await one.return(undefined);
    expect(node.summary().memory.readAhead).toBe(0);
  });

  test('FAULT-93 subscribers of many spaces share what is kept live', async () => {
    const node = await each.start('a', BUDGET);
    const spaces = await Promise.all(
      Array.from({ length: 40 }, (_, i) => node.openSpace(`tenant-${i}`)),
    );
    const waiting = spaces.map((space) => space.subscribe());
    const first = waiting.map((one) => one.next());
    const before = await reachableBytes();
    for (const space of spaces) await fill(space, 1024 * 1024, 1_000);
    expect((await Promise.all(first)).map(({ value }) => value?.sequence)).toEqual(
      spaces.map(() => 1),
    );
    expect((await reachableBytes()) - before).toBeLessThan(2 * EIGHTH + 4 * 1024 * 1024);
    expect(node.summary().memory.readAhead).toBeLessThanOrEqual(2 * EIGHTH);
    for (const [i, one] of waiting.entries()) {
      const last = spaces[i]!.status().durableSequence;
      for (let next = 2; next <= last; next++) {
        expect((await one.next()).value?.sequence).toBe(next);
      }
      await one.return(undefined);
    }
    expect(node.summary().memory.readAhead).toBe(0);
  });
});

describe('a read without `from`', () => {
  test('begins at the first retained entry, whatever is freed meanwhile', async () => {
    const node = await each.start('a');
    const space = await node.openSpace('s');
    for (let round = 0; round < 10; round++) {
      await fill(space, 3 * SMALL.segmentBytes, 4_000);
      const passing = space.checkpoint(space.status().durableSequence + 1);
      const begun: Promise<unknown>[] = [];
      for (let turn = 0; turn < 60; turn++) {
        begun.push(firstOf(space.read()));
        await (turn % 2 === 0 ? new Promise(setImmediate) : undefined);
      }
      await passing;
      await Promise.all(begun);
    }
  });

  test('begins behind what is freed while it is looked up', async () => {
    const before = await each.start('a');
    await fill(await before.openSpace('s'), 8 * SMALL.segmentBytes, 4_000);
    await before.close();
    const dataDir = path.join(each.folder, 'a');
    const newest = fs
      .readdirSync(dataDir)
      .filter((name) => name.endsWith('.idx'))
      .at(-1)!;
    // The last index that a pass looks at is slow to come.
    let isAsked = false;
    let release: (() => void) | undefined;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const open: Disk['open'] = async (file, how) => {
      if (file.endsWith(newest) && how === 'read') {
        isAsked = true;
        await gate;
      }
      return await nodeDisk.open(file, how);
    };
    const options = { ...SMALL, dataDir, nodeId: 'a' };
    const node = await openNodeOn({ ...nodeDisk, open }, options);
    each.finally(() => node.close());
    const space = node.space('s');
    const last = space.status().durableSequence;
    await space.checkpoint(last);
    await until('a pass is under way', () => isAsked);
    const all = [firstOf(space.read()), firstOf(space.subscribe())];
    await new Promise(setImmediate);
    release!();
    const firsts = await Promise.all(all);
    await until('segments are freed', () => space.status().firstSequence > 1);
    // More may be freed by now than when it began.
    for (const first of firsts) {
      expect(first).toBeGreaterThanOrEqual(1);
      expect(first).toBeLessThanOrEqual(space.status().firstSequence);
    }
  });
});

/** Takes one entry and leaves. */
async function firstOf(entries: AsyncGenerator<Entry>): Promise<number | undefined> {
  const { value } = await entries.next();
  await entries.return(undefined);
  return value?.sequence;
}

describe('iterators', () => {
  async function opened(count = 50): Promise<{ node: Node; space: Space }> {
    const node = await each.start('a');
    const space = await node.openSpace('s');
    if (count > 0) {
      await space.appendBatch(
        1,
        Array.from({ length: count }, (_, i) => Buffer.alloc(8_000, i)),
      );
    }
    return { node, space };
  }

  test('one that is abandoned ends with its node: no file of it stays open', async () => {
    const { node, space } = await opened();
    const read = space.read();
    const subscribed = space.subscribe();
    const never = space.read();
    expect((await read.next()).value?.sequence).toBe(1);
    expect((await subscribed.next()).value?.sequence).toBe(1);
    expect(descriptorsIn(each.folder).length).toBeGreaterThan(0);
    await node.close();
    expect(descriptorsIn(each.folder)).toEqual([]);
    // What was cut short says so, once; what has no end has ended.
    await expect(read.next()).rejects.toMatchObject({ code: 'Closed' });
    expect(await read.next()).toEqual({ done: true, value: undefined });
    expect(await subscribed.next()).toEqual({ done: true, value: undefined });
    await expect(never.next()).rejects.toMatchObject({ code: 'Closed' });
    await expect(space.read().next()).rejects.toMatchObject({ code: 'Closed' });
    await expect(space.subscribe().next()).rejects.toMatchObject({ code: 'Closed' });
  });

  test('calls that wait settle when the node closes', async () => {
    const { node, space } = await opened(0);
    const entries = space.subscribe();
    const waiting = [entries.next(), entries.next(), entries.next()];
    await new Promise(setImmediate);
    await node.close();
    for (const one of waiting) expect(await one).toEqual({ done: true, value: undefined });
  });

  test('next() called many times at once gives each entry once, in order', async () => {
    const { space } = await opened();
    const entries = space.read();
    const results = await Promise.all(Array.from({ length: 52 }, () => entries.next()));
    expect(results.map(({ value }) => value?.sequence)).toEqual([
      ...Array.from({ length: 50 }, (_, i) => i + 1),
      undefined,
      undefined,
    ]);
  });

  test('return() and throw() end one that waits, at once', async () => {
    const { space } = await opened(0);
    for (const end of ['return', 'throw'] as const) {
      const entries = space.subscribe();
      const waiting = [entries.next(), entries.next()];
      await new Promise(setImmediate);
      const error = new Error('enough');
      if (end === 'return') {
        expect(await entries.return(undefined)).toEqual({ done: true, value: undefined });
      } else await expect(entries.throw(error)).rejects.toBe(error);
      for (const one of waiting) expect(await one).toEqual({ done: true, value: undefined });
      expect(await entries.next()).toEqual({ done: true, value: undefined });
    }
    await space.append(1, Buffer.from('x'));
    const unread = space.read();
    await unread.return(undefined);
    expect(await unread.next()).toEqual({ done: true, value: undefined });
  });

  test('a signal ends a subscription before, while and after it waits', async () => {
    const { space } = await opened(3);
    const before = AbortSignal.abort();
    expect((await space.subscribe({ signal: before }).next()).done).toBe(true);
    const stop = new AbortController();
    const { signal } = stop;
    const many = Array.from({ length: 30 }, () => space.subscribe({ from: 4, signal }).next());
    const inPiece = space.subscribe({ signal });
    expect((await inPiece.next()).value?.sequence).toBe(1);
    const warnings: Error[] = [];
    const warned = (warning: Error): unknown => warnings.push(warning);
    process.on('warning', warned);
    await new Promise(setImmediate);
    stop.abort();
    for (const one of many) expect((await one).done).toBe(true);
    expect((await inPiece.next()).done).toBe(true);
    await new Promise(setImmediate);
    process.off('warning', warned);
    expect(warnings).toEqual([]);
  });

  test('a loop that is left holds nothing', async () => {
    const { node, space } = await opened();
    const logs = (): number =>
      descriptorsIn(each.folder).filter((name) => name.endsWith('.log')).length;
    await until('the node is at rest', () => logs() === 2);
    for await (const _ of space.read()) break;
    for await (const _ of space.subscribe()) break;
    const thrown = (async () => {
      for await (const _ of space.read()) throw new Error('of the host');
    })();
    await expect(thrown).rejects.toThrow('of the host');
    expect(logs()).toBe(2);
    expect(node.summary().memory.readAhead).toBe(0);
  });
});
