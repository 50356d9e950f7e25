/**
 * The etcd coordinator against a real etcd, with doubles of nodes: leases, claims, placement, and
 * an etcd that is paused, killed and compacted. What nodes make of it is another file's. Two files
 * run all of this: in clear, and with TLS and a user.
 */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { EngramError, Member } from '#src/main/index.js';
import type { CoordinatedNode, CoordinatorEvent, Standing } from '#src/main/lead/coordinator.js';
import { EtcdCoordinator } from '#src/main/lead/etcd/coordinator.js';
import { EtcdLink } from '#src/main/lead/etcd/link.js';
import { Message } from '#src/main/lead/etcd/messages.js';
import { EtcdSession } from '#src/main/lead/etcd/session.js';
import { pause } from '#src/main/runtime/deadline.js';
import { makeFolder, removeFolder, until } from '../support/cluster.js';
import { asked, EtcdServer } from '../support/etcd.js';

const TTL_MS = 2_000;

/** A node of no log: it leads what it is told to, and remembers what it was told. */
class Double implements CoordinatedNode {
  readonly clusterId = 'test';
  readonly address: { host: string; port: number };
  readonly coordinator: EtcdCoordinator;
  readonly events: CoordinatorEvent[] = [];
  readonly known = new Map<string, Standing>();
  /** Spaces that take appends, and in which epoch. */
  readonly open = new Map<string, number>();
  readonly replicas = new Map<string, string>();
  /** Given to others, by "space epoch": who leads in it. */
  readonly epochs = new Map<string, string | undefined>();
  members: readonly Member[] = [];
  refusesToLead = false;
  promotions = 0;
  beforeClaim: () => Promise<void> = async () => undefined;

  constructor(
    etcd: EtcdServer,
    readonly nodeId: string,
    port: number,
    more: { place?: string; replicasPerSpace?: number } = {},
  ) {
    this.address = { host: '127.0.0.1', port };
    this.coordinator = new EtcdCoordinator('test', nodeId, more.place ?? nodeId, {
      ...etcd.access,
      ttlMs: TTL_MS,
      prefix: 'wal',
      replicasPerSpace: more.replicasPerSpace ?? 2,
    });
  }

  standings(): Iterable<Standing> {
    return [...this.known.keys()].map((space) => this.standingOf(space)!);
  }

  standingOf(space: string): Standing | undefined {
    const standing = this.known.get(space);
    return standing && { ...standing, leads: this.open.has(space) };
  }

  nodesOf(): readonly string[] {
    return [this.nodeId];
  }

  has(space: string, role: Standing['role'], epoch: number): void {
    const position = { epoch, sequence: 1, headerCrc: 0 };
    this.known.set(space, {
      space,
      role,
      epoch,
      position,
      ...{ leads: false, refusal: undefined },
    });
  }

  async promote(space: string): Promise<void> {
    this.promotions++;
    if (this.refusesToLead) throw new Error('not qualified');
    await this.beforeClaim();
    const epoch = await this.coordinator.claim(space, this.known.get(space)?.epoch ?? 0);
    this.has(space, 'primary', epoch);
    this.open.set(space, epoch);
  }

  stepDown(space: string): void {
    this.open.delete(space);
  }

  resume(space: string, epoch: number): void {
    this.open.set(space, epoch);
  }

  heard(space: string, epoch: number, leader: Member | undefined): void {
    this.epochs.set(`${space} ${epoch}`, leader?.nodeId);
  }

  setMembers(members: readonly Member[]): void {
    this.members = members;
  }

  setReplicas(space: string, nodeIds: readonly string[]): Promise<void> {
    this.replicas.set(space, nodeIds.join());
    return Promise.resolve();
  }

  event(event: CoordinatorEvent): void {
    this.events.push(event);
  }

  /** May a promise be kept now? What a node asks before it acknowledges. */
  acknowledges(space: string): boolean {
    return this.open.has(space) && performance.now() < this.coordinator.ackUntilMs;
  }

  start(): Promise<void> {
    return this.coordinator.start(this);
  }
}

let folder: string;
let etcd: EtcdServer;
const doubles: Double[] = [];

