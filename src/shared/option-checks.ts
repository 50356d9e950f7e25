/**
 * What options and arguments must be, one by one, and how a wrong one is named: which it is, what
 * was found and what was expected. Times are bounded by what a timer can wait (FAULTS row 96).
 */
import { types } from 'node:util';
import { isWildcard } from './address.js';
import { type EngramError, failure } from './errors.js';
import { TIMER_MAX_MS } from './limits.js';

/** What was expected of the option, or of a part of it. */
export type Problem =
  | string
  | { readonly at: string; readonly found: unknown; readonly expected: string };

/** Undefined where the value is right. */
export type Check = (value: unknown) => Problem | undefined;

/** Of these no error shows more than their length. */
const SECRETS = ['key', 'http.token'];
const SHOWN_MAX = 60;

export const text = (v: unknown): string | undefined =>
  isText(v) ? undefined : 'a non-empty string';
/** A name of the file system's. */
export const pathText: Check = (v) =>
  isText(v) && !v.includes('\0') ? undefined : 'a path: a non-empty string without NUL';
export const flag = (v: unknown): string | undefined =>
  typeof v === 'boolean' ? undefined : 'true or false';
/** Node ids, as calls name them. */
export const texts = (v: unknown): string | undefined =>
  Array.isArray(v) && v.every(isText) ? undefined : 'an array of non-empty strings';
export const callback: Check = (v) => (typeof v === 'function' ? undefined : 'a function');

/** A whole number of `unit` within bounds. */
export function whole(
  least: number,
  most: number = Number.MAX_SAFE_INTEGER,
  unit = '',
): (value: unknown) => string | undefined {
  const bound = most === Number.MAX_SAFE_INTEGER ? '' : ` to ${most}`;
  const expected = `a whole number${unit && ` of ${unit}`} from ${least}${bound}`;
  return (v) =>
    Number.isSafeInteger(v) && (v as number) >= least && (v as number) <= most
      ? undefined
      : expected;
}

/** A time that a timer can wait: beyond 2^31 - 1 ms Node waits 1 ms instead. */
export function wholeMs(least: number): (value: unknown) => string | undefined {
  return whole(least, TIMER_MAX_MS, 'ms');
}

/** Checks a time given to one call. Throws Configuration. */
export function checkTimeout(what: string, ms: unknown): asserts ms is number {
  const isRight = typeof ms === 'number' && ms >= 0 && ms <= TIMER_MAX_MS;
  if (!isRight) throw wrong(what, ms, `a number of ms from 0 to ${TIMER_MAX_MS}`);
}

export function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

/** Whether it is a plain object of no other keys than these. */
export function isObjectOf(
  value: unknown,
  keys: readonly string[],
): value is Record<string, unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    Object.keys(value).every((key) => keys.includes(key))
  );
}

/**
 * @param at what the address is called
 * @param leastPort 0 where any free one may be meant
 * @param more a `nodeId` besides host and port
 */
export function addressProblem(
  value: unknown,
  at: string,
  leastPort: 0 | 1,
  ...more: 'nodeId'[]
): Problem | undefined {
  const keys = [...more, 'host', 'port'];
  if (!isObjectOf(value, keys)) {
    const isPlain = typeof value === 'object' && value !== null && !Array.isArray(value);
    const odd = isPlain ? Object.keys(value).find((key) => !keys.includes(key)) : undefined;
    const but = odd !== undefined && ` without ${odd}`;
    return { at, found: value, expected: `an object of ${keys.join(', ')}${but || ''}` };
  }
  const part = (key: string, expected: string): Problem => ({
    at: `${at}.${key}`,
    found: value[key],
    expected,
  });
  for (const key of ['nodeId', 'host']) {
    if (keys.includes(key) && !isText(value[key])) return part(key, 'a non-empty string');
  }
  if (leastPort > 0 && isWildcard(value.host as string)) {
    return part('host', 'a host that can be dialled: it stands for every address of a machine');
  }
  const isPort = whole(leastPort, 65_535)(value.port) === undefined;
  return isPort ? undefined : part('port', `a port, ${leastPort} to 65535`);
}

/** A Configuration error that names what is wrong, what was found and what was expected. */
export function wrong(
  what: string,
  found: unknown,
  expected: string,
  option?: string,
): EngramError {
  const isSecret = SECRETS.some((name) => what === name || what.endsWith(` ${name}`));
  const shown = isSecret ? lengthOf(found) : describe(found);
  return failure('Configuration', `${what} is ${shown}, not ${expected}`, {
    ...(option === undefined ? {} : { details: { option } }),
  });
}

/** Checks one option. Throws Configuration, naming it. */
export function checkOption(option: string, value: unknown, check: Check): void {
  const problem = check(value);
  if (problem === undefined) return;
  const { at, found, expected } =
    typeof problem === 'string' ? { at: option, found: value, expected: problem } : problem;
  throw wrong(`option ${at}`, found, expected, option);
}

/** Checks what one call was given, as far as it was given. Throws Configuration. */
export function checkGiven<T extends object>(
  what: string,
  given: T,
  checks: { readonly [key in keyof T]?: (value: unknown) => string | undefined },
): void {
  for (const key of Object.keys(checks) as (keyof T & string)[]) {
    const value: unknown = given[key];
    const expected = value === undefined ? undefined : checks[key]!(value);
    if (expected !== undefined) throw wrong(`${what}: ${key}`, value, expected, key);
  }
}

/** Throws Configuration for what is no object, or for a key of it that `known` does not have. */
export function refuseUnknown(what: string, given: object, known: readonly string[]): void {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw wrong(`what ${what} was given`, given, `an object of ${known.join(', ')}`);
  }
  for (const key of Object.keys(given)) {
    if (known.includes(key)) continue;
    const found = `${what} has no option ${key}; known: ${known.join(', ')}`;
    throw failure('Configuration', found, { details: { option: key } });
  }
}

/** A value as an error shows it: short, and no object's content. */
export function describe(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return value.length > SHOWN_MAX ? lengthOf(value) : JSON.stringify(value);
    case 'object':
      if (value === null) return 'null';
      if (types.isProxy(value)) return 'a Proxy';
      if (types.isAnyArrayBuffer(value)) return 'an ArrayBuffer';
      if (types.isDataView(value)) return 'a DataView';
      return Array.isArray(value) ? `an array of ${value.length}` : 'an object';
    case 'function':
      return 'a function';
    case 'bigint':
      return `${value}n`;
    default:
      return String(value);
  }
}

function lengthOf(value: unknown): string {
  if (typeof value === 'string') return `a string of ${value.length} characters`;
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  return `a value of type ${typeof value}`;
}
