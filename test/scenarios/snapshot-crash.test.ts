/**
 * A replica that gets a snapshot, on a disk of which every call fails once, each in its turn, and
 * whose power fails at each. All of them with ENGRAM_TEST_FULL=1, else a sample of them.
 */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { Node } from '#src/main/index.js';
import { openNodeOn } from '#src/main/node/open-node.js';
import { verifyLog } from '#src/main/repair/verify.js';
import { contentOf, until } from '../support/cluster.js';
import { TINY } from '../support/fake-cluster.js';
import { chanceFrom, FakeDisk } from '../support/fake-disk.js';
import { StateHost } from '../support/state-host.js';

const IS_FULL = process.env.ENGRAM_TEST_FULL === '1';
const SEED = Number(process.env.ENGRAM_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const SIZES = {
  ...TINY,
  maxSlotBytes: 64 * 1024,
  snapshotChunkBytes: 8 * 1024,
  backoffStepsMs: [5, 20],
};
const ENTRIES = 80;

const unhandled: unknown[] = [];
const note = (error: unknown): void => {
  unhandled.push(error);
};
const open = new Set<Node>();

beforeAll(() => {
  process.on('unhandledRejection', note);
});

afterAll(() => {
  process.off('unhandledRejection', note);
});

afterEach(async () => {
  for (const node of open) await node.close().catch(() => undefined);
  open.clear();
});

/** A primary that runs on, and the disk and host of a replica as they were when it went away. */
class Scene {
  readonly own = new StateHost();
  readonly disk = new FakeDisk();
  host = new StateHost();
  readonly primary: Node;
  readonly #image: ReturnType<FakeDisk['image']>;
  readonly #kept: string;
  readonly #port: number;

  private constructor(
    primary: Node,
    own: StateHost,
    disk: FakeDisk,
    host: StateHost,
    port: number,
  ) {
    this.primary = primary;
    this.own = own;
    this.disk = disk;
    this.#image = disk.image();
    this.#kept = JSON.stringify(host);
    this.#port = port;
  }

  static async make(): Promise<Scene> {
    const own = new StateHost();
    const disk = new FakeDisk();
    const host = new StateHost();
    const b = await replicaOn(disk, host, 0);
    const { port } = b.address!;
    const primary = await openNodeOn(new FakeDisk().mount(), {
      ...SIZES,
      nodeId: 'a',
      dataDir: '/data',
      replicas: [{ nodeId: 'b', host: '127.0.0.1', port }],
      snapshot: own.snapshot,
    });
    open.add(primary);
    const space = await primary.openSpace('s');
    await fill(primary, own, 5);
    await until('it is applied', () => host.sequence('s') >= 5);
    await b.close();
    open.delete(b);
    await fill(primary, own, ENTRIES);
    await space.checkpoint(space.status().durableSequence + 1);
    await until('segments are freed', () => primary.status().segments <= 2);
    return new Scene(primary, own, disk, host, port);
  }

  /** The replica is as it was when it went away. */
  reset(): void {
    this.disk.inject(undefined);
    this.disk.restore(this.#image);
    this.host = new StateHost();
    this.host.load(JSON.parse(this.#kept));
  }

  /** Opens the replica. @returns undefined where its disk lets it not */
  async open(): Promise<Node | undefined> {
    try {
      return await replicaOn(this.disk, this.host, this.#port);
    } catch (error) {
      expect(error).toHaveProperty('code');
      return undefined;
    }
  }

  async close(node: Node | undefined): Promise<void> {
    if (!node) return;
    await node.close().catch(() => undefined);
    open.delete(node);
  }

  isWhole(node: Node): boolean {
    const { durableSequence } = this.primary.space('s').status();
    const copy = node.status().spaces.find((s) => s.name === 's');
    return copy?.durableSequence === durableSequence && copy.appliedSequence === durableSequence;
  }

  /** The replica has what its primary has, and goes on. */
  async check(what: string): Promise<void> {
    const node = (await this.open())!;
    expect(node, what).toBeDefined();
    await until(`${what}: it is whole`, () => this.isWhole(node));
    await fill(this.primary, this.own, 1);
    await until(`${what}: it goes on`, () => this.isWhole(node));
    expect(this.host.digest('s'), what).toBe(this.own.digest('s'));
    const copy = node.space('s');
    const { firstSequence: from, durableSequence: to } = copy.status();
    expect(await contentOf(copy, { from, to }), what).toEqual(
      await contentOf(this.primary.space('s'), { from, to }),
    );
    expect(copy.status().damage, what).toEqual([]);
    const isSwept = (): boolean => this.disk.list('/data/snapshots').length === 0;
    await until(`${what}: nothing of it is left`, isSwept);
    await this.close(node);
  }
}

async function replicaOn(disk: FakeDisk, host: StateHost, port: number): Promise<Node> {
  const { apply, appliedUpTo, restore } = host;
  const node = await openNodeOn(disk.mount(), {
    ...SIZES,
    nodeId: 'b',
    dataDir: '/data',
    listen: { host: '127.0.0.1', port },
    apply,
    appliedUpTo,
    restore,
  });
  open.add(node);
  return node;
}

async function fill(node: Node, host: StateHost, entries: number): Promise<void> {
  for (let n = 0; n < entries; n++) {
    await host.append(node.space('s'), Buffer.alloc(1_500, host.sequence('s')));
  }
}

/** From opening to the end of the snapshot; ends early where the disk does not let it go on. */
async function live(scene: Scene, lastCall = Number.POSITIVE_INFINITY): Promise<void> {
  const node = await scene.open();
  if (!node) return;
  // Calls behind the last one that works have shown what the node makes of it.
  const isOver = (): boolean => scene.disk.calls.length > lastCall + 4;
  const isDead = (): boolean => node.status().failure !== undefined || isOver();
  // Long enough for what goes on by itself; a dead disk goes on with nothing.
  const deadline = performance.now() + 1_500;
  while (!scene.isWhole(node) && !isDead() && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await scene.close(node);
}

async function countCalls(scene: Scene): Promise<number> {
  scene.reset();
  scene.disk.inject(undefined);
  await live(scene);
  expect(scene.host.restores).toBe(1);
  return scene.disk.calls.length;
}

test.each([
  'EIO',
  'ENOSPC',
])(`a call that fails with %s while a snapshot comes, seed ${SEED}`, async (errno) => {
  const scene = await Scene.make();
  const calls = await countCalls(scene);
  const step = IS_FULL ? 1 : Math.ceil(calls / 10);
  for (let n = 1 + (SEED % step); n <= calls; n += step) {
    scene.reset();
    scene.disk.inject({ call: n, errno });
    await live(scene);
    const what = `call ${n} of ${calls} (${scene.disk.calls[n - 1]}) fails with ${errno}`;
    scene.disk.inject(undefined);
    if (n % 2 === 0) scene.disk.crash(chanceFrom(SEED + n));
    else scene.disk.kill();
    await scene.check(what);
    expect(unhandled, what).toEqual([]);
  }
}, 120_000);

test.each([
  'SIGKILL',
  'power loss',
])(`FAULT-58 %s at every call while a snapshot is installed, seed ${SEED}`, async (how) => {
  const scene = await Scene.make();
  const calls = await countCalls(scene);
  const step = IS_FULL ? 1 : Math.ceil(calls / 14);
  for (let n = 1 + (SEED % step); n <= calls; n += step) {
    scene.reset();
    // From the n-th call on nothing reaches the disk: as if the process had ended there.
    scene.disk.inject({ call: n, errno: 'EIO', isLasting: true });
    await live(scene, n);
    const what = `${how} at call ${n} of ${calls} (${scene.disk.calls[n - 1]})`;
    scene.disk.inject(undefined);
    if (how === 'SIGKILL') scene.disk.kill();
    else scene.disk.crash(chanceFrom(SEED + n));
    await scene.check(what);
    expect(unhandled, what).toEqual([]);
  }
}, 120_000);

test('FAULT-58 between `begun` and `base` the host is given all of it again', async () => {
  const scene = await Scene.make();
  for (const how of ['SIGKILL', 'power loss']) {
    scene.reset();
    // The host has it, and the process ends before the log knows.
    let isIn = false;
    scene.host.restored = () => {
      isIn = true;
      if (how === 'SIGKILL') scene.disk.kill();
      else scene.disk.crash(chanceFrom(SEED));
    };
    const node = (await scene.open())!;
    await until('the host has it', () => isIn);
    scene.host.restored = () => undefined;
    await scene.close(node);
    const { snapshots } = scene.own;
    expect(scene.host.restores).toBe(1);
    await scene.check(how);
    // From its own spool: the primary was not asked for another one.
    expect(scene.host.restores).toBe(2);
    expect(scene.own.snapshots).toBe(snapshots);
  }
});

test('FAULT-57 a spool that rots between `begun` and `base` is not restored from', async () => {
  const scene = await Scene.make();
  scene.reset();
  let isIn = false;
  scene.host.beforeRestored = () => {
    isIn = true;
    scene.disk.inject({ call: 1, errno: 'EIO', isLasting: true });
    throw new Error('the process ends');
  };
  const node = (await scene.open())!;
  await until('the host is given it', () => isIn);
  scene.host.beforeRestored = () => undefined;
  await scene.close(node);
  scene.disk.inject(undefined);
  scene.disk.kill();
  const [name] = scene.disk.list('/data/snapshots');
  scene.disk.edit(`/data/snapshots/${name}`, (bytes) => {
    bytes[bytes.length >> 1]! ^= 1;
  });
  const { snapshots } = scene.own;
  await scene.check('a rotten spool');
  expect(scene.own.snapshots).toBe(snapshots + 1);
});

test('verify knows that a space goes on behind its snapshot, before a state says so', async () => {
  const scene = await Scene.make();
  scene.reset();
  let isIn = false;
  const node = (await scene.open())!;
  node.on('snapshot-done', () => {
    isIn = true;
    scene.disk.inject({ call: 1, errno: 'EIO', only: 'write state', isLasting: true });
  });
  await until('the space stands on it', () => isIn);
  await fill(scene.primary, scene.own, 1);
  await until('and goes on', () => scene.isWhole(node));
  await scene.close(node);
  scene.disk.inject(undefined);
  scene.disk.kill();
  expect(await verifyLog(scene.disk.mount(), '/data')).toMatchObject({ rot: 0 });
  await scene.check('verified');
});
