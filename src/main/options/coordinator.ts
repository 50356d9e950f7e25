/** The option `coordinator` of openNode: what it may be, and its defaults. */

import { isLoopback } from '../../shared/address.js';
import {
  DEFAULT_LEASE_TTL_MS,
  DEFAULT_REPLICAS_PER_SPACE,
  LEASE_TTL_MAX_MS,
  LEASE_TTL_MIN_MS,
  MEMBERS_MAX,
} from '../../shared/limits.js';
import {
  addressProblem,
  isObjectOf,
  isText,
  type Problem,
  pathText,
  whole,
} from '../../shared/option-checks.js';
import type { CoordinatorConfig, CoordinatorOptions } from '../lead/options.js';

const ENDPOINTS_MAX = 16;
const SCHEMES = "'http://host:port' or 'https://host:port'";
const ETCD_KEYS = [
  ...['endpoints', 'ttlMs', 'prefix', 'replicasPerSpace', 'advertise'],
  ...['autoRebalance', 'tls', 'user', 'passwordFile'],
];
const TLS_KEYS = ['caFile', 'certFile', 'keyFile'];

/** What it should have been; undefined where it is right. */
export function coordinatorProblem(value: unknown): Problem | undefined {
  const kinds = "{ kind: 'static' } or { kind: 'etcd', endpoints }";
  const { kind, ...rest } = Object(value) as Record<string, unknown>;
  if (!isText(kind)) return kinds;
  if (kind !== 'static' && kind !== 'etcd') {
    return { at: 'coordinator.kind', found: kind, expected: "'static' or 'etcd'" };
  }
  const known = kind === 'etcd' ? ETCD_KEYS : [];
  const odd = Object.keys(rest).find((key) => !known.includes(key));
  if (odd !== undefined) return `${kinds}, for it has no ${odd}`;
  if (kind === 'static') return undefined;
  const part = (key: string, expected: string): Problem => ({
    at: `coordinator.${key}`,
    found: rest[key],
    expected,
  });
  const { endpoints, ttlMs, prefix, replicasPerSpace, autoRebalance, advertise } = rest;
  if (!Array.isArray(endpoints) || endpoints.length === 0 || endpoints.length > ENDPOINTS_MAX) {
    return part('endpoints', `an array of 1 to ${ENDPOINTS_MAX} URLs`);
  }
  const wrong = endpoints.find((endpoint) => !isEndpoint(endpoint));
  if (wrong !== undefined || endpoints.includes(undefined)) {
    return { at: 'coordinator.endpoints', found: wrong, expected: `URLs, each ${SCHEMES}` };
  }
  const way = wayProblem(endpoints as string[], rest);
  if (way !== undefined) return way;
  if (ttlMs !== undefined && !isTtl(ttlMs)) {
    return part('ttlMs', `a multiple of 1000, from ${LEASE_TTL_MIN_MS} to ${LEASE_TTL_MAX_MS}`);
  }
  if (prefix !== undefined && !(isText(prefix) && /^[\w.-]+(\/[\w.-]+)*$/.test(prefix))) {
    return part('prefix', "letters, digits, '.', '-', '_', with '/' between");
  }
  const expected = whole(0, MEMBERS_MAX - 1)(replicasPerSpace ?? 0);
  if (expected) return part('replicasPerSpace', expected);
  if (autoRebalance !== undefined && typeof autoRebalance !== 'boolean') {
    return part('autoRebalance', 'true or false');
  }
  if (advertise === undefined) return undefined;
  return addressProblem(advertise, 'coordinator.advertise', 1);
}

/** How this node is let in: all by TLS or none, and no password in clear over a network. */
function wayProblem(
  endpoints: readonly string[],
  rest: Record<string, unknown>,
): Problem | undefined {
  const part = (key: string, found: unknown, expected: string): Problem => ({
    at: `coordinator.${key}`,
    found,
    expected,
  });
  const { tls, user, passwordFile } = rest;
  const hasTls = endpoints.every((endpoint) => endpoint.startsWith('https:'));
  if (!hasTls && endpoints.some((endpoint) => endpoint.startsWith('https:'))) {
    return part('endpoints', endpoints, 'https:// for all of them, or http:// for all');
  }
  if (tls !== undefined) {
    if (!isObjectOf(tls, TLS_KEYS)) return part('tls', tls, `an object of ${TLS_KEYS.join(', ')}`);
    const odd = Object.entries(tls).find(([, file]) => pathText(file) !== undefined);
    if (odd) return part(`tls.${odd[0]}`, odd[1], 'a path');
    if (!hasTls) return part('tls', tls, 'left out where endpoints are http://');
    if ((tls.certFile === undefined) !== (tls.keyFile === undefined)) {
      return part('tls', tls, 'certFile and keyFile, or neither');
    }
  }
  if (user === undefined && passwordFile === undefined) return undefined;
  if (!isText(user)) return part('user', user, 'the name of a user, where passwordFile is given');
  if (pathText(passwordFile) !== undefined) return part('passwordFile', passwordFile, 'a path');
  const isNear = endpoints.every((endpoint) => isLoopback(new URL(endpoint).hostname));
  return hasTls || isNear ? undefined : part('endpoints', endpoints, 'https://, with a user');
}

function isEndpoint(value: unknown): boolean {
  if (typeof value !== 'string' || !URL.canParse(value)) return false;
  const { protocol, port, pathname, username, search } = new URL(value);
  // An own port of https is none of URL's.
  const isWhole = (port !== '' || /:443\/?$/.test(value)) && pathname === '/' && search === '';
  return (protocol === 'http:' || protocol === 'https:') && username === '' && isWhole;
}

function isTtl(value: unknown): boolean {
  const ms = value as number;
  const isWhole = Number.isSafeInteger(ms) && ms % 1_000 === 0;
  return isWhole && ms >= LEASE_TTL_MIN_MS && ms <= LEASE_TTL_MAX_MS;
}

/** @param given that has no problem */
export function coordinatorConfig(given: CoordinatorOptions | undefined): CoordinatorConfig {
  if (given?.kind !== 'etcd') return { kind: 'static' };
  const { advertise: _, ...rest } = given;
  return {
    ttlMs: DEFAULT_LEASE_TTL_MS,
    prefix: 'engram-wal',
    replicasPerSpace: DEFAULT_REPLICAS_PER_SPACE,
    autoRebalance: true,
    ...rest,
  };
}
