/**
 * A disk in memory that knows what is unsynced, as nasty as real ones are. The fault model:
 *
 * - Bytes: a write goes to the cache, in sectors of 512 bytes. Each write makes a new version of
 *   its sectors. A power loss leaves any unsynced version of each sector, or what was durable; in
 *   one that is torn, what did not change stays, the rest is bytes of chance.
 * - `sync` and `syncAll` make durable what was written before they began, not what is written
 *   while they are under way. One that fails has made some of it durable, and all of it clean: the
 *   next one says ok and makes nothing of it durable (fsyncgate). The cache shows it until it lets
 *   go of it: at a later read, or when the process has ended; or after so many reads (`readsLeft`).
 * - Sizes: as bytes, by themselves: a size may be durable without the data, which is zeros then.
 * - Names: create, rename, remove and mkdir are durable with `syncDir` of their directory, in their
 *   order; a power loss applies a part of them, from the first on, directory by directory. With a
 *   directory goes all that is in it. They may be durable before the file's data is. A failed
 *   `syncDir` may be as a failed fdatasync. A file that is removed while it is open lives on.
 * - SIGKILL (`kill`): the cache survives, dirty as it is; handles and locks are gone. Calls that
 *   are under way have landed, whole or the first pages of them, or never land; none lands later.
 * - Power loss (`crash`): a SIGKILL, and what is unsynced as above.
 * - Sectors go bad (`spoil`): what reads them fails with EIO, until they are written again.
 * - Errors: the n-th call fails with an errno, once or from then on. A write that fails may have
 *   written its first pages; a close that fails has closed. A full disk takes no sector that has
 *   none yet, in the middle of a write too, and no new directory.
 * - Calls overlap, and end in any order.
 *
 * Some things no process may do, and each fails the run (`misuse`): a call on a closed handle; to
 * close one while a call on it is under way; to change bytes while they are written; to touch the
 * disk once the directory's lock is given back.
 *
 * A node works on a mount; after a crash or kill, what is left of it reaches the disk no more.
 */
import path from 'node:path';
import type { Disk, DiskFile, Lock } from '#src/main/segments/disk.js';
import { failure } from '#src/shared/errors.js';
import { type Chance, chanceFrom } from './chance.js';
import { FakeInode, SECTOR } from './fake-inode.js';

export { type Chance, chanceFrom } from './chance.js';
export { SECTOR } from './fake-inode.js';

/** A write that is cut off by a signal or an error ends at a boundary of pages. */
const PAGE = 4096;
const DELAY_STEP_MS = 50;

export interface Fault {
  /** Of the calls counted from `inject` on, from 1. */
  readonly call: number;
  readonly errno: string;
  /** Only calls that begin with this count. */
  readonly only?: string;
  /** Every call from there on, not that one alone. */
  readonly isLasting?: boolean;
}

/** What a name stands for. */
type Thing = FakeInode | 'directory';

type NameChange = { readonly name: string; readonly thing: Thing | undefined }[];

/** What a call does besides its effect. */
interface Rest {
  /** What a process that is killed meanwhile may leave of it; undefined: nothing. */
  readonly land?: (chance: Chance) => unknown;
  /** What a call that fails has done. */
  readonly failed?: (chance: Chance) => void;
}

type Perform = <T>(what: string, effect: () => T, rest?: Rest) => Promise<T>;

export class FakeDisk {
  readonly #chance: Chance;
  #names = new Map<string, Thing>();
  #durableNames = new Map<string, Thing>();
  /** Changes of names that are not durable, by directory; a rename is one change of two names. */
  #pending = new Map<string, NameChange[]>();
  #open = new Set<FakeInode>();
  #locks = new Set<string>();
  /** Calls of the process that lives, in the order in which they were made. */
  #underWay = new Set<Rest>();
  #life = 0;
  #fault: Fault | undefined;
  #watch: { readonly is: (call: string) => boolean; left: number; run(): void } | undefined;
  /** Calls since `inject`, for counting and for messages. */
  calls: string[] = [];
  #counted = 0;
  /** What a process has done that none may do. */
  readonly misuse: string[] = [];
  /** The last error of this disk that no later call mends; taken away by whoever has seen to it. */
  brokeAt: string | undefined;
  /** Calls that begin with `only` take so long, or until it is taken away. */
  delay: { readonly only: string; readonly ms: number } | undefined;
  capacityBytes = Number.POSITIVE_INFINITY;
  /**
   * What failed syncs have left stays in the cache for so many reads of such files, also when the
   * process ends, and is gone at the next one; undefined: the cache lets go of it when it likes.
   */
  readsLeft: number | undefined;

