/** What happened last, newest first: narrowed to a level, a kind, a text; a bounded list. */
import type { HealthWord } from '#src/main/watch/health/words.js';
import type { StatusJson } from '#src/main/watch/status-json.js';
import { healthIcon } from './health-badge.js';
import { type ComponentChild, h } from './preact.js';
import type { Choose } from './spaces.js';
import { type Choice, EVENT_LEVELS, type EventLevel } from './view.js';
import { clock, count } from './words.js';

const SHOWN = 6;
const ICON: Readonly<Record<string, HealthWord>> = { warn: 'degraded', error: 'failed' };
const SAID: Readonly<Record<string, string>> = { warn: 'Warning: ', error: 'Error: ' };
const CHIPS: Readonly<Record<EventLevel, string>> = { warn: 'Warnings', error: 'Errors' };

type Event = StatusJson['events'][number];

/** Those of the level and of the kind whose text, or kind, holds what is searched for. */
export function chosenEvents(all: readonly Event[], choice: Choice): readonly Event[] {
  const { eventLevel, eventKind, eventSearch } = choice;
  const part = eventSearch.toLowerCase();
  return all.filter(
    ({ level, event, text }) =>
      (eventLevel === undefined || level === eventLevel) &&
      (eventKind === '' || event === eventKind) &&
      (part === '' || `${event} ${text}`.toLowerCase().includes(part)),
  );
}

export function events({ events: all, node }: StatusJson, choice: Choice, choose: Choose) {
  const found = chosenEvents(all, choice).toReversed();
  const rows = found.map((event) => row(event, node.at));
  const isNarrowed = found.length < all.length;
  return h(
    'section',
    { class: 'panel events', 'aria-labelledby': 'events' },
    h('h2', { id: 'events' }, 'What happened last'),
    all.length > 0 && tools(all, choice, choose),
    h(
      'p',
      { class: 'unseen', role: 'status' },
      isNarrowed ? `${count(found.length)} of ${count(all.length)} events` : '',
    ),
    rows.length === 0
      ? h('p', { class: 'quiet none' }, nothing(all.length))
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

function nothing(all: number): string {
  if (all === 0) return 'Nothing since this node was opened.';
  return `None of the last ${count(all)} events is like that.`;
}

function row({ at, level, event, text, times }: Event, now: number): ComponentChild {
  return h(
    'li',
    { key: `${at} ${event}`, class: `event ${level}` },
    h('time', { dateTime: new Date(at).toISOString() }, clock(at, now)),
    ICON[level] ? healthIcon(ICON[level]) : h('span', { class: 'icon' }),
    h(
      'span',
      { class: 'long', title: event },
      SAID[level] && h('span', { class: 'unseen' }, SAID[level]),
      text,
      times > 1 && h('span', { class: 'quiet' }, ` (the last of ${count(times)})`),
    ),
  );
}

function tools(
  all: readonly Event[],
  { eventLevel, eventKind, eventSearch }: Choice,
  choose: Choose,
): ComponentChild {
  const kinds = [...new Set([...all.map(({ event }) => event), eventKind])];
  const chip = (level: EventLevel | undefined, name: string): ComponentChild =>
    h(
      'button',
      {
        key: name,
        type: 'button',
        class: 'chip',
        'aria-pressed': eventLevel === level,
        onClick: () => choose({ eventLevel: level }),
      },
      level && healthIcon(ICON[level]!),
      name,
    );
  return h(
    'div',
    { class: 'tools' },
    h(
      'label',
      { class: 'search' },
      h('span', { class: 'unseen' }, 'Search events'),
      h('input', {
        type: 'search',
        placeholder: 'Search events',
        autocomplete: 'off',
        spellcheck: false,
        maxLength: 255,
        value: eventSearch,
        onInput: (event: InputEvent) =>
          choose({ eventSearch: (event.currentTarget as HTMLInputElement).value }),
      }),
    ),
    h(
      'label',
      {},
      h('span', { class: 'unseen' }, 'Kind of event'),
      h(
        'select',
        {
          value: eventKind,
          onChange: (event: InputEvent) =>
            choose({ eventKind: (event.currentTarget as HTMLSelectElement).value }),
        },
        h('option', { value: '' }, 'every kind'),
        kinds
          .filter((kind) => kind !== '')
          .sort()
          .map((kind) => h('option', { key: kind, value: kind }, kind)),
      ),
    ),
    h(
      'div',
      { class: 'chips', role: 'group', 'aria-label': 'Only events that are' },
      chip(undefined, 'All'),
      EVENT_LEVELS.map((level) => chip(level, CHIPS[level])),
    ),
  );
}
