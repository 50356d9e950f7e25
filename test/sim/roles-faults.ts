/** What happens to nodes that take the lead from each other, besides what any cluster meets. */
import type { Cluster, SimNode } from './cluster.js';
import { ETCD } from './etcd.js';
import type { FaultHost, Faults, Work } from './faults.js';

export interface RolesFaultHost extends FaultHost {
  /** Of the lease of each node. */
  readonly ttlMs: number;
  /** Who leads one of the spaces; undefined: nobody does. */
  leader(): SimNode | undefined;
  /**
   * An operator promotes the node in all spaces that it does not lead.
   * @param led told when it leads one
   */
  promote(node: SimNode, led?: () => void): void;
  /**
   * Somebody waits for what the node has and the other one lacks.
   * @param isThere told when it is there
   */
  wait(node: SimNode, other: SimNode, isThere: () => void): void;
  /** No callback of its host returns for so long. */
  stick(node: SimNode, ms: number): void;
  /** Who reads along there takes one more entry, and then none for so long. */
  stand(node: SimNode, ms: number): void;
  /** A few entries for all spaces that it leads. */
  load(node: SimNode): void;
  /** No other fault for so long. */
  quiet(ms: number): void;
  /** What all of this is a part of. */
  faults(): Faults;
}

type Kinds = readonly (readonly [string, Work])[];

const DUEL_ROUNDS = 6;
const DUEL_EVERY_MS = 250;
/** So long does one go on alone whose entries are taken back. */
const ALONE_MS = 3_000;
/** So long a candidate waits for an answer. */
const ANSWER_MS = 2_000;
/** Until it has fetched what it lacks, or has given up. */
const FETCHED_MS = 4_000;

/** Where operators promote. */
export function isolations(host: RolesFaultHost): Kinds {
  const { cluster, chance } = host;
  /** Cut off: whoever leads there goes on alone, and another one may be promoted. */
  const isolate: Work = (node, _, ms) => {
    const others = othersOf(cluster, node.name);
    host.faults().cut(node.name, chance(2) === 0 ? [...others, ETCD] : others, 2 * ms);
  };
  const isolated = Array.from({ length: 4 }, () => ['isolated', isolate] as const);
  const usurped: Work = (node, _, ms) => usurp(host, node, 1 + chance(3), 2_600 + ms / 8);
  /** Two operators do the same, at the same moments. */
  const duel: Work = (node, other) => {
    for (let round = 0; round < DUEL_ROUNDS; round++) {
      host.later(round * DUEL_EVERY_MS, 'duel', () => {
        if (host.isHealing()) return;
        for (const one of [node, other]) if (one.isRunning) host.promote(one);
      });
    }
  };
  const stuck: Work = (node, _, ms) => host.stick(node, 3 * ms);
  return [
    ...isolated,
    ['usurped', usurped],
    ['usurped', usurped],
    ['duel', duel],
    ['figure 8', () => figureEight(host)],
    ['stuck host', stuck],
    ['stuck host', stuck],
    ['asleep', (node, _, ms) => sleep(host, node, host.ttlMs / 2 + ms)],
  ];
}

