/** Spaces whose entries are values of the host's, and what becomes of bytes that are none. */
import { Readable } from 'node:stream';
import { Packr } from 'msgpackr';
import { describe, expect, test } from 'vitest';
import {
  type Codec,
  decodeEntry,
  type Entry,
  EntryType,
  jsonCodec,
  msgpackCodec,
  type TypedEntry,
} from '#src/main/index.js';
import { at, EachTest, until } from '../../support/cluster.js';

interface Note {
  readonly at: string;
  readonly words: readonly string[];
}

const NOTE: Note = { at: 'día', words: ['one', 'two'] };
const LISTEN = { host: '127.0.0.1', port: 0 };
const each = new EachTest();
const start = each.start.bind(each);

async function all<E>(from: AsyncIterable<E>): Promise<E[]> {
  const found: E[] = [];
  for await (const one of from) found.push(one);
  return found;
}

describe.each([
  ['JSON', jsonCodec<Note>()],
  ['MessagePack', msgpackCodec<Note>(new Packr({ useRecords: false }))],
])('%s', (_, codec) => {
  test('values go in, and come out on a replica, whatever the library writes between', async () => {
    const applied: (TypedEntry<Note> | undefined)[] = [];
    const apply = (entries: readonly Entry[]): void => {
      applied.push(...entries.map((entry) => decodeEntry(codec, entry)));
    };
    const b = await start('b', { listen: LISTEN, apply });
    const listen = LISTEN;
    const a = await start('a', { listen, replicas: [at('b', b.address!.port)] });
    const space = await a.openSpace('s', { codec, lead: true });
    const { sequence, epoch } = await space.append(EntryType.Host, NOTE, { ack: { replicas: 1 } });
    expect([sequence, epoch]).toEqual([1, 1]);
    const batch = await space.appendBatch(EntryType.Host, [NOTE, { at: '', words: [] }]);
    const last = space.tryAppend(EntryType.Host + 1, NOTE)!;
    expect(last).toBe(batch.lastSequence + 1);
    await space.bytes.flushed(last, { replicas: 1 });
    const values: Note[] = [NOTE, NOTE, { at: '', words: [] }, NOTE];
    const here = await all(space.read());
    expect(here.map(({ value }) => value)).toEqual(values);
    await until('all are applied', () => applied.length === values.length);
    expect(applied).toEqual(here);
    await a.close();
    // A promotion writes an entry of its own.
    await b.promote('s', { force: true });
    const there = b.space('s', { codec });
    expect(there.name).toBe('s');
    await there.append(EntryType.Host, NOTE);
    expect((await all(there.read())).map(({ value }) => value)).toEqual([...values, NOTE]);
    const raw = await all(there.bytes.read());
    const both = await all(there.read({ library: true }));
    expect(both.map((entry) => entry.sequence)).toEqual(raw.map((entry) => entry.sequence));
    const ofLibrary = both.filter((entry) => 'payload' in entry);
    expect(ofLibrary.map(({ type }) => type)).toEqual([EntryType.Checkpoint]);
    expect(decodeEntry(codec, ofLibrary[0] as Entry)).toBeUndefined();
  });
});

test('what a codec does not take is said, with its entry; behind it reading goes on', async () => {
  const a = await start('a', {});
  const space = await a.openSpace('s', { codec: jsonCodec<unknown>() });
  const refused = { code: 'CodecFailed', details: { type: 1000 } };
  await expect(space.append(1000, undefined)).rejects.toMatchObject(refused);
  await expect(space.appendBatch(1000, [1, 1n])).rejects.toMatchObject(refused);
  expect(() => space.tryAppend(1000, () => undefined)).toThrow(/CodecFailed: a value of type 1000/);
  expect(space.bytes.status().lastSequence).toBe(0);
  await space.append(1000, 'first');
  await space.bytes.append(1000, Buffer.from('{'));
  await space.append(1000, 'third');
  const found: unknown[] = [];
  const read = async (): Promise<void> => {
    for await (const { value } of space.read()) found.push(value);
  };
  await expect(read()).rejects.toMatchObject({ code: 'CodecFailed', details: { sequence: 2 } });
  expect(found).toEqual(['first']);
  expect((await all(space.read({ from: 3 }))).map(({ value }) => value)).toEqual(['third']);
  // A value with other characters than were written is worse than none.
  await space.bytes.append(1000, Uint8Array.of(0x22, 0xff, 0x22));
  await expect(all(space.read({ from: 4 }))).rejects.toThrow(/no UTF-8/);
});

