/**
 * Damage that another member can mend (FAULTS rows 5, 6, 7, 20): real nodes, real sockets, bytes of
 * the log changed on the disk while the node is down.
 */
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { Node, NodeOptions, Space } from '#src/main/index.js';
import { readNodeFile } from '#src/main/recovery/node-file.js';
import { verifyLog } from '#src/main/repair/verify.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { walkSegment } from '#src/main/segments/walk.js';
import { MARK_IDLE_MS } from '#src/shared/limits.js';
import { readPayloadSize, readSequence, readSpaceId } from '#src/shared/log/entry.js';
import { NODE_SPACE_ID } from '#src/shared/log/node-record.js';
import { idOf } from '#src/shared/names.js';
import {
  contentOf,
  makeFolder,
  openSmall,
  removeFolder,
  SMALL,
  until,
} from '../support/cluster.js';

const PORTS = new Map<string, number>();
const ACK = { ack: { replicas: 1, timeoutMs: 20_000 } } as const;
const NAMES = ['s', 't'];

let folder: string;
const open = new Map<string, Node>();
const repairs: { node: string; space: string; state: string; reason: string }[] = [];

beforeEach(() => {
  folder = makeFolder();
  repairs.length = 0;
  PORTS.clear();
});

afterEach(async () => {
  for (const id of [...open.keys()]) await stop(id);
  removeFolder(folder);
});

const dirOf = (id: string): string => path.join(folder, id);

async function start(id: string, more: Partial<NodeOptions> = {}): Promise<Node> {
  const port = PORTS.get(id) ?? 0;
  const listen = { host: '127.0.0.1', port };
  const node = await openSmall(dirOf(id), id, { listen, lead: false, ...more });
  PORTS.set(id, node.address!.port);
  open.set(id, node);
  node.on('repair', (e) => repairs.push({ node: id, ...e }));
  return node;
}

async function stop(id: string): Promise<void> {
  await open.get(id)?.close();
  open.delete(id);
}

const memberOf = (nodeId: string) => ({ nodeId, host: '127.0.0.1', port: PORTS.get(nodeId)! });

/** The primary `a`, with its replicas. */
function primary(...replicas: string[]): Promise<Node> {
  return start('a', { lead: true, replicas: replicas.map(memberOf) });
}

/** As a crash leaves it: nothing is closed. The copy takes the node's place. */
async function crash(id: string): Promise<void> {
  const image = `${dirOf(id)}.image`;
  fs.cpSync(dirOf(id), image, { recursive: true, filter: (name) => !name.endsWith('.tmp') });
  await stop(id);
  fs.rmSync(dirOf(id), { recursive: true });
  fs.renameSync(image, dirOf(id));
}

/** One more entry, flushed on the replica whenever its link is there again. */
async function appended(space: Space): Promise<number> {
  const { sequence } = await space.append(1, Buffer.from('later'));
  await space.flushed(sequence, { replicas: 1, timeoutMs: 20_000 });
  return sequence;
}

/** The log has come to rest, and its mark says so: what stands before it was acknowledged. */
async function marked(node: Node): Promise<void> {
  const { durableLsn } = node.status();
  // It may have come before anybody looked: then nothing comes any more.
  const restMs = performance.now() + 20 * MARK_IDLE_MS;
  await until('the mark', () => {
    return node.status().durableLsn > durableLsn || performance.now() > restMs;
  });
}

interface Place {
  readonly id: string;
  readonly sequence: number;
  readonly lsn: number;
  readonly end: number;
}

function segmentsOf(id: string): string[] {
  const names = fs.readdirSync(dirOf(id));
  return names.filter((f) => /^wal-.*\.log$/.test(f)).sort();
}

const startOf = (segment: string): number => Number.parseInt(segment.slice(4, 20), 16);