beforeEach(async () => {
  folder = makeFolder();
  etcd = await EtcdServer.start(folder, undefined, asked.isSecured);
});

afterEach(async () => {
  etcd.resume();
  await Promise.all(doubles.splice(0).map((d) => d.coordinator.close()));
  await etcd.kill();
  removeFolder(folder);
  vi.restoreAllMocks();
});

function double(nodeId: string, more: ConstructorParameters<typeof Double>[3] = {}): Double {
  const made = new Double(etcd, nodeId, 7_000 + doubles.length, more);
  doubles.push(made);
  return made;
}

async function three(): Promise<[Double, Double, Double]> {
  const nodes: [Double, Double, Double] = [double('a'), double('b'), double('c')];
  await Promise.all(nodes.map((n) => n.start()));
  await until('all see all', () => nodes.every((n) => n.members.length === 3));
  return nodes;
}

/** As if this process were stopped: nothing of it reaches etcd any more. */
async function abandon(d: Double): Promise<void> {
  // The lease is not revoked: it runs out by itself.
  const revoke = vi.spyOn(EtcdSession.prototype, 'revoke').mockResolvedValue(undefined);
  await d.coordinator.close();
  revoke.mockRestore();
}

const leadersOf = (nodes: readonly Double[], space: string): Double[] =>
  nodes.filter((n) => n.acknowledges(space));

describe('placement', () => {
  test('spaces are spread over the nodes, and led where they are meant to be', async () => {
    const nodes = await three();
    for (let n = 0; n < 9; n++) await nodes[0].coordinator.place(`s${n}`, undefined);
    const names = Array.from({ length: 9 }, (_, n) => `s${n}`);
    await until('all are led', () => names.every((s) => leadersOf(nodes, s).length === 1));
    expect(nodes.map((n) => n.open.size)).toEqual([3, 3, 3]);
    expect(nodes.every((n) => [...n.open.values()].every((epoch) => epoch === 1))).toBe(true);

    const own = await nodes[1].coordinator.place('mine', true);
    expect(own.nodeIds[0]).toBe('b');
    await until('b leads it', () => nodes[1].open.has('mine'));
    expect(nodes[2].coordinator.leaderOf('mine')).toEqual({
      nodeId: 'b',
      epoch: 1,
      address: nodes[1].address,
    });
    // The same space again is where it is.
    expect((await nodes[2].coordinator.place('mine', true)).nodeIds).toEqual(own.nodeIds);
  });

  test('a space made while nodes were missing gets its replicas when they come', async () => {
    const a = double('a');
    await a.start();
    await a.coordinator.place('s', undefined);
    await until('a leads alone', () => a.acknowledges('s'));
    await until('of nobody else', () => a.replicas.get('s') === 'a');
    const b = double('b');
    await b.start();
    await until('b is added', () => a.replicas.get('s') === 'a,b');
    const c = double('c');
    const d = double('d');
    await c.start();
    await until('c is added', () => a.replicas.get('s') === 'a,b,c');
    await d.start();
    await until('d is seen', () => a.members.length === 4);
    expect(a.replicas.get('s')).toBe('a,b,c');
  });

  test('a node that is lost for good is removed, and another takes its place', async () => {
    const nodes = await three();
    await nodes[0].coordinator.place('s', true);
    await until('a leads three', () => nodes[0].replicas.get('s')?.split(',').length === 3);
    const d = double('d');
    await d.start();
    await until('d is seen', () => nodes[1].members.length === 4);
    const refused = await nodes[1].coordinator.removeNode('c').catch((e: EngramError) => e.code);
    expect(refused).toBe('Configuration');
    await nodes[2].coordinator.close();
    await until('c is gone', () => nodes[1].members.length === 3);
    // By any node, not only by the one that leads.
    await nodes[1].coordinator.removeNode('c');
    await until('d has it', () => nodes[0].replicas.get('s')?.split(',').sort().join() === 'a,b,d');
    const unknown = await nodes[1].coordinator.removeNode('c').catch((e: EngramError) => e.code);
    expect(unknown).toBe('ReplicaNotFound');
  });

  test('a space that was led without etcd is made known, and led on in a new epoch', async () => {
    const a = double('a');
    a.has('old', 'primary', 7);
    await a.start();
    await until('it goes on in an epoch of its own', () => a.acknowledges('old'));
    expect(a.open.get('old')).toBe(8);
    expect(a.coordinator.leaderOf('old')).toMatchObject({ nodeId: 'a', epoch: 8 });
  });
});