test('a codec may write every value into the same memory', async () => {
  const a = await start('a', {});
  const into = new Uint8Array(1);
  const codec: Codec<number> = { encode: (value) => into.fill(value), decode: ([value]) => value! };
  const space = await a.openSpace('s', { codec });
  await space.appendBatch(1000, [1, 2, 3]);
  await Promise.all([4, 5].map((value) => space.append(1000, value, { wait: true })));
  expect((await all(space.read())).map(({ value }) => value)).toEqual([1, 2, 3, 4, 5]);
});

test('what a reading is given is read as without a codec: nothing is passed over', async () => {
  const a = await start('a', {});
  const space = await a.openSpace('s', { codec: jsonCodec<number>() });
  await space.appendBatch(1000, [1, 2]);
  const throwing = {
    get from(): number {
      throw new Error('the host’s own');
    },
  };
  const odd = [5, 'all', null, [1], { library: 1 }, { library: null }, { to: '1' }, throwing];
  for (const given of odd as never[]) {
    for (const reading of [space.read(given), space.subscribe(given)]) {
      await expect(reading.next()).rejects.toMatchObject({ code: 'Configuration' });
      expect((await reading.next()).done).toBe(true);
    }
  }
  const inherited = Object.create({ from: 2 }) as { from: number };
  expect((await all(space.read(inherited))).map(({ value }) => value)).toEqual([2]);
  expect(await all(space.read({ library: false } as never))).toHaveLength(2);
});

test('what is no codec is refused before anything is opened', async () => {
  const a = await start('a', {});
  for (const codec of [{}, null, 'json', { encode: () => new Uint8Array(1) }]) {
    const given = { codec: codec as unknown as Codec<unknown> };
    await expect(a.openSpace('s', given)).rejects.toMatchObject({ code: 'Configuration' });
  }
  expect(a.spaces).toEqual([]);
  expect(() => msgpackCodec({} as never)).toThrow(/new Packr\(\)/);
});

test('many ask at once: they are answered in order', async () => {
  const a = await start('a', {});
  const space = await a.openSpace('s', { codec: jsonCodec<number>() });
  await space.appendBatch(1000, [1, 2, 3]);
  const reading = space.read();
  const answers = await Promise.all([1, 2, 3, 4].map(() => reading.next()));
  expect(answers.map(({ value }) => value?.value)).toEqual([1, 2, 3, undefined]);
});

test('streams of Node and of the web are one line, and end the reading with them', async () => {
  const a = await start('a', {});
  const space = await a.openSpace('s', { codec: jsonCodec<number>() });
  await space.appendBatch(1000, [1, 2, 3]);
  const readable = Readable.from(space.read());
  const first = ((await readable.iterator({ destroyOnReturn: true }).next()) as { value: unknown })
    .value;
  expect(first).toMatchObject({ value: 1 });
  readable.destroy();
  const web = ReadableStream.from(space.subscribe());
  const reader = web.getReader();
  for (const value of [1, 2, 3]) {
    expect(await reader.read()).toMatchObject({ done: false, value: { value } });
  }
  await reader.cancel();
});

test('`await using` closes a node and leaves a reading', async () => {
  const a = await start('a', {});
  const space = await a.openSpace('s');
  await space.append(1000, Buffer.from('x'));
  const reading = space.subscribe();
  expect((await reading.next()).done).toBe(false);
  await reading[Symbol.asyncDispose]();
  expect(await reading.next()).toEqual({ done: true, value: undefined });
  const decoded = a.space('s', { codec: jsonCodec() }).subscribe();
  await decoded[Symbol.asyncDispose]();
  expect((await decoded.next()).done).toBe(true);
  await a[Symbol.asyncDispose]();
  expect(a.isClosing).toBe(true);
  await expect(space.append(1000, Buffer.from('y'))).rejects.toMatchObject({ code: 'Closed' });
});
