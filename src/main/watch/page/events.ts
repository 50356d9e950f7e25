/** What happened last, newest first. */
import type { HealthWord } from '#src/main/watch/health/words.js';
import type { StatusJson } from '#src/main/watch/status-json.js';
import { healthIcon } from './health-badge.js';
import { type ComponentChild, h } from './preact.js';
import { clock, count } from './words.js';

const SHOWN = 6;
const ICON: Readonly<Record<string, HealthWord>> = { warn: 'degraded', error: 'failed' };
const SAID: Readonly<Record<string, string>> = { warn: 'Warning: ', error: 'Error: ' };

export function events({ events: all, node }: StatusJson): ComponentChild {
  const last = [...all].reverse();
  const rows = last.map(({ at, level, event, text, times }) =>
    h(
      'li',
      { key: `${at} ${event}`, class: `event ${level}` },
      h('time', { dateTime: new Date(at).toISOString() }, clock(at, node.at)),
      ICON[level] ? healthIcon(ICON[level]) : h('span', { class: 'icon' }),
      h(
        'span',
        { class: 'long' },
        SAID[level] && h('span', { class: 'unseen' }, SAID[level]),
        text,
        times > 1 && h('span', { class: 'quiet' }, ` (the last of ${count(times)})`),
      ),
    ),
  );
  return h(
    'section',
    { class: 'panel events', 'aria-labelledby': 'events' },
    h('h2', { id: 'events' }, 'What happened last'),
    rows.length === 0
      ? h('p', { class: 'quiet' }, 'Nothing since this node was opened.')
      : h('ol', { class: 'event-list' }, rows.slice(0, SHOWN)),
    rows.length > SHOWN &&
      h(
        'details',
        {},
        h('summary', {}, `${count(rows.length - SHOWN)} earlier`),
        h('ol', { class: 'event-list' }, rows.slice(SHOWN)),
      ),
  );
}
