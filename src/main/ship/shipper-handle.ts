/** Starts one shipper thread, watches it, starts it again when it dies, and passes messages. */

import { CLOSE_DEADLINE_MS, SPACES_A_TURN } from '../../shared/limits.js';
import type {
  AskedSpace,
  FromShipper,
  LinkReport,
  LinkState,
  SegmentPlace,
  ShipperStart,
  ToShipper,
  Traffic,
} from '../../shared/link/control.js';
import type { PairWatch } from '../../shared/link/pair-watch.js';
import { packShipped, type ShippedSpace } from '../../shared/link/shipped-rows.js';
import type { Member } from '../../shared/log/node-record.js';
import type { SpaceFacts } from '../../shared/log/space-facts.js';
import { rowsKept } from '../../shared/members/members.js';
import { rowsToTell } from '../../shared/members/rows.js';
import { ReplicaProgress } from '../../shared/memory/progress.js';
import { idOf } from '../../shared/names.js';
import type { Sequence } from '../../shared/position.js';
import type { Credentials } from '../../shared/wire/tls/certificates.js';
import type { SpaceState } from '../log/space-table.js';
import { pause } from '../runtime/deadline.js';
import type { ShipperThread, ShipperThreads } from '../runtime/machine.js';
import type { Segment } from '../segments/segments.js';
import type { ShipConfig } from './options.js';

const RESTART_MS = 1_000;
/** For so long a link that has failed is hoped for, where there is a new reason to dial it. */
const LINK_HOPE_MS = 2_000;
/** Its thread is told that it was met once in this time. */
const MET_TOLD_MS = 100;
/** A thread without a space to ship is kept for so long. */
const REST_AFTER_MS = 60_000;
/** So many deaths within a minute, and the thread counts as broken (row 76). */
const DEATHS_TO_FAIL = 3;
const DEATHS_WITHIN_MS = 60_000;

export interface ShipperHooks {
  message(shipper: ShipperHandle, message: FromShipper): void;
  lost(shipper: ShipperHandle, reason: string): void;
}

/** The link as main last heard of it. */
export interface LinkStatus {
  state: LinkState;
  reason: string;
  failures: number;
  fatal: string | undefined;
  checksumFailures: number;
  /** Of the newest connection; undefined where the replica speaks version 1, or never spoke. */
  directoryId: string | undefined;
  /** Of the protocol, as agreed on last; 0: never. */
  version: number;
  /** As of the last second. */
  traffic: Traffic;
  /** Monotonic ms. */
  sinceMs: number;
  /** When it was opened last, monotonic ms; 0: never. */
  openSinceMs: number;
  /** Wall clock, ms; undefined before the first connection. */
  lastSuccess: number | undefined;
}

/** How far one space has come on one replica. */
export interface SpaceProgress {
  readonly sent: Sequence;
  readonly received: Sequence;
  readonly flushed: Sequence;
  readonly applied: Sequence;
}

const NOTHING: SpaceProgress = { sent: 0, received: 0, flushed: 0, applied: 0 };

export class ShipperHandle {
  readonly replica: Member;
  readonly progress: ReplicaProgress;
  /** Added to by the thread, for metrics. */
  readonly counters: SharedArrayBuffer;
  /** How the replica fares in each space. */
  readonly watch: PairWatch;
  /** How often its thread has died. */
  deaths = 0;
  readonly link: LinkStatus = {
    state: 'waiting',
    reason: 'nothing is shipped there',
    failures: 0,
    fatal: undefined,
    checksumFailures: 0,
    directoryId: undefined,
    version: 0,
    traffic: { compression: 'none', rawBytes: 0, sentBytes: 0 },
    sinceMs: performance.now(),
    openSinceMs: 0,
    lastSuccess: undefined,
  };
  readonly #threads: ShipperThreads;
  #start: Omit<ShipperStart, 'life'>;
  #lives = 0;
  readonly #hooks: ShipperHooks;
  readonly #spaces = new Map<number, ShippedSpace>();
  /** Of them, those that its thread is told of at the end of this turn. */
  readonly #news = new Map<number, ShippedSpace>();
  /** Of which its thread asks at the end of this turn. */
  readonly #asked: AskedSpace[] = [];
  #telling: NodeJS.Immediate | undefined;
  /** When the last question was put that nobody answered in time, monotonic ms; 0: none was. */
  #unansweredMs = 0;
  readonly #firstWord: Promise<void>;
  #firstWordHeard: () => void = () => undefined;
  #thread: ShipperThread | undefined;
  #ended: Promise<void> = Promise.resolve();
  #closing = false;
  /** Nothing is shipped there any more: its thread is to end. */
  #isResting = false;
  #rest: NodeJS.Timeout | undefined;
  readonly #isEager: boolean;
  #deathsMs: number[] = [];
  /** Until when a failed link is hoped for, monotonic ms. */
  #hopeUntilMs = 0;
  #redial: Promise<void> | undefined;
  /** The life that was met last, while its thread is not told of it. */
  #met: bigint | undefined;
  #meeting: NodeJS.Timeout | undefined;
  #restart: NodeJS.Timeout | undefined;

