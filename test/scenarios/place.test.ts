/**
 * The data directory is moved, removed or replaced under an open node, or its segment is cut: it
 * finds it out, and its log has failed for good; two nodes never write one log, and what is at the
 * old place is left alone.
 */
import { type ChildProcess, fork } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import type { Node } from '#src/main/index.js';
import { contentOf, EachTest, heard, openSmall, until } from '../support/cluster.js';

const PROGRAM = path.join(import.meta.dirname, '../crash/crash-node.mjs');
const each = new EachTest();

async function started(): Promise<{ dir: string; node: Node }> {
  const dir = path.join(each.folder, 'a');
  const node = await openSmall(dir, 'a');
  each.finally(() => node.close());
  const space = await node.openSpace('s');
  await space.append(1, Buffer.from('kept'));
  return { dir, node };
}

/** Every file below a directory, with its bytes. */
function filesOf(dir: string): Map<string, string> {
  const names = fs.readdirSync(dir, { recursive: true }) as string[];
  const files = names.filter((name) => fs.statSync(path.join(dir, name)).isFile()).sort();
  return new Map(files.map((f) => [f, fs.readFileSync(path.join(dir, f)).toString('base64')]));
}

const WAYS: Record<string, (dir: string) => void> = {
  'the lock removed': (dir) => fs.rmSync(path.join(dir, 'lock')),
  'the lock replaced': (dir) => {
    fs.rmSync(path.join(dir, 'lock'));
    fs.writeFileSync(path.join(dir, 'lock'), '1\n');
  },
  'the directory removed': (dir) => fs.rmSync(dir, { recursive: true }),
  'the directory moved': (dir) => fs.renameSync(dir, `${dir}-moved`),
  'its parent moved': (dir) => {
    const parent = path.dirname(dir);
    fs.renameSync(parent, `${parent}-moved`);
    each.finally(() => fs.rmSync(`${parent}-moved`, { recursive: true, force: true }));
  },
  'a copy in its place': (dir) => {
    fs.renameSync(dir, `${dir}-moved`);
    fs.cpSync(`${dir}-moved`, dir, { recursive: true });
  },
  'the segment removed': (dir) => fs.rmSync(path.join(dir, 'wal-0000000000000000.log')),
  'the segment replaced': (dir) => {
    const file = path.join(dir, 'wal-0000000000000000.log');
    fs.copyFileSync(file, `${file}.copy`);
    fs.renameSync(`${file}.copy`, file);
  },
  'the segment cut': (dir) => fs.truncateSync(path.join(dir, 'wal-0000000000000000.log'), 100),
};

test.each(Object.keys(WAYS))('FAULT-92 %s: the log has failed within seconds', async (way) => {
  const { dir, node } = await started();
  const fatal = heard(node, 'fatal');
  WAYS[way]!(dir);
  await until('it is found out', () => fatal.length > 0, 5_000);
  expect(String(fatal[0]!.error)).toMatch(/removed or replaced while|cut to \d+ of its/);
  expect(node.status().log.state).toBe('failed');
  await expect(node.space('s').append(1, Buffer.from('x'))).rejects.toMatchObject({
    code: 'WalFailed',
  });
  await node.close();
});

test.each([
  'the lock removed',
  'the lock replaced',
])('FAULT-92 %s: a second process is refused all the same', async (way) => {
  const dir = path.join(each.folder, 'a');
  const child: ChildProcess = fork(PROGRAM, ['primary', dir, '[]', '1']);
  each.finally(() => child.kill('SIGKILL'));
  await new Promise((resolve) => child.once('message', resolve));
  const stopped = child.kill('SIGSTOP');
  expect(stopped).toBe(true);
  WAYS[way]!(dir);
  // Again and again: a lock file that an opening has left is none of the log's.
  for (let n = 0; n < 3; n++) {
    await expect(openSmall(dir, 'primary')).rejects.toMatchObject({ code: 'Locked' });
  }
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
  await (await openSmall(dir, 'primary')).close();
});

test('FAULT-92 another node in its place is left alone', async () => {
  const { dir, node } = await started();
  fs.renameSync(dir, `${dir}-moved`);
  const other = await openSmall(dir, 'b');
  each.finally(() => other.close());
  const space = await other.openSpace('t');
  await space.append(1, Buffer.from('of another node'));
  await other.close();
  const before = filesOf(dir);
  // At once: its watch may not have looked yet.
  for (let n = 0; n < 40; n++) {
    await node
      .space('s')
      .append(1, Buffer.alloc(16_000))
      .catch(() => undefined);
  }
  await node.close();
  expect(filesOf(dir)).toEqual(before);
  const again = await openSmall(dir, 'b');
  each.finally(() => again.close());
  expect(await contentOf(again.space('t'))).toHaveLength(1);
  expect(again.status().holes).toEqual([]);
});

test('FAULT-92 a process that was stopped looks before it acknowledges', async () => {
  const { dir, node } = await started();
  const fatal = heard(node, 'fatal');
  // The event loop stands still, as in a stopped process; meanwhile the lock goes.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3_200);
  fs.rmSync(path.join(dir, 'lock'));
  const appended = node.space('s').append(1, Buffer.from('late'));
  await expect(appended).rejects.toMatchObject({ code: 'WalFailed' });
  expect(fatal).toHaveLength(1);
});
