/**
 * What a node answers over HTTP: metrics, probes, health, status, and the page for people. It only
 * shows: nothing can be changed by it. Bounded in connections, sizes, times and requests.
 */
import http from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Address } from '../../shared/address.js';
import { failure } from '../../shared/errors.js';
import {
  HTTP_ANSWER_MS,
  HTTP_REQUEST_MS,
  LISTEN_BACKLOG,
  WRONG_PROOF_MS,
} from '../../shared/limits.js';
import { jsonText } from '../../shared/shown.js';
import { DEFAULT_HTTP_HOST, DEFAULT_HTTP_PORT, type HttpOptions } from '../options/http.js';
import { pause } from '../runtime/deadline.js';
import type { Refusals } from '../runtime/refusals.js';
import { readOwn, readSecret } from '../runtime/secret-file.js';
import { warn } from '../runtime/warn.js';
import type { Cluster } from './cluster/cluster.js';
import { guard, type Refusal, SECURITY_HEADERS } from './http-guard.js';
import { keepPlaces } from './http-places.js';
import { clusterQuery, dayQuery, noQuery, QueryError, statusQuery } from './http-query.js';
import { PACKAGE_VERSION } from './package-version.js';
import { loadPage, type PageFile } from './page-files.js';
import type { SeenNode } from './seen-node.js';
import type { StatusBoard } from './status-board.js';
import { healthJson, readyJson, statusJson } from './status-json.js';

/** How often the server looks for requests that are not whole in time. */
const CHECK_MS = 500;
const KEEP_ALIVE_MS = 5_000;
const HEADER_MAX_BYTES = 8 * 1024;
const REQUESTS_PER_SOCKET = 1_000;
const JSON_TYPE = 'application/json; charset=utf-8';

/** The listening side of a node for those who operate it. */
export interface HttpSurface {
  readonly address: Address;
  close(): Promise<void>;
}

/** What is shown. */
export interface Shown {
  readonly node: SeenNode;
  readonly board: StatusBoard;
  readonly cluster: Cluster;
}

interface Answer {
  readonly code: number;
  readonly headers: Readonly<Record<string, string>>;
  /** In one piece, or in several. */
  readonly body: string | Buffer | readonly Uint8Array[];
}

/** Answers a GET of one path. */
type Route = (query: URLSearchParams, headers: http.IncomingHttpHeaders) => Promise<Answer>;

/**
 * Answers for this node until `close`.
 * @param alertMs the lag from which on a replica counts as degraded
 * @param refusals told of whoever is not let in
 * Rejects Configuration for an address or a file that cannot be used.
 */
