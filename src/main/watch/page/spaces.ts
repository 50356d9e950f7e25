/** The spaces: searched, narrowed to a state, sorted, by pages; an opened one shows all. */

import type { SpaceReplicaStatus } from '#src/main/ship/status.js';
import type { HealthWord } from '#src/main/watch/health/words.js';
import type { SpaceJson, StatusJson } from '#src/main/watch/status-json.js';
import { healthBadge, healthIcon } from './health-badge.js';
import { type ComponentChild, h } from './preact.js';
import { type Choice, ROWS, type Sort } from './view.js';
import { bytes, capital, count, counted, span } from './words.js';

const WORDS: readonly HealthWord[] = ['corrupt', 'failed', 'degraded', 'lagging', 'healthy'];

export type Choose = (change: Partial<Choice>) => void;

export function spaces(status: StatusJson, choice: Choice, choose: Choose): ComponentChild {
  const { total } = status.spaces;
  return h(
    'section',
    { class: 'panel spaces', 'aria-labelledby': 'spaces' },
    h('h2', { id: 'spaces' }, total === 1 ? 'Space' : 'Spaces'),
    total > 1 && tools(status, choice, choose),
    total === 0
      ? h('p', { class: 'quiet' }, 'There is no space on this node yet.')
      : table(status, choice, choose),
    total > ROWS && pager(status, choice, choose),
  );
}

function tools(status: StatusJson, choice: Choice, choose: Choose): ComponentChild {
  const { spaces: counts, page } = status;
  const { search, health, cause } = choice;
  const chip = (word: HealthWord | undefined, number: number): ComponentChild =>
    h(
      'button',
      {
        key: word ?? 'all',
        type: 'button',
        class: 'chip',
        'aria-pressed': health === word,
        onClick: () => choose({ health: word, offset: 0 }),
      },
      word && healthIcon(word),
      word ? capital(word) : 'All',
      h('span', { class: 'chip-count' }, count(number)),
    );
  const isNarrowed = search !== '' || health !== undefined || cause !== '';
  return h(
    'div',
    { class: 'tools' },
    h(
      'label',
      { class: 'search' },
      h('span', { class: 'unseen' }, 'Search by name'),
      h('input', {
        type: 'search',
        id: 'search',
        placeholder: 'Search by name',
        autocomplete: 'off',
        spellcheck: false,
        maxLength: 255,
        value: search,
        onInput: (event: Event) =>
          choose({ search: (event.currentTarget as HTMLInputElement).value, offset: 0 }),
      }),
    ),
    h(
      'div',
      { class: 'chips', role: 'group', 'aria-label': 'Only spaces that are' },
      chip(undefined, counts.total),
      WORDS.filter((word) => counts[word] > 0 || health === word).map((word) =>
        chip(word, counts[word]),
      ),
    ),
    cause !== '' && causeChip(status, cause, choose),
    h(
      'p',
      { class: 'unseen', role: 'status' },
      isNarrowed ? `${counted(page.matching, 'space')} found` : '',
    ),
  );
}

/** What narrows the list to one problem, until it is pressed. */
function causeChip({ problems }: StatusJson, cause: string, choose: Choose): ComponentChild {
  const text = problems.find((one) => one.cause === cause)?.text ?? `${cause}: it is over`;
  return h(
    'button',
    {
      type: 'button',
      class: 'chip chip-cause',
      'aria-pressed': true,
      'aria-label': `Only those of: ${text}. Show all`,
      onClick: () => choose({ cause: '', offset: 0 }),
    },
    h('span', { class: 'long' }, text),
    h('span', { class: 'chip-count', 'aria-hidden': 'true' }, '✕'),
  );
}

const COLUMNS: readonly (readonly [sort: Sort | undefined, title: string, name: string])[] = [
  ['name', 'Space', 'name'],
  ['health', 'State', 'state'],
  [undefined, 'Role', 'role'],
  ['entries', 'Entries', 'number'],
  ['lag', 'Lag', 'number'],
  [undefined, 'Copies', 'copies'],
];

const SORTED: Readonly<Record<Sort, 'ascending' | 'descending'>> = {
  name: 'ascending',
  health: 'descending',
  entries: 'descending',
  lag: 'descending',
};

