/** What is wrong, since when, where, and what to do about it: one row a cause. */
import type { ProblemJson, StatusJson } from '#src/main/watch/status-json.js';
import { healthBadge, healthIcon } from './health-badge.js';
import { type ComponentChild, h } from './preact.js';
import type { Choose } from './spaces.js';
import { clock, count, counted, span } from './words.js';

/** Where only spaces of one problem are listed: whatever else was chosen would hide some. */
const OF_CAUSE = { search: '', health: undefined, offset: 0 } as const;

/** @param isOld nothing is claimed of now */
export function problems(status: StatusJson, isOld: boolean, choose: Choose): ComponentChild {
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
          found.map((problem) => problemRow(problem, node.at, choose)),
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

function problemRow(problem: ProblemJson, now: number, choose: Choose): ComponentChild {
  const { cause, health, todo, text, forMs } = problem;
  return h(
    'li',
    { key: cause, class: `problem ${health}` },
    healthBadge(health, '', health === 'corrupt' ? health : todo),
    h(
      'div',
      { class: 'problem-text' },
      h('p', {}, text),
      h(
        'p',
        { class: 'quiet' },
        `for ${span(forMs)}, since ${clock(now - forMs, now)}`,
        concerned(problem, choose),
      ),
      whatToDo(problem),
    ),
  );
}

/** The first few spaces by name; the rest is listed below when somebody wants it. */
function concerned({ cause, examples, spaces }: ProblemJson, choose: Choose): ComponentChild {
  if (examples.length === 0) return undefined;
  const rest = spaces - examples.length;
  const link = (name: string, onClick: () => void): ComponentChild =>
    h('button', { key: name, type: 'button', class: 'link', onClick }, name);
  const seek = (name: string) => () => {
    choose({ ...OF_CAUSE, cause: '', search: name });
    toSpaces();
  };
  const all = (): void => {
    choose({ ...OF_CAUSE, cause });
    toSpaces();
  };
  return [
    ' · ',
    examples.map((name, i) => [i > 0 && ', ', link(name, seek(name))]),
    rest > 0 && [' ', link(`and ${count(rest)} more`, all)],
  ];
}

function toSpaces(): void {
  document.getElementById('spaces')?.scrollIntoView({ block: 'start' });
}

function whatToDo({ advice, chapter }: ProblemJson): ComponentChild {
  return h(
    'div',
    { class: 'advice' },
    h('p', {}, `${advice.text}. `, h('a', { href: `/runbook#${chapter}` }, 'The handbook')),
    advice.steps.length > 0 &&
      h(
        'ul',
        { class: 'steps' },
        advice.steps.map(({ on, command }) =>
          h(
            'li',
            { key: `${on} ${command}` },
            h('code', {}, command),
            on !== '' && h('span', { class: 'quiet' }, ` on ${on}`),
          ),
        ),
      ),
  );
}