describe('claims', () => {
  test('of many claims at once one gets the epoch, and epochs never come twice', async () => {
    const nodes = await three();
    for (const n of nodes) n.refusesToLead = true;
    await nodes[0].coordinator.place('s', true);
    await until('all know it', () => nodes.every((n) => n.promotions > 0));
    const epochs: number[] = [];
    for (let round = 0; round < 5; round++) {
      const answers = await Promise.allSettled(nodes.map((n) => n.coordinator.claim('s', 0)));
      const given = answers.flatMap((a, n) =>
        a.status === 'fulfilled' ? [{ node: nodes[n]!, epoch: a.value }] : [],
      );
      const codes = answers.flatMap((a) => (a.status === 'rejected' ? [a.reason.code] : []));
      expect(given).toHaveLength(1);
      expect(codes).toEqual(['NotPrimary', 'NotPrimary']);
      epochs.push(given[0]!.epoch);
      expect(await given[0]!.node.coordinator.holds('s', given[0]!.epoch)).toBe(true);
      await given[0]!.node.coordinator.release('s', given[0]!.epoch);
      expect(await given[0]!.node.coordinator.holds('s', given[0]!.epoch)).toBe(false);
    }
    expect(epochs).toEqual([...new Set(epochs)].sort((x, y) => x - y));
    // Above what a member has heard of, whatever etcd has.
    expect(await nodes[0].coordinator.claim('s', 40)).toBe(41);
  });

  test('a leader hands over: no moment without one, and the old one stops', async () => {
    const nodes = await three();
    await nodes[0].coordinator.place('s', true);
    await until('a leads', () => nodes[0].acknowledges('s'));
    const refused = await nodes[1].coordinator.claim('s', 1).catch((e: EngramError) => e.code);
    expect(refused).toBe('NotPrimary');
    expect(await nodes[1].coordinator.claim('s', 1, 'a')).toBe(2);
    await until('a has stepped down', () => !nodes[0].open.has('s'));
    expect(await nodes[0].coordinator.holds('s', 1)).toBe(false);
  });

  test('a leader that must not lead any more gives its space to another', async () => {
    const nodes = await three();
    await nodes[0].coordinator.place('s', true);
    await until('a leads', () => nodes[0].acknowledges('s'));
    for (const n of nodes.slice(1)) n.has('s', 'replica', 1);
    nodes[0].known.set('s', { ...nodes[0].known.get('s')!, refusal: 'the disk has failed' });
    await until('another leads', () => leadersOf(nodes.slice(1), 's').length === 1);
    expect(nodes[0].open.has('s')).toBe(false);
  });
});

async function revision(): Promise<number> {
  const client = etcd.client();
  const { revision } = await client.list('nothing/');
  client.close();
  return revision;
}

describe('a claim', () => {
  /** What a node asks etcd for next is done there, and the node is not told. */
  function loseNextAnswer(): void {
    const { write } = EtcdLink.prototype;
    const lose = async function (this: EtcdLink, txns: Parameters<EtcdLink['write']>[0]) {
      await write.call(this, txns);
      throw new Error('the answer is lost');
    };
    vi.spyOn(EtcdLink.prototype, 'write').mockImplementationOnce(lose);
  }

  // Well before the time that a promotion is given in vain.
  const SOON_MS = 8_000;

  test('what etcd has given and could not say is given up at once, and led', async () => {
    const nodes = await three();
    const a = nodes[0];
    a.beforeClaim = async () => {
      a.beforeClaim = async () => undefined;
      loseNextAnswer();
    };
    await a.coordinator.place('s', true);
    await until('it is led', () => leadersOf(nodes, 's').length === 1, SOON_MS);
    expect(leadersOf(nodes, 's')[0]!.open.get('s')).toBe(2);
  });

  test('it came to nothing, and etcd could not be told: given up at once, and led', async () => {
    const nodes = await three();
    const [a] = nodes;
    const claim = a.coordinator.claim.bind(a.coordinator);
    vi.spyOn(a.coordinator, 'claim').mockImplementationOnce(async (...asked) => {
      const epoch = await claim(...asked);
      vi.spyOn(EtcdLink.prototype, 'write').mockRejectedValueOnce(new Error('unreachable'));
      await a.coordinator.release('s', epoch);
      return epoch;
    });
    await a.coordinator.place('s', true);
    await until('it is led', () => leadersOf(nodes, 's').length === 1, SOON_MS);
  });
});

