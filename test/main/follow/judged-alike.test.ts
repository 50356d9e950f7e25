/**
 * Whatever an admitted member sends: batches that are looked at many entries at a time, and taken
 * without a look at their runs, come to what they come to entry by entry, run by run.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { idWords, type SpaceIdWords } from '#src/shared/bytes.js';
import { crc32c } from '#src/shared/crc.js';
import { EngramError, failure } from '#src/shared/errors.js';
import { BATCH_HEADER_BYTES, BATCH_MAX_ENTRIES, ENTRY_HEADER_BYTES } from '#src/shared/limits.js';
import type { Receiver } from '#src/shared/link/receiver.js';
import { sealLocal, stageHeader } from '#src/shared/log/entry.js';
import { NODE_SPACE_ID } from '#src/shared/log/node-record.js';
import { encodeMembers, MEMBERS_ENTRY } from '#src/shared/members/members.js';
import { idOf } from '#src/shared/names.js';
import { checkEntries, decodeBatch, FEATURE_MIXED } from '#src/shared/wire/batch.js';
import { BatchRuns } from '#src/shared/wire/batches/mixed-batch.js';
import { codecOf, decompressed, featureOf } from '#src/shared/wire/compression.js';
import { EPOCH, NAMES, Replica } from '../../support/intake.js';
import { PRIMARY } from '../../support/wire-client.js';

const FEATURES = FEATURE_MIXED | featureOf('lz4');
const MAX_ENTRY_BYTES = 1_024;
const MAX_FRAME_BYTES = 100_000;
const MEMBER = { nodeId: 'a', directoryId: '1'.repeat(32) };
const MEMBERS = encodeMembers({ next: { members: [MEMBER], keep: 1 }, old: undefined });
/** Those that are followed, and three that are not. */
const SPACES: readonly SpaceIdWords[] = [
  ...NAMES.map((name) => idWords(idOf(name))),
  idWords(idOf('x')),
  idWords(NODE_SPACE_ID),
  [0, 0, 0, 0],
];

interface Flaw {
  readonly at: number;
  readonly sealed: boolean;
}

/** What is wrong with the bytes of an entry, and whether its header's sum is made to fit. */
const FLAWS: readonly Flaw[] = [
  { at: 0, sealed: true },
  { at: 4, sealed: false },
  { at: 24, sealed: true },
  { at: 26, sealed: true },
  { at: 27, sealed: true },
  { at: 28, sealed: true },
  { at: 32, sealed: false },
  { at: 36, sealed: true },
  { at: 48, sealed: false },
  { at: 55, sealed: true },
  { at: 57, sealed: false },
  { at: 64, sealed: false },
];

const rarely = <T>(often: T, ...others: T[]) =>
  fc.oneof(
    { weight: 60, arbitrary: fc.constant(often) },
    { weight: 1, arbitrary: fc.constantFrom(...others) },
  );

const entry = fc.record({
  space: fc.oneof(
    { weight: 40, arbitrary: fc.nat(NAMES.length - 1) },
    { weight: 1, arbitrary: fc.nat(SPACES.length - 1) },
  ),
  /** From the one that is next in its space. */
  away: rarely(0, -1, -3, 1, 2 ** 32, 2 ** 53),
  epoch: rarely(EPOCH, EPOCH - 1, EPOCH + 1, 0, 2 ** 32 - 1),
  type: rarely<'host' | 'epoch' | 'members' | 'no members'>(
    'host',
    'epoch',
    'members',
    'no members',
  ),
  size: fc.oneof(
    { weight: 30, arbitrary: fc.nat(60) },
    { weight: 3, arbitrary: fc.nat(MAX_ENTRY_BYTES) },
    { weight: 1, arbitrary: fc.constantFrom(0, MAX_ENTRY_BYTES, MAX_ENTRY_BYTES + 1) },
  ),
  flaw: rarely<Flaw | undefined>(undefined, ...FLAWS),
});
type Entry = typeof entry extends fc.Arbitrary<infer T> ? T : never;

/** A field of a batch's header that says something else: its place, and what is added to it. */
const edit = fc.tuple(
  fc.constantFrom(42, 42, 42, 42, 0, 2, 18, 30, 34, 40, 42, 43, 46, 48, 54, 55, 59, 63),
  fc.constantFrom(1, 2, 255),
);

const batch = fc.record({
  isMixed: rarely(true, false, false),
  /** Whatever is wrong with it stands in its header. */
  isClean: fc.boolean(),
  entries: fc.oneof(
    { weight: 24, arbitrary: fc.array(entry, { minLength: 1, maxLength: 60 }) },
    { weight: 1, arbitrary: fc.tuple(fc.array(entry, { minLength: 8, maxLength: 8 })).map(many) },
  ),
  edit: fc.oneof({ weight: 5, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: edit }),
  isSummed: fc.boolean(),
  compression: fc.oneof(
    { weight: 4, arbitrary: fc.constant('none' as const) },
    { weight: 1, arbitrary: fc.constantFrom('lz4' as const, 'another block' as const) },
  ),
});
type Batch = typeof batch extends fc.Arbitrary<infer T> ? T : never;

