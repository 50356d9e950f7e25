/**
 * Starts the threads of a node, each with flags of its own: what the host was started with
 * (`--input-type`, `-r`, `--import`, `--loader`, NODE_OPTIONS) is for the host's code, and may end
 * a thread that has another job (FAULTS row 88). Here is also what a node needs of its host: files
 * of this package where they were installed, and threads.
 */
import fs from 'node:fs';
import { Worker } from 'node:worker_threads';
import { type EngramError, failure } from '../../shared/errors.js';

export type ThreadFile = 'log-writer' | 'metrics-thread' | 'sealer' | 'shipper-thread';

const FILES: readonly ThreadFile[] = ['log-writer', 'metrics-thread', 'sealer', 'shipper-thread'];
/** A thread that has not begun by then is none of ours, or never will. */
export const THREAD_START_MS = 30_000;

/** @param from as seen from the folder of this file. Throws HostUnsuitable. */
export function packageFile(from: string): URL {
  try {
    return new URL(from, import.meta.url);
  } catch (cause) {
    // A bundle in CommonJS has no import.meta.url.
    throw unsuitable(
      `this code does not know which file it is (a bundle?), looks for ${from}`,
      cause,
    );
  }
}

export function threadFile(file: ThreadFile): URL {
  return packageFile(`../../workers/${file}.js`);
}

/** What every thread is started with, the pool's as well. */
export function threadOptions(): { execArgv?: string[]; env?: NodeJS.Dict<string> } {
  // Yarn's Plug'n'Play finds packages by its own loader only, and that one comes by flags.
  if (process.versions.pnp !== undefined) return {};
  const { NODE_OPTIONS: _, ...env } = process.env;
  return { execArgv: [], env };
}

/** Throws HostUnsuitable where no thread can be started. */
export function startThread(file: ThreadFile, name: string, workerData: unknown): Worker {
  const url = threadFile(file);
  try {
    return new Worker(url, { ...threadOptions(), workerData, name });
  } catch (cause) {
    throw unsuitable(`no thread can be started (${name}): ${(cause as Error).message}`, cause);
  }
}

/** Node's own: with its permission model some calls are refused. */
interface Permission {
  has(scope: string): boolean;
}
/** No file is open under it. */
const NO_FD = 2 ** 31 - 1;

/**
 * Before a file is made: what a node needs of its host is there. Throws HostUnsuitable where the
 * files of threads are not there, as in a bundle, or where Node lets it start no thread or sync
 * no file.
 */
export function checkHost(): void {
  for (const file of FILES) {
    const url = threadFile(file);
    if (fs.existsSync(url)) continue;
    throw unsuitable(`the file of a thread is not there: ${url.pathname}`, undefined);
  }
  const { permission } = process as { permission?: Permission };
  if (!permission) return;
  if (!permission.has('worker')) throw unsuitable('Node lets no thread be started', undefined);
  try {
    fs.fdatasyncSync(NO_FD);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ERR_ACCESS_DENIED') return;
    throw unsuitable('Node lets no file be synced under its permission model', cause);
  }
}

export function unsuitable(found: string, cause: unknown): EngramError {
  return failure('HostUnsuitable', found, cause === undefined ? {} : { cause });
}
