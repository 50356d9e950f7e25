/** verify on a directory whose node goes on writing between one look at the disk and the next. */
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Node } from '#src/main/index.js';
import { verifyLog } from '#src/main/repair/verify.js';
import type { Disk } from '#src/main/segments/disk.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { makeFolder, openSmall, removeFolder } from '../../support/cluster.js';

const SIZES = { segmentBytes: 96 * 1024, groupBytes: 32 * 1024, maxEntryBytes: 16 * 1024 };

let folder: string;
let node: Node;

beforeEach(() => {
  folder = makeFolder();
});

afterEach(async () => {
  await node.close();
  removeFolder(folder);
});

/** The real disk; before each look at it something happens. */
function lookedAtBy(before: () => Promise<void>): Disk {
  return {
    ...nodeDisk,
    async list(dir) {
      await before();
      return await nodeDisk.list(dir);
    },
    async open(file, how) {
      await before();
      const opened = await nodeDisk.open(file, how);
      return {
        ...opened,
        path: file,
        read: async (into, position) => {
          await before();
          return await opened.read(into, position);
        },
        size: () => opened.size(),
        close: () => opened.close(),
      };
    },
  };
}

test.each([
  ['stays', false],
  ['is freed', true],
])('before any one look a segment comes and goes; what was there %s', async (_, isFreed) => {
  let recycled = 0;
  // The same log each time, so that each look of verify has its turn.
  for (let due = 1, calls = due; calls >= due; due++) {
    node = await openSmall(path.join(folder, String(due)), 'a', SIZES);
    const space = await node.openSpace('s');
    const goOn = async (): Promise<void> => {
      // Several groups: what was read before is older than what is found behind it now.
      for (let i = 0; i < 9; i++) await space.append(1, Buffer.alloc(11_000 + i, 1));
    };
    for (let i = 0; i < 2; i++) await goOn();
    calls = 0;
    const disk = lookedAtBy(async () => {
      if (++calls !== due) return;
      await goOn();
      // Until what verify may be reading is another segment.
      while (isFreed && node.status().retention.recycledSegments === 0) {
        await space.checkpoint(space.status().durableSequence - 9);
        await goOn();
      }
    });
    const { findings, entries } = await verifyLog(disk, path.join(folder, String(due)));
    expect(
      findings.filter((f) => f.level === 'rot'),
      `before call ${due}`,
    ).toEqual([]);
    if (!isFreed) expect(entries).toBeGreaterThan(0);
    await node.close();
    recycled += node.status().retention.recycledSegments;
  }
  expect(recycled > 0).toBe(isFreed);
});
