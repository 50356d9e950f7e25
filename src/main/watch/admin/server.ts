/**
 * How people reach a running node with what only they may ask of it: a Unix socket, for whoever may
 * read the file `admin` of the data directory (socket.ts); nothing of it is on a port. One
 * JSON line each way, one question a connection.
 */
import { timingSafeEqual } from 'node:crypto';
import net from 'node:net';
import { EngramError, failure } from '../../../shared/errors.js';
import { ADMIN_LINE_MAX_BYTES } from '../../../shared/limits.js';
import { Places } from '../../../shared/link/places.js';
import { warn } from '../../runtime/warn.js';
import { LEVELS } from '../../tell/line.js';
import type { OperatedNode, OperatedProcess } from '../seen-node.js';
import { promoteMany } from './promote-many.js';
import { type SmokeQuestion, tried } from './smoke.js';
import { type AdminAddress, findSocket, folderSeen, placeSocket } from './socket.js';

/** Questions at once: they are a person's. As many connections have not shown the secret yet. */
const CONNECTIONS_MAX = 64;
/** Every user of the machine may dial, and none of them has an address. */
const PLACES = { most: CONNECTIONS_MAX, perAddress: CONNECTIONS_MAX, perSuspect: 0, kept: 0 };
const ANYBODY = { address: '', isMembers: false, isSuspect: false };
/** For how long a connection may say nothing. */
const QUESTION_MS = 5_000;

/** What a question shows of the file `admin`. */
interface Shown {
  readonly place?: unknown;
  readonly secret?: unknown;
}

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
      readonly verb: 'promote-many';
      /** The spaces that follow this node; '': those that follow nobody. */
      readonly of: string;
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
  | { readonly verb: 'drain' | 'rebalance' }
  | { readonly verb: 'log-level'; readonly level: string }
  | {
      readonly verb: 'add-replica';
      readonly nodeId: string;
      readonly host: string;
      readonly port: number;
    }
  | { readonly verb: 'remove-replica'; readonly nodeId: string; readonly force?: boolean }
  | {
      readonly verb: 'backup';
      readonly target: string;
      readonly nodeId?: string;
      /** What the tool sees where the target is to be (folderSeen). */
      readonly seen: string;
    }
  | { readonly verb: 'checkpoint'; readonly space: string; readonly sequence: number }
  | SmokeQuestion;

type AdminAnswer =
  | { readonly result: unknown }
  | { readonly code: string; readonly message: string; readonly details: unknown };

/** An answer as it is sent. */
interface Proved {
  /** Of the file `admin`, as the question's secret is. */
  readonly proof?: string;
}

async function carryOut(
  node: OperatedNode,
  process: OperatedProcess | undefined,
  question: AdminQuestion,
): Promise<unknown> {
  switch (question.verb) {
    case 'promote': {
      const { verb: _, space, ...options } = question;
      return await node.promote(space, options);
    }
    case 'promote-many': {
      const { verb: _, of, ...options } = question;
      return await promoteMany(node, of, options);
    }
    case 'switchover': {
      const { verb: _, space, to, ...options } = question;
      return await node.switchover(space, to, options);
    }
    case 'drain':
      return await node.drain();
    case 'rebalance':
      return await node.rebalance();
    case 'log-level': {
      if (!process) {
        throw failure('Configuration', 'its lines go to a logger of its host: set the level there');
      }
      const level = LEVELS.find((known) => known === question.level);
      if (!level) throw failure('Configuration', `the level is none of ${LEVELS.join(', ')}`);
      return process.setLogLevel(level);
    }
    case 'locate':
      return await node.locate(question.space);
    case 'add-replica': {
      const { nodeId, host, port } = question;
      return await node.addReplica({ nodeId, host, port });
    }
    case 'remove-replica':
      return await node.removeReplica(question.nodeId, { force: question.force === true });
    case 'backup': {
      const { verb: _, target, seen, ...options } = question;
      // A service may have a /tmp of its own: a backup there is none, and goes when it stops.
      if (seen !== (await folderSeen(target))) {
        const found = `${target} is another place for the node of this directory, or out of its`;
        const why = '(PrivateTmp, ProtectHome, a container, rights of a folder above)';
        throw failure('Configuration', `${found} reach ${why}; name one that both see`);
      }
      return await node.backup(target, options);
    }
    case 'checkpoint':
      return await node.space(question.space).checkpoint(question.sequence);
    case 'append':
    case 'read':
    case 'spaces':
    case 'space':
      return await tried(node, question);
    default:
      throw failure('Configuration', 'a verb that this node does not know');
  }
}

/**
 * Takes questions until it is closed. @param process undefined: it is a host's own, not `serve`.
 * @param maxEntryBytes the longest payload, which a question has in base64
 * A failure to listen is a warning: the node runs without.
 */
export async function openAdmin(
  node: OperatedNode,
  dir: string,
  maxEntryBytes: number,
  process?: OperatedProcess,
): Promise<{ close(): Promise<void> }> {
  const sockets = new Set<net.Socket>();
  let own: Awaited<ReturnType<typeof placeSocket>> | undefined;
  const places = new Places<net.Socket>(PLACES);
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => {
      places.leave(socket);
      sockets.delete(socket);
    });
    // Who has shown nothing goes for whoever comes: they lock no operator out.
    places.take(socket, ANYBODY, performance.now())?.destroy();
    const asks = (): void => {
      if (sockets.size - places.taken < CONNECTIONS_MAX) places.leave(socket);
    };
    const carried = (question: AdminQuestion) => carryOut(node, process, question);
    serveOne(socket, own, maxEntryBytes, asks, (line) => answer(carried, own, line));
  });
  const listen = (socketPath: string): Promise<void> =>
    new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen(socketPath, () => {
        server.off('error', reject);
        resolve();
      });
    });
  try {
    own = await placeSocket(dir, listen);
    // Nobody waits for its errors any more, and they must not end the host.
    server.on('error', () => undefined);
    server.unref();
  } catch (error) {
    warn(`no admin socket: ${(error as Error).message}`);
  }
  return {
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      await own?.remove();
    },
  };
}

