/**
 * Takes events over HTTP and keeps them, each exactly once.
 *
 *     npx tsx examples/ingest-http.ts ./data 8080 tenant-a tenant-b
 *     curl -i localhost:8080/tenant-a -H 'Idempotency-Key: 7f3a' -d '{"temperature":21}'
 *     curl localhost:8080/tenant-a?from=1
 *
 * What it promises: an event that was answered with 200 is on the disk. A client that gets another
 * answer, or none, sends the event again with the same key until it gets one: it is kept once,
 * however often it was sent, and whenever this process was killed, among the last 100,000 of its
 * tenant.
 */
import http from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { EngramError, jsonCodec, openNode, type TypedEntry, type TypedSpace } from 'engram-wal';

const EVENT = 1000;
const KEYS_REMEMBERED = 100_000;
const BODY_MAX_BYTES = 256 * 1024;
const KEY_MAX_LENGTH = 200;
const CLOSE_MS = 5_000;

/** Key and event are one entry: they are there together, or neither is. */
interface Kept {
  readonly key: string;
  readonly event: unknown;
}

const codec = jsonCodec<Kept>();

/** An answer that is not 200. */
class Refusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

class Tenant {
  readonly space: TypedSpace<Kept>;
  /** The sequence of each key, also of one that is on its way; the oldest first. */
  readonly #sequences = new Map<string, Promise<number>>();

  constructor(space: TypedSpace<Kept>) {
    this.space = space;
  }

  /** Resolves when all keys are known that a client may send again. */
  async open(): Promise<void> {
    for await (const { sequence, value } of this.space.read({ last: KEYS_REMEMBERED })) {
      this.#remember(value.key, Promise.resolve(sequence));
    }
  }

  #remember(key: string, sequence: Promise<number>): void {
    this.#sequences.set(key, sequence);
    if (this.#sequences.size <= KEYS_REMEMBERED) return;
    const [oldest] = this.#sequences.keys();
    this.#sequences.delete(oldest!);
  }

  /** @returns its sequence, once it is on the disk. Rejects what `append` does: it is not kept. */
  keep(kept: Kept): Promise<number> {
    const known = this.#sequences.get(kept.key);
    if (known) return known;
    // Not to wait for room: the client does, and holds nothing here meanwhile.
    const appended = this.space.append(EVENT, kept, { wait: false });
    const sequence = appended.then((token) => token.sequence);
    this.#remember(kept.key, sequence);
    sequence.catch(() => this.#sequences.delete(kept.key));
    return sequence;
  }
}

async function bodyOf(request: http.IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > BODY_MAX_BYTES) throw new Refusal(413, `more than ${BODY_MAX_BYTES} bytes`);
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch {
    throw new Refusal(400, 'the body is no JSON');
  }
}

const [dataDir, port, ...names] = process.argv.slice(2);
if (dataDir === undefined || port === undefined || names.length === 0) {
  throw new Error('usage: ingest-http.ts DATA_DIR PORT TENANT...');
}
const node = await openNode({ dataDir, nodeId: 'ingest', clusterId: 'example' });
// A write or an fdatasync has failed for good. Whether what is under way is on the disk, only
// opening the log again can tell: end without an answer, and be started again. The clients send
// again what they got no answer for; those keys are known then.
node.on('fatal', ({ error }) => {
  console.error(error);
  process.exit(1);
});
const tenants = new Map<string, Tenant>();
for (const name of names) {
  const tenant = new Tenant(await node.openSpace(name, { codec }));
  await tenant.open();
  tenants.set(name, tenant);
}

const lineOf = ({ sequence, value }: TypedEntry<Kept>): string =>
  `${JSON.stringify({ sequence, ...value })}\n`;

async function handle(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
  const [name = '', query] = (request.url ?? '').slice(1).split('?');
  const tenant = tenants.get(name);
  if (!tenant) throw new Refusal(404, `tenants are ${names.join(', ')}`);
  if (request.method === 'GET') {
    const from = Number(new URLSearchParams(query).get('from') ?? 1);
    if (!Number.isSafeInteger(from) || from < 1) throw new Refusal(400, 'from is a number from 1');
    response.setHeader('content-type', 'application/x-ndjson');
    // As of now; as fast as the client takes it, no faster.
    await pipeline(Readable.from(tenant.space.read({ from })).map(lineOf), response);
    return;
  }
  if (request.method !== 'POST') throw new Refusal(405, 'methods are GET and POST');
  const key = request.headers['idempotency-key'];
  if (typeof key !== 'string' || key === '' || key.length > KEY_MAX_LENGTH) {
    throw new Refusal(400, `a header Idempotency-Key of 1 to ${KEY_MAX_LENGTH} characters`);
  }
  const sequence = await tenant.keep({ key, event: await bodyOf(request) });
  response.setHeader('content-type', 'application/json').end(`${JSON.stringify({ sequence })}\n`);
}

/** What an error means for the client: 503 is "again, later, with the same key". */
function statusOf(error: unknown): number {
  if (error instanceof Refusal) return error.status;
  if (!(error instanceof EngramError)) return 500;
  // The log has no room for it now: Backpressure, DiskFull, ReadOnly. It closes: Closed.
  if (error.retryable || error.code === 'Closed') return 503;
  return error.code === 'EntryTooLarge' ? 413 : 500;
}

const server = http.createServer((request, response) => {
  handle(request, response).catch((error: Error) => {
    // It has begun to answer, or the client has gone: all that can be told is the end.
    if (response.headersSent) return response.destroy();
    const status = statusOf(error);
    if (status === 500) console.error(error);
    if (status === 503) response.setHeader('retry-after', '1');
    // What is left of a body is not read.
    response.setHeader('connection', 'close');
    response.writeHead(status).end(`${error.message.split('\n', 1)[0]}\n`);
  });
});
server.listen(Number(port), '127.0.0.1', () => {
  const { port: bound } = server.address() as { port: number };
  console.log(`listens on http://127.0.0.1:${bound}`);
});

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    // What is under way is answered; then the log is closed.
    server.close(() => void node.close());
    server.closeIdleConnections();
    setTimeout(() => server.closeAllConnections(), CLOSE_MS).unref();
  });
}
