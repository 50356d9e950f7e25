/**
 * The primary's side of replication on the main thread: its shippers, the verdicts on what
 * replicas say of themselves, waiting for their acknowledgements, their status.
 */
import { EngramError, failure } from '../../shared/errors.js';
import { verdictOf } from '../../shared/lead/epoch.js';
import { frameBytesOf, HEARTBEAT_MS } from '../../shared/limits.js';
import { type AnsweredRow, unpackAnswered } from '../../shared/link/answered-rows.js';
import type { FromShipper, ShipperStart } from '../../shared/link/control.js';
import { PairWatch } from '../../shared/link/pair-watch.js';
import { NO_HISTORY, packVerdicts, type VerdictAnswer } from '../../shared/link/verdict-rows.js';
import type { Member } from '../../shared/log/node-record.js';
import type { MemberId } from '../../shared/members/members.js';
import { allocateShipperCounters } from '../../shared/memory/metric-words.js';
import { allocateProgress } from '../../shared/memory/progress.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import { mayReplicate } from '../../shared/names.js';
import type { Epoch, Sequence, Slot } from '../../shared/position.js';
import type { Pair } from '../../shared/snapshot/queue.js';
import { encodeFrame, type PositionRow } from '../../shared/wire/protocol.js';
import type { SpaceState, SpaceTable } from '../log/space-table.js';
import type { Wal } from '../log/wal.js';
import type { LogReader } from '../read/reader.js';
import type { ShipperThreads } from '../runtime/machine.js';
import type { Segment, Segments } from '../segments/segments.js';
import { pairOf, type SnapshotNews, SnapshotSupply } from '../snapshot/supply.js';
import { AckWaits } from './ack-waits.js';
import type { Answered } from './judged-spaces.js';
import type { LagHooks } from './lag-changes.js';
import { LagMonitor } from './lag-monitor.js';
import { LinkWaits } from './link-waits.js';
import { MemberQuestions } from './member-questions.js';
import type { ShipConfig } from './options.js';
import { Quorum } from './quorum.js';
import { placeOf, ShipperHandle, shippedSpace, shipperOptions } from './shipper-handle.js';

export interface ReplicationHooks {
  state(shipper: ShipperHandle): void;
  lost(shipper: ShipperHandle, reason: string): void;
  /** @returns why it is not to be shipped to: another directory lives under its name */
  twin(replicaId: string, directoryId: string): Promise<string | undefined>;
  /** What a shipper found in this segment is not what was written. */
  unreadable(segment: Segment): void;
  /** It gets nothing of the space. `rewind`: until it has gone back to what we share. */
  refused(space: SpaceState, replicaId: string, verdict: VerdictAnswer['verdict']): void;
  /** This epoch was named, and who leads in it, where that was said. */
  fenced(space: SpaceState, epoch: Epoch, leader: Member | undefined): void;
  /** A replica has flushed less than it has acknowledged. */
  regressed(space: SpaceState, of: ShipperHandle, flushed: Sequence, sequence: Sequence): void;
  /** A replica leads the space in our epoch, or follows somebody else in it. */
  met(space: SpaceState): void;
  /** A replica has more of our own epoch than we do: our disk went back. */
  stale(space: SpaceState): void;
  readonly lag: LagHooks;
  snapshot<K extends keyof SnapshotNews>(
    space: SpaceState,
    replicaId: string,
    kind: K,
    news: SnapshotNews[K],
  ): void;
}

/** A living link is heard once a second. */
const LIVING_MS = 2.5 * HEARTBEAT_MS;

/** What a shipper is told of its node besides the options. */
export type ShipperFacts = Pick<ShipperStart, 'incarnation' | 'directoryId' | 'dataDir' | 'salt'>;

export class Replication {
  readonly #config: ShipConfig;
  readonly #memory: NodeMemory;
  readonly #spaces: SpaceTable;
  readonly #segments: Segments;
  readonly #reader: LogReader;
  readonly #hooks: ReplicationHooks;
  readonly #threads: ShipperThreads;
  #facts: ShipperFacts;
  shippers: readonly ShipperHandle[] = [];
  /** Who counts in what this node leads. */
  readonly quorum: Quorum;
  readonly acks: AckWaits;
  readonly links: LinkWaits;
  readonly monitor: LagMonitor;
  readonly snapshots: SnapshotSupply;
  /** What members are asked before a space is led. */
  readonly questions = new MemberQuestions(() => this.shippers);
  readonly #pinned = new Map<ShipperHandle, Segment>();

