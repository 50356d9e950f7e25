/** A node as it is seen from outside: figures, metrics, what answers over HTTP. */

import { CounterWords, readHistogram } from '../../shared/memory/counter-words.js';
import { FSYNC_MS, NODE_COUNTER } from '../../shared/memory/metric-words.js';
import type { Glance } from '../../shared/wire/peer-frames.js';
import { knownMembers } from '../lead/members/known-members.js';
import type { NodeConfig } from '../options/options.js';
import type { PeerIdentity } from '../peer/client.js';
import { MemberCalls } from '../peer/member-calls.js';
import type { Openings } from '../recovery/openings.js';
import type { CredentialStore } from '../runtime/credentials.js';
import { inTurn } from '../runtime/in-order.js';
import { requirePackage } from '../runtime/packages.js';
import type { Refusals } from '../runtime/refusals.js';
import type { PairGlance } from '../ship/lag-monitor.js';
import type { NodeEmitter } from '../tell/emitter.js';
import type { NodeEventName, NodeEvents } from '../tell/events.js';
import type { RecentEvent } from '../tell/logger.js';
import type { Cluster } from '../watch/cluster/cluster.js';
import { DiskRoom } from '../watch/health/disk-room.js';
import type { HttpSurface } from '../watch/http-server.js';
import type { MetricParts } from '../watch/metric-facts.js';
import { Metrics, type Scrape, type ScrapePieces } from '../watch/metrics.js';
import type { Pulse, SeenNode } from '../watch/seen-node.js';
import type { NodeSummary, SpaceGlance } from '../watch/status.js';
import { StatusBoard } from '../watch/status-board.js';
import type { FollowPart } from './follow-part.js';
import type { LeadPart } from './lead-part.js';
import type { LogPart } from './log-part.js';
import type { ShipPart } from './ship-part.js';
import { glanceAt, type Space } from './space.js';
import type { SpaceHandles } from './space-handles.js';
import { type SummaryParts, summaryOf } from './summary.js';

export interface WatchGiven {
  readonly config: NodeConfig;
  readonly own: PeerIdentity;
  readonly log: LogPart;
  readonly ship: ShipPart;
  readonly follow: FollowPart;
  readonly lead: LeadPart;
  readonly handles: SpaceHandles;
  readonly refusals: Refusals;
  /** How often this directory was opened and not closed. */
  readonly openings: Openings;
  readonly credentials: CredentialStore;
  readonly stop: AbortSignal;
  readonly emitter: NodeEmitter;
}

/** How often a node looks how much room its disk has, where nobody asks. */
const ROOM_LOOK_MS = 60_000;

export class WatchPart implements SeenNode {
  readonly #given: WatchGiven;
  /** What status and metrics are made of: put together once, for status is asked for often. */
  readonly #seen: MetricParts & SummaryParts;
  readonly #metrics: Metrics;
  readonly #counts: CounterWords;
  readonly #room: DiskRoom;
  readonly #roomTimer: NodeJS.Timeout;
  /** undefined: nothing answers over HTTP. */
  #http: HttpSurface | undefined;
  readonly #openedMs = performance.now();
  /** undefined: nobody has looked yet. */
  #looked: StatusBoard | undefined;
  /** undefined: nobody operates it through a socket. */
  #admin: { close(): Promise<void> } | undefined;

