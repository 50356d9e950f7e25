/**
 * What a node answers over HTTP: metrics, probes, health, status, and the page for people. It only
 * shows: nothing can be changed by it. Bounded in connections, sizes, times and requests.
 */
import fs from 'node:fs/promises';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import Fastify, { type FastifyInstance } from 'fastify';
import { failure } from '../shared/errors.js';
import type { Address } from './config.js';
import { HEALTH_WORDS } from './health.js';
import { guard } from './http-guard.js';
import { DEFAULT_HTTP_HOST, DEFAULT_HTTP_PORT, type HttpOptions } from './http-options.js';
import type { Node } from './node.js';
import { loadPage } from './page-files.js';
import { StatusBoard } from './status-board.js';
import { healthJson, readyJson, SORTS, type SpaceQuery, statusJson } from './status-json.js';

const CONNECTIONS_MAX = 64;
const REQUEST_TIMEOUT_MS = 5_000;
const KEEP_ALIVE_MS = 5_000;
const HEADER_MAX_BYTES = 8 * 1024;
const REQUESTS_PER_SOCKET = 1_000;
const ROWS_MAX = 1_000;

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

/** The listening side of a node for those who operate it. */
export interface HttpSurface {
  readonly address: Address;
  close(): Promise<void>;
}

const STATUS_QUERY = {
  type: 'object',
  additionalProperties: false,
  properties: {
    space: { type: 'string', minLength: 1, maxLength: 255 },
    search: { type: 'string', maxLength: 255 },
    health: { enum: [...HEALTH_WORDS] },
    problems: { type: 'integer', enum: [0, 1] },
    sort: { enum: [...SORTS] },
    limit: { type: 'integer', minimum: 0, maximum: ROWS_MAX },
    after: { type: 'string', maxLength: 255 },
    offset: { type: 'integer', minimum: 0, maximum: 1_000_000 },
  },
} as const;
const NO_QUERY = { type: 'object', additionalProperties: false } as const;

/**
 * Answers for this node until `close`.
 * @param alertMs the lag from which on a replica counts as degraded
 * Rejects Configuration for an address or a file that cannot be used.
 */
export async function openHttp(
  node: Node,
  options: HttpOptions,
  alertMs: number,
): Promise<HttpSurface> {
  const host = options.host ?? DEFAULT_HTTP_HOST;
  const port = options.port ?? DEFAULT_HTTP_PORT;
  const app = Fastify(await serverOptions(options));
  app.server.maxConnections = CONNECTIONS_MAX;
  app.server.maxRequestsPerSocket = REQUESTS_PER_SOCKET;
  app.removeAllContentTypeParsers();
  guard(app, host, options);
  const board = new StatusBoard(node);
  addAnswers(app, node, board, alertMs);
  for (const file of await loadPage()) {
    app.get(file.path, { schema: { querystring: NO_QUERY } }, (request, reply) => {
      reply.header('etag', file.etag).header('cache-control', 'no-cache').type(file.type);
      return request.headers['if-none-match'] === file.etag
        ? reply.code(304).send()
        : reply.send(file.bytes);
    });
  }
  try {
    await app.listen({ host, port });
  } catch (error) {
    board.close();
    const why = (error as Error).message;
    throw failure('Configuration', `option http: cannot listen on ${host}:${port}: ${why}`, {
      cause: error,
      details: { option: 'http' },
    });
  }
  return {
    address: { host, port: (app.server.address() as AddressInfo).port },
    close: async () => {
      board.close();
      await app.close().catch(() => undefined);
    },
  };
}

async function serverOptions({ tls }: HttpOptions): Promise<object> {
  return {
    logger: false,
    bodyLimit: 1,
    connectionTimeout: REQUEST_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    forceCloseConnections: true,
    routerOptions: { maxParamLength: 256 },
    ajv: { customOptions: { removeAdditional: false } },
    ...(tls ? { https: { ...(await certificates(tls)), maxHeaderSize: HEADER_MAX_BYTES } } : {}),
    ...(tls ? {} : { http: { maxHeaderSize: HEADER_MAX_BYTES } }),
  };
}

async function certificates(tls: NonNullable<HttpOptions['tls']>): Promise<object> {
  const read = async (key: keyof typeof tls, file: string): Promise<Buffer> => {
    try {
      return await fs.readFile(file);
    } catch (error) {
      throw failure('Configuration', `option http.tls.${key}: ${(error as Error).message}`, {
        cause: error,
        details: { option: 'http' },
      });
    }
  };
  const { certFile, keyFile, caFile } = tls;
  const [cert, key] = [await read('certFile', certFile), await read('keyFile', keyFile)];
  if (caFile === undefined) return { cert, key };
  const ca = await read('caFile', caFile);
  return { cert, key, ca, requestCert: true, rejectUnauthorized: true };
}

function addAnswers(app: FastifyInstance, node: Node, board: StatusBoard, alertMs: number): void {
  const plain = { schema: { querystring: NO_QUERY } };
  app.get('/metrics', plain, async (_, reply) => {
    const { contentType, body } = await node.metrics();
    return reply.type(contentType).send(body);
  });
  app.get('/live', plain, () => ({ live: true, uptimeMs: Math.round(board.uptimeMs) }));
  app.get('/ready', plain, async (_, reply) => {
    const ready = readyJson(await board.fresh(), node.isClosing);
    return reply.code(ready.ready ? 200 : 503).send(ready);
  });
  app.get('/cluster/health', plain, async () => healthJson(await board.fresh()));
  app.get<{ Querystring: SpaceQuery }>(
    '/replication/status',
    { schema: { querystring: STATUS_QUERY } },
    async ({ query }) =>
      statusJson(board, await board.fresh(), query, {
        version,
        lagAlertThresholdMs: alertMs,
        events: node.recentEvents,
      }),
  );
  app.get('/replication/history', plain, async () => {
    const { atMs } = await board.fresh();
    return board.history.json(Math.max(atMs, performance.now()));
  });
}
