/** What a replica makes of batches of several spaces: run by run what it makes of ordinary ones. */
import fc from 'fast-check';
import { beforeEach, describe, expect, test } from 'vitest';
import { idWords } from '#src/shared/bytes.js';
import { FRAME_HEADER_BYTES } from '#src/shared/limits.js';
import { NODE_SPACE_ID } from '#src/shared/log/node-record.js';
import { idOf } from '#src/shared/names.js';
import { FrameBuilder } from '#src/shared/wire/batches/frame-builder.js';
import { codecOf, featureOf } from '#src/shared/wire/compression.js';
import { entriesOf } from '../../support/batches.js';
import { EPOCH, NAMES, Replica } from '../../support/intake.js';
import { batchFrame, type MixedRun, mixedFrame, PRIMARY } from '../../support/wire-client.js';

/** `a1-3`: entries 1 to 3 of space a. */
function run(text: string, epoch = EPOCH): MixedRun {
  const [, name, first, last] = /^(\w)(\d+)-(\d+)$/.exec(text)!;
  return { name: name!, first: Number(first), last: Number(last), epoch };
}

const mixed = (...texts: string[]) => mixedFrame(texts.map((text) => run(text)));

let replica = new Replica();
beforeEach(() => {
  replica = new Replica();
});

describe('a batch of several spaces', () => {
  test('all of it new: staged at once', async () => {
    await replica.take(mixed('a1-2', 'b1-1', 'c1-3'));
    expect(replica.staged).toEqual(['a1', 'a2', 'b1', 'c1', 'c2', 'c3']);
    expect(replica.calls).toEqual([3]);
  });

  test('each run is judged: what is here already, in part, or is not yet to come', async () => {
    replica = new Replica(2);
    await replica.take(mixed('a3-3', 'b1-2', 'c2-4', 'd5-5', 'a4-4', 'd3-3'));
    expect(replica.staged).toEqual(['a3', 'c3', 'c4', 'a4', 'd3']);
    expect(replica.nacks()).toEqual(['13 expects 3']);
    replica.receiver.flushed(1, 4);
    // b is acknowledged once more, as what is here already is.
    expect([...replica.receiver.takeAcks(0)]).toEqual([11, 2, 2, 0, 10, 2, 4, 0]);
  });

  test('a space more than once, and once too often', async () => {
    await replica.take(mixed('a1-1', 'b1-1', 'a2-2', 'b1-1', 'a2-3'));
    expect(replica.staged).toEqual(['a1', 'b1', 'a2', 'a3']);
  });

  test.each([
    ['a space that is not here', { name: 'x', first: 1, last: 1, epoch: EPOCH }],
    ['the node’s own space', { name: idWords(NODE_SPACE_ID), first: 1, last: 1, epoch: EPOCH }],
    ['no space at all', { name: [0, 0, 0, 0] as const, first: 1, last: 1, epoch: EPOCH }],
  ])('with %s is a violation, and nothing of that is staged', async (_, bad) => {
    const take = replica.take(mixedFrame([run('a1-1'), bad, run('b1-1')]));
    await expect(take).rejects.toMatchObject({ code: 'ProtocolViolation' });
    expect(replica.staged).not.toContain('b1');
  });

  test('of a space that is not streamed, or by now is another’s', async () => {
    replica.receiver.verdict({ handle: 11, verdict: 'rewind', next: 1 });
    const take = replica.take(mixed('a1-1', 'b1-1'));
    await expect(take).rejects.toMatchObject({ code: 'ProtocolViolation' });
    replica = new Replica();
    replica.receiver.fence(2, EPOCH + 1);
    await replica.take(mixed('a1-1', 'b1-1', 'c1-1'));
    expect(replica.staged).toEqual(['a1', 'c1']);
  });

  test('an entry of another epoch than the one introduced is no right to write', async () => {
    const old = replica.take(mixedFrame([run('a1-1'), run('b1-1', EPOCH - 1)]));
    await expect(old).rejects.toMatchObject({ code: 'Fenced' });
    expect([replica.fenced, replica.heard, replica.staged]).toEqual([['2'], [], []]);
    replica = new Replica();
    const higher = replica.take(mixedFrame([run('a1-1'), run('b1-1', EPOCH + 1)]));
    await expect(higher).rejects.toMatchObject({ code: 'Fenced' });
    expect([replica.fenced, replica.heard, replica.staged]).toEqual([[], ['2 3'], []]);
  });

  test('nobody has agreed on it: refused', async () => {
    replica = new Replica(0, 100_000, 0);
    const take = replica.take(mixed('a1-1', 'b1-1'));
    await expect(take).rejects.toMatchObject({ code: 'UnsupportedVersion' });
    expect(replica.staged).toEqual([]);
  });

  test('room runs out: what found none comes again, nothing twice', async () => {
    replica = new Replica(0, 200);
    replica.refusals = 2;
    await replica.take(mixed('a1-1', 'b1-1', 'c1-9', 'a2-2', 'b1-1', 'a3-4', 'd1-1'));
    const c = Array.from({ length: 9 }, (_, i) => `c${i + 1}`);
    expect(replica.staged).toEqual(['a1', 'b1', ...c, 'a2', 'a3', 'a4', 'd1']);
    expect(replica.nacks()).toEqual([]);
  });

  test('whatever comes, in whatever groups: what ordinary batches would have come to', async () => {
    const piece = fc.tuple(fc.nat(NAMES.length - 1), fc.nat(5), fc.integer({ min: 1, max: 4 }));
    const pieces = fc.array(piece, { minLength: 2, maxLength: 12 });
    const world = fc.tuple(pieces, fc.nat(2), fc.integer({ min: 80, max: 900 }), fc.nat(3));
    await fc.assert(
      fc.asyncProperty(world, async ([from, had, groupBytes, refusals]) => {
        const runs = from.map(([space, first, count]) => {
          return run(`${NAMES[space]}${1 + first}-${first + count}`);
        });
        const [one, other] = [new Replica(had, groupBytes), new Replica(had, groupBytes)];
        one.refusals = refusals;
        await one.take(mixedFrame(runs));
        for (const { name, first, last } of runs) {
          await other.take(batchFrame(name as string, first, last, EPOCH));
        }
        expect(one.staged).toEqual(other.staged);
        // Runs that go on are one, so it may be told less often.
        expect(new Set(one.nacks())).toEqual(new Set(other.nacks()));
      }),
      { numRuns: 500 },
    );
  });
});

