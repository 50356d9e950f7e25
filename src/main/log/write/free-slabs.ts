/**
 * Which slab the next group gets. Where there are links, what is published stays readable for a
 * while: small groups stand behind each other in one slab, and the slab that is taken is the one
 * that was given back first. So it is bytes that stay, not groups, and no more memory is touched
 * than that takes. Without links it is the one that was used last: it is in the caches.
 *
 * Each group that is not sealed yet may need another slab, to be grouped in. One in a slab of its
 * own gives that one back then; one behind others does not: for each of those one more stays free.
 */
import { SLAB_KEPT_MS, TRAILER_BYTES } from '../../../shared/limits.js';
import { type NodeMemory, RUN_FIELDS, type Slab } from '../../../shared/memory/slab.js';
import type { LogGroup } from './open-group.js';

export class FreeSlabs {
  readonly #memory: NodeMemory;
  /** That nothing has been written to yet. */
  readonly #fresh: Slab[];
  /** Whole ones, in the order in which they were given back; and when that was, by slab. */
  readonly #free: Slab[] = [];
  readonly #freeMs: Float64Array;
  /** By slab: groups of this node that stand in it. */
  readonly #groups: Int32Array;
  /** Behind the group that got its place last, in a slab that is not among the free ones. */
  #rest: Slab | undefined;
  /** Groups that are staged behind others and not sealed yet. */
  readonly #behind = new Set<Slab>();
  /** Bytes that the next group may come to; Infinity: it is not to stay where it is staged. */
  #expected = 0;
  /** Slabs that groups stand in. */
  inUse = 0;

  constructor(memory: NodeMemory) {
    const { slabCount } = memory.memory;
    this.#memory = memory;
    this.#fresh = memory.slabs.slice(0, slabCount);
    this.#freeMs = new Float64Array(slabCount);
    this.#groups = new Int32Array(slabCount);
  }

  /** Whether there is one more to be staged in. */
  get hasRoom(): boolean {
    return !this.#isFew || (this.#isRestFree && this.#count + 1 >= this.#behind.size + 2);
  }

  /** For a group whose first entries are so many bytes and runs; undefined: there is no room. */
  open(bytes: number, runs: number): Slab | undefined {
    if (!this.hasRoom) return undefined;
    if (this.#isFew) this.#leave();
    else if (this.#fits(Math.max(bytes, this.#expected), runs)) {
      this.#behind.add(this.#rest!);
      return this.#take(this.#rest!);
    }
    return this.#take(this.#next());
  }

  /** The group takes no more: where it can be sealed where it stands, the next one follows it. */
  closed({ slab, bytes, runs, grouped }: LogGroup): void {
    this.#expected = grouped ? 1.5 * bytes : Number.POSITIVE_INFINITY;
    if (grouped) this.#goOnBehind(slab, bytes, runs);
  }

  /** Where the group is to stand, which is sealed next. */
  target({ slab, bytes, runs, grouped }: LogGroup): Slab {
    this.#behind.delete(slab);
    if (grouped) return slab;
    const target = this.#take(this.#fits(bytes, runs) ? this.#rest! : this.#next());
    this.#goOnBehind(target, bytes, runs);
    return target;
  }

  /**
   * A group is through with it. What was published there stays readable, until it is taken again.
   * @param isKept false: the group was staged there alone, and who would read it finds it elsewhere
   */
  give(slab: Slab, isKept = true): void {
    this.#behind.delete(slab);
    const whole = this.#whole(slab);
    if (--this.#groups[whole.index]! > 0) return;
    this.inUse--;
    if (this.#rest && this.#whole(this.#rest) === whole) return;
    if (isKept || slab !== whole) this.#free.push(whole);
    else this.#free.unshift(whole);
    this.#freeMs[whole.index] = isKept ? performance.now() : Number.NEGATIVE_INFINITY;
  }

  get #count(): number {
    return this.#free.length + this.#fresh.length;
  }

  /** A whole one for the next group would be the last that one could be grouped in. */
  get #isFew(): boolean {
    return this.#count < this.#behind.size + 2;
  }

  #next(): Slab {
    if (!this.#memory.isShipped) return (this.#free.pop() ?? this.#fresh.pop())!;
    const oldest = this.#free[0];
    const isOver = oldest && performance.now() - this.#freeMs[oldest.index]! >= SLAB_KEPT_MS;
    return (isOver ? this.#free.shift() : (this.#fresh.pop() ?? this.#free.shift()))!;
  }

  #take(slab: Slab): Slab {
    if (slab === this.#rest) this.#rest = undefined;
    if (++this.#groups[this.#whole(slab).index]! === 1) this.inUse++;
    this.#memory.withdrawSlab(slab.index);
    return slab;
  }

  #goOnBehind(slab: Slab, bytes: number, runs: number): void {
    this.#leave();
    if (!this.#memory.isShipped) return;
    const { slabs, memory } = this.#memory;
    const end = slab.bytes.byteOffset + bytes + TRAILER_BYTES;
    const tableEnd = slab.runs.byteOffset + runs * RUN_FIELDS * slab.runs.BYTES_PER_ELEMENT;
    for (let at = slab.index + memory.slabCount; at < slabs.length; at += memory.slabCount) {
      const rest = slabs[at]!;
      if (rest.bytes.byteOffset < end || rest.runs.byteOffset < tableEnd) continue;
      this.#rest = rest;
      return;
    }
  }

  /** Nothing more begins behind the group that was placed last. */
  #leave(): void {
    if (this.#isRestFree) {
      const whole = this.#whole(this.#rest!);
      this.#free.push(whole);
      this.#freeMs[whole.index] = performance.now();
    }
    this.#rest = undefined;
  }

  get #isRestFree(): boolean {
    return this.#rest !== undefined && this.#groups[this.#whole(this.#rest).index] === 0;
  }

  #fits(bytes: number, runs: number): boolean {
    if (!this.#rest) return false;
    const hasBytes = bytes + TRAILER_BYTES <= this.#rest.bytes.length;
    return hasBytes && runs * RUN_FIELDS <= this.#rest.runs.length;
  }

  #whole({ index }: Slab): Slab {
    return this.#memory.slabs[index % this.#memory.memory.slabCount]!;
  }
}
