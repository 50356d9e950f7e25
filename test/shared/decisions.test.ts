import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { verdictOf } from '#src/shared/lead/epoch.js';
import { Receiver } from '#src/shared/link/receiver.js';
import {
  decodeNodeRecord,
  encodeNodeRecord,
  type NodeRecord,
} from '#src/shared/log/node-record.js';
import { decideEnd, segmentName, segmentStart } from '#src/shared/log/segment.js';
import { newSpaceFacts } from '#src/shared/log/space-facts.js';
import { decodeState, type SpaceRow, StateWriter } from '#src/shared/log/state.js';

const ID = '00112233445566778899aabbccddeeff';

describe('the verdict on a position', () => {
  const own = { epoch: 3, position: { epoch: 3, sequence: 100, headerCrc: 7 }, isSource: false };
  const at = (epoch: number, sequence: number, headerCrc = 7) => ({
    answer: 'follows' as const,
    epochSeen: epoch,
    position: { epoch, sequence, headerCrc },
  });

  test.each([
    ['nothing yet', at(0, 0, 0), { epoch: 0, sequence: 0, headerCrc: 0 }, 'continue'],
    ['the same last entry', at(3, 100), own.position, 'continue'],
    ['our earlier entry', at(2, 50), { epoch: 2, sequence: 50, headerCrc: 7 }, 'continue'],
    ['another entry of the epoch', at(3, 50), { epoch: 3, sequence: 50, headerCrc: 8 }, 'fork'],
    ['an entry of another epoch', at(2, 50), { epoch: 1, sequence: 50, headerCrc: 7 }, 'rewind'],
    ['ahead in our epoch', at(3, 101), own.position, 'stale'],
    ['ahead in an older epoch', at(2, 101), own.position, 'rewind'],
    ['a higher epoch seen', { ...at(3, 50), epochSeen: 4 }, own.position, 'fenced'],
    ['leading itself', { ...at(3, 50), answer: 'leads' as const }, own.position, 'fork'],
    ['an entry we no longer have', at(1, 5), undefined, 'snapshot'],
  ])('%s', (_, replica, entry, verdict) => {
    expect(verdictOf(own, replica, entry)).toBe(verdict);
  });

  test('nobody is ahead in an epoch that it has from us alone', () => {
    const source = { ...own, isSource: true };
    expect(verdictOf(source, at(3, 101), own.position)).toBe('fork');
    expect(verdictOf(source, at(2, 101), own.position)).toBe('rewind');
    expect(verdictOf(source, at(3, 100), own.position)).toBe('continue');
  });
});

describe('what a replica does with a batch', () => {
  const batch = (startSequence: number, entryCount: number, epoch = 1) => ({
    primaryNodeId: ID,
    spaceId: ID,
    startSequence,
    entryCount,
    totalSize: 0,
    epoch,
  });
  function following(sequence: number): Receiver {
    const receiver = new Receiver(0, 10_000);
    const position = { epoch: 1, sequence, headerCrc: 0 };
    receiver.follow(2, { handle: 4, answer: 'follows', epochSeen: 1, position, applied: 0 }, 1);
    receiver.verdict({ handle: 4, verdict: 'continue', next: sequence + 1 });
    return receiver;
  }

  test.each([
    [1, 10, { kind: 'duplicate' }],
    [5, 6, { kind: 'duplicate' }],
    [5, 7, { kind: 'append', skip: 6 }],
    [11, 1, { kind: 'append', skip: 0 }],
    [12, 1, { kind: 'gap', handle: 4, epoch: 1, expected: 11 }],
  ])('entries from %i, %i of them, behind entry 10', (start, count, decision) => {
    expect(following(10).judge(2, batch(start, count))).toEqual(decision);
  });

  test('acks name what is flushed, once, and never go back', () => {
    const receiver = following(10);
    expect([...receiver.takeAcks(0)]).toEqual([]);
    receiver.flushed(2, 12);
    receiver.flushed(2, 11);
    receiver.applied(2, 11);
    expect([...receiver.takeAcks(0)]).toEqual([4, 1, 12, 11]);
    expect([...receiver.takeAcks(0)]).toEqual([]);
  });

  test('what was applied before the verdict is told behind it: nobody listened before', () => {
    const receiver = new Receiver(0, 10_000);
    const position = { epoch: 1, sequence: 10, headerCrc: 0 };
    receiver.follow(2, { handle: 4, answer: 'follows', epochSeen: 1, position, applied: 7 }, 1);
    receiver.applied(2, 9);
    expect(receiver.takeAcks(0)).toHaveLength(4);
    receiver.verdict({ handle: 4, verdict: 'continue', next: 11 });
    expect([...receiver.takeAcks(0)]).toEqual([4, 1, 10, 9]);
    expect([...following(10).takeAcks(0)]).toEqual([]);
  });

  test('nothing is taken without the verdict, nor under another epoch', () => {
    const receiver = following(10);
    expect(() => receiver.judge(2, batch(11, 1, 2))).toThrow(/Fenced/);
    receiver.verdict({ handle: 4, verdict: 'fork', next: 11 });
    expect(() => receiver.judge(2, batch(11, 1))).toThrow(/ProtocolViolation/);
  });

  test('heartbeats tell what was received; silence of 10 s ends the connection', () => {
    const receiver = following(10);
    receiver.received(2, 15);
    expect(receiver.tick(999)).toBeUndefined();
    const rows = [{ handle: 4, sequence: 15 }];
    expect(receiver.tick(1_000)).toEqual({ kind: 'heartbeat', rows });
    expect(receiver.tick(2_000)).toEqual({ kind: 'heartbeat', rows: [] });
    receiver.heard(5_000);
    expect(receiver.tick(15_000)).toEqual({ kind: 'drop' });
  });
});

