/**
 * The bytes of one file on the fake disk: what the cache shows, what is durable, and every version
 * of a sector between the two. The fault model stands at the head of fake-disk.ts.
 */
import type { Chance } from './chance.js';

export const SECTOR = 512;

/** Where sectors are torn one in so many holds neither old bytes nor new ones. */
const TORN_ONE_IN = 3;

/** Content of a sector; undefined is zeros. */
type Content = Uint8Array | undefined;

interface Version<T> {
  /** Of the write that made it; they ascend. */
  readonly stamp: number;
  readonly value: T;
}

export class FakeInode {
  size = 0;
  durableSize = 0;
  /** Open handles of the process that lives. */
  handles = 0;
  /** Sectors are never changed in place: cache, versions, durable and images share them. */
  readonly #cache = new Map<number, Uint8Array>();
  readonly #durable = new Map<number, Uint8Array>();
  /** What each sector has held since it became durable last, oldest first. */
  readonly #versions = new Map<number, Version<Content>[]>();
  #sizes: Version<number>[] = [];
  /** Sectors of a failed fdatasync: clean, and the cache shows what the disk may not have. */
  readonly #failed = new Set<number>();
  /** Sectors that the disk cannot read any more, until they are written again. */
  readonly #unreadable = new Set<number>();
  #stamp = 0;

  /** Of the last write so far: what a sync that begins now will cover. */
  get stamp(): number {
    return this.#stamp;
  }

  get sectors(): number {
    return this.#cache.size;
  }

  /** Whether a write of this sector takes room that the file has not yet. */
  has(sector: number): boolean {
    return this.#cache.has(sector);
  }

  write(bytes: Uint8Array, position: number): void {
    this.#stamp++;
    // Whole sectors share one copy: a buffer for each is what simulators would spend their time on.
    const copy = bytes.slice();
    for (const [sector, from, to] of sectorsOf(position, position + bytes.length)) {
      let content = copy.subarray(from - position, to - position);
      if (to - from < SECTOR) {
        const part = content;
        content = this.#cache.get(sector)?.slice() ?? new Uint8Array(SECTOR);
        content.set(part, from - sector * SECTOR);
      }
      this.#change(sector, content);
    }
    this.#resize(Math.max(this.size, position + bytes.length));
  }

  truncate(size: number): void {
    this.#stamp++;
    for (const [sector, content] of [...this.#cache]) {
      const start = sector * SECTOR;
      if (start >= size) this.#change(sector, undefined);
      else if (start + SECTOR > size) this.#change(sector, content.slice().fill(0, size - start));
    }
    this.#resize(size);
  }

  #change(sector: number, content: Content): void {
    put(this.#cache, sector, content);
    const version = { stamp: this.#stamp, value: content };
    const versions = this.#versions.get(sector);
    if (versions) versions.push(version);
    else this.#versions.set(sector, [version]);
    this.#failed.delete(sector);
    this.#unreadable.delete(sector);
  }

  /** The disk loses these sectors, and says so when they are read. */
  spoil(from: number, to: number): void {
    for (const [sector] of sectorsOf(from, to)) this.#unreadable.add(sector);
  }

  isReadable(from: number, to: number): boolean {
    for (const [sector] of sectorsOf(from, Math.min(to, this.size))) {
      if (this.#unreadable.has(sector)) return false;
    }
    return true;
  }

  #resize(size: number): void {
    this.size = size;
    const last = this.#sizes.at(-1)?.value ?? this.durableSize;
    if (size !== last) this.#sizes.push({ stamp: this.#stamp, value: size });
  }

  read(into: Uint8Array, position: number): number {
    const length = Math.max(0, Math.min(into.length, this.size - position));
    into.fill(0, 0, length);
    for (const [sector, from, to] of sectorsOf(position, position + length)) {
      const start = sector * SECTOR;
      const content = this.#cache.get(sector)?.subarray(from - start, to - start);
      if (content) into.set(content, from - position);
    }
    return length;
  }

  /** What was written up to `stamp` becomes durable. */
  sync(stamp = this.#stamp): void {
    this.#covered(stamp, (sector, versions) => {
      put(this.#durable, sector, versions.at(-1)!.value);
    });
    const size = this.#sizes.findLast((s) => s.stamp <= stamp);
    if (size) this.durableSize = size.value;
    this.#sizes = this.#sizes.filter((s) => s.stamp > stamp);
  }

  /** A sync has failed: some of it reached the disk, and all of it is clean from now on. */
  failSync(stamp: number, chance: Chance): void {
    this.#covered(stamp, (sector, versions) => {
      const reached = chance(3) === 0 ? versions[chance(versions.length)] : undefined;
      if (reached) put(this.#durable, sector, reached.value);
      if (!this.#versions.has(sector)) this.#failed.add(sector);
    });
    this.#sizes = this.#sizes.filter((s) => s.stamp > stamp);
  }

  #covered(stamp: number, each: (sector: number, versions: Version<Content>[]) => void): void {
    for (const [sector, versions] of this.#versions) {
      const isWhole = versions.at(-1)!.stamp <= stamp;
      const covered = isWhole ? versions : versions.filter((v) => v.stamp <= stamp);
      if (covered.length === 0) continue;
      if (covered.length === versions.length) this.#versions.delete(sector);
      else this.#versions.set(sector, versions.slice(covered.length));
      each(sector, covered);
    }
  }

