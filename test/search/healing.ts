/**
 * From every state a healed cluster leads again: all nodes live, no message is lost, and nodes try
 * one after the other, the one with the farthest log first. Then every log is the leader's, a
 * change that was pending is settled, and a new entry is acknowledged.
 *
 * Excused is what DESIGN 14 gives up, and no more: each excuse below names its line.
 */
import { comparePositions } from '#src/shared/lead/epoch.js';
import { countingSets, type MemberId, type MemberSet } from '#src/shared/members/members.js';
import type { Cluster } from './cluster.js';
import { DATA, EPOCH, inSet, LETTERS, NOBODY, SETTLED } from './logs.js';
import type { State } from './state.js';
import * as S from './state.js';

const ROUNDS = 64;

/** @returns why not; '' where all is well */
export function healed(cluster: Cluster, from: State): string {
  const { logs, config } = cluster;
  const t = from.slice();
  for (let c = 0; c < config.nodes; c++) {
    // Whoever asked, and did not hear, asks anew.
    t[S.ANSWERS + c] = 0;
  }
  meet(cluster, t);
  const nodes = [...Array(config.nodes).keys()].filter((d) => t[S.FOUNDER + d] !== NOBODY);
  // Who began it has lost its disk, and had told nobody.
  const isForgotten = nodes.length === 0;
  if (isForgotten) return t.slice(S.ACKED, S.ACKED + 8).some((log) => log > 0) ? 'all is lost' : '';
  nodes.sort((a, b) => ahead(cluster, t, b, a));
  const leader = soleLeader(t, nodes);
  if (leader !== undefined) return followed(cluster, t, leader);
  for (const c of nodes) {
    if (!elected(cluster, t, c)) continue;
    if (cluster.bad !== '') return cluster.bad;
    return followed(cluster, t, c);
  }
  if (isGivenUp(cluster, t, nodes, nodes)) return '';
  const told = nodes.map((d) => `${LETTERS[d]} ${logs.show(t[S.LOG + d]!)}`).join('; ');
  return `nobody can lead: ${told}`;
}

/** A founder that hears of another one's history: one of the two gives way. */
function meet(cluster: Cluster, t: State, away = NOBODY): void {
  const { founders, nodes } = cluster.config;
  for (let c = 0; c < founders.length; c++) {
    for (let r = 0; r < nodes; r++) {
      const isOther = ![NOBODY, t[S.FOUNDER + c]].includes(t[S.FOUNDER + r]);
      if (c !== away && r !== away && isOther && t[S.ROLE + c] === 1) cluster.ships(t, c, r);
    }
  }
}

/**
 * Progress is promised with at most `keep` members of each counting set missing. Who was never told
 * of the space, or has lost its disk, is missing; so is who has another founder's history: that is
 * not comparable, and blocks promotions until it gives way. Where etcd has a floor only logs with
 * its entry may lead, and so its set counts, too.
 * @param live of the nodes that know of the space
 */
function isGivenUp(
  cluster: Cluster,
  t: State,
  nodes: readonly number[],
  live: readonly number[],
): boolean {
  return cluster.config.founders.every((_, founder) => {
    const isOf = (d: number) => t[S.FOUNDER + d] === founder;
    const here = present(cluster, t, live.filter(isOf));
    const sets = nodes
      .filter(isOf)
      .flatMap((d) => countingSets(cluster.rowsOf(t[S.LOG + d]!, founder)));
    if (t[S.FLOOR] !== 0)
      sets.push(...countingSets(cluster.rowsOf(t[S.FLOOR]!, founder)).slice(-1));
    return here.length === 0 || sets.some((set) => !mayLeadWith(set, here));
  });
}

/** As directories. */
function present({ rules }: Cluster, t: State, nodes: readonly number[]): MemberId[] {
  return nodes.map((d) => rules.memberOf(d, t[S.WIPED + d]!));
}

function among({ members }: MemberSet, here: readonly MemberId[]): number {
  return members.filter((m) => here.some((h) => h.directoryId === m.directoryId)).length;
}

function mayLeadWith(set: MemberSet, here: readonly MemberId[]): boolean {
  return among(set, here) >= Math.max(1, set.members.length - set.keep);
}

function ahead({ logs }: Cluster, t: State, a: number, b: number): number {
  const [x, y] = [a, b].map((d) => logs.view(t[S.LOG + d]!).position);
  return comparePositions(x!, y!);
}

/**
 * The same with one node away for ever, where no set that counts lacks more than it keeps: somebody
 * leads.
 */
export function ledWithout(cluster: Cluster, from: State, away: number): string {
  const { logs, config } = cluster;
  const t = from.slice();
  t.fill(0, S.ANSWERS, S.ANSWERS + config.nodes);
  meet(cluster, t, away);
  const nodes = [...Array(config.nodes).keys()].filter((d) => t[S.FOUNDER + d] !== NOBODY);
  const live = nodes.filter((d) => d !== away);
  if (isGivenUp(cluster, t, nodes, live)) return '';
  if (live.some((c) => elected(cluster, t, c, away))) return cluster.bad;
  // Only a member of the new set may lead, and a diverged farther log means that another must:
  // nobody can, where the farthest log sends away who has it, and all others have parted from it.
  const [last, ...others] = live.toSorted((a, b) => ahead(cluster, t, b, a));
  const isSentAway = !inSet(cluster.setOf(t, last!), last!);
  const isParted = (d: number) => !logs.isPrefix(t[S.LOG + d]!, t[S.LOG + last!]!);
  if (isSentAway && (others.every(isParted) || isUnknown(cluster, t, live))) return '';
  const told = live.map((d) => `${LETTERS[d]} ${logs.show(t[S.LOG + d]!)}`).join('; ');
  return `without ${LETTERS[away]} nobody can lead: ${told}`;
}