async function placesOf(id: string): Promise<Place[]> {
  const { logSalt } = await readNodeFile(nodeDisk, dirOf(id));
  const places: Place[] = [];
  for (const name of segmentsOf(id)) {
    const segment = { start: startOf(name), size: SMALL.segmentBytes };
    const file = await nodeDisk.open(path.join(dirOf(id), name), 'read');
    await walkSegment(file, segment, segment.start, logSalt, (_, view, at, lsn) => {
      const end = lsn + 64 + readPayloadSize(view, at);
      places.push({ id: readSpaceId(view, at), sequence: readSequence(view, at), lsn, end });
    });
    await file.close();
  }
  return places;
}

function flip(id: string, lsn: number): void {
  const name = segmentsOf(id).findLast((f) => startOf(f) <= lsn)!;
  const file = path.join(dirOf(id), name);
  const bytes = fs.readFileSync(file);
  bytes[lsn - startOf(name)]! ^= 1;
  fs.writeFileSync(file, bytes);
}

const headerOf = ({ lsn }: Place): number => lsn + 5;
const payloadOf = ({ lsn }: Place): number => lsn + 64;

/** Entries of two spaces, over more than `segments` segments, all of them on every replica. */
async function fill(node: Node, segments: number, replicas: number): Promise<void> {
  const spaces = await Promise.all(NAMES.map((name) => node.openSpace(name)));
  for (let i = 0; node.status().segments <= segments; i++) {
    const payloads = Array.from({ length: 8 }, (_, n) => Buffer.alloc(900 + 7 * n, i));
    await Promise.all(spaces.map((s) => s.appendBatch(1, payloads)));
  }
  for (const space of spaces) {
    await space.flushed(space.status().lastSequence, { replicas, timeoutMs: 20_000 });
  }
}

async function contents(node: Node): Promise<Record<string, string[]>> {
  const found: Record<string, string[]> = {};
  for (const name of NAMES) found[name] = await contentOf(node.space(name));
  return found;
}

/** Somebody reads: that is how damage in a sealed segment is found. */
async function readAll(node: Node): Promise<void> {
  for (const name of NAMES) await contentOf(node.space(name)).catch(() => undefined);
}

const isWhole = (node: Node): boolean =>
  node.status().holes.length === 0 &&
  node.status().spaces.every((s) => s.damage.length === 0 && s.repair === undefined);

/** The log of a closed node has no rot, and no damage is remembered. */
async function isSound(id: string): Promise<void> {
  await stop(id);
  const report = await verifyLog(nodeDisk, dirOf(id));
  expect(report.rot, JSON.stringify(report.findings)).toBe(0);
}

const inQuarantine = (id: string): string[] => {
  const dir = path.join(dirOf(id), 'quarantine');
  return fs.existsSync(dir) ? fs.readdirSync(dir).filter((f) => f.startsWith('rot-')) : [];
};

/** Middle entries of the first segment, one of each space. */
async function victims(id: string): Promise<Place[]> {
  const places = (await placesOf(id)).filter((p) => p.end <= SMALL.segmentBytes);
  return NAMES.map((name) => places.filter((p) => p.id === idOf(name))).map(
    (own) => own[Math.floor(own.length / 2)]!,
  );
}

