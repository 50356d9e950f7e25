/**
 * What metrics are made of, as whoever formats them sees it: the shared words, and the rare facts
 * that main tells with each scrape.
 */
import type { LinkState } from '../link/control.js';
import type { RefusalCount } from '../link/refusal.js';
import { CounterWords } from '../memory/counter-words.js';
import { PairRows } from '../memory/pair-rows.js';
import { shownAsLabel } from '../shown.js';

/** The link to one replica, as main knows it. */
export interface ReplicaFacts {
  readonly replicaId: string;
  readonly state: LinkState;
  readonly isConnected: boolean;
  readonly wasConnected: boolean;
  readonly consecutiveFailures: number;
  readonly checksumFailures: number;
  readonly threadDeaths: number;
  /** Spaces that are streamed on the link. */
  readonly streams: number;
  /** Since the last byte heard from it, ms; undefined: never. */
  readonly lastReceivedAgeMs: number | undefined;
  readonly behindBytes: number;
  readonly entriesPerSecond: number;
  readonly slotsLost: number;
  /** Spaces of which it does not take what is appended, and too few others do. */
  readonly bareSpaces: number;
}

/** A primary that has been connected to this node. */
export interface PrimaryFacts {
  readonly primaryId: string;
  readonly isConnected: boolean;
  readonly isStalled: boolean;
  readonly bytesReceived: number;
  readonly bytesSent: number;
}

/** What a node shows others, with TLS. */
export interface CertificateFacts {
  readonly certificate: 'node' | 'ca';
  readonly daysLeft: number;
  readonly lifetimeDays: number;
}

export interface MetricFacts {
  /** Connections that were not let in, by where, why and from where. */
  readonly refused: readonly Omit<RefusalCount, 'agoMs'>[];
  readonly nodeId: string;
  readonly clusterId: string;
  readonly logState: string;
  readonly segments: number;
  readonly spareSegments: number;
  readonly recycledSegments: number;
  readonly retainedBytes: number;
  readonly hostBytes: number;
  readonly isRetentionFull: boolean;
  /** undefined: the file system does not say. */
  readonly diskRoom:
    | { readonly freeBytes: number; readonly fullInMs: number | undefined }
    | undefined;
  /** Since the last backup was complete, ms; undefined: none is known of. */
  readonly backupAgeMs: number | undefined;
  /** undefined: the static one. */
  readonly coordinator:
    | {
        readonly kind: string;
        readonly connected: boolean;
        readonly lease: { readonly held: boolean; readonly leftMs: number };
      }
    | undefined;
  readonly leaderlessSpaces: number;
  readonly tornTails: number;
  readonly corruptRanges: number;
  readonly slabs: number;
  readonly slabsInUse: number;
  readonly waitingAppends: number;
  readonly spacesLed: number;
  readonly spacesFollowed: number;
  readonly damagedSpaces: number;
  readonly applyBlockedSpaces: number;
  readonly events: readonly (readonly [string, number])[];
  readonly droppedLines: number;
  readonly certificates: readonly CertificateFacts[];
  readonly credentialsRefused: boolean;
  readonly replicas: readonly ReplicaFacts[];
  readonly primaries: readonly PrimaryFacts[];
}

/** The words of one replica. */
export interface ReplicaWords {
  readonly replicaId: string;
  readonly counters: SharedArrayBuffer;
  readonly pairs: SharedArrayBuffer;
}

/** What changes seldom: told anew when it has. */
export interface MetricPlaces {
  readonly replicas: readonly ReplicaWords[];
  /** By slot; slot 0 is the node's own and has none. */
  readonly spaceNames: readonly string[];
}

/** What the thread that formats is started with. */
export interface FormatterStart {
  readonly prefix: string;
  readonly counters: SharedArrayBuffer;
}

export interface ScrapeAsked {
  readonly facts: MetricFacts;
  /** undefined: as the last time. */
  readonly places: MetricPlaces | undefined;
}

/** The next piece of the text, that it was the last one, or why there is none. */
export type ScrapeAnswer =
  | { readonly piece: Uint8Array }
  | { readonly contentType: string }
  | { readonly failed: string };

export interface ReplicaView {
  readonly facts: ReplicaFacts;
  readonly counters: CounterWords;
  readonly pairs: PairRows;
  /** The labels of each pair by slot: one object for all metrics of it. */
  readonly pairLabels: (Readonly<Record<string, string>> | undefined)[];
}

export class MetricView {
  readonly counters: CounterWords;
  facts!: MetricFacts;
  replicas: readonly ReplicaView[] = [];
  spaceNames: readonly string[] = [];
  #places: MetricPlaces = { replicas: [], spaceNames: [] };
  #known = new Map<SharedArrayBuffer, Omit<ReplicaView, 'facts'>>();

  constructor(counters: SharedArrayBuffer) {
    this.counters = new CounterWords(counters);
  }

  /** Names become labels here, and nowhere else. */
  update({ facts, places }: ScrapeAsked): void {
    const { nodeId, clusterId, replicas, primaries } = facts;
    this.facts = {
      ...facts,
      nodeId: shownAsLabel(nodeId),
      clusterId: shownAsLabel(clusterId),
      replicas: replicas.map((r) => ({ ...r, replicaId: shownAsLabel(r.replicaId) })),
      primaries: primaries.map((p) => ({ ...p, primaryId: shownAsLabel(p.primaryId) })),
    };
    if (places) this.#move(places);
    this.replicas = this.#places.replicas.flatMap(({ replicaId, counters }) => {
      const own = this.facts.replicas.find((r) => r.replicaId === replicaId);
      return own ? [{ facts: own, ...this.#known.get(counters)! }] : [];
    });
  }

  #move(places: MetricPlaces): void {
    const replicas = places.replicas.map((r) => ({ ...r, replicaId: shownAsLabel(r.replicaId) }));
    this.spaceNames = places.spaceNames.map(shownAsLabel);
    this.#places = { replicas, spaceNames: this.spaceNames };
    const known = this.#known;
    this.#known = new Map();
    for (const { counters, pairs } of places.replicas) {
      const words = known.get(counters) ?? {
        counters: new CounterWords(counters),
        pairs: new PairRows(pairs),
        pairLabels: [],
      };
      this.#known.set(counters, words);
    }
  }

  /** The pairs of one replica that are in force. */
  *pairsOf(replica: ReplicaView): Generator<{ slot: number; labels: Record<string, string> }> {
    const { pairs, pairLabels } = replica;
    const replica_id = replica.facts.replicaId;
    const primary_id = this.facts.nodeId;
    for (let slot = 1; slot < this.spaceNames.length; slot++) {
      if (!pairs.isFollowed(slot)) continue;
      const memory_space = this.spaceNames[slot]!;
      pairLabels[slot] ??= { memory_space, replica_id, primary_id };
      yield { slot, labels: pairLabels[slot]! };
    }
  }
}