/** As many as a batch may have, small. */
function many([few]: [Entry[]]): Entry[] {
  const small = few.map((one) => ({ ...one, size: one.size % 30 }));
  return Array.from({ length: BATCH_MAX_ENTRIES }, (_, n) => {
    const one = small[(n * 7) % small.length]!;
    return n === 500
      ? one
      : { ...one, away: 0, epoch: EPOCH, type: 'host' as const, flaw: undefined };
  });
}

function isAsItMustBe({ space, away, epoch, type, size, flaw }: Entry): boolean {
  const isNext = space < NAMES.length && away === 0 && epoch === EPOCH;
  return isNext && type === 'host' && size <= 60 && flaw === undefined;
}

function payloadOf({ type, size }: Entry): Uint8Array {
  if (type === 'members') return MEMBERS;
  return new Uint8Array(type === 'epoch' ? 8 : size).fill(size);
}

const TYPES = { host: 1, epoch: 5, members: MEMBERS_ENTRY, 'no members': MEMBERS_ENTRY } as const;

/** @param next of each space, as far as the member has sent it @returns its bytes, and sequence */
function bytesOf(entry: Entry, next: number[]): { bytes: Uint8Array; sequence: number } {
  const payload = payloadOf(entry);
  const bytes = new Uint8Array(ENTRY_HEADER_BYTES + payload.length);
  const view = new DataView(bytes.buffer);
  bytes.set(payload, ENTRY_HEADER_BYTES);
  const sequence = Math.max(0, next[entry.space]! + entry.away);
  if (entry.away === 0) next[entry.space]!++;
  stageHeader(view, 0, sequence, 7, 0, TYPES[entry.type], payload.length, entry.epoch);
  sealLocal(bytes, view, 0, SPACES[entry.space]!, 1, 2, 3);
  const { flaw } = entry;
  if (flaw && flaw.at < bytes.length) bytes[flaw.at]! ^= 1;
  if (flaw?.sealed) {
    const covered = Buffer.concat([bytes.subarray(0, 32), bytes.subarray(36, 56)]);
    view.setUint32(32, crc32c(covered), true);
  }
  return { bytes, sequence };
}

/** As it stands in a frame, behind its length. */
function batchOf(batch: Batch, next: number[]) {
  const { isMixed, isClean, entries, edit, isSummed, compression } = batch;
  const kept = isClean ? entries.filter(isAsItMustBe) : entries;
  const left = kept.length > 0 ? kept : entries;
  const space = left[0]!.space;
  const its = isMixed ? left : left.map((one) => ({ ...one, space }));
  const made = its.map((one) => bytesOf(one, next));
  const plain = Buffer.concat(made.map((one) => one.bytes));
  const sent = sentAs(plain, compression);
  const bytes = Buffer.alloc(4 + BATCH_HEADER_BYTES + sent.length);
  bytes.writeUInt32LE(bytes.length - 4, 0);
  const head = bytes.subarray(4);
  head.writeUInt16LE(1, 0);
  head.write(idOf(PRIMARY), 2, 'hex');
  if (!isMixed) {
    for (let i = 0; i < 4; i++) head.writeUInt32LE(SPACES[space]![i]!, 18 + 4 * i);
    head.writeBigUInt64LE(BigInt(made[0]!.sequence), 34);
    head.writeUInt32LE(EPOCH, 59);
  }
  head.writeUInt32LE(its.length, 42);
  head.writeBigUInt64LE(BigInt(plain.length), 46);
  head[54] = compression === 'none' ? 0 : 2;
  head[63] = isMixed ? 1 : 0;
  sent.copy(head, BATCH_HEADER_BYTES);
  if (edit && !isSummed) head[edit[0]]! += edit[1];
  head.writeUInt32LE(0, 55);
  head.writeUInt32LE(crc32c(head), 55);
  if (edit && isSummed) head[edit[0]]! += edit[1];
  return bytes;
}

function sentAs(plain: Buffer, compression: Batch['compression']): Buffer {
  if (compression === 'none') return plain;
  const other =
    compression === 'lz4' ? plain : Buffer.concat([plain.subarray(1), Buffer.from([1])]);
  return Buffer.from(codecOf('lz4')!.compress(other));
}

/** The same in the words of PROTOCOL.md: one batch, one run, one entry after the other. */
class Twin {
  readonly replica: Replica;
  readonly staged: string[] = [];

  constructor(replica: Replica) {
    this.replica = replica;
  }

