/**
 * Members that change: one is wiped and comes back under its name, another one is added or removed.
 * One at a time is wiped, and only while who counts is as it should be: then no entry that was
 * acknowledged with a replica may be lost, without anybody's force.
 */
import type { SpaceStatus } from '#src/main/index.js';
import type { SimNode } from './cluster.js';
import type { Work } from './faults.js';
import type { RolesFaultHost } from './roles-faults.js';

export interface MembersHost extends RolesFaultHost {
  readonly spaces: readonly string[];
  /** Operators say who is a member; otherwise etcd does. */
  readonly hasOperators: boolean;
  /** Calls of an operator, which may be refused. */
  ask(node: SimNode, work: () => Promise<void>): void;
  /** Nothing is left of what the node and its host had. */
  wiped(node: SimNode): void;
}

/** Who leads the space in the highest epoch, by what nodes that run say. */
export function leaderOf(nodes: readonly SimNode[], space: string): SimNode | undefined {
  const led = nodes.flatMap((node) => {
    const status = node.isRunning ? statusOn(node, space) : undefined;
    return status?.role === 'primary' ? [{ node, epoch: status.epoch }] : [];
  });
  return led.sort((x, y) => y.epoch - x.epoch)[0]?.node;
}

export function statusOn(node: SimNode, space: string): SpaceStatus | undefined {
  return node.node?.spaces.find((s) => s.name === space)?.status();
}

/** The nodes that count in a space, by who leads it. */
export function countingIn(nodes: readonly SimNode[], space: string): string[] {
  const leader = leaderOf(nodes, space);
  const { counting } = (leader && statusOn(leader, space)?.members) ?? { counting: [] };
  return counting.map((m) => m.nodeId).sort();
}

/** No change is under way, and every directory that counts is there. */
export function isSettled(nodes: readonly SimNode[], space: string): boolean {
  const leader = leaderOf(nodes, space);
  const members = leader && statusOn(leader, space)?.members;
  if (!members || members.pending || members.learners.length > 0) return false;
  const here = nodes.flatMap((n) => (n.isRunning ? [n.node!.status().directoryId] : []));
  return members.counting.length > 1 && members.counting.every((m) => here.includes(m.directoryId));
}

/** Nodes whose directory counts and is nowhere any more: a set of two cannot replace it. */
export function lostIn(nodes: readonly SimNode[], space: string): string[] {
  const leader = leaderOf(nodes, space);
  const members = leader && statusOn(leader, space)?.members;
  const counting = [...(members?.counting ?? []), ...(members?.pending ?? [])];
  const here = nodes.flatMap((n) => (n.isRunning ? [n.node!.status().directoryId] : []));
  const lost = counting.filter((m) => !here.includes(m.directoryId)).map((m) => m.nodeId);
  return [...new Set(lost)];
}

/** And each of them follows, in the present epoch: who does not is missing, as one wiped is. */
function isFollowed(nodes: readonly SimNode[], space: string): boolean {
  if (!isSettled(nodes, space)) return false;
  const { members, replicas } = statusOn(leaderOf(nodes, space)!, space)!;
  const counting = replicas.filter((r) => members.counting.some((m) => m.nodeId === r.replicaId));
  return counting.every((r) => r.state === 'streaming' && r.ackedSequence > 0);
}

