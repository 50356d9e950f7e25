/** Data directories of measured nodes, in both regimes: warm (spare segments) and fresh (none). */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { DEFAULT_SEGMENT_BYTES } from '#src/shared/limits.js';

export type Regime = 'warm' | 'fresh';

const CHUNK = new Uint8Array(4 * 1024 * 1024);
/** A segment beyond what the run writes: one is always made ahead, one begins with the log. */
const EXTRA_SEGMENTS = 3;
const TMPFS_MAGIC = 0x01021994;

/** `wanted` bytes of log for each node, or as much as stays in the page cache of this machine. */
export function logBytes(wanted: number, nodes: number): number {
  return Math.min(wanted, Math.floor(os.totalmem() / 2 / nodes));
}

/** All directories of one benchmark, under one root that goes when it is done. */
export class DataDirs {
  readonly #root: string;
  readonly #dirs: string[] = [];
  readonly #onExit = (): void => this.remove();

  constructor() {
    this.#root = fs.mkdtempSync(path.join(os.tmpdir(), 'engram-wal-bench-'));
    process.once('exit', this.#onExit);
  }

  /** What lies under the figures: on a disk of memory an fdatasync costs nothing. */
  get isTmpfs(): boolean {
    return fs.statfsSync(this.#root).type === TMPFS_MAGIC;
  }

  /** `count` empty directories, with spare segments for `bytes` of log each where warm. */
  prepare(count: number, regime: Regime, bytes: number): string[] {
    while (this.#dirs.length < count) {
      const dir = path.join(this.#root, `node-${this.#dirs.length}`);
      fs.mkdirSync(dir);
      this.#dirs.push(dir);
    }
    const spares = Math.ceil(bytes / DEFAULT_SEGMENT_BYTES) + EXTRA_SEGMENTS;
    const dirs = this.#dirs.slice(0, count);
    for (const dir of dirs) empty(dir, regime === 'warm' ? spares : 0);
    return dirs;
  }

  remove(): void {
    process.off('exit', this.#onExit);
    fs.rmSync(this.#root, { recursive: true, force: true });
  }
}

/** Keeps what is a fully written segment as a spare, up to `spares`, and makes what lacks. */
function empty(dir: string, spares: number): void {
  let kept = 0;
  // Under temporary names first: an old spare may have the name that a new one is to get.
  for (const name of fs.readdirSync(dir)) {
    const file = path.join(dir, name);
    const isSegment = name.endsWith('.seg') || name.endsWith('.log');
    if (isSegment && kept < spares && isWritten(file)) {
      fs.renameSync(file, path.join(dir, `kept-${kept++}`));
    } else fs.rmSync(file, { recursive: true, force: true });
  }
  for (let n = 0; n < spares; n++) {
    const file = path.join(dir, `spare-${n.toString(16).padStart(4, '0')}.seg`);
    if (n < kept) fs.renameSync(path.join(dir, `kept-${n}`), file);
    else writeWhole(file);
  }
}

/** A sparse file has the size, not the blocks. */
function isWritten(file: string): boolean {
  const { size, blocks } = fs.statSync(file);
  return size === DEFAULT_SEGMENT_BYTES && blocks * 512 >= size;
}

/** Every block written and durable; the pages stay in the cache. */
function writeWhole(file: string): void {
  const fd = fs.openSync(file, 'wx', 0o600);
  try {
    for (let at = 0; at < DEFAULT_SEGMENT_BYTES; at += CHUNK.length) {
      fs.writeSync(fd, CHUNK, 0, CHUNK.length, at);
    }
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}
