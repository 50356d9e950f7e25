/** The node's replicas and primaries, and its own figures. */
import type { PrimaryStatus } from '#src/main/follow/primary-links.js';
import type { ReplicaJson, StatusJson } from '#src/main/watch/status-json.js';
import { healthBadge } from './health-badge.js';
import { type ComponentChild, h } from './preact.js';
import { bytes, count, counted, span } from './words.js';

/** Cards for so many; the rest is counted. */
const CARDS = 12;

export function links({ replicas, primaries, node }: StatusJson): ComponentChild | undefined {
  if (replicas.length + primaries.length === 0) return undefined;
  const worst = [...replicas].sort((a, b) => rank(b) - rank(a) || lagOf(b) - lagOf(a));
  const rest = replicas.length - CARDS;
  return h(
    'section',
    { class: 'links', 'aria-labelledby': 'links' },
    h('h2', { id: 'links' }, replicas.length > 0 ? 'Replicas' : 'Primaries'),
    h(
      'ul',
      { class: 'cards' },
      worst.slice(0, CARDS).map(replicaCard),
      primaries.map((primary) => primaryCard(primary, node.nodeId)),
    ),
    rest > 0 && h('p', { class: 'quiet' }, `and ${count(rest)} replicas that are no worse`),
  );
}

const ORDER = ['healthy', 'lagging', 'degraded', 'failed', 'corrupt'];

function rank({ health }: ReplicaJson): number {
  return ORDER.indexOf(health);
}

function lagOf({ lagMs }: ReplicaJson): number {
  return lagMs === 'unknown' ? Number.POSITIVE_INFINITY : lagMs;
}

function replicaCard(replica: ReplicaJson): ComponentChild {
  const { replicaId, health, state, reason, catchUp, lagMs, lagEntries, lagBytes } = replica;
  const { throughput, lastReceivedAgeMs, traffic, lastLoss } = replica;
  // A link that has caught up once may well carry entries that are not acknowledged yet.
  const why = state === 'streaming' && lagEntries > 0 ? 'entries are on their way' : reason;
  return h(
    'li',
    { key: replicaId, class: `card ${health}` },
    h('div', { class: 'card-head' }, h('h3', {}, replicaId), healthBadge(health)),
    h(
      'p',
      { class: 'card-state' },
      h('strong', {}, state),
      why === '' ? '' : `: ${why}`,
      lastLoss !== null && lastLoss !== reason && `; lost before by: ${lastLoss}`,
    ),
    h(
      'dl',
      { class: 'facts' },
      fact('behind', span(lagMs)),
      fact('entries lacking', count(lagEntries)),
      fact('bytes lacking', bytes(lagBytes)),
      state === 'catching-up' && fact('caught up in', eta(catchUp.etaMs)),
      fact('flushes', `${count(Math.round(throughput.entriesPerSecond))} entries/s`),
      fact(
        'last heard',
        lastReceivedAgeMs === undefined ? 'never' : `${span(lastReceivedAgeMs)} ago`,
      ),
      fact('spaces', count(replica.spaces)),
      traffic.compression !== 'none' && fact('compression', saved(traffic)),
      replica.consecutiveFailures > 0 &&
        fact('failures in a row', count(replica.consecutiveFailures)),
      replica.checksumFailures > 0 && fact('damaged on the way', count(replica.checksumFailures)),
    ),
  );
}

function eta(ms: number | 'unknown'): string {
  if (ms === 'unknown') return 'not known';
  return ms < 1_000 ? 'a moment' : span(ms);
}

function saved({ compression, rawBytes, sentBytes }: ReplicaJson['traffic']): string {
  if (rawBytes === 0) return compression;
  return `${compression}, ${Math.round(100 * (1 - sentBytes / rawBytes))} % saved`;
}

function primaryCard(primary: PrimaryStatus, own: string): ComponentChild {
  const { primaryId, isConnected, isStalled, reason, since } = primary;
  const health = !isConnected || isStalled ? 'failed' : 'healthy';
  const what = isStalled ? 'its main thread does not move' : `ships to ${own}`;
  return h(
    'li',
    { key: `from ${primaryId}`, class: `card ${health}` },
    h('div', { class: 'card-head' }, h('h3', {}, primaryId), healthBadge(health)),
    h('p', { class: 'card-state' }, h('strong', {}, 'primary'), `: ${isConnected ? what : reason}`),
    h('dl', { class: 'facts' }, fact(isConnected ? 'connected for' : 'gone for', span(since))),
  );
}

function fact(name: string, value: ComponentChild): ComponentChild {
  return h('div', { key: name, class: 'fact' }, h('dt', {}, name), h('dd', {}, value));
}

/** The log may be well, and no space be. */
function taken({ total, corrupt }: StatusJson['spaces']): string {
  if (corrupt === 0) return 'takes entries';
  return corrupt === total
    ? 'takes none: every space is corrupt'
    : 'takes entries, not of all spaces';
}

function proof({ keys, certificate }: StatusJson['node']['credentials']): string {
  const parts = [
    ...(keys > 0 ? [counted(keys, 'key')] : []),
    ...(certificate ? [`a certificate, ${days(certificate.daysLeft)}`] : []),
  ];
  return parts.join(' and ') || 'nothing: loopback only';
}

function days(left: number): string {
  if (left < 0) return 'expired';
  return left < 2 ? `${Math.floor(24 * left)} hours left` : `${Math.floor(left)} days left`;
}

export function nodeFigures({ node, spaces }: StatusJson): ComponentChild {
  const { log, fdatasync, retention, memory } = node;
  const slow = fdatasync.count === 0 ? 'none yet' : span(fdatasync.lastCallMs);
  const notLed = spaces.total - spaces.led;
  return h(
    'section',
    { class: 'panel node', 'aria-labelledby': 'node' },
    h('h2', { id: 'node' }, 'This node'),
    h(
      'dl',
      { class: 'facts facts-wide' },
      fact('log', log.state === 'ok' ? taken(spaces) : `${log.state}: ${log.reason}`),
      fact('spaces', `${count(spaces.led)} led, ${count(notLed)} followed`),
      fact('last fdatasync', slow),
      fact('slowest fdatasync', fdatasync.count === 0 ? '–' : span(fdatasync.maxCallMs)),
      fact(
        'log on disk',
        `${bytes(retention.retainedBytes)}, ${counted(node.segments, 'segment')}`,
      ),
      fact('not checkpointed', bytes(retention.hostBytes)),
      fact('groups on their way', `${memory.inUse} of ${memory.slabs}`),
      node.address && fact('listens at', `${node.address.host}:${node.address.port}`),
      fact('proves itself by', proof(node.credentials)),
      node.holes > 0 && fact('damaged ranges met so far', count(node.holes)),
    ),
  );
}
