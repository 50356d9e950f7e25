/**
 * Secrets that stand in files: a key, a token, the key of a certificate. The name may be a link,
 * as Kubernetes mounts secrets; what it leads to must be nobody else's to read or write.
 */
import fs from 'node:fs/promises';
import { MAY_READ, MAY_WRITE, modeText, othersMay } from '../../shared/access.js';
import { failure } from '../../shared/errors.js';
import { SECRET_FILE_MAX_BYTES } from '../../shared/limits.js';

/**
 * @param what names it in an error
 * Rejects Configuration for one that cannot be read, is no file, or that others may read or write.
 */
export async function readSecret(what: string, name: string): Promise<Buffer> {
  try {
    return await readOwn(name, true);
  } catch (cause) {
    throw failure('Configuration', `${what}: ${name}: ${(cause as Error).message}`, { cause });
  }
}

/** A small file; where it is a secret, nobody else's. Rejects Error, or what the system says. */
export async function readOwn(name: string, isSecret: boolean): Promise<Buffer> {
  // A pipe would hold a thread of libuv's pool, which is the disk's, until somebody writes.
  const { O_RDONLY, O_NONBLOCK = 0 } = fs.constants;
  const file = await fs.open(name, O_RDONLY | O_NONBLOCK);
  try {
    const stats = await file.stat();
    const { size } = stats;
    if (!stats.isFile()) throw new Error('it is no file');
    if (size > SECRET_FILE_MAX_BYTES) throw new Error(`it has ${size} bytes`);
    const groups = process.getgroups?.();
    const others = groups ? othersMay(stats, [process.getegid!(), ...groups]) : 0;
    if (isSecret && others & (MAY_READ | MAY_WRITE)) {
      const remedy = 'chmod 600 it (a mounted Secret: defaultMode 0400), and make a new secret';
      throw new Error(`it can be read or written by others (mode ${modeText(stats)}): ${remedy}`);
    }
    return await file.readFile();
  } finally {
    await file.close();
  }
}