  constructor(
    threads: ShipperThreads,
    config: ShipConfig,
    facts: ShipperFacts,
    memory: NodeMemory,
    spaces: SpaceTable,
    segments: Segments,
    reader: LogReader,
    wal: Wal,
    hooks: ReplicationHooks,
  ) {
    this.#config = config;
    this.#memory = memory;
    this.#spaces = spaces;
    this.#segments = segments;
    this.#reader = reader;
    this.#hooks = hooks;
    const isPlaced = config.coordinator.kind === 'etcd';
    const shippersOf = (space: SpaceState): ShipperHandle[] => this.shippersOf(space);
    const own = (): MemberId => ({ nodeId: config.nodeId, directoryId: this.directoryId });
    this.quorum = new Quorum(own, memory, shippersOf);
    this.acks = new AckWaits(memory, wal, this.quorum, shippersOf, isPlaced);
    this.links = new LinkWaits(shippersOf, isPlaced);
    this.monitor = new LagMonitor(config, memory, spaces, () => this.shippers, reader, hooks.lag);
    this.#threads = threads;
    this.#facts = facts;
    const frameBytes = frameBytesOf(config.maxEntryBytes, config.catchUpBatchBytes);
    this.snapshots = new SnapshotSupply(config, spaces, reader, frameBytes, {
      send: ({ replicaId }, connection, frame) => {
        const shipper = this.#shipperOf(replicaId);
        const bytes = encodeFrame(frame, shipper?.link.version);
        shipper?.post({ kind: 'frame', connection, bytes });
      },
      giveUp: ({ replicaId }, connection, { message, code }) => {
        const reason = message.split('\n', 1)[0]!;
        this.#shipperOf(replicaId)?.post({ kind: 'give-up', connection, reason, code });
      },
      join: (pair) => this.#introduceAnew(pair),
      active: ({ slot, replicaId }, isActive) =>
        this.#shipperOf(replicaId)?.watch.snapshotting(slot, isActive),
      news: ({ slot, replicaId }, kind, news) =>
        hooks.snapshot(spaces.bySlot[slot]!, replicaId, kind, news),
    });
    for (const replica of config.replicas) this.add(replica);
  }

  /** Of a replica, as it has said last. */
  directoryOf(replicaId: string): string | undefined {
    return this.#shipperOf(replicaId)?.link.directoryId;
  }

  /** This node is another directory from now on: everybody is greeted anew. */
  async renamed(directoryId: string): Promise<void> {
    this.#facts = { ...this.#facts, directoryId };
    const members = this.members;
    for (const { nodeId } of members) await this.remove(nodeId);
    for (const member of members) this.add(member);
  }

  /** Of this node: what it leads is led by this directory. */
  get directoryId(): string {
    return this.#facts.directoryId;
  }

  /** The nodes that are shipped to, or could be. */
  get members(): Member[] {
    return this.shippers.map((s) => s.replica);
  }

