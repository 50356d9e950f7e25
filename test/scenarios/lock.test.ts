import { type ChildProcess, fork } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { makeFolder, openSmall, removeFolder } from '../support/cluster.js';

const PROGRAM = path.join(import.meta.dirname, '../crash/crash-node.mjs');
let folder: string;
let child: ChildProcess | undefined;

beforeEach(() => {
  folder = makeFolder();
});
afterEach(() => {
  child?.kill('SIGKILL');
  removeFolder(folder);
});

test('FAULT-25 a second process is refused by pid; a dead holder leaves no lock', async () => {
  const dir = path.join(folder, 'a');
  child = fork(PROGRAM, ['primary', dir, '[]', '1']);
  await new Promise((resolve) => child!.once('message', resolve));
  await expect(openSmall(dir, 'primary')).rejects.toMatchObject({
    code: 'Locked',
    message: expect.stringContaining(`process ${child.pid}`),
  });
  const ended = new Promise((resolve) => child!.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
  const node = await openSmall(dir, 'primary');
  await expect(openSmall(dir, 'primary')).rejects.toMatchObject({
    code: 'Locked',
    message: expect.stringContaining(`process ${process.pid}`),
  });
  await node.close();
  await (await openSmall(dir, 'primary')).close();
});

test('FAULT-13 a disk with no room for the pid: held, and opened, all the same', async () => {
  const dir = path.join(folder, 'a');
  await (await openSmall(dir, 'primary')).close();
  const full = vi.spyOn(fs, 'writeSync').mockImplementation(() => {
    throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC', syscall: 'write' });
  });
  const node = await openSmall(dir, 'primary').finally(() => full.mockRestore());
  await expect(openSmall(dir, 'primary')).rejects.toMatchObject({
    code: 'Locked',
    message: expect.stringContaining('process (unknown)'),
  });
  await node.close();
});