function table(
  { rows, spaces: counts }: StatusJson,
  choice: Choice,
  choose: Choose,
): ComponentChild {
  const { sort, open } = choice;
  const toggle = (name: string): void => {
    const isOpen = open.includes(name);
    choose({ open: isOpen ? open.filter((one) => one !== name) : [...open, name].slice(-ROWS) });
  };
  const head = COLUMNS.map(([by, title, name]) =>
    h(
      'th',
      { scope: 'col', class: name, ...(by === sort ? { 'aria-sort': SORTED[sort] } : {}) },
      by === undefined
        ? title
        : h(
            'button',
            { type: 'button', onClick: () => choose({ sort: by, offset: 0 }) },
            title,
            h('span', { class: 'arrow', 'aria-hidden': 'true' }, by === sort ? arrow(by) : ''),
          ),
    ),
  );
  if (rows.length === 0) {
    return h(
      'p',
      { class: 'quiet none' },
      'No space is like that. ',
      h(
        'button',
        {
          type: 'button',
          class: 'link',
          onClick: () => choose({ search: '', health: undefined, cause: '', offset: 0 }),
        },
        'Show all',
      ),
    );
  }
  return h(
    'table',
    {},
    h('thead', {}, h('tr', {}, head)),
    rows.map((space) => {
      const isOpen = counts.total === 1 || open.includes(space.name);
      return h(
        'tbody',
        { key: space.name, class: isOpen ? 'open' : '' },
        row(space, isOpen, counts.total > 1 ? () => toggle(space.name) : undefined),
        isOpen &&
          h(
            'tr',
            { class: 'whole', id: wholeId(space.name) },
            h('td', { colSpan: COLUMNS.length }, whole(space)),
          ),
      );
    }),
  );
}

/** An id holds no blanks. */
function wholeId(name: string): string {
  return `whole-${encodeURIComponent(name)}`;
}

function arrow(sort: Sort): string {
  return SORTED[sort] === 'ascending' ? ' ↑' : ' ↓';
}

function row(space: SpaceJson, isOpen: boolean, toggle: (() => void) | undefined): ComponentChild {
  const { name, health, role, durableSequence, replicas } = space;
  const cell = (kind: string, label: string, value: ComponentChild): ComponentChild =>
    h('td', { class: kind, 'data-label': label }, value);
  return h(
    'tr',
    // Its button is what the keyboard and a screen reader have; a pointer has the whole row.
    {
      class: toggle ? `${health} opens` : health,
      ...(toggle && { onClick: (event: Event) => isOnRow(event) && toggle(), onKeyDown: walk }),
    },
    h(
      'th',
      { scope: 'row', class: 'name' },
      toggle
        ? h(
            'button',
            {
              type: 'button',
              class: 'opener',
              'aria-expanded': isOpen,
              'aria-controls': isOpen ? wholeId(name) : undefined,
              onClick: toggle,
            },
            h('span', { class: 'opener-mark', 'aria-hidden': 'true' }),
            h('span', { class: 'long' }, name),
          )
        : h('span', { class: 'long' }, name),
    ),
    cell('state', 'State', healthBadge(health)),
    cell('role', 'Role', role === 'primary' ? 'led here' : `from ${space.primaryNodeId}`),
    cell('number', 'Entries', count(durableSequence)),
    cell('number', 'Lag', replicas.length === 0 ? '–' : span(worstLag(replicas))),
    cell('copies', 'Copies', copies(space)),
  );
}

/** Not on what acts by itself, and not at the end of marking a text. */
function isOnRow({ target }: Event): boolean {
  const isMarked = getSelection()?.type === 'Range';
  return !isMarked && (target as Element).closest('button, a') === null;
}

/** Up and down, Home and End go from row to row. */
function walk(event: KeyboardEvent): void {
  const openers = [...document.querySelectorAll<HTMLElement>('.spaces .opener')];
  const at = openers.indexOf(event.target as HTMLElement);
  const last = openers.length - 1;
  const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: last }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  openers[Math.min(last, Math.max(0, to))]!.focus();
}

function worstLag(replicas: readonly SpaceReplicaStatus[]): number | 'unknown' {
  let worst = 0;
  for (const { lagMs } of replicas) {
    if (lagMs === 'unknown') return lagMs;
    worst = Math.max(worst, lagMs);
  }
  return worst;
}

function copies(space: SpaceJson): ComponentChild {
  const { role, health, replicas, caughtUpReplicas, applyBlocked } = space;
  if (applyBlocked) return `apply is blocked at ${count(applyBlocked.sequence)}`;
  if (role === 'replica') return 'this is one';
  if (replicas.length === 0) return 'none: only here';
  // To have flushed all that came is not to be able to read it.
  const damaged = health === 'corrupt' ? 'damaged here; ' : '';
  return `${damaged}${caughtUpReplicas} of ${replicas.length} caught up`;
}

