/** A planned hand-over: what comes of it where something is in its way (FAULTS row 72). */
import path from 'node:path';
import { expect, test } from 'vitest';
import type { Member, Node } from '#src/main/index.js';
import { StaticCoordinator } from '#src/main/lead/coordinator.js';
import { nodePlatform } from '#src/main/node/machine.js';
import { openNodeOn } from '#src/main/node/open-node.js';
import { PeerClient } from '#src/main/peer/client.js';
import type { Disk, DiskFile } from '#src/main/segments/disk.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { failure } from '#src/shared/errors.js';
import { MEMBER_ASK_MS } from '#src/shared/limits.js';
import { idOf } from '#src/shared/names.js';
import { NO_CREDENTIALS } from '#src/shared/wire/tls/certificates.js';
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

/** a leads, b and c have what it has; each reaches each other one by a link of its own. */
async function three(disk?: Disk) {
  const trio = await Trio.make(['a', 'b', 'c'], true);
  each.finally(() => trio.close());
  const a = await trio.start('a');
  const b = await trio.start('b');
  const c = await trio.start('c', {}, disk);
  const space = await a.openSpace('s');
  await space.append(1, Buffer.from('before'), { ack: { replicas: 2, timeoutMs: 5_000 } });
  return { trio, a, b, c, space };
}

// Shorter than a candidate waits for the word of a member.
const timeoutMs = MEMBER_ASK_MS - 200;

test('a third member that hangs does not make the pause longer', async () => {
  const { trio, a } = await three();
  trio.linkOf('b', 'c').blackHole(true);
  expect(await a.switchover('s', 'b', { timeoutMs })).toMatchObject({ to: 'b', epoch: 2 });
});

test('nor does one that says where it stands, and whose disk takes no promise', async () => {
  let stuck = Promise.resolve();
  const sync = async (file: DiskFile): Promise<void> => {
    await stuck;
    await file.sync();
  };
  const open: Disk['open'] = async (...asked) => {
    const file = await nodeDisk.open(...asked);
    const own: { [K in keyof DiskFile]?: DiskFile[K] | undefined } = {
      sync: () => sync(file),
      withFd: undefined,
      writeAndSync: undefined,
    };
    return new Proxy(file, {
      get: (target, name: keyof DiskFile) => {
        const value = name in own ? own[name] : target[name];
        return typeof value === 'function' ? value.bind(target) : value;
      },
      set: (target, name, value) => Reflect.set(target, name, value),
    });
  };
  const { a } = await three({ ...nodeDisk, open });
  let goesOn = (): void => undefined;
  stuck = new Promise((resolve) => {
    goesOn = resolve;
  });
  each.finally(() => goesOn());
  expect(await a.switchover('s', 'b', { timeoutMs })).toMatchObject({ to: 'b', epoch: 2 });
});

test('nor is the space without a leader where that one knows of a higher epoch', async () => {
  const { trio, a, b, c } = await three();
  // Nobody hears of it meanwhile.
  for (const [from, to] of ['ac', 'ca', 'cb']) await trio.cut(from!, to!);
  const peers = new PeerClient(nodePlatform, {
    ...{ clusterId: 'test', nodeId: 'a', incarnation: 1n, directoryId: 'a'.repeat(32) },
    ...{ maxEntryBytes: 16_384, maxFrameBytes: 1_048_576, readTimeoutMs: 10_000 },
    ...{ keepAliveMs: 10_000, credentials: NO_CREDENTIALS },
  });
  each.finally(() => peers.close());
  const candidate = { nodeId: 'a', host: '127.0.0.1', port: 1 };
  const question = { kind: 'promise', id: idOf('s'), epoch: 5, candidate, handover: 0n } as const;
  const member = { nodeId: 'c', ...c.address! };
  const given = await peers.ask(member, question, ['promised'], 5_000);
  expect(given).toMatchObject([{ isGranted: true, epochSeen: 5 }]);
  trio.linkOf('b', 'c').delay(100);
  expect(await a.switchover('s', 'b')).toMatchObject({ to: 'b', epoch: 2 });
  await until('c has ended its epoch', () => trio.heard('b', 'fenced').length > 0);
  const ack = { replicas: 1, timeoutMs: 5_000 };
  await until('b leads in the next one', () => b.space('s').status().epoch === 6);
  await until('it takes appends', () => trio.heard('b', 'promoted').length === 2);
  await b.space('s').append(1, Buffer.from('x'), { ack });
});

