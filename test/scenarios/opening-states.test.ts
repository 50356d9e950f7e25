/** When an opening writes a state: where one would say anything that the last one does not. */
import { beforeEach, expect, test } from 'vitest';
import type { Node } from '#src/main/index.js';
import { STATE_FILES } from '#src/main/recovery/recovery.js';
import { openFake } from '../support/fake-cluster.js';
import { FakeDisk } from '../support/fake-disk.js';

const DIR = '/data';
let disk: FakeDisk;

/** What the files of both states hold. */
function states(): string[] {
  return STATE_FILES.map((name) => {
    let bytes = '';
    if (disk.list(DIR).includes(name)) {
      disk.edit(`${DIR}/${name}`, (found) => {
        bytes = Buffer.from(found).toString('base64');
      });
    }
    return bytes;
  });
}

/** @returns the node, and how many of the state files its opening has written */
async function opened(): Promise<{ node: Node; written: number }> {
  const before = states();
  const node = await openFake(disk);
  const after = states();
  return { node, written: after.filter((bytes, i) => bytes !== before[i]).length };
}

async function append(node: Node): Promise<void> {
  const space = await node.openSpace('s');
  await space.append(1, Buffer.from('x'));
}

/** A life that ended well: its states are both there, and the newer one says all. */
beforeEach(async () => {
  disk = new FakeDisk();
  const { node, written } = await opened();
  expect(written).toBe(1);
  await append(node);
  await node.close();
  expect(states()).not.toContain('');
});

test('behind a close nothing is written, and what comes then is as durable as ever', async () => {
  for (let life = 0; life < 3; life++) {
    const { node, written } = await opened();
    expect(written).toBe(life === 0 ? 0 : 1);
    expect(node.space('s').status().durableSequence).toBe(1 + life);
    await append(node);
    disk.crash();
    await node.close().catch(() => undefined);
  }
});

test.each(STATE_FILES)('%s is lost: there are two again', async (name) => {
  disk.edit(`${DIR}/${name}`, (bytes) => bytes.fill(0));
  const { node, written } = await opened();
  expect(written).toBe(1);
  expect(node.space('s').status().durableSequence).toBe(1);
  await node.close();
});

test('node.json is lost, and made anew from what there is: the state says so', async () => {
  disk.edit(`${DIR}/node.json`, (bytes) => bytes.fill(0));
  const { node, written } = await opened();
  expect(written).toBe(1);
  await node.close();
});

test('the name of what a close has written may not last: it is written once more', async () => {
  const { node } = await opened();
  await append(node);
  // The next segment is made meanwhile.
  for (let turn = 0; turn < 40; turn++) await disk.wait();
  disk.inject({ call: 1, errno: 'EIO', only: 'syncdir' });
  await node.close().catch(() => undefined);
  expect(disk.calls.filter((call) => call.startsWith('rename'))[0]).toMatch(/state-\d$/);
  disk.inject(undefined);
  const { node: next, written } = await opened();
  expect(written).toBe(1);
  await next.close();
});
