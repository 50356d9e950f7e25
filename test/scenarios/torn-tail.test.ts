import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Node, NodeEvents, Space } from '#src/main/index.js';
import { readNodeFile } from '#src/main/recovery/node-file.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { walkSegment } from '#src/main/segments/walk.js';
import { readPayloadSize, readSequence, readSpaceId } from '#src/shared/log/entry.js';
import { contentOf, makeFolder, openSmall, removeFolder, until } from '../support/cluster.js';

const NODE_SPACE = 'f'.repeat(32);
const GROUP = 5;

let folder: string;
let nodes: Node[];

beforeEach(() => {
  folder = makeFolder();
  nodes = [];
});

afterEach(async () => {
  for (const node of nodes) await node.close();
  removeFolder(folder);
});

interface Place {
  readonly sequence: number;
  readonly at: number;
  readonly end: number;
}

/** A crashed log: group A (entries 1-5, acknowledged), group B (6-10), and nothing behind. */
interface Crashed {
  readonly dir: string;
  readonly file: string;
  readonly entries: readonly Place[];
  change(from: number, to: number, how: (bytes: Buffer) => void): void;
}

async function open(dir: string): Promise<Node> {
  const node = await openSmall(dir, 'a');
  nodes.push(node);
  return node;
}

function payloads(first: number): Buffer[] {
  return Array.from({ length: GROUP }, (_, i) => Buffer.alloc(900, first + i));
}

async function crashed(): Promise<Crashed> {
  const dir = path.join(folder, 'crashed');
  const node = await open(path.join(folder, 'original'));
  const space = await node.openSpace('s');
  await space.appendBatch(1, payloads(1));
  await space.appendBatch(1, payloads(6));
  // In this very turn: no mark has been written yet.
  fs.cpSync(path.join(folder, 'original'), dir, { recursive: true });
  await node.close();
  const file = path.join(dir, 'wal-0000000000000000.log');
  const { logSalt } = await readNodeFile(nodeDisk, dir);
  const opened = await nodeDisk.open(file, 'read');
  const entries: Place[] = [];
  await walkSegment(opened, { start: 0, size: 256 * 1024 }, 0, logSalt, (_, view, at, lsn) => {
    if (readSpaceId(view, at) === NODE_SPACE) return;
    const end = lsn + 64 + readPayloadSize(view, at);
    entries.push({ sequence: readSequence(view, at), at: lsn, end });
  });
  await opened.close();
  expect(entries.map((e) => e.sequence)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
  return {
    dir,
    file,
    entries,
    change(from, to, how) {
      const bytes = fs.readFileSync(file);
      how(bytes.subarray(from, to));
      fs.writeFileSync(file, bytes);
    },
  };
}

function zero(bytes: Buffer): void {
  bytes.fill(0);
}

function flip(bytes: Buffer): void {
  bytes[0]! ^= 0x10;
}

/** Opens, writes on, opens again: what was cut never comes back, and sequences have no gap. */
async function recovered(log: Crashed, kept: number): Promise<NodeEvents['torn-tail'] | undefined> {
  let torn: NodeEvents['torn-tail'] | undefined;
  let node = await open(log.dir);
  node.on('torn-tail', (event) => {
    torn = event;
  });
  let space = await node.openSpace('s');
  const before = await contentOf(space);
  expect(before.map((line) => Number(line.split(' ')[0]))).toEqual(
    Array.from({ length: kept }, (_, i) => i + 1),
  );
  const { sequence } = await space.append(1, Buffer.from('written on'));
  expect(sequence).toBe(kept + 1);
  await node.close();
  node = await open(log.dir);
  space = await node.openSpace('s');
  const after = await contentOf(space);
  expect(after.slice(0, kept)).toEqual(before);
  expect(after).toHaveLength(kept + 1);
  return torn;
}

/** Opens: the entry is known to be damaged, the others are read, nothing is appended. */
async function damaged(dir: string, sequence: number): Promise<void> {
  const node = await open(dir);
  const space = await node.openSpace('s');
  const ranges = space.status().damage;
  expect(ranges[0]).toEqual({ from: sequence, to: sequence, accepted: false });
  const rejected = { code: 'CorruptionDetected', details: { from: sequence, to: sequence } };
  await expect(space.append(1, Buffer.from('more'))).rejects.toMatchObject(rejected);
  const around = [
    ...(await sequencesOf(space, 1, sequence - 1)),
    ...(await sequencesOf(space, sequence + 1, 10)),
  ];
  expect(around).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10].filter((n) => n !== sequence));
  await expect(sequencesOf(space, 1, 10)).rejects.toMatchObject(rejected);
  await node.close();
}

