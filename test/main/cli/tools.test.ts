/** inspect, verify, accept-loss: as a person runs them, on directories of ours and of Engram. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { inspectLog } from '#src/main/cli/inspect.js';
import { inspectedText } from '#src/main/cli/text/tools.js';
import type { Node } from '#src/main/index.js';
import { verifyLog } from '#src/main/repair/verify.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { decodeIndex, encodeIndex } from '#src/shared/log/index-format.js';
import { NODE_SPACE_ID } from '#src/shared/log/node-record.js';
import { indexName } from '#src/shared/log/segment.js';
import type { SegmentIndex } from '#src/shared/log/segment-index.js';
import { idOf } from '#src/shared/names.js';
import { contentOf, makeFolder, openSmall, removeFolder, SMALL } from '../../support/cluster.js';

const ROOT = path.join(import.meta.dirname, '../../..');
const GOLDEN = path.join(ROOT, 'test/golden/engram-wal');

let folder: string;
let node: Node | undefined;

beforeEach(() => {
  folder = makeFolder();
});

afterEach(async () => {
  await node?.close();
  node = undefined;
  removeFolder(folder);
});

function cli(...args: string[]): { code: number | null; out: string; err: string } {
  const run = spawnSync(process.execPath, [path.join(ROOT, 'dist/main/cli.js'), ...args], {
    encoding: 'utf8',
  });
  return { code: run.status, out: run.stdout, err: run.stderr };
}

/** A closed log of two spaces in three segments, 12 entries of 8,000 bytes in each segment. */
async function log(): Promise<string> {
  const dir = path.join(folder, 'log');
  node = await openSmall(dir, 'a');
  const spaces = [await node.openSpace('s'), await node.openSpace('t')];
  while (node.status().durableLsn < 2.5 * SMALL.segmentBytes) {
    for (const space of spaces) await space.append(1, Buffer.alloc(8_000, 5));
  }
  await node.close();
  node = undefined;
  return dir;
}

function segment(dir: string, index: number): string {
  const names = fs.readdirSync(dir).filter((name) => name.endsWith('.log'));
  return path.join(dir, names.sort()[index]!);
}

function change(file: string, how: (bytes: Buffer) => void): void {
  const bytes = fs.readFileSync(file);
  how(bytes);
  fs.writeFileSync(file, bytes);
}

function flip(file: string, at: number): void {
  change(file, (bytes) => {
    bytes[at]! ^= 1;
  });
}

describe("Engram's own directories", () => {
  const SOUND = ['01', '02', '03', '04', '05', '06', '07', '07b', '12', '13', '14'];
  test.each(fs.readdirSync(GOLDEN).filter((name) => /^\d\d/.test(name)))('verify %s', (name) => {
    const { code, out } = cli('verify', path.join(GOLDEN, name));
    const number = name.split('-', 1)[0]!;
    expect(code, out).toBe(SOUND.includes(number) ? 0 : 3);
    // What is cut short, zeros, given twice or unknown has its line.
    if (['04', '05', '06', '07', '07b', '12'].includes(number)) expect(out).toMatch(/^warning /m);
    if (code === 3) expect(out).toMatch(/^ROT /m);
  });

  test('inspect shows entries', () => {
    const dir = path.join(GOLDEN, '01-all-types');
    const { code, out } = cli('inspect', dir, '--space', '(engram)', '--limit', '2', '--json');
    expect(code).toBe(0);
    const { entries, kind } = JSON.parse(out);
    expect(kind).toBe('engram');
    expect(entries).toHaveLength(2);
    expect(entries[0]).toMatchObject({ sequence: 1, epoch: 0, type: 2, preview: 'memory-update' });
  });
});

