/**
 * A disk in memory that knows what is unsynced. The fault model:
 *
 * - Bytes: a write goes to the cache, in sectors of 512 bytes. `sync` and `syncAll` make the
 *   sectors of the file durable. A power loss keeps or drops each unsynced sector by itself; in one
 *   that is torn, what did not change stays, the rest is bytes of chance.
 * - Sizes: a truncation is durable with `syncAll` (and `sync`) of the file.
 * - Names: create, rename and remove are durable with `syncDir`, in their order; a power loss
 *   applies a part of them, from the first on. Making a directory is durable at once.
 * - SIGKILL (`kill`): the cache survives, dirty as it is; handles and locks are gone.
 * - Errors: the n-th call fails with an errno, once or from then on; a full disk takes no sector
 *   that has none yet.
 *
 * A node works on a mount; after a crash or kill, what is left of it reaches the disk no more.
 */
import path from 'node:path';
import type { Disk, DiskFile, Lock } from '#src/main/disk.js';
import { failure } from '#src/shared/errors.js';

export const SECTOR = 512;
const DELAY_STEP_MS = 50;

/** A number from 0 up to, and without, `below`. */
export type Chance = (below: number) => number;

/** A small generator of chance, so that a seed repeats a run (mulberry32). */
export function chanceFrom(seed: number): Chance {
  let state = seed | 0;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

class Inode {
  size = 0;
  durableSize = 0;
  /** Sectors that are not in the map are zero. */
  readonly cache = new Map<number, Uint8Array>();
  readonly durable = new Map<number, Uint8Array>();
  readonly dirty = new Set<number>();

  sync(): void {
    for (const sector of this.dirty) {
      const bytes = this.cache.get(sector);
      if (bytes) this.durable.set(sector, bytes);
      else this.durable.delete(sector);
    }
    this.dirty.clear();
    this.durableSize = this.size;
  }

  truncate(size: number): void {
    for (const sector of [...this.cache.keys()]) {
      const start = sector * SECTOR;
      if (start + SECTOR <= size) continue;
      this.dirty.add(sector);
      if (start >= size) this.cache.delete(sector);
      else
        this.cache.set(
          sector,
          this.cache
            .get(sector)!
            .slice()
            .fill(0, size - start),
        );
    }
    this.size = size;
  }

  /** What a power loss leaves of it. */
  lose(chance: Chance): void {
    const kept = new Map(this.durable);
    const style = chance(4);
    for (const sector of this.dirty) {
      // All, none, or each by itself; now and then one that holds neither old nor new.
      if (style === 0 || (style > 1 && chance(2) === 0)) continue;
      const bytes = this.cache.get(sector);
      if (bytes) kept.set(sector, bytes.slice());
      else kept.delete(sector);
      if (style === 3 && bytes && chance(8) === 0) {
        const torn = kept.get(sector)!;
        const old = this.durable.get(sector);
        const first = torn.findIndex((byte, i) => byte !== (old?.[i] ?? 0));
        if (first < 0) continue;
        for (let i = first + chance(SECTOR - first); i < SECTOR; i++) torn[i] = chance(256);
      }
    }
    if (chance(2) === 0) this.size = this.durableSize;
    this.cache.clear();
    this.durable.clear();
    for (const [sector, bytes] of kept) {
      if (sector * SECTOR >= this.size) continue;
      this.cache.set(sector, bytes);
      this.durable.set(sector, bytes);
    }
    this.dirty.clear();
    this.durableSize = this.size;
  }
}

type NameChange = { readonly name: string; readonly inode: Inode | undefined }[];

export interface Fault {
  /** Of the calls counted from `inject` on, from 1. */
  readonly call: number;
  readonly errno: string;
  /** Only calls that begin with this count. */
  readonly only?: string;
  /** Every call from there on, not that one alone. */
  readonly isLasting?: boolean;
}

export class FakeDisk {
  #names = new Map<string, Inode>();
  #durableNames = new Map<string, Inode>();
  /** Changes of names that are not durable, by directory; a rename is one change of two names. */
  #pending = new Map<string, NameChange[]>();
  readonly #dirs = new Set<string>();
  #locks = new Set<string>();
  #mount = 0;
  #fault: Fault | undefined;
  #watch: { readonly is: (call: string) => boolean; left: number; run(): void } | undefined;
  /** Calls since `inject`, for counting and for messages. */
  calls: string[] = [];
  #counted = 0;
  /** The last error of this disk that no later call mends; taken away by whoever has seen to it. */
  brokeAt: string | undefined;
  /** Calls that begin with `only` take so long, or until it is taken away. */
  delay: { readonly only: string; readonly ms: number } | undefined;
  capacityBytes = Number.POSITIVE_INFINITY;
  /** How long each call takes, at least. */
  wait = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

  /** In steps: a call under way ends as well when the delay is taken away. */
  async #slow(ms: number): Promise<void> {
    for (let left = ms; left > 0 && this.delay; left -= DELAY_STEP_MS) {
      await new Promise((resolve) => setTimeout(resolve, Math.min(left, DELAY_STEP_MS)));
    }
  }

  /** Calls `run` once, when a call that `is` accepts has been made so often. */
  when(is: (call: string) => boolean, times: number, run: () => void): void {
    this.#watch = { is, left: times, run };
  }

  unwatch(): void {
    this.#watch = undefined;
  }

  inject(fault: Fault | undefined): void {
    this.#fault = fault;
    this.calls = [];
    this.#counted = 0;
  }

  get usedBytes(): number {
    let sectors = 0;
    for (const inode of new Set(this.#names.values())) sectors += inode.cache.size;
    return sectors * SECTOR;
  }

  /** The process dies; the machine goes on. */
  kill(): void {
    this.#mount++;
    this.#locks = new Set();
  }

  /** The machine loses power. */
  crash(chance: Chance): void {
    this.kill();
    for (const changes of this.#pending.values()) {
      for (const change of changes.slice(0, chance(changes.length + 1))) {
        apply(this.#durableNames, change);
      }
    }
    this.#pending.clear();
    this.#names = new Map(this.#durableNames);
    for (const inode of new Set(this.#names.values())) inode.lose(chance);
  }

  /** Whether bytes of a file would be lost with the power. */
  isDirty(file: string, from: number, to: number): boolean {
    const inode = this.#names.get(path.resolve(file));
    if (!inode || this.#durableNames.get(path.resolve(file)) !== inode) return true;
    for (let s = Math.floor(from / SECTOR); s * SECTOR < to; s++) {
      if (inode.dirty.has(s)) return true;
    }
    return false;
  }

  /** The bytes of a file as they are now; changes go through to the disk, durably. */
  edit(file: string, change: (bytes: Uint8Array) => void): void {
    const inode = this.#names.get(path.resolve(file));
    if (!inode) throw new Error(`no file ${file}`);
    const bytes = new Uint8Array(inode.size);
    readFrom(inode, bytes, 0);
    change(bytes);
    writeTo(inode, bytes, 0);
    inode.sync();
  }

  /** All files as they are durably: for `restore`. */
  image(): Map<string, { readonly size: number; readonly sectors: Map<number, Uint8Array> }> {
    const files = new Map();
    for (const [name, inode] of this.#names) {
      files.set(name, { size: inode.durableSize, sectors: new Map(inode.durable) });
    }
    return files;
  }

  /** Puts every file back to what it was in an image; others are gone. */
  restore(image: ReturnType<FakeDisk['image']>): void {
    this.kill();
    this.#pending.clear();
    this.#names.clear();
    for (const [name, { size, sectors }] of image) {
      const inode = new Inode();
      inode.size = size;
      inode.durableSize = size;
      for (const [sector, bytes] of sectors) {
        inode.cache.set(sector, bytes);
        inode.durable.set(sector, bytes);
      }
      this.#names.set(name, inode);
    }
    this.#durableNames = new Map(this.#names);
  }

  list(dir: string): string[] {
    return [...this.#names.keys()]
      .filter((name) => path.dirname(name) === path.resolve(dir))
      .map((name) => path.basename(name))
      .sort();
  }

  // --- what a node sees ----------------------------------------------------------------------

  mount(): Disk {
    const id = this.#mount;
    const call = async (what: string): Promise<void> => {
      await this.wait();
      if (id !== this.#mount) throw io(what, 'ENODEV');
      this.calls.push(what);
      const watch = this.#watch;
      if (watch?.is(what) && --watch.left === 0) {
        this.#watch = undefined;
        watch.run();
      }
      if (this.delay && what.startsWith(this.delay.only)) {
        await this.#slow(this.delay.ms);
      }
      const fault = this.#fault;
      if (!fault || !what.startsWith(fault.only ?? '')) return;
      const count = ++this.#counted;
      const isDue = fault.isLasting ? count >= fault.call : count === fault.call;
      if (isDue && fault.errno === 'EIO') this.brokeAt = what;
      if (isDue) throw io(what, fault.errno);
    };
    const change = (dir: string, names: NameChange): void => {
      apply(this.#names, names);
      const pending = this.#pending.get(dir) ?? [];
      pending.push(names);
      this.#pending.set(dir, pending);
    };
    const find = (file: string, what: string): Inode => {
      const inode = this.#names.get(path.resolve(file));
      if (!inode) throw io(what, 'ENOENT');
      return inode;
    };
    return {
      lock: async (dir): Promise<Lock> => {
        if (this.#locks.has(dir)) throw failure('Locked', `${dir} is in use`);
        this.#locks.add(dir);
        const locks = this.#locks;
        return { release: () => locks.delete(dir) };
      },
      open: async (file, how): Promise<DiskFile> => {
        await call(`open ${path.basename(file)}`);
        const full = path.resolve(file);
        if (how === 'create' && !this.#names.has(full)) {
          change(path.dirname(full), [{ name: full, inode: new Inode() }]);
        }
        return this.#file(full, find(file, `open ${file}`), call);
      },
      rename: async (from, to) => {
        await call(`rename ${path.basename(from)} ${path.basename(to)}`);
        const inode = find(from, `rename ${from}`);
        const names = [
          { name: path.resolve(to), inode },
          { name: path.resolve(from), inode: undefined },
        ];
        change(path.dirname(path.resolve(to)), names);
      },
      remove: async (file) => {
        await call(`remove ${path.basename(file)}`);
        find(file, `remove ${file}`);
        change(path.dirname(path.resolve(file)), [{ name: path.resolve(file), inode: undefined }]);
      },
      list: async (dir) => {
        await call(`list ${path.basename(dir)}`);
        return this.list(dir);
      },
      makeDir: async (dir) => {
        await call(`mkdir ${path.basename(dir)}`);
        this.#dirs.add(path.resolve(dir));
        return undefined;
      },
      syncDir: async (dir) => {
        await call(`syncdir ${path.basename(dir)}`);
        for (const names of this.#pending.get(path.resolve(dir)) ?? []) {
          apply(this.#durableNames, names);
        }
        this.#pending.delete(path.resolve(dir));
      },
      freeBytes: async (dir) => {
        await call(`statfs ${path.basename(dir)}`);
        return Math.max(0, this.capacityBytes - this.usedBytes);
      },
    };
  }

  #file(name: string, inode: Inode, call: (what: string) => Promise<void>): DiskFile {
    const base = path.basename(name);
    return {
      path: name,
      write: async (bytes, position) => {
        // The caller's bytes stay as they are until it resolves; here they are taken at once.
        const copy = bytes.slice();
        await call(`write ${base} ${copy.length}@${position}`);
        let room = this.capacityBytes - this.usedBytes;
        for (let at = position; at < position + copy.length; ) {
          const sector = Math.floor(at / SECTOR);
          const end = Math.min((sector + 1) * SECTOR, position + copy.length);
          if (!inode.cache.has(sector)) room -= SECTOR;
          if (room < 0) throw io(`write ${base}`, 'ENOSPC');
          writeTo(inode, copy.subarray(at - position, end - position), at);
          at = end;
        }
      },
      sync: async () => {
        await call(`fdatasync ${base}`);
        inode.sync();
      },
      syncAll: async () => {
        await call(`fsync ${base}`);
        inode.sync();
      },
      read: async (into, position) => {
        await call(`read ${base} ${into.length}@${position}`);
        return readFrom(inode, into, position);
      },
      truncate: async (size) => {
        await call(`truncate ${base} ${size}`);
        inode.truncate(size);
      },
      size: async () => {
        await call(`stat ${base}`);
        return inode.size;
      },
      close: async () => {
        await call(`close ${base}`);
      },
    };
  }
}

function apply(names: Map<string, Inode>, change: NameChange): void {
  for (const { name, inode } of change) {
    if (inode) names.set(name, inode);
    else names.delete(name);
  }
}

function writeTo(inode: Inode, bytes: Uint8Array, position: number): void {
  for (let at = position; at < position + bytes.length; ) {
    const sector = Math.floor(at / SECTOR);
    const end = Math.min((sector + 1) * SECTOR, position + bytes.length);
    // Sectors are never changed in place: images and what is durable may share them.
    const content = inode.cache.get(sector)?.slice() ?? new Uint8Array(SECTOR);
    inode.cache.set(sector, content);
    content.set(bytes.subarray(at - position, end - position), at - sector * SECTOR);
    inode.dirty.add(sector);
    at = end;
  }
  inode.size = Math.max(inode.size, position + bytes.length);
}

function readFrom(inode: Inode, into: Uint8Array, position: number): number {
  const length = Math.max(0, Math.min(into.length, inode.size - position));
  into.fill(0, 0, length);
  for (let at = position; at < position + length; ) {
    const sector = Math.floor(at / SECTOR);
    const end = Math.min((sector + 1) * SECTOR, position + length);
    const content = inode.cache.get(sector);
    const start = at - sector * SECTOR;
    if (content) into.set(content.subarray(start, start + end - at), at - position);
    at = end;
  }
  return length;
}

/** As the real disk reports it. */
function io(what: string, errno: string): Error {
  const cause = Object.assign(new Error(`${errno}: injected, ${what}`), { code: errno });
  const code = errno === 'ENOSPC' || errno === 'EDQUOT' ? 'DiskFull' : 'Io';
  return failure(code, `${what} failed: ${cause.message}`, { cause });
}
