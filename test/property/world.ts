/**
 * One node on a nasty disk, in virtual time, and what its host knows from outside. Operations act
 * on it; how a life of it ends is an operation, too.
 */
import assert from 'node:assert/strict';
import type { Node, NodeOptions, Space } from '#src/main/index.js';
import { RESERVE } from '#src/main/segments/log-end.js';
import { Cluster, type SimNode } from '../sim/cluster.js';
import type { Chance } from '../support/chance.js';
import { assertDurable, touchedSegments } from '../support/durable-log.js';
import { TINY } from '../support/fake-cluster.js';
import type { AckPromise, Ending } from '../support/space-ledger.js';
import { SpaceLedger } from '../support/space-ledger.js';

/** Anything that is asked of a node has an outcome within this time, ms. */
const SETTLE_MS = 60_000;

/** What a life is opened with. */
export interface Life {
  readonly options: Partial<NodeOptions>;
  readonly promise: AckPromise;
}

/** A directory as it was once. */
export interface Copy {
  readonly image: ReturnType<SimNode['disk']['image']>;
  readonly ledgers: readonly (() => void)[];
}

/** Something that a host does, or that happens to it. */
export interface Operation {
  readonly name: string;
  /** How often it is chosen, against the others. */
  readonly weight: number;
  /** Rejects where a promise is broken. */
  run(world: World): Promise<void>;
}

export class World {
  readonly chance: Chance;
  readonly cluster: Cluster;
  readonly sim: SimNode;
  readonly ledgers = ['s', 't', 'u'].map((name) => new SpaceLedger(name));
  /** How often each operation and ending came, for reports. */
  readonly counts: Record<string, number> = {};
  readonly #trace: ((line: string) => void) | undefined;
  readonly #history: string[] = [];
  #failure: Error | undefined;
  /** The disk fails or is full: what is asked for may be refused, with a code. */
  isDisturbed = false;
  /** Each opening finds a disk that is full. */
  opensFull = false;
  /** What an entry may have had in any life. */
  longestBytes = 0;

  /** Of this directory, the first one of nothing. */
  readonly copies: Copy[] = [];

  constructor(chance: Chance, trace?: (line: string) => void) {
    this.chance = chance;
    this.#trace = trace;
    this.cluster = new Cluster(chance);
    this.sim = this.cluster.add('a', TINY);
    for (const ledger of this.ledgers) {
      ledger.onAck = (space, sequence) => this.#acked(ledger, space, sequence);
    }
    this.copies.push(this.copy());
  }

  /** The last of what has happened. */
  get history(): string {
    return this.#history.slice(-12).join(', ');
  }

  get acked(): number {
    return this.ledgers.reduce((sum, ledger) => sum + ledger.acked, 0);
  }

  note(what: string): void {
    this.#history.push(what);
    this.#trace?.(`${this.cluster.clock.nowMs.toFixed(3)} ${what}`);
  }

  count(what: string): void {
    this.counts[what] = (this.counts[what] ?? 0) + 1;
  }

  // --- lives ------------------------------------------------------------------------------------

  /** Opens the node and its spaces. @returns whether it could: not where `isDisturbed` */
  async open(life: Life): Promise<boolean> {
    this.sim.disk.assertSound();
    const { fsync, segmentBytes } = life.options;
    this.note(`open ${JSON.stringify(fsync)} ${segmentBytes ?? ''}`);
    this.sim.options = { ...TINY, ...life.options };
    this.longestBytes = Math.max(this.longestBytes, this.sim.options.maxEntryBytes ?? 0);
    for (const ledger of this.ledgers) ledger.promise = life.promise;
    const { strictTail } = life.options;
    const touched = strictTail ? touchedSegments(this.sim.disk, '/data') : [];
    const { disk } = this.sim;
    // The room that is set aside is for that (row 13).
    if (this.opensFull && disk.list('/data').includes(RESERVE)) {
      this.note('on a full disk');
      disk.capacityBytes = disk.usedBytes;
    }
    const error = await this.cluster.within(SETTLE_MS, 'opening', this.sim.start());
    disk.capacityBytes = Number.POSITIVE_INFINITY;
    if (strictTail && error && (error as { code?: string }).code === 'CorruptionDetected') {
      return await this.open({ ...life, options: { ...life.options, strictTail: false } });
    }
    if (error) return this.#refused(error);
    // What was torn there would be cut without a word.
    const { durableLsn } = this.node.status();
    const passed = touched.filter((start) => start >= durableLsn);
    assert.deepEqual(passed, [], `strictTail opened over what stands behind ${durableLsn}`);
    try {
      await this.run('openSpace', async () => {
        for (const { name } of this.ledgers) await this.node.openSpace(name);
      });
      return true;
    } catch (refusal) {
      return this.#refused(refusal);
    }
  }