describe('our own directories', () => {
  test('a sound log: 0, every entry counted', async () => {
    const dir = await log();
    const { code, out } = cli('verify', dir, '--json');
    expect(code).toBe(0);
    const verified = JSON.parse(out);
    expect(verified).toMatchObject({ kind: 'engram-wal', spaces: 2, rot: 0, findings: [] });
    const { out: shown } = cli('inspect', dir, '--json');
    const { spaces, segments } = JSON.parse(shown);
    expect(spaces.map((s: { name: string }) => s.name)).toEqual(['s', 't']);
    expect(spaces[0].entries + spaces[1].entries).toBe(verified.entries);
    expect(segments.length).toBeGreaterThanOrEqual(3);
    const listed = cli('inspect', dir, '--space', 't', '--from', '4', '--limit', '3');
    expect(listed.out.match(/│ [456] /g)).toHaveLength(3);
  });

  test('rot: 3, with the range and the space; other files tell the rest', async () => {
    const dir = await log();
    flip(segment(dir, 0), 5_000);
    flip(segment(dir, 1), 3);
    const { code, out } = cli('verify', dir, '--json');
    expect(code).toBe(3);
    const { findings, rot } = JSON.parse(out);
    expect(rot).toBeGreaterThanOrEqual(2);
    expect(findings[0]).toMatchObject({
      level: 'rot',
      file: 'wal-0000000000000000.log',
      what: 'payload does not fit its CRC',
    });
    expect(['s', 't']).toContain(findings[0].space);
    expect(findings[0].end).toBeGreaterThan(findings[0].at);
    expect(cli('verify', dir).out).toMatch(/CORRUPT: \d+ damaged places/);
  });

  test('FAULT-81 many damaged entries: one line with a count, and no byte of payload', async () => {
    const dir = await log();
    change(segment(dir, 1), (bytes) => {
      // One byte of every payload: headers stay good.
      for (let at = 0; at + 64 < bytes.length && bytes.readUInt32LE(at) === 0xdeadbeef; ) {
        const size = bytes.readUInt32LE(at + 24);
        if (size > 1_000) bytes[at + 64 + 500]! ^= 1;
        at += 64 + size;
      }
    });
    const { code, out } = cli('verify', dir);
    expect(code).toBe(3);
    const lines = out.split('\n').filter((line) => line.startsWith('ROT'));
    // For each space what is bad, and what is missing.
    expect(lines).toHaveLength(4);
    expect(lines[0]).toMatch(/\(\d+ times, first here\) \[[st]\]$/);
    expect(out).not.toContain('0505');
  });

  test('a segment that is missing, and one that is short: 3', async () => {
    const dir = await log();
    const copy = path.join(folder, 'copy');
    fs.cpSync(dir, copy, { recursive: true });
    fs.rmSync(segment(dir, 1));
    const missing = cli('verify', dir);
    expect(missing.code).toBe(3);
    expect(missing.out).toMatch(/listed as live, and absent/);
    fs.truncateSync(segment(copy, 1), 100_000);
    expect(cli('verify', copy).code).toBe(3);
  });

  test('a torn tail: 0, with a line', async () => {
    const dir = path.join(folder, 'torn');
    const live = path.join(folder, 'live');
    node = await openSmall(live, 'a');
    const space = await node.openSpace('s');
    for (let i = 0; i < 5; i++) await space.append(1, Buffer.alloc(900, i));
    fs.cpSync(live, dir, { recursive: true });
    const { durableLsn } = node.status();
    change(segment(dir, 0), (bytes) => bytes.fill(7, durableLsn - 300, durableLsn));
    const { code, out } = cli('verify', dir);
    expect(code, out).toBe(0);
    expect(out).toMatch(/^warning .*a torn tail/m);
    expect(out).toMatch(/sound, 1 warnings/);
  });

  test('a damaged index or state is rot; without node.json the salt is found', async () => {
    const dir = await log();
    fs.rmSync(path.join(dir, 'node.json'));
    expect(cli('verify', dir)).toMatchObject({ code: 0 });
    const index = fs.readdirSync(dir).find((name) => name.endsWith('.idx'))!;
    flip(path.join(dir, index), 30);
    flip(path.join(dir, 'state-0'), 30);
    const { code, out } = cli('verify', dir);
    expect(code).toBe(3);
    expect(out).toMatch(/a damaged index/);
    expect(out).toMatch(/a damaged state/);
  });

  test('an index that is whole and does not say what its segment holds is rot', async () => {
    const dir = await log();
    const { segments } = await inspectLog(nodeDisk, dir, {});
    const { start, end } = segments[0]!;
    const file = path.join(dir, indexName(start));
    const original = fs.readFileSync(file);
    const slots = new Map([[NODE_SPACE_ID, 0]]);
    for (const [i, name] of ['s', 't'].entries()) slots.set(idOf(name), i + 1);
    const ids = [...slots.keys()];
    const decode = () => decodeIndex(original, start, end, (id) => slots.get(id));
    const lies: ((index: SegmentIndex) => unknown)[] = [
      (index) => index.add(1, index.last(1)! + 1, 1, end - 100, 100),
      (index) => index.add(2, index.last(2)! + 1, 1, start + 300, 2 ** 30),
      (index) => index.rewind(2, index.last(2)!),
    ];
    for (const lie of [() => undefined, ...lies]) {
      const index = decode();
      lie(index);
      fs.writeFileSync(
        file,
        encodeIndex(index, start, end, (slot) => ids[slot]!),
      );
      const { findings } = await verifyLog(nodeDisk, dir);
      if (lies.includes(lie)) {
        expect(findings).toMatchObject([{ level: 'rot', what: expect.stringMatching(/an index/) }]);
      } else expect(findings).toEqual([]);
    }
  });

  test('an index of an older version is no damage: it is built again', async () => {
    const dir = await log();
    const name = fs.readdirSync(dir).find((file) => file.endsWith('.idx'))!;
    const bytes = fs.readFileSync(path.join(dir, name));
    bytes.writeUInt32LE(1, 4);
    fs.writeFileSync(path.join(dir, name), bytes);
    expect((await verifyLog(nodeDisk, dir)).findings).toEqual([]);
  });

  test('FAULT-103 reading a table of 20,000 entries takes no time', () => {
    const entry = { epoch: 1, type: 1, time: '2026-01-01', timestampNs: '1', preview: 'x' };
    const entries = Array.from({ length: 20_000 }, (_, i) => ({
      ...entry,
      sequence: i + 1,
      bytes: 1_000,
    }));
    const begun = performance.now();
    const text = inspectedText({
      kind: 'engram-wal',
      segments: [],
      spaces: [],
      entries,
      findings: [],
    });
    // Cost that grows with the square is a minute here.
    expect(performance.now() - begun).toBeLessThan(5_000);
    const lines = text.split('\n');
    expect(lines.filter((line) => line.includes(' 1,000 '))).toHaveLength(20_000);
    expect(new Set(lines.map((line) => line.length)).size).toBe(1);
  });

  test('a directory in use, rolling, freeing and recycling: sound at every look', async () => {
    const dir = path.join(folder, 'used');
    node = await openSmall(dir, 'a');
    const space = await node.openSpace('s');
    let isOver = false;
    const load = (async () => {
      while (!isOver) {
        await space.appendBatch(1, [Buffer.alloc(9_000, 1), Buffer.alloc(100, 2)]);
        const { durableSequence } = space.status();
        // So much is kept that verify finds some of it, however slow it is.
        if (durableSequence % 100 !== 0 || durableSequence < 500) continue;
        await space.checkpoint(durableSequence - 400);
      }
    })();
    try {
      const recycled = () => node!.status().retention.recycledSegments;
      for (let look = 0; look < 8 || recycled() === 0; look++) {
        await new Promise((resolve) => setTimeout(resolve, 40));
        const verified = await verifyLog(nodeDisk, dir);
        expect(verified.findings.filter((f) => f.level === 'rot')).toEqual([]);
        expect(verified.entries).toBeGreaterThan(0);
      }
    } finally {
      isOver = true;
      await load;
    }
  });

  test('no log there: 4, and what to do', () => {
    const { code, err } = cli('verify', folder);
    expect(code).toBe(4);
    expect(err).toMatch(/holds no log/);
    expect(cli('inspect', GOLDEN).code).toBe(4);
    expect(cli('verify').code).toBe(4);
  });

  test('FAULT-6 no peer has it: closed until a person accepts the loss; read around', async () => {
    const dir = await log();
    flip(segment(dir, 1), 5_000);
    node = await openSmall(dir, 'a');
    let space = await node.openSpace('s');
    const other = await node.openSpace('t');
    // Found by the first who reads it, in either space.
    for (const one of [space, other]) await contentOf(one).catch(() => undefined);
    if (space.status().damage.length === 0) space = other;
    const { name } = space;
    const [range] = space.status().damage;
    expect(range).toMatchObject({ accepted: false });
    const { from, to } = range!;
    await expect(space.append(1, Buffer.from('x'))).rejects.toMatchObject({
      code: 'CorruptionDetected',
      details: { space: name, from, to },
    });
    await (name === 's' ? other : node.space('s')).append(1, Buffer.from('goes on'));
    const last = space.status().durableSequence;
    expect(await contentOf(space, { from: 1, to: from - 1 })).toHaveLength(from - 1);
    expect(await contentOf(space, { from: to + 1, to: last })).toHaveLength(last - to);
    await node.close();

    const proposed = cli('accept-loss', dir, '--space', name);
    const command = `engram-wal accept-loss ${dir} --space ${name} --from ${from} --to ${to}\n`;
    expect(proposed).toMatchObject({ code: 0, out: command });
    const range3 = ['--space', name, '--from', String(from), '--to', String(to)];
    expect(cli('accept-loss', dir, '--space', name, '--from', '1', '--to', '2').code).toBe(4);
    expect(cli('accept-loss', dir, ...range3).code).toBe(0);
    expect(cli('accept-loss', dir, '--space', name).out).toContain('no damaged range');
    expect(cli('accept-loss', dir, '--space', 'nosuch').code).toBe(4);
    node = await openSmall(dir, 'a');
    space = await node.openSpace(name);
    expect(space.status().damage).toEqual([{ from, to, accepted: true }]);
    expect(await space.append(1, Buffer.from('again'))).toMatchObject({ sequence: last + 1 });
    await expect(contentOf(space)).rejects.toMatchObject({ code: 'CorruptionDetected' });
  });
});
