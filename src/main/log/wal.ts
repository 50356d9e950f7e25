/**
 * The log of one node and its only writer: staging, group commit, write, fdatasync, publication.
 * shared/log/group-commit.ts decides; this file carries out. It knows nothing of replicas or hosts.
 */
import { type EngramError, failure } from '../../shared/errors.js';
import { copyPayload } from '../../shared/host-input.js';
import { ENTRY_HEADER_BYTES, MARK_IDLE_MS, TRAILER_BYTES } from '../../shared/limits.js';
import { type CommitEffect, type CommitInput, GroupCommit } from '../../shared/log/group-commit.js';
import { encodeNodeRecord, type NodeRecord } from '../../shared/log/node-record.js';
import { type NodeMemory, RUN_FIELDS } from '../../shared/memory/slab.js';
import type { Lsn, Sequence } from '../../shared/position.js';
import { zeroFrom } from '../segments/log-end.js';
import type { Segments } from '../segments/segments.js';
import { EntryClock, IdleTimer } from './entry-clock.js';
import { LogHealth, passingReason } from './health.js';
import type { WalHooks, WalOptions } from './hooks.js';
import { takeBackAllocation } from './lost-appends.js';
import { type DurableWait, rejectWaits, type SpaceState, type SpaceTable } from './space-table.js';
import { type Retry, WaitingRoom } from './waiting-room.js';
import type { NodeCounts } from './write/counts.js';
import { FreeSlabs } from './write/free-slabs.js';
import { closedGroup, type LogGroup, OpenGroup } from './write/open-group.js';
import { LogOutput } from './write/output.js';
import { PlaceWatch } from './write/place-watch.js';
import { publishGroup, setAside } from './write/publication.js';
import type { ReceivedRuns } from './write/received-runs.js';
import { RunEnds } from './write/run-ends.js';
import type { SealerPool } from './write/sealer-pool.js';
import { rejectSettled, type Settled, type TakenEntries } from './write/settled.js';