describe('a node that goes', () => {
  test('its spaces fail over together and are spread; nobody leads twice', async () => {
    const nodes = await three();
    const names = Array.from({ length: 24 }, (_, n) => `s${n}`);
    for (const name of names) await nodes[0].coordinator.place(name, true);
    await until('a leads all', () => names.every((s) => nodes[0].acknowledges(s)));
    for (const n of nodes.slice(1)) for (const name of names) n.has(name, 'replica', 1);
    await abandon(nodes[0]);
    const left = nodes.slice(1);
    await until('all are led again', () => names.every((s) => leadersOf(left, s).length === 1));
    for (const n of left) {
      expect([...n.open.values()]).toEqual(Array.from(n.open, () => 2));
      expect(n.open.size).toBeGreaterThan(4);
    }
  });

  test('FAULT-115 it led hundreds: few transactions, each by its first candidate', async () => {
    const nodes = await three();
    const names = Array.from({ length: 600 }, (_, n) => `s${n}`);
    const before = await revision();
    await Promise.all(names.map((name) => nodes[0].coordinator.place(name, true)));
    await until('a leads all', () => names.every((s) => nodes[0].acknowledges(s)));
    const placed = await revision();
    expect(placed - before).toBeLessThan(120);
    for (const n of nodes.slice(1)) for (const name of names) n.has(name, 'replica', 1);
    await abandon(nodes[0]);
    const left = nodes.slice(1);
    await until('all are led again', () => names.every((s) => leadersOf(left, s).length === 1));
    // One by one they were 600, and the node's own key.
    expect((await revision()) - placed).toBeLessThan(60);
    for (const n of left) expect([...n.open.values()]).toEqual(Array.from(n.open, () => 2));
  }, 60_000);

  test('FAULT-115 a candidate that is at work on others is waited for', async () => {
    const nodes = await three();
    const names = Array.from({ length: 600 }, (_, n) => `s${n}`);
    await Promise.all(names.map((name) => nodes[0].coordinator.place(name, true)));
    await until('a leads all', () => names.every((s) => nodes[0].acknowledges(s)));
    const left = nodes.slice(1);
    for (const n of left) for (const name of names) n.has(name, 'replica', 1);
    // The first of many is led soon, the last one long after the turn of the second candidate.
    for (const n of left) {
      let begun = 0;
      n.beforeClaim = () => pause(3 * begun++);
    }
    await abandon(nodes[0]);
    await until('all are led again', () => names.every((s) => leadersOf(left, s).length === 1));
    const tried = left.reduce((sum, n) => sum + n.promotions, 0);
    expect(tried).toBeLessThan(620);
  }, 60_000);

  test('the best candidate may refuse: the next one goes', async () => {
    const nodes = await three();
    await nodes[0].coordinator.place('s', true);
    await until('a leads', () => nodes[0].acknowledges('s'));
    for (const n of nodes.slice(1)) n.has('s', 'replica', 1);
    for (const refuses of [nodes[1], nodes[2]]) refuses.refusesToLead = true;
    await nodes[0].coordinator.close();
    await until('both have tried', () => nodes[1].promotions > 0 && nodes[2].promotions > 0);
    expect(nodes[1].events).toContainEqual({
      kind: 'waiting',
      space: 's',
      reason: 'not qualified',
    });
    nodes[2].refusesToLead = false;
    await until('c leads', () => nodes[2].acknowledges('s'));
  });

  test('FAULT-80 closed, it holds nothing till the lease runs out', async () => {
    const nodes = await three();
    await nodes[0].coordinator.place('s', true);
    await until('a leads', () => nodes[0].acknowledges('s'));
    for (const n of nodes.slice(1)) n.has('s', 'replica', 1);
    const seen = nodes[1].coordinator;
    await nodes[0].coordinator.close();
    // The lease was revoked, not left: it has gone from etcd when close resolves.
    const client = etcd.client();
    const { pairs } = await client.list('wal/test/nodes/');
    client.close();
    expect(pairs.map(({ key }) => key.split('/').at(-2)).sort()).toEqual(['b', 'c']);
    await until('another leads', () => seen.leaderOf('s')?.epoch === 2);
  });

  test('killed and started again at once, it goes on in its epoch', async () => {
    const nodes = await three();
    await nodes[0].coordinator.place('s', true);
    await until('a leads', () => nodes[0].acknowledges('s'));
    for (const n of nodes.slice(1)) n.has('s', 'replica', 1);
    await abandon(nodes[0]);
    const again = double('a');
    again.has('s', 'primary', 1);
    await again.start();
    await until('it leads again', () => again.acknowledges('s'));
    expect(again.open.get('s')).toBe(1);
    expect(nodes[1].promotions + nodes[2].promotions).toBe(0);
  });

  test('a copy of a living node gets no lease and no space', async () => {
    const nodes = await three();
    await nodes[0].coordinator.place('s', true);
    await until('a leads', () => nodes[0].acknowledges('s'));
    const copy = double('a', { place: 'elsewhere' });
    copy.has('s', 'primary', 1);
    await copy.start();
    await until('it says why', () => copy.events.some((e) => e.kind === 'waiting'));
    expect(copy.acknowledges('s')).toBe(false);
    expect(await nodes[0].coordinator.holds('s', 1)).toBe(true);
    await nodes[0].coordinator.close();
    await until('its time has come', () => copy.members.some((m) => m.port === copy.address.port));
  });
});

