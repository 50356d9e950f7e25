/** Who the node is, how it is, and what is wrong and since when: the top of the page. */
import type { ProblemJson, StatusJson } from '#src/main/watch/status-json.js';
import { healthBadge, healthIcon, type ShownHealth } from './health-badge.js';
import { type ComponentChild, h } from './preact.js';
import type { View } from './view.js';
import { capital, clock, counted, span } from './words.js';

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

/** @param isOld nothing is claimed of now */
export function problems(
  status: StatusJson,
  isOld: boolean,
  search: (text: string) => void,
): ComponentChild {
  const { problems: found, node } = status;
  const [verb, when] = isOld ? ['was', ` at ${clock(node.at, Date.now())}`] : ['is', ''];
  const title = found.length === 0 ? `Nothing ${verb} wrong${when}` : `What ${verb} wrong${when}`;
  return h(
    'section',
    { class: 'panel problems', 'aria-labelledby': 'problems', 'aria-live': 'polite' },
    h('h2', { id: 'problems' }, title),
    found.length === 0
      ? h(
          'p',
          { class: 'quiet calm' },
          healthIcon(isOld ? 'unknown' : 'healthy'),
          soundness(status, isOld),
        )
      : h(
          'ul',
          { class: 'problem-list' },
          found.map((problem) => problemRow(problem, node.at, search)),
        ),
  );
}

function soundness({ spaces, replicas }: StatusJson, isOld: boolean): string {
  const log = isOld ? 'The log took entries' : 'The log takes entries';
  if (spaces.total === 0) return `${log}. There ${isOld ? 'was' : 'is'} no space here yet.`;
  const behind = spaces.lagging > 0 ? `, ${counted(spaces.lagging, 'space')} a little behind` : '';
  const kept = replicas.length === 0 ? '' : ` on ${counted(replicas.length, 'replica')}`;
  return `${log}; ${counted(spaces.total, 'space')}${kept}${behind}.`;
}

function problemRow(
  problem: ProblemJson,
  now: number,
  search: (text: string) => void,
): ComponentChild {
  const { kind, subject, health, todo, text, forMs, examples, spaces } = problem;
  const rest = spaces - examples.length;
  return h(
    'li',
    { key: `${kind} ${subject}`, class: `problem ${health}` },
    healthBadge(health, '', health === 'corrupt' ? health : todo),
    h(
      'div',
      { class: 'problem-text' },
      h('p', {}, text),
      h(
        'p',
        { class: 'quiet' },
        `for ${span(forMs)}, since ${clock(now - forMs, now)}`,
        examples.length > 0 && ' · ',
        examples.map((name, i) => [
          i > 0 && ', ',
          h(
            'button',
            { key: name, type: 'button', class: 'link', onClick: () => search(name) },
            name,
          ),
        ]),
        rest > 0 && ` and ${rest.toLocaleString('en')} more`,
      ),
    ),
  );
}
