/** What `engram-wal status --cluster` prints for people. */
import type {
  ClusterJson,
  CopyJson,
  LagJson,
  MemberJson,
  WhereJson,
} from '../../watch/cluster/cluster-json.js';
import { lagText } from '../../watch/health/words.js';
import { bytesText, TODO } from './status.js';
import { tableText } from './table.js';

function number(value: number): string {
  return value.toLocaleString('en');
}

/** Of one space alone where one was asked for. */
export function clusterText(cluster: ClusterJson): string {
  const { clusterId, nodeId, members, more, health, todo, lag, space } = cluster;
  const away = members.filter(({ state }) => state === 'away').length;
  const gone = away > 0 ? `, ${number(away)} away` : '';
  const parts = [
    `${clusterId}: ${health.toUpperCase()}, ${TODO[todo]}`,
    `  ${number(members.length + more)} members${gone}, as ${nodeId} sees it`,
  ];
  if (more > 0) parts.push(`  ${number(more)} of them were not asked: they are too many`);
  parts.push(...members.flatMap(awayText), membersTable(members));
  if (space) parts.push(whereText(space));
  else if (lag.length > 0) parts.push(lagTable(lag));
  return parts.join('\n');
}

function awayText({ nodeId, state, forMs, reason, heardBy }: MemberJson): string[] {
  if (state !== 'away') return [];
  const since = forMs === null ? 'not once since that node was opened' : `for ${lagText(forMs)}`;
  const others = heardBy.length > 0 ? `; ${heardBy.join(', ')} can reach it` : '';
  return [`  AWAY ${nodeId}: ${since} (${reason})${others}`];
}

function membersTable(members: readonly MemberJson[]): string {
  const head = ['node', 'to do', 'there', 'leads', 'spaces', 'up', 'version', 'page'];
  const rows = members.map((m) => {
    const counts = [number(m.led), m.spaces === null ? '' : number(m.spaces)];
    const up = m.uptimeMs === null ? '' : lagText(m.uptimeMs);
    return [m.nodeId, todoText(m), thereText(m), ...counts, up, versionText(m), m.url ?? ''];
  });
  return tableText(head, rows);
}

function todoText({ health, todo, worst, problems }: MemberJson): string {
  if (health === null || todo === null || problems === null) return 'unknown';
  const word = health === 'corrupt' ? health : todo;
  if (worst === null) return word;
  return problems > 1 ? `${word}: ${worst}, ${problems - 1} more` : `${word}: ${worst}`;
}

function thereText({ state, forMs }: MemberJson): string {
  if (state === 'away') return 'no';
  return state === 'self' || forMs === null ? 'yes' : `for ${lagText(forMs)}`;
}

function versionText({ state, version }: MemberJson): string {
  return version ?? (state === 'older' ? 'older: says no more' : '');
}

function lagTable(lag: readonly LagJson[]): string {
  const head = ['leader', 'member', 'worst lag', 'entries', 'bytes', 'spaces', 'link'];
  const rows = lag.map((pair) => {
    const lacks = [lagText(pair.lagMs), number(pair.lagEntries), bytesText(pair.lagBytes)];
    return [pair.leader, pair.member, ...lacks, number(pair.spaces), pair.state];
  });
  return tableText(head, rows);
}

function whereText({ name, leader, isSure, copies }: WhereJson): string {
  const who = leader ?? 'nobody that answers knows who';
  const sure = leader === null || isSure ? '' : ', which does not say so itself';
  const head = ['node', 'role', 'epoch', 'has up to', 'lacks', 'applied', 'remark'];
  return [`  ${name}: led by ${who}${sure}`, tableText(head, copies.map(copyRow))].join('\n');
}

function copyRow(copy: CopyJson): string[] {
  const { nodeId, role, epoch, flushed, lagEntries, applied, isWhole, reason } = copy;
  if (role === 'none') return [nodeId, 'does not have it', '', '', '', '', ''];
  if (role === 'unknown') return [nodeId, 'unknown', '', '', '', '', reason];
  const lacks = lagEntries === null ? 'unknown' : number(lagEntries);
  const remark = isWhole ? reason : 'part of it cannot be read';
  const rest = [number(flushed), lacks, applied === null ? '' : number(applied), remark];
  return [nodeId, role, String(epoch), ...rest];
}