  /** Starts a shipper for one more node; it has no space yet. */
  add(replica: Member): void {
    const { memory } = this.#memory;
    const progress = allocateProgress(memory.maxSpaces);
    const counters = allocateShipperCounters();
    const shipper = new ShipperHandle(
      this.#threads,
      { ...shipperOptions(this.#config), ...this.#facts, memory, progress, counters, replica },
      // Who creates spaces asks their members first.
      this.#config.lead,
      new PairWatch(this.#config, memory.maxSpaces, performance.now()),
      {
        message: (from, message) => this.#message(from, message),
        lost: (from, reason) => {
          this.questions.lost(from);
          this.#pin(from, undefined);
          this.snapshots.unlinked(from.replica.nodeId);
          this.#hooks.lost(from, reason);
        },
      },
    );
    this.shippers = [...this.shippers, shipper];
  }

  /** Ends the shipper of a node that no space is shipped to any more. */
  async remove(replicaId: string): Promise<void> {
    const shipper = this.#shipperOf(replicaId);
    if (!shipper) return;
    this.shippers = this.shippers.filter((s) => s !== shipper);
    this.snapshots.forgetReplica(replicaId);
    await shipper.close();
    this.#pin(shipper, undefined);
    this.questions.forget(shipper);
  }

  #shipperOf(replicaId: string): ShipperHandle | undefined {
    return this.shippers.find((s) => s.replica.nodeId === replicaId);
  }

  /** It is not connected, and may be soon. */
  mayConnect(replicaId: string): boolean {
    return !this.isConnected(replicaId) && (this.#shipperOf(replicaId)?.mayConnect ?? false);
  }

  /** It gets what it lacks of a space, or may begin to soon. */
  mayCome(shipper: ShipperHandle, slot: Slot): boolean {
    if (!shipper.isConnected) return shipper.mayConnect;
    const verdict = shipper.watch.verdictOf(slot);
    if (verdict === 'snapshot') return this.#config.snapshot !== undefined;
    return verdict === 'none' || verdict === 'continue' || verdict === 'rewind';
  }

  isConnected(replicaId: string): boolean {
    return this.#shipperOf(replicaId)?.isConnected ?? false;
  }

  /** The directory of a replica whose link lives: it was heard a moment ago. */
  livingDirectory(replicaId: string): string | undefined {
    const shipper = this.#shipperOf(replicaId);
    const isHeard = performance.now() - (shipper?.progress.heardMs ?? 0) < LIVING_MS;
    return shipper?.isConnected && isHeard ? shipper.link.directoryId : undefined;
  }

  async #greeted(
    shipper: ShipperHandle,
    { connection, directoryId }: Extract<FromShipper, { kind: 'welcomed' }>,
  ): Promise<void> {
    const reason = await this.#hooks.twin(shipper.replica.nodeId, directoryId!);
    if (!reason) return;
    shipper.post({ kind: 'give-up', connection, reason, code: 'DuplicateNode' });
  }

  /** The shippers of a space that this node leads. */
  shippersOf(space: SpaceState): ShipperHandle[] {
    const found: ShipperHandle[] = [];
    for (const s of this.shippers) if (space.replicas.includes(s.replica.nodeId)) found.push(s);
    return found;
  }

  /** From now on these spaces are shipped to their replicas. */
  lead(spaces: readonly SpaceState[]): void {
    // What was told when it led before says nothing of what its replicas need now.
    for (const { slot } of spaces) this.#memory.publishCheckpoint(slot, 0);
    const { mayReplicate: allowed } = this.#config;
    for (const s of allowed ? spaces : []) {
      s.replicas = s.replicas.filter((id) => mayReplicate(allowed, id, s.facts.name));
    }
    const shipped = spaces.map(shippedSpace);
    for (const shipper of this.shippers) {
      const { nodeId } = shipper.replica;
      for (const s of spaces.filter((s) => !s.replicas.includes(nodeId))) {
        shipper.removeSpace(s.slot);
        this.snapshots.forget(pairOf(s, nodeId));
      }
      shipper.addSpaces(shipped.filter((_, i) => spaces[i]!.replicas.includes(nodeId)));
    }
    this.links.look();
  }

  /** This node leads the space no more: it is shipped to nobody. */
  drop(space: SpaceState): void {
    for (const shipper of this.shippers) {
      shipper.removeSpace(space.slot);
      this.snapshots.forget(pairOf(space, shipper.replica.nodeId));
      this.questions.judgedBy(shipper).delete(space);
    }
  }

  /** It has dialled this node: if it is shipped to, it is dialled, whatever backoff says. */
  met(nodeId: string, incarnation: bigint): void {
    this.#shipperOf(nodeId)?.met(incarnation);
  }

  /** A repair has brought entries back: links that ended over them are dialled again at once. */
  retry(): void {
    for (const shipper of this.shippers) {
      if (shipper.link.fatal === 'CorruptionDetected') shipper.post({ kind: 'retry' });
    }
  }

  /**
   * What a replica is known to have flushed since this node was opened, or to get by a snapshot;
   * 0: nothing heard.
   */
  flushedOn(space: SpaceState, replicaId: string): Sequence {
    const { slot, facts } = space;
    const told = this.#shipperOf(replicaId)?.flushedOf(slot, facts.epoch) ?? 0;
    return this.snapshots.flushed(pairOf(space, replicaId), told);
  }

  /**
   * The replica's slot is lost: nothing of the space is streamed to it until positions have been
   * compared anew, at once where it is connected (row 54).
   */
  cut(space: SpaceState, replicaId: string): void {
    const shipper = this.#shipperOf(replicaId);
    shipper?.post({ kind: 'leave', slot: space.slot, isCut: true });
    this.snapshots.slotLost(pairOf(space, replicaId));
    if (shipper?.isConnected) shipper.addSpaces([shippedSpace(space)]);
  }

  #introduceAnew({ replicaId, slot }: Pair): void {
    const space = this.#spaces.bySlot[slot]!;
    if (space.replicas.includes(replicaId)) {
      this.#shipperOf(replicaId)?.addSpaces([shippedSpace(space)]);
    }
  }

  #message(shipper: ShipperHandle, message: FromShipper): void {
    switch (message.kind) {
      case 'state':
        if (!shipper.isConnected) {
          this.questions.judgedBy(shipper).clear();
          const read = this.#pinned.get(shipper);
          if (read && message.fatal === 'CorruptionDetected') this.#hooks.unreadable(read);
          this.#pin(shipper, undefined);
          this.snapshots.unlinked(shipper.replica.nodeId);
        }
        this.#hooks.state(shipper);
        this.links.look();
        return;
      case 'welcomed':
        if (message.directoryId) this.#answer(shipper, message, this.#greeted(shipper, message));
        return;
      case 'positions':
        this.#answer(shipper, message, this.#judge(shipper, message));
        return;
      case 'segment': {
        const segment = this.#segments.from(message.lsn);
        this.#pin(shipper, segment);
        shipper.post({ kind: 'segment', lsn: message.lsn, segment: segment && placeOf(segment) });
        return;
      }
      case 'seek': {
        const { lsn, wanted } = message;
        const rows = wanted.map(({ slot, next }) => [this.#spaces.bySlot[slot], next] as const);
        const sought = this.#reader.seek(lsn, rows).catch(() => lsn);
        const { reply } = shipper;
        void sought.then((found) => reply({ kind: 'sought', lsn: found }));
        return;
      }
      case 'fenced': {
        const space = this.#spaces.bySlot[message.slot];
        if (space) this.#hooks.fenced(space, message.epoch, message.leader);
        return;
      }
      case 'segment-left':
        this.#pin(shipper, undefined);
        return;
      case 'snapshot':
        this.snapshots.take(shipper.replica.nodeId, message.connection, message.frame);
        return;
      case 'locate':
        this.#answer(shipper, message, this.#relocate(shipper, message));
        return;
      case 'answers':
        for (const { id, answer } of message.rows) {
          const space = answer && this.#spaces.byId(id);
          // Made here meanwhile, or while it was asked.
          if (space) this.#hooks.fenced(space, answer.epoch, undefined);
          this.questions.answered(shipper, id, answer);
        }
        return;
    }
  }

  /** The segment that a shipper reads is not recycled under it (row 53). */
  #pin(shipper: ShipperHandle, segment: Segment | undefined): void {
    const before = this.#pinned.get(shipper);
    if (segment) {
      this.#segments.pin(segment);
      this.#pinned.set(shipper, segment);
    } else {
      this.#pinned.delete(shipper);
    }
    if (before) this.#segments.unpin(before);
  }

  #answer(shipper: ShipperHandle, asked: { connection: number }, work: Promise<void>): void {
    work.catch((error: unknown) => {
      const code = error instanceof EngramError ? error.code : 'Io';
      const reason = `reading the log failed: ${(error as Error).message.split('\n', 1)[0]}`;
      shipper.post({ kind: 'give-up', connection: asked.connection, reason, code });
    });
  }

