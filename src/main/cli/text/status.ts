/** What `engram-wal status` prints for people. */
import Table from 'cli-table3';
import { lagText } from '../../watch/health/words.js';
import type { ProblemJson, ReplicaJson, SpaceJson, StatusJson } from '../../watch/status-json.js';

const PLAIN = { style: { head: [], border: [] } };

function number(value: number): string {
  return value.toLocaleString('en');
}

export function bytesText(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return unit === 0 ? `${value} B` : `${value.toFixed(1)} ${units[unit]}`;
}

export function statusText(status: StatusJson): string {
  const { node, health, problems, spaces } = status;
  const counts = (['corrupt', 'failed', 'degraded', 'lagging', 'healthy'] as const)
    .filter((word) => spaces[word] > 0)
    .map((word) => `${number(spaces[word])} ${word}`);
  const log = node.log.reason === '' ? node.log.state : `${node.log.state} (${node.log.reason})`;
  const parts = [
    `${node.nodeId} in ${node.clusterId}: ${health.toUpperCase()}, ${TODO[status.todo]}`,
    `  directory ${node.directoryId}`,
    `  up ${lagText(node.uptimeMs)}, log ${log}, ${number(node.segments)} segments, ` +
      `${bytesText(node.retention.retainedBytes)} kept`,
    `  ${number(spaces.total)} spaces, ${number(spaces.led)} led here` +
      (counts.length > 0 ? `: ${counts.join(', ')}` : ''),
  ];
  parts.push(...problems.map(problemText));
  if (status.replicas.length > 0) parts.push(replicasTable(status));
  for (const { primaryId, isConnected, since, reason } of status.primaries) {
    const how = isConnected ? 'connected' : `gone (${reason})`;
    parts.push(`  primary ${primaryId}: ${how} for ${lagText(since)}`);
  }
  if (status.rows.length > 0) parts.push(spacesTable(status));
  const more = status.page.matching - status.rows.length;
  if (more > 0) parts.push(`  and ${number(more)} spaces that are no worse`);
  return parts.join('\n');
}

export const TODO = {
  nothing: 'nothing to do',
  soon: 'something to do soon',
  now: 'something to do now',
};

/** What is wrong and where, what to do, and where docs/OPERATIONS.md says more. */
function problemText(problem: ProblemJson): string {
  const { health, todo, text, forMs, chapter, spaces, examples, advice } = problem;
  const word = health === 'corrupt' ? health : todo;
  const lines = [
    `  ${word.toUpperCase()} for ${lagText(forMs)}: ${text} (OPERATIONS.md#${chapter})`,
  ];
  if (spaces > 1) {
    const rest = spaces - examples.length;
    const more = rest > 0 ? ` and ${number(rest)} more` : '';
    lines.push(`    spaces: ${examples.join(', ')}${more}`);
  }
  lines.push(`    do: ${advice.text}`);
  lines.push(...advice.steps.map(({ on, command }) => `      ${command}${on && `  # on ${on}`}`));
  return lines.join('\n');
}

function replicasTable({ replicas }: StatusJson): string {
  const head = ['replica', 'health', 'state', 'lag', 'entries', 'bytes', 'spaces', 'reason'];
  const table = new Table({ head, ...PLAIN });
  for (const r of replicas) {
    const lacks = [lagText(r.lagMs), number(r.lagEntries), bytesText(r.lagBytes)];
    table.push([r.replicaId, r.health, r.state, ...lacks, number(r.spaces), reasonOf(r)]);
  }
  return table.toString();
}

/** A link that has caught up once may carry entries; one that is tried again was lost before. */
function reasonOf({ state, reason, lagEntries, lastLoss }: ReplicaJson): string {
  if (state === 'streaming') return lagEntries > 0 ? 'entries are on their way' : reason;
  return lastLoss === null || lastLoss === reason ? reason : `${reason}; lost by: ${lastLoss}`;
}

function spacesTable({ rows }: StatusJson): string {
  const head = ['space', 'health', 'role', 'epoch', 'entries', 'replicas: flushed (lag)'];
  const table = new Table({ head, ...PLAIN });
  for (const s of rows) {
    const who =
      s.keeps.by === 'nobody' ? `${whoHasIt(s)}\nkeeps all: ${s.keeps.reason}` : whoHasIt(s);
    const entries = number(s.durableSequence);
    table.push([s.name, s.health, s.role, String(s.epoch), entries, who.trimStart()]);
  }
  return table.toString();
}

function whoHasIt({ role, replicas, primaryNodeId, appliedSequence }: SpaceJson): string {
  const applied = appliedSequence === null ? '' : `, applied ${number(appliedSequence)}`;
  if (role === 'replica') return `from ${primaryNodeId}${applied}`;
  return replicas
    .map((r) => `${r.replicaId}: ${number(r.ackedSequence)} (${lagText(r.lagMs)}, ${r.status})`)
    .join('\n');
}
