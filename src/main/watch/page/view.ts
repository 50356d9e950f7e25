/** What the page shows at a moment, and what a person has chosen to see. */
import type { HealthWord } from '#src/main/watch/health/words.js';
import type { HistoryJson } from '#src/main/watch/history.js';
import type { SORTS, StatusJson } from '#src/main/watch/status-json.js';

export const EVENT_LEVELS = ['warn', 'error'] as const;
export type EventLevel = (typeof EVENT_LEVELS)[number];

const OVERS = ['minutes', 'day'] as const;
export type Over = (typeof OVERS)[number];

export type Sort = (typeof SORTS)[number];

export interface Choice {
  readonly search: string;
  readonly health: HealthWord | undefined;
  /** Those that have a part in this problem; empty: whichever. */
  readonly cause: string;
  readonly sort: Sort;
  readonly offset: number;
  /** Names of spaces that are shown in full. */
  readonly open: readonly string[];
  /** What the small charts are of; undefined: what there is most to see of. */
  readonly over: Over | undefined;
  /** Events of this level alone. */
  readonly eventLevel: EventLevel | undefined;
  /** Events of this name alone; empty: of any. */
  readonly eventKind: string;
  readonly eventSearch: string;
}

export interface View {
  readonly status: StatusJson | undefined;
  readonly history: HistoryJson;
  readonly choice: Choice;
  /** Why the node does not answer; undefined: it does. */
  readonly trouble: string | undefined;
  /** For how long it has not answered, ms. */
  readonly silentMs: number;
}

export const ROWS = 25;

export const NO_CHOICE: Choice = {
  search: '',
  health: undefined,
  cause: '',
  sort: 'health',
  offset: 0,
  open: [],
  over: undefined,
  eventLevel: undefined,
  eventKind: '',
  eventSearch: '',
};

const WORDS: readonly HealthWord[] = ['corrupt', 'failed', 'degraded', 'lagging', 'healthy'];
const SORT_NAMES: readonly Sort[] = ['health', 'name', 'lag', 'entries'];

/** A choice is kept in the address: reloaded, or sent to a colleague, the page shows the same. */
export function readChoice(hash: string): Choice {
  const given = new URLSearchParams(hash.replace(/^#/, ''));
  const offset = Number(given.get('offset') ?? 0);
  return {
    search: (given.get('search') ?? '').slice(0, 255),
    health: WORDS.find((word) => word === given.get('health')),
    cause: (given.get('cause') ?? '').slice(0, 300),
    sort: SORT_NAMES.find((sort) => sort === given.get('sort')) ?? NO_CHOICE.sort,
    offset: Number.isInteger(offset) && offset > 0 && offset <= 1_000_000 ? offset : 0,
    open: given.getAll('open').slice(0, ROWS),
    over: OVERS.find((over) => over === given.get('over')),
    eventLevel: EVENT_LEVELS.find((level) => level === given.get('level')),
    eventKind: (given.get('event') ?? '').slice(0, 255),
    eventSearch: (given.get('events') ?? '').slice(0, 255),
  };
}

export function writeChoice(choice: Choice): string {
  const { search, health, cause, sort, offset, open, eventLevel, eventKind, eventSearch } = choice;
  const written = new URLSearchParams();
  if (search !== '') written.set('search', search);
  if (health !== undefined) written.set('health', health);
  if (cause !== '') written.set('cause', cause);
  if (sort !== NO_CHOICE.sort) written.set('sort', sort);
  if (offset > 0) written.set('offset', String(offset));
  for (const name of open) written.append('open', name);
  if (choice.over !== undefined) written.set('over', choice.over);
  if (eventLevel !== undefined) written.set('level', eventLevel);
  if (eventKind !== '') written.set('event', eventKind);
  if (eventSearch !== '') written.set('events', eventSearch);
  const text = written.toString();
  return text === '' ? '' : `#${text}`;
}

/** What is asked of the node. */
export function queryOf({ search, health, cause, sort, offset }: Choice): string {
  const query = new URLSearchParams({ sort, limit: String(ROWS), offset: String(offset) });
  if (search !== '') query.set('search', search);
  if (health !== undefined) query.set('health', health);
  if (cause !== '') query.set('cause', cause);
  return query.toString();
}
