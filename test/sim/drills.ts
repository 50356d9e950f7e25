/**
 * What a whole cluster does in good time, once a run is over and nothing is wrong any more: a
 * replica that comes back is dialled (FAULTS row 116), of candidates at the same moment one leads
 * (row 113), and it takes entries that ask for replicas at once (row 117); who is closed ends well
 * (row 98). No operator of these forces anything.
 */
import { type Cluster, type SimNode, Violation } from './cluster.js';
import { countingIn, leaderOf, statusOn } from './roles-members.js';

/** In which a replica is dialled, from when it is open. */
const DIALLED_MS = 2_000;
const RESTARTS = 3;
/** How many epochs candidates at the same moment burn, at most. */
const DUEL_EPOCHS = 4;
const OPENING_MS = 30_000;
const ACK_MS = 15_000;
/** Longer than a replica is shipped to behind a close, with the one before it. */
const SLOW_READ_MS = 4_000;
/** Entries that are read from the log for a replica. */
const LACKS = 60;
const CLOSING_MS = 60_000;

export interface DrillHost {
  readonly cluster: Cluster;
  note(line: string): void;
  /** Starts a node that is down. */
  start(node: SimNode): Promise<void>;
  /** Until one leads the space, and all that count have it. */
  whole(space: string): Promise<void>;
  append(node: SimNode, space: string, replicas: number, timeoutMs: number): Promise<void>;
}

/** Each throws a Violation. */
export async function drills(host: DrillHost, space: string): Promise<void> {
  await comesBack(host, space);
  await host.whole(space);
  await duel(host, space);
  await host.whole(space);
  await closedWhileItReads(host, space);
}

/** It restarts again and again, and nothing comes to it meanwhile: who dials it waits in vain. */
async function comesBack(host: DrillHost, space: string): Promise<void> {
  const { cluster, note } = host;
  const { clock, network, chance } = cluster;
  for (let n = 0; n < RESTARTS; n++) {
    const leader = leaderOf(cluster.nodes, space)!;
    const replicas = othersThatCount(cluster, space, leader);
    const replica = replicas[chance(replicas.length)];
    if (!replica)
      throw new Violation(`${leader.name} leads ${space}, and nobody else counts in it`);
    replica.kill();
    // Its end is told; what is dialled from now on gets no answer, until the dial gives up.
    await clock.runFor(10);
    network.block(leader.name, replica.name);
    network.block(replica.name, leader.name);
    await clock.runFor(500 + chance(1_500));
    network.open(leader.name, replica.name);
    network.open(replica.name, leader.name);
    await host.start(replica);
    const sinceMs = clock.nowMs;
    while (!isLinked(leader, replica.name)) {
      const tookMs = clock.nowMs - sinceMs;
      if (tookMs > DIALLED_MS) {
        throw new Violation(`${leader.name} has not dialled ${replica.name} in ${tookMs} ms`);
      }
      await clock.runFor(20);
    }
    note(`${replica.name} is dialled after ${(clock.nowMs - sinceMs).toFixed(0)} ms`);
  }
}

function othersThatCount({ nodes }: Cluster, space: string, leader: SimNode): SimNode[] {
  const counting = countingIn(nodes, space);
  return nodes.filter((n) => n !== leader && counting.includes(n.name));
}

function isLinked(node: SimNode, to: string): boolean {
  const link = node.node!.status().replicas.find((r) => r.replicaId === to);
  return link?.state === 'streaming' || link?.state === 'catching-up';
}

/** Who leads is gone, and two want to at the same moment. One does, and takes entries at once. */
async function duel(host: DrillHost, space: string): Promise<void> {
  const { cluster, note } = host;
  const { clock } = cluster;
  const leader = leaderOf(cluster.nodes, space)!;
  const [one, other] = othersThatCount(cluster, space, leader);
  if (!one || !other) return;
  const before = statusOn(leader, space)!.epoch;
  leader.kill();
  const refused: string[] = [];
  const called = [one, other].map((node) =>
    clock
      .as(node.owner, () => node.node!.promote(space))
      .then(
        ({ epoch }) => ({ node, epoch }),
        (error: Error) => void refused.push(error.message.split('\n', 1)[0]!),
      ),
  );
  const all = await cluster.within(OPENING_MS, `a duel for ${space}`, Promise.all(called));
  const led = all.filter((won) => won !== undefined).sort((a, b) => b.epoch - a.epoch);
  const [won] = led;
  if (!won) throw new Violation(`nobody leads ${space} after a duel: ${refused.join('; ')}`);
  note(`${won.node.name} leads ${space} after a duel, in ${won.epoch}`);
  if (won.epoch - before > DUEL_EPOCHS) {
    throw new Violation(`a duel for ${space} went from epoch ${before} to ${won.epoch}`);
  }
  const work = clock.as(won.node.owner, () => host.append(won.node, space, 1, ACK_MS));
  const failed = await cluster.within(2 * ACK_MS, `an append to ${space}`, reasonOf(work));
  if (failed) throw new Violation(`${won.node.name} led ${space} a moment ago: ${failed}`);
  await host.start(leader);
}

/**
 * Who leads is closed while its disk is slow and it reads for a replica: no file is closed under
 * a call (row 98).
 */
async function closedWhileItReads(host: DrillHost, space: string): Promise<void> {
  const { cluster, note } = host;
  const { clock } = cluster;
  const leader = leaderOf(cluster.nodes, space)!;
  const [replica] = othersThatCount(cluster, space, leader);
  if (!replica) return;
  replica.kill();
  const appends = Array.from({ length: LACKS }, () =>
    clock.as(leader.owner, () => host.append(leader, space, 0, ACK_MS)),
  );
  await cluster.within(ACK_MS, `appends to ${space}`, Promise.all(appends));
  leader.disk.delay = { only: 'read wal-', ms: SLOW_READ_MS };
  await host.start(replica);
  const end = clock.nowMs + OPENING_MS;
  while (!isLinked(leader, replica.name) && clock.nowMs < end) await clock.runFor(20);
  const closed = clock.as(leader.owner, () => leader.node!.close());
  await cluster.within(CLOSING_MS, `closing ${leader.name}`, closed);
  note(`${leader.name} is closed`);
  leader.disk.delay = undefined;
  leader.kill();
  cluster.assertSound();
}

async function reasonOf(work: Promise<void>): Promise<string> {
  return await work.then(
    () => '',
    (error: Error) => error.message.split('\n', 1)[0]!,
  );
}
