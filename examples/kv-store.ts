/**
 * A key-value store in memory, on two machines: one leads, the other follows.
 *
 *     npx tsx examples/kv-store.ts follow ./data-b 7402
 *     npx tsx examples/kv-store.ts lead ./data-a 7402
 *     put colour green
 *     get colour
 *
 * Commands (put, del, get, count, save) on standard input, one answer a line on standard output;
 * the one that follows takes get, count and save. Each ends with its input, or at SIGTERM.
 *
 * What it promises: what was answered with `ok` is there again after a crash; the other machine
 * has the same, a moment later, also if it is empty or was away for so long that the log does not
 * go back so far any more. Then it gets the state instead.
 */
import { createWriteStream } from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';
import readline from 'node:readline';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { EngramError, type Entry, openNode, type ReceivedSnapshot } from 'engram-wal';

/** The types from 1000 up are the host's. Others in a space are the library's: no changes. */
const CHANGE = 1000;
const SPACE = 'kv';
/** The log goes back as far as the last saved state: so much is read again at a start. */
const SAVE_EVERY_ENTRIES = 20_000;
/** What is not needed any more is freed in whole segments. The default is 64 MiB. */
const SEGMENT_BYTES = 8 * 1024 ** 2;
/** For a follower that is away so much is kept in the log; then it gets the state. */
const MAX_SLOT_BYTES = 16 * 1024 ** 2;

/** Commands on their way to the disk: the more, the more share one fdatasync. */
const MAX_UNDER_WAY = 1_000;

/** [key, value], or [key] where it is taken away. */
type Change = readonly [string, string?];

/**
 * The map, and the files that it is saved to: `state-SEQUENCE`, a row a line. The map is made of
 * the log and nothing else; a file has all up to its sequence in it, and nothing behind.
 */
class Store {
  readonly #dir: string;
  #map = new Map<string, string>();
  /** The last entry that is in the map, and the last that is in a file. */
  #applied = 0;
  #saved = 0;
  readonly #waiting: { readonly sequence: number; readonly resolve: () => void }[] = [];
  /** Files are written one after the other. */
  #written: Promise<void> = Promise.resolve();

  private constructor(dir: string) {
    this.#dir = dir;
  }

  static async open(dir: string): Promise<Store> {
    const store = new Store(dir);
    await fs.mkdir(dir, { recursive: true });
    const saved = (await fs.readdir(dir)).filter((name) => /^state-\d+$/.test(name));
    const last = Math.max(0, ...saved.map((name) => Number(name.slice('state-'.length))));
    if (last > 0) await store.#load(last);
    return store;
  }

  get applied(): number {
    return this.#applied;
  }

  get saved(): number {
    return this.#saved;
  }

  get map(): ReadonlyMap<string, string> {
    return this.#map;
  }

