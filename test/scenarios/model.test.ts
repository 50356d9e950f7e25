/**
 * Operations in any order against a model that fits on a card: what was acknowledged is there,
 * what was not may be, at its place; nothing else. ENGRAM_TEST_SEED=<seed> repeats a run,
 * ENGRAM_TEST_RUNS asks for more of them.
 */
import { describe, expect, test } from 'vitest';
import type { Node, Space } from '#src/main/index.js';
import { openFake, SpaceLedger } from '../support/fake-cluster.js';
import { type Chance, chanceFrom, FakeDisk } from '../support/fake-disk.js';

const SEED = Number(process.env.ENGRAM_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const RUNS = Number(process.env.ENGRAM_TEST_RUNS ?? 12);
const MODES = ['per-batch', 'per-batch', 'per-write'] as const;
const OPERATIONS = 60;

class Run {
  readonly #chance: Chance;
  readonly #disk = new FakeDisk();
  readonly #ledgers = ['s', 't', 'u'].map((name) => new SpaceLedger(name));
  readonly #history: string[] = [];
  #node: Node | undefined;

  constructor(seed: number) {
    this.#chance = chanceFrom(seed);
  }

  get what(): string {
    return this.#history.slice(-12).join(', ');
  }

  async go(): Promise<void> {
    await this.#open();
    for (let n = 0; n < OPERATIONS; n++) await this.#operation();
    await this.#node?.close();
    await this.#open();
    await this.#check();
    await this.#node?.close();
  }

  async #open(): Promise<void> {
    const fsync = MODES[this.#chance(MODES.length)]!;
    this.#history.push(`open ${fsync}`);
    this.#node = await openFake(this.#disk, { fsync });
    for (const ledger of this.#ledgers) await this.#node.openSpace(ledger.name);
  }

  #any(): [SpaceLedger, Space] {
    const ledger = this.#ledgers[this.#chance(this.#ledgers.length)]!;
    return [ledger, this.#node!.space(ledger.name)];
  }

  async #operation(): Promise<void> {
    const kind = this.#chance(16);
    if (kind < 6) await this.#appends();
    else if (kind < 9) await this.#batch();
    else if (kind < 11) await this.#checkpoint();
    else if (kind === 11) await this.#check();
    else if (kind === 12) await this.#idle();
    else await this.#end(kind);
  }

  /** Several at once, of several spaces. */
  async #appends(): Promise<void> {
    this.#history.push('appends');
    await Promise.all(
      Array.from({ length: 1 + this.#chance(4) }, () => {
        const [ledger, space] = this.#any();
        return ledger.append(space, this.#chance(1_500));
      }),
    );
  }

  async #batch(): Promise<void> {
    this.#history.push('batch');
    const [ledger, space] = this.#any();
    const sizes = Array.from({ length: 1 + this.#chance(5) }, () => this.#chance(1_900));
    await ledger.appendBatch(space, sizes);
  }

  async #checkpoint(): Promise<void> {
    const [ledger, space] = this.#any();
    const to = 1 + this.#chance(space.status().durableSequence + 1);
    this.#history.push(`checkpoint ${ledger.name} ${to}`);
    ledger.checkpoint = Math.max(ledger.checkpoint, to);
    await space.checkpoint(to);
  }

  async #check(): Promise<void> {
    this.#history.push('read');
    for (const ledger of this.#ledgers) {
      const space = this.#node!.space(ledger.name);
      const all = await ledger.check(space, this.what);
      if (all.size === 0) continue;
      const sequences = [...all.keys()];
      const from = sequences[this.#chance(sequences.length)]!;
      const to = from + this.#chance(sequences.at(-1)! - from + 1);
      try {
        let next = from;
        for await (const entry of space.read({ from, to })) {
          expect(Buffer.from(entry.payload).toString(), this.what).toBe(all.get(next++));
        }
        expect(next, this.what).toBe(to + 1);
      } catch (error) {
        if ((error as { code?: string }).code !== 'Trimmed') throw error;
      }
    }
  }

  /** Long enough for a mark. */
  async #idle(): Promise<void> {
    this.#history.push('idle');
    await new Promise((resolve) => setTimeout(resolve, 70));
  }

  /** The node ends, with appends under way; what is found after it stays as it is found. */
  async #end(kind: number): Promise<void> {
    const how = kind === 13 ? 'close' : kind === 14 ? 'kill' : 'power loss';
    const open = this.#node!;
    const pending = [this.#appends(), this.#batch()];
    for (let turns = this.#chance(12); turns > 0; turns--) {
      await new Promise((resolve) => setImmediate(resolve));
    }
    this.#history.push(how);
    if (how === 'close') await open.close();
    else if (how === 'kill') this.#disk.kill();
    else this.#disk.crash(this.#chance);
    await Promise.all(pending);
    await open.close().catch(() => undefined);
    await this.#open();
    await this.#check();
    if (this.#chance(2) === 0) return;
    // Once more, with nothing in between: recovery is idempotent.
    this.#history.push('again');
    this.#disk.kill();
    await this.#node!.close().catch(() => undefined);
    await this.#open();
    await this.#check();
  }
}

describe('against a model', () => {
  test.each(Array.from({ length: RUNS }, (_, i) => SEED + i))('seed %i', async (seed) => {
    const run = new Run(seed);
    try {
      await run.go();
    } catch (error) {
      throw new Error(`seed ${seed}: ${run.what}`, { cause: error });
    }
  });
});
