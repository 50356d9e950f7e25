/** One node on a fake disk, and an external checker of what it has acknowledged. */
import { expect } from 'vitest';
import type { Node, NodeOptions, Space } from '#src/main/index.js';
import { openNodeOn } from '#src/main/open-node.js';
import { SMALL } from './cluster.js';
import type { FakeDisk } from './fake-disk.js';

/** So small that a roll comes every few groups. */
export const TINY = {
  ...SMALL,
  segmentBytes: 16 * 1024,
  groupBytes: 4 * 1024,
  maxEntryBytes: 2 * 1024,
  memoryBudgetBytes: 64 * 1024,
  maxSpaces: 16,
} as const;

export function openFake(disk: FakeDisk, more: Partial<NodeOptions> = {}): Promise<Node> {
  return openNodeOn(disk.mount(), { ...TINY, dataDir: '/data', nodeId: 'a', ...more });
}

/** What is known of one space from outside: what was tried, and what was acknowledged. */
export class SpaceLedger {
  readonly name: string;
  /** By sequence: every payload that was ever offered under it. */
  readonly #tried = new Map<number, Set<string>>();
  readonly #acked = new Map<number, string>();
  /** The host may have given up what is below. */
  checkpoint = 0;
  #count = 0;

  constructor(name: string) {
    this.name = name;
  }

  get acked(): number {
    return this.#acked.size;
  }

  /** A payload that no other entry has. */
  payload(size: number): Buffer {
    const text = `${this.name} ${++this.#count} `;
    return Buffer.from(text.padEnd(Math.max(size, text.length), '.'));
  }

  tried(sequence: number, payload: Uint8Array): void {
    const known = this.#tried.get(sequence) ?? new Set();
    known.add(Buffer.from(payload).toString());
    this.#tried.set(sequence, known);
  }

  ack(sequence: number, payload: Uint8Array): void {
    this.#acked.set(sequence, Buffer.from(payload).toString());
  }

  /** One append, told truly. @returns whether it was acknowledged */
  async append(space: Space, size: number): Promise<boolean> {
    const payload = this.payload(size);
    const next = space.status().lastSequence + 1;
    // Other appends of this turn may come first: it is one of these.
    for (let s = next; s < next + 8; s++) this.tried(s, payload);
    try {
      const { sequence } = await space.append(1, payload);
      this.ack(sequence, payload);
      return true;
    } catch (error) {
      expect(error).toHaveProperty('code');
      return false;
    }
  }

  async appendBatch(space: Space, sizes: readonly number[]): Promise<boolean> {
    const payloads = sizes.map((size) => this.payload(size));
    const next = space.status().lastSequence + 1;
    for (let s = next; s < next + 8; s++) {
      for (const [i, payload] of payloads.entries()) this.tried(s + i, payload);
    }
    try {
      const { firstSequence } = await space.appendBatch(1, payloads);
      for (const [i, payload] of payloads.entries()) this.ack(firstSequence + i, payload);
      return true;
    } catch (error) {
      expect(error).toHaveProperty('code');
      return false;
    }
  }

  /** Everything acknowledged is there; nothing is there that was never offered at its place. */
  async check(space: Space, what: string): Promise<Map<number, string>> {
    for (;;) {
      try {
        return await this.#checkOnce(space, what);
      } catch (error) {
        // What it was about to read was freed meanwhile.
        if ((error as { code?: string }).code !== 'Trimmed') throw error;
      }
    }
  }

  async #checkOnce(space: Space, what: string): Promise<Map<number, string>> {
    const { firstSequence, durableSequence, damage } = space.status();
    expect(damage, what).toEqual([]);
    const found = new Map<number, string>();
    let next = Math.max(1, firstSequence);
    expect(next, `${what}: first retained`).toBeLessThanOrEqual(Math.max(1, this.checkpoint));
    for await (const entry of space.read({ from: next })) {
      expect(entry.sequence, what).toBe(next);
      const payload = Buffer.from(entry.payload).toString();
      const acked = this.#acked.get(next);
      if (acked !== undefined) expect(payload, `${what}: entry ${next}`).toBe(acked);
      else expect([...(this.#tried.get(next) ?? [])], `${what}: entry ${next}`).toContain(payload);
      // From now on it is durable: it must not change any more.
      this.#acked.set(next, payload);
      found.set(next, payload);
      next++;
    }
    expect(next - 1, `${what}: the end of ${this.name}`).toBe(durableSequence);
    for (const sequence of this.#acked.keys()) {
      expect(sequence, `${what}: acknowledged in ${this.name}`).toBeLessThan(next);
    }
    return found;
  }
}
