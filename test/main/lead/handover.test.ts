/** A hand-over that comes to nothing while the coordinator cannot be asked (FAULTS row 72). */
import path from 'node:path';
import { expect, test } from 'vitest';
import type { Member, Node } from '#src/main/index.js';
import { StaticCoordinator } from '#src/main/lead/coordinator.js';
import { nodePlatform } from '#src/main/node/machine.js';
import { openNodeOn } from '#src/main/node/open-node.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { failure } from '#src/shared/errors.js';
import { MEMBER_ASK_MS } from '#src/shared/limits.js';
import { EachTest, makeFolder, removeFolder, SMALL, until } from '../../support/cluster.js';
import { freePort } from '../../support/etcd.js';
import { Trio } from '../../support/trio.js';

const each = new EachTest();

/** One that nobody hears for a while. */
class Away extends StaticCoordinator {
  isAway = false;
  asked = 0;

  override claim(space: string, above: number): Promise<number> {
    return this.isAway ? Promise.reject(away()) : super.claim(space, above);
  }

  override holds(): Promise<boolean> {
    this.asked++;
    return this.isAway ? Promise.reject(away()) : super.holds();
  }
}

const away = () => failure('CoordinatorUnavailable', 'it does not answer');

test('FAULT-72 it leads on in its epoch once the coordinator says that it may', async () => {
  const folder = makeFolder();
  each.finally(() => removeFolder(folder));
  const coordinator = new Away();
  const platform = { ...nodePlatform, coordinator: () => coordinator };
  const members: Member[] = [];
  for (const nodeId of ['a', 'b'])
    members.push({ nodeId, host: '127.0.0.1', port: await freePort() });
  const open = async ({ nodeId, host, port }: Member): Promise<Node> => {
    const dataDir = path.join(folder, nodeId);
    const replicas = members.filter((m) => m.nodeId !== nodeId);
    const own = { nodeId, dataDir, listen: { host, port }, replicas, lead: nodeId === 'a' };
    const node = await openNodeOn(nodeDisk, { ...SMALL, ...own }, platform);
    each.finally(() => node.close());
    return node;
  };
  const a = await open(members[0]!);
  const b = await open(members[1]!);
  const space = await a.openSpace('s');
  await space.append(1, Buffer.from('before'), { ack: { replicas: 1, timeoutMs: 5_000 } });
  coordinator.isAway = true;
  const handed = a.switchover('s', 'b', { timeoutMs: 2_000 }).catch((error) => error);
  await until('whether it may lead on is asked', () => coordinator.asked > 0);
  const append = (): Promise<string> =>
    space.append(1, Buffer.from('x')).then(
      () => 'taken',
      (error) => error.code,
    );
  expect(await append()).toBe('SwitchingOver');
  coordinator.isAway = false;
  expect((await handed).code).toBe('PromotionRefused');
  expect(await append()).toBe('taken');
  expect(space.status()).toMatchObject({ role: 'primary', epoch: 1 });
  expect(b.space('s').status().role).toBe('replica');
});

test('FAULT-72 its link dies in the moment of its promise: one leads when it is back', async () => {
  const trio = await Trio.make(['a', 'b', 'c'], true);
  each.finally(() => trio.close());
  const a = await trio.start('a');
  const b = await trio.start('b');
  await trio.start('c');
  const space = await a.openSpace('s');
  await space.append(1, Buffer.from('before'), { ack: { replicas: 2, timeoutMs: 5_000 } });
  await trio.stop('c');
  const cut = new Promise<void>((resolve) => {
    a.on('space-role', ({ role }) => {
      if (role === 'replica') resolve(trio.isolate('a'));
    });
  });
  const handed = a.switchover('s', 'b', { timeoutMs: 1_000 }).catch((error) => error.code);
  await cut;
  expect(await handed).toBe('ConnectionLost');
  expect([a, b].map((node) => node.space('s').status().role)).toEqual(['replica', 'replica']);
  await trio.heal();
  // It takes appends by then.
  const promoted = () => trio.events.find(({ name }) => name === 'promoted');
  await until('one of them leads', () => promoted() !== undefined);
  const leader = trio.open.get(promoted()!.nodeId)!;
  await leader.space('s').append(1, Buffer.from('x'), { ack: { replicas: 1, timeoutMs: 5_000 } });
});

test('a third member that hangs does not make the pause longer', async () => {
  const trio = await Trio.make(['a', 'b', 'c'], true);
  each.finally(() => trio.close());
  const a = await trio.start('a');
  await trio.start('b');
  await trio.start('c');
  const space = await a.openSpace('s');
  await space.append(1, Buffer.from('before'), { ack: { replicas: 2, timeoutMs: 5_000 } });
  trio.linkOf('b', 'c').blackHole(true);
  // Shorter than a candidate waits for the word of a member.
  const timeoutMs = MEMBER_ASK_MS - 200;
  expect(await a.switchover('s', 'b', { timeoutMs })).toMatchObject({ to: 'b', epoch: 2 });
});
