/**
 * From every state a healed cluster leads again: all nodes live, no message is lost, and nodes try
 * one after the other, the one with the farthest log first. Then every log is the leader's, a
 * change that was pending is settled, and a new entry is acknowledged.
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
  const nodes = [...Array(config.nodes).keys()].filter((d) => t[S.FOUNDER + d] !== NOBODY);
  nodes.sort((a, b) => ahead(cluster, t, b, a));
  const leader = soleLeader(t, nodes);
  if (leader !== undefined) return followed(cluster, t, leader);
  for (const c of nodes) {
    if (!elected(cluster, t, c)) continue;
    if (cluster.bad !== '') return cluster.bad;
    return followed(cluster, t, c);
  }
  // A member that was never told of the space has no word in it: the founder had not begun.
  const isTold = (m: MemberId) => nodes.some((d) => LETTERS[d] === m.nodeId);
  if (nodes.some((d) => !setsIn(cluster, t, d).every((set) => set.members.every(isTold))))
    return '';
  const told = nodes.map((d) => `${LETTERS[d]} ${logs.show(t[S.LOG + d]!)}`).join('; ');
  return `nobody can lead: ${told}`;
}

/** Every set that has counted in a log, and may be all that others know of. */
function setsIn(cluster: Cluster, t: State, d: number): MemberSet[] {
  const rows = cluster.rowsOf(t[S.LOG + d]!, t[S.FOUNDER + d]!);
  return rows.flatMap((row) => countingSets([row]));
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
  const nodes = [...Array(config.nodes).keys()].filter((d) => t[S.FOUNDER + d] !== NOBODY);
  const live = nodes.filter((d) => d !== away);
  const names = live.map((d) => LETTERS[d]!);
  const lacksTooMany = nodes.some((d) =>
    setsIn(cluster, t, d).some((set) => {
      const here = set.members.filter((m) => names.includes(m.nodeId)).length;
      return here < Math.max(1, set.members.length - set.keep);
    }),
  );
  if (lacksTooMany || live.length === 0) return '';
  if (live.some((c) => elected(cluster, t, c, away))) return cluster.bad;
  // The farthest log is with somebody whom it has sent away, and all others have parted from it.
  const [last] = live.toSorted((a, b) => ahead(cluster, t, b, a));
  if (!inSet(cluster.setOf(t, last!), last!)) return '';
  const told = live.map((d) => `${LETTERS[d]} ${logs.show(t[S.LOG + d]!)}`).join('; ');
  return `without ${LETTERS[away]} nobody can lead: ${told}`;
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
  if (config.wipes > 0) return '';
  if (cluster.newest(t, c).old) return `a change stays pending: ${logs.show(log)}`;
  cluster.append(t, c, DATA);
  shipped(cluster, t, c);
  const set = cluster.setOf(t, c);
  const members = LETTERS.split('').filter((_, d) => inSet(set, d)).length;
  const isHigh = members <= 1 + (set >> 8);
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