/**
 * Only a log with the entry of etcd's floor may lead, and it settled without who has it not. Here
 * whoever has it is sent away by a change after that, and nobody else's log names one of them.
 */
function isUnknown(cluster: Cluster, t: State, live: readonly number[]): boolean {
  const { logs } = cluster;
  const floor = t[S.FLOOR]!;
  if (floor === 0) return false;
  const holds = (d: number) => logs.isPrefix(floor, t[S.LOG + d]!);
  const holders = live.filter(holds);
  const sets = (d: number) => countingSets(cluster.rowsOf(t[S.LOG + d]!, t[S.FOUNDER + d]!));
  const names = (d: number) => sets(d).flatMap((set) => set.members.map((m) => m.nodeId));
  return (
    holders.every((d) => !inSet(cluster.setOf(t, d), d)) &&
    live.every((d) => holds(d) || !holders.some((h) => names(d).includes(LETTERS[h]!)))
  );
}

/** Who leads, where nobody has seen a higher epoch, or promised this one to somebody else. */
function soleLeader(t: State, nodes: readonly number[]): number | undefined {
  const highest = Math.max(...nodes.map((d) => t[S.SEEN + d]!));
  const leader = nodes.find((d) => t[S.ROLE + d] === 1 && t[S.EPOCH_OF + d] === highest);
  const isOf = (d: number) => t[S.SEEN + d]! < highest || t[S.PROMISED + d] === leader;
  return leader === undefined || highest === 1 || nodes.every(isOf) ? leader : undefined;
}

function elected(cluster: Cluster, t: State, c: number, away = NOBODY): boolean {
  if (!cluster.mayTry(t, c)) return false;
  let epoch = t[S.ROW_EPOCH]!;
  for (let d = 0; d < cluster.config.nodes; d++) epoch = Math.max(epoch, t[S.SEEN + d]!);
  epoch++;
  if (cluster.config.etcd) {
    t[S.ROW_EPOCH] = epoch;
    t[S.ROW_LEADER] = c;
  }
  cluster.candidacy(t, c, epoch);
  for (let round = 0; round < ROUNDS; round++) {
    const { asks, fetch, mayLead } = cluster.outlook(t, c);
    const next = asks.find((m) => m !== away && t[S.FOUNDER + m] !== NOBODY);
    if (next !== undefined) {
      const log = t[S.LOG + next]!;
      if (!cluster.promises(t, next, c, epoch)) return false;
      cluster.promised(t, c, next, log);
    } else if (fetch >= 0 && fetch !== away) {
      if (!cluster.fetches(t, c, fetch)) return false;
    } else {
      if (!mayLead) return false;
      cluster.leads(t, c);
      cluster.append(t, c, EPOCH);
      return true;
    }
  }
  return false;
}

function followed(cluster: Cluster, t: State, c: number): string {
  const { logs, config } = cluster;
  const epoch = t[S.EPOCH_OF + c]!;
  if (epoch > 1 && logs.epoch(t[S.LOG + c]!) < epoch) cluster.append(t, c, EPOCH);
  shipped(cluster, t, c);
  if (cluster.maySettle(t, c)) cluster.append(t, c, SETTLED, cluster.setOf(t, c));
  shipped(cluster, t, c);
  if (cluster.bad !== '') return cluster.bad;
  const log = t[S.LOG + c]!;
  const other = [...Array(config.nodes).keys()].find((d) => t[S.LOG + d] !== log);
  if (other !== undefined) {
    const kept = `${LETTERS[other]} keeps ${logs.show(t[S.LOG + other]!)}`;
    return `${kept}, ${LETTERS[c]} has ${logs.show(log)}`;
  }
  const here = present(cluster, t, [...Array(config.nodes).keys()]);
  const row = cluster.newest(t, c);
  // A change settles once min(keep, N) + 1 of the old set have it: with fewer it takes `force`.
  const isLost = (set: MemberSet) => among(set, here) <= Math.min(set.keep, set.members.length - 1);
  if (row.old) return isLost(row.old) ? '' : `a change stays pending: ${logs.show(log)}`;
  cluster.append(t, c, DATA);
  shipped(cluster, t, c);
  // A level takes so many members and the primary; a set that has fewer reaches it never.
  const isHigh = among(row.next, here) <= row.next.keep;
  if (isHigh || logs.length[t[S.ACKED + t[S.EPOCH_OF + c]!]!] === logs.length[t[S.LOG + c]!]) {
    return cluster.bad;
  }
  return `nothing is acknowledged: ${logs.show(t[S.LOG + c]!)}`;
}

function shipped(cluster: Cluster, t: State, c: number): void {
  for (let round = 0; round < ROUNDS; round++) {
    const before = t.slice();
    for (let r = 0; r < cluster.config.nodes; r++) {
      if (r !== c && t[S.ROLE + c] === 1) cluster.ships(t, c, r);
    }
    if (cluster.bad !== '' || t.every((n, i) => n === before[i])) return;
  }
}
