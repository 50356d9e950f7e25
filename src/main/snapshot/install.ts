/**
 * Puts a whole snapshot in the place of what this node has of a space: record `begun` durable,
 * then the host's `restore`, then record `base` durable. A crash before the first leaves what was;
 * one behind it repeats `restore` (row 58).
 */

import { EngramError, failure } from '../../shared/errors.js';
import { sharedUpTo } from '../../shared/lead/epoch.js';
import { type SpaceFacts, setBase } from '../../shared/log/space-facts.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import type { Sequence } from '../../shared/position.js';
import type { SnapshotFacts, SnapshotWhole } from '../../shared/snapshot/facts.js';
import {
  type SpaceState,
  type SpaceTable,
  takeBack,
  wakeDurableWaits,
} from '../log/space-table.js';
import type { Wal } from '../log/wal.js';
import type { LogReader } from '../read/reader.js';
import type { Disk } from '../segments/disk.js';
import type { Segments } from '../segments/segments.js';
import type { SnapshotConfig } from './options.js';
import { keepSuffix } from './quarantine.js';
import type { Spool } from './spool.js';

export type InstallParts = readonly [Disk, string, NodeMemory, SpaceTable, Segments];

/**
 * The first entry of a space that is not of the history which a snapshot stands for. Where its
 * history does not reach back so far that anybody could say, none of them counts as part of it.
 * @returns undefined where all of them are
 */
export function divergedFrom(own: SpaceFacts, snapshot: SnapshotFacts): Sequence | undefined {
  const { sequence } = own.position;
  if (sequence < own.first) return undefined;
  const theirs = { rows: snapshot.history, last: snapshot.position.sequence };
  const common = sharedUpTo({ rows: own.history, last: sequence }, theirs) ?? 0;
  return common >= sequence ? undefined : Math.max(common + 1, own.first);
}

export interface InstallHooks {
  /** Entries that nobody else has are void with the snapshot: they are kept aside. */
  takenBack(space: SpaceState, from: Sequence, to: Sequence, quarantine: string): void;
  /** The host has thrown, or the log refuses for now: it is tried again after so long. */
  delayed(space: SpaceState, code: string, reason: string, retryAfterMs: number): void;
}

/** What hands entries to the host: not while a snapshot is put in place. */
export interface Applying {
  halt(space: SpaceState): Promise<void>;
  release(space: SpaceState): void;
}

export class SnapshotInstaller {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #memory: NodeMemory;
  readonly #segments: Segments;
  readonly #config: SnapshotConfig;
  readonly #reader: LogReader;
  readonly #wal: Wal;
  readonly #applier: () => Applying | undefined;
  readonly #hooks: InstallHooks;
  #isClosed = false;
  #wake = new Set<() => void>();

