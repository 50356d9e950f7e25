/**
 * What is known from outside of the histories of each space. One node leads an epoch, so an entry's
 * epoch and sequence say all that is before it: whoever is handed entries one behind the other,
 * wherever and whenever, must be handed a part of one and the same tree. What is taken back is a
 * branch of it; who goes from one branch to another without being told has been handed what never
 * was.
 */
import type { Entry, Node } from '#src/main/index.js';
import { Violation } from './cluster.js';

/** An entry as somebody was handed it. */
export interface Seen {
  readonly sequence: number;
  readonly epoch: number;
  readonly payload: string;
}

export function seenOf({ sequence, epoch, payload }: Entry): Seen {
  return { sequence, epoch, payload: Buffer.from(payload).toString('latin1') };
}

export class Histories {
  /** By space, epoch and sequence. */
  readonly #payloads = new Map<string, string>();
  /** The epoch of the entry before it. */
  readonly #before = new Map<string, number>();

  /**
   * Throws a Violation.
   * @param before what the same one has been handed before it, if anything
   */
  saw(space: string, one: Seen, before: Seen | undefined, who: string): void {
    const { sequence, epoch, payload } = one;
    const what = `${who}: ${space} ${sequence} of epoch ${epoch}`;
    const key = `${space} ${epoch} ${sequence}`;
    if ((this.#payloads.get(key) ?? payload) !== payload) {
      throw new Violation(`${what} is ${brief(payload)}, was ${brief(this.#payloads.get(key)!)}`);
    }
    this.#payloads.set(key, payload);
    if (!before) return;
    if (before.sequence !== sequence - 1) {
      throw new Violation(`${what} comes behind ${before.sequence}`);
    }
    const known = this.#before.get(key) ?? before.epoch;
    if (known !== before.epoch || before.epoch > epoch) {
      throw new Violation(`${what} comes behind epoch ${before.epoch}, not ${known}: it is void`);
    }
    this.#before.set(key, known);
  }
}

/** What one consumer has been handed of a space, from some sequence on. */
export class Handed {
  readonly #histories: Histories;
  readonly space: string;
  readonly who: string;
  readonly #seen = new Map<number, Seen>();
  /** The next one that it wants. */
  next: number;

  constructor(histories: Histories, space: string, who: string, from: number) {
    this.#histories = histories;
    this.space = space;
    this.who = who;
    this.next = from;
  }

  /** In order, none skipped, none out of another history. Throws a Violation. */
  take(entry: Entry): void {
    const one = seenOf(entry);
    const { sequence } = one;
    const own = this.#seen.get(sequence);
    if (own && (own.epoch !== one.epoch || own.payload !== one.payload)) {
      const again = `again: epoch ${one.epoch}, was ${own.epoch}`;
      throw new Violation(`${this.who}: ${this.space} ${sequence} ${again}`);
    }
    if (sequence > this.next) {
      throw new Violation(`${this.who}: ${this.space} ${sequence}, wanted ${this.next}`);
    }
    this.#histories.saw(this.space, one, this.#seen.get(sequence - 1), this.who);
    this.#seen.set(sequence, one);
    this.next = Math.max(this.next, sequence + 1);
  }

  /** It was told that all from there on is void. */
  rewound(from: number): void {
    for (const sequence of this.#seen.keys()) if (sequence >= from) this.#seen.delete(sequence);
    this.next = Math.min(this.next, from);
  }

  /** It does without what comes before. */
  skipTo(sequence: number): void {
    this.next = Math.max(this.next, sequence);
  }

  /** Throws a Violation where it has anything that is not in this log; by sequence, from 1 on. */
  assertIn(log: readonly Seen[]): void {
    for (const { sequence, epoch } of this.#seen.values()) {
      if (log[sequence - 1]?.epoch === epoch) continue;
      throw new Violation(`${this.who} has ${this.space} ${sequence} of epoch ${epoch}: void`);
    }
  }
}

/** By sequence, from the first on. */
export async function contentOf(node: Node, name: string): Promise<Seen[]> {
  const found: Seen[] = [];
  for await (const entry of node.space(name).read()) {
    if (entry.sequence !== found.length + 1) throw new Violation(`${name}: no ${found.length + 1}`);
    found.push(seenOf(entry));
  }
  return found;
}

function brief(payload: string): string {
  return JSON.stringify(payload.slice(0, 24).trimEnd());
}