export function memberFaults(host: MembersHost): readonly (readonly [string, Work])[] {
  const { cluster, chance, spaces } = host;
  const wiped: Work = (node, _, ms) => {
    if (!spaces.every((space) => isFollowed(cluster.nodes, space))) return;
    wipe(host, node);
    host.restartLater(node, ms);
  };
  /** An operator asks the leader of a space for one more of those that are none, or one less. */
  const changed: Work = () => {
    const space = spaces[chance(spaces.length)]!;
    const leader = leaderOf(cluster.nodes, space);
    if (!leader) return;
    const counting = countingIn(cluster.nodes, space);
    const others = cluster.nodes.filter((n) => n !== leader);
    const [members, strangers] = [
      others.filter((n) => counting.includes(n.name)),
      others.filter((n) => !counting.includes(n.name)),
    ];
    // Two are left at least, in whatever the leader leads: a node goes from all of it.
    const led = spaces.filter((one) => leaderOf(cluster.nodes, one) === leader);
    const sets = led.map((one) => countingIn(cluster.nodes, one));
    const mayGo = members.filter((m) => sets.every((s) => !s.includes(m.name) || s.length > 2));
    const isLess = mayGo.length > 0 && (strangers.length === 0 || chance(3) === 0);
    const from = isLess ? mayGo : strangers;
    if (from.length === 0) return;
    const { name, port } = from[chance(from.length)]!;
    host.note(`${leader.name} is asked to ${isLess ? 'remove' : 'add'} ${name}`);
    host.ask(leader, () =>
      isLess
        ? leader.node!.removeReplica(name)
        : leader.node!.addReplica({ nodeId: name, host: '127.0.0.1', port }),
    );
  };
  const wipes = Array.from({ length: 5 }, () => ['wiped', wiped] as const);
  if (!host.hasOperators) return wipes;
  return [
    ...wipes,
    ...Array.from({ length: 5 }, () => ['members', changed] as const),
    ...Array.from({ length: 3 }, () => ['forgets', () => forgets(host)] as const),
    ...Array.from({ length: 3 }, () => ['added', () => addedAlone(host)] as const),
  ];
}

/** Most runs begin with one of those that tell most: later all is seldom well enough. */
export function beginsWith(host: MembersHost): void {
  const play = [forgets, addedAlone, exchanged][host.chance(4)];
  if (play) host.later(FIRST_MS, 'play', () => play(host));
}

function wipe(host: MembersHost, node: SimNode): void {
  node.losePower();
  node.disk.restore(new Map());
  host.wiped(node);
  host.note(`wiped ${node.name}`);
}

const STEP_MS = 5;
/** Before any fault. */
export const FIRST_MS = 450;

/** Who leads one of the spaces, and two others that count in it: all that do, and they follow. */
function three(host: MembersHost): { space: string; trio: SimNode[] } | undefined {
  const { cluster, chance, spaces } = host;
  const space = spaces[chance(spaces.length)]!;
  if (!spaces.every((one) => isFollowed(cluster.nodes, one))) return undefined;
  const leader = leaderOf(cluster.nodes, space)!;
  const counting = countingIn(cluster.nodes, space);
  const others = cluster.nodes.filter((n) => n !== leader && counting.includes(n.name));
  return others.length === 2 ? { space, trio: [leader, ...others] } : undefined;
}

/** Asks again and again until it holds, or the time is over. */
function once(host: MembersHost, ms: number, holds: () => boolean, work: () => void): void {
  host.later(STEP_MS, 'look', () => {
    if (host.isHealing() || ms <= 0) return;
    if (holds()) work();
    else once(host, ms - STEP_MS, holds, work);
  });
}

/**
 * A replica that has what the other one lacks is emptied; it is given the space again, and who
 * gives it dies before all is there. Then the other one is promoted: what two had is with one that
 * is away, and who has forgotten it is no witness.
 */
function forgets(host: MembersHost): void {
  const { restartLater } = host;
  const found = three(host);
  if (!found) return;
  const { space, trio } = found;
  const [leader, emptied, other] = trio as [SimNode, SimNode, SimNode];
  host.quiet(11_000);
  host.faults().cut(other.name, [leader.name, emptied.name], 2_500);
  for (let n = 0; n < 20; n++) host.load(leader);
  let isDone = false;
  host.wait(leader, other, () => {
    if (isDone || host.isHealing() || !leader.isRunning || !emptied.isRunning) return;
    isDone = true;
    const had = statusOn(leader, space)!.lastSequence;
    wipe(host, emptied);
    restartLater(emptied, 50);
    const knows = (): boolean => statusOn(emptied, space) !== undefined;
    once(host, 2_000, knows, () => {
      // So slow that it has little of it for a while.
      emptied.disk.delay = { only: 'fdatasync', ms: 400 };
      const { lastSequence = 0 } = statusOn(emptied, space) ?? {};
      host.note(`${emptied.name} has ${space} up to ${lastSequence} of ${had}`);
      leader.kill();
      restartLater(leader, 7_000);
    });
  });
  for (const ms of [3_500, 4_500, 5_500]) {
    host.later(ms, `promote ${other.name}`, () => {
      emptied.disk.delay = undefined;
      if (!host.isHealing() && other.isRunning) host.promote(other);
    });
  }
}