/** Where etcd says who leads. */
export function leaseFaults(host: RolesFaultHost): Kinds {
  const { cluster, chance, ttlMs } = host;
  const etcdAway: Work = (node, _, ms) => host.faults().cut(node.name, [ETCD], 2 * ms);
  const etcdRestarts: Work = (_, __, ms) => {
    if (!cluster.etcd.isUp) return;
    cluster.etcd.kill();
    host.later(ms, 'etcd is back', () => cluster.etcd.start());
  };
  /** What etcd says to a leader comes late, and then nothing comes to it from anybody. */
  const lateThenIsolated: Work = (node, _, ms) => {
    const { name } = host.leader() ?? node;
    const soonMs = ttlMs / 2 + chance(ttlMs);
    host.quiet(soonMs + 2 * ttlMs);
    cluster.network.delay(ETCD, name, 300 + chance(600));
    host.later(soonMs, `isolate ${name}`, () => {
      cluster.network.delay(ETCD, name, 0);
      if (host.isHealing()) return;
      host.faults().cut(name, [...othersOf(cluster, name), ETCD], 2 * ttlMs + ms);
    });
  };
  /** In the middle of an fdatasync it stands still, for longer than a lease lives. */
  const stopped: Work = (node, _, ms) =>
    inAnFdatasync(host, node, () => {
      node.owner.stop();
      return ttlMs + ms;
    });
  /** The same, and its clock knows nothing of it; it has entries under way. */
  const asleep: Work = (node, _, ms) => {
    const one = host.leader() ?? node;
    if (!one.isRunning) return;
    inAnFdatasync(host, one, () => {
      one.owner.sleep(cluster.clock.nowMs);
      host.quiet(2 * ttlMs + ms);
      return 2 * ttlMs + ms;
    });
    host.load(one);
  };
  return [
    ['etcd away', etcdAway],
    ['etcd away', etcdAway],
    ['etcd restarts', etcdRestarts],
    ['late, then isolated', lateThenIsolated],
    ['late, then isolated', lateThenIsolated],
    ['stopped in an fdatasync', stopped],
    ['stopped in an fdatasync', stopped],
    ['asleep in an fdatasync', asleep],
    ['asleep in an fdatasync', asleep],
  ];
}

function othersOf({ nodes }: Cluster, name: string): string[] {
  return nodes.map((node) => node.name).filter((id) => id !== name);
}

/** Who leads is cut off and goes on alone, while another one is promoted; then the next one is. */
function usurp(host: RolesFaultHost, node: SimNode, times: number, ms: number): void {
  const { cluster, chance, isHealing } = host;
  const before = host.leader() ?? node;
  const { name } = before;
  const others = cluster.nodes.filter((n) => n.name !== name);
  host.quiet(ms + 500);
  host.faults().cut(name, [...others.map((n) => n.name), ETCD], ms);
  host.later(ms / 16, `load ${name}`, () => {
    if (!isHealing() && before.isRunning) host.load(before);
  });
  host.later(ms / 12, 'usurp', () => {
    const next = others[chance(others.length)]!;
    if (!isHealing() && next.isRunning) host.promote(next);
  });
  host.later(ms, `ask ${name}`, () => {
    // Nobody may have told it yet that another one leads: what it is asked brings it to light.
    if (!isHealing() && before.isRunning) host.promote(before, () => host.load(before));
  });
  if (times === 1) return;
  host.later(ms + chance(300), 'usurp again', () => {
    if (!isHealing()) usurp(host, node, times - 1, ms);
  });
}

/**
 * Raft's figure 8. One has entries that nobody else has; the next one leads, and nobody has the
 * entry that its epoch begins with; the first one leads again, ships what it had, and dies as soon
 * as a replica has some of it, which dies with it. Then the second one may lead once more, and
 * take all that back.
 */
function figureEight(host: RolesFaultHost): void {
  const { cluster, chance } = host;
  const first = host.leader();
  const [second, third] = cluster.nodes.filter((n) => n !== first);
  if (!first || !second?.isRunning || !third?.isRunning || cluster.nodes.length > 3) return;
  const step = (ms: number, what: string, work: () => unknown): void =>
    host.later(ms, what, () => {
      if (!host.isHealing()) work();
    });
  host.quiet(11_000);
  host.faults().cut(first.name, [second.name, third.name], 3_000);
  step(50, `load ${first.name}`, () => {
    for (let n = 0; n < 30 && first.isRunning; n++) host.load(first);
  });
  let isLed = false;
  const alone = (ms: number): void => host.faults().cut(second.name, [first.name, third.name], ms);
  step(400, `promote ${second.name}`, () => {
    if (!second.isRunning) return;
    host.promote(second, () => {
      isLed = true;
      alone(6_000);
    });
  });
  // The first one's links are open again, all of them.
  step(3_001, `isolate ${second.name}`, () => isLed && alone(7_000 + chance(500)));
  step(3_100, `promote ${first.name}`, () => {
    if (!isLed || !first.isRunning || !third.isRunning) return;
    const die = (): void => {
      host.note(`${third.name} has some of it`);
      first.kill();
      third.kill();
      third.disk.delay = undefined;
      host.restartLater(first, 8_000);
      host.restartLater(third, 100);
    };
    // So slow that it has some before it has all.
    third.disk.delay = { only: 'fdatasync', ms: 40 };
    host.promote(first, () => host.wait(first, third, die));
  });
  step(10_500, `promote ${second.name}`, () => {
    third.disk.delay = undefined;
    if (second.isRunning) host.promote(second);
  });
}

