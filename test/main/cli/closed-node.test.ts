/** What a person decides about the directory of a node that was killed (FAULTS row 52). */
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { proposedLoss, skipEntry } from '#src/main/cli/closed-node.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { EachTest, makeFolder, openSmall, removeFolder } from '../../support/cluster.js';

const each = new EachTest();

test('a space that stands in the log alone: what to do is said, and does it', async () => {
  const folder = makeFolder();
  each.finally(() => removeFolder(folder));
  const [dir, killed] = ['a', 'killed'].map((name) => path.join(folder, name)) as [string, string];
  const node = await openSmall(dir, 'a');
  each.finally(() => node.close());
  await (await node.openSpace('s')).append(1, Buffer.from('poison'));
  // As a SIGKILL leaves it.
  fs.cpSync(dir, killed, { recursive: true });
  const tried = [skipEntry(nodeDisk, killed, 's', 1), proposedLoss(nodeDisk, killed, 's')];
  for (const done of await Promise.allSettled(tried)) {
    const why = 'a node that was killed writes there what its log has when it is opened again';
    expect(done).toMatchObject({ reason: { message: expect.stringContaining(why) } });
  }
  await (await openSmall(killed, 'a')).close();
  await skipEntry(nodeDisk, killed, 's', 1);
});