  get #receiver(): Receiver {
    return this.replica.receiver;
  }

  take(body: Buffer): void {
    const view = new DataView(body.buffer, body.byteOffset, body.length);
    let room = MAX_FRAME_BYTES;
    for (let at = 0; at < body.length; ) {
      const start = at + 4;
      const end = start + body.readUInt32LE(at);
      at = end;
      const terms = { features: FEATURES, maxBytes: MAX_FRAME_BYTES };
      const batch = decodeBatch(body, view, start, end, terms);
      const isPlain = batch.compression === 0;
      const { totalSize, entryCount } = batch;
      const open = (): [Uint8Array, DataView] => {
        const sent = body.subarray(start + BATCH_HEADER_BYTES, end);
        if (!isPlain) room -= totalSize;
        if (room < 0) throw failure('InvalidBatchSize', 'a frame that becomes more than its cap');
        const bytes = isPlain ? sent : decompressed(batch.compression, sent, totalSize);
        return [bytes, new DataView(bytes.buffer, bytes.byteOffset, bytes.length)];
      };
      if (!batch.isMixed) {
        const skip = this.#judge(batch);
        if (skip === undefined) continue;
        const [bytes, of] = open();
        checkEntries(bytes, of, 0, batch, MAX_ENTRY_BYTES, () => undefined);
        this.#stage(batch, skip);
        continue;
      }
      const [bytes, of] = open();
      const terms2 = [entryCount, MAX_ENTRY_BYTES, false, () => undefined] as const;
      const runs = new BatchRuns(bytes, of, 0, totalSize, ...terms2);
      while (runs.next()) {
        const skip = this.#judge(runs);
        if (skip !== undefined) this.#stage(runs, skip);
      }
    }
  }

  #spaceOf({ spaceWords }: { spaceWords: SpaceIdWords }) {
    return this.replica.spaces.find((s) => s.words.every((word, i) => word === spaceWords[i]));
  }

  #judge(batch: Judged): number | undefined {
    const space = this.#spaceOf(batch);
    if (space && batch.epoch < space.facts.epochSeen) this.replica.fence(space);
    else if (space && batch.epoch > space.facts.epochSeen) this.replica.hear(space, batch.epoch);
    const decision = this.#receiver.judge(space?.slot, batch);
    if (decision.kind === 'gap') this.replica.sent.push({ ...decision, kind: 'nack' });
    return decision.kind === 'append' ? decision.skip : undefined;
  }

  #stage(batch: Judged, skip: number): void {
    const { slot, name } = this.#spaceOf(batch)!;
    const last = batch.startSequence + batch.entryCount - 1;
    for (let n = batch.startSequence + skip; n <= last; n++) this.staged.push(`${name}${n}`);
    this.#receiver.received(slot, last);
  }
}

interface Judged {
  readonly spaceId: string;
  readonly spaceWords: SpaceIdWords;
  readonly epoch: number;
  readonly startSequence: number;
  readonly entryCount: number;
}

/** What came of it: undefined, or the code and text of what was wrong. */
async function outcome(work: () => unknown): Promise<string | undefined> {
  try {
    await work();
    return undefined;
  } catch (error) {
    if (error instanceof EngramError) return error.message.split('\n', 1)[0]!;
    throw error;
  }
}

const world = fc.record({
  batches: fc.array(batch, { minLength: 1, maxLength: 3 }),
  had: fc.constantFrom(0, 2, 2 ** 32 - 4, 2 ** 53 - 30),
  groupBytes: fc.integer({ min: MAX_ENTRY_BYTES + 64, max: 20_000 }),
  refusals: fc.nat(2),
  /** A space that is another's by now, as is told; one of which a higher epoch is known alone. */
  fenced: rarely(false, true),
  seen: rarely(false, true),
  unstreamed: rarely(false, true),
});

test('many entries at a time and one by one: the same is taken, or said to be wrong', async () => {
  const counts = { taken: 0, refused: 0 };
  await fc.assert(
    fc.asyncProperty(world, async ({ batches, had, groupBytes, refusals, ...kind }) => {
      const make = (): Replica => {
        const made = new Replica(had, groupBytes, FEATURES);
        if (kind.fenced) made.receiver.fence(3, EPOCH + 1);
        if (kind.fenced || kind.seen) made.spaces[3]!.facts.epochSeen = EPOCH + 1;
        if (kind.unstreamed) made.receiver.verdict({ handle: 12, verdict: 'rewind', next: 1 });
        return made;
      };
      const next = Array<number>(SPACES.length).fill(had + 1);
      const body = Buffer.concat(batches.map((one) => batchOf(one, next)));
      const [one, other] = [make(), new Twin(make())];
      one.refusals = refusals;
      const found = await outcome(() => one.intake.take(body));
      expect(found).toBe(await outcome(() => other.take(body)));
      const { heard, fenced, receiver } = other.replica;
      expect(new Set(one.heard)).toEqual(new Set(heard));
      expect(new Set(one.fenced)).toEqual(new Set(fenced));
      expect(one.staged).toEqual(other.staged.slice(0, one.staged.length));
      counts[found === undefined ? 'taken' : 'refused']++;
      if (found !== undefined) return;
      expect(one.staged.length).toBe(other.staged.length);
      expect(new Set(one.nacks())).toEqual(new Set(other.replica.nacks()));
      expect(one.receiver.tick(5_000)).toEqual(receiver.tick(5_000));
    }),
    { numRuns: 1_000 },
  );
  // Neither of them is all that was looked at.
  expect(Math.min(counts.taken, counts.refused)).toBeGreaterThan(100);
});
