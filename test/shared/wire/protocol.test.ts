import fs from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { EngramError } from '#src/shared/errors.js';
import { FRAME_HEADER_BYTES } from '#src/shared/limits.js';
import type { MemberSet, MembersRow } from '#src/shared/members/members.js';
import { FrameAssembler, writeFrameHeader } from '#src/shared/wire/frame.js';
import {
  decodeFrame,
  encodeFrame,
  FRAME_KINDS,
  type Frame,
  type PlainFrame,
  spacesInFrames,
} from '#src/shared/wire/protocol.js';

const ID = '00112233445566778899aabbccddeeff';
const members = [{ nodeId: 'b', host: '127.0.0.1', port: 7402 }];
const position = { epoch: 1, sequence: 258, headerCrc: 0xcafebabe };
const snapshot = {
  id: ID,
  position,
  timestamp: 1_700_000_000_000_000_000n,
  history: [{ epoch: 1, startSequence: 1, primaryNodeId: ID }],
  sets: [],
};
const DIRECTORY = 'ffeeddccbbaa99887766554433221100';
const history2 = [
  { epoch: 1, startSequence: 1, primaryNodeId: ID, directoryId: DIRECTORY },
  { epoch: 3, startSequence: 200, primaryNodeId: ID },
];
const first: MemberSet = { members: [{ nodeId: 'a', directoryId: DIRECTORY }], keep: 1 };
const both = { members: [...first.members, { nodeId: 'b', directoryId: ID }], keep: 2 };
const sets: MembersRow[] = [
  { epoch: 1, sequence: 0, next: first, old: undefined },
  { epoch: 3, sequence: 258, next: both, old: first },
];
/** Its CRC32C is e3069283. */
const CHECKED = Uint8Array.from(Buffer.from('123456789'));