export class Wal {
  readonly #memory: NodeMemory;
  readonly #spaces: SpaceTable;
  readonly #segments: Segments;
  readonly #pool: SealerPool;
  readonly #commit: GroupCommit<LogGroup>;
  readonly #options: WalOptions;
  readonly #hooks: WalHooks;
  readonly #free: FreeSlabs;
  /** Per slot: the number of the open group in which the space was last staged. */
  readonly #stagedIn: Float64Array;
  #open: OpenGroup | undefined;
  /** Bytes that it has room for. */
  #most = 0;
  #groups = 0;
  #unsettled = new Set<LogGroup>();
  readonly #waiting: WaitingRoom;
  #pumpScheduled = false;
  /** Made once: a function that makes another has a scope to make in each call, an entry's too. */
  readonly #pump = (): void => {
    this.#pumpScheduled = false;
    this.#clock.nextTurn();
    this.#step(undefined);
  };
  readonly #output: LogOutput;
  readonly #place: PlaceWatch;
  #timer: NodeJS.Timeout | undefined;
  readonly #markSoon = new IdleTimer(MARK_IDLE_MS / 2, () => {
    if (!this.refusal && this.#isIdle) this.#stageMark();
  });
  #failure: EngramError | undefined;
  readonly health: LogHealth;
  /** Read-only, and everything that was under way has come to rest. */
  #isTakenBack = false;
  #idleWaiters: (() => void)[] = [];
  readonly #clock = new EntryClock();
  readonly #counts: NodeCounts;
  /** Of what is published now. */
  readonly #ends = new RunEnds();
  /** When the turn of the event loop began that stages now. */
  readonly #turn = { ms: 0 };

  constructor(
    memory: NodeMemory,
    spaces: SpaceTable,
    segments: Segments,
    pool: SealerPool,
    options: WalOptions,
    counts: NodeCounts,
    hooks: WalHooks,
  ) {
    this.#memory = memory;
    this.#counts = counts;
    this.#waiting = new WaitingRoom((ms) => counts.waited(ms));
    this.#spaces = spaces;
    this.#segments = segments;
    this.#pool = pool;
    this.#options = options;
    this.#hooks = hooks;
    const isMending = (): boolean => this.health.refusal !== undefined;
    this.#place = new PlaceWatch(
      async () => (await hooks.displaced()) ?? (await segments.displaced(isMending)),
      (error) => this.#fail(error),
    );
    this.#output = new LogOutput(segments, options.mode, this.#place, () => hooks.rolled());
    this.health = new LogHealth((status) => hooks.health(status));
    this.#free = new FreeSlabs(memory);
    this.#stagedIn = new Float64Array(memory.memory.maxSpaces + 1);
    const { start, size } = segments.current;
    const open = { start, size, end: options.end };
    this.#commit = new GroupCommit(options.mode, options.segmentBytes, open);
    memory.publishDurable(options.end);
  }

  get durableLsn(): Lsn {
    return this.#commit.durableLsn;
  }

  /** The most bytes of entries that can be staged at once. */
  get groupBytes(): number {
    return this.#options.groupBytes;
  }

  get failure(): EngramError | undefined {
    return this.#failure;
  }

  /** Why nothing can be written, for now or for good. */
  get refusal(): EngramError | undefined {
    return this.#failure ?? this.health.refusal;
  }

  /** Bytes of staged groups and slabs on their way, against what there is. */
  get slabsInUse(): number {
    return this.#free.inUse;
  }

  /** Appends that wait for room. */
  get waiting(): number {
    return this.#waiting.size;
  }

  // --- staging -----------------------------------------------------------------------------

  /** Others wait for room already: who stages now would overtake them. */
  get isCrowded(): boolean {
    return !this.#waiting.isEmpty;
  }

  /**
   * Stages one entry: copies its payload, then takes its sequence. Throws Configuration when the
   * payload cannot be copied; then nothing has happened.
   * @param size of the payload, looked at in this turn
   * @param settled told when the entry is acknowledged at level `local`, or has failed
   * @returns its sequence, or 0 when there is no room now
   */
  stage(space: SpaceState, type: number, payload: Uint8Array, size: number, settled?: Settled) {
    const open = this.#room(ENTRY_HEADER_BYTES + size);
    if (!open) return 0;
    // Whatever can fail stands before the sequence is taken: a hole would stay for ever (row 82).
    copyPayload(open.slab.bytes, open.bytes + ENTRY_HEADER_BYTES, payload, size);
    this.#schedule();
    this.#clock.stamp(this.#spaces.rows, space.slot);
    const sequence = this.#memory.allocate(space.slot, 1);
    open.enter(space, sequence, type, size, this.#turn);
    if (settled) open.settled.push(settled);
    return sequence;
  }

  /**
   * Stages entries out of the memory of another thread, as many as there is room for: they are
   * copied and judged before their sequences are taken. @returns the first one; 0: no room now
   */
  stageTaken(space: SpaceState, entries: TakenEntries): Sequence {
    const open = this.#room(entries.leastBytes);
    if (!open) return 0;
    const room = this.#options.mode === 'per-write' ? 0 : this.#most - open.bytes;
    const count = entries.copyTo(open.slab, open.bytes, room || entries.leastBytes);
    this.#schedule();
    this.#clock.stamp(this.#spaces.rows, space.slot);
    const first = this.#memory.allocate(space.slot, count);
    open.enterAll(space, first, count, this.#turn);
    open.settled.push(entries);
    return first;
  }

  /**
   * Stages the next entries of spaces as another node sealed them: all of `runs`, or none.
   * @param entries the bytes of the runs, behind each other @returns whether there was room
   */
  stageReceived(entries: Uint8Array, runs: ReceivedRuns): boolean {
    const open = this.#room(entries.length, runs.length);
    if (!open) return false;
    this.#schedule();
    open.receive(entries, runs, this.#memory);
    return true;
  }

  /**
   * Stages a record of the node itself. Resolves when it is durable.
   * @param apply what it means for the facts: done in the same turn in which it becomes durable,
   *   so that no state is written that is as of its LSN and lacks it
   */
  async record(record: NodeRecord, apply?: () => void): Promise<void> {
    const payload = encodeNodeRecord(record);
    const { node } = this.#spaces;
    await new Promise<void>((resolve, reject) => {
      const stage = (): boolean => {
        const sequence = this.stage(node, 6, payload, payload.length);
        if (sequence === 0) return false;
        this.#open!.markOnly = false;
        const done = (): void => {
          try {
            resolve(apply?.());
          } catch (error) {
            // What the log says does not hold here: nothing may be built on it.
            reject(error as Error);
            this.#fail(error as Error);
          }
        };
        this.addWait(node, { sequence, resolve: done, reject });
        return true;
      };
      this.whenRoom(stage).catch(reject);
    });
  }

  /** Ends the segment that is written. Resolves when an entry is durable in the next one. */
  async roll(): Promise<void> {
    this.#step({ kind: 'roll' });
    await this.record({ kind: 'mark' });
  }

  /**
   * Calls `retry` until it returns true: now, or whenever room has become free, in the order of
   * the calls. Rejects Backpressure after 5 s without any, or at once when 10,000 calls wait.
   */
  whenRoom(retry: Retry): Promise<void> {
    return this.refusal ? Promise.reject(this.refusal) : this.#waiting.enter(retry);
  }

  /** The open group, with so much room in it; undefined when the budget is used up. */
  #room(size: number, runs = 1): OpenGroup | undefined {
    if (this.refusal) throw this.refusal;
    if (size > this.#options.groupBytes) {
      throw failure('EntryTooLarge', `${size} bytes against groupBytes ${this.groupBytes}`);
    }
    const open = this.#open;
    if (open) {
      const full =
        open.bytes + size > this.#most ||
        (open.runs + runs) * RUN_FIELDS > open.slab.runs.length ||
        (this.#options.mode === 'per-write' && open.bytes > 0);
      if (!full) return open;
      if (open.bytes > 0 && !this.#free.hasRoom) return undefined;
      // What was to be its first entry could not be copied, and this one needs a larger place.
      if (open.bytes === 0) this.#free.give(open.slab);
      else this.#closeOpen();
      this.#open = undefined;
      if (this.refusal) throw this.refusal;
    }
    const slab = this.#free.open(size, runs);
    if (!slab) return undefined;
    this.#most = Math.min(this.#options.groupBytes, slab.bytes.length - TRAILER_BYTES);
    this.#open = new OpenGroup(slab, ++this.#groups, this.#stagedIn, this.#spaces.rows);
    return this.#open;
  }

  // --- group commit ------------------------------------------------------------------------

  /** One pump per turn of the event loop: everything that a turn stages goes together. */
  #schedule(): void {
    if (this.#pumpScheduled) return;
    this.#turn.ms = performance.now();
    this.#pumpScheduled = true;
    process.nextTick(this.#pump);
  }

  #step(input: CommitInput<LogGroup> | undefined): void {
    try {
      for (const effect of this.#commit.step(input, this.#open?.bytes ?? 0)) {
        if (this.#failure) return;
        this.#carry(effect);
      }
    } catch (error) {
      // Whatever it is, half a step is done: nothing more is taken or acknowledged.
      this.#fail(error as Error);
    }
  }

  #carry(effect: CommitEffect<LogGroup>): void {
    switch (effect.kind) {
      case 'close':
        this.#closeOpen();
        return;
      case 'seal':
        this.#seal(effect.group, effect.where);
        return;
      case 'write':
        this.#after(this.#output.write(effect.group), 'written', (error) => this.#refused(error));
        return;
      case 'sync':
        if (this.#output.takeSynced()) this.#step({ kind: 'synced' });
        else this.#after(this.#output.sync(), 'synced', (error) => this.#fail(error));
        return;
      case 'start-timer':
        this.#timer = setTimeout(() => this.#step({ kind: 'timer' }), effect.ms);
        return;
      case 'written':
        this.#setAside(effect.group);
        return;
      case 'durable':
        this.#publish(effect.groups, effect.lsn);
        return;
      case 'suspended':
        this.#takeBack(effect.groups);
        return;
    }
  }

  #after(io: Promise<void>, kind: 'written' | 'synced', failed: (error: Error) => void): void {
    this.health.timed(io).then(() => this.#step({ kind }), failed);
  }

  #closeOpen(): void {
    const open = this.#open!;
    this.#open = undefined;
    const group = closedGroup(open);
    this.#free.closed(group);
    this.#unsettled.add(group);
    this.#step({ kind: 'closed', group });
  }

  #seal(group: LogGroup, where: 'main' | 'pool'): void {
    const target = this.#free.target(group);
    const sealed = (runs: number): void => {
      if (target !== group.slab) this.#free.give(group.slab, false);
      group.slab = target;
      group.runs = runs;
      this.#step({ kind: 'sealed' });
      this.#waiting.drain();
    };
    const failed = (error: Error): void => this.#fail(error);
    this.#pool.seal(group, target, this.#options.salt, where === 'pool', sealed, failed);
  }

  /** Written, and acknowledged, long before it is durable: its slab is needed for what comes. */
  #setAside(group: LogGroup): void {
    group.aside = setAside(group, this.#spaces);
    this.#free.give(group.slab);
    this.#acknowledge(group);
    this.#waiting.drain();
  }

  #publish(groups: readonly LogGroup[], lsn: Lsn): void {
    const ends = this.#ends;
    ends.clear();
    const nowMs = performance.now();
    for (const group of groups) {
      publishGroup(group, this.#memory, this.#segments, this.#spaces, nowMs, ends);
      if (!group.aside) this.#free.give(group.slab);
      this.#counts.group(group.entries, group.bytes);
    }
    this.#memory.publishDurable(lsn);
    for (const group of groups) this.#acknowledge(group);
    this.#hooks.durable(ends);
    this.#waiting.drain();
    if (groups.some((group) => !group.markOnly)) this.#markSoon.arm(nowMs);
    if (this.#isIdle) for (const wake of this.#idleWaiters.splice(0)) wake();
  }

  #acknowledge(group: LogGroup): void {
    if (!this.#unsettled.has(group)) return;
    this.#counts.acknowledged(group);
    const refusal = group.settled.length > 0 ? this.#hooks.ackRefusal() : undefined;
    if (refusal) rejectSettled([group], refusal);
    else for (const settled of group.settled) settled.resolve();
    this.#unsettled.delete(group);
  }

  get #isIdle(): boolean {
    // It may be open without an entry: what was to be its first could not be copied.
    return (this.#open?.bytes ?? 0) === 0 && this.#commit.idle;
  }

  #stageMark(): void {
    const mark = encodeNodeRecord({ kind: 'mark' });
    this.stage(this.#spaces.node, 6, mark, mark.length);
  }

  // --- failures ------------------------------------------------------------------------------

  /** A write, or making the next segment, has failed. */
  #refused(error: Error): void {
    if (this.#failure) return;
    const reason = passingReason(error);
    if (reason === undefined) {
      this.#fail(error);
      return;
    }
    // From here on nothing new is staged; what is written already becomes durable first.
    this.health.suspend(reason, error, () => this.#resume(reason));
    if (reason === 'disk-full') void this.#segments.giveBack().catch(() => undefined);
    this.#step({ kind: 'refused' });
  }

  /** Allocation goes back to each space's last durable sequence (DESIGN 5). */
  #takeBack(groups: readonly LogGroup[]): void {
    const error = this.health.refusal!;
    for (const group of groups) this.#unsettled.delete(group);
    for (const { slab } of groups) this.#free.give(slab);
    if (this.#open) this.#free.give(this.#open.slab);
    rejectSettled([...groups, this.#open], error);
    this.#open = undefined;
    this.#waiting.rejectAll(error);
    this.#isTakenBack = true;
    for (const wake of this.#idleWaiters.splice(0)) wake();
    this.#hooks.lost(takeBackAllocation(this.#memory, this.#spaces, error), error);
  }

  /** Tried until it succeeds: room again, remains of the refused group zeroed, the next segment. */
  async #resume(reason: string): Promise<boolean> {
    if (!this.#isTakenBack || this.#failure) return false;
    if (reason === 'disk-full') await this.#segments.keepReserve();
    const { start, size } = this.#segments.current;
    const end = this.#commit.durableLsn;
    try {
      await zeroFrom(this.#segments.file, { start, size }, Math.max(start, end));
    } catch (error) {
      if ((error as EngramError).code === 'WalFailed') this.#fail(error as Error);
      throw error;
    }
    await this.#segments.prepareAgain();
    if (this.#failure) return false;
    this.#isTakenBack = false;
    this.#commit.step({ kind: 'resume', segment: { start, size, end } }, 0);
    return true;
  }

  #fail(error: Error): void {
    if (this.#failure) return;
    const cause = error instanceof Error ? error : new Error(String(error));
    this.#failure = failure('WalFailed', `the log has failed: ${cause.message}`, { cause });
    this.#commit.step({ kind: 'failed' }, 0);
    this.#output.stop();
    this.#place.close();
    this.#markSoon.disarm();
    this.health.fail(this.#failure);
    rejectSettled([...this.#unsettled, this.#open], this.#failure);
    this.#unsettled.clear();
    this.#waiting.rejectAll(this.#failure);
    for (const space of this.#spaces.bySlot) rejectWaits(space, this.#failure);
    for (const wake of this.#idleWaiters.splice(0)) wake();
    this.#hooks.failed(this.#failure);
  }

  /** Resolves when the space is durable here up to `sequence`. */
  whenDurable(space: SpaceState, sequence: Sequence): Promise<void> {
    return new Promise((resolve, reject) => this.addWait(space, { sequence, resolve, reject }));
  }

  /** The same for a wait that its owner may take out of `space.durableWaits` again. */
  addWait(space: SpaceState, wait: DurableWait): void {
    if (this.#memory.durable(space.slot) >= wait.sequence) wait.resolve();
    else if (this.#failure) wait.reject(this.#failure);
    else space.addWait(wait);
    this.syncSoon();
  }

  /** Somebody waits for what is written to become durable: in none mode nobody else asks for it. */
  syncSoon(): void {
    if (this.#options.mode === 'none') this.#step({ kind: 'sync' });
  }

  // --- closing -----------------------------------------------------------------------------

  /** Resolves when everything staged so far is durable, in every mode; rejects if that fails. */
  async flush(): Promise<void> {
    while (!this.refusal && !(this.#isIdle && !this.#commit.hasUnsynced)) {
      const idle = new Promise<void>((resolve) => this.#idleWaiters.push(resolve));
      this.#step({ kind: 'sync' });
      await idle;
    }
    if (this.refusal) throw this.refusal;
  }

  /**
   * Flushes, writes the closing mark and closes the segment, when everything under way has come to
   * rest. Nothing is staged any more.
   */
  async close(): Promise<void> {
    this.#markSoon.disarm();
    try {
      await this.flush();
      this.#stageMark();
      await this.flush();
    } finally {
      clearTimeout(this.#timer);
      this.#markSoon.disarm();
      this.#place.close();
      while (!this.#failure && this.health.refusal && !this.#isTakenBack) {
        await new Promise<void>((resolve) => this.#idleWaiters.push(resolve));
      }
      const resumed = this.health.close();
      await this.#segments.close();
      await resumed;
    }
  }
}
