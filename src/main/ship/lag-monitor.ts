/**
 * The lag monitor: every `lagPollMs` it looks at each (space, replica) that this node ships, from
 * shared words and what main has noted at publication; whoever asks in between is told as of now.
 * shared/link (lag.ts, pair-watch.ts) decides; here it is measured, and changes become events.
 */

import { SPACES_A_TURN } from '../../shared/limits.js';
import { lagOf, type ReplicaStatus } from '../../shared/link/lag.js';
import {
  LAG_ALERTS,
  PAIR_STATES,
  STAGES,
  STATUSES,
  type WatchedLink,
  type WatchedPair,
  type WatchLimits,
} from '../../shared/link/pair-watch.js';
import type { SlotState } from '../../shared/log/slot.js';
import { CounterWords } from '../../shared/memory/counter-words.js';
import { SHIPPER_COUNTER } from '../../shared/memory/metric-words.js';
import { PAIR } from '../../shared/memory/pair-rows.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import type { Lsn, Sequence } from '../../shared/position.js';
import type { SpaceState, SpaceTable } from '../log/space-table.js';
import type { LookedUp } from '../read/reader.js';
import { nextTurn, Turns } from '../runtime/turns.js';
import type { SupplyStatus } from '../snapshot/supply.js';
import { type BacklogReader, Backlogs } from './backlogs.js';
import { LagChanges, type LagHooks } from './lag-changes.js';
import type { ShipperHandle } from './shipper-handle.js';
import type { ReplicaLinkStatus, SpaceReplicaStatus } from './status.js';

/** What a replica has flushed, and the log's end, at a tick; and how fast they moved up to it. */
interface Pace {
  atMs: number;
  entries: number;
  bytes: number;
  durableLsn: Lsn;
  entriesPerSecond: number;
  bytesPerSecond: number;
  logBytesPerSecond: number;
}

/** One replica of one space, in few words; used again for the next. */
export interface PairGlance {
  replicaId: string;
  status: ReplicaStatus;
  /** NaN: unknown. */
  lagMs: number;
  lagEntries: number;
  lagBytes: number;
  acked: Sequence;
}

/** What a space may keep of times that nobody asks for: a kilobyte. */
const ROWS_LEFT = 32;

export class LagMonitor {
  readonly #memory: NodeMemory;
  readonly #spaces: SpaceTable;
  readonly #shippers: () => readonly ShipperHandle[];
  readonly #changes: LagChanges;
  readonly #backlogs: Backlogs;
  readonly #paces = new Map<ShipperHandle, Pace>();
  readonly #timer: NodeJS.Timeout;
  #flush: NodeJS.Immediate | undefined;
  #ticking: Promise<void> | undefined;
  #isClosed = false;

  constructor(
    limits: WatchLimits,
    memory: NodeMemory,
    spaces: SpaceTable,
    shippers: () => readonly ShipperHandle[],
    reader: BacklogReader,
    hooks: LagHooks,
  ) {
    this.#memory = memory;
    this.#spaces = spaces;
    this.#shippers = shippers;
    this.#backlogs = new Backlogs(reader, memory.durableLsn);
    this.#changes = new LagChanges(hooks);
    this.#timer = setInterval(() => void this.tick(), limits.lagPollMs);
    this.#timer.unref();
  }

