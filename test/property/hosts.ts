/** What hosts do, and nobody would: bytes of any kind, taken away again, and readers that stop. */
import assert from 'node:assert/strict';
import vm from 'node:vm';
import type { Space } from '#src/main/index.js';
import type { Chance } from '../support/chance.js';
import type { SpaceLedger } from '../support/space-ledger.js';
import type { Operation, World } from './world.js';

interface Resizable extends ArrayBuffer {
  resize(bytes: number): void;
}
type Makes<T> = new (bytes: number, options: { maxByteLength: number }) => T;
const ResizableBuffer = ArrayBuffer as unknown as Makes<Resizable>;
const GrowableBuffer = SharedArrayBuffer as unknown as Makes<SharedArrayBuffer>;
const ForeignArray = vm.runInNewContext('Uint8Array') as typeof Uint8Array;

/** No subclass is asked how long it is. */
class Lying extends Uint8Array {
  override get length(): number {
    throw new Error('code of the host');
  }
}

/** Each makes an array of so many bytes. */
const KINDS: readonly ((bytes: number) => Uint8Array)[] = [
  (bytes) => new Uint8Array(bytes),
  (bytes) => Buffer.alloc(bytes),
  (bytes) => new Uint8Array(new ArrayBuffer(bytes + 8), 5, bytes),
  (bytes) => new Uint8Array(new SharedArrayBuffer(bytes)),
  (bytes) => new Uint8Array(new GrowableBuffer(bytes, { maxByteLength: bytes + 64 })),
  (bytes) => new Uint8Array(new ResizableBuffer(bytes, { maxByteLength: bytes + 64 })),
  (bytes) => new ForeignArray(bytes),
  (bytes) => new Lying(bytes),
];

/** The same bytes, as somebody else would have them. */
function ofAnyKind(chance: Chance, payload: Uint8Array): Uint8Array {
  const made = KINDS[chance(KINDS.length)]!(payload.length);
  Uint8Array.prototype.set.call(made, payload);
  return made;
}

function transfer({ buffer }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer) structuredClone(buffer, { transfer: [buffer] });
}

/** A size, often one that is at a limit. */
function anySize(world: World): number {
  const { maxEntryBytes = 0 } = world.sim.options;
  const sizes = [0, 1, maxEntryBytes - 1, maxEntryBytes, world.chance(maxEntryBytes)];
  return sizes[world.chance(sizes.length)]!;
}

/** One that no other entry has, unless it is too short for that. */
function anyPayload(world: World, ledger: SpaceLedger): Buffer {
  const size = anySize(world);
  return size === 0 ? Buffer.alloc(0) : ledger.payload(size);
}

function codeOf(error: unknown): string {
  if (error instanceof assert.AssertionError) throw error;
  const { code } = error as { code?: string };
  assert.ok(code !== undefined && !code.startsWith('ERR_'), `without a code: ${String(error)}`);
  return code;
}

/** @returns the code of what it was refused with, if it was */
async function told(
  ledger: SpaceLedger,
  space: Space,
  payloads: readonly Uint8Array[],
  work: () => Promise<number>,
): Promise<string | undefined> {
  const next = space.status().lastSequence + 1;
  for (const [n, payload] of payloads.entries()) ledger.tried(next + n, payload);
  try {
    const first = await work();
    for (const [n, payload] of payloads.entries()) ledger.ack(first + n, payload);
    ledger.onAck(space, first + payloads.length - 1);
    return undefined;
  } catch (error) {
    return codeOf(error);
  }
}

async function anyKinds(world: World): Promise<void> {
  const [ledger, space] = world.any();
  const payloads = Array.from({ length: 1 + world.chance(4) }, () => anyPayload(world, ledger));
  const given = payloads.map((payload) => ofAnyKind(world.chance, payload));
  const isOne = given.length === 1;
  await told(ledger, space, payloads, async () => {
    if (isOne) return (await space.append(1, given[0]!)).sequence;
    return (await space.appendBatch(1, given)).firstSequence;
  });
}

/** Bytes that are not there any more: refused, and nothing has happened. */
async function noPayloads(world: World): Promise<void> {
  const [ledger, space] = world.any();
  const gone = new Uint8Array(1 + world.chance(100));
  transfer(gone);
  const buffer = new ResizableBuffer(16, { maxByteLength: 16 });
  const shrunk = new Uint8Array(buffer, 8, 8);
  buffer.resize(4);
  const wrong = [gone, shrunk, new Proxy(new Uint8Array(4), {}), 'text', null, { length: 3 }];
  for (const one of wrong) {
    const payload = one as Uint8Array;
    const before = space.status().lastSequence;
    const one_ = space.append(1, payload).catch(codeOf);
    const batch = space.appendBatch(1, [ledger.payload(20), payload]).catch(codeOf);
    assert.equal(space.status().lastSequence, before, 'a sequence was taken');
    // Where the log takes nothing that comes first.
    if (!world.isDisturbed) {
      assert.deepEqual(await Promise.all([one_, batch]), ['Configuration', 'Configuration']);
    }
    await Promise.all([one_, batch]);
  }
}

