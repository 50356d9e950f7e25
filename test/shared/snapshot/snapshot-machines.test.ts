import { describe, expect, test } from 'vitest';
import { crc32c } from '#src/shared/crc.js';
import {
  SNAPSHOT_HOST_STALL_MS,
  SNAPSHOT_STALL_MS,
  SNAPSHOT_WINDOW_CHUNKS,
} from '#src/shared/limits.js';
import { NO_SNAPSHOT, type SnapshotFacts, type SnapshotWhole } from '#src/shared/snapshot/facts.js';
import {
  type Chunk,
  type Pair,
  type QueueEffect,
  type QueueInput,
  SnapshotQueue,
} from '#src/shared/snapshot/queue.js';
import { type SinkEffect, type SinkInput, SnapshotSink } from '#src/shared/snapshot/sink.js';

const OPTIONS = {
  maxSnapshots: 1,
  maxSnapshotBytes: 1_000_000,
  snapshotGraceMs: 1_000,
  backoffStepsMs: [100, 500],
};
const B: Pair = { replicaId: 'b', slot: 1 };
const C: Pair = { replicaId: 'c', slot: 1 };

function factsOf(id: string, sequence = 40): SnapshotFacts {
  const position = { epoch: 1, sequence, headerCrc: 9 };
  return { id: id.repeat(32), position, timestamp: 5n, history: [], sets: [] };
}

function chunkOf(n: number): Chunk {
  const bytes = new Uint8Array(100).fill(n);
  return { bytes, crc: crc32c(bytes) };
}

function wholeOf(chunks: number): SnapshotWhole {
  return { chunks, bytes: 100 * chunks, digest: 'd'.repeat(64) };
}

const kinds = (effects: readonly { kind: string }[]): string => effects.map((e) => e.kind).join();