  async #judge(
    shipper: ShipperHandle,
    { connection, rows }: Extract<FromShipper, { kind: 'positions' }>,
  ): Promise<void> {
    // What comes after this moment has a higher LSN: nothing falls between.
    const durableLsn = this.#memory.durableLsn;
    const known: Answered[] = [];
    for (const row of unpackAnswered(rows)) {
      const space = this.#spaces.bySlot[row.handle];
      // Led elsewhere meanwhile: nobody is to go on from here.
      if (space?.facts.role !== 'primary' || space.isFenced) {
        if (space) this.#hooks.fenced(space, row.epochSeen, undefined);
      } else known.push({ row, space, own: space.position, epoch: space.facts.epoch });
    }
    const behind = known
      .filter(({ row, own }) => row.position.sequence < own.sequence)
      .map(({ row, space }) => ({ space, sequence: row.position.sequence }));
    const found = await this.#reader.lookUp(behind);
    const answers: VerdictAnswer[] = [];
    for (const { row, space, own, epoch } of known) {
      const { sequence } = row.position;
      // What is before the first retained entry counts for nothing, though a segment has it; what
      // was the last one may be freed by now, with what came behind it.
      const isFreed = sequence < space.facts.first - 1;
      const there = isFreed ? undefined : found.get(space);
      let ownEntry = there?.position;
      if (!isFreed && sequence >= own.sequence) ownEntry = own;
      // Its own entry was freed, what follows was not: the epoch history alone decides.
      else if (!ownEntry && sequence === space.facts.first - 1) ownEntry = row.position;
      const isSource = shipper.isFromHere(space, epoch);
      const verdict = verdictOf({ epoch, position: own, isSource }, row, ownEntry);
      const lsn = there?.next ?? durableLsn;
      if (there) this.monitor.met(shipper, space, sequence, there);
      shipper.watch.judged(space.slot, verdict);
      this.questions.judgedBy(shipper).add(space);
      if (verdict === 'continue' && this.#isBehindItself(shipper, connection, space, row)) continue;
      const pair = pairOf(space, shipper.replica.nodeId);
      // One that takes nothing may be mended otherwise; a snapshot it gets only if it asks.
      const isSnapshot = verdict === 'snapshot' && row.answer !== 'refused';
      this.snapshots.judged(pair, verdict === 'snapshot', sequence, !isSnapshot);
      const slot = space.facts.slots.get(shipper.replica.nodeId);
      if (verdict === 'continue') {
        if (slot) [slot.lost, slot.flushed] = [false, sequence];
      } else if (!isSnapshot || !this.#config.snapshot) {
        this.#refuse(shipper, space, row, verdict);
      }
      const isBack = verdict === 'rewind';
      const next = (isBack ? own.sequence : sequence) + 1;
      const history =
        isBack || space.facts.history.length > 1 ? [...space.facts.history] : NO_HISTORY;
      answers.push({ slot: space.slot, verdict, next, lsn, history });
    }
    shipper.post({ kind: 'verdicts', connection, rows: packVerdicts(answers) });
  }

  /**
   * It has acknowledged more than it has, as this very directory and in this epoch: it is told so,
   * and gets nothing before it is another one (row 108).
   */
  #isBehindItself(
    shipper: ShipperHandle,
    connection: number,
    space: SpaceState,
    { handle, acked, position: { sequence } }: AnsweredRow,
  ): boolean {
    const { directoryId } = shipper.link;
    if (directoryId === undefined) return false;
    const { epoch, slots } = space.facts;
    const kept = slots.get(shipper.replica.nodeId);
    const told = kept?.directoryId === directoryId && !kept.lost ? kept.flushed : 0;
    // Of this life what it had acknowledged when it was asked; what is kept moves on meanwhile.
    const before = acked.epoch === epoch ? acked.flushed : 0;
    const flushed = shipper.progress.epoch(space.slot) === epoch ? before : told;
    if (sequence >= flushed) return false;
    const bytes = encodeFrame({ kind: 'regressed', handle, flushed }, shipper.link.version);
    shipper.post({ kind: 'frame', connection, bytes });
    this.#hooks.regressed(space, shipper, flushed, sequence);
    return true;
  }

  #refuse(
    shipper: ShipperHandle,
    space: SpaceState,
    row: PositionRow,
    verdict: VerdictAnswer['verdict'],
  ): void {
    const { name, epoch, position } = space.facts;
    const id = shipper.replica.nodeId;
    if (verdict === 'fenced') this.#hooks.fenced(space, row.epochSeen, undefined);
    if (verdict === 'fork') this.#hooks.met(space);
    // Where our own log is damaged, that is why the replica has more: a repair asks for it.
    if (verdict === 'stale' && !space.repair) {
      space.refusal = failure(
        'StalePrimary',
        `${id} has ${name} up to ${row.position.sequence} in epoch ${epoch}, this node up to ` +
          `${position.sequence}`,
      );
      this.#hooks.stale(space);
    }
    this.#hooks.refused(space, id, verdict);
  }

  async #relocate(shipper: ShipperHandle, asked: FromShipper & { kind: 'locate' }): Promise<void> {
    const { connection, slot, next } = asked;
    const space = this.#spaces.bySlot[slot];
    const lsn = space && (await this.#reader.locate(space, next));
    if (lsn !== undefined) shipper.post({ kind: 'located', connection, slot, next, lsn });
  }

  async close(): Promise<void> {
    this.monitor.close();
    this.snapshots.close();
    await Promise.all(this.shippers.map((s) => s.close()));
    this.acks.close();
    this.links.close();
  }
}
