/**
 * A key-value store in memory, the same on every machine. Each of them takes commands.
 *
 *     npx tsx examples/kv-store.ts ./data-a a a=7401 b=7402      # so for b
 *     put colour green
 *     get colour
 *
 * Commands (put, del, get, count, save) are one a line on standard input, one answer a line. The
 * first that is named leads. Where it is gone: `npx engram-wal promote ./data-b/log --space kv`.
 *
 * What it promises: what was answered with `ok` is on a disk, is there again after a crash, and is
 * seen by every `get` that is asked from then on, on whichever machine. The others have it a moment
 * later, also one that is empty or was away for so long that the log does not go back so far any
 * more: that one gets the state instead. What nobody else had got when a leader was lost is lost
 * with it; `ack: { replicas: 1 }` would buy that.
 */
import { createWriteStream, existsSync, mkdirSync } from 'node:fs';
import fs from 'node:fs/promises';
import path from 'node:path';
import readline from 'node:readline';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { decodeEntry, EngramError, type Entry, jsonCodec, openNode } from 'engram-wal';

const SPACE = 'kv';
const CHANGE = 1000;
/** [key, value], or [key] where it is taken away. */
const codec = jsonCodec<readonly [string, string?]>();
/** The log goes back as far as the last saved state: so much is read again at a start. */
const SAVE_EVERY_ENTRIES = 20_000;
/** What is not needed any more is freed in whole segments. */
const segmentBytes = 8 * 1024 ** 2;
/** For a machine that is away so much is kept in the log; then it gets the state. */
const maxSlotBytes = 16 * 1024 ** 2;
/** Commands under way: the more, the more share one fdatasync. */
const concurrency = 200;

const [dir = '', nodeId, ...list] = process.argv.slice(2);
const members = list.map((one) => {
  const [name = '', port] = one.split('=');
  return { nodeId: name, host: '127.0.0.1', port: Number(port) };
});
const here = members.find((member) => member.nodeId === nodeId);
if (!here) throw new Error('usage: kv-store.ts DIR NODE NODE=PORT...');

/** The map, made of the log and nothing else, and the file that it is saved to, a row a line. */
class Store {
  readonly #file = path.join(dir, 'state');
  map = new Map<string, string>();
  /** The last entry that is in the map, and the last that is in the file: its first line. */
  applied = 0;
  saved = 0;
  /** Files are written one after the other. */
  #written: Promise<unknown> = Promise.resolve();

  async load(): Promise<void> {
    if (!existsSync(this.#file)) return;
    const [sequence, ...rows] = (await fs.readFile(this.#file, 'utf8')).trimEnd().split('\n');
    this.map = new Map(rows.map((row) => JSON.parse(row) as [string, string]));
    this.applied = this.saved = Number(sequence);
  }

  apply(entries: readonly Entry[], position: number): void {
    for (const entry of entries) {
      // What the library writes into a space is no change.
      const [key, value] = decodeEntry(codec, entry)?.value ?? [];
      if (key === undefined) continue;
      if (value === undefined) this.map.delete(key);
      else this.map.set(key, value);
    }
    this.applied = position;
  }

  /** Durable when it resolves. @returns the last entry that is in the file */
  save(): Promise<number> {
    return this.#inTurn(async () => {
      const sequence = this.applied;
      if (sequence === this.saved) return sequence;
      // A copy: the map may go on changing while the file is written.
      const rows = [...this.map].map((row) => `${JSON.stringify(row)}\n`);
      await this.#write([`${sequence}\n`, ...rows]);
      this.saved = sequence;
      return sequence;
    });
  }

  /** In the place of all that is there; durable when it resolves, before that without effect. */
  restore(chunks: AsyncIterable<Uint8Array>): Promise<void> {
    return this.#inTurn(async () => {
      await this.#write(chunks);
      await this.load();
    });
  }

  /** The next save takes the name from this file; who has it open reads it to its end. */
  async snapshot(): Promise<{ sequence: number; chunks: AsyncIterable<Uint8Array> }> {
    const sequence = await this.save();
    return { sequence, chunks: (await fs.open(this.#file)).createReadStream() };
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#written.then(work);
    this.#written = done.catch(() => undefined);
    return done;
  }

  async #write(chunks: AsyncIterable<Uint8Array> | Iterable<string>): Promise<void> {
    const temporary = `${this.#file}.tmp`;
    await pipeline(Readable.from(chunks), createWriteStream(temporary, { flush: true }));
    await fs.rename(temporary, this.#file);
    const folder = await fs.open(dir);
    await folder.sync();
    await folder.close();
  }
}

mkdirSync(dir, { recursive: true });
const store = new Store();
await store.load();
await using node = await openNode({
  dataDir: path.join(dir, 'log'),
  nodeId: here.nodeId,
  clusterId: 'kv',
  segmentBytes,
  maxSlotBytes,
  listen: { host: here.host, port: here.port },
  replicas: members.filter((member) => member !== here),
  lead: here === members[0],
  applyWhenLeading: true,
  apply: async (entries, { position }) => {
    store.apply(entries, position.sequence);
    if (store.applied - store.saved >= SAVE_EVERY_ENTRIES) await save();
  },
  // What is behind the file comes again at the next start.
  appliedUpTo: () => store.saved,
  snapshot: () => store.snapshot(),
  restore: (_space, { chunks }) => store.restore(chunks),
  rewound: async (_space, { from }) => {
    if (from > store.applied) return;
    if (from <= store.saved) throw new Error(`remove ${dir}: what is saved was taken back`);
    // Made whole before it takes its place: where this fails it is called again.
    const right = new Store();
    await right.load();
    const kept = node.space(SPACE).read({ from: right.saved + 1, to: from - 1 });
    for await (const entry of kept) right.apply([entry], entry.sequence);
    store.map = right.map;
    store.applied = from - 1;
  },
});
// A write or an fdatasync has failed for good: end, and let whoever started this start it again.
node.on('fatal', ({ error }) => {
  console.error(error);
  process.exit(1);
});

/** What is saved need not be kept in the log of this machine. */
async function save(): Promise<string> {
  const saved = await store.save();
  if (saved > 0) await node.space(SPACE).checkpoint(saved + 1);
  return `saved ${saved}`;
}

async function change(entry: readonly [string, string?]): Promise<string> {
  const token = await node.append(SPACE, CHANGE, codec.encode(entry, CHANGE));
  await node.space(SPACE).waitFor(token, { applied: true });
  return `ok ${token.sequence}`;
}

async function run(line: string): Promise<string> {
  const [, command, key = '', value] = /^(\w+) ?(\S+)? ?(.*)$/.exec(line) ?? [];
  if (command === 'put' && value) return await change([key, value]);
  if (command === 'del') return await change([key]);
  if (command === 'save') return await save();
  await node.space(SPACE).catchUp({ applied: true });
  if (command === 'get') return store.map.get(key) ?? '(none)';
  if (command === 'count') return `${store.map.size} keys, ${store.applied} entries`;
  throw new Error('commands are put, del, get, count and save');
}

async function answer(line: string): Promise<void> {
  try {
    console.log(await run(line));
  } catch (error) {
    const code = error instanceof EngramError ? error.code : 'usage';
    console.log(`no (${code}): ${(error as Error).message.split('\n', 1)[0]}`);
  }
}

if (here === members[0]) await node.openSpace(SPACE);
const lines = readline.createInterface({ input: process.stdin });
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => lines.close());
await Readable.from(lines).forEach(answer, { concurrency });
// At a signal it is not at its end, and would keep the process.
process.stdin.destroy();