/** One of each kind; the bytes stand in test/golden/wire/frames.json. */
const FRAMES: PlainFrame[] = [
  {
    kind: 'hello',
    hello: {
      minVersion: 1,
      maxVersion: 1,
      clusterId: 'demo',
      nodeId: 'a',
      peerId: 'b',
      incarnation: 0x0102030405060708n,
      features: 0,
      maxFrameBytes: 2_101_248,
      maxEntryBytes: 1_048_576,
    },
  },
  {
    kind: 'welcome',
    welcome: {
      version: 1,
      clusterId: 'demo',
      nodeId: 'b',
      incarnation: 7n,
      features: 0,
      maxFrameBytes: 2_101_248,
      maxEntryBytes: 1_048_576,
    },
  },
  { kind: 'spaces', rows: [{ handle: 1, id: ID, epoch: 1, name: 'tenant-é', members, sets: [] }] },
  {
    kind: 'positions',
    rows: [{ handle: 1, answer: 'follows', epochSeen: 2, position, applied: 3 }],
  },
  { kind: 'verdicts', rows: [{ handle: 1, verdict: 'fork', next: 259 }] },
  {
    kind: 'acks',
    timestampMs: 1_700_000_000_000,
    rows: Float64Array.of(1, 1, 9, 8),
  },
  {
    kind: 'heartbeat',
    stalledMs: 2_500,
    rows: [
      { handle: 1, sequence: 5 },
      { handle: 2, sequence: 6 },
    ],
  },
  { kind: 'checkpoints', rows: [{ handle: 2, sequence: 77 }] },
  { kind: 'nack', handle: 1, epoch: 1, expected: 12 },
  { kind: 'ask', id: ID, name: 'tenant-a' },
  { kind: 'answer', id: ID, known: true, epoch: 4, primary: 'c' },
  { kind: 'bye', fatal: true, code: 'WrongCluster', message: 'another cluster' },
  { kind: 'ping' },
  { kind: 'pong' },
  { kind: 'proof', proof: Uint8Array.from({ length: 32 }, (_, n) => n) },
  { kind: 'standing-ask', ids: [ID, ID] },
  {
    kind: 'standing',
    rows: [
      {
        id: ID,
        isKnown: true,
        role: 'primary',
        epoch: 3,
        epochSeen: 4,
        primary: 'c',
        position,
        flushed: 258,
        applied: 257,
        first: 12,
        isWhole: false,
        history: [{ epoch: 3, startSequence: 200, primaryNodeId: ID }],
        directoryId: undefined,
        sets: [],
        founder: undefined,
        isFounded: false,
        protocol: 1,
      },
    ],
  },
  { kind: 'entries-ask', id: ID, from: 5, to: 9, maxBytes: 65_536 },
  { kind: 'entries', batch: Uint8Array.of(1, 2, 3) },
  { kind: 'entries-lack', sequence: 5, reason: 'trimmed', first: 12, last: 258 },
  {
    kind: 'append-ask',
    id: ID,
    type: 1000,
    replicas: 2,
    wait: true,
    expected: { sequence: 258, epoch: 3 },
    leftMs: 5_000,
    payload: Uint8Array.of(1, 2, 3),
  },
  { kind: 'appended', id: ID, sequence: 259, epoch: 3 },
  {
    kind: 'append-refused',
    id: ID,
    code: 'SequenceConflict',
    message: 'another',
    last: 300,
    epoch: 4,
  },
  { kind: 'glance-ask' },
  {
    kind: 'glance',
    version: '0.1.0',
    health: 'degraded',
    problems: 2,
    worst: 'replica-failed',
    uptimeMs: 60_000,
    spaces: 500,
    led: 167,
    url: 'http://10.0.0.1:7480/',
    links: [
      {
        ...{ replicaId: 'b', state: 'streaming', spaces: 167, lagMs: 12, lagEntries: 3 },
        ...{ lagBytes: 400, heardAgoMs: 250 },
      },
      {
        ...{ replicaId: 'c', state: 'waiting', spaces: 0, lagMs: undefined, lagEntries: 0 },
        ...{ lagBytes: 0, heardAgoMs: undefined },
      },
    ],
  },
  { kind: 'peer-done' },
  { kind: 'peer-declined', code: 'Io', message: 'cannot be read' },
  { kind: 'snapshot-request', handle: 3, snapshot: ID, chunks: 17 },
  { kind: 'snapshot-begin', handle: 3, epoch: 4, chunk: 17, facts: snapshot },
  { kind: 'snapshot-chunk', handle: 3, index: 17, crc: 0xe3069283, bytes: CHECKED },
  { kind: 'snapshot-progress', handle: 3, chunks: 18 },
  { kind: 'snapshot-end', handle: 3, whole: { chunks: 18, bytes: 4_500_000, digest: ID + ID } },
  { kind: 'snapshot-done', handle: 3, stage: 'installed' },
  {
    kind: 'snapshot-refuse',
    handle: 3,
    code: 'SnapshotFailed',
    message: 'no room',
    retryAfterMs: 1_000,
  },
  { kind: 'snapshot-wait', handle: 3, before: 2, retryAfterMs: 5_000 },
  { kind: 'history', rows: [{ handle: 1, epoch: 2, startSequence: 200, primaryNodeId: ID }] },
  { kind: 'fenced', handle: 1, epoch: 3, leader: members[0] },
  { kind: 'promise', id: ID, epoch: 4, candidate: members[0]!, handover: 9n },
  { kind: 'promised', id: ID, isGranted: false, epochSeen: 5, position, reason: 'seen' },
  { kind: 'promises', candidate: members[0]!, rows: [{ id: ID, epoch: 4 }] },
  {
    kind: 'promises-given',
    rows: [{ id: ID, isGranted: true, epochSeen: 4, position, reason: '', directoryId: undefined }],
  },
  { kind: 'tip-ask', ids: [ID] },
  { kind: 'tips', rows: [{ id: ID, leads: true, epoch: 4, sequence: 258 }] },
  { kind: 'take-over', id: ID, position, handover: 9n },
  { kind: 'took-over', id: ID, epoch: 0, code: 'PromotionRefused', reason: 'behind' },
  { kind: 'regressed', handle: 3, flushed: 258 },
];

