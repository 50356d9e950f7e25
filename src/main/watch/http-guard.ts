/**
 * Who may look, and how often: GET and HEAD alone, a Host header that names this node (a web page
 * elsewhere cannot be led here by its own name), the token where there is one, so many requests a
 * second over all clients. Says to browsers what the page may do: nothing beyond this server.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { isLoopback } from '../../shared/address.js';
import type { RefusalReason } from '../../shared/link/refusal.js';
import type { HttpOptions } from '../options/http.js';

const REQUESTS_PER_SECOND = 100;
const BURST = 200;
/** Probes say nothing of spaces, cost nothing, and must not be turned away. */
const PROBES = ['/live', '/ready'];

export const SECURITY_HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'camera=(), geolocation=(), microphone=()',
} as const;

export interface Refusal {
  readonly code: number;
  readonly error: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** It is counted and told of. */
  readonly reason?: RefusalReason;
}

/** @returns why a request is not answered; undefined where it is */
export function guard(
  host: string,
  options: HttpOptions,
): (request: IncomingMessage, path: string) => Refusal | undefined {
  const mayPass = bucket();
  const token = options.token === undefined ? undefined : digest(options.token);
  return (request, path) => {
    const isProbe = PROBES.includes(path);
    return (
      methodProblem(request) ??
      hostProblem(request, host, options) ??
      (isProbe ? undefined : tokenProblem(request, token)) ??
      (isProbe || mayPass() ? undefined : TOO_MANY)
    );
  };
}

const TOO_MANY: Refusal = {
  code: 429,
  reason: 'rate',
  error: `more than ${REQUESTS_PER_SECOND} requests a second`,
  headers: { 'retry-after': '1' },
};

function methodProblem({ method, headers }: IncomingMessage): Refusal | undefined {
  if (method !== 'GET' && method !== 'HEAD') {
    return {
      code: 405,
      error: 'only GET: nothing is changed here',
      headers: { allow: 'GET, HEAD' },
    };
  }
  const hasBody =
    headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0';
  return hasBody
    ? { code: 413, error: 'no body is taken', headers: { connection: 'close' } }
    : undefined;
}

/** Without a token the browser of somebody on this machine could be made to read for others. */
function hostProblem(
  request: IncomingMessage,
  host: string,
  { token, tls, names = [] }: HttpOptions,
): Refusal | undefined {
  if (token !== undefined || tls?.caFile !== undefined) return undefined;
  // Without its port, and an address of IPv6 without its brackets.
  const named = (request.headers.host ?? '').replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
  if (isLoopback(named) || named === host || names.includes(named)) return undefined;
  return { code: 421, error: 'the Host header names another server; see the option http.names' };
}

function tokenProblem(
  { headers }: IncomingMessage,
  token: Buffer | undefined,
): Refusal | undefined {
  if (!token) return undefined;
  const [scheme = '', given = ''] = (headers.authorization ?? '').split(' ');
  // A browser's dialogue asks for a name as well: any will do.
  const isBasic = scheme.toLowerCase() === 'basic';
  const decoded = isBasic ? Buffer.from(given, 'base64').toString('utf8') : given;
  const secret = isBasic ? decoded.slice(decoded.indexOf(':') + 1) : decoded;
  if (timingSafeEqual(digest(secret), token)) return undefined;
  return {
    code: 401,
    // Browsers ask without one first.
    ...(headers.authorization !== undefined && { reason: 'auth' }),
    error: 'the token is missing or wrong',
    headers: { 'www-authenticate': 'Basic realm="engram-wal", charset="UTF-8"' },
  };
}

function digest(secret: string): Buffer {
  return createHash('sha256').update(secret).digest();
}

/** A token bucket over all clients. */
function bucket(): () => boolean {
  let left = BURST;
  let atMs = performance.now();
  return () => {
    const now = performance.now();
    left = Math.min(BURST, left + ((now - atMs) / 1_000) * REQUESTS_PER_SECOND);
    atMs = now;
    if (left < 1) return false;
    left--;
    return true;
  };
}
