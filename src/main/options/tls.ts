/** The options `key` and `tls` of openNode: what they may be. The files are read when it opens. */
import { isObjectOf, isText, type Problem } from '../../shared/option-checks.js';
import { KEY_MIN_BYTES, KEYS_MAX } from '../../shared/wire/auth.js';
import { keysProblem, type TlsOptions } from '../runtime/credentials.js';

const FILES = ['caFile', 'certFile', 'keyFile'];
const NAME = /^(DNS|URI):[^\s,"]+$/;

function isKey(value: unknown): value is string | Uint8Array {
  return typeof value === 'string' || value instanceof Uint8Array;
}

/** What it should have been; undefined where it is right. No error shows a key. */
export function keyProblem(value: unknown): Problem | undefined {
  const one = `a string or Uint8Array of at least ${KEY_MIN_BYTES} bytes`;
  if (isKey(value)) return keysProblem([value]) && one;
  const isList = Array.isArray(value) && value.length > 0 && value.length <= KEYS_MAX;
  const problem = isList && value.every(isKey) ? keysProblem(value) : 'no list of keys';
  return problem && `${one}, or an array of one or two different ones`;
}

/** @param given that has no problem */
export function keysOf(given: unknown): Uint8Array[] {
  if (given === undefined) return [];
  const list = (Array.isArray(given) ? given : [given]) as (string | Uint8Array)[];
  return list.map((key) => Buffer.from(key as string));
}

/** What it should have been; undefined where it is right. */
export function tlsProblem(value: unknown): Problem | undefined {
  const keys = [...FILES, 'names'];
  if (!isObjectOf(value, keys)) return `an object of ${keys.join(', ')}`;
  for (const key of FILES) {
    const file = value[key];
    if (isText(file) && !file.includes('\0')) continue;
    return { at: `tls.${key}`, found: file, expected: 'the name of a file' };
  }
  const { names = {} } = value as { names?: TlsOptions['names'] };
  const at = 'tls.names';
  if (typeof names !== 'object' || names === null || Array.isArray(names)) {
    return { at, found: names, expected: 'an object of names by node id' };
  }
  const all = Object.entries(names);
  const odd = all.find(([, name]) => typeof name !== 'string' || !NAME.test(name));
  const expected = "'DNS:...' or 'URI:...' without blanks, commas and quotes";
  if (odd) return { at: `${at}.${odd[0]}`, found: odd[1], expected };
  const twice = all.find(([, name], i) => all.findIndex(([, other]) => other === name) !== i);
  if (!twice) return undefined;
  return { at: `${at}.${twice[0]}`, found: twice[1], expected: 'a name of its own for each node' };
}