describe('an etcd that fails', () => {
  test('FAULT-67 unreachable: the leader stops in time, nobody else begins', async () => {
    const nodes = await three();
    await nodes[0].coordinator.place('s', true);
    await until('a leads', () => nodes[0].acknowledges('s'));
    for (const n of nodes.slice(1)) n.has('s', 'replica', 1);
    etcd.pause();
    const pausedMs = performance.now();
    // By the clock alone, whatever timers do: the last word was sent before etcd was paused.
    expect(nodes[0].coordinator.ackUntilMs).toBeLessThan(pausedMs + TTL_MS);
    await until('it acknowledges nothing', () => !nodes[0].acknowledges('s'));
    await until('and takes nothing', () => !nodes[0].open.has('s'));
    await until('all say so', () =>
      nodes.every((n) => n.events.some((e) => e.kind === 'link' && !e.connected)),
    );
    expect(leadersOf(nodes, 's')).toEqual([]);
    await until('no lease is held', () =>
      nodes.every((n) => performance.now() >= n.coordinator.ackUntilMs),
    );
    const refused = await nodes[1].coordinator.claim('s', 1).catch((e: EngramError) => e.code);
    expect(refused).toBe('CoordinatorUnavailable');
    etcd.resume();
    await until('somebody leads', () => leadersOf(nodes, 's').length === 1);
  });

  test('killed and back: the same leader, the same epoch, nothing to be done', async () => {
    const nodes = await three();
    await nodes[0].coordinator.place('s', true);
    await until('a leads', () => nodes[0].acknowledges('s'));
    for (const n of nodes.slice(1)) n.has('s', 'replica', 1);
    for (let time = 0; time < 2; time++) {
      await etcd.kill();
      await until('it is missed', () =>
        nodes.every((n) => n.events.filter((e) => e.kind === 'link' && !e.connected).length > time),
      );
      await etcd.start();
      await until('it is back', () =>
        nodes.every(
          (n) => n.events.filter((e) => e.kind === 'link' && e.connected).length > time + 1,
        ),
      );
      await until('a leads', () => nodes[0].acknowledges('s'));
    }
    expect(nodes[0].open.get('s')).toBe(1);
    // And what happens from now on is seen.
    await nodes[0].coordinator.close();
    await until('another leads', () => leadersOf(nodes.slice(1), 's').length === 1);
  });

  test.each([
    ['taken away', undefined],
    ['written over', 'rubbish'],
    ['said to listen elsewhere', '{"host":"10.0.0.9","port":9,"place":"elsewhere"}'],
  ])('its own row is %s: it is put back, and it leads on, or again', async (_, value) => {
    const nodes = await three();
    await nodes[0].coordinator.place('s', true);
    await until('a leads', () => nodes[0].acknowledges('s'));
    const client = etcd.client();
    const rows = async (): Promise<string[]> =>
      (await client.list('wal/test/nodes/a/')).pairs.map((pair) => pair.value);
    const before = await rows();
    const [pair] = (await client.list('wal/test/nodes/a/')).pairs;
    await client.write([{ conditions: [], writes: [{ key: pair!.key, value }] }]);
    let now: string[] = [];
    for (let n = 0; n < 100 && now.join() !== before.join(); n++) {
      await pause(100);
      now = await rows();
    }
    client.close();
    expect(now).toEqual(before);
    await until('it leads', () => nodes[0].acknowledges('s'));
    for (const { members } of nodes) expect(members.map((m) => m.port)).not.toContain(9);
  });

  test('the record of a space that is led is taken away: it is made anew, and led on', async () => {
    const nodes = await three();
    await nodes[0].coordinator.place('s', true);
    await until('a leads', () => nodes[0].acknowledges('s'));
    for (const n of nodes.slice(1)) n.has('s', 'replica', 1);
    const client = etcd.client();
    const spaces = async () => (await client.list('wal/test/spaces/')).pairs;
    const [{ key } = { key: '' }] = await spaces();
    await client.write([{ conditions: [], writes: [{ key, value: undefined }] }]);
    await until('somebody leads it anew', () => {
      return nodes.some((n) => n.acknowledges('s') && n.open.get('s')! > 1);
    });
    expect(leadersOf(nodes, 's')).toHaveLength(1);
    expect((await spaces()).map((pair) => pair.key)).toEqual([key]);
    client.close();
  });

  test('compacted while a watch is away: what changed meanwhile is seen', async () => {
    const nodes = await three();
    await nodes[0].coordinator.place('s', true);
    await until('a leads', () => nodes[0].acknowledges('s'));
    for (const n of nodes.slice(1)) n.has('s', 'replica', 1);
    await etcd.kill();
    await until('it is missed', () =>
      nodes.every((n) => n.events.some((e) => e.kind === 'link' && !e.connected)),
    );
    await etcd.start();
    // Before and after they are back: revisions go by, and are compacted away.
    const again = etcd.client();
    let revision = 0;
    for (let n = 0; n <= 50; n++) {
      const writes = [{ key: 'elsewhere', value: String(n) }];
      [revision = 0] = await again.write([{ conditions: [], writes }]);
    }
    again.close();
    await etcd.askAsRoot('KV/Compact', new Message().int(1, revision).int(2, 1));
    await nodes[0].coordinator.close();
    await until('another leads', () => leadersOf(nodes.slice(1), 's').length === 1);
  });

  test('FAULT-74 a node that was stopped finds its lease gone before it acknowledges', async () => {
    const nodes = await three();
    await nodes[0].coordinator.place('s', true);
    await until('a leads', () => nodes[0].acknowledges('s'));
    for (const n of nodes.slice(1)) n.has('s', 'replica', 1);
    // All of this thread stands still, longer than the lease lives; etcd does not.
    const resumedMs = performance.now() + TTL_MS + 1_500;
    while (performance.now() < resumedMs)
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100);
    // Before any timer or message has had its turn.
    expect(nodes[0].open.has('s')).toBe(true);
    expect(nodes[0].acknowledges('s')).toBe(false);
    await until('somebody leads', () => leadersOf(nodes, 's').length === 1);
  });

  test('never reached: the node opens and leads nothing; then it does', async () => {
    await etcd.kill();
    const a = double('a');
    a.has('s', 'primary', 3);
    a.open.set('s', 3);
    await a.start();
    expect(a.acknowledges('s')).toBe(false);
    await etcd.start();
    await until('it leads', () => a.acknowledges('s'));
  });
});
