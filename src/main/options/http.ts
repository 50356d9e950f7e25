/**
 * The option `http` of openNode: where a node answers those who operate it. Beyond loopback only to
 * those who prove that they may look: by a token, or by a client certificate.
 */
import { isLoopback } from '../../shared/address.js';
import { isObjectOf, isText, type Problem, whole } from '../../shared/option-checks.js';

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
  /**
   * Where people find this page, for the pages of other nodes and for `status --cluster`: a URL.
   * Default: where it listens, unless that is a wildcard; an address of loopback is told to members
   * on the same machine alone.
   */
  readonly url?: string;
}

export const DEFAULT_HTTP_HOST = '127.0.0.1';
export const DEFAULT_HTTP_PORT = 7480;
const TOKEN_LEAST = 16;

const KEYS = ['host', 'port', 'token', 'tls', 'names', 'url'];
const URL_MAX_CHARACTERS = 255;
const TLS_KEYS = ['certFile', 'keyFile', 'caFile'];

/** What it should have been; undefined where it is right. */
export function httpProblem(value: unknown): Problem | undefined {
  if (!isObjectOf(value, KEYS)) return `an object of ${KEYS.join(', ')}`;
  const { host, port, token, tls, names, url } = value;
  const part = (key: string, expected: string): Problem => ({
    at: `http.${key}`,
    found: value[key],
    expected,
  });
  if (host !== undefined && !isText(host)) return part('host', 'a host');
  const badPort = whole(0, 65_535)(port ?? 0);
  if (badPort) return part('port', 'a port, 0 to 65535');
  if (token !== undefined && (!isText(token) || token.length < TOKEN_LEAST)) {
    return part('token', `a string of at least ${TOKEN_LEAST} characters`);
  }
  if (tls !== undefined) {
    if (!isObjectOf(tls, TLS_KEYS)) return part('tls', `an object of ${TLS_KEYS.join(', ')}`);
    for (const key of TLS_KEYS) {
      if (isText(tls[key]) || (key === 'caFile' && tls[key] === undefined)) continue;
      return { at: `http.tls.${key}`, found: tls[key], expected: 'the name of a file' };
    }
  }
  if (names !== undefined && !(Array.isArray(names) && names.every(isText))) {
    return part('names', 'an array of host names');
  }
  if (url !== undefined && !isPage(url)) {
    return part('url', `a URL of http or https, without a user, ${URL_MAX_CHARACTERS} characters`);
  }
  const isOpen = host !== undefined && !isLoopback(host as string);
  const isGuarded = token !== undefined || (tls as HttpOptions['tls'])?.caFile !== undefined;
  return isOpen && !isGuarded
    ? part('host', 'on loopback, although there is neither http.token nor http.tls.caFile')
    : undefined;
}

/** It is told to others as it is: what they read must be what was meant. */
function isPage(value: unknown): boolean {
  if (!isText(value) || value.length > URL_MAX_CHARACTERS || !URL.canParse(value)) return false;
  const { protocol, username, password, href } = new URL(value);
  const isWeb = protocol === 'http:' || protocol === 'https:';
  return isWeb && username === '' && password === '' && href.length <= URL_MAX_CHARACTERS;
}
