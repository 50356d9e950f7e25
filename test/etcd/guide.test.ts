/** The chapter of the guide about etcd, with a real one. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { documentOf, installInto, programsOf, runProgram } from '../docs/blocks.js';
import { makeFolder, removeFolder } from '../support/cluster.js';
import { EtcdServer } from '../support/etcd.js';

let folder: string;
let etcd: EtcdServer;

beforeEach(async () => {
  folder = makeFolder();
  installInto(folder);
  etcd = await EtcdServer.start(folder);
});
afterEach(async () => {
  await etcd.kill();
  removeFolder(folder);
});

test('the chapter about etcd does what it says', async () => {
  const program = programsOf(documentOf('docs/GUIDE.md')).find((p) => p.title === 'With etcd')!;
  const printed = await runProgram(folder, program, [['http://127.0.0.1:2379', etcd.endpoint]]);
  expect(printed).toMatch(/^node-[xyz] leads in epoch 1$/m);
});
