/** Whatever stands in the way of opening a node is told with a code and what to do. */
import { EngramError, failure } from '../../shared/errors.js';
import { ioError } from '../segments/disk.js';

/** An error of ours for one that is not: of the system, or of what the host has given. */
export function openingError(error: unknown, dataDir: string): EngramError {
  if (error instanceof EngramError) return error;
  const cause = error as NodeJS.ErrnoException | undefined;
  if (cause?.syscall !== undefined) return ioError(`opening ${dataDir}`, cause);
  const found = `the node of ${dataDir} cannot be opened: ${cause?.message ?? String(error)}`;
  return failure('Configuration', found, { cause: error });
}
