/**
 * The proof of the demo: three data directories, read by nobody else, against what was logged.
 * It trusts no counter of a node: what is not on disk, in order and whole, is not there.
 */
import { fork } from 'node:child_process';
import type { EngramError } from '../../../shared/errors.js';
import { spaceIdOf } from '../../../shared/names.js';
import { type SpaceDigest, sameLogs } from '../log-digest.js';
import type { Digested } from './digest.js';
import { DemoError } from './process.js';

/** What one data directory was found to hold. */
export interface Proof {
  readonly spaces: number;
  readonly entries: number;
  /** Bytes of payload. */
  readonly bytes: number;
  /**
   * The primary: exactly the spaces that were logged, with so many entries. A replica: besides
   * that, the same digest for each space.
   */
  readonly identical: boolean;
  /** Where it differs, in one sentence; undefined where it does not. */
  readonly difference: string | undefined;
}

type Log = ReadonlyMap<string, SpaceDigest>;

/** What one closed data directory holds. Rejects as `digestLog` does. */
export type ReadLog = (dir: string) => Promise<Log>;

/** Reads in a process of its own, which ends with the signal. Rejects as `digestLog` does. */
export function readElsewhere(dir: string, ended: AbortSignal): Promise<Log> {
  const file = new URL('./digest.js', import.meta.url);
  const child = fork(file, [dir], { signal: ended, killSignal: 'SIGKILL', detached: true });
  return new Promise((resolve, reject) => {
    child.once('message', (digested: Digested) => {
      if ('rows' in digested) resolve(new Map(digested.rows));
      else reject(new DemoError(digested.message, digested.code));
    });
    child.once('error', reject);
    child.once('close', (code, signal) => {
      reject(new DemoError(`reading ${dir} has ended (${signal ?? `exit code ${code}`})`));
    });
  });
}

/**
 * Reads the closed data directories, the primary's first, and compares them.
 * @param logged the entries that were logged, by the name of their space
 * Rejects Io; damage is no error but a difference.
 */
export async function verifyLogs(
  read: ReadLog,
  dataDirs: readonly string[],
  logged: ReadonlyMap<string, number>,
): Promise<Proof[]> {
  const names = new Map([...logged.keys()].map((name) => [spaceIdOf(name), name]));
  const logs = await Promise.all(dataDirs.map((dir) => logOrDamage(read, dir)));
  const primary = logs[0]!;
  const primaryDiffers = primary.damage ?? missing(names, logged, primary.log);
  return logs.map(({ log, damage }, i) => {
    let difference = primaryDiffers;
    if (i > 0) {
      difference = damage ?? differing(names, primary.log, log);
      // A copy of a log that is itself not what was logged proves nothing.
      if (!difference && primaryDiffers) difference = `the primary's log: ${primaryDiffers}`;
    }
    const entries = total(log, 'entries');
    const bytes = total(log, 'bytes');
    const identical = difference === undefined;
    return { spaces: log.size, entries, bytes, identical, difference };
  });
}

async function logOrDamage(
  read: ReadLog,
  dir: string,
): Promise<{ log: Log; damage: string | undefined }> {
  try {
    return { log: await read(dir), damage: undefined };
  } catch (error) {
    if ((error as EngramError).code !== 'CorruptionDetected') throw error;
    return { log: new Map(), damage: (error as Error).message.split('\n', 1)[0]! };
  }
}

/** Compares a log with what was handed to append. */
function missing(
  names: ReadonlyMap<string, string>,
  logged: ReadonlyMap<string, number>,
  log: Log,
): string | undefined {
  for (const [id, name] of names) {
    const found = log.get(id)?.entries ?? 0;
    if (found !== logged.get(name)) {
      return `${name}: ${found} entries on disk, ${logged.get(name)} were logged`;
    }
  }
  const extra = [...log.keys()].find((id) => !names.has(id));
  return extra && `a space ${extra} that nobody logged`;
}

/** Compares a replica's log with the primary's. */
function differing(names: ReadonlyMap<string, string>, primary: Log, log: Log): string | undefined {
  if (sameLogs(primary, log)) return undefined;
  for (const id of new Set([...primary.keys(), ...log.keys()])) {
    const ours = primary.get(id);
    const theirs = log.get(id);
    const name = names.get(id) ?? `space ${id}`;
    if (ours?.entries !== theirs?.entries) {
      return `${name}: ${theirs?.entries ?? 0} entries, the primary has ${ours?.entries ?? 0}`;
    }
    if (ours?.digest !== theirs?.digest) return `${name}: other bytes than on the primary`;
  }
  return 'the logs differ';
}

function total(log: Log, field: 'entries' | 'bytes'): number {
  let sum = 0;
  for (const digest of log.values()) sum += digest[field];
  return sum;
}