/** What version 2 says otherwise. */
const FRAMES_2: PlainFrame[] = [
  { kind: 'spaces', rows: [{ handle: 1, id: ID, epoch: 1, name: 'tenant-é', members, sets }] },
  {
    kind: 'standing',
    rows: [
      {
        id: ID,
        isKnown: true,
        role: 'primary',
        epoch: 3,
        epochSeen: 4,
        primary: 'c',
        position,
        flushed: 258,
        applied: 257,
        first: 12,
        isWhole: false,
        history: history2,
        directoryId: DIRECTORY,
        sets,
        founder: ID,
        isFounded: true,
        protocol: 2,
      },
    ],
  },
  {
    kind: 'snapshot-begin',
    handle: 3,
    epoch: 4,
    chunk: 17,
    facts: { ...snapshot, history: history2, sets },
  },
  { kind: 'history', rows: history2.map((row) => ({ handle: 1, ...row })) },
  {
    kind: 'promised',
    id: ID,
    isGranted: true,
    epochSeen: 5,
    position,
    reason: '',
    directoryId: DIRECTORY,
  },
];

function golden(name: string): Record<string, string> {
  const file = path.join(import.meta.dirname, `../../golden/wire/${name}.json`);
  return JSON.parse(fs.readFileSync(file, 'utf8')) as Record<string, string>;
}

const GOLDEN = golden('frames');
const GOLDEN_2 = golden('frames-2');

describe('frames', () => {
  test.each(FRAMES)('$kind: golden bytes, and back', (frame) => {
    const bytes = encodeFrame(frame);
    expect(Buffer.from(bytes).toString('hex')).toBe(GOLDEN[frame.kind]);
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    expect(view.getUint32(0, true)).toBe(bytes.length - FRAME_HEADER_BYTES);
    expect(decodeFrame(bytes[4]!, bytes.subarray(FRAME_HEADER_BYTES))).toEqual(frame);
  });

  test.each(FRAMES_2)('$kind in version 2: golden bytes, and back', (frame) => {
    const bytes = encodeFrame(frame, 2);
    expect(Buffer.from(bytes).toString('hex')).toBe(GOLDEN_2[frame.kind]);
    expect(bytes[4]).not.toBe(FRAME_KINDS[frame.kind]);
    expect(decodeFrame(bytes[4]!, bytes.subarray(FRAME_HEADER_BYTES))).toEqual(frame);
    // Who speaks version 1 is told what it has always been told.
    const before = encodeFrame(frame, 1);
    expect(before[4]).toBe(FRAME_KINDS[frame.kind]);
    expect(before.length).toBeLessThan(bytes.length);
  });

  test('what version 2 says otherwise has a golden frame; all else is as in version 1', () => {
    expect(Object.keys(GOLDEN_2).sort()).toEqual(FRAMES_2.map((f) => f.kind).sort());
    for (const frame of FRAMES.filter(({ kind }) => !(kind in GOLDEN_2))) {
      expect(encodeFrame(frame, 2)).toEqual(encodeFrame(frame, 1));
    }
  });

  test('every kind but batches has a golden frame', () => {
    expect(Object.keys(GOLDEN).sort()).toEqual(FRAMES.map((f) => f.kind).sort());
    expect(FRAMES).toHaveLength(Object.keys(FRAME_KINDS).length - 1);
  });

  test('a body cut anywhere, or longer than its fields, is a protocol violation', () => {
    const all = [...FRAMES.map((f) => [f, 1] as const), ...FRAMES_2.map((f) => [f, 2] as const)];
    for (const [frame, version] of all) {
      const bytes = encodeFrame(frame, version);
      const body = bytes.slice(FRAME_HEADER_BYTES);
      for (let cut = 1; cut < body.length; cut++) {
        try {
          decodeFrame(bytes[4]!, body.subarray(0, cut));
          // Rows may end behind a whole row; nothing else may.
          const rows = [
            'heartbeat',
            'acks',
            'history',
            'standing-ask',
            'promises',
            'entries',
            'append-ask',
            'snapshot-chunk',
          ];
          expect(rows).toContain(frame.kind);
        } catch (error) {
          expect(error).toMatchObject({ code: 'ProtocolViolation' });
        }
      }
      // Whatever its bytes are, they are a batch's, a chunk's or a payload: who takes them, checks.
      if (['entries', 'append-ask', 'snapshot-chunk'].includes(frame.kind)) continue;
      const longer = new Uint8Array([...body, 0]);
      expect(() => decodeFrame(bytes[4]!, longer)).toThrow(EngramError);
    }
  });

  test('any bytes: a frame, or an error of ours', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 60 }),
        fc.uint8Array({ maxLength: 200 }),
        (kind, body) => {
          try {
            decodeFrame(kind, body);
          } catch (error) {
            expect(error).toBeInstanceOf(EngramError);
          }
        },
      ),
      { numRuns: 3_000 },
    );
  });

  test('the assembler finds the same frames however the stream is cut', () => {
    const stream = Buffer.concat(FRAMES.map((f) => Buffer.from(encodeFrame(f))));
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1 }), (sizes) => {
        const assembler = new FrameAssembler(1024);
        const found: Frame[] = [];
        for (let at = 0, i = 0; at < stream.length; i++) {
          const size = sizes[i % sizes.length]!;
          let rest: Uint8Array = stream.subarray(at, at + size);
          at += size;
          // Stopping after each frame gives back what was not used up.
          while (rest.length > 0) {
            rest = assembler.feed(rest, (kind, body) => {
              found.push(decodeFrame(kind, Uint8Array.from(body)));
              return i % 2 === 0;
            });
          }
        }
        expect(found).toEqual(FRAMES);
      }),
    );
  });

  test('a length beyond the cap throws before anything is allocated for it', () => {
    const assembler = new FrameAssembler(1024);
    const head = new Uint8Array(FRAME_HEADER_BYTES);
    writeFrameHeader(new DataView(head.buffer), 0, 1, 0x7fffffff, 0);
    expect(() => assembler.feed(head, () => true)).toThrow(/ProtocolViolation/);
  });

  test('FAULT-30 one changed bit anywhere in a frame is found before the frame is used', () => {
    for (const frame of FRAMES) {
      const bytes = encodeFrame(frame);
      for (let bit = 0; bit < 8 * bytes.length; bit++) {
        const changed = bytes.slice();
        changed[bit >> 3] = changed[bit >> 3]! ^ (1 << (bit & 7));
        const taken: number[] = [];
        const feed = (): unknown =>
          new FrameAssembler(1024).feed(changed, (kind) => taken.push(kind) > 0);
        expect(feed, `${frame.kind}, bit ${bit}`).toThrow(/ChecksumMismatch|ProtocolViolation/);
        expect(taken).toEqual([]);
      }
    }
  });
});

