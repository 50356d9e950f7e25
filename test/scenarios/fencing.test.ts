import fs from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import type { Space } from '#src/main/index.js';
import { nodePlatform } from '#src/main/node/machine.js';
import { PeerClient } from '#src/main/peer/client.js';
import { newestState } from '#src/main/recovery/recovery.js';
import { type Disk, type DiskFile, ioError } from '#src/main/segments/disk.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { NO_CREDENTIALS } from '#src/shared/wire/tls/certificates.js';
import { contentOf, until } from '../support/cluster.js';
import { Trio } from '../support/trio.js';
import { WireClient } from '../support/wire-client.js';

const TIMES = { readTimeoutMs: 10_000, keepAliveMs: 10_000 };

let trio: Trio;

afterEach(async () => {
  await trio.close();
});

const payload = (n: number): Buffer => Buffer.from(`entry ${n}`);

/** This machine's disk, which takes so many writes more, and is full then. */
function fillable(disk: { writesLeft: number }): Disk {
  return {
    ...nodeDisk,
    open: async (...asked) => {
      const file = await nodeDisk.open(...asked);
      const write: DiskFile['write'] = async (...bytes) => {
        const cause = Object.assign(new Error('ENOSPC: full'), { code: 'ENOSPC' });
        if (--disk.writesLeft < 0) throw ioError('write', cause);
        await file.write(...bytes);
      };
      const sync = (): Promise<void> => file.sync();
      const syncAll = (): Promise<void> => file.syncAll();
      const read: DiskFile['read'] = (...into) => file.read(...into);
      const truncate: DiskFile['truncate'] = (bytes) => file.truncate(bytes);
      const size = (): Promise<number> => file.size();
      const close = (): Promise<void> => file.close();
      return { path: file.path, write, sync, syncAll, read, truncate, size, close };
    },
    freeBytes: async (dir) => (disk.writesLeft <= 0 ? 0 : await nodeDisk.freeBytes(dir)),
  };
}

async function fill(space: Space, from: number, to: number, replicas = 0): Promise<void> {
  for (let n = from; n <= to; n++) await space.append(1, payload(n));
  if (replicas > 0) await space.flushed(to, { replicas, timeoutMs: 20_000 });
}

/** A candidate that asks a member for its promises, and never leads. */
function candidateAt(nodeId: string, space: Space) {
  const own = { clusterId: 'test', incarnation: 1n, credentials: NO_CREDENTIALS };
  const directoryId = 'b'.repeat(32);
  const caps = { maxEntryBytes: 16 * 1024, maxFrameBytes: 1024 * 1024, ...TIMES };
  const peersOf = (id: string): PeerClient =>
    new PeerClient(nodePlatform, { ...own, nodeId: id, directoryId, ...caps });
  const peers = peersOf('b');
  const { id } = space.status();
  const member = trio.members.find((m) => m.nodeId === nodeId)!;
  const candidate = { nodeId: 'b', host: '127.0.0.1', port: 1 };
  const ask = async (epoch: number, of = candidate) => {
    const question = { kind: 'promise', id, epoch, candidate: of, handover: 0n } as const;
    // Each asks for itself.
    const asking = of === candidate ? peers : peersOf(of.nodeId);
    try {
      return (await asking.ask(member, question, ['promised'], 5_000))[0]!;
    } finally {
      if (asking !== peers) asking.close();
    }
  };
  return { ask, candidate, peers };
}

async function cluster(isCuttable = true): Promise<Space> {
  trio = await Trio.make(['a', 'b', 'c'], isCuttable);
  const a = await trio.start('a');
  await trio.start('b');
  await trio.start('c');
  const space = await a.openSpace('s');
  await fill(space, 1, 20, 2);
  return space;
}

async function allTheSame(leader: string): Promise<void> {
  await trio.settled(leader, 's', trio.open.size - 1);
  const content = await contentOf(trio.open.get(leader)!.space('s'));
  for (const node of trio.open.values()) {
    expect(await contentOf(node.space('s')), node.nodeId).toEqual(content);
  }
}