  /** The life is over, and so is what was under way in it. */
  async ended(how: Ending): Promise<void> {
    this.sim.disk.inject(undefined);
    this.sim.disk.unwatch();
    this.sim.disk.delay = undefined;
    this.sim.disk.capacityBytes = Number.POSITIVE_INFINITY;
    this.isDisturbed = false;
    for (const ledger of this.ledgers) ledger.ended(how);
    this.sim.disk.assertSound();
    if (this.#failure) throw this.#failure;
  }

  /** Copies the directory of a node that is closed, with what is known of it. */
  copy(): Copy {
    return { image: this.sim.disk.image(), ledgers: this.ledgers.map((ledger) => ledger.kept()) };
  }

  /** The directory is another one from now on: what it holds is what was known of that. */
  putBack({ image, ledgers }: Copy): void {
    this.sim.disk.restore(image);
    for (const bringBack of ledgers) bringBack();
  }

  /** What is durable as the node says: nothing of it may be lost from now on. */
  look(): void {
    if (!this.sim.node) return;
    const status = this.sim.node.status();
    assertDurable(this.sim.disk, '/data', status.durableLsn);
    for (const { name, durableSequence } of status.spaces) {
      this.ledgers.find((ledger) => ledger.name === name)?.covered(durableSequence);
    }
  }

  #acked(ledger: SpaceLedger, space: Space, sequence: number): void {
    this.look();
    if (ledger.promise === 'written') return;
    const { durableSequence } = space.status();
    assert.ok(durableSequence >= sequence, `${sequence} acknowledged, durable ${durableSequence}`);
  }

  // --- work of the host -------------------------------------------------------------------------

  get node(): Node {
    assert.ok(this.sim.node, 'the node is not open');
    return this.sim.node;
  }

  any(): [SpaceLedger, Space] {
    const ledger = this.ledgers[this.chance(this.ledgers.length)]!;
    return [ledger, this.node.space(ledger.name)];
  }

  /** The process that was started last has died. */
  get isOver(): boolean {
    return this.sim.owner.isDead;
  }

  /** Work of the host, to its end, or that of its process: what a dead one asked for stays open. */
  async run(what: string, work: () => Promise<void>): Promise<void> {
    const { clock } = this.cluster;
    const { owner } = this.sim;
    let outcome: { error?: unknown } | undefined;
    clock.as(owner, work).then(
      () => {
        outcome = {};
      },
      (error) => {
        outcome = { error };
      },
    );
    const end = clock.nowMs + SETTLE_MS;
    while (!outcome && !owner.isDead) {
      if (clock.nowMs > end) throw new Error(`not within ${SETTLE_MS} ms: ${what}`);
      await this.pass(1);
    }
    if (this.#failure) throw this.#failure;
    if (outcome && 'error' in outcome && !owner.isDead) throw outcome.error;
  }

  /** Work of the host that goes on by itself; the end of the life may cut it off. */
  begin(what: string, work: () => Promise<void>): void {
    this.cluster.clock
      .as(this.sim.owner, () => this.refusable(work))
      .catch((error) => {
        this.#failure ??= new Error(`${what}: ${error.message}`, { cause: error });
      });
  }

  /** Lets time pass: what is under way gets so far. */
  async pass(ms: number): Promise<void> {
    await this.cluster.clock.runFor(ms);
    if (this.#failure) throw this.#failure;
  }

  /** Where the disk is disturbed a refusal is fine, if it has a code. */
  async refusable(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#refused(error);
    }
  }

  #refused(error: unknown): false {
    const { code } = error as { code?: string };
    if (!this.isDisturbed || !code || error instanceof assert.AssertionError) throw error;
    this.note(`refused: ${(error as Error).message.split('\n')[0]!.slice(0, 100)}`);
    return false;
  }

  /** Everything acknowledged is there, read whole and in part. */
  async check(): Promise<void> {
    this.look();
    await this.run('reading', async () => {
      for (const ledger of this.ledgers) {
        const space = this.node.space(ledger.name);
        const all = await ledger.check(space, this.history);
        if (all.size > 0) await this.#readPart(space, all);
      }
    });
  }

  async #readPart(space: Space, all: ReadonlyMap<number, string>): Promise<void> {
    const sequences = [...all.keys()];
    const from = sequences[this.chance(sequences.length)]!;
    const to = from + this.chance(sequences.at(-1)! - from + 1);
    try {
      let next = from;
      for await (const entry of space.read({ from, to })) {
        assert.equal(Buffer.from(entry.payload).toString(), all.get(next++), this.history);
      }
      assert.equal(next, to + 1, this.history);
    } catch (error) {
      if ((error as { code?: string }).code !== 'Trimmed') throw error;
    }
  }
}

/** One of them, by their weights. */
export function choose<T extends { readonly weight: number }>(from: readonly T[], by: Chance): T {
  let left = by(from.reduce((sum, one) => sum + one.weight, 0));
  for (const one of from) {
    left -= one.weight;
    if (left < 0) return one;
  }
  throw new Error('nothing to choose from');
}