test('a snapshot of a space that no number could go on in is none', () => {
  const body = (sequence: number): Uint8Array => {
    const facts = { ...snapshot, position: { ...position, sequence } };
    const frame = encodeFrame({ kind: 'snapshot-begin', handle: 1, epoch: 1, chunk: 0, facts });
    return frame.subarray(FRAME_HEADER_BYTES);
  };
  const { 'snapshot-begin': code } = FRAME_KINDS;
  expect(decodeFrame(code, body(2 ** 52))).toMatchObject({ kind: 'snapshot-begin' });
  for (const sequence of [2 ** 52 + 1, Number.MAX_SAFE_INTEGER]) {
    expect(() => decodeFrame(code, body(sequence))).toThrow('ProtocolViolation');
  }
});

test('introductions that share who counts are measured together', () => {
  let measured = 0;
  const row: MembersRow = {
    ...{ epoch: 1, sequence: 0, old: undefined },
    get next() {
      measured++;
      return first;
    },
  };
  const introduced = Array.from({ length: 5_000 }, (_, handle) => {
    return { handle, id: ID, epoch: 1, name: `space-${handle}`, members, sets: [row] };
  });
  const parts = spacesInFrames(introduced);
  expect(measured).toBeLessThan(10);
  expect(parts.flat().map((one) => one.handle)).toEqual(introduced.map((one) => one.handle));
});
