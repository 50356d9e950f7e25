/**
 * The file in which a replica collects a snapshot of one space before anything else is touched:
 * `snapshots/<space id>.part`.
 *
 * Magic "EGWP", format u32, length u32 of the head, CRC32C of it, the head (space id, facts), then
 * the chunks: length u32, CRC32C u32, bytes. What follows the last good chunk counts for nothing.
 */
import { createHash } from 'node:crypto';
import path from 'node:path';
import { ByteReader, ByteWriter } from '../../shared/bytes.js';
import { crc32c } from '../../shared/crc.js';
import { failure } from '../../shared/errors.js';
import { FRAME_LEAST_BYTES, SNAPSHOT_CHUNK_MAX_BYTES } from '../../shared/limits.js';
import {
  readSnapshotFacts,
  readSnapshotSets,
  type SnapshotFacts,
  type SnapshotWhole,
  writeSnapshotFacts,
  writeSnapshotSets,
} from '../../shared/snapshot/facts.js';
import type { Chunk } from '../../shared/snapshot/queue.js';
import type { Disk, DiskFile } from '../segments/disk.js';
import { makeFolder, SNAPSHOTS } from '../segments/folders.js';

const MAGIC = 0x50574745;
const FORMAT = 1;
const FIXED_BYTES = 16;
const CHUNK_HEAD_BYTES = 8;
const SUFFIX = '.part';

export class Spool {
  readonly facts: SnapshotFacts;
  readonly #disk: Disk;
  readonly #path: string;
  readonly #file: DiskFile;
  readonly #start: number;
  #end: number;
  chunks = 0;
  /** Of the chunks, without what stands around them. */
  bytes = 0;
  #isClosed = false;

  private constructor(
    disk: Disk,
    file: DiskFile,
    path: string,
    facts: SnapshotFacts,
    start: number,
  ) {
    this.#disk = disk;
    this.#file = file;
    this.#path = path;
    this.facts = facts;
    this.#start = start;
    this.#end = start;
  }

  /** A new one in the place of any that there is; its name is durable. Rejects Io, DiskFull. */
  static async create(
    disk: Disk,
    dataDir: string,
    spaceId: string,
    facts: SnapshotFacts,
  ): Promise<Spool> {
    const folder = await makeFolder(disk, dataDir, SNAPSHOTS);
    // The name of an earlier one may be in the cache alone.
    await Spool.remove(disk, dataDir, spaceId);
    const full = path.join(folder, spaceId + SUFFIX);
    const head = new ByteWriter().id(spaceId);
    writeSnapshotFacts(head, facts);
    writeSnapshotSets(head, facts);
    const w = new ByteWriter().u32(MAGIC).u32(FORMAT);
    w.u32(head.length).u32(crc32c(head.bytes())).raw(head.bytes());
    const file = await disk.open(full, 'create');
    try {
      await file.truncate(0);
      await file.write(w.bytes(), 0);
      await file.syncAll();
      await disk.syncDir(folder);
    } catch (error) {
      await file.close();
      await disk.remove(full).catch(() => undefined);
      throw error;
    }
    return new Spool(disk, file, full, facts, w.length);
  }

