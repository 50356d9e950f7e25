/** Names become ids: the first 16 bytes of SHA-256 of the UTF-8 name (DESIGN 4, Names). */
import { createHash } from 'node:crypto';
import { failure } from './errors.js';
import { SPACE_NAME_MAX_BYTES } from './limits.js';
import { wrong } from './option-checks.js';
import { hasHidden } from './shown.js';

const ALL_ZERO = '0'.repeat(32);
const ALL_ONES = 'f'.repeat(32);

/** @returns 16 bytes as lower-case hex */
export function idOf(name: string): string {
  return createHash('sha256').update(name, 'utf8').digest('hex').slice(0, 32);
}

/** The id of a space. Throws Configuration for a name that is not 1..255 bytes of UTF-8. */
export function spaceIdOf(name: string): string {
  checkName('the name of a space', name);
  const id = idOf(name);
  if (id === ALL_ZERO || id === ALL_ONES) {
    throw failure(
      'Configuration',
      `the space name ${JSON.stringify(name)} hashes to a reserved id`,
    );
  }
  return id;
}

/**
 * A name that somebody gives to what is new. What is here under another one keeps it: a leader has
 * introduced it, or an earlier release took it. Throws Configuration.
 */
export function checkNewName(what: string, name: unknown): asserts name is string {
  checkName(what, name);
  if (!hasHidden(name)) return;
  const kinds = 'control characters, line separators, or characters that turn the direction';
  throw failure('Configuration', `${what} is ${JSON.stringify(name)}, which has ${kinds}`);
}

/** Whether it is a string of 1..255 bytes of well-formed UTF-8: of a space, a node, a host. */
export function isName(name: unknown): name is string {
  if (typeof name !== 'string') return false;
  const bytes = Buffer.from(name, 'utf8');
  if (bytes.length < 1 || bytes.length > SPACE_NAME_MAX_BYTES) return false;
  return bytes.toString('utf8') === name;
}

/** Throws Configuration unless `name` is a string of 1..255 bytes of well-formed UTF-8. */
export function checkName(what: string, name: unknown): asserts name is string {
  if (typeof name !== 'string') throw wrong(what, name, 'a string of 1 to 255 bytes');
  const bytes = Buffer.byteLength(name, 'utf8');
  if (bytes < 1 || bytes > SPACE_NAME_MAX_BYTES) {
    throw failure('Configuration', `${what} has ${bytes} bytes, allowed are 1..255`);
  }
  if (Buffer.from(name, 'utf8').toString('utf8') !== name) {
    throw failure('Configuration', `${what} is no well-formed Unicode`);
  }
}

/**
 * Names of spaces by node id; one that ends with `*` stands for all that begin so. undefined: every
 * node may replicate every space.
 */
export type AllowedSpaces = Readonly<Record<string, readonly string[]>> | undefined;

/** Whether a node may replicate a space with this one, either way. */
export function mayReplicate(allowed: AllowedSpaces, nodeId: string, space: string): boolean {
  if (!allowed) return true;
  const names = Object.hasOwn(allowed, nodeId) ? allowed[nodeId]! : [];
  return names.some((name) =>
    name.endsWith('*') ? space.startsWith(name.slice(0, -1)) : name === space,
  );
}
