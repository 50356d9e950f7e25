/** Who the node is and how it is: the top of the page. */
import type { StatusJson } from '#src/main/watch/status-json.js';
import { healthBadge, healthIcon, type ShownHealth } from './health-badge.js';
import { type ComponentChild, h } from './preact.js';
import type { View } from './view.js';
import { capital, clock, span } from './words.js';

export function header({ status, trouble }: View): ComponentChild {
  const health: ShownHealth = trouble === undefined ? (status?.health ?? 'unknown') : 'unknown';
  const facts = status && [
    `cluster ${status.clusterId}`,
    `up ${span(status.node.uptimeMs)}`,
    `engram-wal ${status.node.version}`,
  ];
  return h(
    'header',
    { class: 'top' },
    h(
      'div',
      { class: 'top-name' },
      h('h1', {}, status?.nodeId ?? 'engram-wal'),
      h('p', { class: 'quiet' }, facts?.join(' · ') ?? 'asking the node'),
    ),
    h(
      'div',
      { class: 'top-health' },
      healthBadge(health, 'badge-large'),
      status && trouble === undefined && h('p', { id: 'todo' }, TODO[status.todo]),
      h('p', { class: 'quiet', id: 'updated' }, updated(status, trouble)),
    ),
  );
}

function updated(status: StatusJson | undefined, trouble: string | undefined): string {
  if (!status) return trouble === undefined ? '' : 'no answer yet';
  const at = clock(status.node.at, Date.now());
  return trouble === undefined ? `live · ${at}` : `as of ${at}`;
}

const TODO = { nothing: 'nothing to do', soon: 'something to do soon', now: 'something to do now' };

/** Old figures never look like new ones. */
export function staleness({ status, trouble, silentMs }: View): ComponentChild | undefined {
  if (trouble === undefined) return undefined;
  const what = status ? `What you see is ${span(silentMs)} old.` : 'There is nothing to show yet.';
  return h(
    'div',
    { class: 'stale', role: 'alert' },
    healthIcon('unknown'),
    h('p', {}, h('strong', {}, 'The node does not answer. '), what, ` ${capital(trouble)}.`),
  );
}
