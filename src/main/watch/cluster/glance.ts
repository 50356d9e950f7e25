/**
 * What a node tells other members of itself in few words, and what it takes of theirs: nothing that
 * they say is believed to be short, printable, or a place that one can go to.
 */
import { type Address, dialable, isLoopback } from '../../../shared/address.js';
import { type EngramError, failure, firstLine } from '../../../shared/errors.js';
import { GLANCE_LINKS_MAX } from '../../../shared/limits.js';
import { shown } from '../../../shared/shown.js';
import type { Glance, GlanceLink } from '../../../shared/wire/peer-frames.js';
import type { HttpOptions } from '../../options/http.js';
import type { ReplicaLinkStatus } from '../../ship/status.js';
import { HEALTH_WORDS, type HealthWord } from '../health/words.js';
import { PACKAGE_VERSION } from '../package-version.js';
import type { ReplicaTotals, Snapshot } from '../status-board.js';

/** A glance that was looked through. */
export interface TakenGlance extends Glance {
  readonly health: HealthWord;
}

/** The longest of a name, and of a reason. */
const TEXT_MAX = 64;
const REASON_MAX = 200;

/** @param url where people find the page of this node; '': nobody can say */
export function glanceOf(snapshot: Snapshot, uptimeMs: number, url: string): TakenGlance {
  const { node, word, problems, rows, led, replicas } = snapshot;
  return {
    version: PACKAGE_VERSION,
    health: word,
    problems: problems.length,
    worst: problems[0]?.kind ?? '',
    uptimeMs: Math.round(uptimeMs),
    spaces: rows.length,
    led,
    url,
    links: node.replicas
      .slice(0, GLANCE_LINKS_MAX)
      .map((link) => linkOf(link, replicas.get(link.replicaId))),
  };
}

function linkOf(
  { replicaId, state, lastReceivedAgeMs }: ReplicaLinkStatus,
  total: ReplicaTotals | undefined,
): GlanceLink {
  const lagMs = total?.worstLagMs ?? 0;
  return {
    replicaId,
    state,
    spaces: total?.spaces ?? 0,
    lagMs: Number.isFinite(lagMs) ? Math.round(lagMs) : undefined,
    lagEntries: total?.worstLagEntries ?? 0,
    lagBytes: total?.worstLagBytes ?? 0,
    heardAgoMs: lastReceivedAgeMs && Math.round(lastReceivedAgeMs),
  };
}

/** What a member has said of itself. Throws ProtocolViolation. @param host where it was asked */
export function takeGlance(told: Glance, host: string): TakenGlance {
  const health = HEALTH_WORDS.find((word) => word === told.health);
  if (!health) {
    throw failure('ProtocolViolation', `it calls itself ${short(told.health)}, no word of ours`);
  }
  if (told.links.length > GLANCE_LINKS_MAX) {
    throw failure('ProtocolViolation', `it tells of ${told.links.length} links`);
  }
  const { problems, uptimeMs, spaces, led } = told;
  return {
    ...{ problems, uptimeMs, spaces, led, health },
    version: short(told.version),
    worst: short(told.worst),
    url: linkFrom(told.url, host),
    links: told.links.map((link) => {
      return { ...link, replicaId: shown(link.replicaId), state: short(link.state) };
    }),
  };
}

/** A name that a member gave, in one line. */
function short(text: string): string {
  return shown(text.slice(0, TEXT_MAX));
}

/** Why a member does not answer, in one line. */
export function reasonOf(error: EngramError): string {
  return shown(firstLine(error).slice(0, REASON_MAX));
}

/** Where people find the page of a node that answers over HTTP; '': nobody can know that. */
export function pageOf(options: HttpOptions | undefined, at: Address | undefined): string {
  if (options?.url !== undefined) return options.url;
  const known = dialable(at);
  if (!options || !known) return '';
  const host = known.host.includes(':') ? `[${known.host}]` : known.host;
  return `${options.tls ? 'https' : 'http'}://${host}:${known.port}/`;
}

/**
 * A place of its own machine alone is one for who is on that machine, too.
 * @param host by which the member was reached
 */
export function linkFrom(told: string, host: string): string {
  if (!URL.canParse(told)) return '';
  const url = new URL(told);
  const isWeb = url.protocol === 'http:' || url.protocol === 'https:';
  if (!isWeb || url.username !== '' || url.password !== '') return '';
  const isItsOwn = isLoopback(url.hostname.replace(/^\[|\]$/g, ''));
  return isItsOwn && !isLoopback(host) ? '' : url.href;
}
