/** What may be asked for behind a `?`: every parameter is known, given once, within bounds. */
import { RINGS, type StepMs } from '../../shared/metrics/rings.js';
import { HEALTH_WORDS } from './health/words.js';
import { SORTS, type SpaceQuery } from './status-json.js';

const STEPS = RINGS.map(({ stepMs }) => String(stepMs));
const ROWS_MAX = 1_000;
const OFFSET_MAX = 1_000_000;
const TEXT_MAX = 255;
/** A kind, and the name of a node. */
const CAUSE_MAX = 300;

/** Says what is wrong with the query, for whoever has asked. */
export class QueryError extends Error {}

/** Takes one parameter as it stands in the query; undefined where it is not right. */
type Reader = (text: string) => string | number | undefined;

const text =
  (least: number, most = TEXT_MAX): Reader =>
  (given) =>
    given.length >= least && given.length <= most ? given : undefined;
const word =
  (words: readonly string[]): Reader =>
  (given) =>
    words.includes(given) ? given : undefined;
const count =
  (most: number): Reader =>
  (given) =>
    /^\d{1,9}$/.test(given) && Number(given) <= most ? Number(given) : undefined;

const STATUS: Readonly<Record<keyof SpaceQuery, Reader>> = {
  space: text(1),
  search: text(0),
  health: word(HEALTH_WORDS),
  cause: text(1, CAUSE_MAX),
  problems: count(1),
  sort: word(SORTS),
  limit: count(ROWS_MAX),
  after: text(0),
  offset: count(OFFSET_MAX),
};

/** Throws QueryError. */
export function statusQuery(given: URLSearchParams): SpaceQuery {
  return queryOf(given, STATUS) as SpaceQuery;
}

/** The space that is asked for, if one is. Throws QueryError. */
export function clusterQuery(given: URLSearchParams): { readonly space?: string } {
  return queryOf(given, { space: text(1) });
}

/** Which ring of /replication/day; the one of minutes unless told otherwise. Throws QueryError. */
export function dayQuery(given: URLSearchParams): StepMs {
  const { stepMs } = queryOf(given, { stepMs: word(STEPS) }) as { stepMs?: string };
  return Number(stepMs ?? STEPS.at(-1)) as StepMs;
}

/** Throws QueryError where anything is asked for. */
export function noQuery(given: URLSearchParams): void {
  queryOf(given, {});
}

function queryOf(given: URLSearchParams, readers: Readonly<Record<string, Reader>>): object {
  const found: Record<string, string | number> = {};
  for (const [key, value] of given) {
    const read = Object.hasOwn(readers, key) ? readers[key]! : undefined;
    if (!read) {
      const known = Object.keys(readers).join(', ') || 'none';
      throw new QueryError(`no parameter of this name is known here; known: ${known}`);
    }
    if (Object.hasOwn(found, key)) throw new QueryError(`${key} is given twice`);
    const taken = read(value);
    if (taken === undefined) throw new QueryError(`${key} is not what it must be`);
    found[key] = taken;
  }
  return found;
}
