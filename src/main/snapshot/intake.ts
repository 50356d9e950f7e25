/**
 * Snapshots on their replica: asks primaries for them, collects their bytes in a spool, has them
 * put in place. shared/snapshot/sink.ts decides, one for each space that gets one.
 */
import { EngramError, failure } from '../../shared/errors.js';
import {
  CLOSE_DEADLINE_MS,
  SNAPSHOT_FREE_SEGMENTS,
  SNAPSHOT_INTAKES_MAX,
} from '../../shared/limits.js';
import type { SnapshotFacts, SnapshotWhole } from '../../shared/snapshot/facts.js';
import type { Chunk } from '../../shared/snapshot/queue.js';
import {
  type IntakeProgress,
  type SinkEffect,
  type SinkInput,
  SnapshotSink,
} from '../../shared/snapshot/sink.js';
import type { SnapshotFrame } from '../../shared/wire/snapshot-frames.js';
import type { SpaceState, SpaceTable } from '../log/space-table.js';
import type { Wal } from '../log/wal.js';
import type { LogReader } from '../read/reader.js';
import { within } from '../runtime/deadline.js';
import type { Disk } from '../segments/disk.js';
import {
  type Applying,
  divergedFrom,
  type InstallHooks,
  type InstallParts,
  SnapshotInstaller,
} from './install.js';
import type { SnapshotConfig } from './options.js';
import { Spool, spooledSpaces } from './spool.js';
import type { SnapshotNews } from './supply.js';

const TICK_MS = 250;
/** A primary is told again so late that there is nobody here to take a snapshot. */
const UNAVAILABLE_MS = 60_000;

/** The connection over which a snapshot comes. */
export interface SnapshotLink {
  sendSnapshot(frame: SnapshotFrame): void;
  /** Tells the primary why, and ends. */
  refuse(error: unknown): void;
}

export interface IntakeHooks extends Pick<InstallHooks, 'takenBack'> {
  news<K extends keyof SnapshotNews>(space: SpaceState, kind: K, news: SnapshotNews[K]): void;
  /** The space stands on a snapshot: what its log holds before is not needed. */
  installed(space: SpaceState): void;
}

/** One space that gets a snapshot, or has got part of one. */
interface Intake {
  readonly space: SpaceState;
  readonly sink: SnapshotSink;
  link: { readonly to: SnapshotLink; readonly handle: number } | undefined;
  spool: Spool | undefined;
  /** Grows with each spool: what an older one brings counts no more. */
  generation: number;
  /** Received, and not handed to the disk yet. */
  pending: Chunk[];
  /** What the disk does for it, one after the other. */
  work: Promise<void>;
}

export class SnapshotIntake {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #config: SnapshotConfig;
  readonly #spaces: SpaceTable;
  readonly #applier: () => Applying | undefined;
  readonly #hooks: IntakeHooks;
  readonly #installer: SnapshotInstaller;
  readonly #intakes = new Map<SpaceState, Intake>();
  readonly #timer: NodeJS.Timeout;
  #isClosed = false;

