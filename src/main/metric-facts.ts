/** What main tells with each scrape, and which words belong to whom. */
import type {
  MetricFacts,
  MetricPlaces,
  PrimaryFacts,
  ReplicaFacts,
} from '../shared/metric-view.js';
import type { NodeMemory } from '../shared/slab.js';
import type { Applier } from './apply.js';
import type { NodeConfig } from './config.js';
import type { Damage } from './damage.js';
import type { NodeEventName } from './events.js';
import type { PrimaryLinks } from './primary-links.js';
import type { Replication } from './replication.js';
import type { Retention } from './retention.js';
import type { Segments } from './segments.js';
import type { ShipperHandle } from './shipper-handle.js';
import type { SpaceTable } from './space-table.js';
import type { Wal } from './wal.js';

/** The parts of a node that metrics are made of. */
export interface MetricParts {
  readonly config: NodeConfig;
  readonly spaces: SpaceTable;
  readonly segments: Segments;
  readonly damage: Damage;
  readonly wal: Wal;
  readonly replication: Replication;
  readonly retention: Retention;
  readonly applier: Applier | undefined;
  readonly primaries: PrimaryLinks;
  readonly memory: NodeMemory;
  readonly events: ReadonlyMap<NodeEventName, number>;
  readonly lines: { readonly dropped: number };
}

/** Facts and rows as of now: every pair is looked at. */
export function metricFacts(parts: MetricParts): MetricFacts {
  const { config, segments, damage, wal, replication, retention, events } = parts;
  replication.monitor.look();
  return {
    nodeId: config.nodeId,
    clusterId: config.clusterId,
    logState: wal.health.status.state,
    segments: segments.list.length,
    spareSegments: segments.spareCount,
    recycledSegments: segments.recycled,
    retainedBytes: segments.retainedBytes,
    hostBytes: retention.hostBytes,
    tornTails: events.get('torn-tail') ?? 0,
    corruptRanges: damage.holes.length,
    slabs: parts.memory.memory.slabCount,
    slabsInUse: wal.slabsInUse,
    waitingAppends: wal.waiting,
    ...spaceCounts(parts),
    events: [...events],
    droppedLines: parts.lines.dropped,
    replicas: replicaFacts(parts),
    primaries: primaryFacts(parts),
  };
}

/**
 * Who is connected, and every primary of a space that is here, if it has never been heard of: a
 * primary that leads nothing of ours any more and is gone is no matter.
 */
function primaryFacts({ spaces, primaries, config }: MetricParts): PrimaryFacts[] {
  const wanted = new Set<string>();
  for (const { facts } of spaces.spaces) {
    if (facts.role === 'replica' && facts.primary !== config.nodeId) wanted.add(facts.primary);
  }
  const found: PrimaryFacts[] = [];
  for (const link of primaries.all) {
    const { primaryId, isConnected, isStalled, bytesReceived, bytesSent } = link;
    if (!isConnected && !wanted.has(primaryId)) continue;
    wanted.delete(primaryId);
    found.push({ primaryId, isConnected, isStalled, bytesReceived, bytesSent });
  }
  const unheard = { isConnected: false, isStalled: false, bytesReceived: 0, bytesSent: 0 };
  for (const primaryId of wanted) found.push({ primaryId, ...unheard });
  return found;
}

function spaceCounts({ spaces, applier }: MetricParts) {
  let spacesLed = 0;
  let damagedSpaces = 0;
  let applyBlockedSpaces = 0;
  for (const space of spaces.spaces) {
    if (space.facts.role === 'primary') spacesLed++;
    if (space.facts.damage.some((d) => !d.accepted)) damagedSpaces++;
    if (applier?.blockOf(space)) applyBlockedSpaces++;
  }
  const spacesFollowed = spaces.spaces.length - spacesLed;
  return { spacesLed, spacesFollowed, damagedSpaces, applyBlockedSpaces };
}

function replicaFacts({ spaces, replication }: MetricParts): ReplicaFacts[] {
  const links = replication.monitor.links();
  return replication.shippers.map((shipper, i) => {
    const link = links[i]!;
    const id = shipper.replica.nodeId;
    let slotsLost = 0;
    for (const slot of shipper.slots) {
      if (spaces.bySlot[slot]!.facts.slots.get(id)?.lost) slotsLost++;
    }
    return {
      replicaId: id,
      state: link.state,
      isConnected: shipper.isConnected,
      wasConnected: shipper.link.lastSuccess !== undefined,
      consecutiveFailures: link.consecutiveFailures,
      checksumFailures: link.checksumFailures,
      threadDeaths: shipper.deaths,
      streams: shipper.progress.streams,
      lastReceivedAgeMs: link.lastReceivedAgeMs,
      behindBytes: link.catchUp.behindBytes,
      entriesPerSecond: link.throughput.entriesPerSecond,
      slotsLost,
    };
  });
}

/** Which words there are: the same object as long as nothing has been added or removed. */
export class MetricPlacesOf {
  readonly #spaces: SpaceTable;
  readonly #replication: Replication;
  #shippers: readonly ShipperHandle[] | undefined;
  #places: MetricPlaces = { replicas: [], spaceNames: [] };

  constructor(spaces: SpaceTable, replication: Replication) {
    this.#spaces = spaces;
    this.#replication = replication;
  }

  get now(): MetricPlaces {
    const { shippers } = this.#replication;
    const { bySlot } = this.#spaces;
    if (shippers === this.#shippers && bySlot.length === this.#places.spaceNames.length) {
      return this.#places;
    }
    this.#shippers = shippers;
    this.#places = {
      spaceNames: bySlot.map((space) => space.facts.name),
      replicas: shippers.map(({ replica, counters, watch }) => ({
        replicaId: replica.nodeId,
        counters,
        pairs: watch.pairs.buffer,
      })),
    };
    return this.#places;
  }
}
