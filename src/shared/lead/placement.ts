/**
 * What a cluster keeps in its coordinator, and what follows from it: on which nodes a space is,
 * who leads it, who goes first when nobody does. Pure: records in, answers out.
 *
 * A session is one life of a node's lease; it is in the key of the node, which goes with the lease.
 * A space's record stays: its epoch outlives every lease. A space is led by the node that its
 * record names, for as long as the session that the record names lives. So one key that goes
 * takes all leaderships of a node with it.
 */
import { MEMBERS_MAX } from '../limits.js';
import type { Floor } from '../members/quorum.js';
import { isName } from '../names.js';
import type { Epoch } from '../position.js';
import { checkReach } from './heard.js';

/** A living node, by one session of its. */
export interface NodeRow {
  readonly nodeId: string;
  readonly session: string;
  readonly host: string;
  readonly port: number;
  /** Names the place where its directory is locked: no two living processes share one. */
  readonly place: string;
  /** It hands over what it leads, and is to lead nothing else. */
  readonly isDrained: boolean;
}

export interface LeaderRow {
  readonly nodeId: string;
  readonly session: string;
}

/** What outlives the leases. */
export interface SpaceRow {
  readonly name: string;
  /** The nodes that have it or are to have it; the first one was meant to lead it. */
  readonly nodeIds: readonly string[];
  /** The last epoch that anybody was given; 0: nobody yet. */
  readonly epoch: Epoch;
  /** Who was given it, and led last. */
  readonly leader: LeaderRow | undefined;
  /** The leader has given it up; who leads next needs no patience. */
  readonly released: boolean;
  /**
   * The pending entry of members that this record is the witness of: who is given an epoch leads
   * only if its log holds it.
   */
  readonly floor?: Floor | undefined;
}

export function encodeNodeRow({ host, port, place, isDrained }: NodeRow): string {
  return JSON.stringify({ host, port, place, ...(isDrained && { isDrained }) });
}

/** @returns undefined where the value is not one of ours */
export function decodeNodeRow(nodeId: string, session: string, value: string): NodeRow | undefined {
  const { host, port, place, isDrained } = fields(value);
  if (!isName(nodeId) || !isName(host) || typeof place !== 'string') return undefined;
  if (!isWhole(port) || port < 1 || port > 65_535) return undefined;
  return { nodeId, session, host, port, place, isDrained: isDrained === true };
}

export function encodeSpaceRow(row: SpaceRow): string {
  return JSON.stringify(row);
}

/** @returns undefined where the value is not one of ours */
export function decodeSpaceRow(value: string): SpaceRow | undefined {
  const { name, nodeIds, epoch, leader, released, floor } = fields(value);
  if (floor !== undefined && !readFloor(floor)) return undefined;
  if (!isName(name) || !isWhole(epoch) || epoch > 0xffffffff) return undefined;
  if (!Array.isArray(nodeIds) || nodeIds.length > MEMBERS_MAX) return undefined;
  if (!nodeIds.every(isName)) return undefined;
  if (new Set(nodeIds).size !== nodeIds.length) return undefined;
  let leads: LeaderRow | undefined;
  if (leader !== undefined) {
    const { nodeId, session } = (leader ?? {}) as Record<string, unknown>;
    if (!isName(nodeId) || typeof session !== 'string') return undefined;
    leads = { nodeId, session };
  }
  const row = { name, nodeIds, epoch, leader: leads, released: released === true };
  return floor === undefined ? row : { ...row, floor: readFloor(floor) };
}

function readFloor(value: unknown): Floor | undefined {
  const { epoch, sequence } = (value ?? {}) as Record<string, unknown>;
  return isWhole(epoch) && isWhole(sequence) ? { epoch, sequence } : undefined;
}

function fields(value: string): Record<string, unknown> {
  try {
    const found: unknown = JSON.parse(value);
    if (typeof found === 'object' && found !== null) return found as Record<string, unknown>;
  } catch {
    // Whoever wrote it, it was none of ours.
  }
  return {};
}

