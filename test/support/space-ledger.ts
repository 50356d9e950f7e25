/** What is known of one space from outside: what was tried, and what was acknowledged. */
import assert from 'node:assert/strict';
import type { Space } from '#src/main/index.js';

/**
 * What an acknowledgement promises: `durable` survives a power loss (per-batch, per-write),
 * `written` the death of the process only (timer, none), until an fdatasync has covered it.
 */
export type AckPromise = 'durable' | 'written';

/** How a life has ended, as far as it matters to what was written and not yet durable. */
export type Ending = 'closed' | 'killed' | 'cache lost';

export class SpaceLedger {
  readonly name: string;
  /** Every payload that was ever offered, and the first sequence that it may have got. */
  readonly #tried = new Map<string, number>();
  readonly #acked = new Map<number, string>();
  /** Acknowledged when it was written; what is durable since stands in `#acked`. */
  readonly #written = new Map<number, string>();
  promise: AckPromise = 'durable';
  /** Called at each acknowledgement, in its turn. */
  onAck: (space: Space, sequence: number) => void = () => undefined;
  /** The host may have given up what is below. */
  checkpoint = 0;
  #count = 0;
  /** Nothing was offered since the log was opened: what is not in it is gone for good. */
  #isOpened = false;

  constructor(name: string) {
    this.name = name;
  }

  get acked(): number {
    return this.#acked.size + this.#written.size;
  }

  /** A payload that no other entry has. */
  payload(size: number): Buffer {
    const text = `${this.name} ${++this.#count} `;
    return Buffer.from(text.padEnd(Math.max(size, text.length), '.'));
  }

  /** @param sequence what it may get, or a later one: others may be staged before it */
  tried(sequence: number, payload: Uint8Array): void {
    this.#isOpened = false;
    const text = Buffer.from(payload).toString();
    this.#tried.set(text, Math.min(sequence, this.#tried.get(text) ?? sequence));
  }

  /** It was refused for good: it must not come any more. */
  untried(payload: Uint8Array): void {
    this.#tried.delete(Buffer.from(payload).toString());
  }

  ack(sequence: number, payload: Uint8Array): void {
    const known = this.promise === 'durable' ? this.#acked : this.#written;
    known.set(sequence, Buffer.from(payload).toString());
  }

  /** What the node says is durable is so, in every mode. */
  covered(durableSequence: number): void {
    for (const [sequence, payload] of this.#written) {
      if (sequence > durableSequence) continue;
      this.#acked.set(sequence, payload);
      this.#written.delete(sequence);
    }
  }

  /** A life is over: what was only written is there still, or may be gone. */
  ended(how: Ending): void {
    if (how !== 'cache lost') this.covered(Number.POSITIVE_INFINITY);
    this.#written.clear();
    this.#isOpened = true;
  }

  /** As of now, between two lives. @returns what brings it back */
  kept(): () => void {
    const [tried, acked, { checkpoint }] = [new Map(this.#tried), new Map(this.#acked), this];
    return () => {
      for (const known of [this.#tried, this.#acked, this.#written]) known.clear();
      for (const [payload, sequence] of tried) this.#tried.set(payload, sequence);
      for (const [sequence, payload] of acked) this.#acked.set(sequence, payload);
      this.checkpoint = checkpoint;
      this.#isOpened = true;
    };
  }

  /** One append, told truly. @returns whether it was acknowledged */
  async append(space: Space, size: number): Promise<boolean> {
    const payload = this.payload(size);
    this.tried(space.status().lastSequence + 1, payload);
    return await this.#told(async () => {
      const { sequence } = await space.append(1, payload);
      this.ack(sequence, payload);
      this.onAck(space, sequence);
    });
  }

  async appendBatch(space: Space, sizes: readonly number[]): Promise<boolean> {
    const payloads = sizes.map((size) => this.payload(size));
    const next = space.status().lastSequence + 1;
    for (const [i, payload] of payloads.entries()) this.tried(next + i, payload);
    return await this.#told(async () => {
      const { firstSequence } = await space.appendBatch(1, payloads);
      for (const [i, payload] of payloads.entries()) this.ack(firstSequence + i, payload);
      this.onAck(space, firstSequence + payloads.length - 1);
    });
  }

  /** @returns whether it was done; a refusal has a code */
  async #told(work: () => Promise<void>): Promise<boolean> {
    try {
      await work();
      return true;
    } catch (error) {
      if ((error as { code?: string }).code === undefined) throw error;
      if (error instanceof assert.AssertionError) throw error;
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
    assert.deepEqual(damage, [], what);
    this.covered(durableSequence);
    // Others go on meanwhile.
    const acked = [...this.#acked.keys()];
    const found = new Map<number, string>();
    let next = Math.max(1, firstSequence);
    const kept = Math.max(1, this.checkpoint);
    assert.ok(next <= kept, `${what}: ${this.name} begins at ${next}, checkpoint ${kept}`);
    for await (const entry of space.read({ from: next, to: Math.max(next, durableSequence) })) {
      assert.equal(entry.sequence, next, what);
      const payload = Buffer.from(entry.payload).toString();
      const known = this.#acked.get(next);
      if (known !== undefined) assert.equal(payload, known, `${what}: ${this.name} ${next}`);
      const isOffered = next >= (this.#tried.get(payload) ?? Number.POSITIVE_INFINITY);
      assert.ok(isOffered, `${what}: ${this.name} ${next} was never offered: ${payload.trimEnd()}`);
      // From now on it is durable: it must not change any more.
      this.#acked.set(next, payload);
      found.set(next, payload);
      next++;
    }
    if (this.#isOpened) this.#forget(found);
    assert.equal(next - 1, durableSequence, `${what}: the end of ${this.name}`);
    for (const sequence of acked) {
      assert.ok(sequence < next, `${what}: ${this.name} ends at ${next - 1}, acked ${sequence}`);
    }
    return found;
  }
  /** What an opening has not found never comes back. */
  #forget(found: ReadonlyMap<number, string>): void {
    const there = new Set(found.values());
    for (const payload of this.#tried.keys()) if (!there.has(payload)) this.#tried.delete(payload);
  }
}