  /** @param isEager it dials before there is anything to ship */
  constructor(
    threads: ShipperThreads,
    start: Omit<ShipperStart, 'life'>,
    isEager: boolean,
    watch: PairWatch,
    hooks: ShipperHooks,
  ) {
    this.#isEager = isEager;
    this.#threads = threads;
    this.counters = start.counters;
    this.watch = watch;
    this.replica = start.replica;
    this.#start = start;
    this.#hooks = hooks;
    this.progress = new ReplicaProgress(start.progress);
    this.#firstWord = new Promise((resolve) => {
      this.#firstWordHeard = resolve;
    });
    if (isEager) this.#run();
  }

  get isConnected(): boolean {
    return this.link.state === 'streaming' || this.link.state === 'catching-up';
  }

  /**
   * Spaces are streamed there, as its thread says in shared memory: acknowledgements are seen there
   * before its word of the link is read.
   */
  get isStreaming(): boolean {
    return this.progress.streams > 0;
  }

  /** A link may come soon: it is new here, was lost a moment ago, or has just been heard of. */
  get mayConnect(): boolean {
    const { state, failures, fatal } = this.link;
    if (fatal !== undefined) return false;
    const isFailed = state === 'failed' || failures >= this.#start.maxRetries;
    return !isFailed || performance.now() < this.#hopeUntilMs;
  }

  /**
   * It lives, in this life: dialled at once, whatever backoff says. Who comes again and again does
   * not wake the thread each time.
   */
  met(incarnation: bigint): void {
    this.#hopeUntilMs = performance.now() + LINK_HOPE_MS;
    this.#met = incarnation;
    if (!this.#meeting) this.#tellMet();
  }

  #tellMet(): void {
    const incarnation = this.#met;
    this.#met = undefined;
    this.#meeting = undefined;
    if (incarnation === undefined || this.#closing) return;
    this.post({ kind: 'met', incarnation });
    this.#meeting = setTimeout(() => this.#tellMet(), MET_TOLD_MS);
    this.#meeting.unref();
  }

  /**
   * Somebody waits for its answer: dialled once more in `ms`, where it is away then.
   * @returns false where that would not help: a person has to mend it
   */
  async dialAgain(ms: number): Promise<boolean> {
    if (this.link.fatal !== undefined) return false;
    // One attempt for all who wait.
    this.#redial ??= pause(ms).then(() => {
      this.#redial = undefined;
      // A thread that has ended meanwhile for want of work is missed now; one that has not, stays.
      this.wake();
      this.#restLater();
      this.post({ kind: 'again' });
    });
    await this.#redial;
    return true;
  }

  /** Resolves when the first attempt to connect has succeeded or was refused. */
  get firstWord(): Promise<void> {
    return this.#firstWord;
  }

  /** The spaces that this replica follows. */
  get slots(): Iterable<number> {
    return this.#spaces.keys();
  }

  /** What the replica has of a space, as far as it was said in the epoch in which it is led now. */
  progressOf(slot: number, epoch: number): SpaceProgress {
    const { progress } = this;
    const seen = progress.epoch(slot);
    const found = {
      sent: progress.sent(slot),
      received: progress.received(slot),
      flushed: progress.flushed(slot),
      applied: progress.applied(slot),
    };
    // Read again: the row may have been begun anew meanwhile.
    return seen === epoch && progress.epoch(slot) === epoch ? found : NOTHING;
  }

  /** Of `progressOf`, for who asks often. */
  flushedOf(slot: number, epoch: number): Sequence {
    const { progress } = this;
    if (progress.epoch(slot) !== epoch) return 0;
    const flushed = progress.flushed(slot);
    return progress.epoch(slot) === epoch ? flushed : 0;
  }

  /** Whatever it has of the epoch, in which this node leads, it has from this very process. */
  isFromHere({ slot, openedIn }: SpaceState, epoch: number): boolean {
    return epoch > openedIn || this.progress.epoch(slot) === epoch;
  }

  /** From now on this replica is introduced to the spaces; a known one is told anew. */
  addSpaces(spaces: readonly ShippedSpace[]): void {
    if (spaces.length === 0) return;
    // It is dialled for them, however often that was in vain.
    this.#hopeUntilMs = performance.now() + LINK_HOPE_MS;
    for (const space of spaces) {
      this.#spaces.set(space.slot, space);
      this.#news.set(space.slot, space);
      this.watch.follow(space.slot, true);
    }
    if (!this.#thread) this.wake();
    // Spaces that come in one turn are introduced together.
    this.#telling ??= setImmediate(() => this.#tellNews());
  }

  /** Whether its replica knows a space; what one turn asks goes together. */
  ask(id: string, name: string): void {
    this.#asked.push({ id, name });
    // A thread that is about to end for want of work waits for the answer.
    this.#restLater();
    this.#telling ??= setImmediate(() => this.#tellNews());
  }

  #tellNews(): void {
    clearImmediate(this.#telling);
    this.#telling = undefined;
    // The next thread asks, and is told of the spaces.
    if (this.#isResting) return;
    if (this.#asked.length > 0) this.post({ kind: 'ask', spaces: this.#asked.splice(0) });
    if (this.#news.size === 0) return;
    const spaces: ShippedSpace[] = [];
    for (const space of this.#news.values()) {
      if (spaces.push(space) === SPACES_A_TURN) break;
    }
    for (const { slot } of spaces) this.#news.delete(slot);
    this.post({ kind: 'spaces', spaces: packShipped(spaces) });
    // Its thread, and its replica, begin with these meanwhile.
    if (this.#news.size > 0) this.#telling = setImmediate(() => this.#tellNews());
  }

  /** A question that was put at `askedMs` was waited for in vain. */
  unanswered(askedMs: number): void {
    this.#unansweredMs = Math.max(this.#unansweredMs, askedMs);
  }

  /** What it dials with from now on; at once, where it was refused with what it had. */
  renew(credentials: Credentials): void {
    this.#start = { ...this.#start, credentials };
    this.post({ kind: 'credentials', credentials });
    if (this.link.fatal === 'AuthFailed') this.post({ kind: 'retry' });
  }

  /** Nothing has come from it since a question was put that it has not answered. */
  get isSilent(): boolean {
    return this.#unansweredMs > 0 && this.progress.heardMs <= this.#unansweredMs;
  }

  /** Starts the thread, if it does not run and is not about to. */
  wake(): void {
    if (!this.#closing && !this.#thread && !this.#restart) this.#run();
  }

  /** This replica follows the space no more. */
  removeSpace(slot: number): void {
    if (!this.#spaces.delete(slot)) return;
    this.#news.delete(slot);
    this.watch.follow(slot, false);
    this.post({ kind: 'leave', slot, isCut: false });
    this.#restLater();
  }

  /** Who leads its spaces now may hand them back soon. */
  #restLater(): void {
    if (this.#isEager || this.#spaces.size > 0) return;
    clearTimeout(this.#rest);
    this.#rest = setTimeout(() => this.#endIdle(), REST_AFTER_MS);
    this.#rest.unref();
  }

  #endIdle(): void {
    if (this.#spaces.size > 0 || !this.#thread || this.#isResting || this.#closing) return;
    this.#isResting = true;
    this.post({ kind: 'close' });
  }

  post(message: ToShipper): void {
    this.#thread?.post(message);
  }

  /** What answers the thread that lives now is for none that comes after it. */
  get reply(): (message: ToShipper) => void {
    const thread = this.#thread;
    return (message) => {
      if (thread === this.#thread) thread?.post(message);
    };
  }

  #run(): void {
    this.#ended = new Promise((ended) => {
      const start = { ...this.#start, life: ++this.#lives };
      this.#thread = this.#threads.startShipper(start, {
        message: (message) => this.#message(message),
        exit: (reason) => {
          this.#thread = undefined;
          // It can say so itself no more.
          this.progress.setStreams(0);
          ended();
          if (this.#closing) return;
          if (this.#isResting && reason === undefined) this.#rested();
          else this.#died(reason ?? 'it ended by itself');
        },
      });
    });
    this.#news.clear();
    this.post({ kind: 'spaces', spaces: packShipped([...this.#spaces.values()]) });
    this.#restLater();
  }

  #rested(): void {
    this.#isResting = false;
    const { failures, checksumFailures } = this.link;
    const reason = 'nothing is shipped there';
    this.#setLink({ state: 'waiting', reason, failures, fatal: undefined, checksumFailures });
    if (this.#spaces.size === 0 && this.#asked.length === 0) return;
    this.#run();
    this.#tellNews();
  }

  /** Started again: soon at first, slowly once it has died too often. */
  #died(why: string): void {
    this.deaths++;
    this.#isResting = false;
    const now = performance.now();
    this.#deathsMs = [...this.#deathsMs.filter((ms) => now - ms < DEATHS_WITHIN_MS), now];
    const isBroken = this.#deathsMs.length >= DEATHS_TO_FAIL;
    this.#setLink({
      state: isBroken ? 'failed' : 'waiting',
      reason: `the shipper thread died: ${why}`,
      failures: this.link.failures + 1,
      fatal: isBroken ? 'WorkerLost' : undefined,
      checksumFailures: this.link.checksumFailures,
    });
    this.#hooks.lost(this, why);
    const ms = isBroken ? DEATHS_WITHIN_MS : RESTART_MS;
    this.#restart = setTimeout(() => {
      this.#restart = undefined;
      this.#run();
    }, ms);
  }

  #message(message: FromShipper): void {
    if (message.kind === 'state') {
      this.#setLink(message);
      if (message.state !== 'connecting' && message.state !== 'handshake') this.#firstWordHeard();
    }
    if (message.kind === 'traffic') this.link.traffic = message.traffic;
    if (message.kind === 'welcomed') {
      const { version, directoryId } = message;
      Object.assign(this.link, { version, directoryId });
    }
    this.#hooks.message(this, message);
  }

  #setLink({ state, reason, failures, fatal, checksumFailures }: LinkReport): void {
    const wasConnected = this.isConnected;
    if (state !== this.link.state) this.link.sinceMs = performance.now();
    if (state === 'streaming' || state === 'catching-up') {
      this.link.lastSuccess = Date.now();
      if (!wasConnected) this.link.openSinceMs = performance.now();
    }
    Object.assign(this.link, { state, reason, failures, fatal, checksumFailures });
  }

  /** Lets the thread ship what is durable, up to its deadline, then ends it. */
  async close(): Promise<void> {
    this.#closing = true;
    for (const timer of [this.#restart, this.#rest, this.#meeting]) clearTimeout(timer);
    const thread = this.#thread;
    do this.#tellNews();
    while (this.#telling);
    if (!thread) return;
    thread.post({ kind: 'close' });
    const timer = setTimeout(() => thread.terminate(), 2 * CLOSE_DEADLINE_MS);
    await this.#ended;
    clearTimeout(timer);
  }
}

/** What a shipper is told of a space that goes to its replica. */
export function shippedSpace({ slot, facts }: SpaceState): ShippedSpace {
  const { id, name, epoch, members } = facts;
  const voided = facts.voided.length > 0 ? facts.voided : NOTHING_VOID;
  return { slot, id, name, epoch, members, sets: setsToTell(facts), voided };
}

const NOTHING_VOID: ShippedSpace['voided'] = [];
/** Of the space before: what thousands have alike is one object in their message, too. */
let lastSets: ShippedSpace['sets'] = [];

function setsToTell({ sets, first }: SpaceFacts): ShippedSpace['sets'] {
  const rows = rowsToTell(rowsKept(sets, first));
  if (rows.length !== 1 || rows[0] !== lastSets[0] || lastSets.length !== 1) lastSets = rows;
  return lastSets;
}

/** What a shipper is told of a segment that it reads. */
export function placeOf({ start, size, end, generation }: Segment): SegmentPlace {
  return { start, size, end, generation };
}

/** What every shipper is told of its node's options. */
export function shipperOptions(config: ShipConfig) {
  return {
    clusterId: config.clusterId,
    nodeId: config.nodeId,
    nodeHash: idOf(config.nodeId),
    maxEntryBytes: config.maxEntryBytes,
    windowBytes: config.windowBytes,
    catchUpBatchBytes: config.catchUpBatchBytes,
    catchUpBytesPerSecond: config.catchUpBytesPerSecond,
    compression: config.compression,
    connectTimeoutMs: config.connectTimeoutMs,
    backoffStepsMs: config.backoffStepsMs,
    maxRetries: config.maxRetries,
    readTimeoutMs: config.readTimeoutMs,
    writeTimeoutMs: config.writeTimeoutMs,
    keepAliveMs: config.keepAliveMs,
    batchEntries: config.batchEntries,
    batchDelayMs: config.batchDelayMs,
    credentials: config.credentials.now,
  };
}