describe('the queue of snapshots on a primary', () => {
  const queue = (): { step: (i: QueueInput, ms?: number) => QueueEffect[]; of: SnapshotQueue } => {
    const of = new SnapshotQueue(OPTIONS);
    return { of, step: (input, ms = 0) => of.step(input, ms) };
  };
  const ask = (pair: Pair, link = 1, snapshot = NO_SNAPSHOT, chunks = 0): QueueInput => {
    return { kind: 'requested', pair, link, snapshot, chunks };
  };

  /** One that has pulled as much as its window takes. */
  function sending(): ReturnType<typeof queue> {
    const q = queue();
    q.step(ask(B));
    q.step({ kind: 'opened', pair: B, facts: factsOf('1') });
    for (let n = 0; n < SNAPSHOT_WINDOW_CHUNKS; n++) {
      q.step({ kind: 'pulled', pair: B, chunk: chunkOf(n) });
    }
    return q;
  }

  test('the host is asked, and pulled from only as far as the window goes', () => {
    const q = queue();
    expect(kinds(q.step(ask(B)))).toBe('open');
    expect(kinds(q.step({ kind: 'opened', pair: B, facts: factsOf('1') }))).toBe('begin,pull');
    let pulls = 1;
    for (let n = 0; n < SNAPSHOT_WINDOW_CHUNKS; n++) {
      const effects = q.step({ kind: 'pulled', pair: B, chunk: chunkOf(n) });
      expect(effects[0]).toMatchObject({ kind: 'chunk', index: n, link: 1 });
      pulls += effects.filter((e) => e.kind === 'pull').length;
    }
    expect(pulls).toBe(SNAPSHOT_WINDOW_CHUNKS);
    // Nothing more before something of it is durable there.
    expect(kinds(q.step({ kind: 'progress', pair: B, chunks: 0 }))).toBe('');
    expect(kinds(q.step({ kind: 'progress', pair: B, chunks: 1 }))).toBe('pull');
    expect(q.of.progressOf(B)).toMatchObject({ phase: 'sending', chunks: 1, bytes: 100 });
  });

  test('the end, stored, installed: the place is free when the bytes are there', () => {
    const q = sending();
    q.step({ kind: 'progress', pair: B, chunks: SNAPSHOT_WINDOW_CHUNKS });
    expect(kinds(q.step(ask(C)))).toBe('wait');
    const ended = q.step({ kind: 'ended', pair: B, whole: wholeOf(SNAPSHOT_WINDOW_CHUNKS) });
    expect(kinds(ended)).toBe('end');
    expect(kinds(q.step({ kind: 'stored', pair: B }))).toBe('close,open');
    expect(q.of.progressOf(B)).toMatchObject({ phase: 'installing' });
    expect(kinds(q.step({ kind: 'installed', pair: B }))).toBe('done,close,join');
    expect(q.of.progressOf(B)).toBeUndefined();
  });

  test('FAULT-60 in the order in which they asked; who leaves the queue is not waited for', () => {
    const q = queue();
    const d: Pair = { replicaId: 'd', slot: 2 };
    q.step(ask(B));
    expect(q.step(ask(C))).toMatchObject([{ kind: 'wait', before: 1 }]);
    expect(q.step(ask(d))).toMatchObject([{ kind: 'wait', before: 2 }]);
    // Asking again changes nothing.
    expect(q.step(ask(d))).toMatchObject([{ kind: 'wait', before: 2 }]);
    q.step({ kind: 'unlinked', replicaId: 'c' });
    expect(q.of.progressOf(C)).toBeUndefined();
    const failed = q.step({ kind: 'failed', pair: B, code: 'SnapshotFailed', reason: 'no' });
    expect(kinds(failed)).toBe('close,unpin,lost,refuse,open');
    expect(failed.at(-1)).toMatchObject({ pair: d });
  });

  test('FAULT-56 a new link goes on where the replica stands; what it lacks is held', () => {
    const q = sending();
    q.step({ kind: 'progress', pair: B, chunks: 1 });
    q.step({ kind: 'unlinked', replicaId: 'b' }, 10);
    expect(q.of.progressOf(B)).toMatchObject({ phase: 'parked' });
    const { id } = factsOf('1');
    const effects = q.step(ask(B, 2, id, 2), 20);
    expect(effects[0]).toMatchObject({ kind: 'begin', chunk: 2, link: 2 });
    const sent = effects.filter((e) => e.kind === 'chunk');
    expect(sent.map((e) => e.index)).toEqual([2, 3]);
    expect(effects.some((e) => e.kind === 'pull')).toBe(false);
  });

  test.each([
    ['another one', '2', 2],
    ['chunks that are not held any more', '1', 0],
    ['chunks that were never sent', '1', 99],
  ])('a replica that has %s gets a new one', (_, id, chunks) => {
    const q = sending();
    q.step({ kind: 'progress', pair: B, chunks: 1 });
    q.step({ kind: 'unlinked', replicaId: 'b' });
    expect(kinds(q.step(ask(B, 2, factsOf(id).id, chunks)))).toBe('close,unpin,open');
  });

  test('a question that crosses the answer on its way changes nothing', () => {
    const q = sending();
    expect(q.step(ask(B))).toEqual([]);
    expect(q.of.progressOf(B)).toMatchObject({ phase: 'sending' });
  });

  test('whole on the replica, and not known to be: the end is said again', () => {
    const q = sending();
    q.step({ kind: 'ended', pair: B, whole: wholeOf(SNAPSHOT_WINDOW_CHUNKS) });
    q.step({ kind: 'stored', pair: B });
    q.step({ kind: 'unlinked', replicaId: 'b' });
    const effects = q.step(ask(B, 2, factsOf('1').id, SNAPSHOT_WINDOW_CHUNKS));
    expect(kinds(effects)).toBe('begin,end');
  });

  test.each([
    ['the replica does not come back', OPTIONS.snapshotGraceMs, 'parked'],
    ['the replica stores nothing', SNAPSHOT_STALL_MS, 'sending'],
    ['the host gives nothing', SNAPSHOT_HOST_STALL_MS, 'opening'],
  ])('it is given up when %s', (_, ms, phase) => {
    const q = phase === 'opening' ? queue() : sending();
    if (phase === 'opening') q.step(ask(B));
    if (phase === 'parked') q.step({ kind: 'unlinked', replicaId: 'b' });
    expect(q.of.progressOf(B)).toMatchObject({ phase });
    expect(q.of.tick(ms - 1)).toEqual([]);
    const effects = q.of.tick(ms);
    expect(kinds(effects)).toMatch(/^close,unpin,lost/);
    expect(effects.find((e) => e.kind === 'lost')).toMatchObject({ code: 'SnapshotFailed' });
  });

  test('after a failure it is not asked for at once, however often the replica asks', () => {
    const q = queue();
    q.step(ask(B));
    q.step({ kind: 'failed', pair: B, code: 'SnapshotFailed', reason: 'no' });
    expect(q.step(ask(B), 50)).toMatchObject([{ kind: 'wait' }]);
    expect(q.of.tick(99)).toEqual([]);
    expect(kinds(q.of.tick(100))).toBe('open');
    const again = q.step({ kind: 'failed', pair: B, code: 'SnapshotFailed', reason: 'no' }, 100);
    expect(again).toContainEqual(expect.objectContaining({ kind: 'lost', retryAfterMs: 500 }));
  });

  test('progress that nobody could make is a violation', () => {
    const q = sending();
    q.step({ kind: 'progress', pair: B, chunks: 2 });
    expect(() => q.step({ kind: 'progress', pair: B, chunks: 1 })).toThrow(/ProtocolViolation/);
    expect(() => q.step({ kind: 'progress', pair: B, chunks: 9 })).toThrow(/ProtocolViolation/);
    // Not asked for, or over: nothing comes of it.
    expect(q.step({ kind: 'progress', pair: C, chunks: 5 })).toEqual([]);
  });

  test('installed where nothing is known of it: positions are compared', () => {
    expect(queue().step({ kind: 'installed', pair: B })).toEqual([{ kind: 'join', pair: B }]);
  });
});