  constructor(
    parts: InstallParts,
    config: SnapshotConfig,
    reader: LogReader,
    wal: Wal,
    applier: () => Applying | undefined,
    hooks: IntakeHooks,
  ) {
    [this.#disk, this.#dir, , this.#spaces] = parts;
    this.#config = config;
    this.#applier = applier;
    this.#hooks = hooks;
    this.#installer = new SnapshotInstaller(parts, config, reader, wal, applier, {
      takenBack: hooks.takenBack,
      delayed: (space, code, reason, retryAfterMs) =>
        hooks.news(space, 'failed', { code, reason, retryAfterMs }),
    });
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#timer.unref();
  }

  /**
   * Before anything is applied or listens: what an earlier life has left goes on, or goes. A space
   * whose host was being given a snapshot is given it again, in the background.
   */
  async start(): Promise<void> {
    for (const id of await spooledSpaces(this.#disk, this.#dir)) {
      const space = this.#spaces.byId(id);
      const isOurs = space?.facts.role === 'replica';
      const spool = isOurs ? await this.#reopen(id) : undefined;
      if (!space || !spool) {
        // Row 56: of no use to anybody.
        await Spool.remove(this.#disk, this.#dir, id).catch(() => undefined);
        continue;
      }
      const { facts, chunks, bytes } = spool;
      const sink = new SnapshotSink(this.#config, performance.now(), { facts, chunks, bytes });
      this.#add(space, sink, spool);
    }
    for (const space of this.#spaces.spaces) {
      const { begun } = space.facts;
      if (!begun) continue;
      // Whatever becomes of it: the host has part of it, and must not be given entries.
      await this.#applier()?.halt(space);
      const intake = this.#intakeOf(space);
      if (intake.spool?.facts.id !== begun.snapshot.id) continue;
      intake.sink.installAgain(performance.now());
      this.#install(intake, begun.snapshot, begun.whole);
    }
  }

  async #reopen(spaceId: string): Promise<Spool | undefined> {
    try {
      return await Spool.open(this.#disk, this.#dir, spaceId);
    } catch {
      return undefined;
    }
  }

  #add(space: SpaceState, sink: SnapshotSink, spool: Spool | undefined): Intake {
    const work = Promise.resolve();
    const intake = { space, sink, link: undefined, spool, generation: 0, pending: [], work };
    this.#intakes.set(space, intake);
    return intake;
  }

  #intakeOf(space: SpaceState): Intake {
    const known = this.#intakes.get(space);
    return known ?? this.#add(space, new SnapshotSink(this.#config, performance.now()), undefined);
  }

  /** The space takes no entries: the host is being given a snapshot, or must be. */
  isInstalling(space: SpaceState): boolean {
    return space.isInstalling;
  }

  /** undefined: there is nothing of one. */
  progressOf(space: SpaceState): IntakeProgress | undefined {
    const progress = this.#intakes.get(space)?.sink.progress;
    return progress?.phase === 'idle' && progress.sequence === 0 ? undefined : progress;
  }

  // --- what primaries say --------------------------------------------------------------------

  /** The verdict on a space that this node follows on this connection. */
  judged(link: SnapshotLink, handle: number, space: SpaceState, isSnapshot: boolean): void {
    if (!isSnapshot) {
      const intake = this.#intakes.get(space);
      if (intake) this.#step(intake, { kind: 'streamed' }, link);
      return;
    }
    if (!this.#config.restore) {
      const refused = { code: 'SnapshotUnavailable', retryAfterMs: UNAVAILABLE_MS };
      const message = `${space.facts.name}: this replica has no restore()`;
      link.sendSnapshot({ kind: 'snapshot-refuse', handle, ...refused, message });
      this.#hooks.news(space, 'failed', { ...refused, reason: message });
      return;
    }
    const intake = this.#intakeOf(space);
    if (intake.link && intake.link.to !== link) this.#step(intake, { kind: 'unlinked' });
    intake.link = { to: link, handle };
    this.#step(intake, { kind: 'wanted' }, link);
  }

  /** Throws ProtocolViolation, Fenced, ChecksumMismatch. */
  take(link: SnapshotLink, space: SpaceState | undefined, frame: SnapshotFrame): void {
    const intake = space && this.#intakes.get(space);
    // Of one that was never asked for, or is not any more.
    if (!intake || intake.link?.to !== link) return;
    const input = inputOf(frame, intake.space);
    this.#stepOrThrow(intake, input);
  }

  /** A connection has ended. */
  closed(link: SnapshotLink): void {
    for (const intake of this.#intakes.values()) {
      if (intake.link?.to !== link) continue;
      intake.link = undefined;
      this.#step(intake, { kind: 'unlinked' });
    }
  }

  #tick(): void {
    for (const intake of this.#intakes.values()) {
      for (const e of intake.sink.tick(performance.now())) this.#carry(intake, e);
    }
  }

  // --- the machine ---------------------------------------------------------------------------

  #step(intake: Intake, input: SinkInput, link?: SnapshotLink): void {
    try {
      this.#stepOrThrow(intake, input);
    } catch (error) {
      if (!link) throw error;
      link.refuse(error);
    }
  }

  #stepOrThrow(intake: Intake, input: SinkInput): void {
    if (this.#isClosed) return;
    const effects = intake.sink.step(input, performance.now(), Math.random());
    for (const effect of effects) this.#carry(intake, effect);
  }

  #send(intake: Intake, frame: (handle: number) => SnapshotFrame): void {
    if (intake.link) intake.link.to.sendSnapshot(frame(intake.link.handle));
  }

  #carry(intake: Intake, effect: SinkEffect): void {
    const { space } = intake;
    switch (effect.kind) {
      case 'request': {
        const { snapshot, chunks } = effect;
        this.#send(intake, (handle) => ({ kind: 'snapshot-request', handle, snapshot, chunks }));
        return;
      }
      case 'create':
        this.#newSpool(intake, effect.facts);
        return;
      case 'write':
        this.#write(intake, effect.chunk);
        return;
      case 'progress': {
        const { chunks } = effect;
        this.#send(intake, (handle) => ({ kind: 'snapshot-progress', handle, chunks }));
        return;
      }
      case 'verify':
        this.#disked(intake, async (spool) => {
          const isGood = await spool.verify(effect.whole);
          return { kind: 'verified', isGood };
        });
        return;
      case 'install':
        this.#install(intake, effect.facts, effect.whole);
        return;
      case 'discard':
        this.#discard(intake);
        return;
      case 'done': {
        const { stage } = effect;
        this.#send(intake, (handle) => ({ kind: 'snapshot-done', handle, stage }));
        return;
      }
      case 'refuse': {
        const { code, reason: message } = effect;
        const told = { kind: 'snapshot-refuse', code, message, retryAfterMs: 0 } as const;
        this.#send(intake, (handle) => ({ ...told, handle }));
        return;
      }
      case 'started':
        this.#hooks.news(space, 'started', { sequence: effect.sequence, chunk: effect.chunk });
        return;
      case 'lost': {
        const { code, reason, retryAfterMs } = effect;
        this.#hooks.news(space, 'failed', { code, reason, retryAfterMs });
        return;
      }
    }
  }

  // --- the disk ------------------------------------------------------------------------------

  /** Work on the present spool, behind what is under way; what fails ends the snapshot. */
  #disked(intake: Intake, work: (spool: Spool) => Promise<SinkInput | undefined>): void {
    const { generation } = intake;
    const isCurrent = (): boolean => intake.generation === generation && !this.#isClosed;
    intake.work = intake.work.then(async () => {
      const { spool } = intake;
      if (!isCurrent() || !spool) return;
      try {
        const input = await work(spool);
        if (input && isCurrent()) this.#step(intake, input, intake.link?.to);
      } catch (error) {
        if (isCurrent()) this.#failed(intake, error);
      }
    });
  }

  #failed(intake: Intake, error: unknown): void {
    const code = error instanceof EngramError ? error.code : 'Io';
    const reason = String((error as Error | undefined)?.message ?? error).split('\n', 1)[0]!;
    this.#step(intake, { kind: 'failed', code, reason });
  }

  #newSpool(intake: Intake, facts: SnapshotFacts): void {
    const before = this.#letGo(intake);
    const { generation } = intake;
    intake.work = intake.work.then(async () => {
      await before()?.close();
      if (intake.generation !== generation || this.#isClosed) return;
      try {
        this.#requirePlace();
        intake.spool = await Spool.create(this.#disk, this.#dir, intake.space.facts.id, facts);
      } catch (error) {
        if (intake.generation === generation) this.#failed(intake, error);
      }
    });
  }

  /** What was asked of the present spool counts no more. @returns it, once nothing uses it */
  #letGo(intake: Intake): () => Spool | undefined {
    intake.generation++;
    intake.pending = [];
    return () => {
      const { spool } = intake;
      intake.spool = undefined;
      return spool;
    };
  }

  /** All that has come while the disk was busy is written together, and synced once. */
  #write(intake: Intake, chunk: Chunk): void {
    intake.pending.push({ crc: chunk.crc, bytes: chunk.bytes.slice() });
    if (intake.pending.length > 1) return;
    this.#disked(intake, async (spool) => {
      const chunks = intake.pending.splice(0);
      await this.#requireRoom(chunks);
      for (const next of chunks) await spool.append(next);
      await spool.sync();
      return { kind: 'stored', chunks: spool.chunks };
    });
  }

  /** A primary that begins one in each of its spaces fills no disk and opens no file for each. */
  #requirePlace(): void {
    const begun = [...this.#intakes.values()].filter(({ sink }) => sink.isBegun);
    if (begun.length <= SNAPSHOT_INTAKES_MAX) return;
    const found = `snapshots of ${SNAPSHOT_INTAKES_MAX} spaces are under way here`;
    throw failure('SnapshotFailed', `${found}, and no more are taken at once`);
  }

  /** What others send must not stop the log: some of the disk is its own. */
  async #requireRoom(chunks: readonly Chunk[]): Promise<void> {
    const kept = SNAPSHOT_FREE_SEGMENTS * this.#config.segmentBytes;
    const bytes = chunks.reduce((sum, chunk) => sum + chunk.bytes.length, 0);
    const free = await this.#disk.freeBytes(this.#dir);
    if (free - bytes >= kept) return;
    const found = `${free} bytes are free on the disk of a snapshot`;
    throw failure('DiskFull', `${found}, and ${kept} are kept for the log`);
  }

  #discard(intake: Intake): void {
    const spool = this.#letGo(intake);
    intake.work = intake.work.then(async () => {
      const { id } = intake.space.facts;
      try {
        await spool()?.close();
        await Spool.remove(this.#disk, this.#dir, id);
      } catch {
        // What is left of it goes at the next opening.
      }
    });
  }

  #install(intake: Intake, facts: SnapshotFacts, whole: SnapshotWhole): void {
    const { space } = intake;
    space.isInstalling = true;
    this.#disked(intake, async (spool) => {
      let isDone = false;
      try {
        isDone = await this.#installer.install(space, facts, whole, spool);
      } finally {
        // In its place; or not begun: all is as it was, and goes on.
        space.isInstalling = space.facts.begun !== undefined;
        if (!space.isInstalling) this.#applier()?.release(space);
      }
      if (!isDone) return undefined;
      const { chunks, bytes } = whole;
      this.#hooks.news(space, 'done', { sequence: facts.position.sequence, chunks, bytes });
      this.#hooks.installed(space);
      this.#step(intake, { kind: 'installed' }, intake.link?.to);
      this.#discard(intake);
      return undefined;
    });
  }

  /** Waits for what the disk is doing, and 5 s at most for the host's `restore`. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#isClosed = true;
    this.#installer.close();
    await Promise.all([...this.#intakes.values()].map((intake) => this.#closeOne(intake)));
  }

  async #closeOne(intake: Intake): Promise<void> {
    if ((await within(intake.work, CLOSE_DEADLINE_MS)) === 'late') {
      // The host is given it again when the node is opened again.
      const reason = "the host's restore() has not returned within 5 s of close()";
      this.#hooks.news(intake.space, 'failed', { code: 'Closed', reason, retryAfterMs: 0 });
    }
    await intake.spool?.close().catch(() => undefined);
  }
}

/** What a frame says to the machine. Throws ProtocolViolation, Fenced. */
function inputOf(frame: SnapshotFrame, { facts: own }: SpaceState): SinkInput {
  switch (frame.kind) {
    case 'snapshot-begin': {
      const { epoch, chunk, facts } = frame;
      if (epoch < own.epochSeen) {
        throw failure('Fenced', `a snapshot of epoch ${epoch}, seen is ${own.epochSeen}`);
      }
      const named = [facts.position, ...facts.history, ...facts.sets].map((row) => row.epoch);
      if (Math.max(...named) > epoch) {
        throw failure('ProtocolViolation', `a snapshot of epoch ${epoch} that names later ones`);
      }
      const isOurs = divergedFrom(own, facts) === undefined;
      if (isOurs && facts.position.sequence < own.position.sequence) {
        const found = `a snapshot of entry ${facts.position.sequence}`;
        throw failure('ProtocolViolation', `${found}, here is ${own.position.sequence}`);
      }
      return { kind: 'begun', facts, chunk };
    }
    case 'snapshot-chunk':
      return { kind: 'chunk', index: frame.index, chunk: frame };
    case 'snapshot-end':
      return { kind: 'ended', whole: frame.whole };
    case 'snapshot-wait':
      return { kind: 'wait', retryAfterMs: frame.retryAfterMs };
    case 'snapshot-refuse': {
      const { code, message: reason, retryAfterMs } = frame;
      return { kind: 'refused', code, reason, retryAfterMs };
    }
    default:
      throw failure('ProtocolViolation', `a frame ${frame.kind} from a primary`);
  }
}