function isWhole(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** The living nodes, one session each: the newest where a node has more than one. */
export type LivingNodes = ReadonlyMap<string, NodeRow>;

/**
 * The epoch for who claims a space that is to be above `above`. Throws EpochOutOfReach.
 * @param above the highest that the claimant has heard of; 0: no node has the space
 */
export function nextEpoch(row: SpaceRow, above: Epoch): Epoch {
  const epoch = Math.max(row.epoch, above) + 1;
  checkReach(above || undefined, epoch, `the record of ${row.name} in etcd`);
  return epoch;
}

/** Whether the session that the record names lives. */
export function leads(row: SpaceRow, sessions: ReadonlySet<string>): boolean {
  return row.leader !== undefined && !row.released && sessions.has(row.leader.session);
}

/** A number that is the same on every node for a (space, node), and spread evenly: FNV-1a. */
export function affinity(space: string, nodeId: string): number {
  let hash = 0x811c9dc5;
  for (const char of `${space}\0${nodeId}`) {
    hash = Math.imul(hash ^ char.codePointAt(0)!, 0x01000193) >>> 0;
  }
  hash ^= hash >>> 16;
  hash = Math.imul(hash, 0x85ebca6b);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/**
 * Who should try first to lead a space without a leader: the one that led last, where it lives (it
 * has all that was acknowledged); before anybody ever led, the one that it was meant for; then by
 * affinity, so that the spaces of a lost node are spread over the others; a drained one at last.
 * @returns living nodes of the space, best first
 */
export function candidates(row: SpaceRow, living: LivingNodes): string[] {
  const first = row.epoch === 0 ? row.nodeIds[0] : row.released ? undefined : row.leader?.nodeId;
  const rank = (id: string): number => (id === first ? -1 : affinity(row.name, id));
  const isDrained = (id: string): number => Number(living.get(id)!.isDrained);
  return row.nodeIds
    .filter((id) => living.has(id))
    .sort((a, b) => isDrained(a) - isDrained(b) || rank(a) - rank(b) || (a < b ? -1 : 1));
}

/** How many spaces a node leads beyond what it would if it gave to whoever leads least. */
export function surplus(nodeId: string, led: ReadonlyMap<string, number>): number {
  const least = Math.min(...led.values());
  return Math.max(0, Math.floor(((led.get(nodeId) ?? 0) - least) / 2));
}

/** What each node carries: kept up to date record by record, whatever their number. */
export class Loads {
  readonly #copies = new Map<string, number>();
  readonly #led = new Map<string, number>();

  /** How many spaces each node has. */
  get copies(): ReadonlyMap<string, number> {
    return this.#copies;
  }

  /** How many it led last, or is to lead. */
  get led(): ReadonlyMap<string, number> {
    return this.#led;
  }

  add(row: SpaceRow): void {
    this.#count(row, 1);
  }

  remove(row: SpaceRow): void {
    this.#count(row, -1);
  }

  #count({ nodeIds, leader }: SpaceRow, by: number): void {
    for (const id of nodeIds) this.#copies.set(id, (this.#copies.get(id) ?? 0) + by);
    const first = leader?.nodeId ?? nodeIds[0];
    if (first !== undefined) this.#led.set(first, (this.#led.get(first) ?? 0) + by);
  }
}

/**
 * Where a new space goes: this node and the least loaded others; the least loaded of all leads.
 * @param lead whether `nodeId` leads it; undefined: as the load has it
 * @returns node ids, the one that is to lead first
 */
export function placeSpace(
  name: string,
  nodeId: string,
  lead: boolean | undefined,
  replicas: number,
  living: LivingNodes,
  { copies, led }: Pick<Loads, 'copies' | 'led'>,
): string[] {
  const by = (load: ReadonlyMap<string, number>) => (a: string, b: string) =>
    (load.get(a) ?? 0) - (load.get(b) ?? 0) || affinity(name, a) - affinity(name, b);
  const others = [...living.keys()].filter((id) => id !== nodeId).sort(by(copies));
  const chosen = [nodeId, ...others.slice(0, replicas)];
  if (lead === true) return chosen;
  const isDrained = (id: string): number => Number(living.get(id)?.isDrained ?? false);
  return chosen.sort((a, b) => isDrained(a) - isDrained(b) || by(led)(a, b));
}

/**
 * The nodes of a space that has fewer than it should have, with living ones that carry least.
 * @param load how many spaces each node has
 * @returns undefined where there is nothing to be added
 */
export function completed(
  row: SpaceRow,
  replicas: number,
  living: LivingNodes,
  load: ReadonlyMap<string, number>,
): string[] | undefined {
  const missing = replicas + 1 - row.nodeIds.length;
  if (missing <= 0) return undefined;
  const others = [...living.keys()].filter((id) => !row.nodeIds.includes(id));
  if (others.length === 0) return undefined;
  const added = others
    .sort((a, b) => (load.get(a) ?? 0) - (load.get(b) ?? 0) || (a < b ? -1 : 1))
    .slice(0, missing);
  return [...row.nodeIds, ...added];
}