test.each(['b', 'c'])('of two at once, b and %s, one is refused at once', async (other) => {
  const { trio, a, space } = await three();
  const told = (error: { code: string }): string => error.code;
  const first = a.switchover('s', 'b');
  const second = a.switchover('s', other).catch(told);
  expect(await first).toMatchObject({ to: 'b', epoch: 2 });
  expect(await second).toBe('SwitchingOver');
  expect(trio.heard('a', 'switchover-abandoned')).toEqual([]);
  expect(space.status().role).toBe('replica');
});

test('it ends with the leadership, not with its time', async () => {
  const { trio, a, c, space } = await three();
  trio.linkOf('a', 'b').stall('forth');
  await space.append(1, Buffer.from('x'), { ack: { replicas: 1, timeoutMs: 5_000 } });
  const handed = a.switchover('s', 'b', { timeoutMs: 60_000 }).catch((error) => error.code);
  await c.promote('s');
  expect(await handed).toBe('NotPrimary');
});

test('who has just been added is waited for while appends go on, until it counts', async () => {
  const trio = await Trio.make(['a', 'b', 'c']);
  each.finally(() => trio.close());
  const a = await trio.start('a', { replicas: trio.othersOf('a').slice(0, 1) });
  await trio.start('b');
  await trio.start('c');
  const space = await a.openSpace('s');
  await space.append(1, Buffer.from('x'), { ack: { replicas: 1, timeoutMs: 5_000 } });
  await a.addReplica(trio.othersOf('a')[1]!);
  const handed = a.switchover('s', 'c');
  await space.append(1, Buffer.from('meanwhile'));
  expect(await handed).toMatchObject({ to: 'c', epoch: 2 });
});

test('who learns, and does not come to count, is refused before appends are stopped', async () => {
  const trio = await Trio.make(['a', 'b', 'c'], true);
  each.finally(() => trio.close());
  const a = await trio.start('a', { replicas: trio.othersOf('a').slice(0, 1) });
  await trio.start('b');
  await trio.start('c');
  const space = await a.openSpace('s');
  const many = Array.from({ length: 40 }, () => Buffer.alloc(8_000));
  await space.appendBatch(1, many, { ack: { replicas: 1, timeoutMs: 5_000 } });
  // So slow that it has little of it for a while.
  trio.linkOf('a', 'c').limit(20_000);
  await a.addReplica(trio.othersOf('a')[1]!);
  const refused = await a.switchover('s', 'c', { timeoutMs: 500 }).catch((error) => error.message);
  expect(refused).toMatch(/^PromotionRefused: c learns s, and does not count yet/);
  const waits = a.switchover('s', 'c', { timeoutMs: 600_000 }).catch((error) => error.code);
  await a.close();
  expect(await waits).toBe('Closed');
  expect(trio.heard('a', 'switchover-abandoned')).toEqual([]);
});

test('FAULT-72 of two nodes the one that hands over is waited for, needed or not', async () => {
  const trio = await Trio.make(['a', 'b'], true);
  each.finally(() => trio.close());
  const a = await trio.start('a');
  await trio.start('b');
  const space = await a.openSpace('s');
  await space.append(1, Buffer.from('x'), { ack: { replicas: 1, timeoutMs: 5_000 } });
  trio.linkOf('b', 'a').delay(60);
  expect(await a.switchover('s', 'b')).toMatchObject({ to: 'b', epoch: 2 });
});

test('who is told that it came to nothing may hand over to another one there', async () => {
  const { trio, a } = await three();
  await trio.cut('b', 'a');
  const next = new Promise((resolve) => {
    const again = (): void => resolve(a.switchover('s', 'c').catch((error) => error));
    a.on('switchover-abandoned', again);
  });
  await expect(a.switchover('s', 'b')).rejects.toMatchObject({ code: 'PromotionRefused' });
  expect(await next).toMatchObject({ from: 'a', to: 'c' });
});