/**
 * Takes one line. One longer than ADMIN_LINE_MAX_BYTES is an entry to append: it is kept for those
 * alone who have shown the secret, and what no entry can be is refused once it has come whole.
 * @param asks told once the secret is shown
 */
function serveOne(
  socket: net.Socket,
  own: AdminAddress | undefined,
  maxEntryBytes: number,
  asks: () => void,
  answered: (line: string) => Promise<AdminAnswer & Proved>,
): void {
  const most = ADMIN_LINE_MAX_BYTES + Math.ceil(maxEntryBytes / 3) * 4;
  let line = '';
  let length = 0;
  socket.setEncoding('utf8');
  socket.on('error', () => socket.destroy());
  // Who says nothing takes nobody's place.
  const silent = setTimeout(() => socket.destroy(), QUESTION_MS);
  silent.unref();
  socket.on('close', () => clearTimeout(silent));
  socket.on('data', (chunk: string) => {
    length += chunk.length;
    if (length <= most) line += chunk;
    const isShown = begins(own, line);
    if (isShown) asks();
    if (length > ADMIN_LINE_MAX_BYTES && !isShown) socket.destroy();
    else if (chunk.includes('\n')) {
      clearTimeout(silent);
      socket.removeAllListeners('data');
      // Who comes so far has shown the secret, and is shown the proof.
      const whole = (): Promise<AdminAnswer & Proved> => answered(line.split('\n', 1)[0]!);
      const said = length > most ? { proof: own?.proof ?? '', ...tooLong(length, most) } : whole();
      void Promise.resolve(said).then((one) => socket.end(`${textOf(one)}\n`));
    }
  });
}

function tooLong(length: number, most: number): AdminAnswer {
  const found = `a question of ${length} bytes, and the longest is ${most}: shorten the payload`;
  const { code, message, details } = failure('Configuration', found);
  return { code, message, details };
}

/** What each question begins with. */
function opening({ place, secret }: AdminAddress): string {
  return JSON.stringify({ place, secret }).slice(0, -1);
}

function begins(own: AdminAddress | undefined, line: string): boolean {
  if (!own) return false;
  const wanted = Buffer.from(opening(own));
  const given = Buffer.from(line.slice(0, wanted.length));
  return given.length === wanted.length && timingSafeEqual(given, wanted);
}

/** Who has read the file of this very directory may ask. */
function mayAsk(own: AdminAddress | undefined, place: unknown, secret: unknown): boolean {
  if (!own || place !== own.place || typeof secret !== 'string') return false;
  const [given, wanted] = [secret, own.secret].map((text) => Buffer.from(text));
  return given!.length === wanted!.length && timingSafeEqual(given!, wanted!);
}

async function answer(
  carriedOut: (question: AdminQuestion) => Promise<unknown>,
  own: AdminAddress | undefined,
  line: string,
): Promise<AdminAnswer & Proved> {
  let proved: Proved = {};
  try {
    const { place, secret, ...question } = JSON.parse(line) as AdminQuestion & Shown;
    if (!mayAsk(own, place, secret)) {
      throw failure('NotRunning', 'this node has another directory than the one that is meant');
    }
    proved = { proof: own?.proof ?? '' };
    return { ...proved, result: await carriedOut(question) };
  } catch (error) {
    if (!(error instanceof EngramError)) {
      return { ...proved, code: 'Configuration', message: String(error), details: {} };
    }
    return { ...proved, code: error.code, message: error.message, details: error.details };
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
 * answers, with `details.wasAsked` where one took the question and ended before its answer.
 */
export async function askAdmin(dir: string, question: AdminQuestion): Promise<unknown> {
  const found = await findSocket(dir);
  const { socket, place, secret, proof } = found;
  const text = await ask(dir, socket, { place, secret, ...question });
  // An answer has its end: half a line is what a killed node leaves.
  if (!text.endsWith('\n')) {
    const found = `the node of ${dir} has ended before it answered`;
    throw failure('NotRunning', found, { details: { wasAsked: true } });
  }
  const said = JSON.parse(text) as AdminAnswer & Proved;
  // After a kill the address is free, and any user of the machine may listen there.
  if (proof !== '' && said.proof !== proof) {
    throw failure('NotRunning', `what answers for ${dir} has not read its file admin`);
  }
  if ('code' in said) throw new AdminError(said.code, said.message, said.details);
  return said.result;
}

function ask(dir: string, socketPath: string, question: object): Promise<string> {
  const socket = net.connect(socketPath);
  socket.setEncoding('utf8');
  return new Promise((resolve, reject) => {
    let said = '';
    let isConnected = false;
    socket.on('connect', () => {
      isConnected = true;
    });
    socket.on('data', (chunk) => {
      said += chunk;
    });
    socket.on('error', (cause) => {
      if (isConnected) return;
      reject(failure('NotRunning', `no node answers for ${dir}: ${cause.message}`, { cause }));
    });
    socket.on('close', () => resolve(said));
    socket.write(`${JSON.stringify(question)}\n`);
  });
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