function whole(space: SpaceJson): ComponentChild {
  const { replicas, damage, refusal, applyBlocked, rpo } = space;
  const notes = [
    ...damage.map(({ from, to, accepted }) => {
      const which = to === 0 ? `from entry ${count(from)} on` : `${count(from)} to ${count(to)}`;
      return `Cannot be read: ${which}${accepted ? ' (the loss is accepted)' : ''}.`;
    }),
    ...(refusal ? [`Takes no appends: ${refusal.message}.`] : []),
    ...(applyBlocked
      ? [`Nothing is applied from entry ${applyBlocked.sequence} on (${applyBlocked.reason}).`]
      : []),
    ...replicas.flatMap(({ replicaId, status, state, reason, alert }) =>
      status === 'healthy' || status === 'lagging'
        ? []
        : [`${replicaId}, ${state}: ${reason}${alert === 'none' ? '' : ` (alert: ${alert})`}.`],
    ),
    ...(space.snapshot && space.snapshot.phase !== 'idle'
      ? [`Snapshot from ${space.primaryNodeId}: ${snapshotText(space.snapshot)}.`]
      : []),
    ...replicas.flatMap(({ replicaId, snapshot }) =>
      snapshot ? [`Snapshot for ${replicaId}: ${snapshotText(snapshot)}.`] : [],
    ),
    ...(space.skipped > 0 ? [`${counted(space.skipped, 'entry')} skipped.`] : []),
    ...(space.keeps.by === 'nobody' ? [`Keeps all: ${space.keeps.reason}.`] : []),
  ];
  const fact = (name: string, value: string): ComponentChild =>
    h('div', { class: 'fact' }, h('dt', {}, name), h('dd', {}, value));
  return h(
    'div',
    {},
    notes.map((note) => h('p', { class: 'note' }, note)),
    h(
      'dl',
      { class: 'facts facts-wide' },
      fact('epoch', count(space.epoch)),
      fact('first kept', count(space.firstSequence)),
      fact('durable', count(space.durableSequence)),
      space.role === 'replica'
        ? fact(
            'applied',
            space.appliedSequence === null ? 'no host here' : count(space.appliedSequence),
          )
        : fact('only on this disk', lost(rpo.entries, replicas.length)),
      fact('checkpoint', space.checkpoint === 0 ? 'never' : count(space.checkpoint)),
    ),
    replicas.length > 0 && replicaTable(replicas),
  );
}

function snapshotText(snapshot: {
  readonly phase: string;
  readonly chunks: number;
  readonly bytes: number;
  readonly failure?: string | undefined;
}): string {
  const { phase, chunks, bytes: size, failure } = snapshot;
  const why = failure === undefined ? '' : ` (${failure})`;
  return `${phase}${why}, ${counted(chunks, 'chunk')}, ${bytes(size)} so far`;
}

function lost(entries: number, replicas: number): string {
  if (replicas === 0) return 'everything: there is no copy';
  return entries === 0 ? 'nothing' : counted(entries, 'entry').replace('entrys', 'entries');
}

function replicaTable(replicas: readonly SpaceReplicaStatus[]): ComponentChild {
  const titles = ['Replica', 'State', 'Sent', 'Received', 'Flushed', 'Applied', 'Lag', 'Slot'];
  return h(
    'div',
    { class: 'scroll', tabIndex: 0, role: 'group', 'aria-label': 'Replicas of the space' },
    h(
      'table',
      { class: 'inner' },
      h(
        'thead',
        {},
        h(
          'tr',
          {},
          titles.map((title) => h('th', { scope: 'col' }, title)),
        ),
      ),
      h(
        'tbody',
        {},
        replicas.map((r) =>
          h(
            'tr',
            { key: r.replicaId },
            h('th', { scope: 'row' }, r.replicaId),
            h(
              'td',
              { title: r.reason },
              healthBadge(r.status),
              h('span', { class: 'quiet inner-state' }, r.state),
            ),
            [r.sentSequence, r.receivedSequence, r.ackedSequence].map((n) =>
              h('td', { class: 'number' }, count(n)),
            ),
            // A node without a host has applied nothing, and need not.
            h('td', { class: 'number' }, r.appliedSequence === 0 ? '–' : count(r.appliedSequence)),
            h('td', { class: 'number' }, lagOf(r)),
            h('td', {}, r.slot),
          ),
        ),
      ),
    ),
  );
}

function lagOf({ lagMs, lagEntries, lagBytes }: SpaceReplicaStatus): string {
  if (lagEntries === 0 && lagMs !== 'unknown') return span(lagMs);
  return `${span(lagMs)} · ${count(lagEntries)} entries · ${bytes(lagBytes)}`;
}

function pager({ page, rows }: StatusJson, { offset }: Choice, choose: Choose): ComponentChild {
  const { matching } = page;
  const last = page.offset + rows.length;
  const step = (title: string, to: number, isOff: boolean): ComponentChild =>
    h('button', { type: 'button', disabled: isOff, onClick: () => choose({ offset: to }) }, title);
  return h(
    'nav',
    { class: 'pager', 'aria-label': 'Pages of spaces' },
    step('Previous', Math.max(0, offset - ROWS), offset === 0),
    h(
      'span',
      { class: 'quiet' },
      matching === 0 ? 'none' : `${count(page.offset + 1)}–${count(last)} of ${count(matching)}`,
    ),
    step('Next', offset + ROWS, last >= matching),
  );
}