  /** In the order of sequences. What came before a crash may come again. */
  apply({ sequence, type, payload }: Entry): void {
    if (sequence <= this.#applied) return;
    if (type === CHANGE) {
      const [key, value] = JSON.parse(Buffer.from(payload).toString('utf8')) as Change;
      if (value === undefined) this.#map.delete(key);
      else this.#map.set(key, value);
    }
    this.#applied = sequence;
    while (this.#waiting[0] && this.#waiting[0].sequence <= sequence) {
      this.#waiting.shift()!.resolve();
    }
  }

  /** Resolves when the entry is in the map. Asked for in the order of sequences. */
  whenApplied(sequence: number): Promise<void> {
    if (sequence <= this.#applied) return Promise.resolve();
    return new Promise((resolve) => this.#waiting.push({ sequence, resolve }));
  }

  /** Saves the map as it is when its turn has come; durable when it resolves. */
  save(): Promise<void> {
    return this.#inTurn(async () => {
      const sequence = this.#applied;
      if (sequence === this.#saved) return;
      // A copy of the list: the map goes on changing while the file is written.
      const rows = [...this.#map].map((row) => `${JSON.stringify(row)}\n`);
      await this.#write(sequence, Readable.from(rows));
      this.#saved = sequence;
    });
  }

  /** In the place of all that is there; durable when it resolves, before that without effect. */
  restore(sequence: number, chunks: AsyncIterable<Uint8Array>): Promise<void> {
    return this.#inTurn(async () => {
      await this.#write(sequence, Readable.from(chunks));
      await this.#load(sequence);
    });
  }

  /** A saved state for a replica, all up to its sequence. Throws: it is asked for again. */
  async snapshot(): Promise<{ sequence: number; chunks: AsyncIterable<Uint8Array> }> {
    await this.save();
    const sequence = this.#saved;
    const file = await fs.open(this.#file(sequence));
    // The next save removes the name of this file; who has it open reads it to its end.
    return { sequence, chunks: file.createReadStream() };
  }

  #file(sequence: number): string {
    return path.join(this.#dir, `state-${sequence}`);
  }

  #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#written.then(work);
    this.#written = done.catch(() => undefined);
    return done;
  }

  async #load(sequence: number): Promise<void> {
    const rows = (await fs.readFile(this.#file(sequence), 'utf8')).split('\n').slice(0, -1);
    this.#map = new Map(rows.map((row) => JSON.parse(row) as [string, string]));
    this.#applied = sequence;
    this.#saved = sequence;
  }

  async #write(sequence: number, rows: Readable): Promise<void> {
    const temporary = path.join(this.#dir, 'temporary');
    await pipeline(rows, createWriteStream(temporary, { flush: true }));
    await fs.rename(temporary, this.#file(sequence));
    const dir = await fs.open(this.#dir);
    await dir.sync();
    await dir.close();
    for (const name of await fs.readdir(this.#dir)) {
      if (name !== `state-${sequence}`) await fs.rm(path.join(this.#dir, name));
    }
  }
}

function end(error: unknown): never {
  console.error(error);
  process.exit(1);
}

const [role, dir, port] = process.argv.slice(2);
if ((role !== 'lead' && role !== 'follow') || dir === undefined || !(Number(port) > 0)) {
  throw new Error('usage: kv-store.ts lead|follow DIR PORT_OF_THE_ONE_THAT_FOLLOWS');
}
const store = await Store.open(path.join(dir, 'state'));
const address = { host: '127.0.0.1', port: Number(port) };
const node = await openNode({
  dataDir: path.join(dir, 'log'),
  nodeId: role,
  clusterId: 'kv',
  segmentBytes: SEGMENT_BYTES,
  maxSlotBytes: MAX_SLOT_BYTES,
  ...(role === 'lead'
    ? {
        replicas: [{ nodeId: 'follow', ...address }],
        // Nobody else is promoted here. A host where that may be gives all four functions to every
        // node, and `rewound`, which takes back what another leader does not have.
        snapshot: () => store.snapshot(),
      }
    : {
        listen: address,
        apply: (entries: Entry[]) => {
          for (const entry of entries) store.apply(entry);
          saveNowAndThen();
        },
        // What is applied is durable when it is in a file: what is behind it comes again after a
        // crash.
        appliedUpTo: () => store.saved,
        restore: (_space: string, { sequence, chunks }: ReceivedSnapshot) =>
          store.restore(sequence, chunks),
      }),
});
// The log cannot go on: end, and let whoever started this start it again. What was answered with
// `ok` is there then; what was not may be.
node.on('fatal', ({ error }) => end(error));

/** What is saved need not be kept in the log of this machine. */
async function save(): Promise<number> {
  await store.save();
  const { saved } = store;
  if (saved > 0) await node.space(SPACE).checkpoint(saved + 1);
  return saved;
}

let isSaving = false;
function saveNowAndThen(): void {
  if (isSaving || store.applied - store.saved < SAVE_EVERY_ENTRIES) return;
  isSaving = true;
  // It is tried again with the next entry.
  const over = (): void => {
    isSaving = false;
  };
  save().catch(console.error).finally(over);
}

/** The one that leads makes its map of its own log: what is there first, then what comes. */
async function follow(): Promise<void> {
  for await (const entry of node.space(SPACE).subscribe({ from: store.applied + 1 })) {
    store.apply(entry);
    saveNowAndThen();
  }
}
if (role === 'lead') {
  const space = await node.openSpace(SPACE);
  follow().catch(end);
  await store.whenApplied(space.status().durableSequence);
}

async function change(entry: Change): Promise<string> {
  const { sequence } = await node.space(SPACE).append(CHANGE, Buffer.from(JSON.stringify(entry)));
  await store.whenApplied(sequence);
  return `ok ${sequence}`;
}

const underWay = new Set<Promise<void>>();
async function run(line: string): Promise<string> {
  const [, command, key = '', value] = /^(\w+) ?(\S+)? ?(.*)$/.exec(line) ?? [];
  if (command === 'put' && value) return await change([key, value]);
  if (command === 'del') return await change([key]);
  // These tell of all that was asked for before.
  await Promise.all(underWay);
  if (command === 'get') return store.map.get(key) ?? '(none)';
  if (command === 'count') return `${store.map.size} keys, ${store.applied} entries`;
  if (command === 'save') return `saved ${await save()}`;
  throw new Error('commands are put, del, get, count and save');
}

/** Backpressure, DiskFull, ReadOnly: not now, nothing has changed. NotPrimary: on the other one. */
async function answer(line: string): Promise<void> {
  try {
    console.log(await run(line));
  } catch (error) {
    const code = error instanceof EngramError ? error.code : 'usage';
    console.log(`no (${code}): ${(error as Error).message.split('\n', 1)[0]}`);
  }
}

const lines = readline.createInterface({ input: process.stdin });
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => lines.close());
console.log(`${role}s with ${store.map.size} keys`);
for await (const line of lines) {
  const answered = answer(line).finally(() => underWay.delete(answered));
  underWay.add(answered);
  if (underWay.size >= MAX_UNDER_WAY) await Promise.race(underWay);
}
// At a signal it is not at its end, and would keep the process.
process.stdin.destroy();
await Promise.all(underWay);
await save();
await node.close();
