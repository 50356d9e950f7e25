/** A data directory that did not exist: its name lasts, and those of the parents made with it. */
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { openNodeOn } from '#src/main/node/open-node.js';
import type { Disk } from '#src/main/segments/disk.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { EachTest, SMALL } from '../support/cluster.js';

const each = new EachTest();

/** The real disk, and what it was asked for, in its order. */
function watched(calls: string[]): Disk {
  return {
    ...nodeDisk,
    makeDir: async (dir) => {
      const made = await nodeDisk.makeDir(dir);
      calls.push(`mkdir ${dir}`);
      return made;
    },
    syncDir: async (dir) => {
      await nodeDisk.syncDir(dir);
      calls.push(`syncdir ${dir}`);
    },
  };
}

async function openAt(dataDir: string, calls: string[]): Promise<void> {
  const node = await openNodeOn(watched(calls), { ...SMALL, dataDir, nodeId: 'a' });
  each.finally(() => node.close());
  const space = await node.openSpace('s');
  await space.append(1, Buffer.from('x'));
  calls.push('ack');
}

test('FAULT-102 each directory made is fsynced in its parent before the first ack', async () => {
  const calls: string[] = [];
  const parent = path.join(each.folder, 'one', 'two');
  await openAt(path.join(parent, 'data'), calls);
  const before = calls.slice(0, calls.indexOf('ack'));
  for (const dir of [each.folder, path.join(each.folder, 'one'), parent]) {
    expect(before).toContain(`syncdir ${dir}`);
    expect(before.indexOf(`syncdir ${dir}`)).toBeGreaterThan(
      before.indexOf(`mkdir ${parent}/data`),
    );
  }
});

test('FAULT-102 what a killed process has made is fsynced by the next one', async () => {
  const parent = path.join(each.folder, 'one', 'two');
  fs.mkdirSync(path.join(parent, 'data'), { recursive: true });
  const calls: string[] = [];
  await openAt(path.join(parent, 'data'), calls);
  const before = calls.slice(0, calls.indexOf('ack'));
  for (const dir of [each.folder, path.join(each.folder, 'one'), parent]) {
    expect(before).toContain(`syncdir ${dir}`);
  }
});
