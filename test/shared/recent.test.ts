import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ByteReader, ByteRoom, ByteWriter, Recent } from '#src/shared/bytes.js';
import { newSpaceFacts } from '#src/shared/log/space-facts.js';
import { decodeState, StateWriter } from '#src/shared/log/state.js';

const names = fc.array(fc.constantFrom('', 'a', 'ab', 'abc', 'é', ...'0123456789'), {
  maxLength: 60,
});

test('what is read and written by way of recent ones is what it would be without', () => {
  const known = new Recent<string>();
  fc.assert(
    fc.property(names, (all) => {
      const plain = new ByteWriter();
      const w = new ByteWriter();
      for (const name of all) {
        plain.text(name);
        w.recent(known, name, () => w.text(name));
      }
      expect(w.bytes()).toEqual(plain.bytes());
      const r = new ByteReader(w.bytes(), 'CorruptionDetected');
      expect(all.map(() => r.recent(known, () => r.text()))).toEqual(all);
      r.end();
    }),
  );
});

test('what was read as less than its bytes is written as what it is', () => {
  const known = new Recent<string>();
  const r = new ByteReader(new ByteWriter().text('ABC').bytes(), 'CorruptionDetected');
  const read = r.recent(known, () => r.text().toLowerCase());
  const w = new ByteWriter();
  w.recent(known, read, () => w.text(read));
  expect(w.bytes()).toEqual(new ByteWriter().text('abc').bytes());
});

test('bytes that end before a recent one does are read, and refused', () => {
  const known = new Recent<string>();
  const bytes = new ByteWriter().text('abcdef').bytes();
  const read = (part: Uint8Array): string => {
    const r = new ByteReader(part, 'CorruptionDetected');
    return r.recent(known, () => r.text());
  };
  expect(read(bytes)).toBe('abcdef');
  expect(() => read(bytes.subarray(0, 4))).toThrow('CorruptionDetected');
});

test('room is had by one at a time; what is written there is what it would be elsewhere', () => {
  const room = new ByteRoom();
  const own = { nodeId: 'p', clusterId: 'c', directoryId: undefined, madeAs: 2 };
  const written = (bytes: Uint8Array | undefined, spaces: number): Uint8Array => {
    const writer = new StateWriter(1, 0, own, bytes);
    for (let n = 0; n < spaces; n++) {
      writer.space({ lsn: 0, facts: newSpaceFacts(n.toString(16).padStart(32, '0'), `${n}`) });
    }
    return writer.finish(0, 0, [], []);
  };
  const first = room.take(10_000).fill(0xa5);
  expect(room.take(1)).not.toBe(first);
  const state = written(first, 20);
  expect(state.buffer).toBe(first.buffer);
  expect(state).toEqual(written(undefined, 20));
  room.leave(state);
  // A smaller one does not take its place.
  room.leave(new Uint8Array(5_000));
  expect(room.take(10_001).buffer).not.toBe(first.buffer);
  const again = room.take(9_000);
  expect([again.buffer, again.length]).toEqual([first.buffer, 10_000]);
  expect(room.take(1).buffer).not.toBe(first.buffer);
  // What grows out of it leaves what it has grown to.
  const grown = written(again, 200);
  expect(grown).toEqual(written(undefined, 200));
  room.leave(grown);
  expect(room.take(grown.length).buffer).toBe(grown.buffer);
});

test('thousands of spaces of one state share what they have alike', () => {
  const writer = new StateWriter(1, 0, {
    nodeId: 'p',
    clusterId: 'c',
    directoryId: undefined,
    madeAs: 2,
  });
  const directoryId = 'd'.repeat(32);
  for (let n = 0; n < 1_000; n++) {
    const facts = newSpaceFacts(n.toString(16).padStart(32, '0'), `space-${n}`);
    const members = [{ nodeId: 'r', host: 'host', port: 1 }];
    const next = { members: [{ nodeId: 'r', directoryId }], keep: 1 };
    const sets = [{ epoch: 1, sequence: 0, next, old: undefined }];
    const history = [{ epoch: 1, startSequence: 1, primaryNodeId: 'e'.repeat(32), directoryId }];
    writer.space({ lsn: 0, facts: Object.assign(facts, { members, sets, history }) });
  }
  const { spaces } = decodeState(writer.finish(0, 0, [], []));
  const different = (of: (facts: (typeof spaces)[0]['facts']) => unknown): number =>
    new Set(spaces.map(({ facts }) => of(facts))).size;
  expect(different((facts) => facts.members)).toBe(1);
  expect(different((facts) => facts.sets[0])).toBe(1);
  expect(different((facts) => facts.history[0])).toBe(1);
  // What changes by itself is its own.
  expect(different((facts) => facts.sets)).toBe(1_000);
  expect(different((facts) => facts.history)).toBe(1_000);
});

test('few are remembered, the last ones, with bytes of their own', () => {
  const known = new Recent<string>();
  let written = 0;
  let made = 0;
  const w = new ByteWriter();
  const put = (text: string): unknown =>
    w.recent(known, text, () => {
      written++;
      w.text(text);
    });
  const bytes = new ByteWriter();
  for (let n = 0; n < 20; n++) put(`${n}`);
  expect(written).toBe(20);
  // What is remembered is not what the writer's buffer has become, nor what was first.
  put('19');
  put('13');
  expect(written).toBe(20);
  put('0');
  expect(written).toBe(21);
  for (let n = 0; n < 20; n++) bytes.text(`${n}`);
  bytes.text('19').text('13').text('0');
  expect(w.bytes()).toEqual(bytes.bytes());
  const given = bytes.bytes().slice();
  const take = (from: Uint8Array): string[] => {
    const r = new ByteReader(from, 'CorruptionDetected');
    const all: string[] = [];
    while (r.left > 0) all.push(r.recent(known, () => `${r.text()} ${made++}`));
    return all;
  };
  const first = take(given);
  expect(first.slice(-3)).toEqual(['19 19', '13 13', '0 20']);
  // Whoever reads into the same bytes again changes nothing of what is remembered.
  given.fill(0xff);
  expect(take(new ByteWriter().text('19').text('5').bytes())).toEqual(['19 19', '5 21']);
});

test('bytes that end within a recent one are none of it', () => {
  const known = new Recent<string>();
  known.read(Uint8Array.of(7, 7, 7), 'three');
  expect(known.readAt(Uint8Array.of(7, 7), 0)).toBeUndefined();
  expect(known.readAt(Uint8Array.of(0, 7, 7, 7), 1)?.value).toBe('three');
  expect(known.readAt(Uint8Array.of(0, 7, 7, 7), 2)).toBeUndefined();
});
