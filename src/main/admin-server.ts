/**
 * How people reach a running node with what only they may ask of it: a Unix socket in a folder of
 * its own (mode 0700), whose path stands in the file `admin` of the data directory (mode 0600). Who
 * may read that may do this; nothing of it is on a port. One JSON line each way, one question a
 * connection.
 */
import fs from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { EngramError, failure } from '../shared/errors.js';
import { ADMIN_LINE_MAX_BYTES } from '../shared/limits.js';
import type { Node } from './node.js';

const PATH_FILE = 'admin';

/** What may be asked. */
export type AdminQuestion =
  | {
      readonly verb: 'promote';
      readonly space: string;
      readonly force?: boolean;
      readonly dryRun?: boolean;
      readonly replicas?: number;
    }
  | {
      readonly verb: 'switchover';
      readonly space: string;
      readonly to: string;
      readonly timeoutMs?: number;
    }
  | { readonly verb: 'locate'; readonly space: string }
  | {
      readonly verb: 'add-replica';
      readonly nodeId: string;
      readonly host: string;
      readonly port: number;
    }
  | { readonly verb: 'remove-replica'; readonly nodeId: string }
  | { readonly verb: 'checkpoint'; readonly space: string; readonly sequence: number };

type AdminAnswer =
  | { readonly result: unknown }
  | { readonly code: string; readonly message: string; readonly details: unknown };

async function carryOut(node: Node, question: AdminQuestion): Promise<unknown> {
  switch (question.verb) {
    case 'promote': {
      const { verb: _, space, ...options } = question;
      return await node.promote(space, options);
    }
    case 'switchover': {
      const { verb: _, space, to, ...options } = question;
      return await node.switchover(space, to, options);
    }
    case 'locate':
      return await node.locate(question.space);
    case 'add-replica': {
      const { nodeId, host, port } = question;
      return await node.addReplica({ nodeId, host, port });
    }
    case 'remove-replica':
      return await node.removeReplica(question.nodeId);
    case 'checkpoint':
      return await node.space(question.space).checkpoint(question.sequence);
    default:
      throw failure('Configuration', 'a verb that this node does not know');
  }
}

/** Takes questions until it is closed. A failure to listen is a warning: the node runs without. */
export async function openAdmin(node: Node, dir: string): Promise<{ close(): Promise<void> }> {
  const file = path.join(dir, PATH_FILE);
  const old = await fs.readFile(file, 'utf8').catch(() => undefined);
  // Of a process that was killed: the directory's lock is ours.
  if (old && isOurs(old.trim()))
    await fs.rm(path.dirname(old.trim()), { recursive: true, force: true });
  const sockets = new Set<net.Socket>();
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    serveOne(node, socket);
  });
  let folder: string | undefined;
  const close = async (): Promise<void> => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
    if (folder) await fs.rm(folder, { recursive: true, force: true });
    await fs.rm(file, { force: true });
  };
  try {
    folder = await fs.mkdtemp(path.join(os.tmpdir(), 'engram-wal-admin-'));
    const socket = path.join(folder, 'socket');
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(socket, resolve);
    });
    server.unref();
    await fs.writeFile(file, `${socket}\n`, { mode: 0o600 });
  } catch (error) {
    process.emitWarning(`no admin socket: ${(error as Error).message}`, 'EngramWalWarning');
    await close();
  }
  return { close };
}

/** A path that this file has made: nothing else is ever removed. */
function isOurs(socket: string): boolean {
  const folder = path.dirname(socket);
  return path.basename(socket) === 'socket' && /^engram-wal-admin-\w+$/.test(path.basename(folder));
}

function serveOne(node: Node, socket: net.Socket): void {
  let line = '';
  socket.setEncoding('utf8');
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk: string) => {
    line += chunk;
    const end = line.indexOf('\n');
    if (line.length > ADMIN_LINE_MAX_BYTES) socket.destroy();
    else if (end >= 0) {
      socket.removeAllListeners('data');
      void answer(node, line.slice(0, end)).then((said) => socket.end(`${textOf(said)}\n`));
    }
  });
}

async function answer(node: Node, line: string): Promise<AdminAnswer> {
  try {
    const question = JSON.parse(line) as AdminQuestion;
    return { result: await carryOut(node, question) };
  } catch (error) {
    if (!(error instanceof EngramError)) {
      return { code: 'Configuration', message: String(error), details: {} };
    }
    return { code: error.code, message: error.message, details: error.details };
  }
}

/** What a host threw is told by its message alone. */
function textOf(said: AdminAnswer): string {
  return JSON.stringify(said, (_, value) =>
    value instanceof Error ? value.message : typeof value === 'bigint' ? String(value) : value,
  );
}

/**
 * Asks the running node of a data directory. Rejects as the node does; NotRunning where no node
 * answers.
 */
export async function askAdmin(dir: string, question: AdminQuestion): Promise<unknown> {
  const socketPath = await fs.readFile(path.join(dir, PATH_FILE), 'utf8').catch(() => undefined);
  const socket = socketPath && net.connect(socketPath.trim());
  if (!socket) throw failure('NotRunning', `no node runs in ${dir}`);
  socket.setEncoding('utf8');
  const text = await new Promise<string>((resolve, reject) => {
    let said = '';
    socket.on('data', (chunk) => {
      said += chunk;
    });
    socket.on('error', (cause) => {
      reject(failure('NotRunning', `no node answers for ${dir}: ${cause.message}`, { cause }));
    });
    socket.on('close', () => resolve(said));
    socket.write(`${JSON.stringify(question)}\n`);
  });
  if (text === '') throw failure('NotRunning', `the node of ${dir} has ended meanwhile`);
  const said = JSON.parse(text) as AdminAnswer;
  if ('code' in said) throw new AdminError(said.code, said.message, said.details);
  return said.result;
}

/** What the node has refused with: it is told as it came. */
export class AdminError extends Error {
  readonly code: string;
  readonly details: unknown;

  constructor(code: string, message: string, details: unknown) {
    super(message);
    this.code = code;
    this.details = details;
  }
}
