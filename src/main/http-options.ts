/**
 * The option `http` of openNode: where a node answers those who operate it. Beyond loopback only to
 * those who prove that they may look: by a token, or by a client certificate.
 */
import { isLoopback } from './loopback.js';

export interface HttpOptions {
  /** Default 127.0.0.1. Beyond loopback `token` or `tls.caFile` is needed. */
  readonly host?: string;
  /** Default 7480; 0: any free one, `httpAddress` tells. */
  readonly port?: number;
  /**
   * Whoever asks must know it: `Authorization: Bearer <token>`, or as the password of a browser's
   * dialogue. /live and /ready go without.
   */
  readonly token?: string;
  readonly tls?: {
    /** PEM files, read when the node is opened. */
    readonly certFile: string;
    readonly keyFile: string;
    /** Only clients with a certificate of this authority are answered. */
    readonly caFile?: string;
  };
  /** Further names by which clients call this address, for a proxy that keeps the Host header. */
  readonly names?: readonly string[];
}

export const DEFAULT_HTTP_HOST = '127.0.0.1';
export const DEFAULT_HTTP_PORT = 7480;
const TOKEN_LEAST = 16;

const KEYS = ['host', 'port', 'token', 'tls', 'names'];
const TLS_KEYS = ['certFile', 'keyFile', 'caFile'];

/** Undefined where it is sound; else what was expected, for a Configuration error. */
export function httpProblem(value: unknown): string | undefined {
  if (!isObjectOf(value, KEYS)) return `an object of ${KEYS.join(', ')}`;
  const { host, port, token, tls, names } = value;
  if (host !== undefined && !isText(host)) return 'a host (http.host)';
  if (port !== undefined && !isPort(port)) return 'a port, 0 to 65535 (http.port)';
  if (token !== undefined && (!isText(token) || token.length < TOKEN_LEAST)) {
    return `a token of at least ${TOKEN_LEAST} characters (http.token)`;
  }
  if (tls !== undefined) {
    if (!isObjectOf(tls, TLS_KEYS)) return `an object of ${TLS_KEYS.join(', ')} (http.tls)`;
    if (!isText(tls.certFile) || !isText(tls.keyFile)) return 'a certFile and keyFile (http.tls)';
    if (tls.caFile !== undefined && !isText(tls.caFile)) return 'a caFile (http.tls)';
  }
  if (names !== undefined && !(Array.isArray(names) && names.every(isText))) {
    return 'an array of host names (http.names)';
  }
  const isOpen = host !== undefined && !isLoopback(host as string);
  const isGuarded = token !== undefined || (tls as HttpOptions['tls'])?.caFile !== undefined;
  return isOpen && !isGuarded
    ? 'an address on loopback, where there is neither http.token nor http.tls.caFile'
    : undefined;
}

function isObjectOf(value: unknown, keys: readonly string[]): value is Record<string, unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    Object.keys(value).every((key) => keys.includes(key))
  );
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

function isPort(value: unknown): boolean {
  return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 65_535;
}
