/**
 * Random histories of one space and its replicas, and what the figures of lag make of them, against
 * exact times: a list of every group, kept whole.
 */
import { DurableTimes, rowsEach } from '#src/shared/link/durable-times.js';
import { lagOf } from '#src/shared/link/lag.js';
import { type Chance, chanceFrom } from '../support/chance.js';

/** The bound: the greater of both, either way. */
const SHARE = 0.05;
const MS = 100;
/** What is joined although it is more than a tenth: half of it may be missing or too much. */
const BYTES = 32 * 1024;

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

interface Group {
  readonly last: number;
  readonly ms: number;
  readonly bytes: number;
}

export interface Worst {
  looks: number;
  /** By how much of the exact figure it was off, where that is beyond the floor. */
  msShare: number;
  bytesShare: number;
  /** The most that one space has kept. */
  rows: number;
  groups: number;
  /** The greatest exact lag. */
  outageMs: number;
}

/** One space, written and shipped at random. Throws an Error that names the figure that is off. */
export class LagHistory {
  readonly #chance: Chance;
  readonly #times: DurableTimes;
  readonly #rowsMax: number;
  readonly #groups: Group[] = [];
  readonly #start: number;
  #nowMs = 0;
  #sequence: number;
  #bytes = 0;
  /** Where each replica stands; the times of who is away do not move. */
  readonly #flushed: number[];
  readonly worst: Worst = { looks: 0, msShare: 0, bytesShare: 0, rows: 0, groups: 0, outageMs: 0 };

  constructor(seed: number, spaces: number) {
    this.#chance = chanceFrom(seed);
    this.#rowsMax = rowsEach(spaces);
    this.#sequence = this.#chance(1_000);
    this.#start = this.#sequence;
    this.#times = new DurableTimes(this.#start);
    this.#flushed = Array.from({ length: 1 + this.#chance(3) }, () => this.#sequence);
  }

  /** Some spaces of a node of many: all that its figures have been off by. */
  static ofNode(seed: number): Worst {
    const chance = chanceFrom(seed);
    const spaces = [1, 40, 1_000, 2_048][chance(4)]!;
    const all = Array.from({ length: 1 + chance(4) }, (_, n) =>
      new LagHistory(5 * seed + n, spaces).run(),
    );
    const worst = (key: keyof Worst): number => Math.max(...all.map((one) => one[key]));
    const sum = (key: keyof Worst): number => all.reduce((total, one) => total + one[key], 0);
    return {
      looks: sum('looks'),
      msShare: worst('msShare'),
      bytesShare: worst('bytesShare'),
      rows: worst('rows'),
      groups: sum('groups'),
      outageMs: worst('outageMs'),
    };
  }

  run(): Worst {
    const steps = 3 + this.#chance(10);
    for (let n = 0; n < steps; n++) this.#step();
    return this.worst;
  }

  #step(): void {
    const chance = this.#chance;
    const pick = <T>(of: readonly T[]): T => of[chance(of.length)]!;
    // Each replica is away, keeps up, or comes after for a while.
    const moves = this.#flushed.map(() => pick(['away', 'away', 'up', 'slow'] as const));
    // 0: groups of one fdatasync, which became durable at one moment.
    const pace = pick([0, 1, 7, 40, 300, 5_000, MINUTE, 30 * MINUTE]);
    const groups = 1 + chance(pace === 0 ? 1_000 : 300);
    const entries = pick([1, 1, 3, 100, 4_000]);
    const size = pick([80, 300, 4_000, 60_000]);
    for (let n = 0; n < groups; n++) {
      this.#nowMs += chance(2 * pace) + (chance(50) === 0 ? chance(100 * pace) : 0);
      this.#append(1 + chance(entries), size);
      for (const [r, move] of moves.entries()) this.#move(r, move);
      if (chance(10) === 0) this.#tick();
      if (chance(7) === 0) this.#look();
    }
    this.#nowMs += pick([0, 50, 2_000, 5 * MINUTE, 6 * 60 * MINUTE, 2 * DAY]);
    this.#look();
    this.#tick();
    this.#look();
  }

  #append(entries: number, size: number): void {
    const first = this.#sequence + 1;
    this.#sequence += entries;
    let bytes = 0;
    for (let n = 0; n < Math.min(entries, 8); n++) bytes += 64 + this.#chance(2 * size);
    bytes = Math.round((bytes * entries) / Math.min(entries, 8));
    this.#bytes += bytes;
    this.#groups.push({ last: this.#sequence, ms: this.#nowMs, bytes: this.#bytes });
    this.#times.add(first, this.#sequence, bytes, this.#nowMs, this.#rowsMax);
    this.worst.groups++;
    this.worst.rows = Math.max(this.worst.rows, this.#times.rows);
  }

  #move(r: number, move: 'away' | 'up' | 'slow'): void {
    if (move === 'away') return;
    const lacks = this.#sequence - this.#flushed[r]!;
    this.#flushed[r]! += move === 'up' ? lacks : this.#chance(Math.ceil(lacks / 3) + 1);
  }

  /** As the monitor does it. */
  #tick(): void {
    this.#times.forget(Math.min(...this.#flushed));
  }

  #look(): void {
    for (const flushed of this.#flushed) {
      this.worst.looks++;
      const lag = lagOf(this.#times, this.#sequence, flushed, undefined, true, this.#nowMs);
      if (lag.entries !== this.#sequence - flushed) throw new Error(`entries: ${lag.entries}`);
      const { ms, bytes, slack } = this.#exact(flushed);
      this.#compare('ms', lag.ms, ms, MS);
      this.#compare('bytes', lag.bytes, bytes, Math.max(BYTES, slack));
    }
  }

  /** @returns slack: the bytes of the group in the middle of which the replica stands */
  #exact(flushed: number): { ms: number; bytes: number; slack: number } {
    if (flushed >= this.#sequence) return { ms: 0, bytes: 0, slack: 0 };
    let low = 0;
    let high = this.#groups.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#groups[middle]!.last <= flushed) low = middle + 1;
      else high = middle;
    }
    const group = this.#groups[low]!;
    const before = this.#groups[low - 1];
    const isWhole = (before?.last ?? this.#start) === flushed;
    const begins = before?.bytes ?? 0;
    const ms = this.#nowMs - group.ms;
    this.worst.outageMs = Math.max(this.worst.outageMs, ms);
    return { ms, bytes: this.#bytes - begins, slack: isWhole ? 0 : group.bytes - begins };
  }

  #compare(what: 'ms' | 'bytes', told: number | 'unknown', exact: number, floor: number): void {
    if (told === 'unknown') throw new Error(`${what}: unknown, exact ${exact}`);
    const off = Math.abs(told - exact);
    if (off <= floor) return;
    const key = what === 'ms' ? 'msShare' : 'bytesShare';
    this.worst[key] = Math.max(this.worst[key], off / exact);
    if (off <= SHARE * exact) return;
    throw new Error(`${what}: ${told} is told, it is ${exact}; ${this.#times.rows} rows`);
  }
}