  /** The cache lets go of clean pages: those that never reached the disk are what they were. */
  evict(chance: Chance, oneIn = 2): void {
    if (this.#failed.size === 0 || chance(oneIn) > 0) return;
    for (const sector of this.#failed) if (chance(2) === 0) this.#letGo(sector);
  }

  /** The same, of all of them. */
  evictAll(): void {
    for (const sector of this.#failed) this.#letGo(sector);
  }

  #letGo(sector: number): void {
    put(this.#cache, sector, this.#durable.get(sector));
    this.#failed.delete(sector);
  }

  /** The cache shows pages that a failed sync has left. */
  get hasFailed(): boolean {
    return this.#failed.size > 0;
  }

  /** Whether the cache shows there what a failed sync may not have brought to the disk. */
  mayVanish(from: number, to: number): boolean {
    return sectorsOf(from, to).some(([sector]) => this.#failed.has(sector));
  }

  /** What a power loss leaves of it. */
  lose(chance: Chance): void {
    // Nothing, the newest of all, any version of each sector by itself, or torn ones among them;
    // or of all that was under way one torn sector, the first.
    const style = chance(5);
    const only = style === 4 ? Math.min(...this.#versions.keys()) : undefined;
    for (const [sector, versions] of this.#versions) {
      if (style === 0 || (only !== undefined && sector !== only)) continue;
      const newest = versions.length;
      const chosen = style === 1 || style === 4 ? newest : chance(newest + 1);
      if (chosen === 0) continue;
      const before = this.#durable.get(sector);
      const bytes = versions[chosen - 1]!.value;
      const isTorn = style === 4 || (style === 3 && chance(TORN_ONE_IN) === 0);
      put(this.#durable, sector, isTorn && bytes ? torn(bytes, before, chance) : bytes);
    }
    const sizes = this.#sizes;
    if (chance(2) > 0 && sizes.length > 0) this.durableSize = sizes[chance(sizes.length)]!.value;
    this.size = this.durableSize;
    this.#versions.clear();
    this.#failed.clear();
    this.#sizes = [];
    this.#cache.clear();
    for (const [sector, bytes] of [...this.#durable]) {
      const left = this.size - sector * SECTOR;
      if (left <= 0) this.#durable.delete(sector);
      else if (left < SECTOR) this.#durable.set(sector, bytes.slice().fill(0, left));
    }
    for (const [sector, bytes] of this.#durable) this.#cache.set(sector, bytes);
  }

  /** The first byte that a power loss might change. */
  firstUnsettled(from: number, until: number): number | undefined {
    const to = Math.min(until, this.size);
    let first = this.durableSize < to ? Math.max(from, this.durableSize) : undefined;
    for (const sector of [...this.#versions.keys(), ...this.#failed]) {
      const start = Math.max(from, sector * SECTOR);
      const end = Math.min(to, (sector + 1) * SECTOR);
      const versions = this.#versions.get(sector)?.map((v) => v.value) ?? [];
      const all = [this.#cache.get(sector), ...versions];
      const durable = this.#durable.get(sector);
      for (let at = start; at < end && (first === undefined || at < first); at++) {
        const i = at - sector * SECTOR;
        if (all.some((content) => (content?.[i] ?? 0) !== (durable?.[i] ?? 0))) first = at;
      }
    }
    return first;
  }

  /** Bytes change on the disk itself, and wherever they are shown. */
  edit(change: (bytes: Uint8Array) => void): void {
    const bytes = new Uint8Array(this.size);
    this.read(bytes, 0);
    const before = bytes.slice();
    change(bytes);
    for (const [sector, from, to] of sectorsOf(0, this.size)) {
      const now = bytes.subarray(from, to);
      if (Buffer.compare(now, before.subarray(from, to)) === 0) continue;
      const content = new Uint8Array(SECTOR);
      content.set(now);
      this.#cache.set(sector, content);
      this.#durable.set(sector, content);
      this.#versions.delete(sector);
      this.#failed.delete(sector);
      this.durableSize = Math.max(this.durableSize, to);
    }
  }

  /** A file that holds what is durable of this one. */
  durableCopy(): FakeInode {
    const copy = new FakeInode();
    copy.size = this.durableSize;
    copy.durableSize = this.durableSize;
    for (const [sector, bytes] of this.#durable) {
      copy.#cache.set(sector, bytes);
      copy.#durable.set(sector, bytes);
    }
    return copy;
  }
}

function put(map: Map<number, Uint8Array>, sector: number, content: Content): void {
  if (content) map.set(sector, content);
  else map.delete(sector);
}

/** What did not change stays; from some byte behind that on it is bytes of chance. */
function torn(bytes: Uint8Array, before: Content, chance: Chance): Uint8Array {
  const first = bytes.findIndex((byte, i) => byte !== (before?.[i] ?? 0));
  if (first < 0) return bytes;
  const mixed = bytes.slice();
  // Rather near the first change than far from it: a header is short.
  const from = first + chance(1 + chance(SECTOR - first));
  for (let i = from; i < SECTOR; i++) mixed[i] = chance(256);
  return mixed;
}

/** The sectors of a range, each with the part of the range that lies in it. */
function sectorsOf(from: number, to: number): [number, number, number][] {
  const sectors: [number, number, number][] = [];
  for (let at = from; at < to; ) {
    const sector = Math.floor(at / SECTOR);
    const end = Math.min((sector + 1) * SECTOR, to);
    sectors.push([sector, at, end]);
    at = end;
  }
  return sectors;
}
