/** The option `coordinator` of openNode: what it may be, and its defaults. */

import {
  DEFAULT_LEASE_TTL_MS,
  DEFAULT_REPLICAS_PER_SPACE,
  LEASE_TTL_MAX_MS,
  LEASE_TTL_MIN_MS,
  MEMBERS_MAX,
} from '../shared/limits.js';
import type { Address } from './config.js';

/** Who says who leads. */
export type CoordinatorOptions =
  /** The default: configuration, and whoever calls `promote`. */
  | { readonly kind: 'static' }
  | {
      readonly kind: 'etcd';
      /** `http://host:port`, one or more, of one etcd cluster. */
      readonly endpoints: readonly string[];
      /**
       * How long a node that is silent keeps what it leads: whole seconds, 2,000 to 3,600,000.
       * Default 5,000.
       */
      readonly ttlMs?: number;
      /** In front of all keys. Default `engram-wal`. */
      readonly prefix?: string;
      /** Nodes that follow each space, besides the one that leads it. Default 2. */
      readonly replicasPerSpace?: number;
      /** Where other nodes dial this one, where that is not where it listens. */
      readonly advertise?: Address;
    };

/** With every default filled in. */
export type CoordinatorConfig =
  | { readonly kind: 'static' }
  | (Required<Omit<EtcdCoordinatorOptions, 'advertise'>> &
      Pick<EtcdCoordinatorOptions, 'advertise'>);

type EtcdCoordinatorOptions = Extract<CoordinatorOptions, { kind: 'etcd' }>;

const ENDPOINTS_MAX = 16;
const ETCD_KEYS = ['kind', 'endpoints', 'ttlMs', 'prefix', 'replicasPerSpace', 'advertise'];

/**
 * @param addressProblem what is wrong with an address that has a port
 * @returns what it should have been, or undefined where it is right
 */
export function coordinatorProblem(
  value: unknown,
  addressProblem: (value: unknown) => string | undefined,
): string | undefined {
  const known = "{ kind: 'static' } or { kind: 'etcd', endpoints }";
  if (typeof value !== 'object' || value === null) return known;
  const given = value as Record<string, unknown>;
  const { kind, endpoints, ttlMs, prefix, replicasPerSpace, advertise } = given;
  const keys = kind === 'etcd' ? ETCD_KEYS : ['kind'];
  const unknown = Object.keys(value).find((key) => !keys.includes(key));
  if (kind !== 'static' && kind !== 'etcd') return known;
  if (unknown !== undefined) return `${known}: it has no ${unknown}, only ${keys.join(', ')}`;
  if (kind === 'static') return undefined;
  if (!Array.isArray(endpoints) || endpoints.length === 0 || endpoints.length > ENDPOINTS_MAX) {
    return `${known}: endpoints is an array of 1 to ${ENDPOINTS_MAX} URLs`;
  }
  if (!endpoints.every(isEndpoint)) return `${known}: an endpoint is 'http://host:port'`;
  if (ttlMs !== undefined && !isTtl(ttlMs)) {
    const range = `${LEASE_TTL_MIN_MS} to ${LEASE_TTL_MAX_MS}`;
    return `${known}: ttlMs is a multiple of 1,000, ${range}`;
  }
  if (
    prefix !== undefined &&
    !(typeof prefix === 'string' && /^[\w.-]+(\/[\w.-]+)*$/.test(prefix))
  ) {
    return `${known}: prefix is of letters, digits, '.', '-', '_', with '/' between`;
  }
  if (replicasPerSpace !== undefined && !isCount(replicasPerSpace)) {
    return `${known}: replicasPerSpace is a whole number from 0 to ${MEMBERS_MAX - 1}`;
  }
  const address = advertise === undefined ? undefined : addressProblem(advertise);
  if (address) return `${known}: advertise is ${address}`;
  return undefined;
}

function isEndpoint(value: unknown): boolean {
  if (typeof value !== 'string' || !URL.canParse(value)) return false;
  const { protocol, port, pathname, username, search } = new URL(value);
  return (
    protocol === 'http:' && port !== '' && pathname === '/' && username === '' && search === ''
  );
}

function isTtl(value: unknown): boolean {
  const ms = value as number;
  const isWhole = Number.isSafeInteger(ms) && ms % 1_000 === 0;
  return isWhole && ms >= LEASE_TTL_MIN_MS && ms <= LEASE_TTL_MAX_MS;
}

function isCount(value: unknown): boolean {
  const count = value as number;
  return Number.isSafeInteger(count) && count >= 0 && count < MEMBERS_MAX;
}

/** @param given that has no problem */
export function coordinatorConfig(given: CoordinatorOptions | undefined): CoordinatorConfig {
  if (given?.kind !== 'etcd') return { kind: 'static' };
  return {
    ttlMs: DEFAULT_LEASE_TTL_MS,
    prefix: 'engram-wal',
    replicasPerSpace: DEFAULT_REPLICAS_PER_SPACE,
    ...given,
  };
}