async function sequencesOf(space: Space, from: number, to: number): Promise<number[]> {
  const found: number[] = [];
  for await (const entry of space.read({ from, to })) {
    expect(entry.payload).toEqual(new Uint8Array(Buffer.alloc(900, entry.sequence)));
    found.push(entry.sequence);
  }
  return found;
}

describe('the end of the log', () => {
  test('FAULT-1 a torn last entry is cut, the log is writable, the event names it', async () => {
    const log = await crashed();
    const last = log.entries[9]!;
    log.change(last.at + 300, last.end, zero);
    const torn = await recovered(log, 9);
    expect(torn).toMatchObject({ lsn: last.at });
    expect(torn!.bytes).toBeGreaterThan(0);
  });

  test('FAULT-2 several torn entries of one group are cut in one pass', async () => {
    const log = await crashed();
    log.change(log.entries[6]!.at + 100, log.entries[6]!.end, flip);
    log.change(log.entries[8]!.at + 70, log.entries[8]!.end, zero);
    const torn = await recovered(log, 6);
    expect(torn).toMatchObject({ lsn: log.entries[6]!.at });
  });

  test('FAULT-3 the head of a group was lost: what stands behind goes to quarantine', async () => {
    const log = await crashed();
    log.change(log.entries[5]!.at, log.entries[5]!.end, zero);
    const kept = fs.readFileSync(log.file).subarray(log.entries[5]!.at, log.entries[9]!.end);
    const torn = await recovered(log, 5);
    expect(torn).toMatchObject({ lsn: log.entries[5]!.at });
    expect(fs.readFileSync(torn!.quarantine!).equals(kept)).toBe(true);
  });

  test('FAULT-4 zeros end the data without error; a zeroed tail sector is torn', async () => {
    const untouched = await crashed();
    expect(await recovered(untouched, 10)).toBeUndefined();
    for (const node of nodes) await node.close();
    removeFolder(untouched.dir);
    removeFolder(path.join(folder, 'original'));
    const log = await crashed();
    const sector = Math.floor(log.entries[9]!.end / 512) * 512;
    log.change(sector, sector + 512, zero);
    const cut = log.entries.findIndex((e) => e.end > sector);
    expect(await recovered(log, cut)).toMatchObject({ lsn: log.entries[cut]!.at });
  });

  test('FAULT-8 a flipped length in the unacknowledged tail is not used: torn', async () => {
    const log = await crashed();
    // payload_size becomes 4 GiB.
    log.change(log.entries[7]!.at + 24, log.entries[7]!.at + 28, (b) => b.fill(0xff));
    expect(await recovered(log, 7)).toMatchObject({ lsn: log.entries[7]!.at });
  });

  test.each([
    ['FAULT-8 a flipped length', 24],
    ['a flipped sequence', 5],
    ['a flipped stamp', 61],
    ['a flipped payload', 200],
  ])('%s in acknowledged data is rot: fails closed, is read around', async (_, offset) => {
    const log = await crashed();
    const at = log.entries[2]!.at + offset;
    log.change(at, at + 1, flip);
    const before = fs.readFileSync(log.file);
    await damaged(log.dir, 3);
    // What is rotten stays as it is, for repair; nothing behind it was cut.
    expect(fs.readFileSync(log.file).subarray(0, log.entries[9]!.end)).toEqual(
      before.subarray(0, log.entries[9]!.end),
    );
    await damaged(log.dir, 3);
  });

  test('rot before the state: found by reading; without a state, at opening', async () => {
    const log = await crashed();
    let node = await open(log.dir);
    await node.close();
    log.change(log.entries[7]!.at + 100, log.entries[7]!.end, flip);
    node = await open(log.dir);
    const read = contentOf(node.space('s'));
    await expect(read).rejects.toMatchObject({ code: 'CorruptionDetected' });
    await expect(node.space('s').append(1, payloads(1)[0]!)).rejects.toMatchObject({
      code: 'CorruptionDetected',
      details: { from: 8, to: 8 },
    });
    await node.close();
    await damaged(log.dir, 8);
    for (const name of ['state-0', 'state-1']) fs.rmSync(path.join(log.dir, name), { force: true });
    await damaged(log.dir, 8);
  });

  test('strictTail: a torn tail is refused, and nothing is touched', async () => {
    const log = await crashed();
    log.change(log.entries[9]!.at + 100, log.entries[9]!.end, flip);
    const before = fs.readFileSync(log.file);
    const strict = openSmall(log.dir, 'a', { strictTail: true });
    await expect(strict).rejects.toMatchObject({ code: 'CorruptionDetected' });
    expect(fs.readFileSync(log.file)).toEqual(before);
    await recovered(log, 9);
    await nodes.at(-1)!.close();
    nodes.push(await openSmall(log.dir, 'a', { strictTail: true }));
  });

  test('the report names the decision and its evidence', async () => {
    const log = await crashed();
    log.change(log.entries[9]!.at + 100, log.entries[9]!.end, flip);
    const node = await open(log.dir);
    const reports: NodeEvents['recovered'][] = [];
    node.on('recovered', (event) => reports.push(event));
    await new Promise((resolve) => setImmediate(resolve));
    expect(reports).toMatchObject([
      {
        decision: 'torn',
        evidence: { x: log.entries[9]!.at, w: log.entries[4]!.end, goodBehind: true },
      },
    ]);
  });

  test('node.json lost or damaged: made again from the log and the state', async () => {
    const log = await crashed();
    const file = path.join(log.dir, 'node.json');
    const original = fs.readFileSync(file, 'utf8');
    for (const harm of [
      () => fs.rmSync(file),
      () => fs.writeFileSync(file, original.replace(/"logSalt":(\d)/, '"logSalt":1$1')),
      () => fs.writeFileSync(file, 'no JSON'),
    ]) {
      harm();
      const stranger = openSmall(log.dir, 'b');
      await expect(stranger).rejects.toMatchObject({ code: 'Configuration' });
      const node = await open(log.dir);
      let isRebuilt = false;
      node.on('node-file-rebuilt', () => {
        isRebuilt = true;
      });
      expect(await contentOf(node.space('s'))).toHaveLength(10);
      await until('it is told', () => isRebuilt);
      await node.close();
      expect(fs.readFileSync(file, 'utf8')).toBe(original);
    }
    // No witness of whose it is: refused, and nothing is made.
    fs.rmSync(file);
    for (const name of ['state-0', 'state-1']) fs.rmSync(path.join(log.dir, name), { force: true });
    await expect(open(log.dir)).rejects.toMatchObject({ code: 'CorruptionDetected' });
    expect(fs.existsSync(file)).toBe(false);
  });

  test('a data directory of a newer format is refused', async () => {
    const log = await crashed();
    const file = path.join(log.dir, 'node.json');
    const text = fs.readFileSync(file, 'utf8');
    fs.writeFileSync(file, text.replace('"formatVersion":2', '"formatVersion":3'));
    await expect(open(log.dir)).rejects.toMatchObject({ code: 'UnsupportedVersion' });
  });

  test('FAULT-40 zero-length payloads survive, next to the zeros behind the log', async () => {
    const dir = path.join(folder, 'empty');
    let node = await open(dir);
    let space = await node.openSpace('s');
    await space.appendBatch(1, [Buffer.alloc(0), Buffer.alloc(0)]);
    const content = await contentOf(space);
    fs.cpSync(dir, path.join(folder, 'copy'), { recursive: true });
    node = await open(path.join(folder, 'copy'));
    space = await node.openSpace('s');
    expect(content).toHaveLength(2);
    expect(await contentOf(space)).toEqual(content);
  });

  test('a payload that holds a whole log does not confuse the search behind a tear', async () => {
    const dir = path.join(folder, 'nested');
    let node = await open(dir);
    let space = await node.openSpace('s');
    await space.appendBatch(1, payloads(1));
    const log = fs.readFileSync(path.join(dir, 'wal-0000000000000000.log'));
    const nested = log.subarray(0, 8 * 1024);
    await space.appendBatch(1, [Buffer.from('torn'), nested]);
    const copy = path.join(folder, 'copy');
    fs.cpSync(dir, copy, { recursive: true });
    const file = path.join(copy, 'wal-0000000000000000.log');
    const bytes = fs.readFileSync(file);
    const at = bytes.indexOf('torn');
    bytes[at]! ^= 1;
    fs.writeFileSync(file, bytes);
    node = await open(copy);
    space = await node.openSpace('s');
    expect(await contentOf(space)).toHaveLength(GROUP);
  });
});
