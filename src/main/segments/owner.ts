/**
 * Whose a data directory is: the user that node.json belongs to. What another user writes there its
 * owner cannot open afterwards, so nobody else writes: root's tools act as the owner, everybody
 * else is refused before anything is written (FAULTS row 90).
 */
import fs from 'node:fs';
import path from 'node:path';
import { failure } from '../../shared/errors.js';

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** @returns undefined in a directory that is nobody's yet, and where there are no users */
function ownerOf(dir: string): Owner | undefined {
  if (process.geteuid === undefined) return undefined;
  try {
    const { uid, gid } = fs.lstatSync(path.join(dir, 'node.json'));
    return { uid, gid };
  } catch {
    // Not there, or not to be looked at: whoever opens it next says why.
    return undefined;
  }
}

/** Some file systems give every file the same owner, whoever makes it. */
function ownerOfNew(dir: string): number | undefined {
  const file = path.join(dir, `owner-${process.pid}.tmp`);
  try {
    const fd = fs.openSync(file, 'wx', 0o600);
    try {
      return fs.fstatSync(fd).uid;
    } finally {
      fs.closeSync(fd);
      fs.unlinkSync(file);
    }
  } catch {
    return undefined;
  }
}

/** Throws WrongUser where the directory belongs to another user than this process. */
export function requireOwner(dir: string): void {
  const owner = ownerOf(dir);
  const uid = process.geteuid?.();
  if (owner === undefined || owner.uid === uid || ownerOfNew(dir) === owner.uid) return;
  const found = `${dir} belongs to user ${owner.uid}, this process runs as user ${uid}`;
  throw failure('WrongUser', found, { details: { owner: owner.uid, user: uid } });
}

/**
 * For a tool, before it writes: as root it goes on as the directory's owner, for good. Throws
 * WrongUser for another user.
 */
export function actAsOwner(dir: string): void {
  const owner = ownerOf(dir);
  if (owner && owner.uid !== 0 && process.geteuid?.() === 0) {
    process.setgroups!([owner.gid]);
    process.setegid!(owner.gid);
    process.seteuid!(owner.uid);
  }
  requireOwner(dir);
}