  /** @param chance what decides where the fault model leaves a choice */
  constructor(chance: Chance = chanceFrom(1)) {
    this.#chance = chance;
  }

  /** How long each call takes, at least: one is overtaken by another now and then. */
  wait = async (): Promise<void> => {
    for (let turns = 1 + this.#chance(3); turns > 0; turns--) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  };

  /** For so long a slow call is under way, whatever its process does meanwhile. */
  pass = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

  /** In steps: a call under way ends as well when the delay is taken away. */
  async #slow(ms: number): Promise<void> {
    for (let left = ms; left > 0 && this.delay; left -= DELAY_STEP_MS) {
      await this.pass(Math.min(left, DELAY_STEP_MS));
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
    const inodes = new Set<Thing>([...this.#names.values(), ...this.#open]);
    for (const thing of inodes) if (thing !== 'directory') sectors += thing.sectors;
    const directories = [...this.#names.values()].filter((thing) => thing === 'directory');
    return sectors * SECTOR + directories.length * PAGE;
  }

  /** The process dies; the machine goes on. */
  kill(): void {
    const chance = this.#chance;
    for (const { land } of this.#underWay) if (chance(3) > 0) attempt(() => land?.(chance));
    this.#life++;
    this.#underWay = new Set();
    this.#locks = new Set();
    for (const inode of this.#open) inode.handles = 0;
    this.#open = new Set();
    if (this.readsLeft !== undefined) return;
    for (const thing of this.#names.values()) if (thing !== 'directory') thing.evict(chance);
  }

  /** The machine loses power. */
  crash(chance: Chance = this.#chance): void {
    this.kill();
    for (const changes of this.#pending.values()) {
      for (const change of changes.slice(0, chance(changes.length + 1))) {
        apply(this.#durableNames, change);
      }
    }
    this.#pending.clear();
    // What is in a directory that is gone is gone.
    for (const name of [...this.#durableNames.keys()].sort()) {
      if (!isDirectory(this.#durableNames, path.dirname(name))) this.#durableNames.delete(name);
    }
    this.#names = new Map(this.#durableNames);
    for (const thing of new Set(this.#names.values())) {
      if (thing !== 'directory') thing.lose(chance);
    }
  }

  /** The first byte of a file that a power loss might change, in a range that should be durable. */
  firstUnsettled(file: string, from: number, to: number): number | undefined {
    const name = path.resolve(file);
    const inode = this.#inode(name, 'look at');
    // Where another file has taken its name, the old one is as good until that is durable.
    for (let at = name; at !== path.dirname(at); at = path.dirname(at)) {
      if (!this.#durableNames.has(at)) return from;
    }
    return inode.firstUnsettled(from, to);
  }

  /** Whether these bytes may be others at the next look, since a failed sync covered them. */
  mayVanish(file: string, from: number, to: number): boolean {
    return this.#inode(file, 'look at').mayVanish(from, to);
  }

  /** The bytes of a file as they are now; what changes does so on the disk, durably. */
  edit(file: string, change: (bytes: Uint8Array) => void): void {
    this.#inode(file, 'edit').edit(change);
  }

  /** These sectors of a file cannot be read any more, until they are written again. */
  spoil(file: string, from: number, to: number): void {
    this.#inode(file, 'spoil').spoil(from, to);
  }

  /** All files as they are durably: for `restore`. */
  image(): Map<string, Thing> {
    const things = new Map<string, Thing>();
    for (const [name, thing] of this.#names) {
      things.set(name, thing === 'directory' ? thing : thing.durableCopy());
    }
    return things;
  }

  /** Puts every file back to what it was in an image; others are gone. */
  restore(image: ReturnType<FakeDisk['image']>): void {
    this.kill();
    this.#pending.clear();
    this.#names.clear();
    for (const [name, thing] of image) {
      this.#names.set(name, thing === 'directory' ? thing : thing.durableCopy());
    }
    this.#durableNames = new Map(this.#names);
  }

  /** Puts a file there, durably, with the directories that it lies in. */
  put(file: string, bytes: Uint8Array): void {
    const inode = new FakeInode();
    inode.write(bytes, 0);
    inode.sync();
    const name = path.resolve(file);
    const made = missing(this.#names, path.dirname(name)).map((dir) => [dir, 'directory'] as const);
    for (const [at, thing] of [...made, [name, inode] as const]) {
      this.#names.set(at, thing);
      this.#durableNames.set(at, thing);
    }
  }

  list(dir: string): string[] {
    return [...this.#names.keys()]
      .filter((name) => path.dirname(name) === path.resolve(dir))
      .map((name) => path.basename(name))
      .sort();
  }

  #inode(file: string, what: string): FakeInode {
    const thing = this.#names.get(path.resolve(file));
    if (thing === undefined) throw io(`${what} ${file}`, 'ENOENT');
    if (thing === 'directory') throw io(`${what} ${file}`, 'EISDIR');
    return thing;
  }

  /** A directory and all that is in it. */
  #below(dir: string): { readonly name: string; readonly thing: Thing }[] {
    const isBelow = (name: string): boolean => name === dir || name.startsWith(`${dir}/`);
    return [...this.#names].flatMap(([name, thing]) => (isBelow(name) ? [{ name, thing }] : []));
  }

  #misused(what: string): void {
    this.misuse.push(what);
  }

  /** Throws where a process has done what none may do. */
  assertSound(): void {
    if (this.misuse.length > 0) throw new Error(`misuse of the disk: ${this.misuse.join('; ')}`);
  }

  // --- what a node sees ----------------------------------------------------------------------

  mount(): Disk {
    this.assertSound();
    const life = this.#life;
    /** Once it has given back its lock, a node touches nothing. */
    let isOver = false;
    const changing = new Set<string>();
    const alive = (what: string): void => {
      if (life !== this.#life) throw io(what, 'ENODEV');
    };
    const perform: Perform = async (what, effect, rest) => {
      alive(what);
      const issued = rest ?? {};
      if (rest && isOver) this.#misused(`${what} after the lock was given back`);
      if (rest) changing.add(what);
      this.#underWay.add(issued);
      try {
        await this.wait();
        alive(what);
        this.#noticed(what);
        if (this.delay && what.startsWith(this.delay.only)) await this.#slow(this.delay.ms);
        alive(what);
        this.#failWhereDue(what, rest);
        return effect();
      } finally {
        changing.delete(what);
        this.#underWay.delete(issued);
      }
    };
    const rename = (dir: string, names: NameChange): void => {
      apply(this.#names, names);
      this.#pending.set(dir, [...(this.#pending.get(dir) ?? []), names]);
    };
    /** A change of names: a process that is killed may have made it. */
    const change = (what: string, effect: () => void): Promise<void> =>
      perform(what, effect, { land: effect });
    return {
      lock: async (dir): Promise<Lock> => {
        alive('lock');
        if (this.#locks.has(dir)) throw failure('Locked', `${dir} is in use`);
        this.#locks.add(dir);
        const locks = this.#locks;
        return {
          release: () => {
            if (!locks.delete(dir) || life !== this.#life) return;
            if (changing.size > 0) this.#misused(`the lock given back during ${[...changing]}`);
            isOver = true;
          },
        };
      },
      open: async (file, how): Promise<DiskFile> => {
        const full = path.resolve(file);
        const what = `open ${path.basename(file)}`;
        const create = (): void => {
          if (how !== 'create' || this.#names.has(full)) return;
          if (!isDirectory(this.#names, path.dirname(full))) throw io(what, 'ENOENT');
          rename(path.dirname(full), [{ name: full, thing: new FakeInode() }]);
        };
        const open = (): DiskFile => {
          create();
          const inode = this.#inode(full, 'open');
          inode.handles++;
          this.#open.add(inode);
          return this.#file(full, inode, how !== 'read', perform, () => life === this.#life);
        };
        return await perform(what, open, how === 'create' ? { land: create } : undefined);
      },
      rename: (from, to) =>
        change(`rename ${path.basename(from)} ${path.basename(to)}`, () => {
          const [old, name] = [path.resolve(from), path.resolve(to)];
          const isDir = this.#names.get(old) === 'directory';
          const things = isDir
            ? this.#below(old)
            : [{ name: old, thing: this.#inode(from, 'rename') }];
          if (!isDirectory(this.#names, path.dirname(name))) throw io(to, 'ENOENT');
          rename(path.dirname(name), [
            ...things.map((t) => ({ name: name + t.name.slice(old.length), thing: t.thing })),
            ...things.map((t) => ({ name: t.name, thing: undefined })),
          ]);
        }),
      removeDir: (dir) =>
        change(`rmdir ${path.basename(dir)}`, () => {
          const name = path.resolve(dir);
          if (!isDirectory(this.#names, name)) throw io(`rmdir ${dir}`, 'ENOENT');
          if (this.#below(name).length > 1) throw io(`rmdir ${dir}`, 'ENOTEMPTY');
          rename(path.dirname(name), [{ name, thing: undefined }]);
        }),
      remove: (file) =>
        change(`remove ${path.basename(file)}`, () => {
          this.#inode(file, 'remove');
          const name = path.resolve(file);
          rename(path.dirname(name), [{ name, thing: undefined }]);
        }),
      list: (dir) => perform(`list ${path.basename(dir)}`, () => this.list(dir)),
      makeDir: (dir) => {
        const make = (): string | undefined => {
          const made = missing(this.#names, path.resolve(dir));
          const room = this.capacityBytes - this.usedBytes;
          if (made.length > 0 && room < made.length * PAGE) throw io(`mkdir ${dir}`, 'ENOSPC');
          for (const name of made) rename(path.dirname(name), [{ name, thing: 'directory' }]);
          return made[0];
        };
        return perform(`mkdir ${path.basename(dir)}`, make, { land: make });
      },
      syncDir: (dir) => {
        const name = path.resolve(dir);
        const begun = this.#pending.get(name)?.length ?? 0;
        const end = (isDurable: boolean): void => {
          const pending = this.#pending.get(name) ?? [];
          for (const names of pending.splice(0, begun)) {
            if (isDurable) apply(this.#durableNames, names);
          }
        };
        const failed = (chance: Chance): void => {
          if (chance(2) === 0) end(false);
        };
        return perform(`syncdir ${path.basename(dir)}`, () => end(true), { failed });
      },
      freeBytes: (dir) =>
        perform(`statfs ${path.basename(dir)}`, () =>
          Math.max(0, this.capacityBytes - this.usedBytes),
        ),
    };
  }

  #noticed(what: string): void {
    this.calls.push(what);
    const watch = this.#watch;
    if (!watch?.is(what) || --watch.left > 0) return;
    this.#watch = undefined;
    watch.run();
  }

  #failWhereDue(what: string, rest: Rest | undefined): void {
    const fault = this.#fault;
    if (!fault || !what.startsWith(fault.only ?? '')) return;
    const count = ++this.#counted;
    const isDue = fault.isLasting ? count >= fault.call : count === fault.call;
    if (!isDue) return;
    if (fault.errno === 'EIO') this.brokeAt = what;
    rest?.failed?.(this.#chance);
    throw io(what, fault.errno);
  }

  /** Before a read. */
  #mayLetGo(inode: FakeInode): void {
    if (this.readsLeft === undefined) inode.evict(this.#chance, 8);
    else if (inode.hasFailed && --this.readsLeft < 0) {
      inode.evictAll();
      this.readsLeft = undefined;
    }
  }

  /** The first bytes of a write, as far as there is room. */
  #write(inode: FakeInode, what: string, bytes: Uint8Array, position: number): void {
    const isEndless = this.capacityBytes === Number.POSITIVE_INFINITY;
    let room = isEndless ? this.capacityBytes : this.capacityBytes - this.usedBytes;
    let length = isEndless ? bytes.length : 0;
    while (length < bytes.length) {
      const sector = Math.floor((position + length) / SECTOR);
      if (!inode.has(sector)) room -= SECTOR;
      if (room < 0) break;
      length = Math.min((sector + 1) * SECTOR - position, bytes.length);
    }
    if (length > 0) inode.write(bytes.subarray(0, length), position);
    if (length < bytes.length) throw io(what, 'ENOSPC');
  }

  #file(
    name: string,
    inode: FakeInode,
    isWritable: boolean,
    perform: Perform,
    isAlive: () => boolean,
  ): DiskFile {
    let isClosed = false;
    let calls = 0;
    const call = async <T>(what: string, effect: () => T, rest?: Rest): Promise<T> => {
      if (isClosed && isAlive()) this.#misused(`${what} on a closed handle`);
      if (isClosed) throw io(what, 'EBADF');
      if (rest && !isWritable) throw io(what, 'EBADF');
      calls++;
      try {
        return await perform(what, effect, rest);
      } finally {
        calls--;
      }
    };
    const sync = (what: string): Promise<void> => {
      const { stamp } = inode;
      const failed = (chance: Chance): void => inode.failSync(stamp, chance);
      return call(`${what} ${base()}`, () => inode.sync(stamp), { failed });
    };
    const base = (): string => path.basename(file.path);
    const file: DiskFile = {
      path: name,
      write: (bytes, position) => {
        const what = `write ${base()} ${bytes.length}@${position}`;
        const copy = bytes.slice();
        const land = (chance: Chance): void => {
          const at = position + chance(copy.length + PAGE + 1);
          const end = chance(2) === 0 ? position + copy.length : at - (at % PAGE);
          const length = Math.max(0, Math.min(end - position, copy.length));
          this.#write(inode, what, copy.subarray(0, length), position);
        };
        const effect = (): void => {
          if (Buffer.compare(copy, bytes) !== 0) this.#misused(`bytes change during ${what}`);
          this.#write(inode, what, copy, position);
        };
        return call(what, effect, { land, failed: (chance) => attempt(() => land(chance)) });
      },
      sync: () => sync('fdatasync'),
      syncAll: () => sync('fsync'),
      read: (into, position) => {
        const what = `read ${base()} ${into.length}@${position}`;
        return call(what, () => {
          this.#mayLetGo(inode);
          if (inode.isReadable(position, position + into.length)) return inode.read(into, position);
          throw io(what, 'EIO');
        });
      },
      truncate: (size) => {
        const effect = (): void => inode.truncate(size);
        return call(`truncate ${base()} ${size}`, effect, { land: effect });
      },
      size: () => call(`stat ${base()}`, () => inode.size),
      close: async () => {
        const what = `close ${base()}`;
        if (!isAlive()) throw io(what, 'ENODEV');
        if (isClosed) {
          this.#misused(`${what} on a closed handle`);
          throw io(what, 'EBADF');
        }
        if (calls > 0) this.#misused(`${what} while a call on it is under way`);
        isClosed = true;
        if (--inode.handles === 0) this.#open.delete(inode);
        await perform(what, () => undefined);
      },
    };
    return file;
  }
}

function isDirectory(names: ReadonlyMap<string, Thing>, dir: string): boolean {
  return dir === path.dirname(dir) || names.get(dir) === 'directory';
}

/** Directories from the root to `dir` that are not there. */
function missing(names: ReadonlyMap<string, Thing>, dir: string): string[] {
  if (isDirectory(names, dir)) return [];
  if (names.has(dir)) throw io(`mkdir ${dir}`, 'ENOTDIR');
  return [...missing(names, path.dirname(dir)), dir];
}

/** What happens to a call of a process that is gone concerns nobody. */
function attempt(work: () => void): void {
  try {
    work();
  } catch (error) {
    if ((error as { code?: string }).code === undefined) throw error;
  }
}

function apply(names: Map<string, Thing>, change: NameChange): void {
  for (const { name, thing } of change) {
    if (thing) names.set(name, thing);
    else names.delete(name);
  }
}

/** As the real disk reports it. */
function io(what: string, errno: string): Error {
  const cause = Object.assign(new Error(`${errno}: injected, ${what}`), { code: errno });
  const code = errno === 'ENOSPC' || errno === 'EDQUOT' ? 'DiskFull' : 'Io';
  return failure(code, `${what} failed: ${cause.message}`, { cause });
}
