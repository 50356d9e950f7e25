/**
 * Where the operator's socket of a data directory is. A service and the tools of its operator have
 * the data directory in common, and often nothing else: not TMPDIR, not /tmp (FAULTS row 87). So
 * the file `admin` of the directory says where the socket is, and what a question must show: who
 * may read that file (mode 0600) may ask. The socket itself is none of the directory's files, which
 * people copy: it stands in the service's runtime folder, where systemd has made one, else it is
 * an abstract socket, which needs no folder and ends with its process; where there are none, in
 * the folder for temporary files.
 *
 * A copy of the directory has that file too. It names the directory that it was written for, so
 * whoever reads it elsewhere asks nobody (row 86).
 */
import { randomBytes } from 'node:crypto';
import fs, { constants } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { failure } from '../../../shared/errors.js';
import { FILES_ONLY } from '../../segments/access.js';

const FILE = 'admin';
/** What `sun_path` takes, without its end: Linux has 108 bytes, others 104. More is cut off. */
const SOCKET_PATH_MAX_BYTES = process.platform === 'linux' ? 107 : 103;
/** Begins an abstract address in the file; in the call it is a zero byte. */
const ABSTRACT = '@';

/** What the file says. */
export interface AdminAddress {
  /** As `net` takes it. */
  readonly socket: string;
  /** The directory that it was written for: a copy is another one. */
  readonly place: string;
  /** What every question must show. */
  readonly secret: string;
  /** What every answer must show, and no question does; '': an older release listens. */
  readonly proof: string;
}

/** Names a directory on this machine. */
export async function placeOf(dir: string): Promise<string> {
  const { dev, ino } = await fs.stat(dir, { bigint: true });
  return `${dev}:${ino}`;
}

/**
 * The folder that a path stands in, as this process sees it, or the nearest one above that is
 * there: two processes whose answers differ have different file systems in mind.
 */
export async function folderSeen(target: string): Promise<string> {
  for (let dir = path.dirname(path.resolve(target)); ; dir = path.dirname(dir)) {
    const place = await placeOf(dir).catch(() => undefined);
    if (place !== undefined) return place;
    if (dir === path.dirname(dir)) return '';
  }
}

/** Folders that may hold the socket, best first; undefined: none, the address is abstract. */
function candidates(): (string | undefined)[] {
  const runtime = process.env.RUNTIME_DIRECTORY?.split(':')[0];
  const abstract = process.platform === 'linux' ? [undefined] : [];
  return [...(runtime ? [runtime] : []), ...abstract, os.tmpdir()];
}

/** A path that this file has made: nothing else is ever removed. */
function isOurs(socket: string): boolean {
  const folder = path.dirname(socket);
  return path.basename(socket) === 'socket' && /^engram-wal-admin-\w+$/.test(path.basename(folder));
}

async function read(dir: string): Promise<AdminAddress | undefined> {
  const flag = constants.O_RDONLY | FILES_ONLY;
  const text = await fs
    .readFile(path.join(dir, FILE), { encoding: 'utf8', flag })
    .catch(() => undefined);
  if (text === undefined) return undefined;
  const [address = '', place = '', secret = '', proof = ''] = text.split('\n');
  const socket = address.startsWith(ABSTRACT) ? `\0${address.slice(1)}` : address;
  return { socket, place, secret, proof };
}

async function write(dir: string, told: AdminAddress): Promise<void> {
  const { socket, place, secret, proof } = told;
  const address = socket.startsWith('\0') ? ABSTRACT + socket.slice(1) : socket;
  const file = path.join(dir, FILE);
  // Made anew: an old one may have another mode.
  await fs.rm(file, { force: true });
  await fs.writeFile(file, `${address}\n${place}\n${secret}\n${proof}\n`, {
    mode: 0o600,
    flag: 'wx',
  });
}

/** What a killed process has left. The directory's lock is held. */
async function clear(dir: string, place: string): Promise<void> {
  const old = await read(dir);
  if (!old || old.place !== place || !isOurs(old.socket)) return;
  await fs.rm(path.dirname(old.socket), { recursive: true, force: true });
}

/**
 * Finds an address that can be listened at, and writes it down for the tools.
 * @param listen rejects where the address takes none
 * @returns it, and what removes it. Rejects with the last error where there is none
 */
export async function placeSocket(
  dir: string,
  listen: (socket: string) => Promise<void>,
): Promise<AdminAddress & { remove(): Promise<void> }> {
  const place = await placeOf(dir);
  await clear(dir, place);
  const secret = randomBytes(16).toString('hex');
  const proof = randomBytes(16).toString('hex');
  let problem: unknown;
  let isListening = false;
  for (const parent of candidates()) {
    let folder: string | undefined;
    const remove = async (): Promise<void> => {
      if (folder) await fs.rm(folder, { recursive: true, force: true });
      const told = await read(dir);
      if (told?.secret === secret) await fs.rm(path.join(dir, FILE), { force: true });
    };
    try {
      if (parent !== undefined) folder = await fs.mkdtemp(path.join(parent, 'engram-wal-admin-'));
      const name = randomBytes(8).toString('hex');
      const socket = folder ? path.join(folder, 'socket') : `\0engram-wal-${name}`;
      if (Buffer.byteLength(socket) > SOCKET_PATH_MAX_BYTES) {
        throw failure('Configuration', `${socket} is too long a path for a socket`);
      }
      await listen(socket);
      // What is wrong with the file is wrong whatever the address: it is told as it is.
      isListening = true;
      await write(dir, { socket, place, secret, proof });
      return { socket, place, secret, proof, remove };
    } catch (error) {
      if (isListening) throw error;
      problem = error;
      await remove();
    }
  }
  throw problem;
}

/** Whether the directory was copied while a node had it open. */
export async function isCopyInUse(dir: string): Promise<boolean> {
  const told = await read(dir).catch(() => undefined);
  return told !== undefined && told.place !== (await placeOf(dir).catch(() => told.place));
}

/**
 * Where the node of a data directory is asked. Rejects NotRunning where none is, or where the
 * directory is a copy of one whose node runs.
 */
export async function findSocket(dir: string): Promise<AdminAddress> {
  const told = await read(dir);
  if (!told) throw failure('NotRunning', `no node runs in ${dir}`);
  if (told.place === (await placeOf(dir))) return told;
  const found = `no node runs in ${dir}: it is a copy of the directory of another node`;
  throw failure('NotRunning', found);
}
