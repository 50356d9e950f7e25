/**
 * What a crash may leave of the last write: any of its sectors, in any order, or other bytes in
 * its place. Random, from a seed; run again with ENGRAM_TEST_SEED=<seed> to see a failure.
 */
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Node, NodeOptions, Space } from '#src/main/index.js';
import { readNodeFile } from '#src/main/recovery/node-file.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { walkSegment } from '#src/main/segments/walk.js';
import {
  readDurableLsn,
  readPayloadSize,
  readSequence,
  readSpaceId,
} from '#src/shared/log/entry.js';
import { idOf } from '#src/shared/names.js';
import { contentOf, makeFolder, openSmall, removeFolder, SMALL } from '../support/cluster.js';

const SEED = Number(process.env.ENGRAM_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const SECTOR = 512;
const NAMES = ['s', 't'];

let folder: string;
let node: Node | undefined;
let round: number;

beforeEach(() => {
  folder = makeFolder();
  round = 0;
});

afterEach(async () => {
  await node?.close();
  node = undefined;
  removeFolder(folder);
});

/** A small generator of chance, so that a seed repeats a run (mulberry32). */
function chanceFrom(seed: number): (below: number) => number {
  let state = seed | 0;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

interface Place {
  readonly id: string;
  readonly sequence: number;
  readonly lsn: number;
  readonly end: number;
  readonly durableLsn: number;
}

/** The data directory as it stood when the last group was acknowledged, and what is in it. */
interface Image {
  readonly dir: string;
  readonly places: readonly Place[];
  /** LSN behind which nothing but the last group stands. */
  readonly w: number;
  readonly content: Record<string, string[]>;
}

async function open(dir: string, more: Partial<NodeOptions> = {}): Promise<Node> {
  node = await openSmall(dir, 'a', more);
  return node;
}

async function close(): Promise<void> {
  await node?.close();
  node = undefined;
}

async function contents(of: Node): Promise<Record<string, string[]>> {
  const found: Record<string, string[]> = {};
  for (const name of NAMES) found[name] = await contentOf(of.space(name));
  return found;
}

function segmentsOf(dir: string): string[] {
  return fs
    .readdirSync(dir)
    .filter((f) => f.endsWith('.log'))
    .sort();
}

async function placesOf(dir: string): Promise<Place[]> {
  const { logSalt } = await readNodeFile(nodeDisk, dir);
  const places: Place[] = [];
  for (const name of segmentsOf(dir)) {
    const start = Number.parseInt(name.slice(4, 20), 16);
    const file = await nodeDisk.open(path.join(dir, name), 'read');
    const segment = { start, size: SMALL.segmentBytes };
    await walkSegment(file, segment, start, logSalt, (_, view, at, lsn) => {
      places.push({
        id: readSpaceId(view, at),
        sequence: readSequence(view, at),
        lsn,
        end: lsn + 64 + readPayloadSize(view, at),
        durableLsn: readDurableLsn(view, at, lsn),
      });
    });
    await file.close();
  }
  return places;
}

/**
 * Some groups, the last of them larger than a sector; copied in the turn in which it was
 * acknowledged, before a mark.
 * @param before bytes that stand in the log before the last group; a roll comes at 256 KiB
 */
async function image(chance: (below: number) => number, before: number): Promise<Image> {
  const live = path.join(folder, `live-${round}`);
  const dir = path.join(folder, `image-${round++}`);
  const writing = await open(live);
  const spaces = await Promise.all(NAMES.map((name) => writing.openSpace(name)));
  const payload = (): Buffer => Buffer.alloc(chance(3_000), 1 + chance(255));
  while (writing.status().durableLsn < before) {
    await Promise.all(spaces.map((s) => s.appendBatch(1, [payload(), payload()])));
  }
  const last = Array.from({ length: 6 }, payload);
  await Promise.all([...spaces, ...spaces].map((s) => s.appendBatch(1, last)));
  // A file on its way to its name may be gone before it is looked at.
  fs.cpSync(live, dir, { recursive: true, filter: (name) => !name.endsWith('.tmp') });
  const content = await contents(writing);
  await close();
  removeFolder(live);
  const places = await placesOf(dir);
  return { dir, places, w: Math.max(...places.map((p) => p.durableLsn)), content };
}

/** Changes bytes of the log from one LSN to another, which lie in one segment. */
function change(dir: string, from: number, to: number, how: (bytes: Buffer) => void): void {
  const name = segmentsOf(dir).findLast((f) => Number.parseInt(f.slice(4, 20), 16) <= from)!;
  const start = Number.parseInt(name.slice(4, 20), 16);
  const bytes = fs.readFileSync(path.join(dir, name));
  how(bytes.subarray(from - start, to - start));
  fs.writeFileSync(path.join(dir, name), bytes);
}

/** How many entries of the space lie wholly before an LSN. */
function countBefore(of: Image, name: string, lsn: number): number {
  return of.places.filter((p) => p.id === idOf(name) && p.end <= lsn).length;
}

/** Opens, writes on, opens again: exactly the entries before `x` are kept, and nothing else. */
async function keptUpTo(of: Image, x: number): Promise<void> {
  const expected: Record<string, string[]> = {};
  for (const name of NAMES) {
    expected[name] = of.content[name]!.slice(0, countBefore(of, name, x));
  }
  for (let again = 0; again < 2; again++) {
    const opened = await open(of.dir);
    expect(await contents(opened)).toEqual(expected);
    for (const name of NAMES) {
      const sequence = expected[name]!.length + 1;
      const written = Buffer.from(`written on ${again}`);
      expect(await opened.space(name).append(1, written)).toMatchObject({ sequence });
      expected[name] = await contentOf(opened.space(name));
      expect(expected[name]).toHaveLength(sequence);
    }
    await close();
  }
}

/**
 * Opens twice: either refused, or what is damaged is known, takes no appends, and every other entry
 * is as it was.
 */
async function damagedOnly(of: Image, what: string): Promise<void> {
  for (let again = 0; again < 2; again++) {
    const opened = await open(of.dir).catch((error) => {
      expect(error, what).toMatchObject({ code: 'CorruptionDetected' });
      return undefined;
    });
    if (!opened) return;
    let damaged = 0;
    for (const name of NAMES) {
      const space = opened.space(name);
      const { damage, durableSequence } = space.status();
      const isLost = (n: number) => damage.some((d) => d.from <= n && (d.to === 0 || d.to >= n));
      for (let sequence = 1; sequence <= of.content[name]!.length; sequence++) {
        const read = entryOf(space, sequence);
        if (isLost(sequence)) await expect(read, what).rejects.toThrow(/CorruptionDetected/);
        else expect(await read, what).toBe(of.content[name]![sequence - 1]);
      }
      if (damage.length === 0) expect(durableSequence, what).toBe(of.content[name]!.length);
      else await expect(space.append(1, Buffer.from('x')), what).rejects.toThrow(/Corruption/);
      damaged += damage.length;
    }
    expect(damaged, what).toBeGreaterThan(0);
    expect(opened.status().holes.length, what).toBeGreaterThan(0);
    await close();
  }
}

async function entryOf(space: Space, sequence: number): Promise<string | undefined> {
  if (sequence > space.status().durableSequence) throw new Error('CorruptionDetected: not there');
  return (await contentOf(space, { from: sequence, to: sequence }))[0];
}

/** Damage before the state is found by who reads it; from then on it is known. */
async function damagedOnceRead(of: Image): Promise<void> {
  const opened = await open(of.dir);
  for (const name of NAMES) {
    await expect(contentOf(opened.space(name))).rejects.toThrow(/CorruptionDetected/);
  }
  await close();
  await damagedOnly(of, 'read before');
}

describe(`the last write, seed ${SEED}`, () => {
  test.each([
    ['inside a segment', 40_000, 8],
    ['over a roll', SMALL.segmentBytes - 20_000, 8],
  ])('any of its sectors may be lost: %s', async (_, before, rounds) => {
    const chance = chanceFrom(SEED);
    for (let i = 0; i < rounds; i++) {
      const of = await image(chance, before);
      const group = of.places.filter((p) => p.durableLsn === of.w);
      const first = group[0]!.lsn;
      const end = group.at(-1)!.end;
      let lost = end;
      for (let at = Math.floor(first / SECTOR) * SECTOR; at < end; at += SECTOR) {
        // Sometimes only the tail is lost, sometimes any sector.
        if (chance(4) > 0) continue;
        const from = Math.max(at, first);
        const to = Math.min(at + SECTOR, end);
        let changed = false;
        change(of.dir, from, to, (bytes) => {
          const old = Buffer.from(bytes);
          if (chance(3) === 0) for (let b = 0; b < bytes.length; b++) bytes[b] = chance(256);
          else bytes.fill(0);
          changed = !old.equals(bytes);
        });
        if (changed) lost = Math.min(lost, group.find((p) => p.end > from)!.lsn);
      }
      await keptUpTo(of, lost);
      removeFolder(of.dir);
    }
  });

  test('FAULT-7 one flipped bit before W: named, fails closed, nothing cut', async () => {
    const chance = chanceFrom(SEED + 1);
    for (let i = 0; i < 10; i++) {
      const of = await image(chance, 30_000);
      const at = chance(of.w);
      change(of.dir, at, at + 1, (bytes) => {
        bytes[0]! ^= 1 << chance(8);
      });
      await damagedOnly(of, `bit at LSN ${at}`);
      removeFolder(of.dir);
    }
  });

  test('FAULT-9 a good group at a place that is not its own is no data', async () => {
    const chance = chanceFrom(SEED + 2);
    const of = await image(chance, 20_000);
    const group = of.places.filter((p) => p.durableLsn === of.w);
    const [first, end] = [group[0]!.lsn, group.at(-1)!.end];
    const name = path.join(of.dir, segmentsOf(of.dir)[0]!);
    const stray = fs.readFileSync(name).subarray(first, end);
    // Behind the end, as a write that went astray: zeros first, then the very same bytes.
    change(of.dir, end + 64, end + 64 + stray.length, (bytes) => stray.copy(bytes));
    await keptUpTo(of, end);
  });

  test('FAULT-21 opening that is repeated on the same torn log gives the same log', async () => {
    const chance = chanceFrom(SEED + 3);
    const of = await image(chance, 20_000);
    const group = of.places.filter((p) => p.durableLsn === of.w);
    const torn = group[Math.floor(group.length / 2)]!;
    change(of.dir, torn.lsn, torn.lsn + 64, (bytes) => bytes.fill(0));
    const copy = path.join(folder, 'copy');
    const opened = await open(of.dir);
    // As if the process had died right behind its recovery.
    fs.cpSync(of.dir, copy, { recursive: true, filter: (name) => !name.endsWith('.tmp') });
    const content = await contents(opened);
    await close();
    const again = await open(copy);
    expect(await contents(again)).toEqual(content);
    await close();
    await keptUpTo({ ...of, dir: copy }, torn.lsn);
  });

  test('FAULT-19 one state lost: the other; both: the whole log, or refused', async () => {
    const chance = chanceFrom(SEED + 4);
    const of = await image(chance, SMALL.segmentBytes + 30_000);
    const end = of.places.at(-1)!.end;
    for (const name of ['state-0', 'state-1']) {
      const copy = { ...of, dir: path.join(folder, name) };
      fs.cpSync(of.dir, copy.dir, { recursive: true });
      const file = path.join(copy.dir, name);
      if (!fs.existsSync(file)) continue;
      const bytes = fs.readFileSync(file);
      bytes[chance(bytes.length)]! ^= 4;
      fs.writeFileSync(file, bytes);
      await keptUpTo(copy, end);
    }
    const both = { ...of, dir: path.join(folder, 'both') };
    fs.cpSync(of.dir, both.dir, { recursive: true });
    for (const name of ['state-0', 'state-1']) {
      fs.rmSync(path.join(both.dir, name), { force: true });
    }
    fs.cpSync(both.dir, path.join(folder, 'headless'), { recursive: true });
    await keptUpTo(both, end);
    fs.rmSync(path.join(folder, 'headless', segmentsOf(of.dir)[0]!));
    await expect(open(path.join(folder, 'headless'))).rejects.toMatchObject({
      code: 'CorruptionDetected',
    });
  });

  test('FAULT-20 a segment missing or cut short: read around, nothing renumbered', async () => {
    const chance = chanceFrom(SEED + 5);
    const of = await image(chance, 2 * SMALL.segmentBytes + 30_000);
    const names = segmentsOf(of.dir);
    for (const [what, harm] of [
      ['missing', (file: string) => fs.rmSync(file)],
      ['short', (file: string) => fs.truncateSync(file, 100_032)],
    ] as const) {
      for (const name of names.slice(0, 2)) {
        const copy = { ...of, dir: path.join(folder, `${what}-${name}`) };
        fs.cpSync(of.dir, copy.dir, { recursive: true });
        harm(path.join(copy.dir, name));
        if (what === 'missing') await damagedOnly(copy, `${name} ${what}`);
        else await damagedOnceRead(copy);
      }
    }
  });

  test('FAULT-40 an entry without payload that ends the log, whole and torn', async () => {
    const dir = path.join(folder, 'live');
    const space = await (await open(dir)).openSpace('s');
    await space.append(1, Buffer.from('x'));
    await space.append(1, Buffer.alloc(0));
    const whole = path.join(folder, 'whole');
    fs.cpSync(dir, whole, { recursive: true });
    await close();
    const torn = path.join(folder, 'torn');
    fs.cpSync(whole, torn, { recursive: true });
    expect(await contentOf((await open(whole)).space('s'))).toHaveLength(2);
    await close();
    const last = (await placesOf(torn)).at(-1)!;
    expect(last.end - last.lsn).toBe(64);
    change(torn, last.lsn + 63, last.lsn + 64, (bytes) => {
      bytes[0]! ^= 1;
    });
    const opened = await open(torn);
    expect(await contentOf(opened.space('s'))).toHaveLength(1);
    expect(await opened.space('s').append(1, Buffer.alloc(0))).toMatchObject({ sequence: 2 });
  });
});