  constructor(given: WatchGiven) {
    this.#given = given;
    this.#room = new DiskRoom(
      () => given.log.disk.freeBytes(given.log.dir),
      (room, todo) => given.emitter.emit('disk-room', { ...room, todo }),
    );
    // Whoever watches nothing hears of a full disk in time, too.
    this.#roomTimer = setInterval(() => void this.#room.look(), ROOM_LOOK_MS);
    this.#roomTimer.unref();
    this.#counts = new CounterWords(given.log.counts.buffer);
    this.#seen = this.#parts();
    this.#metrics = new Metrics(this.#seen, given.log.counts.buffer);
  }

  /** Loaded only where it is asked for: most hosts need no server. */
  async answerOverHttp(): Promise<void> {
    const { http, metricsRegistry, lagAlertThresholdMs } = this.#given.config;
    if (!http) return;
    requirePackage('preact', 'http');
    if (!metricsRegistry) requirePackage('prom-client', 'http');
    const { openHttp } = await import('../watch/http-server.js');
    const shown = { node: this, board: this.#board, cluster: await this.#cluster() };
    this.#http = await openHttp(shown, http, lagAlertThresholdMs, this.#given.refusals);
  }

  /** From the first look on. */
  get #board(): StatusBoard {
    this.#looked ??= new StatusBoard(this, this.#openedMs);
    return this.#looked;
  }

  async #cluster(): Promise<Cluster> {
    const { Cluster } = await import('../watch/cluster/cluster.js');
    const { pageOf } = await import('../watch/cluster/glance.js');
    const { config, lead, log } = this.#given;
    return new Cluster({
      nodeId: config.nodeId,
      board: this.#board,
      peers: lead.peers,
      calls: new MemberCalls(lead.peers),
      page: () => pageOf(config.http, this.#http?.address),
      summary: () => this.summary(),
      members: () => knownMembers(config.nodeId, lead.leadership.known(), log.spaces.spaces),
      space: (name) => {
        const space = log.spaces.byName(name);
        return space && this.#given.handles.of(space);
      },
    });
  }

  /** What other members are told. */
  async glanceOfNode(): Promise<Glance> {
    const { glanceOf, pageOf } = await import('../watch/cluster/glance.js');
    const board = this.#board;
    const snapshot = await board.fresh();
    const page = pageOf(this.#given.config.http, this.#http?.address);
    return glanceOf(snapshot, board.uptimeMs, page);
  }

  /** The last step of opening: from now on the node can be operated. */
  async operatedBy(admin: Promise<{ close(): Promise<void> }>): Promise<void> {
    this.#admin = await admin;
  }

  get http(): HttpSurface | undefined {
    return this.#http;
  }

  #parts(): MetricParts & SummaryParts {
    const { config, own, log, ship, follow, lead, credentials, refusals, emitter } = this.#given;
    const { openings } = this.#given;
    const { memory, spaces, segments, damage, writer, reader, wal, retention } = log;
    return {
      ...{ config, memory, spaces, segments, damage, writer, reader, wal, retention },
      // Another one, where the members have got more of this node than it has.
      get directoryId() {
        return own.directoryId;
      },
      credentials,
      // Known once it listens.
      get address() {
        return follow.address;
      },
      replication: ship.replication,
      applier: follow.applier,
      primaries: follow.primaries,
      coordinator: lead.leadership.coordinated.seen,
      room: this.#room,
      lastBackupMs: () => log.backups.lastMs(),
      refusals,
      openings,
      ...emitter.told,
    };
  }

  get isClosing(): boolean {
    return this.#given.stop.aborted;
  }

  get spaces(): readonly Space[] {
    const { log, handles } = this.#given;
    return log.spaces.spaces.map((space) => handles.of(space));
  }

  get recentEvents(): readonly RecentEvent[] {
    return this.#given.emitter.recentEvents;
  }

  on<K extends NodeEventName>(name: K, listener: (event: NodeEvents[K]) => void): this {
    this.#given.emitter.on(name, listener);
    return this;
  }

  glance(name: string, pair: PairGlance, each: () => void): SpaceGlance {
    const { log, handles } = this.#given;
    return glanceAt(handles.of(log.spaces.byName(name)!), pair, each);
  }

  pulse(): Pulse {
    const counts = this.#counts;
    return {
      entries: counts.value(NODE_COUNTER.writes),
      bytes: counts.value(NODE_COUNTER.bytesWritten),
      fsyncs: readHistogram(counts, FSYNC_MS),
      diskFreeBytes: this.#room.status?.freeBytes ?? Number.NaN,
    };
  }

  lookAtDisk(): Promise<void> {
    return this.#room.look();
  }

  summary(): NodeSummary {
    return summaryOf(this.#seen);
  }

  scrape(): Promise<ScrapePieces> {
    return this.#metrics.scrape();
  }

  metrics(): Promise<Scrape> {
    return this.#metrics.text();
  }

  /** Nobody operates it any more; it answers to the end. */
  async rest(): Promise<void> {
    await this.#admin?.close();
  }

  async close(): Promise<void> {
    clearInterval(this.#roomTimer);
    const board = async (): Promise<void> => this.#looked?.close();
    await inTurn([() => this.#metrics.close(), () => this.#http?.close(), board]);
  }
}
