/** What hosts give, and go on using: nothing of it breaks the log (FAULTS rows 82, 83). */
import path from 'node:path';
import vm from 'node:vm';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  type AppendOptions,
  type EngramError,
  type Entry,
  type Node,
  type NodeOptions,
  openNode,
  type Space,
} from '#src/main/index.js';
import { makeFolder, openSmall, removeFolder, SMALL, until } from '../../support/cluster.js';

const LISTEN = { host: '127.0.0.1', port: 0 };

let folder: string;
let nodes: Node[];

beforeEach(() => {
  folder = makeFolder();
  nodes = [];
});

afterEach(async () => {
  for (const node of nodes) await node.close();
  removeFolder(folder);
});

async function open(nodeId: string, more: Partial<NodeOptions> = {}): Promise<Node> {
  const node = await openSmall(path.join(folder, nodeId), nodeId, more);
  nodes.push(node);
  return node;
}

const code = (error: unknown): string => (error as EngramError).code ?? `bare ${String(error)}`;
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

async function contentOf(space: Space): Promise<string[]> {
  const found: string[] = [];
  for await (const { sequence, payload } of space.read()) {
    found.push(`${sequence} ${Buffer.from(payload).toString('latin1')}`);
  }
  return found;
}

/** ES2024, which the types do not know yet. */
interface Resizable extends ArrayBuffer {
  resize(bytes: number): void;
}
type Makes<T> = new (bytes: number, options: { maxByteLength: number }) => T;
const ResizableBuffer = ArrayBuffer as unknown as Makes<Resizable>;
const GrowableBuffer = SharedArrayBuffer as unknown as Makes<SharedArrayBuffer>;

/** What a host does that posts its bytes to a worker. */
function transfer({ buffer }: Uint8Array): void {
  structuredClone(buffer, { transfer: [buffer as ArrayBuffer] });
}

function detached(length = 8): Uint8Array {
  const view = new Uint8Array(length);
  transfer(view);
  return view;
}

/** Views of memory that is not there any more. */
function shrunk(): Uint8Array[] {
  const buffer = new ResizableBuffer(16, { maxByteLength: 64 });
  const views = [new Uint8Array(buffer, 8, 8), new Uint8Array(buffer, 4)];
  buffer.resize(2);
  return views;
}

class Lying extends Uint8Array {
  override get length(): number {
    return 3;
  }
  override get byteLength(): number {
    throw new Error('a getter of the host');
  }
}

/** Fills the budget, and lets a call wait for room. @returns its sequence, to be */
function fill(space: Space): { last: number; waits: Promise<unknown> } {
  const full = Buffer.alloc(SMALL.maxEntryBytes, 1);
  let last = 1;
  while (space.tryAppend(1, full) !== undefined) last++;
  return { last, waits: space.append(1, full) };
}

/** What is no payload, and what it is. */
function refused(): [string, unknown][] {
  return [
    ['detached', detached()],
    ['detached, empty', detached(0)],
    ...shrunk().map((view): [string, unknown] => ['shrunk', view]),
    ['a Proxy', new Proxy(new Uint8Array(4), {})],
    ['a prototype alone', Object.create(Uint8Array.prototype)],
    ['length without bytes', { length: 4, 0: 1 }],
    ['a getter that throws', Object.defineProperty({}, 'length', { get: () => explode() })],
    ['an ArrayBuffer', new ArrayBuffer(4)],
    ['a DataView', new DataView(new ArrayBuffer(4))],
    ['another element type', new Uint16Array(4)],
    ['another, of bytes', new Uint8ClampedArray(4)],
    ['a string', 'text'],
    ['nothing', undefined],
    ['null', null],
    ['a symbol', Symbol('payload')],
    ['a promise', Promise.resolve(bytes('x'))],
  ];
}

function explode(): never {
  throw new Error('code of the host');
}

