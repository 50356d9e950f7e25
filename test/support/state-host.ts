/** A host whose state is made of entries: what a snapshot of it holds can be compared. */
import { createHash } from 'node:crypto';
import type { Entry, HostSnapshot, ReceivedSnapshot, Space } from '#src/main/index.js';

interface Kept {
  sequence: number;
  items: Buffer[];
}

/** Holds up whoever passes, from the n-th on, until it is opened. */
export class Gate {
  #waiting: (() => void)[] = [];
  #closedAt = Number.POSITIVE_INFINITY;
  /** Somebody stands before it. */
  isReached = false;

  closeAt(n: number): void {
    this.#closedAt = n;
    this.isReached = false;
  }

  open(): void {
    this.#closedAt = Number.POSITIVE_INFINITY;
    for (const go of this.#waiting.splice(0)) go();
  }

  readonly pass = async (n = 0): Promise<void> => {
    if (n < this.#closedAt) return;
    this.isReached = true;
    await new Promise<void>((resolve) => this.#waiting.push(resolve));
  };
}

export class StateHost {
  readonly #spaces = new Map<string, Kept>();
  /** How often each call was made. */
  snapshots = 0;
  restores = 0;
  /** Pieces that were pulled out of snapshots. */
  pulled = 0;
  closed = 0;
  /** Called before each piece of a snapshot is given. */
  beforePiece: (n: number) => Promise<void> | void = () => undefined;
  /** Called before a restored state takes the place of the old one. */
  beforeRestored: () => Promise<void> | void = () => undefined;
  /** Called when it has: a host that is to outlive its process is saved here. */
  restored: () => void = () => undefined;

  #of(space: string): Kept {
    let kept = this.#spaces.get(space);
    if (!kept) {
      kept = { sequence: 0, items: [] };
      this.#spaces.set(space, kept);
    }
    return kept;
  }

  /** Appends to the log and, once durable, to the state. */
  async append(space: Space, payload: Buffer): Promise<void> {
    const { sequence } = await space.append(1, payload);
    const kept = this.#of(space.name);
    kept.items.push(payload);
    kept.sequence = sequence;
  }

  readonly apply = async (entries: Entry[], { space }: { space: string }): Promise<void> => {
    const kept = this.#of(space);
    for (const entry of entries) {
      if (entry.sequence <= kept.sequence) continue;
      if (entry.sequence !== kept.sequence + 1) {
        throw new Error(`${space}: ${entry.sequence} is applied behind ${kept.sequence}`);
      }
      // Members may change meanwhile: that is an entry of the library's, and no host's state.
      if (entry.type < 5) kept.items.push(Buffer.from(entry.payload));
      kept.sequence = entry.sequence;
    }
  };

  readonly appliedUpTo = (space: string): number => this.#of(space).sequence;

  readonly snapshot = async (space: string): Promise<HostSnapshot> => {
    this.snapshots++;
    const { sequence, items } = this.#of(space);
    return { sequence, chunks: this.#pieces([...items]) };
  };

  async *#pieces(items: Buffer[]): AsyncGenerator<Uint8Array> {
    try {
      for (const [n, item] of items.entries()) {
        await this.beforePiece(n);
        this.pulled++;
        const head = Buffer.alloc(4);
        head.writeUInt32LE(item.length);
        yield Buffer.concat([head, item]);
      }
    } finally {
      this.closed++;
    }
  }

  readonly restore = async (
    space: string,
    { sequence, chunks }: ReceivedSnapshot,
  ): Promise<void> => {
    this.restores++;
    const parts: Uint8Array[] = [];
    for await (const chunk of chunks) parts.push(chunk);
    const bytes = Buffer.concat(parts);
    const items: Buffer[] = [];
    for (let at = 0; at < bytes.length; ) {
      const length = bytes.readUInt32LE(at);
      items.push(bytes.subarray(at + 4, at + 4 + length));
      at += 4 + length;
    }
    await this.beforeRestored();
    this.#spaces.set(space, { sequence, items });
    this.restored();
  };

  sequence(space: string): number {
    return this.#of(space).sequence;
  }

  toJSON(): unknown {
    const spaces = [...this.#spaces].map(([name, { sequence, items }]) => {
      return { name, sequence, items: items.map((item) => item.toString('base64')) };
    });
    return { spaces };
  }

  /** Takes what `toJSON` has given. */
  load(json: unknown): void {
    const { spaces } = json as { spaces: { name: string; sequence: number; items: string[] }[] };
    for (const { name, sequence, items } of spaces) {
      const decoded = items.map((item) => Buffer.from(item, 'base64'));
      this.#spaces.set(name, { sequence, items: decoded });
    }
  }

  /** Of all that the state of the space is. */
  digest(space: string): string {
    const hash = createHash('sha256');
    const { items } = this.#of(space);
    for (const item of items) hash.update(`${item.length} `).update(item);
    return `${items.length} ${hash.digest('hex')}`;
  }
}