/**
 * A node is added while both others are away, and acknowledges; then who leads dies, and one of the
 * two is promoted, which knows nothing of all that.
 */
function addedAlone(host: MembersHost): void {
  const { cluster } = host;
  const found = three(host);
  const spare = cluster.nodes.find((n) => !found?.trio.includes(n));
  if (!found || !spare?.isRunning) return;
  const [leader, one, other] = found.trio as [SimNode, SimNode, SimNode];
  host.quiet(12_000);
  for (const { name } of [one, other]) {
    host.faults().cut(name, [leader.name, spare.name], 4_000);
  }
  const { name: nodeId, port } = spare;
  host.ask(leader, () => leader.node!.addReplica({ nodeId, host: '127.0.0.1', port }));
  for (const ms of [1_000, 1_500, 2_000, 2_500]) {
    host.later(ms, `load ${leader.name}`, () => {
      if (!host.isHealing() && leader.isRunning) host.load(leader);
    });
  }
  host.later(3_900, `kill ${leader.name}`, () => {
    if (host.isHealing() || !leader.node) return;
    leader.kill();
    host.restartLater(leader, 6_000);
  });
  for (const ms of [4_200, 5_200, 6_200]) {
    host.later(ms, `promote ${one.name}`, () => {
      if (!host.isHealing() && one.isRunning) host.promote(one);
    });
  }
}

/**
 * One replica is away while another node is taken in for it. That one learns of the change and is
 * cut off before it is settled; then both are lost who have settled it. Who came and who went are
 * two, but one of each set: they know nothing of what was acknowledged since.
 */
function exchanged(host: MembersHost): void {
  const { cluster, restartLater } = host;
  const found = three(host);
  const comes = cluster.nodes.find((n) => !found?.trio.includes(n));
  if (!found || !comes?.isRunning) return;
  const { space, trio } = found;
  const [leader, stays, goes] = trio as [SimNode, SimNode, SimNode];
  const two = [leader.name, stays.name];
  host.quiet(14_000);
  host.faults().cut(goes.name, two, 9_000);
  // Until it is known who goes, the one that comes has not enough to count: it is one change.
  comes.disk.delay = { only: 'fdatasync', ms: 200 };
  const { name: nodeId, port } = comes;
  host.ask(leader, () => leader.node!.addReplica({ nodeId, host: '127.0.0.1', port }));
  host.later(50, `${goes.name} is to go`, () => {
    comes.disk.delay = undefined;
    // And the one that comes has that change before two of those of before have it.
    stays.disk.delay = { only: 'fdatasync', ms: 400 };
    if (host.isHealing() || !leader.isRunning) return;
    host.ask(leader, async () => {
      await leader.node!.openSpace(space, { replicas: [stays.name, nodeId] });
    });
  });
  const learned = (): boolean => statusOn(comes, space)?.members.pending !== undefined;
  once(host, 5_000, learned, () => {
    host.note(`${nodeId} knows that ${goes.name} is to go`);
    host.faults().cut(nodeId, two, 7_000);
    stays.disk.delay = undefined;
    for (const ms of [100, 300, 500]) {
      host.later(ms, `load ${leader.name}`, () => {
        if (!host.isHealing() && leader.isRunning) host.load(leader);
      });
    }
    host.later(1_000, `kill ${two}`, () => {
      if (host.isHealing()) return;
      for (const node of [leader, stays]) {
        node.kill();
        restartLater(node, 5_000);
      }
    });
    for (const ms of [1_500, 2_500, 3_500]) {
      host.later(ms, `promote ${nodeId}`, () => {
        if (!host.isHealing() && comes.isRunning) host.promote(comes);
      });
    }
  });
}