describe('where a segment ends', () => {
  const base = {
    x: 1_000,
    zerosAtX: true,
    w: 900,
    goodBehind: false,
    nextDurableLsn: undefined,
    listedEnd: undefined,
  };

  test.each([
    ['zeros, nothing behind', {}, 'clean'],
    ['no zeros', { zerosAtX: false }, 'torn'],
    ['good headers behind, none acknowledged', { goodBehind: true, w: 1_000 }, 'torn'],
    ['good headers behind that name more as durable', { goodBehind: true, w: 1_001 }, 'rot'],
    ['zeros, and the state names more', { w: 1_001 }, 'rot'],
    ['a later segment begins where this one ends', { nextDurableLsn: 1_000 }, 'clean'],
    ['a later segment says it ended elsewhere', { nextDurableLsn: 1_064 }, 'rot'],
    ['the list says it ends here', { nextDurableLsn: 7, listedEnd: 1_000 }, 'clean'],
    ['the list says it ends elsewhere', { nextDurableLsn: 1_000, listedEnd: 1_064 }, 'rot'],
  ])('%s', (_, change, end) => {
    expect(decideEnd({ ...base, ...change })).toBe(end);
  });

  test('names of segments', () => {
    expect(segmentName(64 * 2 ** 40)).toBe('wal-0000400000000000.log');
    expect(segmentStart('wal-0000400000000000.log')).toBe(64 * 2 ** 40);
    for (const name of ['wal-0.log', 'wal-000040000000000G.log', 'wal-ffffffffffffffff.log', 'x']) {
      expect(segmentStart(name)).toBeUndefined();
    }
  });
});

