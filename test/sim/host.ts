/**
 * The host of each node, and what is known from outside: everything that was offered, what was
 * acknowledged, what a replica's host has committed.
 */
import type { Entry, Space } from '#src/main/index.js';
import { MEMBERS_ENTRY } from '#src/shared/members/members.js';
import { Violation } from './cluster.js';

/** What one space has been told and has acknowledged. */
export class Ledger {
  readonly name: string;
  /** By sequence: every payload that was ever offered under it, in this order. */
  readonly #offered = new Map<number, string[]>();
  readonly #settled = new Map<number, string>();
  /** Acknowledged when they were written (fsync by a timer): a power loss may take them. */
  readonly #unproven = new Set<number>();
  /** The highest sequence that was acknowledged and must stay. */
  acked = 0;
  checkpoint = 0;
  #count = 0;

  constructor(name: string) {
    this.name = name;
  }

  payload(size: number): Buffer {
    const text = `${this.name} ${++this.#count} `;
    return Buffer.from(text.padEnd(Math.max(size, text.length), '.'));
  }

  /** A payload has got this sequence, though nothing is known yet of its fate. */
  offered(sequence: number, payload: Uint8Array): void {
    const known = this.#offered.get(sequence) ?? [];
    known.push(Buffer.from(payload).toString());
    this.#offered.set(sequence, known);
  }

  /** The log was opened and ends here: what was offered behind it is gone, and never comes back. */
  opened(durable: number): void {
    for (const sequence of this.#offered.keys()) {
      if (sequence > durable) this.#offered.delete(sequence);
    }
    for (const sequence of this.#unproven) this.#settled.delete(sequence);
    this.#unproven.clear();
  }

  /** @param isDurable whether the acknowledgement promises more than that it is written */
  ack(sequence: number, payload: Uint8Array, isDurable: boolean): void {
    this.#settle(sequence, Buffer.from(payload).toString(), 'acknowledged');
    if (isDurable) this.acked = Math.max(this.acked, sequence);
    else this.#unproven.add(sequence);
  }

  /** The log says that all up to there is durable. */
  covered(durable: number): void {
    for (const sequence of this.#unproven) {
      if (sequence > durable) continue;
      this.#unproven.delete(sequence);
      this.acked = Math.max(this.acked, sequence);
    }
  }

  /** One place in history holds one payload, wherever and whenever it is seen (I2). */
  #settle(sequence: number, payload: string, how: string): void {
    const known = this.#settled.get(sequence);
    if (known !== undefined && known !== payload) {
      throw new Violation(
        `${this.name} ${sequence}: ${how} as ${brief(payload)}, before as ${brief(known)}`,
      );
    }
    this.#settled.set(sequence, payload);
  }

  /** An entry as a log or a host has it. */
  seen(entry: Entry, where: string): void {
    const payload = Buffer.from(entry.payload).toString();
    // Who counts is written by the log itself.
    const isOwn = entry.type === MEMBERS_ENTRY;
    if (!isOwn && !this.#offered.get(entry.sequence)?.includes(payload)) {
      throw new Violation(`${where}: ${this.name} ${entry.sequence} was never offered`);
    }
    this.covered(entry.sequence);
    this.#settle(entry.sequence, payload, where);
  }

  /** A whole log: no gap, nothing foreign, all that was acknowledged. @returns its last sequence */
  async check(space: Space, where: string): Promise<number> {
    const { firstSequence, durableSequence, damage } = space.status();
    if (damage.length > 0) throw new Violation(`${where}: ${this.name} is damaged`);
    let next = Math.max(1, firstSequence);
    for await (const entry of space.read({ from: next, to: Math.max(next, durableSequence) })) {
      if (entry.sequence !== next) throw new Violation(`${where}: ${this.name} lacks ${next}`);
      this.seen(entry, where);
      next++;
    }
    if (durableSequence > 0 && next - 1 !== durableSequence) {
      throw new Violation(`${where}: ${this.name} ends at ${next - 1}, said ${durableSequence}`);
    }
    return durableSequence;
  }
}

/** What a replica's host keeps: data and position, committed together. */
export class HostStore {
  readonly #applied = new Map<string, number>();
  readonly #ledgers: ReadonlyMap<string, Ledger>;
  readonly name: string;
  /** It keeps no position of its own: entries may come again after a crash. */
  readonly isForgetful: boolean;

  constructor(name: string, ledgers: ReadonlyMap<string, Ledger>, isForgetful: boolean) {
    this.name = name;
    this.#ledgers = ledgers;
    this.isForgetful = isForgetful;
  }

  appliedUpTo(space: string): number {
    return this.#applied.get(space) ?? 0;
  }

  /** The state was replaced by one that stands for the space up to `sequence`. */
  restored(space: string, sequence: number): void {
    const applied = this.appliedUpTo(space);
    if (sequence < applied && !this.isForgetful) {
      throw new Violation(
        `host of ${this.name}: ${space} goes back from ${applied} to ${sequence}`,
      );
    }
    this.#applied.set(space, sequence);
  }

  /** In order, none skipped; none twice where the position is the host's own (row 51). */
  commit(space: string, entries: readonly Entry[]): void {
    let applied = this.appliedUpTo(space);
    for (const entry of entries) {
      const isNext = entry.sequence === applied + 1;
      const isAgain = this.isForgetful && entry.sequence <= applied;
      if (!isNext && !isAgain) {
        throw new Violation(`host of ${this.name}: ${space} ${entry.sequence} after ${applied}`);
      }
      this.#ledgers.get(space)!.seen(entry, `host of ${this.name}`);
      applied = Math.max(applied, entry.sequence);
    }
    this.#applied.set(space, applied);
  }
}

function brief(payload: string): string {
  return JSON.stringify(payload.slice(0, 24).trimEnd());
}
