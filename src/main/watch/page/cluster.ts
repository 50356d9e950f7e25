/** All members of the cluster, as the node that is looked at sees them, and what each lacks. */
import type { ClusterJson, LagJson, MemberJson } from '#src/main/watch/cluster/cluster-json.js';
import { healthBadge } from './health-badge.js';
import { type ComponentChild, h } from './preact.js';
import { bytes, clock, count, counted, span } from './words.js';

/** When what members said is old, while the node itself answers. */
const OLD_MS = 10_000;

/**
 * @param told undefined: nothing was told yet
 * @param at when the node itself has answered last, by its own clock
 */
export function cluster(told: ClusterJson | undefined, at: number): ComponentChild | undefined {
  if (!told || told.members.length === 1) return undefined;
  const { members, more, lag } = told;
  return h(
    'section',
    { class: 'panel cluster', 'aria-labelledby': 'cluster' },
    h('h2', { id: 'cluster' }, 'Cluster'),
    at - told.at > OLD_MS && h('p', { class: 'quiet' }, `as of ${clock(told.at, at)}`),
    h(
      'div',
      { class: 'scroll', tabIndex: 0, role: 'group', 'aria-label': 'Members' },
      h(
        'table',
        {},
        h(
          'thead',
          {},
          h(
            'tr',
            {},
            COLUMNS.map(([title, name]) => head(title, name)),
          ),
        ),
        h('tbody', {}, members.map(memberRow)),
      ),
    ),
    more > 0 && h('p', { class: 'quiet' }, `and ${counted(more, 'member')} that were not asked`),
    lag.length > 0 && matrix(lag),
  );
}

const COLUMNS: readonly (readonly [title: string, name: string])[] = [
  ['Node', 'name'],
  ['To do', 'state'],
  ['There', 'there'],
  ['Leads', 'number'],
  ['Spaces', 'number'],
  ['Up', 'number'],
  ['Version', ''],
];

function head(title: string, name = ''): ComponentChild {
  return h('th', { scope: 'col', class: name }, title);
}

function memberRow(member: MemberJson): ComponentChild {
  const { nodeId, url, state, led, spaces, uptimeMs, version } = member;
  const cell = (value: ComponentChild, name = ''): ComponentChild =>
    h('td', { class: name }, value);
  const isElsewhere = url !== null && state !== 'self';
  return h(
    'tr',
    { key: nodeId, class: `member ${state}` },
    h(
      'th',
      { scope: 'row', class: 'name' },
      isElsewhere ? h('a', { href: url, rel: 'noreferrer' }, nodeId) : nodeId,
    ),
    cell(badge(member), 'state'),
    cell(there(member), 'there'),
    cell(count(led), 'number'),
    cell(spaces === null ? '–' : count(spaces), 'number'),
    cell(uptimeMs === null ? '–' : span(uptimeMs), 'number'),
    cell(version ?? '–'),
  );
}

function badge({ state, health, todo, worst, problems }: MemberJson): ComponentChild {
  if (health === null || todo === null || problems === null) {
    return healthBadge('unknown', '', state === 'away' ? 'away' : 'not told');
  }
  const rest = problems > 1 ? ` and ${problems - 1} more` : '';
  return [
    healthBadge(health, '', health === 'corrupt' ? health : todo),
    worst !== null && h('div', { class: 'quiet' }, `${worst}${rest}`),
  ];
}

function there({ state, forMs, reason, heardBy }: MemberJson): ComponentChild {
  if (state === 'self') return 'this node';
  const since = `for ${span(forMs ?? 0)}`;
  if (state === 'answers') return since;
  const told = 'an older version: it says no more';
  if (state === 'older') return [since, h('div', { class: 'quiet' }, told)];
  const away = forMs === null ? 'never heard since this node was opened' : `no, for ${span(forMs)}`;
  const others = heardBy.length > 0 ? `; ${heardBy.join(', ')} can reach it` : '';
  return [away, h('div', { class: 'quiet long' }, `${reason}${others}`)];
}

/** Who leads stands on the left, who follows above. */
function matrix(lag: readonly LagJson[]): ComponentChild {
  const leaders = [...new Set(lag.map(({ leader }) => leader))];
  const members = [...new Set(lag.map(({ member }) => member))];
  const title = 'What each lacks of what another one leads: the worst of these spaces';
  return [
    h('p', { class: 'cluster-lag' }, title),
    h(
      'div',
      { class: 'scroll', tabIndex: 0, role: 'group', 'aria-label': title },
      h(
        'table',
        { class: 'matrix' },
        h(
          'thead',
          {},
          h(
            'tr',
            {},
            head('led by'),
            members.map((member) => head(member, 'number')),
          ),
        ),
        h(
          'tbody',
          {},
          leaders.map((leader) =>
            h(
              'tr',
              { key: leader },
              h('th', { scope: 'row' }, leader),
              members.map((member) => {
                const pair = lag.find((one) => one.leader === leader && one.member === member);
                return h('td', { key: member, class: 'number' }, pair ? lacks(pair) : '–');
              }),
            ),
          ),
        ),
      ),
    ),
  ];
}

function lacks({ lagMs, lagEntries, lagBytes, state }: LagJson): ComponentChild {
  const isUp = state === 'streaming' || state === 'catching-up';
  const rest = `${count(lagEntries)} entries, ${bytes(lagBytes)}`;
  return [span(lagMs), h('div', { class: 'quiet' }, isUp ? rest : `${rest}; ${state}`)];
}
