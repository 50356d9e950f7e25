/**
 * What a host gives is read once, at the call, before anything of the log moves: its getters,
 * proxies and buffers may throw or change, and then nothing has happened (FAULTS rows 82, 83).
 */
import { types } from 'node:util';
import { copyBytes } from './bytes.js';
import { EngramError, failure } from './errors.js';
import { describe, refuseUnknown, wrong } from './option-checks.js';

const OPTIONS_DEPTH = 6;
/** No array of a host is as long; a Proxy may say so. */
const LIST_MAX = 2 ** 24;
const typedArray = Object.getPrototypeOf(Uint8Array.prototype) as object;
// The engine's own, of any realm: a subclass that lies about its length is not asked.
const [byteLengthOf, byteOffsetOf, bufferOf] = ['byteLength', 'byteOffset', 'buffer'].map(
  (name) => Object.getOwnPropertyDescriptor(typedArray, name)!.get!,
) as [() => unknown, () => unknown, () => unknown];
const { keys: keysOf } = Uint8Array.prototype;

/** The name of what a host has thrown; running its code may throw again. */
export function nameOf(error: unknown): string {
  try {
    return error instanceof Error ? String(error.name) : typeof error;
  } catch {
    return 'unreadable';
  }
}

/** The same in full. */
export function textOf(error: unknown): string {
  try {
    return String(error);
  } catch {
    return 'what cannot be read';
  }
}

/** The first line of what it says. */
export function messageOf(error: unknown): string {
  try {
    return error instanceof Error ? error.message.split('\n', 1)[0]! : textOf(error);
  } catch {
    return 'what cannot be read';
  }
}

/**
 * Bytes of a payload: a Uint8Array of whatever realm, a Buffer, a view of shared memory. Throws
 * Configuration for anything else, and for one whose memory is gone.
 */
export function payloadBytes(payload: unknown): number {
  if (!types.isUint8Array(payload)) {
    throw failure('Configuration', `a payload that is no Uint8Array but ${describe(payload)}`);
  }
  const bytes = byteLengthOf.call(payload) as number;
  if (bytes > 0) return bytes;
  try {
    // An empty one has nothing to give, one without memory throws.
    keysOf.call(payload);
  } catch (cause) {
    throw failure(
      'Configuration',
      'a payload whose ArrayBuffer was transferred, or has shrunk below it',
      { cause },
    );
  }
  return 0;
}

/** The bytes of a Uint8Array of whatever realm or class. Throws where its memory is gone. */
export function viewOf(given: Uint8Array): Uint8Array {
  const length = payloadBytes(given);
  const buffer = bufferOf.call(given) as ArrayBuffer;
  return new Uint8Array(buffer, byteOffsetOf.call(given) as number, length);
}

/** Throws Configuration when a payload that had to wait has another size by now. */
export function checkUnchanged(payload: Uint8Array, size: number): void {
  const found = payloadBytes(payload);
  if (found === size) return;
  const what = `a payload of ${size} bytes that had ${found} when there was room for it`;
  throw failure('Configuration', what);
}

/**
 * Puts a payload at `at` whose size was looked at in this turn. Throws Configuration when another
 * thread changes it meanwhile; bytes behind `at` may have been written all the same.
 */
export function copyPayload(into: Uint8Array, at: number, payload: Uint8Array, size: number): void {
  try {
    copyBytes(into, at, payload, size, byteOffsetOf.call(payload) as number);
  } catch (cause) {
    throw failure('Configuration', 'a payload that changes while it is copied', { cause });
  }
}

/**
 * A list of payloads as it is now: what the host does with its array later changes nothing here.
 * @param check of one of them: it throws what is not right
 */
export function readList<T>(what: string, given: readonly T[], check: (one: T) => void): T[] {
  return reading(what, () => {
    if (!Array.isArray(given) || given.length === 0 || given.length > LIST_MAX) {
      throw wrong(`what ${what} was given`, given, `an array of 1 to ${LIST_MAX} payloads`);
    }
    const list: T[] = [];
    for (let i = 0; i < given.length; i++) {
      const one: T = given[i];
      check(one);
      list.push(one);
    }
    return list;
  });
}

/** Reads at the call; what that throws comes when it is asked for. */
export function atCall<T>(read: () => T): () => T {
  try {
    const value = read();
    return () => value;
  } catch (error) {
    return () => {
      throw error;
    };
  }
}

/**
 * The known keys of an object of options, read once; undefined values are left out. Throws
 * Configuration for what is no object, has an unknown key, or throws when it is read.
 */
export function readGiven<T extends object>(
  what: string,
  given: unknown,
  known: readonly (keyof T & string)[],
): Partial<T> {
  if (given === undefined) return {};
  return reading(what, () => {
    refuseUnknown(what, given as object, known);
    const read: Partial<T> = {};
    for (const key of known) {
      const value = (given as T)[key];
      if (value !== undefined) read[key] = copyOf(value, OPTIONS_DEPTH - 1, []) as T[typeof key];
    }
    return read;
  });
}

/**
 * Arrays, byte arrays and plain objects, copied as deep as options go; everything else is what it
 * was. Throws Configuration for what throws when it is read.
 * @param shared keys of `given` that are left as they are
 */
export function copied<T>(what: string, given: T, shared: readonly string[] = []): T {
  return reading(what, () => copyOf(given, OPTIONS_DEPTH, shared) as T);
}

function copyOf(given: unknown, depth: number, shared: readonly string[]): unknown {
  if (depth === 0 || typeof given !== 'object' || given === null) return given;
  if (Array.isArray(given)) {
    if (given.length > LIST_MAX) throw failure('Configuration', `a list of ${given.length}`);
    return Array.from(given, (one) => copyOf(one, depth - 1, []));
  }
  if (types.isUint8Array(given)) return Buffer.from(given);
  const of = Object.getPrototypeOf(given) as object | null;
  const isPlain = of === null || Object.getPrototypeOf(of) === null;
  if (!isPlain && depth < OPTIONS_DEPTH) return given;
  const pairs = Object.entries(given).map(([key, value]) => {
    return [key, shared.includes(key) ? value : copyOf(value, depth - 1, [])];
  });
  return Object.fromEntries(pairs);
}

/** Whatever the host's own code throws meanwhile is one of our errors. */
function reading<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (cause instanceof EngramError) throw cause;
    throw failure('Configuration', `${what} was given what throws when it is read`, { cause });
  }
}