/** What is a payload, and its bytes. */
function taken(): [Uint8Array, string][] {
  const shared = new Uint8Array(new SharedArrayBuffer(8), 2, 3);
  shared.set(bytes('sab'));
  const growable = new GrowableBuffer(4, { maxByteLength: 64 });
  const tracking = new Uint8Array(growable);
  tracking.set(bytes('grow'));
  const resizable = new Uint8Array(new ResizableBuffer(4, { maxByteLength: 8 }));
  resizable.set(bytes('size'));
  const lying = new Lying(4);
  Uint8Array.prototype.set.call(lying, bytes('true'));
  return [
    [vm.runInNewContext('new Uint8Array([102, 111, 114])') as Uint8Array, 'for'],
    [shared, 'sab'],
    [tracking, 'grow'],
    [resizable, 'size'],
    [lying, 'true'],
    [Buffer.from('buffer'), 'buffer'],
    [new Uint8Array(0), ''],
  ];
}

describe('payloads', () => {
  test('FAULT-82 a payload that cannot be copied takes no sequence, and stops nobody', async () => {
    const b = await open('b', { listen: LISTEN });
    const a = await open('a', { replicas: [{ nodeId: 'b', ...b.address! }] });
    const space = await a.openSpace('s');
    const other = await a.openSpace('other');
    const expected: string[] = [];
    for (const [what, payload] of refused()) {
      const given = payload as Uint8Array;
      expect(await space.append(1, given).catch(code), what).toBe('Configuration');
      expect(await space.append(1, given, {}).catch(code), what).toBe('Configuration');
      const batch = [bytes('never'), given];
      expect(await space.appendBatch(1, batch).catch(code), what).toBe('Configuration');
      expect(() => space.tryAppend(1, given), what).toThrow(/^Configuration: /);
      // Nobody else notices: not the space, nor another one, nor the link.
      const { sequence } = await space.append(1, bytes(what));
      expected.push(`${sequence} ${what}`);
      await other.append(1, bytes('x'), { ack: { replicas: 1, timeoutMs: 2_000 } });
    }
    for (const [payload, text] of taken()) {
      const { sequence } = await space.append(1, payload, { ack: { replicas: 1 } });
      expected.push(`${sequence} ${text}`);
      expected.push(`${space.tryAppend(1, payload)} ${text}`);
      const batch = await space.appendBatch(1, [payload, payload], { ack: { replicas: 1 } });
      expected.push(`${batch.firstSequence} ${text}`, `${batch.lastSequence} ${text}`);
    }
    expect(expected.map((line) => Number.parseInt(line, 10))).toEqual(
      expected.map((_, index) => index + 1),
    );
    expect(await contentOf(space)).toEqual(expected);
    expect(await contentOf(b.space('s'))).toEqual(expected);
    await a.close();
    const again = await open('a');
    expect(await contentOf(again.space('s'))).toEqual(expected);
  });

  test('FAULT-82 nor does one that is lost, or changes its size, while it waits', async () => {
    const space = await (await open('a')).openSpace('s');
    const resized = (): { view: Uint8Array; resize(bytes: number): void } => {
      const buffer = new ResizableBuffer(64, { maxByteLength: 1 << 20 });
      return { view: new Uint8Array(buffer), resize: (bytes) => buffer.resize(bytes) };
    };
    const { last } = fill(space);
    const [gone, smaller, larger] = [new Uint8Array(64), resized(), resized()];
    const waiting = [gone, smaller.view, larger.view].map((p) => space.append(1, p).catch(code));
    const batch = space.appendBatch(1, [bytes('first'), gone, bytes('third')]).catch((e) => e);
    const behind = space.append(1, bytes('behind'));
    transfer(gone);
    smaller.resize(32);
    larger.resize(1 << 20);
    expect(await Promise.all(waiting)).toEqual(Array(3).fill('Configuration'));
    expect(await batch).toMatchObject({
      code: 'Configuration',
      details: { firstSequence: last + 1, lastDurableSequence: last + 1 },
    });
    expect(await behind).toMatchObject({ sequence: last + 2 });
    const found = await contentOf(space);
    expect(found.slice(last)).toEqual([`${last + 1} first`, `${last + 2} behind`]);
  });

  test('FAULT-82 a node whose first payload cannot be copied closes all the same', async () => {
    const node = await open('a');
    const space = await node.openSpace('s');
    await space.append(1, bytes('x'));
    fill(space);
    const gone = new Uint8Array(SMALL.maxEntryBytes);
    const waiting = Array.from({ length: 40 }, () => space.append(1, gone).catch(code));
    transfer(gone);
    expect(new Set(await Promise.all(waiting))).toEqual(new Set(['Configuration']));
    await node.close();
  });
});

