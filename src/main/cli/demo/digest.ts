/** A process that reads one closed data directory and says what it holds: several work at once. */
import type { EngramError } from '../../../shared/errors.js';
import { nodeDisk } from '../../segments/node-disk.js';
import { digestLog, type SpaceDigest } from '../log-digest.js';

/** Rows of (id of a space, its digest), or why there are none. */
export type Digested =
  | { readonly rows: readonly (readonly [string, SpaceDigest])[] }
  | { readonly code: string; readonly message: string };

async function digested(dir: string): Promise<Digested> {
  try {
    return { rows: [...(await digestLog(nodeDisk, dir))] };
  } catch (error) {
    const { code = 'Io', message } = error as EngramError;
    return { code, message };
  }
}

// Without its parent nobody waits for the answer.
process.on('disconnect', () => process.exit(2));
process.send?.(await digested(process.argv[2]!), () => process.exit(0));