/**
 * Twice who leads is cut off and goes on alone, while another one is promoted: what it had alone
 * is taken back twice, the second time from a later entry on. Who reads along there has an entry of
 * the first time, stands still, and goes on when all that is over.
 */
export function takenBackTwice(host: RolesFaultHost): void {
  const { cluster, later } = host;
  const first = host.leader();
  const [second] = cluster.nodes.filter((n) => n !== first);
  if (!first || !second) return;
  const others = othersOf(cluster, first.name);
  const promote = (node: SimNode, ms: number): void =>
    later(ms, `promote ${node.name}`, () => {
      if (!host.isHealing() && node.isRunning) host.promote(node);
    });
  const goAlone = (): void => {
    if (host.isHealing() || !first.isRunning) return;
    host.faults().cut(first.name, others, ALONE_MS);
    host.load(first);
    // It waits for the answer of who is cut off.
    promote(second, 50);
  };
  host.quiet(3 * ALONE_MS);
  goAlone();
  later(50, `stand still at ${first.name}`, () => host.stand(first, 3 * ALONE_MS - 500));
  for (const ms of [200, 400, 600]) promote(first, ALONE_MS + ms);
  later(1.5 * ALONE_MS, `${first.name} is alone once more`, goAlone);
}

/**
 * While a candidate waits in vain for the answer of who leads, the other member gets more; it
 * fetches that behind the promise, over a slow way. Who led is promoted again meanwhile, and
 * streams the same entries to it.
 */
export function fetchedMeanwhile(host: RolesFaultHost): void {
  const { cluster, chance, later } = host;
  const leader = host.leader();
  const [candidate, member] = cluster.nodes.filter((n) => n !== leader);
  if (!leader || !candidate || !member) return;
  const at = (node: SimNode, ms: number, what: string, work: (node: SimNode) => void): void =>
    later(ms, `${what} ${node.name}`, () => {
      if (!host.isHealing() && node.isRunning) work(node);
    });
  host.quiet(FETCHED_MS);
  for (let ms = 0; ms < ANSWER_MS; ms += 50) at(leader, ms, 'load', host.load);
  at(candidate, 101, 'cut off', (node) => {
    host.faults().cut(node.name, [leader.name], ANSWER_MS + 100);
    host.promote(node);
  });
  // The first answer is there by then.
  at(candidate, 140, 'slow', ({ name }) => {
    cluster.network.delay(member.name, name, 150);
    later(FETCHED_MS, 'no delay', () => cluster.network.delay(member.name, name, 0));
  });
  for (let ms = ANSWER_MS + 600 + chance(250); ms < FETCHED_MS; ms += 100) {
    at(leader, ms, 'promote', (node) => host.promote(node));
  }
}

function sleep(host: RolesFaultHost, node: SimNode, ms: number): void {
  if (!node.node) return;
  const { clock } = host.cluster;
  const { owner } = node;
  owner.sleep(clock.nowMs);
  host.later(ms, `wake ${node.name}`, () => clock.goOn(owner));
}

/** @param stop stops it, and says for how long */
function inAnFdatasync(host: RolesFaultHost, node: SimNode, stop: () => number): void {
  const { disk, owner } = node;
  disk.when(
    (call) => call.startsWith('fdatasync'),
    1,
    () => {
      if (host.isHealing() || owner.isDead) return;
      disk.delay = { only: 'fdatasync', ms: 1 };
      host.later(stop(), `go on ${node.name}`, () => {
        disk.delay = undefined;
        host.cluster.clock.goOn(owner);
      });
    },
  );
}
