import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { openNode } from '#src/main/index.js';
import { CRC32C_CHECK, crc32c, crc32cHeader } from '#src/shared/crc.js';
import { type EngramEntry, inEngramOrder, readEngramLog } from '#src/shared/log/engram-log.js';
import {
  decodeHeader,
  type EntryHeader,
  encodeHeader,
  isGoodHeader,
} from '#src/shared/log/entry.js';

const GOLDEN = path.join(import.meta.dirname, '../golden/engram-wal');

interface ExpectedEntry {
  sequence: string;
  timestamp: string;
  entryType: number;
  payloadSize: number;
  payloadCrc: string;
  headerCrc: string;
  payloadSha256: string;
}
interface Vector {
  note: string;
  magic: string;
  sequence: string;
  timestamp: string;
  entryType: number;
  payloadSize: number;
  payloadCrc: string;
  headerCrc: string;
  reserved: string;
  bytes: string;
}
interface Expected {
  ok: boolean;
  files: { name: string; size: number; sha256: string }[];
  entries: ExpectedEntry[];
  perFile?: (Expected & { file: string })[];
}

function filesOf(name: string): { name: string; bytes: Uint8Array }[] {
  const dir = path.join(GOLDEN, name);
  return fs
    .readdirSync(dir)
    .filter((file) => file !== 'expected.json')
    .map((file) => ({ name: file, bytes: fs.readFileSync(path.join(dir, file)) }));
}

function expectedOf(name: string): Expected {
  return JSON.parse(fs.readFileSync(path.join(GOLDEN, name, 'expected.json'), 'utf8')) as Expected;
}

function summary(e: EngramEntry): ExpectedEntry {
  const hex = (crc: number): string => crc.toString(16).padStart(8, '0');
  return {
    sequence: String(e.header.sequence),
    timestamp: String(e.header.timestamp),
    entryType: e.header.type,
    payloadSize: e.header.payloadSize,
    payloadCrc: hex(e.header.payloadCrc),
    headerCrc: hex(e.header.headerCrc),
    payloadSha256: createHash('sha256').update(e.payload).digest('hex'),
  };
}

function stripped(e: ExpectedEntry): ExpectedEntry {
  const { sequence, timestamp, entryType, payloadSize, payloadCrc, headerCrc, payloadSha256 } = e;
  return { sequence, timestamp, entryType, payloadSize, payloadCrc, headerCrc, payloadSha256 };
}

const sequences = (entries: readonly EngramEntry[]): number[] =>
  entries.map((e) => Number(e.header.sequence));
const kinds = (name: string): string[] =>
  readEngramLog(filesOf(name))
    .findings.filter((f) => f.kind !== 'duplicate')
    .map((f) => `${f.kind} ${f.file}`);

const CASES = fs.readdirSync(GOLDEN).filter((name) => /^\d\d/.test(name));

describe('header vectors', () => {
  const vectors = JSON.parse(fs.readFileSync(path.join(GOLDEN, 'header-vectors.json'), 'utf8')) as {
    vectors: Vector[];
  };

  test('the CRC32C check value is e3069283', () => {
    expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
    expect(CRC32C_CHECK).toBe(0xe3069283);
  });

  test.each(vectors.vectors)('$note', (v) => {
    const bytes = Buffer.from(v.bytes, 'hex');
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const header = decodeHeader(view, 0);
    const fields: EntryHeader = {
      magic: Number.parseInt(v.magic, 16),
      sequence: BigInt(v.sequence),
      timestamp: BigInt(v.timestamp),
      type: v.entryType,
      payloadSize: v.payloadSize,
      payloadCrc: Number.parseInt(v.payloadCrc, 16),
      headerCrc: Number.parseInt(v.headerCrc, 16),
      spaceId: v.reserved.slice(0, 32),
      epoch: Buffer.from(v.reserved, 'hex').readUInt32LE(16),
      back: 0,
      place: 0,
    };
    expect(header).toEqual(fields);
    expect(crc32cHeader(view, 0)).toBe(fields.headerCrc);
    expect(isGoodHeader(view, 0)).toBe(fields.magic === 0xdeadbeef);
    const written = Buffer.alloc(64);
    encodeHeader(new DataView(written.buffer, written.byteOffset, 64), 0, fields);
    expect(written.toString('hex')).toBe(v.bytes);
  });
});