describe('two primaries', () => {
  test('FAULT-67 in a partition both append; at contact the lower epoch is fenced', async () => {
    const space = await cluster();
    await trio.isolate('a');
    const b = trio.open.get('b')!;
    await b.promote('s');
    const led = await b.openSpace('s');
    // Nobody can tell `a`: it goes on, alone, and its exposure is a live figure.
    await fill(space, 21, 30);
    await fill(led, 22, 40, 1);
    expect(space.status().rpo.entries).toBe(10);
    expect([space.status().epoch, led.status().epoch]).toEqual([1, 2]);
    // A load on the old one while the partition heals: at contact it ends, and for good.
    const acked: number[] = [];
    const codes = new Set<string>();
    let isOver = false;
    const load = (async () => {
      while (!isOver) {
        await space.append(1, payload(0)).then(
          ({ sequence }) => acked.push(sequence),
          (error) => codes.add(error.code),
        );
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    })();
    await until('some were taken', () => acked.length > 5);
    await trio.heal();
    await until('a is fenced', () => trio.heard('a', 'fenced').length > 0);
    const last = acked.length;
    await allTheSame('b');
    isOver = true;
    await load;
    expect(acked).toHaveLength(last);
    // Until it follows, it is fenced; then it is a replica like any other.
    expect([...codes].sort()).toEqual(['Fenced', 'NotPrimary']);
    expect(trio.open.get('a')!.space('s').status()).toMatchObject({ refusal: undefined });
    // All that it had acknowledged meanwhile is in quarantine.
    const rewound = trio.heard('a', 'rewound');
    expect(rewound).toHaveLength(1);
    expect(rewound[0]).toMatchObject({ from: 21 });
    expect(rewound[0]!.to).toBeGreaterThanOrEqual(acked.at(-1)!);
    expect(trio.heard('a', 'fenced')[0]).toMatchObject({ space: 's', epoch: 2 });
  });

  test('FAULT-67 FAULT-13 its end as a primary is recorded when there is room', async () => {
    const disk = { writesLeft: Number.POSITIVE_INFINITY };
    trio = await Trio.make();
    await trio.start('c');
    const a = await trio.start('a', {}, fillable(disk));
    const space = await a.openSpace('s');
    await fill(space, 1, 20, 1);
    disk.writesLeft = 0;
    while (a.status().log.state === 'ok') {
      await space.append(1, Buffer.alloc(4_096)).catch(() => undefined);
    }
    expect(a.status().log.state).toBe('read-only');
    const failed: unknown[] = [];
    a.on('state-failed', ({ error }) => failed.push(error));
    const { ask, peers } = candidateAt('c', space);
    expect(await ask(2)).toMatchObject({ isGranted: true });
    peers.close();
    await until('it cannot be recorded', () => failed.length > 0);
    expect(trio.heard('a', 'fenced')).toMatchObject([{ space: 's', epoch: 2 }]);
    // Its candidate is gone: nobody comes and says it again.
    await trio.stop('c');
    expect(space.status()).toMatchObject({ role: 'primary', epoch: 1 });
    disk.writesLeft = Number.POSITIVE_INFINITY;
    await until('a has stepped aside', () => space.status().role === 'replica');
  });

  test('FAULT-71 FAULT-13 an epoch begins late where its first entry found no room', async () => {
    const disk = { writesLeft: Number.POSITIVE_INFINITY };
    trio = await Trio.make(['a', 'b']);
    const b = await trio.start('b', {}, fillable(disk));
    const a = await trio.start('a');
    await fill(await a.openSpace('s'), 1, 20, 1);
    await trio.stop('a');
    // For its own promise and for its role, but not for the entry.
    disk.writesLeft = 2;
    await expect(b.promote('s', { force: true })).rejects.toMatchObject({ code: 'DiskFull' });
    const space = b.space('s');
    expect(space.status()).toMatchObject({ role: 'primary', epoch: 2, durableSequence: 20 });
    disk.writesLeft = Number.POSITIVE_INFINITY;
    await until('its epoch has begun', () => space.status().durableSequence >= 21);
    await until('it takes appends', () => trio.heard('b', 'space-role').length > 1);
    expect(await space.append(1, payload(22))).toMatchObject({ sequence: 22, epoch: 2 });
  });

  test('FAULT-68 an epoch promised to one candidate is not followed under another', async () => {
    const space = await cluster(false);
    const { ask, candidate, peers } = candidateAt('c', space);
    expect(await ask(2)).toMatchObject({ isGranted: true });
    const c = trio.members.find((m) => m.nodeId === 'c')!;
    const introduced = async (nodeId: string): Promise<string> => {
      const client = new WireClient(c.port);
      await client.hello('c', { nodeId });
      const row = { handle: 1, id: space.status().id, epoch: 2, name: 's', members: [], sets: [] };
      client.send({ kind: 'spaces', rows: [row] });
      const [answer] = (await client.next('positions')).rows;
      client.socket.destroy();
      await client.closed;
      return answer!.answer;
    };
    // It names no set: where less than a majority is enough, both could lead in it.
    expect(await introduced('y')).toBe('forked');
    expect(trio.open.get('c')!.space('s').status().epoch).toBe(1);
    expect(await introduced(candidate.nodeId)).toBe('follows');
    // Who leads in it needs no promise any more, and nobody else gets one.
    expect(await ask(2)).toMatchObject({ isGranted: false, epochSeen: 2 });
    peers.close();
  });

  test('FAULT-113 who has promised an epoch to a loser follows who leads in it', async () => {
    const space = await cluster();
    await trio.isolate('c');
    const { ask, candidate, peers } = candidateAt('c', space);
    expect(await ask(2, { ...candidate, nodeId: 'a' })).toMatchObject({ isGranted: true });
    peers.close();
    const b = trio.open.get('b')!;
    // Two of three promise the same epoch to another one: nobody else can lead in it.
    expect(await b.promote('s')).toMatchObject({ isPromoted: true, epoch: 2 });
    await trio.heal();
    // No higher epoch comes, and nobody has to ask for one.
    await fill(await b.openSpace('s'), 22, 30, 2);
    await allTheSame('b');
    expect(b.space('s').status().epoch).toBe(2);
    expect(trio.heard('b', 'replica-refused')).toEqual([]);
  });

  test('FAULT-67 a promise alone ends the old epoch: nothing is acknowledged', async () => {
    const space = await cluster();
    // `c` promises, and then its candidate is gone: `a` meets the higher epoch at `c`.
    const { ask, candidate, peers } = candidateAt('c', space);
    expect(await ask(1)).toMatchObject({ isGranted: false, epochSeen: 1 });
    expect(await ask(2)).toMatchObject({ isGranted: true, epochSeen: 2 });
    expect(await ask(2)).toMatchObject({ isGranted: true });
    expect(await ask(2, { ...candidate, nodeId: 'z' })).toMatchObject({ isGranted: false });
    await until('a is fenced', () => trio.heard('a', 'fenced').length > 0);
    await expect(space.append(1, payload(1))).rejects.toMatchObject({ code: 'Fenced' });
    // As a SIGKILL would leave it: the promise was durable before it was answered (P7).
    const dir = path.join(trio.folder, 'c');
    fs.cpSync(dir, `${dir}.killed`, { recursive: true });
    await trio.stop('c');
    fs.rmSync(dir, { recursive: true });
    fs.renameSync(`${dir}.killed`, dir);
    await trio.start('c');
    expect(await ask(2, { ...candidate, nodeId: 'z' })).toMatchObject({
      isGranted: false,
      epochSeen: 2,
    });
    peers.close();
    // Nobody leads until somebody is promoted in a higher epoch.
    await until('a has stepped aside', () => space.status().role === 'replica');
    const report = await trio.open.get('a')!.promote('s');
    expect(report).toMatchObject({ isPromoted: true, epoch: 3, lost: [] });
    await allTheSame('a');
    expect(trio.heard('a', 'rewound')).toEqual([]);
  });

  test('FAULT-68 two nodes lead in one epoch: the lower id gives way, nothing merges', async () => {
    await cluster();
    await trio.stop('a');
    const b = trio.open.get('b')!;
    const c = trio.open.get('c')!;
    await trio.isolate('b');
    // What an operator must not do: each forced, without the other one.
    expect(await b.promote('s', { force: true })).toMatchObject({ epoch: 2 });
    expect(await c.promote('s', { force: true })).toMatchObject({ epoch: 2 });
    const atB = await b.openSpace('s');
    const atC = await c.openSpace('s');
    await fill(atB, 22, 25);
    await fill(atC, 22, 28);
    await trio.heal();
    await until('it is seen', () => trio.heard('b', 'leader-conflict').length > 0);
    await until('the lower one is fenced', () => trio.heard('b', 'fenced').length > 0);
    await expect(atB.append(1, payload(1))).rejects.toMatchObject({ code: 'Fenced' });
    expect(await atC.append(1, payload(29))).toEqual({ sequence: 30, epoch: 2 });
    // Nobody's entries are taken for the other one's.
    await until('c has refused it', () => {
      return trio.heard('c', 'replica-refused').some((e) => e.verdict === 'fork');
    });
    expect(await contentOf(atB)).toHaveLength(26);
    // An epoch of its own settles it: what `b` had written goes to quarantine.
    await trio.start('a');
    await until('a has it', () => trio.open.get('a')!.space('s').status().epoch === 2);
    await trio.settled('c', 's', 1);
    await trio.open.get('a')!.promote('s', { force: true });
    await allTheSame('a');
    expect(trio.heard('b', 'rewound').at(-1)).toMatchObject({ from: 21, to: 26 });
  });
});

test('what fills a candidate up may be of an epoch that it has not led or followed', async () => {
  await cluster();
  const b = trio.open.get('b')!;
  const c = trio.open.get('c')!;
  await trio.stop('a');
  await trio.cut('c', 'b');
  await c.promote('s', { force: true });
  await fill(await c.openSpace('s'), 22, 25);
  // `b` hears of epoch 2 from the answers alone, and of its entries when it asks for them.
  expect(await b.promote('s', { force: true })).toMatchObject({ epoch: 3, lost: [] });
  await fill(await b.openSpace('s'), 27, 30, 1);
  await allTheSame('b');
  for (const id of ['b', 'c']) {
    await trio.stop(id);
    const state = await newestState(nodeDisk, path.join(trio.folder, id));
    const { history } = state!.spaces.find((row) => row.facts.name === 's')!.facts;
    expect(history.map((h) => [h.epoch, h.startSequence])).toEqual([
      [1, 1],
      [2, 21],
      [3, 27],
    ]);
  }
});

describe('a planned hand-over', () => {
  test('loses nothing under load; the pause is told', async () => {
    const space = await cluster(false);
    let isOver = false;
    const acked = new Map<number, string>();
    const codes = new Set<string>();
    const load = (async () => {
      for (let n = 0; !isOver; n++) {
        const text = `load ${n}`;
        await space.append(1, Buffer.from(text)).then(
          ({ sequence }) => acked.set(sequence, text),
          (error) => codes.add(error.code),
        );
        await new Promise((resolve) => setImmediate(resolve));
      }
    })();
    await until('some were taken', () => acked.size > 50);
    const report = await trio.open.get('a')!.switchover('s', 'b');
    expect(report).toMatchObject({ space: 's', from: 'a', to: 'b', epoch: 2 });
    expect(report.pauseMs).toBeGreaterThan(0);
    isOver = true;
    await load;
    await allTheSame('b');
    for (const code of codes) {
      expect(['SwitchingOver', 'Fenced', 'NotPrimary']).toContain(code);
    }
    const found = new Map<number, string>();
    for await (const entry of trio.open.get('b')!.space('s').read()) {
      found.set(entry.sequence, Buffer.from(entry.payload).toString());
    }
    for (const [sequence, text] of acked) expect(found.get(sequence)).toBe(text);
    expect(trio.heard('a', 'rewound')).toEqual([]);
    await expect(space.append(1, payload(1))).rejects.toMatchObject({ code: 'NotPrimary' });
    // And back again, by the other one's own word.
    await until('a follows', () => trio.open.get('b')!.status().replicas.length > 0);
    expect(await trio.open.get('b')!.switchover('s', 'a')).toMatchObject({ to: 'a', epoch: 3 });
    expect((await space.append(1, payload(1))).epoch).toBe(3);
    await allTheSame('a');
  });

  test('FAULT-72 a target that dies mid-way: on in the same epoch, nothing burned', async () => {
    const space = await cluster();
    await trio.stop('c');
    const a = trio.open.get('a')!;
    // Its acknowledgements still come, but it cannot be asked: the hand-over has no answer.
    await trio.cut('a', 'b');
    const failed = await a.switchover('s', 'b', { timeoutMs: 400 }).catch((error) => error);
    expect(['NotEnoughReplicas', 'AckTimeout', 'ConnectionRefused']).toContain(failed.code);
    expect(await space.append(1, payload(21))).toEqual({ sequence: 21, epoch: 1 });
    await trio.heal();
    await trio.settled('a', 's', 1);
    // It dies as soon as it is asked.
    const b = trio.open.get('b')!;
    b.on('space-role', () => undefined);
    const dying = a.switchover('s', 'b', { timeoutMs: 1_000 });
    const code = dying.catch((error) => error.code);
    await trio.stop('b');
    if (typeof (await code) === 'string') {
      await until('appends are taken again', () => space.status().role === 'primary');
      await until('and not paused', () => space.tryAppend(1, payload(22)) !== undefined);
    }
    await trio.start('b');
    const leader = space.status().role === 'primary' ? 'a' : 'b';
    if (leader === 'b') await trio.open.get('b')!.promote('s');
    await allTheSame(leader);
  });
});
