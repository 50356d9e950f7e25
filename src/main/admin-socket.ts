/**
 * Where the operator's socket of a data directory is. Both sides have to see it, and it must be this
 * directory's own: so it stands in the data directory, whatever the service or the tool have for
 * TMPDIR (FAULTS row 87), and the file `admin` says where. Only a file system that takes no sockets
 * moves it to a runtime folder. A copy of the directory copies that file too: it names the
 * directory that it was written for, and whoever reads it elsewhere asks nobody (row 86).
 */
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { failure } from '../shared/errors.js';

const PATH_FILE = 'admin';
const SOCKET = 'admin.sock';
/** What `sun_path` takes, without its end: Linux has 108 bytes, others 104. A longer path is cut. */
const SOCKET_PATH_MAX_BYTES = process.platform === 'linux' ? 107 : 103;

/** Names a directory on this machine: a copy of it has another name. */
export async function placeOf(dir: string): Promise<string> {
  const { dev, ino } = await fs.stat(dir, { bigint: true });
  return `${dev}:${ino}`;
}

/** A path that a socket takes, and what holds it open. */
export interface SocketPath {
  readonly path: string;
  close(): Promise<void>;
}

const nothing = async (): Promise<void> => undefined;

function fits(socket: string): boolean {
  return Buffer.byteLength(socket) <= SOCKET_PATH_MAX_BYTES;
}

/** The socket in `dir` itself. @returns undefined where no path to it is short enough */
async function inside(dir: string): Promise<SocketPath | undefined> {
  const direct = path.join(dir, SOCKET);
  if (fits(direct)) return { path: direct, close: nothing };
  if (process.platform !== 'linux') return undefined;
  // However long the path is: the directory is named by its descriptor.
  const handle = await fs.open(dir, 'r');
  return { path: `/proc/self/fd/${handle.fd}/${SOCKET}`, close: () => handle.close() };
}

/** Folders that a service and its tools may share, best first. */
function runtimeFolders(): string[] {
  const { RUNTIME_DIRECTORY, XDG_RUNTIME_DIR } = process.env;
  const given = [RUNTIME_DIRECTORY?.split(':')[0], XDG_RUNTIME_DIR, os.tmpdir()];
  return given.filter((folder) => folder !== undefined && folder !== '') as string[];
}

/** A path that this file has made: nothing else is ever removed. */
function isOurs(socket: string): boolean {
  const folder = path.dirname(socket);
  return path.basename(socket) === 'socket' && /^engram-wal-admin-\w+$/.test(path.basename(folder));
}

async function readTold(dir: string): Promise<{ socket: string; place: string } | undefined> {
  const text = await fs.readFile(path.join(dir, PATH_FILE), 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  const [socket = '', place = ''] = text.split('\n');
  return { socket, place };
}

/** What a killed process has left. The directory's lock is held. */
async function clear(dir: string): Promise<void> {
  const told = await readTold(dir);
  await fs.rm(path.join(dir, SOCKET), { force: true });
  if (!told || told.place !== (await placeOf(dir)) || !isOurs(told.socket)) return;
  await fs.rm(path.dirname(told.socket), { recursive: true, force: true });
}

/**
 * Finds a place that takes a socket, and writes it down for the tools.
 * @param listen rejects where the place takes none
 * @returns what closes and removes it. Rejects with the last error where no place does
 */
export async function placeSocket(
  dir: string,
  listen: (socketPath: string) => Promise<void>,
): Promise<() => Promise<void>> {
  await clear(dir);
  const file = path.join(dir, PATH_FILE);
  const told = async (socket: string): Promise<void> => {
    await fs.writeFile(file, `${socket}\n${await placeOf(dir)}\n`, { mode: 0o600 });
  };
  const own = await inside(dir);
  let problem: unknown = failure('Configuration', `${dir} is too long a path for a socket`);
  try {
    if (own) {
      await listen(own.path);
      // The directory may be one that others look into.
      await fs.chmod(path.join(dir, SOCKET), 0o600);
      await told(SOCKET);
      return async () => {
        await own.close();
        await fs.rm(path.join(dir, SOCKET), { force: true });
        await fs.rm(file, { force: true });
      };
    }
  } catch (error) {
    problem = error;
    await own?.close();
  }
  for (const parent of runtimeFolders()) {
    let folder: string | undefined;
    try {
      folder = await fs.mkdtemp(path.join(parent, 'engram-wal-admin-'));
      const socket = path.join(folder, 'socket');
      if (!fits(socket)) throw failure('Configuration', `${socket} is too long for a socket`);
      await listen(socket);
      await told(socket);
      const made = folder;
      return async () => {
        await fs.rm(made, { recursive: true, force: true });
        await fs.rm(file, { force: true });
      };
    } catch (error) {
      problem = error;
      if (folder) await fs.rm(folder, { recursive: true, force: true });
    }
  }
  throw problem;
}

/**
 * Where the node of a data directory is asked. Rejects NotRunning where none is, or where the
 * directory is a copy of one whose node runs.
 */
export async function findSocket(dir: string): Promise<SocketPath & { readonly place: string }> {
  const told = await readTold(dir);
  if (!told) throw failure('NotRunning', `no node runs in ${dir}`);
  const place = await placeOf(dir);
  if (told.place !== place) {
    const found = `no node runs in ${dir}: it is a copy of the directory of another node`;
    throw failure('NotRunning', found);
  }
  if (told.socket !== SOCKET) return { path: told.socket, close: nothing, place };
  const own = await inside(dir);
  if (!own) throw failure('NotRunning', `${dir} is too long a path for a socket`);
  return { ...own, place };
}