describe('node records and state', () => {
  const members = [{ nodeId: 'b', host: '127.0.0.1', port: 7402 }];
  const space = { id: ID, name: 'é', role: 'primary', epoch: 2, primary: 'a', members } as const;
  const next = { members: [{ nodeId: 'a', directoryId: ID }], keep: 1 };
  const sets = [{ epoch: 1, sequence: 0, next, old: undefined }];
  const records: NodeRecord[] = [
    { kind: 'space', ...space, directoryId: undefined, sets: [] },
    { kind: 'space', ...space, directoryId: ID, sets },
    { kind: 'epoch-seen', id: ID, epoch: 9 },
    { kind: 'applied', id: ID, sequence: 2 ** 40 },
    { kind: 'promise', id: ID, epoch: 9, candidate: 'node-b' },
    {
      kind: 'rewind',
      id: ID,
      position: { epoch: 2, sequence: 7, headerCrc: 8 },
      timestamp: 9n,
      to: 12,
      quarantine: 'rewind-x.wal',
    },
    { kind: 'rewound', id: ID, from: 8, to: 12 },
    { kind: 'mark' },
  ];

  test.each(records)('$kind comes back', (record) => {
    expect(decodeNodeRecord(encodeNodeRecord(record))).toEqual(record);
  });

  const old = JSON.parse(
    fs.readFileSync(path.join(import.meta.dirname, '../golden/records.json'), 'utf8'),
  ) as Record<string, string>;

  test.each(['space', 'begun', 'base'])('a %s of an older release knows of no sets', (kind) => {
    const record = decodeNodeRecord(Buffer.from(old[kind]!, 'hex'));
    expect(record).toMatchObject({ kind, id: ID });
    if ('snapshot' in record) expect(record.snapshot).toMatchObject({ id: ID, sets: [] });
    else expect((record as { sets?: unknown }).sets).toBeUndefined();
    // Written again it says that nobody has told them.
    expect(decodeNodeRecord(encodeNodeRecord(record))).toMatchObject(record);
  });

  test.each([1, 2])('a state in format %i is carried over, with sets of nobody', (format) => {
    const state = decodeState(Buffer.from(old[`state ${format}`]!, 'hex'));
    expect(state).toMatchObject({ generation: 3, lsn: 100, nodeId: 'a', madeAs: format });
    const [{ facts }] = state.spaces as [SpaceRow];
    expect(facts).toMatchObject({ name: 'tenant', sets: [], directoryId: undefined });
    expect(facts.history).toEqual([{ epoch: 1, startSequence: 1, primaryNodeId: ID }]);
    expect(facts.begun!.snapshot.sets).toEqual([]);
    expect(facts.slots.get('b')).toEqual({ flushed: 4, lost: false, idleMs: 5 });
  });

  test('a state keeps the sets that a rewind may still reach, and nothing older', () => {
    const own = { nodeId: 'a', clusterId: 'demo', directoryId: ID, madeAs: 2 };
    const facts = newSpaceFacts(ID, 'tenant');
    const row = (sequence: number, old?: typeof next) => ({ epoch: 1, sequence, next, old });
    facts.sets = [row(0), row(4, next), row(5), row(8, next), row(9)];
    facts.directoryId = ID;
    facts.history = [{ epoch: 1, startSequence: 1, primaryNodeId: ID, directoryId: ID }];
    facts.slots.set('b', { flushed: 4, lost: false, idleMs: 5, directoryId: ID });
    const read = (first: number): SpaceRow['facts'] => {
      facts.first = first;
      const writer = new StateWriter(3, 100, own);
      writer.space({ lsn: 90, facts });
      return decodeState(writer.finish(120, 7, [], [])).spaces[0]!.facts;
    };
    expect(read(1)).toEqual(facts);
    expect(read(5).sets).toEqual(facts.sets);
    expect(read(6).sets).toEqual(facts.sets.slice(2));
    // Between the two entries of a change: the settled one before it counts there.
    expect(read(9).sets).toEqual(facts.sets.slice(2));
    expect(read(20).sets).toEqual(facts.sets.slice(4));
  });

  test('a record of a kind that nobody carries out is refused, not passed over', () => {
    expect(() => decodeNodeRecord(new Uint8Array([6]))).toThrow(/UnsupportedVersion/);
    expect(() => decodeNodeRecord(new Uint8Array([8, 0]))).toThrow(/CorruptionDetected/);
    expect(() => decodeNodeRecord(new Uint8Array([]))).toThrow(/CorruptionDetected/);
  });

  test('a state comes back; any flipped bit is seen', () => {
    const own = { nodeId: 'node-a', clusterId: 'demo', directoryId: ID, madeAs: 2 };
    const writer = new StateWriter(5, 4_096, own);
    const facts = newSpaceFacts(ID, 'tenant-a');
    facts.epoch = 2;
    facts.position = { epoch: 2, sequence: 77, headerCrc: 0xdeadbeef };
    facts.timestamp = 123n;
    facts.history.push({ epoch: 1, startSequence: 1, primaryNodeId: ID });
    facts.first = 11;
    facts.checkpoint = 40;
    facts.slots.set('node-b', { flushed: 33, lost: true, idleMs: 0 });
    facts.damage.push({ from: 20, to: 0, lsn: 700, accepted: true });
    facts.promisedTo = 'node-b';
    facts.voided.push({ lsn: 900, first: 60 });
    facts.rewinds.push({ from: 60, to: 66, quarantine: 'rewind-x.wal' });
    writer.space({ lsn: 5_000, facts });
    const segments = [
      { start: 0, size: 4_096, end: 4_000 },
      { start: 4_096, size: 4_096, end: undefined },
    ];
    const bytes = Uint8Array.from(writer.finish(5_100, 33, segments, [{ start: 700, end: 764 }]));
    expect(decodeState(bytes)).toEqual({
      generation: 5,
      ...own,
      lsn: 4_096,
      durableLsn: 5_100,
      nodeSequence: 33,
      spaces: [{ lsn: 5_000, facts }],
      segments,
      holes: [{ start: 700, end: 764 }],
    });
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      expect(() => decodeState(bytes)).toThrow(/CorruptionDetected/);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
    }
    expect(() => decodeState(bytes.subarray(0, 40))).toThrow(/CorruptionDetected/);
  });
});