describe('arguments', () => {
  test('FAULT-82 options that throw, lie or are none are errors of ours', async () => {
    const b = await open('b', { listen: LISTEN });
    const a = await open('a', { replicas: [{ nodeId: 'b', ...b.address! }] });
    const space = await a.openSpace('s');
    const throwing = (key: string): object =>
      Object.defineProperty({}, key, { enumerable: true, get: explode });
    const trap = new Proxy({}, { ownKeys: explode });
    const wrong: unknown[] = [null, 7, 'ack', [], () => 0, trap, throwing('ack'), throwing('wait')];
    wrong.push({ ack: 1 }, { ack: null }, { ack: throwing('replicas') }, { wait: 'no' });
    wrong.push({ ack: { replicas: '1' } }, { ack: { replicas: 1n } }, { ack: {} });
    for (const options of wrong) {
      const given = options as AppendOptions;
      expect(await space.append(1, bytes('x'), given).catch(code)).toBe('Configuration');
      expect(await space.appendBatch(1, [bytes('x')], given).catch(code)).toBe('Configuration');
    }
    for (const type of ['1', 1n, null, { valueOf: explode }, Symbol('t'), Number.NaN]) {
      const given = type as number;
      expect(await space.append(given, bytes('x')).catch(code)).toBe('Configuration');
      expect(() => space.tryAppend(given, bytes('x'))).toThrow(/^Configuration: entry type/);
    }
    for (const options of [null, 7, trap, throwing('replicas'), throwing('from')]) {
      const given = options as object;
      expect(await space.flushed(1, given).catch(code)).toBe('Configuration');
      expect(await space.read(given).next().catch(code)).toBe('Configuration');
      expect(await space.subscribe(given).next().catch(code)).toBe('Configuration');
      expect(await a.openSpace('t', given).catch(code)).toBe('Configuration');
      expect(await a.promote('s', given).catch(code)).toBe('Configuration');
    }
    expect(
      await space
        .subscribe({ signal: {} as AbortSignal })
        .next()
        .catch(code),
    ).toBe('Configuration');
    const lists: unknown[] = [[], {}, 'ab', new Set([bytes('x')]), new Proxy([], { get: explode })];
    lists.push(
      new Proxy([bytes('x')], { get: (at, key) => (key === 'length' ? 1e9 : at[0]) && 1e9 }),
    );
    lists.push([bytes('x'), undefined], Object.assign([], { length: 3 }));
    for (const list of lists) {
      const given = list as Uint8Array[];
      expect(await space.appendBatch(1, given).catch(code)).toBe('Configuration');
    }
    for (const options of [null, trap, { dataDir: explode }, throwing('dataDir')]) {
      expect(await openNode(options as NodeOptions).catch(code)).toBe('Configuration');
    }
    expect(space.status().lastSequence).toBe(0);
    expect(await space.append(1, bytes('x'), { ack: { replicas: 1 } })).toMatchObject({
      sequence: 1,
    });
  });

  test('FAULT-82 a batch may be a reactive or foreign array', async () => {
    const space = await (await open('a')).openSpace('s');
    const payloads = [bytes('1'), bytes('2')];
    await space.appendBatch(1, new Proxy(payloads, {}));
    await space.appendBatch(1, vm.runInNewContext('[new Uint8Array([51])]') as Uint8Array[]);
    expect(await contentOf(space)).toEqual(['1 1', '2 2', '3 3']);
  });

  test('FAULT-82 listeners and loggers run in no step of the log', async () => {
    const space: { now: Space | undefined; node: Node | undefined } = {
      now: undefined,
      node: undefined,
    };
    const calls: string[] = [];
    const hostile = (): never => {
      calls.push('called');
      void space.now?.append(1, bytes('from within')).catch(() => undefined);
      throw Object.create(null);
    };
    const logger = { debug: hostile, info: hostile, warn: hostile, error: hostile };
    const b = await open('b', { listen: LISTEN });
    const a = await open('a', { logger, replicas: [{ nodeId: 'b', ...b.address! }] });
    space.now = await a.openSpace('s');
    const nameless = Object.defineProperty(new Error(), 'name', { get: explode });
    a.on('replica-state', hostile);
    a.on('replica-set', () => {
      throw nameless;
    });
    await space.now.append(1, bytes('x'), { ack: { replicas: 1 } });
    await a.removeReplica('b');
    const { sequence } = await space.now.append(1, bytes('y'));
    expect(calls.length).toBeGreaterThan(0);
    expect((await contentOf(space.now)).length).toBeGreaterThanOrEqual(sequence);
  });

  test('an unknown event, or a listener that is none, is refused', async () => {
    const node = await open('a');
    expect(() => node.on('replica-sate' as 'replica-state', () => 0)).toThrow(
      /^Configuration: there is no event "replica-sate"; known: .*replica-state/,
    );
    expect(() => node.off('x' as 'fatal', () => 0)).toThrow(/^Configuration/);
    expect(() => node.on('fatal', undefined as never)).toThrow(/undefined, not a function/);
  });
});

