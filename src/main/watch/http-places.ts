/**
 * Who holds a connection of the HTTP server, and who has to go for whoever comes (FAULTS row 47):
 * those that have asked nothing whole go first, then those that wait between two requests, then the
 * ones that are slow to take an answer. So a probe is answered whoever else holds on.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import https from 'node:https';
import type { Socket } from 'node:net';
import {
  HTTP_CONNECTIONS_MAX,
  HTTP_PER_ADDRESS_MAX,
  HTTP_REQUEST_MS,
} from '../../shared/limits.js';
import { Places } from '../../shared/link/places.js';
import type { RefusalReason } from '../../shared/link/refusal.js';
import type { Refusals } from '../runtime/refusals.js';

const TICK_MS = 250;
/** What is answered to what is no request; else it is a bad one. */
const CODES: Readonly<Record<string, string>> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
};

/** So much of what came at once is parsed before it is seen what came of it. */
const PIECE_BYTES = 512;
/** Requests of one connection that wait for their answers: browsers and scrapers send one. */
const UNANSWERED_MAX = 8;

/** @returns tells of a request that was refused */
export function keepPlaces(
  server: Server,
  refusals: Refusals,
): (reason: RefusalReason, address: string | undefined, detail: string) => void {
  const limits = { most: HTTP_CONNECTIONS_MAX, perAddress: HTTP_PER_ADDRESS_MAX };
  const places = new Places<Socket>({ ...limits, perSuspect: HTTP_PER_ADDRESS_MAX, kept: 0 });
  /** They have asked before: how long they may be idle is the server's business. */
  const known = new WeakSet<Socket>();
  const unanswered = new WeakMap<Socket, number>();
  /** Nothing more is read of them. */
  const floods = new WeakSet<Socket>();
  /** With TLS a request has another socket than the one that came, between the same two ends. */
  const byEnds = new Map<string, Socket>();
  const told = (reason: RefusalReason, address: string | undefined, detail: string): void =>
    refusals.count('http', reason, address, false, detail);
  const letGo = (socket: Socket, reason: RefusalReason, detail: string): void => {
    told(reason, socket.remoteAddress, detail);
    places.leave(socket);
    socket.destroy();
  };
  const origin = (socket: Socket) => {
    return { address: socket.remoteAddress ?? '', isMembers: false, isSuspect: false };
  };

  server.on('connection', (socket: Socket) => {
    const ends = endsOf(socket);
    byEnds.set(ends, socket);
    socket.once('close', () => {
      places.leave(socket);
      if (byEnds.get(ends) === socket) byEnds.delete(ends);
    });
    const goes = places.take(socket, origin(socket), performance.now());
    if (goes) letGo(goes, 'evicted', 'its place was needed for another one');
  });
  server.on('request', ({ socket }: IncomingMessage, response: ServerResponse) => {
    const own = byEnds.get(endsOf(socket));
    if (!own || own.destroyed) return;
    known.add(own);
    const count = (change: number): number => {
      const left = (unanswered.get(own) ?? 0) + change;
      unanswered.set(own, left);
      return left;
    };
    response.once('close', () => count(-1));
    if (count(1) > UNANSWERED_MAX && !floods.has(socket)) {
      floods.add(socket);
      const detail = `more than ${UNANSWERED_MAX} requests that wait for their answers`;
      // The parser is at work on it.
      setImmediate(() => letGo(own, 'rate', detail));
    }
    // It goes to the end of those that wait, and there again when it is answered.
    const again = (): void => {
      if (own.destroyed) return;
      places.leave(own);
      places.take(own, origin(own), performance.now());
    };
    again();
    places.spoken(own);
    response.once('finish', again);
  });
  // With TLS the parser reads another socket than the one that came.
  server.on(server instanceof https.Server ? 'secureConnection' : 'connection', (socket) =>
    piecewise(socket, floods),
  );
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    const isLate = error.code === 'ERR_HTTP_REQUEST_TIMEOUT';
    if (error.code !== 'ECONNRESET') {
      told(isLate ? 'late' : 'protocol', socket.remoteAddress, error.code ?? 'no request of HTTP');
    }
    const code = isLate ? '408 Request Timeout' : (CODES[error.code ?? ''] ?? '400 Bad Request');
    if (socket.writable) socket.end(`HTTP/1.1 ${code}\r\nconnection: close\r\n\r\n`);
    else socket.destroy();
  });
  const timer = setInterval(() => {
    for (const socket of places.overdue(performance.now(), HTTP_REQUEST_MS)) {
      if (known.has(socket)) continue;
      letGo(socket, 'late', `no whole request within ${HTTP_REQUEST_MS} ms`);
    }
  }, TICK_MS);
  timer.unref();
  server.once('close', () => clearInterval(timer));
  return told;
}

/**
 * One read may hold 2,000 requests, and the parser gives all of a chunk in one turn, whatever has
 * become of the connection meanwhile: so it gets little at a time.
 */
function piecewise(socket: Socket, floods: WeakSet<Socket>): void {
  const [parse] = socket.listeners('data') as ((chunk: Buffer) => void)[];
  if (!parse) return;
  socket.removeListener('data', parse);
  socket.on('data', (chunk: Buffer) => {
    for (let at = 0; at < chunk.length; at += PIECE_BYTES) {
      if (socket.destroyed || socket.writableEnded || floods.has(socket)) return;
      parse(chunk.subarray(at, at + PIECE_BYTES));
    }
  });
}

function endsOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