describe('repair', () => {
  test.each([
    ['headers', headerOf],
    ['payloads', payloadOf],
  ])('FAULT-5 %s of a primary, in a sealed segment: byte for byte', async (_, at) => {
    await start('b');
    let a = await primary('b');
    await fill(a, 3, 1);
    const before = await contents(a);
    await stop('a');
    const places = await placesOf('a');
    for (const victim of await victims('a')) flip('a', at(victim));
    a = await primary('b');
    const space = a.space('s');
    await readAll(a);
    // Appends go on while members are asked.
    await space.append(1, Buffer.from('meanwhile'));
    await until('the log is whole', () => isWhole(a));
    const after = await contents(a);
    for (const name of NAMES) {
      expect(after[name]!.slice(0, before[name]!.length)).toEqual(before[name]);
    }
    expect(inQuarantine('a')).toHaveLength(1);
    expect(repairs.filter((r) => r.node === 'a').map((r) => r.state)).toContain('repaired');
    await isSound('a');
    // What was good is where it was.
    const now = new Set((await placesOf('a')).map((p) => `${p.lsn} ${p.end}`));
    expect(places.filter((p) => !now.has(`${p.lsn} ${p.end}`))).toEqual([]);
    a = await primary('b');
    expect((await contents(a)).t).toEqual(before.t);
  });

  test('FAULT-5 an entry and a record of the node beside it: a filler takes its room', async () => {
    await start('b');
    let a = await primary('b');
    const space = await a.openSpace('s');
    await space.append(1, Buffer.alloc(100, 1));
    await marked(a);
    await fill(a, 3, 1);
    const before = await contents(a);
    await stop('a');
    const places = await placesOf('a');
    const mark = places.findIndex(
      (p, i) => p.id === NODE_SPACE_ID && places[i + 1]!.id !== p.id && i > 2,
    );
    const [record, entry] = places.slice(mark, mark + 2);
    flip('a', headerOf(record!));
    flip('a', headerOf(entry!));
    a = await primary('b');
    await readAll(a);
    await until('the log is whole', () => isWhole(a));
    expect(await contents(a)).toEqual(before);
    await isSound('a');
    const now = (await placesOf('a')).filter((p) => p.lsn >= record!.lsn && p.end <= entry!.end);
    const fillers = now.filter((p) => p.id === NODE_SPACE_ID);
    expect(now).toHaveLength(2);
    expect(fillers).toMatchObject([{ sequence: 0 }]);
    a = await primary('b');
    expect(await contents(a)).toEqual(before);
  });

  test('FAULT-5 a replica: from its primary, and it follows on', async () => {
    await start('b');
    const a = await primary('b');
    await fill(a, 3, 1);
    await stop('b');
    for (const victim of await victims('b')) flip('b', headerOf(victim));
    const b = await start('b');
    await readAll(b);
    await until('the replica is whole', () => isWhole(b));
    const sequence = await appended(a.space('s'));
    expect(b.space('s').status().durableSequence).toBe(sequence);
    expect(await contents(b)).toEqual(await contents(a));
    await isSound('b');
  });

  test('FAULT-5 both damaged, at different places: each mends the other', async () => {
    await start('b');
    let a = await primary('b');
    await fill(a, 3, 1);
    const before = await contents(a);
    await stop('a');
    await stop('b');
    const [first, second] = await victims('a');
    flip('a', headerOf(first!));
    const own = (await placesOf('b')).find(
      (p) => p.id === second!.id && p.sequence === second!.sequence,
    );
    flip('b', headerOf(own!));
    const b = await start('b');
    a = await primary('b');
    await Promise.all([readAll(a), readAll(b)]);
    await until('both are whole', () => isWhole(a) && isWhole(b));
    expect(await contents(a)).toEqual(before);
    expect(await contents(b)).toEqual(before);
  });

  test('FAULT-6 a rotten copy is none: corrupt when all have answered', async () => {
    await start('b');
    await start('c');
    let a = await primary('b', 'c');
    await fill(a, 3, 2);
    const before = await contents(a);
    for (const id of ['a', 'b', 'c']) await stop(id);
    const [victim] = await victims('a');
    flip('a', headerOf(victim!));
    const copy = (await placesOf('b')).find((p) => p.sequence === victim!.sequence)!;
    flip('b', payloadOf(copy));
    await start('b');
    a = await primary('b', 'c');
    await readAll(a);
    const status = () => a.space('s').status();
    const damage = { from: victim!.sequence, to: victim!.sequence, accepted: false };
    // One member is away: it may have what the other has not.
    await until('c is missed', () => status().repair?.unreachable.includes('c') ?? false);
    expect(status()).toMatchObject({ damage: [damage], repair: { state: 'repairing' } });
    const reading = contentOf(a.space('s'), { from: victim!.sequence });
    await expect(reading).rejects.toMatchObject({ code: 'Repairing', retryable: true });
    // It comes back without any entry of this range, for its disk is another one.
    fs.rmSync(dirOf('c'), { recursive: true });
    await start('c');
    await until('all have answered', () => status().repair?.state === 'corrupt');
    expect(status().repair).toMatchObject({ unreachable: [] });
    await expect(a.space('s').append(1, Buffer.from('x'))).rejects.toMatchObject({
      code: 'CorruptionDetected',
    });
    await a.space('t').append(1, Buffer.from('t goes on'));
    const rest = await contentOf(a.space('s'), { from: victim!.sequence + 1 });
    expect(rest).toEqual(before.s!.slice(victim!.sequence));
    expect(await contentOf(a.space('s'), { to: victim!.sequence - 1 })).toHaveLength(
      victim!.sequence - 1,
    );
  });

  test('FAULT-5 a member that is away: repairing, until it is back', async () => {
    await start('b');
    let a = await primary('b');
    await fill(a, 3, 1);
    const before = await contents(a);
    await stop('a');
    await stop('b');
    for (const victim of await victims('a')) flip('a', payloadOf(victim));
    a = await primary('b');
    await readAll(a);
    await until('b is missed', () =>
      a.status().spaces.every((s) => s.repair?.unreachable.includes('b') ?? false),
    );
    await a.space('s').append(1, Buffer.from('meanwhile'));
    await start('b');
    await until('the log is whole', () => isWhole(a));
    expect((await contents(a)).t).toEqual(before.t);
  });

  test('FAULT-5 a member that gives another entry: refused, and told', async () => {
    await start('b');
    let a = await primary('b');
    await fill(a, 3, 1);
    await stop('a');
    await stop('b');
    const [victim] = await victims('a');
    flip('a', payloadOf(victim!));
    // A cluster of the same names, and another history under the same positions.
    fs.renameSync(dirOf('b'), `${dirOf('b')}.true`);
    fs.renameSync(dirOf('a'), `${dirOf('a')}.true`);
    await start('b');
    await fill(await primary('b'), 3, 1);
    await stop('a');
    fs.rmSync(dirOf('a'), { recursive: true });
    fs.renameSync(`${dirOf('a')}.true`, dirOf('a'));
    const refused: string[] = [];
    a = await primary('b');
    a.on('repair', ({ state, reason }) => {
      if (state === 'refused') refused.push(reason);
    });
    await readAll(a);
    await until('it is refused', () => refused.length > 0);
    expect(refused[0]).toMatch(/b gave what cannot be: Fork: s: entry \d+ .* is not the one/);
    await until('nobody has it', () => a.space('s').status().repair?.state === 'corrupt');
    const { damage } = a.space('s').status();
    expect(damage).toMatchObject([{ from: victim!.sequence, to: victim!.sequence }]);
    expect(inQuarantine('a')).toEqual([]);
    await stop('b');
    fs.rmSync(dirOf('b'), { recursive: true });
    fs.renameSync(`${dirOf('b')}.true`, dirOf('b'));
    await start('b');
    await stop('a');
    a = await primary('b');
    await until('the true b has it', () => isWhole(a));
  });

  test('FAULT-7 the tail of a primary, acknowledged: back before the first append', async () => {
    await start('b');
    let a = await primary('b');
    const spaces = await Promise.all(NAMES.map((name) => a.openSpace(name)));
    const payload = (n: number): Buffer => Buffer.alloc(300, n);
    for (let n = 0; n < 20; n++) {
      await Promise.all(spaces.map((s) => s.append(1, payload(n), ACK)));
    }
    const before = await contents(a);
    const last = spaces[0]!.status().lastSequence;
    await marked(a);
    await crash('a');
    const places = await placesOf('a');
    // The last entries of `s` but one, and all behind them that is no record of the node.
    const victim = places.find((p) => p.id === idOf('s') && p.sequence === last - 1)!;
    for (const p of places) {
      if (p.lsn >= victim.lsn && p.id !== NODE_SPACE_ID) flip('a', headerOf(p));
    }
    a = await primary('b');
    await until('the log is whole', () => isWhole(a));
    expect(await contents(a)).toEqual(before);
    const sequence = await appended(a.space('s'));
    expect(sequence).toBe(last + 1);
    expect(await contents(open.get('b')!)).toEqual(await contents(a));
    await isSound('a');
  });

  test('FAULT-7 the tail of a primary, its member away: nothing appended or cut', async () => {
    await start('b');
    let a = await primary('b');
    const s = await a.openSpace('s');
    for (let n = 0; n < 10; n++) await s.append(1, Buffer.alloc(300, n), ACK);
    const before = await contentOf(s);
    await marked(a);
    await crash('a');
    await stop('b');
    const places = (await placesOf('a')).filter((p) => p.id === idOf('s'));
    flip('a', headerOf(places.at(-1)!));
    a = await start('a', { lead: true, replicas: [memberOf('b')], http: { port: 0 } });
    const again = await a.openSpace('s');
    await expect(again.append(1, Buffer.from('x'))).rejects.toMatchObject({ code: 'Repairing' });
    const ready = async () => (await fetch(`http://127.0.0.1:${a.httpAddress!.port}/ready`)).status;
    await vi.waitFor(async () => expect(await ready()).toBe(503), { timeout: 20_000 });
    await start('b');
    await until('the log is whole', () => isWhole(a));
    await vi.waitFor(async () => expect(await ready()).toBe(200), { timeout: 20_000 });
    expect(await contentOf(a.space('s'))).toEqual(before);
    await appended(a.space('s'));
  });

  test('FAULT-7 the tail of a replica: from its primary, which has gone on meanwhile', async () => {
    await start('b');
    const a = await primary('b');
    const spaces = await Promise.all(NAMES.map((name) => a.openSpace(name)));
    for (let n = 0; n < 10; n++) {
      await Promise.all(spaces.map((s) => s.append(1, Buffer.alloc(200 + n, n), ACK)));
    }
    await marked(open.get('b')!);
    await crash('b');
    for (const s of spaces) await s.appendBatch(1, [Buffer.alloc(40, 7), Buffer.alloc(60, 8)]);
    const places = await placesOf('b');
    for (const name of NAMES) {
      flip('b', headerOf(places.filter((p) => p.id === idOf(name)).at(-1)!));
    }
    const b = await start('b');
    await until('the replica has all', () =>
      NAMES.every(
        (n) => b.space(n).status().durableSequence === a.space(n).status().durableSequence,
      ),
    );
    await until('the replica is whole', () => isWhole(b));
    expect(await contents(b)).toEqual(await contents(a));
    await isSound('b');
  });

  test('FAULT-20 a segment missing, or cut short, on primary and replica', async () => {
    await start('b');
    let a = await primary('b');
    await fill(a, 4, 1);
    const before = await contents(a);
    for (const id of ['a', 'b']) {
      for (const harm of ['missing', 'short'] as const) {
        await stop(id);
        const file = path.join(dirOf(id), segmentsOf(id)[1]!);
        if (harm === 'missing') fs.rmSync(file);
        else fs.truncateSync(file, 100_032);
        const node = id === 'a' ? await primary('b') : await start('b');
        if (id === 'a') a = node;
        await readAll(node);
        await until(`${id}, ${harm}`, () => isWhole(node));
        expect(await contents(node), `${id}, ${harm}`).toEqual(before);
      }
    }
    await isSound('a');
    await isSound('b');
  });

  test('FAULT-5 damage in the way of a replica that catches up', async () => {
    await start('b');
    await start('c');
    let a = await primary('b', 'c');
    const s = await a.openSpace('s');
    await s.append(1, Buffer.from('all have it'), { ack: { replicas: 2, timeoutMs: 20_000 } });
    await stop('c');
    await fill(a, 3, 1);
    await stop('a');
    for (const victim of await victims('a')) flip('a', headerOf(victim));
    a = await primary('b', 'c');
    const c = await start('c');
    await until('c has caught up', () => {
      const { durableSequence } = a.space('s').status();
      return c.status().spaces.find((x) => x.name === 's')?.durableSequence === durableSequence;
    });
    await until('the log is whole', () => isWhole(a));
    expect(await contentOf(c.space('s'))).toEqual(await contentOf(a.space('s')));
  });
});