/** The list is the host's again at once; each payload when the call has resolved. */
async function reusedLists(world: World): Promise<void> {
  const [ledger, space] = world.any();
  const payloads = Array.from({ length: 2 + world.chance(40) }, () => anyPayload(world, ledger));
  const list = payloads.map((payload) => ofAnyKind(world.chance, payload));
  const kept = [...list];
  const outcome = told(ledger, space, payloads, async () => {
    const appended = space.appendBatch(1, list);
    if (world.chance(2) === 0) list.length = 0;
    else list.reverse().push(ledger.payload(50));
    return (await appended).firstSequence;
  });
  await outcome;
  for (const payload of kept) payload.fill(255);
}

/**
 * More than the budget, of which one is taken away meanwhile: what the error says has become of it
 * is so, and stays so.
 */
async function lostInside(world: World): Promise<void> {
  const [ledger, space] = world.any();
  const { maxEntryBytes = 0 } = world.sim.options;
  const payloads = Array.from({ length: 40 + world.chance(40) }, () =>
    ledger.payload(maxEntryBytes - world.chance(100)),
  );
  const given = payloads.map((payload) => new Uint8Array(payload));
  const at = world.chance(given.length);
  const wait = world.chance(3) > 0;
  const next = space.status().lastSequence + 1;
  for (const [n, payload] of payloads.entries()) ledger.tried(next + n, payload);
  const appended = space.appendBatch(1, given, { wait });
  transfer(given[at]!);
  try {
    const { firstSequence } = await appended;
    for (const [n, payload] of payloads.entries()) ledger.ack(firstSequence + n, payload);
  } catch (error) {
    const code = codeOf(error);
    const { details } = error as { details: Record<string, number | undefined> };
    const { firstSequence, lastDurableSequence } = details;
    if (firstSequence === undefined) return;
    const durable = lastDurableSequence! - firstSequence + 1;
    assert.ok(durable <= payloads.length, `${durable} of ${payloads.length} durable`);
    for (let n = 0; n < durable; n++) ledger.ack(firstSequence + n, payloads[n]!);
    if (!world.isDisturbed) {
      assert.ok(['Configuration', 'Backpressure'].includes(code), code);
      assert.ok(code !== 'Configuration' || durable === at, `${durable} durable, lost ${at}`);
      // What is not durable now was never taken, and never comes.
      for (const payload of payloads.slice(durable)) ledger.untried(payload);
    }
  }
}

/** Without promises, until there is no room. */
async function tries(world: World): Promise<void> {
  const [ledger, space] = world.any();
  let last = 0;
  for (let n = world.chance(60); n > 0; n--) {
    const payload = anyPayload(world, ledger);
    ledger.tried(space.status().lastSequence + 1, payload);
    const sequence = space.tryAppend(1, ofAnyKind(world.chance, payload));
    if (sequence === undefined) break;
    last = sequence;
  }
  if (last === 0 || world.chance(2) === 0) return;
  await space.flushed(last, { timeoutMs: 30_000 });
  ledger.covered(last);
}

/** Some entries, and then nothing more: it is kept, forgotten or left. */
function stopsReading(world: World): void {
  const [, space] = world.any();
  const isLive = world.chance(2) === 0;
  const { firstSequence } = space.status();
  const from = Math.max(1, firstSequence);
  const entries = isLive ? space.subscribe({ from }) : space.read({ from });
  const most = world.chance(6);
  world.begin('a reader', async () => {
    for (let next = from, n = 0; n < most; n++, next++) {
      const { done, value } = await entries.next().catch((error) => {
        const isOver = ['Trimmed', 'Closed'].includes(codeOf(error));
        assert.ok(isOver || world.isDisturbed, String(error));
        return { done: true as const, value: undefined };
      });
      if (done) return;
      assert.equal(value.sequence, next);
    }
    if (world.chance(2) === 0) await entries.return();
  });
}

/** Calls that the end of the life finds under way, or not. */
function waits(world: World): void {
  const [, space] = world.any();
  const { lastSequence, durableSequence } = space.status();
  const calls: readonly (() => Promise<unknown>)[] = [
    () => space.flushed(lastSequence + 1 + world.chance(5), { timeoutMs: 1 + world.chance(50) }),
    () => space.flushed(lastSequence + 1_000),
    () => space.checkpoint(Math.max(1, Math.min(space.status().checkpoint, durableSequence))),
    () => world.node.openSpace('s', { lead: true }),
    () => world.node.openSpace('\ud800'),
  ];
  const call = calls[world.chance(calls.length)]!;
  world.begin('a call', async () => void (await call().catch(codeOf)));
}

const host = (work: (world: World) => Promise<void>) => (world: World) =>
  world.run('what a host does', () => world.refusable(() => work(world)));

const soon = (work: (world: World) => void) => async (world: World) => {
  await world.refusable(async () => work(world));
  await world.pass(world.chance(3));
};

export const HOST_OPERATIONS: readonly Operation[] = [
  { name: 'payloads of any kind', weight: 2, run: host(anyKinds) },
  { name: 'no payloads', weight: 1, run: host(noPayloads) },
  { name: 'lists that are used again', weight: 1, run: host(reusedLists) },
  { name: 'a payload is lost inside a batch', weight: 1, run: host(lostInside) },
  { name: 'tries', weight: 1, run: host(tries) },
  { name: 'stops reading', weight: 1, run: soon(stopsReading) },
  { name: 'waits', weight: 1, run: soon(waits) },
];