  constructor(
    parts: InstallParts,
    config: SnapshotConfig,
    reader: LogReader,
    wal: Wal,
    applier: () => Applying | undefined,
    hooks: InstallHooks,
  ) {
    [this.#disk, this.#dir, this.#memory, , this.#segments] = parts;
    this.#config = config;
    this.#reader = reader;
    this.#wal = wal;
    this.#applier = applier;
    this.#hooks = hooks;
  }

  /**
   * Resolves when the space stands on the snapshot, with false when the node closes before.
   * Rejects where the snapshot is of no use: `DiskFull`, and whatever else keeps it from being
   * begun; `ChecksumMismatch` or `Io` where the spool does not give what was verified.
   */
  async install(
    space: SpaceState,
    snapshot: SnapshotFacts,
    whole: SnapshotWhole,
    spool: Spool,
  ): Promise<boolean> {
    const { facts, slot } = space;
    await this.#applier()?.halt(space);
    if (facts.begun?.snapshot.id !== snapshot.id) {
      await this.#wal.whenDurable(space, this.#memory.allocated(slot));
      await this.#keepDiverged(space, snapshot);
      // A promotion, here or elsewhere, may have come meanwhile.
      if (facts.role !== 'replica' || facts.epochSeen > facts.epoch) {
        throw failure('Fenced', `epoch ${facts.epochSeen} of ${facts.name} is seen`);
      }
      await this.#wal.record({ kind: 'begun', id: facts.id, snapshot, whole }, () => {
        facts.begun = { snapshot, whole };
      });
    }
    if (!(await this.#restore(space, snapshot, whole, spool))) return false;
    const base = (): void => {
      const isBack = facts.position.sequence > snapshot.position.sequence;
      const from = divergedFrom(facts, snapshot) ?? Number.POSITIVE_INFINITY;
      setBase(facts, snapshot, this.#memory.durableLsn);
      const { sequence } = facts.position;
      if (isBack) this.#segments.rewindIndexes(slot, sequence + 1);
      this.#memory.setAllocated(slot, sequence);
      this.#memory.setDurable(slot, sequence);
      if (space.refusal?.code === 'CorruptionDetected') space.refusal = undefined;
      takeBack(space, from);
      wakeDurableWaits(space, sequence);
    };
    for (let attempts = 1; !this.#isClosed; attempts++) {
      try {
        await this.#wal.record({ kind: 'base', id: facts.id, snapshot }, base);
        return true;
      } catch (error) {
        if (this.#wal.failure || !(error instanceof EngramError)) throw error;
        await this.#later(space, error.code, error, attempts);
      }
    }
    return false;
  }

  /** What this node wrote as a former primary, and nobody received, is never wiped (P8). */
  async #keepDiverged(space: SpaceState, snapshot: SnapshotFacts): Promise<void> {
    const { facts } = space;
    const end = facts.position;
    const from = divergedFrom(facts, snapshot);
    if (from === undefined) return;
    const parts = [this.#disk, this.#dir, this.#memory, this.#reader] as const;
    const quarantine = await keepSuffix(...parts, space, from);
    this.#hooks.takenBack(space, from, end.sequence, quarantine);
  }

  /** Until the host has taken it. */
  async #restore(
    space: SpaceState,
    { position }: SnapshotFacts,
    whole: SnapshotWhole,
    spool: Spool,
  ): Promise<boolean> {
    const { epoch, sequence } = position;
    const { restore } = this.#config;
    if (!restore) throw failure('SnapshotUnavailable', 'this node has no restore()');
    for (let attempts = 1; !this.#isClosed; attempts++) {
      let bad: unknown;
      const watch = (): NodeJS.Timeout => {
        return setTimeout(() => this.#fellSilent(space), this.#config.hostTimeoutMs).unref();
      };
      let silent = watch();
      const chunks = async function* (): AsyncGenerator<Uint8Array> {
        try {
          for await (const chunk of spool.read(whole)) {
            clearTimeout(silent);
            silent = watch();
            yield chunk;
          }
        } catch (error) {
          bad = error;
          throw error;
        }
      };
      try {
        await restore(space.facts.name, { sequence, epoch, chunks: chunks() });
        if (bad === undefined) return true;
      } catch (error) {
        if (bad === undefined) await this.#later(space, 'SnapshotFailed', error, attempts);
      } finally {
        clearTimeout(silent);
      }
      // However the host takes it: these bytes are not the snapshot.
      if (bad !== undefined) throw bad;
    }
    return false;
  }

  /** Told, and waited for: two of them at once would be two states. */
  #fellSilent(space: SpaceState): void {
    const reason = `the host's restore() has not come further for ${this.#config.hostTimeoutMs} ms`;
    this.#hooks.delayed(space, 'SnapshotFailed', reason, 0);
  }

  async #later(space: SpaceState, code: string, error: unknown, attempts: number): Promise<void> {
    const steps = this.#config.backoffStepsMs;
    const ms = steps[Math.min(attempts, steps.length) - 1]!;
    const found = String((error as Error | undefined)?.message ?? error).split('\n', 1)[0]!;
    const what = code === 'SnapshotFailed' ? `the host's restore() threw: ${found}` : found;
    this.#hooks.delayed(space, code, what, ms);
    await new Promise<void>((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#wake.delete(done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.#wake.add(done);
      if (this.#isClosed) done();
    });
  }

  /** Nothing is tried again any more. */
  close(): void {
    this.#isClosed = true;
    for (const wake of [...this.#wake]) wake();
  }
}