describe('what the host goes on using', () => {
  test('FAULT-83 the list of a batch is copied at the call', async () => {
    const space = await (await open('a')).openSpace('s');
    const { last } = fill(space);
    const emptied = [bytes('1'), bytes('2'), bytes('3')];
    const grown = [bytes('4')];
    const swapped = [bytes('5'), bytes('6')];
    const batches = [emptied, grown, swapped].map((list) => space.appendBatch(1, list));
    emptied.length = 0;
    for (let n = 0; n < 100; n++) grown.push(bytes('not of it'));
    swapped.reverse();
    const at = (n: number, count: number): object => ({
      firstSequence: last + n,
      lastSequence: last + n + count - 1,
      epoch: 1,
    });
    expect(await Promise.all(batches)).toEqual([at(1, 3), at(4, 1), at(5, 2)]);
    const found = (await contentOf(space)).slice(last);
    expect(found).toEqual([1, 2, 3, 4, 5, 6].map((n) => `${last + n} ${n}`));
  });

  test('FAULT-83 what was appended at once may be used again at once', async () => {
    const space = await (await open('a')).openSpace('s');
    const buffer = bytes('before');
    const list = [buffer, buffer];
    const batch = space.appendBatch(1, list);
    buffer.fill(0);
    transfer(buffer);
    await batch;
    expect(await contentOf(space)).toEqual(['1 before', '2 before']);
  });

  test('FAULT-83 options are copied at the call', async () => {
    const b = await open('b', { listen: LISTEN });
    const key = Buffer.alloc(16, 7);
    const replicas = [{ nodeId: 'b', ...b.address! }];
    const options = { ...SMALL, dataDir: path.join(folder, 'a'), nodeId: 'a', replicas };
    const opening = openNode(options);
    replicas[0]!.port = 1;
    replicas.push({ nodeId: 'ghost', host: '127.0.0.1', port: 1 });
    options.nodeId = 'someone else';
    key.fill(0);
    const a = await opening;
    nodes.push(a);
    const asked = { replicas: ['b'] };
    const opened = a.openSpace('s', asked);
    asked.replicas.push('ghost');
    const space = await opened;
    const ack = { ack: { replicas: 1, timeoutMs: 5_000 } };
    const appended = space.append(1, bytes('x'), ack);
    ack.ack.replicas = 9;
    expect(await appended).toMatchObject({ sequence: 1 });
    const range = { from: 1, to: 1 };
    const entries = space.read(range);
    range.from = 50;
    expect((await entries.next()).value).toMatchObject({ sequence: 1 });
    const member = { nodeId: 'c', host: '127.0.0.1', port: 9 };
    const set: string[] = [];
    a.on('replica-set', ({ replicaId }) => set.push(replicaId));
    const added = a.addReplica(member);
    member.nodeId = 'd';
    await added;
    await until('it was told', () => set.length > 0);
    expect(set).toEqual(['c']);
    expect(a.status().nodeId).toBe('a');
  });

  test('FAULT-83 the error of a batch names what has become of it, and that is final', async () => {
    const space = await (await open('a')).openSpace('s');
    const full = Buffer.alloc(SMALL.maxEntryBytes, 1);
    const many = Array.from({ length: 80 }, () => full);
    // There is room for a part of it, and it is not to wait for more.
    const error = (await space
      .appendBatch(1, many, { wait: false })
      .catch((e) => e)) as EngramError;
    expect(error).toMatchObject({ code: 'Backpressure', details: { firstSequence: 1 } });
    const last = error.details.lastDurableSequence as number;
    expect(last).toBeGreaterThan(1);
    expect(last).toBeLessThan(80);
    expect(space.status()).toMatchObject({ lastSequence: last, durableSequence: last });
    // Without the option it is larger than the budget, and taken all the same.
    expect(await space.appendBatch(1, many)).toMatchObject({ firstSequence: last + 1 });
    // Nothing of it was taken: no first sequence.
    const none = (await space.appendBatch(1, [full, detached()]).catch((e) => e)) as EngramError;
    expect(none.details.firstSequence).toBeUndefined();
  });

  test.each([
    'per-batch',
    'per-write',
    { timerMs: 20 },
    'none',
  ] as const)('FAULT-83 a batch that ends midway: final in mode %j', async (fsync) => {
    const space = await (await open('a', { fsync })).openSpace('s');
    const full = (): Uint8Array => new Uint8Array(SMALL.maxEntryBytes);
    const many = Array.from({ length: 60 }, full);
    const appended = space.appendBatch(1, many).catch((e) => e as EngramError);
    const lost = many[50]!;
    transfer(lost);
    const error = (await appended) as EngramError;
    expect(error).toMatchObject({ code: 'Configuration', details: { firstSequence: 1 } });
    expect(error.details.lastDurableSequence).toBe(50);
    expect(space.status()).toMatchObject({ lastSequence: 50, durableSequence: 50 });
  });

  test('FAULT-83 apply is given entries of its own each time', async () => {
    const seen: string[][] = [];
    let failures = 0;
    const b = await open('b', {
      listen: LISTEN,
      backoffStepsMs: [1],
      apply: (entries: Entry[]) => {
        const texts = entries.map((e) => Buffer.from(e.payload).toString());
        seen.push(texts);
        for (const entry of entries) {
          entry.payload.fill(0);
          Object.assign(entry, { sequence: 77, payload: undefined });
        }
        entries.length = 0;
        if (failures++ < 2) throw new Error('after it has changed them');
      },
    });
    const a = await open('a', { replicas: [{ nodeId: 'b', ...b.address! }] });
    const space = await a.openSpace('s');
    await space.appendBatch(1, [bytes('1'), bytes('2')]);
    await until('all is applied', () => {
      return b.status().spaces[0]?.appliedSequence === 2;
    });
    expect(seen).toEqual([
      ['1', '2'],
      ['1', '2'],
      ['1', '2'],
    ]);
  });
});