describe('a damaged batch', () => {
  // In the frame: 4 bytes of length, the batch header of 64, then entries of 64 and their payloads.
  const START = FRAME_HEADER_BYTES + 4 + 64;
  test.each([
    ['the epoch that it is sent in', START - 5],
    ['its batch_crc', START - 9],
    ['where an entry ended in the sender’s log', START + 58],
    ['the last byte', -1],
  ])('%s: refused, and of no effect', async (_, at) => {
    const several = () => mixed('a1-4', 'b1-1', 'a5-9', 'c1-1');
    const one = (last: number) => () => batchFrame('a', 1, last, EPOCH);
    for (const made of [one(1), one(12), several]) {
      const frame = made();
      frame[at < 0 ? frame.length + at : at]! ^= 1;
      await expect(replica.take(frame)).rejects.toMatchObject({ code: 'ChecksumMismatch' });
    }
    expect([replica.staged, replica.heard, replica.fenced, replica.sent]).toEqual([[], [], [], []]);
  });

  test.each([
    ['as they are', undefined],
    ['compressed', codecOf('lz4')!],
  ])('entries damaged before they were summed, %s: named and refused', async (_, codec) => {
    replica.intake.features = featureOf('lz4');
    for (const count of [1, 12]) {
      const entries = entriesOf(Array(count).fill(Buffer.alloc(300, 7)), 1, EPOCH, idOf('a'));
      const parts = [
        ['payload', 64],
        ['header', 4],
      ] as const;
      for (const [part, at] of parts) {
        const frame = new FrameBuilder(100_000, idOf(PRIMARY));
        frame.reset(100_000, codec);
        frame.begin(1, idWords(idOf('a')), EPOCH, 1);
        const damaged = entries.slice();
        damaged[entries.length - 364 + at]! ^= 1;
        frame.add(damaged, count);
        const why = `the ${part} of entry ${count} does not fit its CRC`;
        await expect(replica.take(frame.finish())).rejects.toThrow(why);
      }
    }
    expect([replica.staged, replica.sent]).toEqual([[], []]);
  });
});