  /**
   * What an earlier life of the node has left, up to its last good chunk.
   * @returns undefined where there is none, or nothing in it is of use
   */
  static async open(disk: Disk, dataDir: string, spaceId: string): Promise<Spool | undefined> {
    if (!(await spooledSpaces(disk, dataDir)).includes(spaceId)) return undefined;
    const full = path.join(dataDir, SNAPSHOTS, spaceId + SUFFIX);
    const file = await disk.open(full, 'write');
    try {
      const head = await readHead(file, spaceId);
      if (!head) {
        await file.close();
        return undefined;
      }
      const spool = new Spool(disk, file, full, head.facts, head.bytes);
      for await (const bytes of spool.#walk()) {
        spool.chunks++;
        spool.bytes += bytes.length;
        spool.#end += CHUNK_HEAD_BYTES + bytes.length;
      }
      return spool;
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Removes the file of a space, where there is one. */
  static async remove(disk: Disk, dataDir: string, spaceId: string): Promise<void> {
    if (!(await spooledSpaces(disk, dataDir)).includes(spaceId)) return;
    await disk.remove(path.join(dataDir, SNAPSHOTS, spaceId + SUFFIX));
    await disk.syncDir(path.join(dataDir, SNAPSHOTS));
  }

  async append({ crc, bytes }: Chunk): Promise<void> {
    const w = new ByteWriter().u32(bytes.length).u32(crc).raw(bytes);
    await this.#file.write(w.bytes(), this.#end);
    this.#end += w.length;
    this.chunks++;
    this.bytes += bytes.length;
  }

  /** What was appended is durable when it resolves. */
  sync(): Promise<void> {
    return this.#file.sync();
  }

  /** Reads all of it once more. @returns whether it is what was announced */
  async verify(whole: SnapshotWhole): Promise<boolean> {
    const hash = createHash('sha256');
    let chunks = 0;
    let bytes = 0;
    for await (const chunk of this.#walk()) {
      hash.update(chunk);
      chunks++;
      bytes += chunk.length;
      if (chunks === whole.chunks) break;
    }
    return chunks === whole.chunks && bytes === whole.bytes && hash.digest('hex') === whole.digest;
  }

  /**
   * The chunks, in order. Throws ChecksumMismatch where they are not what was verified before.
   */
  async *read(whole: SnapshotWhole): AsyncGenerator<Uint8Array> {
    let chunks = 0;
    if (whole.chunks > 0) {
      for await (const chunk of this.#walk()) {
        yield chunk;
        if (++chunks === whole.chunks) return;
      }
    }
    if (chunks === whole.chunks) return;
    throw failure('ChecksumMismatch', `chunk ${chunks} of ${path.basename(this.#path)} is bad`);
  }

  /** Good chunks from the start on, up to the first that is not. */
  async *#walk(): AsyncGenerator<Uint8Array> {
    const head = new Uint8Array(CHUNK_HEAD_BYTES);
    const view = new DataView(head.buffer);
    for (let at = this.#start; ; ) {
      if ((await this.#file.read(head, at)) < head.length) return;
      const length = view.getUint32(0, true);
      if (length === 0 || length > SNAPSHOT_CHUNK_MAX_BYTES) return;
      const bytes = new Uint8Array(length);
      const got = await this.#file.read(bytes, at + CHUNK_HEAD_BYTES);
      if (got < length || crc32c(bytes) !== view.getUint32(4, true)) return;
      yield bytes;
      at += CHUNK_HEAD_BYTES + length;
    }
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#file.close();
  }

  /** It is not needed any more. */
  async discard(): Promise<void> {
    await this.close();
    await this.#disk.remove(this.#path);
    await this.#disk.syncDir(path.dirname(this.#path));
  }
}

/** The spaces of which there is a file, by id. */
export async function spooledSpaces(disk: Disk, dataDir: string): Promise<string[]> {
  const names = await disk.list(path.join(dataDir, SNAPSHOTS));
  return names.filter((name) => name.endsWith(SUFFIX)).map((name) => name.slice(0, -SUFFIX.length));
}

async function readHead(
  file: DiskFile,
  spaceId: string,
): Promise<{ facts: SnapshotFacts; bytes: number } | undefined> {
  const fixed = new Uint8Array(FIXED_BYTES);
  if ((await file.read(fixed, 0)) < fixed.length) return undefined;
  const r = new ByteReader(fixed, 'CorruptionDetected');
  if (r.u32() !== MAGIC || r.u32() !== FORMAT) return undefined;
  const length = r.u32();
  if (length > FRAME_LEAST_BYTES) return undefined;
  const head = new Uint8Array(length);
  const got = await file.read(head, FIXED_BYTES);
  if (got < length || crc32c(head) !== r.u32()) return undefined;
  const h = new ByteReader(head, 'CorruptionDetected');
  if (h.id() !== spaceId) return undefined;
  const told = readSnapshotFacts(h);
  // Older releases ended here.
  const facts = h.left > 0 ? readSnapshotSets(h, told, 'CorruptionDetected') : told;
  h.end();
  return { facts, bytes: FIXED_BYTES + length };
}
