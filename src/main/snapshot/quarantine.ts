/**
 * What a former primary wrote and nobody received: kept in `quarantine/` before it is taken back,
 * and read from there again. One file of entries as in Engram's log, one summary beside it; a
 * copy counts from its summary on.
 */
import path from 'node:path';
import type { SpaceIdWords } from '../../shared/bytes.js';
import { failure } from '../../shared/errors.js';
import { ENTRY_HEADER_BYTES, READ_CHUNK_BYTES, SEGMENT_MAX_BYTES } from '../../shared/limits.js';
import {
  type Entry,
  entryAt,
  isGoodHeader,
  isGoodPayload,
  readPayloadSize,
  sealLocal,
  stageHeader,
} from '../../shared/log/entry.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import type { Epoch, Sequence } from '../../shared/position.js';
import { jsonText } from '../../shared/shown.js';
import type { SpaceState } from '../log/space-table.js';
import type { LogReader } from '../read/reader.js';
import { type Disk, type DiskFile, readSmallFile, replaceFile } from '../segments/disk.js';
import { makeFolder, QUARANTINE } from '../segments/folders.js';

/** What a copy in quarantine holds, and why it was taken back. */
export interface QuarantineSummary {
  readonly file: string;
  readonly space: string;
  readonly spaceId: string;
  readonly from: Sequence;
  readonly to: Sequence;
  readonly entries: number;
  /** Of the file. */
  readonly bytes: number;
  readonly epochs: readonly Epoch[];
  /** The last entry that stayed. */
  readonly keptUpTo: Sequence;
  /** Who leads the space instead, and in which epoch. */
  readonly primary: string;
  readonly primaryEpoch: Epoch;
  /** ISO 8601. */
  readonly takenBackAt: string;
}

/**
 * Copies a space's entries from `from` on, durably: file, summary, directory. The same suffix again
 * makes the same file.
 * @returns its name in `quarantine`
 */
export async function keepSuffix(
  disk: Disk,
  dir: string,
  memory: NodeMemory,
  reader: LogReader,
  space: SpaceState,
  from: Sequence,
): Promise<string> {
  const { id: spaceId, name: spaceName, position: end, primary, epoch: primaryEpoch } = space.facts;
  const entries = readable(reader, space, from, end.sequence);
  const words = memory.spaceId(space.slot) as SpaceIdWords;
  const folder = await makeFolder(disk, dir, QUARANTINE);
  const crc = end.headerCrc.toString(16).padStart(8, '0');
  const name = `rewind-${spaceId}-${from}-${end.sequence}-${crc}`;
  const file = `${name}.wal`;
  // Under a name that is new each time: one whose fsync has failed may be in the cache alone.
  const temporary = path.join(folder, `${file}.tmp`);
  const copied = await copyEntries(disk, temporary, words, entries).catch(async (error) => {
    // On a full disk it would keep from others what it has taken.
    await disk.remove(temporary).catch(() => undefined);
    throw error;
  });
  await disk.rename(temporary, path.join(folder, file));
  const summary: QuarantineSummary = {
    file,
    space: spaceName,
    spaceId,
    from,
    to: end.sequence,
    ...copied,
    keptUpTo: from - 1,
    primary,
    primaryEpoch,
    takenBackAt: new Date().toISOString(),
  };
  const text = new TextEncoder().encode(`${jsonText(summary, undefined, 2)}\n`);
  await replaceFile(disk, folder, `${name}.json`, text);
  return file;
}

/** What of a range can be read: what is damaged is in nobody's hands, and holds up nothing else. */
async function* readable(
  reader: LogReader,
  space: SpaceState,
  from: Sequence,
  to: Sequence,
): AsyncGenerator<Entry[]> {
  let next = from;
  for (const range of [...space.facts.damage]) {
    if (range.from > next) yield* reader.read(space, next, Math.min(range.from - 1, to));
    next = Math.max(next, range.to === 0 ? to + 1 : range.to + 1);
  }
  if (next <= to) yield* reader.read(space, next, to);
}

async function copyEntries(
  disk: Disk,
  name: string,
  words: SpaceIdWords,
  pieces: AsyncIterable<readonly Entry[]>,
): Promise<{ entries: number; bytes: number; epochs: Epoch[] }> {
  const epochs = new Set<Epoch>();
  let entries = 0;
  let at = 0;
  const file = await disk.open(name, 'create');
  try {
    await file.truncate(0);
    for await (const piece of pieces) {
      const bytes = encodeEntries(piece, words, at);
      await file.write(bytes, at);
      at += bytes.length;
      entries += piece.length;
      for (const { epoch } of piece) epochs.add(epoch);
    }
    await file.syncAll();
  } finally {
    await file.close();
  }
  return { entries, bytes: at, epochs: [...epochs] };
}