export async function openHttp(
  { node, board, cluster }: Shown,
  options: HttpOptions,
  alertMs: number,
  refusals: Refusals,
): Promise<HttpSurface> {
  const host = options.host ?? DEFAULT_HTTP_HOST;
  const port = options.port ?? DEFAULT_HTTP_PORT;
  const server = await makeServer(options);
  const routes = routesOf({ node, board, cluster }, alertMs);
  for (const file of await loadPage()) routes.set(file.path, pageRoute(file));
  const refusalOf = guard(host, options);
  const told = keepPlaces(server, refusals);
  const lateOf = (refusal: Refusal, request: http.IncomingMessage): number => {
    if (!refusal.reason) return 0;
    const { remoteAddress } = request.socket;
    // Who guesses tokens guesses slowly; a right one is answered at once.
    const isGuess = refusal.reason === 'auth' && refusals.isSuspect(remoteAddress ?? '');
    told(refusal.reason, remoteAddress, refusal.error);
    return isGuess ? WRONG_PROOF_MS : 0;
  };
  server.on('request', (request, response) => {
    void answer(request, response, routes, refusalOf, lateOf);
  });
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host, port, backlog: LISTEN_BACKLOG }, resolve);
    });
  } catch (error) {
    const why = (error as Error).message;
    throw failure('Configuration', `option http: cannot listen on ${host}:${port}: ${why}`, {
      cause: error,
      details: { option: 'http' },
    });
  }
  server.on('error', (error) => {
    warn(`the HTTP server: ${error.message}`);
  });
  return {
    address: { host, port: (server.address() as AddressInfo).port },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function makeServer({ tls }: HttpOptions): Promise<http.Server> {
  const bounds = {
    maxHeaderSize: HEADER_MAX_BYTES,
    requestTimeout: HTTP_REQUEST_MS,
    headersTimeout: HTTP_REQUEST_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    connectionsCheckingInterval: CHECK_MS,
  };
  const server = tls
    ? https.createServer({ ...bounds, ...(await certificates(tls)) })
    : http.createServer(bounds);
  server.timeout = HTTP_REQUEST_MS;
  server.maxRequestsPerSocket = REQUESTS_PER_SOCKET;
  return server;
}

async function certificates(tls: NonNullable<HttpOptions['tls']>): Promise<object> {
  const read = async (key: keyof typeof tls, file: string): Promise<Buffer> => {
    try {
      return await readOwn(file, false);
    } catch (error) {
      throw failure('Configuration', `option http.tls.${key}: ${(error as Error).message}`, {
        cause: error,
        details: { option: 'http' },
      });
    }
  };
  const { certFile, keyFile, caFile } = tls;
  const cert = await read('certFile', certFile);
  const key = await readSecret('option http.tls.keyFile', keyFile);
  if (caFile === undefined) return { cert, key };
  const ca = await read('caFile', caFile);
  return { cert, key, ca, requestCert: true, rejectUnauthorized: true };
}

async function answer(
  request: http.IncomingMessage,
  response: http.ServerResponse,
  routes: ReadonlyMap<string, Route>,
  refusalOf: (request: http.IncomingMessage, path: string) => Refusal | undefined,
  lateOf: (refusal: Refusal, request: http.IncomingMessage) => number,
): Promise<void> {
  const [path = '', ...query] = (request.url ?? '').split('?');
  const route = routes.get(path);
  let given: Answer;
  // Silence is ours while the answer is made.
  request.socket.setTimeout(HTTP_ANSWER_MS);
  try {
    const refusal = refusalOf(request, path) ?? (route ? undefined : NOTHING_HERE);
    const lateMs = refusal ? lateOf(refusal, request) : 0;
    if (lateMs > 0) await pause(lateMs);
    given = refusal
      ? refused(refusal)
      : await route!(new URLSearchParams(query.join('?')), request.headers);
  } catch (error) {
    // What went wrong inside is nobody's business outside.
    given = refused(
      error instanceof QueryError
        ? { code: 400, error: error.message }
        : { code: 500, error: 'the node could not answer' },
    );
  }
  request.socket.setTimeout(HTTP_REQUEST_MS);
  const { code, headers, body } = given;
  const pieces = typeof body === 'string' || Buffer.isBuffer(body) ? [body] : body;
  const bytes = pieces.reduce((sum, piece) => sum + Buffer.byteLength(piece), 0);
  const length = code === 304 ? {} : { 'content-length': `${bytes}` };
  const plain = { ...SECURITY_HEADERS, 'cache-control': 'no-store' };
  response.writeHead(code, { ...plain, ...headers, ...length });
  for (const piece of pieces) if (piece.length > 0) response.write(piece);
  response.end();
  // A body that nobody has asked for is not read.
  if (!request.complete) request.resume();
}

const NOTHING_HERE: Refusal = { code: 404, error: 'nothing is here' };

function refused({ code, error, headers = {} }: Refusal): Answer {
  return { code, headers: { 'content-type': JSON_TYPE, ...headers }, body: text({ error }) };
}

function text(value: object): string {
  return jsonText(value);
}

function json(value: object, code = 200): Answer {
  return { code, headers: { 'content-type': JSON_TYPE }, body: text(value) };
}

function pageRoute({ etag, type, bytes }: PageFile): Route {
  const headers = { etag, 'cache-control': 'no-cache', 'content-type': type };
  return async (query, asked) => {
    noQuery(query);
    const isKnown = asked['if-none-match'] === etag;
    return { code: isKnown ? 304 : 200, headers, body: isKnown ? '' : bytes };
  };
}

function routesOf({ node, board, cluster }: Shown, alertMs: number): Map<string, Route> {
  const plain =
    (give: () => Promise<Answer>): Route =>
    (query) => {
      noQuery(query);
      return give();
    };
  return new Map<string, Route>([
    [
      '/metrics',
      plain(async () => {
        const { contentType, pieces } = await node.scrape();
        return { code: 200, headers: { 'content-type': contentType }, body: pieces };
      }),
    ],
    ['/live', plain(async () => json({ live: true, uptimeMs: Math.round(board.uptimeMs) }))],
    [
      '/ready',
      plain(async () => {
        const ready = readyJson(await board.fresh(), node.isClosing);
        return json(ready, ready.ready ? 200 : 503);
      }),
    ],
    ['/cluster', async (query) => json(await cluster.json(clusterQuery(query).space))],
    ['/cluster/health', plain(async () => json(healthJson(await board.fresh())))],
    [
      '/replication/status',
      async (query) => {
        const asked = statusQuery(query);
        const told = {
          version: PACKAGE_VERSION,
          lagAlertThresholdMs: alertMs,
          events: node.recentEvents,
        };
        return json(statusJson(board, await board.fresh(), asked, told));
      },
    ],
    [
      '/replication/history',
      plain(async () => {
        const { atMs } = await board.fresh();
        return json(board.history.json(Math.max(atMs, performance.now())));
      }),
    ],
    ['/replication/day', async (query) => json(board.day.json(dayQuery(query), performance.now()))],
  ]);
}