describe('files of the real Engram', () => {
  test('every golden file is one that a test reads', () => {
    expect(CASES).toHaveLength(15);
    const read = new Set(['README.md', 'header-vectors.json']);
    for (const name of CASES) {
      read.add(`${name}/expected.json`);
      for (const file of expectedOf(name).files) read.add(`${name}/${file.name}`);
    }
    const found = fs
      .readdirSync(GOLDEN, { recursive: true, encoding: 'utf8' })
      .filter((file) => fs.statSync(path.join(GOLDEN, file)).isFile());
    expect(found.sort()).toEqual([...read].sort());
    for (const name of CASES) {
      for (const listed of expectedOf(name).files) {
        const bytes = fs.readFileSync(path.join(GOLDEN, name, listed.name));
        expect(createHash('sha256').update(bytes).digest('hex')).toBe(listed.sha256);
      }
    }
  });

  const EXACT = CASES.filter((name) => !/^(07|08|09)/.test(name));
  test.each(EXACT)('%s: all entries that Engram returns, in its order', (name) => {
    const { entries } = readEngramLog(filesOf(name));
    expect(inEngramOrder(entries).map(summary)).toEqual(expectedOf(name).entries.map(stripped));
  });

  test.each(CASES)('%s: file by file, at least what Engram returns', (name) => {
    for (const expected of expectedOf(name).perFile ?? []) {
      const file = filesOf(name).filter((f) => f.name === expected.file);
      const found = readEngramLog(file).entries.map(summary);
      for (const entry of expected.entries) expect(found).toContainEqual(stripped(entry));
    }
  });

  test('04: Engram mixes four runs under the same numbers; we tell the runs apart', () => {
    const { entries, findings } = readEngramLog(filesOf('04-restart-duplicates'));
    expect(sequences(entries)).toEqual([0, 1, 2, 0, 1, 0, 1, 0]);
    expect(entries.map((e) => e.run)).toEqual([0, 0, 0, 1, 1, 2, 2, 3]);
    expect(findings.filter((f) => f.kind === 'duplicate')).toHaveLength(5);
  });

  test('05: Engram says nothing of two counters; we name each number given twice', () => {
    const { entries, findings } = readEngramLog(filesOf('05-two-counters'));
    expect(entries).toHaveLength(7);
    const twice = findings.filter((f) => f.kind === 'duplicate').map((f) => Number(f.sequence));
    expect(twice.sort()).toEqual([0, 1, 2]);
  });

  test('06: torn headers are named, where Engram is silent', () => {
    expect(kinds('06-torn-header').map((k) => k.split(' ')[0])).toEqual(['torn', 'torn', 'torn']);
  });

  test('07: Engram returns nothing at all; we return every whole entry and name the cuts', () => {
    const { entries } = readEngramLog(filesOf('07-torn-payload'));
    expect(entries).toHaveLength(3 + 1 + 1);
    expect(kinds('07-torn-payload')).toEqual([
      'torn wal-000000006553f101.log',
      'torn wal-000000006553f164.log',
    ]);
  });

  test('07b: one byte missing costs Engram the whole log; it costs us the last entry', () => {
    const { entries } = readEngramLog(filesOf('07b-torn-payload-last-file'));
    expect(sequences(entries)).toEqual([0, 1, 2, 0]);
    expect(kinds('07b-torn-payload-last-file')).toEqual(['torn wal-000000006553f101.log']);
  });

  test('08: Engram loses entry 3 with the flipped entry 2; we find it again', () => {
    const { entries, findings } = readEngramLog(filesOf('08-header-flip'));
    expect(sequences(entries)).toEqual([0, 1, 3, 4]);
    expect(findings).toMatchObject([{ kind: 'damaged', offset: 144, bytes: 72 }]);
  });

  test('09: every covered field; behind the damage we go on where Engram gives up the file', () => {
    const { entries, findings } = readEngramLog(filesOf('09-header-flip-variants'));
    const perFile = new Map<string, number>();
    for (const e of entries) perFile.set(e.file, (perFile.get(e.file) ?? 0) + 1);
    expect([...perFile.values()]).toEqual([2, 2, 2, 2, 2, 3, 3]);
    expect(findings.filter((f) => f.kind === 'damaged')).toHaveLength(5);
  });

  test('10: two bad payloads are named with their sequence', () => {
    const bad = readEngramLog(filesOf('10-payload-flip')).findings;
    expect(bad).toMatchObject([
      { kind: 'bad-payload', sequence: 1n },
      { kind: 'bad-payload', sequence: 4n },
    ]);
  });

  test('11: garbage is told from zeros', () => {
    expect(kinds('11-garbage-tail').map((k) => k.split(' ')[0])).toEqual([
      'damaged',
      'damaged',
      'zeros',
    ]);
  });

  test('12: unknown types are kept, and named', () => {
    const types = readEngramLog(filesOf('12-unknown-types')).findings;
    expect(types.map((f) => (f.kind === 'unknown-type' ? f.type : f.kind))).toEqual([
      0, 7, 4294967295,
    ]);
  });

  test('13: two acknowledged writes are in no file; ours survive reopening', async () => {
    // Engram replaced the file under its open writer: what is left reads whole, and is too little.
    const { entries, findings } = readEngramLog(filesOf('13-compaction'));
    expect(entries).toHaveLength(3);
    expect(findings).toEqual([]);
    const dataDir = fs.mkdtempSync(path.join(os.tmpdir(), 'engram-wal-golden-'));
    try {
      const options = { dataDir, nodeId: 'a', clusterId: 'golden', segmentBytes: 64 * 1024 };
      let node = await openNode({ ...options, maxEntryBytes: 1024, memoryBudgetBytes: 1 << 20 });
      let space = await node.openSpace('s');
      await space.appendBatch(
        1,
        entries.map((e) => e.payload),
      );
      await node.close();
      node = await openNode({ ...options, maxEntryBytes: 1024, memoryBudgetBytes: 1 << 20 });
      space = await node.openSpace('s');
      await space.append(1, Buffer.from('later'));
      await space.append(1, Buffer.from('latest'));
      await node.close();
      node = await openNode({ ...options, maxEntryBytes: 1024, memoryBudgetBytes: 1 << 20 });
      const found: number[] = [];
      for await (const entry of node.space('s').read()) found.push(entry.sequence);
      await node.close();
      expect(found).toEqual([1, 2, 3, 4, 5]);
    } finally {
      fs.rmSync(dataDir, { recursive: true });
    }
  });

  test.each([
    '01-all-types',
    '02-payload-sizes',
    '14-empty-file',
  ])('%s: written byte for byte', (name) => {
    for (const file of filesOf(name)) {
      const { entries } = readEngramLog([file]);
      const parts = entries.flatMap((e) => {
        const header = Buffer.alloc(64);
        const view = new DataView(header.buffer, header.byteOffset, 64);
        encodeHeader(view, 0, { ...e.header, back: 0, place: 0 });
        return [header, e.payload];
      });
      expect(Buffer.concat(parts).equals(file.bytes)).toBe(true);
    }
  });
});