/** As they stand in the log, but for the stamp: place and back are those of this file. */
function encodeEntries(entries: readonly Entry[], words: SpaceIdWords, lsn: number): Uint8Array {
  const size = entries.reduce((sum, e) => sum + ENTRY_HEADER_BYTES + e.payload.length, 0);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const { sequence, timestamp, type, payload, epoch } of entries) {
    const low = Number(timestamp & 0xffffffffn);
    const high = Number(timestamp >> 32n);
    stageHeader(view, at, sequence, low, high, type, payload.length, epoch);
    bytes.set(payload, at + ENTRY_HEADER_BYTES);
    sealLocal(bytes, view, at, words, 0, lsn + at, 0);
    at += ENTRY_HEADER_BYTES + payload.length;
  }
  return bytes;
}

/** A file that no summary speaks of: from behind a torn tail, or a segment before its repair. */
export interface TornCopy {
  readonly file: string;
  readonly bytes: number;
}

export interface QuarantineList {
  readonly rewinds: readonly QuarantineSummary[];
  readonly others: readonly TornCopy[];
}

/** What is in quarantine, of a directory whose node may be open. Throws Configuration, Io. */
export async function listQuarantine(disk: Disk, dir: string): Promise<QuarantineList> {
  if (!(await disk.list(dir)).includes('node.json')) {
    throw failure('Configuration', `${dir} is no data directory of a node`);
  }
  const folder = path.join(dir, QUARANTINE);
  const names = await disk.list(folder);
  const rewinds: QuarantineSummary[] = [];
  const others: TornCopy[] = [];
  for (const name of names.sort()) {
    if (name.endsWith('.json')) {
      const bytes = await readSmallFile(disk, folder, name, READ_CHUNK_BYTES);
      if (bytes) rewinds.push(JSON.parse(new TextDecoder().decode(bytes)) as QuarantineSummary);
    } else if (!name.endsWith('.tmp') && !names.includes(`${path.parse(name).name}.json`)) {
      others.push({ file: name, bytes: await sizeOf(disk, path.join(folder, name)) });
    }
  }
  return { rewinds, others };
}

async function sizeOf(disk: Disk, name: string): Promise<number> {
  const file = await disk.open(name, 'read');
  try {
    return await file.size();
  } finally {
    await file.close();
  }
}

/**
 * The entries of a copy, in order. Throws Configuration where there is no such file,
 * CorruptionDetected at a bad entry, Io.
 */
export async function* readQuarantine(
  disk: Disk,
  dir: string,
  name: string,
): AsyncGenerator<Entry> {
  const folder = path.join(dir, QUARANTINE);
  const known = (await disk.list(folder)).filter((file) => file.endsWith('.wal'));
  if (!known.includes(name)) {
    const found = `${name} is no copy of entries; there are: ${known.join(', ') || 'none'}`;
    throw failure('Configuration', found);
  }
  const file = await disk.open(path.join(folder, name), 'read');
  try {
    yield* entriesOf(file, name);
  } finally {
    await file.close();
  }
}

async function* entriesOf(file: DiskFile, name: string): AsyncGenerator<Entry> {
  const size = await file.size();
  const head = new Uint8Array(ENTRY_HEADER_BYTES);
  const headView = new DataView(head.buffer);
  for (let at = 0; at < size; ) {
    const got = await file.read(head, at);
    const isWhole = got === head.length && isGoodHeader(headView, 0);
    const length = ENTRY_HEADER_BYTES + readPayloadSize(headView, 0);
    if (!isWhole || at + length > size || length > SEGMENT_MAX_BYTES) {
      throw failure('CorruptionDetected', `no good entry at byte ${at} of ${name}`);
    }
    const bytes = new Uint8Array(length);
    await file.read(bytes, at);
    const view = new DataView(bytes.buffer);
    if (!isGoodPayload(bytes, view, 0)) {
      throw failure('CorruptionDetected', `a damaged payload at byte ${at} of ${name}`);
    }
    yield entryAt(bytes, view, 0);
    at += length;
  }
}
