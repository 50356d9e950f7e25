/** `engram-wal status`: asks a node over HTTP, says what is wrong, and ends with its exit code. */
import { setTimeout as sleep } from 'node:timers/promises';
import { failure } from '../../shared/errors.js';
import { shown } from '../../shared/shown.js';
import { DEFAULT_HTTP_PORT } from '../options/http.js';
import type { ClusterJson } from '../watch/cluster/cluster-json.js';
import { exitCodeOf, HEALTH_WORDS, type HealthWord } from '../watch/health/words.js';
import type { StatusJson } from '../watch/status-json.js';
import { complain, say, wipe } from './output.js';
import { clusterText } from './text/cluster.js';
import { statusText } from './text/status.js';

export interface StatusFlags {
  readonly url: string;
  readonly space?: string;
  /** All members that the node knows, in the place of the node. */
  readonly cluster: boolean;
  readonly json: boolean;
  readonly watch: boolean;
  /** How often --watch looks, seconds. */
  readonly every: number;
}

export const DEFAULT_URL = `http://127.0.0.1:${DEFAULT_HTTP_PORT}`;
/** The variable that holds http.token, so that it stands in no list of processes. */
export const TOKEN_VARIABLE = 'ENGRAM_WAL_TOKEN';

const CLUSTER = '/cluster';
const ANSWER_TIMEOUT_MS = 10_000;
/** Spaces that are listed: the worst. */
const ROWS = 20;

/** Somebody has to look at it now. */
const UNREACHABLE = exitCodeOf('failed');

/**
 * Prints the status, with `watch` again and again until a signal comes.
 * @returns the exit code (EXIT_CODES_TEXT), of one space where one is asked for
 * Throws Configuration for a URL that is none, or a token that is wrong; SpaceUnknown.
 */
export async function showStatus(flags: StatusFlags): Promise<number> {
  const url = urlOf(flags);
  if (!flags.watch) return show(flags, await ask(url));
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stop.abort());
  let code = 0;
  while (!stop.signal.aborted) {
    const answer = await ask(url);
    // Only a terminal can be wiped; elsewhere one report follows the other.
    if (!flags.json) wipe();
    code = show(flags, answer);
    await sleep(1_000 * flags.every, undefined, { signal: stop.signal }).catch(() => undefined);
  }
  return code;
}

type Told = { readonly health: HealthWord };
type Answer = { status: Told } | { unreachable: string };

function urlOf({ url, space, cluster }: StatusFlags): URL {
  let base: URL;
  try {
    base = new URL(url.includes('://') ? url : `http://${url}`);
  } catch (error) {
    throw failure('Configuration', `${url} is no URL`, { cause: error });
  }
  if (base.protocol !== 'http:' && base.protocol !== 'https:') {
    throw failure('Configuration', `${url} is neither http nor https`);
  }
  const asked = new URL(cluster ? CLUSTER : '/replication/status', base);
  if (!cluster) {
    asked.searchParams.set('sort', 'health');
    asked.searchParams.set('limit', String(ROWS));
  }
  if (space !== undefined) asked.searchParams.set('space', space);
  return asked;
}

async function ask(url: URL): Promise<Answer> {
  const token = process.env[TOKEN_VARIABLE];
  try {
    const response = await fetch(url, {
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
      signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
      redirect: 'error',
    });
    if (response.status === 401) {
      const found = `${url.origin} wants a token, ${TOKEN_VARIABLE} has none or another`;
      throw failure('Configuration', found);
    }
    const body = (await response.json()) as Told & { error?: string };
    if (response.status === 404 && url.pathname === CLUSTER) {
      return { unreachable: `${url.origin} is of an older version: it tells of itself alone` };
    }
    if (!response.ok || !HEALTH_WORDS.includes(body.health)) {
      return { unreachable: `${url.origin} is no node: ${response.status} ${body.error ?? ''}` };
    }
    return { status: body };
  } catch (error) {
    if ((error as { code?: string }).code === 'Configuration') throw error;
    const { cause, message } = error as Error;
    const why =
      cause instanceof Error ? ((cause as NodeJS.ErrnoException).code ?? cause.message) : '';
    return { unreachable: `${url.origin} does not answer: ${why || message}` };
  }
}

function show(flags: StatusFlags, answer: Answer): number {
  if ('unreachable' in answer) {
    const { unreachable: reason } = answer;
    if (flags.json) say({ health: 'unreachable', reason }, true, () => reason);
    else complain(`engram-wal: ${shown(reason)}`);
    return UNREACHABLE;
  }
  if (flags.cluster) showCluster(flags, answer.status as ClusterJson);
  else showNode(flags, answer.status as StatusJson);
  return exitCodeOf(answer.status.health);
}

function showNode(flags: StatusFlags, status: StatusJson): void {
  if (flags.space !== undefined && status.rows.length === 0) {
    throw failure('SpaceUnknown', `${flags.space} is not on node ${status.nodeId}`);
  }
  say(status, flags.json, statusText);
}

function showCluster(flags: StatusFlags, cluster: ClusterJson): void {
  if (cluster.space?.copies.every(({ role }) => role === 'none' || role === 'unknown')) {
    throw failure('SpaceUnknown', `${flags.space} is on none of the members that answer`);
  }
  say(cluster, flags.json, clusterText);
}