describe('waiting for a position', () => {
  test('flushed waits for an entry that is to come, and says what there is', async () => {
    const node = await open('a');
    const space = await node.openSpace('s');
    await space.append(1, bytes('x'));
    const coming = space.flushed(2);
    await space.append(1, bytes('y'));
    await coming;
    const late = space.flushed(50, { timeoutMs: 20 });
    await expect(late).rejects.toMatchObject({ code: 'AckTimeout', details: { lastSequence: 2 } });
    await expect(space.flushed(50, { timeoutMs: 1 })).rejects.toThrow(/s has no 50 .* last is 2/);
    await expect(space.flushed('1' as unknown as number)).rejects.toThrow(
      /"1": a sequence is a num/,
    );
    await expect(space.read({ from: '1' } as object).next()).rejects.toThrow(/from is "1": a seq/);
    await expect(space.read({ from: 0 }).next()).rejects.toThrow(/from is 0: .* numbers from 1/);
    const never = space.flushed(50, { timeoutMs: 1e9 }).catch(code);
    await node.close();
    expect(await never).toBe('Closed');
  });

  test('more replicas than a space has is no passing condition', async () => {
    const b = await open('b', { listen: LISTEN });
    const a = await open('a', { replicas: [{ nodeId: 'b', ...b.address! }] });
    const space = await a.openSpace('s');
    const ack = { replicas: 3 };
    const refused = { code: 'Configuration', retryable: false };
    await expect(space.append(1, bytes('x'), { ack })).rejects.toMatchObject(refused);
    await expect(space.append(1, bytes('x'), { ack })).rejects.toThrow(/fewer than 3 replicas: b/);
    await expect(space.flushed(1, ack)).rejects.toMatchObject(refused);
    expect(await space.append(1, bytes('x'), { ack: { replicas: 1 } })).toMatchObject({
      sequence: 1,
    });
  });
});