describe('the snapshot of a space on its replica', () => {
  const sinkOf = (
    kept?: ConstructorParameters<typeof SnapshotSink>[2],
  ): { of: SnapshotSink; step: (i: SinkInput, ms?: number) => SinkEffect[] } => {
    const of = new SnapshotSink(OPTIONS, 0, kept);
    return { of, step: (input, ms = 0) => of.step(input, ms, 0.5) };
  };

  function receiving(chunks: number): ReturnType<typeof sinkOf> {
    const s = sinkOf();
    s.step({ kind: 'wanted' });
    s.step({ kind: 'begun', facts: factsOf('1'), chunk: 0 });
    for (let n = 0; n < chunks; n++) s.step({ kind: 'chunk', index: n, chunk: chunkOf(n) });
    return s;
  }

  test('one that is larger than it may be: given up at that chunk, and not soon again', () => {
    const large = sinkOf();
    large.step({ kind: 'wanted' });
    large.step({ kind: 'begun', facts: factsOf('1'), chunk: 0 });
    const bytes = new Uint8Array(500_000);
    const chunk = { crc: crc32c(bytes), bytes };
    for (let index = 0; index < 2; index++) {
      expect(large.step({ kind: 'chunk', index, chunk })[0]?.kind).toBe('write');
    }
    const effects = large.step({ kind: 'chunk', index: 2, chunk });
    expect(effects.map(({ kind }) => kind)).toEqual(['discard', 'lost', 'refuse']);
    expect(effects[1]).toMatchObject({ code: 'SnapshotFailed', retryAfterMs: 500 });
    expect(large.of.progress).toMatchObject({ phase: 'waiting', bytes: 0 });
  });

  test('asked, received, stored, verified, installed', () => {
    const s = sinkOf();
    expect(s.step({ kind: 'wanted' })).toEqual([
      { kind: 'request', snapshot: NO_SNAPSHOT, chunks: 0 },
    ]);
    const begun = s.step({ kind: 'begun', facts: factsOf('1'), chunk: 0 });
    expect(kinds(begun)).toBe('create,started');
    expect(kinds(s.step({ kind: 'chunk', index: 0, chunk: chunkOf(0) }))).toBe('write');
    expect(s.step({ kind: 'ended', whole: wholeOf(1) })).toEqual([]);
    expect(kinds(s.step({ kind: 'stored', chunks: 1 }))).toBe('progress,verify');
    expect(kinds(s.step({ kind: 'verified', isGood: true }))).toBe('done,install');
    expect(s.of.phase).toBe('installing');
    expect(s.step({ kind: 'installed' })).toEqual([{ kind: 'done', stage: 'installed' }]);
    expect(s.of.progress).toMatchObject({ phase: 'idle', sequence: 0 });
  });

  test('FAULT-57 a digest that does not fit: discarded and told, nothing is installed', () => {
    const s = receiving(1);
    s.step({ kind: 'stored', chunks: 1 });
    s.step({ kind: 'ended', whole: wholeOf(1) });
    const effects = s.step({ kind: 'verified', isGood: false });
    expect(kinds(effects)).toBe('discard,lost,refuse');
    expect(effects[1]).toMatchObject({ code: 'ChecksumMismatch', retryAfterMs: 100 });
    expect(s.of.tick(149)).toEqual([]);
    expect(s.of.tick(150)).toEqual([{ kind: 'request', snapshot: NO_SNAPSHOT, chunks: 0 }]);
  });

  test('FAULT-57 a chunk that does not fit its CRC ends the link, and what is there stays', () => {
    const s = receiving(2);
    s.step({ kind: 'stored', chunks: 2 });
    const bad = { ...chunkOf(2), crc: 7 };
    expect(() => s.step({ kind: 'chunk', index: 2, chunk: bad })).toThrow(/ChecksumMismatch/);
    s.step({ kind: 'unlinked' });
    expect(s.step({ kind: 'wanted' })).toEqual([
      { kind: 'request', snapshot: factsOf('1').id, chunks: 2 },
    ]);
  });

  test('FAULT-56 what is still being written counts when it is asked where to go on', () => {
    const s = receiving(3);
    s.step({ kind: 'stored', chunks: 1 });
    s.step({ kind: 'unlinked' });
    expect(s.step({ kind: 'wanted' })).toEqual([]);
    expect(s.step({ kind: 'stored', chunks: 3 })).toEqual([
      { kind: 'request', snapshot: factsOf('1').id, chunks: 3 },
    ]);
    expect(kinds(s.step({ kind: 'begun', facts: factsOf('1'), chunk: 3 }))).toBe('started');
  });

  test('FAULT-56 what an earlier life has left is asked for, or goes with the grace time', () => {
    const kept = { facts: factsOf('1'), chunks: 5, bytes: 500 };
    const { id } = factsOf('1');
    expect(sinkOf(kept).step({ kind: 'wanted' })).toEqual([
      { kind: 'request', snapshot: id, chunks: 5 },
    ]);
    const alone = sinkOf(kept);
    expect(alone.of.tick(999)).toEqual([]);
    expect(alone.of.tick(1_000)).toEqual([{ kind: 'discard' }]);
    const streamed = sinkOf(kept);
    expect(streamed.step({ kind: 'streamed' })).toEqual([{ kind: 'discard' }]);
  });

  test('another one takes the place of what was there', () => {
    const s = sinkOf({ facts: factsOf('1'), chunks: 5, bytes: 500 });
    s.step({ kind: 'wanted' });
    expect(kinds(s.step({ kind: 'begun', facts: factsOf('2'), chunk: 0 }))).toBe('create,started');
    expect(kinds(s.step({ kind: 'chunk', index: 0, chunk: chunkOf(0) }))).toBe('write');
  });

  test.each<[string, (s: ReturnType<typeof sinkOf>) => void]>([
    ['a chunk that is left out', (s) => s.step({ kind: 'chunk', index: 3, chunk: chunkOf(3) })],
    ['a chunk that comes twice', (s) => s.step({ kind: 'chunk', index: 1, chunk: chunkOf(1) })],
    [
      'an empty chunk',
      (s) => s.step({ kind: 'chunk', index: 2, chunk: { bytes: new Uint8Array(0), crc: 0 } }),
    ],
    [
      'more than the window',
      (s) => {
        for (let n = 2; n < 3 * SNAPSHOT_WINDOW_CHUNKS; n++) {
          s.step({ kind: 'chunk', index: n, chunk: chunkOf(n) });
        }
      },
    ],
    ['an end that does not fit', (s) => s.step({ kind: 'ended', whole: wholeOf(3) })],
    ['a second begin', (s) => s.step({ kind: 'begun', facts: factsOf('2'), chunk: 0 })],
  ])('%s is a violation', (_, act) => {
    const s = receiving(2);
    expect(() => act(s)).toThrow(/ProtocolViolation/);
  });

  test('a begin at a chunk that is not here is a violation', () => {
    const s = sinkOf();
    s.step({ kind: 'wanted' });
    expect(() => s.step({ kind: 'begun', facts: factsOf('1'), chunk: 4 })).toThrow(/Violation/);
  });

  test('waiting for its turn: it asks again later than it was told, by chance', () => {
    const s = sinkOf();
    s.step({ kind: 'wanted' });
    s.step({ kind: 'wait', retryAfterMs: 1_000 });
    expect(s.of.phase).toBe('waiting');
    expect(s.of.tick(1_499)).toEqual([]);
    expect(kinds(s.of.tick(1_500))).toBe('request');
    // Its turn comes by itself as well.
    s.step({ kind: 'wait', retryAfterMs: 1_000 }, 1_500);
    expect(kinds(s.step({ kind: 'begun', facts: factsOf('1'), chunk: 0 }))).toBe('create,started');
  });

  test('told to come later: what is here is kept, chunks on their way are dropped', () => {
    const s = receiving(2);
    const refused = { code: 'SnapshotFailed', reason: 'no', retryAfterMs: 100 };
    expect(kinds(s.step({ kind: 'refused', ...refused }))).toBe('lost');
    expect(s.step({ kind: 'chunk', index: 2, chunk: chunkOf(2) })).toEqual([]);
    expect(s.step({ kind: 'ended', whole: wholeOf(2) })).toEqual([]);
  });

  test('a spool that cannot be written: given up, so that the disk has room again', () => {
    const s = receiving(2);
    const effects = s.step({ kind: 'failed', code: 'DiskFull', reason: 'no room' });
    expect(kinds(effects)).toBe('discard,lost,refuse');
    expect(effects[2]).toMatchObject({ code: 'DiskFull' });
    expect(s.step({ kind: 'stored', chunks: 1 })).toEqual([]);
  });

  test('while it is installed the link does not matter, and entries are refused', () => {
    const s = receiving(1);
    s.step({ kind: 'stored', chunks: 1 });
    s.step({ kind: 'ended', whole: wholeOf(1) });
    s.step({ kind: 'verified', isGood: true });
    s.step({ kind: 'unlinked' });
    expect(s.of.phase).toBe('installing');
    expect(s.step({ kind: 'wanted' })).toEqual([]);
    expect(() => s.step({ kind: 'streamed' })).toThrow(/ProtocolViolation/);
    expect(s.step({ kind: 'installed' })).toEqual([{ kind: 'done', stage: 'installed' }]);
  });

  test('a crash while it was installed: it is installed again, without a primary', () => {
    const s = sinkOf({ facts: factsOf('1'), chunks: 1, bytes: 100 });
    s.of.installAgain(0);
    expect(s.of.tick(10_000)).toEqual([]);
    expect(s.step({ kind: 'installed' })).toEqual([]);
    expect(s.of.phase).toBe('idle');
  });
});