  /** Looks at every pair, measures paces, and tells what has changed; one pass at a time. */
  tick(): Promise<void> {
    this.#ticking ??= this.#tick().finally(() => {
      this.#ticking = undefined;
    });
    return this.#ticking;
  }

  async #tick(): Promise<void> {
    await this.look();
    if (this.#isClosed) return;
    const nowMs = performance.now();
    for (const shipper of this.#shippers()) this.#measurePace(shipper, nowMs);
    for (const shipper of this.#paces.keys()) {
      if (!this.#shippers().includes(shipper)) this.#forget(shipper);
    }
    this.#changes.tell();
    await this.#forgetTimes();
    await this.#backlogs.refresh((shipper, { slot, facts }) =>
      shipper.flushedOf(slot, facts.epoch),
    );
  }

  /** What every replica has flushed nobody asks for any more. */
  async #forgetTimes(): Promise<void> {
    const { bySlot } = this.#spaces;
    for (let at = 0; at < bySlot.length; at++) {
      if (at % SPACES_A_TURN === SPACES_A_TURN - 1) await nextTurn();
      const { slot, facts, times } = bySlot[at]!;
      if (times.rows <= ROWS_LEFT) continue;
      let least = this.#memory.durable(slot);
      for (const shipper of this.#shippers()) {
        if (!shipper.watch.pairs.isFollowed(slot)) continue;
        least = Math.min(least, shipper.flushedOf(slot, facts.epoch));
      }
      times.forget(least);
    }
  }

  /** Brings every row up to now, so many in a turn. */
  async look(): Promise<void> {
    const turns = new Turns();
    for (const shipper of this.#shippers()) {
      let link = linkOf(shipper);
      let nowMs = performance.now();
      for (const slot of shipper.slots) {
        if (turns.isOver) {
          await turns.next();
          if (this.#isClosed || !this.#shippers().includes(shipper)) break;
          link = linkOf(shipper);
          nowMs = performance.now();
        }
        turns.spaces--;
        this.#lookAt(shipper, slot, link, nowMs);
      }
    }
  }

  #lookAt(shipper: ShipperHandle, slot: number, link: WatchedLink, nowMs: number): WatchedPair {
    const { watch, progress } = shipper;
    const space = this.#spaces.bySlot[slot]!;
    const durable = this.#memory.durable(slot);
    const flushed = shipper.flushedOf(slot, space.facts.epoch);
    let known = flushed;
    let isSlotLost = false;
    if (durable > flushed || !link.isOpen) {
      const slotFacts = space.facts.slots.get(shipper.replica.nodeId);
      isSlotLost = slotFacts?.lost ?? false;
      // It has not spoken since this node was opened; before, it had flushed so much.
      if (!link.wasConnected) known = Math.max(flushed, slotFacts?.flushed ?? 0);
    }
    const pair = { durable, flushed, isSlotLost };
    const backlog = this.#backlogs.of(shipper, space, known);
    const lag = lagOf(space.times, durable, known, backlog, link.wasConnected, nowMs);
    if (watch.look(slot, link, pair, progress, lag, nowMs)) {
      this.#changes.add(shipper, space);
      // Whoever asked has the new word already; the event follows in the next turn.
      this.#flush ??= setImmediate(() => {
        this.#flush = undefined;
        this.#changes.tell();
      });
    }
    return pair;
  }

  /** A replica's position was compared, and what follows it was looked up. */
  met(shipper: ShipperHandle, space: SpaceState, flushed: Sequence, found: LookedUp): void {
    this.#backlogs.met(shipper, space, flushed, found);
  }

  #forget(shipper: ShipperHandle): void {
    this.#paces.delete(shipper);
    this.#backlogs.forget(shipper);
  }

  #measurePace(shipper: ShipperHandle, nowMs: number): void {
    const words = new CounterWords(shipper.counters);
    const entries = words.value(SHIPPER_COUNTER.entriesAcked);
    const bytes = words.value(SHIPPER_COUNTER.bytesSent);
    const { durableLsn } = this.#memory;
    const before = this.#paces.get(shipper);
    const perSecond = before ? 1_000 / Math.max(1, nowMs - before.atMs) : 0;
    this.#paces.set(shipper, {
      atMs: nowMs,
      entries,
      bytes,
      durableLsn,
      entriesPerSecond: perSecond * (entries - (before?.entries ?? 0)),
      bytesPerSecond: perSecond * (bytes - (before?.bytes ?? 0)),
      logBytesPerSecond: perSecond * (durableLsn - (before?.durableLsn ?? 0)),
    });
  }

  // --- status ------------------------------------------------------------------------------

  /** The links, with what is left of catch-up. */
  links(): ReplicaLinkStatus[] {
    const nowMs = performance.now();
    return this.#shippers().map((shipper) => {
      const { replica, link, progress, isConnected } = shipper;
      const pace = this.#paces.get(shipper);
      const bytesPerSecond = isConnected ? progress.bytesPerSecond : 0;
      const behindBytes = Math.max(0, this.#memory.durableLsn - progress.cursor);
      // What is appended meanwhile has to be caught up with as well.
      const closing = bytesPerSecond - (pace?.logBytesPerSecond ?? 0);
      const eta = closing > 0 ? (1_000 * behindBytes) / closing : 'unknown';
      return {
        replicaId: replica.nodeId,
        directoryId: link.directoryId,
        version: link.version,
        address: { host: replica.host, port: replica.port },
        state: link.state,
        reason: link.reason,
        since: nowMs - link.sinceMs,
        fatal: link.fatal,
        consecutiveFailures: link.failures,
        checksumFailures: link.checksumFailures,
        traffic: link.traffic,
        lastReceivedAgeMs: progress.heardMs > 0 ? Math.max(0, nowMs - progress.heardMs) : undefined,
        throughput: {
          entriesPerSecond: pace?.entriesPerSecond ?? 0,
          bytesPerSecond: pace?.bytesPerSecond ?? 0,
        },
        catchUp: {
          behindBytes,
          bytesPerSecond,
          etaMs: behindBytes === 0 ? 0 : eta,
        },
      };
    });
  }

  /** The figures of a pair that a list of very many has room for, as of now: into `pair`. */
  glance(space: SpaceState, shipper: ShipperHandle, nowMs: number, pair: PairGlance): void {
    const { slot } = space;
    const { flushed } = this.#lookAt(shipper, slot, linkOf(shipper), nowMs);
    const { pairs } = shipper.watch;
    pair.replicaId = shipper.replica.nodeId;
    pair.status = STATUSES[pairs.get(slot, PAIR.status)]!;
    pair.lagMs = pairs.get(slot, PAIR.lagMs);
    pair.lagEntries = pairs.get(slot, PAIR.lagEntries);
    pair.lagBytes = pairs.get(slot, PAIR.lagBytes);
    pair.acked = flushed;
  }

  /**
   * All figures of a pair, as of now, in one object: what is spread into another one costs more
   * than all that is looked up for it.
   * @param kept how safe what it lacks is @param snapshot how far the one that it gets has come
   */
  statusOf(
    space: SpaceState,
    shipper: ShipperHandle,
    nowMs: number,
    kept: SlotState,
    snapshot: SupplyStatus | undefined,
  ): SpaceReplicaStatus {
    const { slot } = space;
    const { link, watch } = shipper;
    const { sent, received: told, applied } = shipper.progressOf(slot, space.facts.epoch);
    const { durable, flushed } = this.#lookAt(shipper, slot, linkOf(shipper), nowMs);
    const field = (of: (typeof PAIR)[keyof typeof PAIR]): number => watch.pairs.get(slot, of);
    const lagMs = field(PAIR.lagMs);
    const state = PAIR_STATES[field(PAIR.state)]!;
    const stage = STAGES[field(PAIR.stage)]!;
    const received = Math.max(flushed, told);
    return {
      replicaId: shipper.replica.nodeId,
      sentSequence: sent,
      receivedSequence: received,
      ackedSequence: flushed,
      appliedSequence: applied,
      lagEntries: field(PAIR.lagEntries),
      lagBytes: field(PAIR.lagBytes),
      lagMs: Number.isNaN(lagMs) ? 'unknown' : lagMs,
      consecutiveFailures: link.failures,
      lastSuccess: link.lastSuccess,
      status: STATUSES[field(PAIR.status)]!,
      alert: LAG_ALERTS[field(PAIR.alert)]!,
      stalledAt: stage === 'none' ? undefined : stage,
      slot: kept,
      state,
      reason: reasonOf(state, stage, link.reason, durable, sent, received, flushed),
      since: nowMs - (state === link.state ? link.sinceMs : field(PAIR.stateSinceMs)),
      snapshot,
    };
  }

  close(): void {
    this.#isClosed = true;
    clearInterval(this.#timer);
    clearImmediate(this.#flush);
  }
}

function linkOf({ link, isConnected, progress }: ShipperHandle): WatchedLink {
  return {
    state: link.state,
    isOpen: isConnected,
    wasConnected: link.lastSuccess !== undefined,
    failures: link.failures,
    isFatal: link.fatal !== undefined,
    sinceMs: link.sinceMs,
    openSinceMs: link.openSinceMs,
    heardMs: progress.heardMs,
  };
}

/** The named state in a sentence. */
function reasonOf(
  state: (typeof PAIR_STATES)[number],
  stage: (typeof STAGES)[number],
  link: string,
  durable: Sequence,
  sent: Sequence,
  received: Sequence,
  flushed: Sequence,
): string {
  switch (state) {
    case 'slot-lost':
      return `the log no longer keeps what it lacks from entry ${flushed + 1} on; link: ${link}`;
    case 'snapshotting':
      return 'it gets a snapshot: what it lacks is no longer in the log';
    case 'silent':
      return 'the link counts as open, and nothing is received on it';
    case 'stalled':
      if (stage === 'flush') {
        return `flush: ${received} is received there, ${flushed} flushed; its disk does not answer`;
      }
      if (stage === 'receive') return `receive: ${sent} is sent, it has received ${received}`;
      if (stage === 'introduce') return 'introduce: its position is not compared yet';
      return `send: ${durable} is durable, ${sent} is sent; nothing more goes out`;
    case 'rewind-needed':
    case 'snapshot-needed':
    case 'fenced':
    case 'forked':
    case 'regressed':
      return REFUSED[state];
    case 'streaming':
      return durable > flushed ? `${durable - flushed} entries are on their way` : 'caught up';
    default:
      return link;
  }
}

const REFUSED = {
  'rewind-needed': 'it has entries that are not in our history, and must take them back',
  'snapshot-needed': 'what it lacks is no longer in the log: it needs a snapshot',
  fenced: 'it has seen a higher epoch of the space: this node leads it no more',
  forked: 'its last entry differs from ours of the same epoch and sequence',
  regressed: 'it has more of the space than this node, in this node’s own epoch',
} as const;
