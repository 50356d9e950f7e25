/**
 * An event store: accounts whose balance is what their events add up to.
 *
 *     npx tsx examples/event-store.ts ./data
 *     deposit anna 100
 *     withdraw anna 30
 *     balance anna
 *
 * One command a line on standard input, one answer a line on standard output.
 *
 * What it promises: what was answered with `ok` is on the disk, in the order of the version
 * numbers, and an account never goes below zero, whenever the process is killed.
 */
import readline from 'node:readline';
import { EngramError, type Node, openNode, type Space } from 'engram-wal';

type AccountEvent =
  | { readonly kind: 'deposited'; readonly amount: number }
  | { readonly kind: 'withdrawn'; readonly amount: number };

interface Account {
  /** The sequence of its last commit; 0: none yet. */
  readonly version: number;
  readonly balance: number;
}

/** The types from 1000 up are the host's. Others in a space are the library's: not ours to read. */
const COMMIT = 1000;
/** Commands on their way to the disk: the more, the more share one fdatasync. */
const MAX_UNDER_WAY = 1_000;

function changed(account: Account, version: number, events: readonly AccountEvent[]): Account {
  let { balance } = account;
  for (const { kind, amount } of events) balance += kind === 'deposited' ? amount : -amount;
  return { version, balance };
}

/** One account: a space of its own. What is in memory was made from the log, and only from it. */
class Stream {
  readonly #space: Space;
  #account: Account = { version: 0, balance: 0 };
  /** The command before: one after the other, for each decides by what the one before did. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(space: Space) {
    this.#space = space;
  }

  static async open(node: Node, name: string): Promise<Stream> {
    const stream = new Stream(await node.openSpace(name));
    for await (const { type, sequence, payload } of stream.#space.read()) {
      if (type !== COMMIT) continue;
      const events = JSON.parse(Buffer.from(payload).toString('utf8')) as AccountEvent[];
      stream.#account = changed(stream.#account, sequence, events);
    }
    return stream;
  }

  /** The account when all commands that came before are through. */
  async read(): Promise<Account> {
    await this.#last;
    return this.#account;
  }

  /**
   * Commits what `decide` makes of the account as it is; it may throw instead. The events of one
   * command are one entry, so they are there all together or not at all: a batch of entries may
   * end in its middle when the process is killed.
   */
  execute(decide: (account: Account) => readonly AccountEvent[]): Promise<Account> {
    const committed = this.#last.then(async () => {
      const events = decide(this.#account);
      const payload = Buffer.from(JSON.stringify(events));
      // When this rejects the account is as it was: see `answer` for what the errors mean.
      const { sequence } = await this.#space.append(COMMIT, payload);
      this.#account = changed(this.#account, sequence, events);
      return this.#account;
    });
    this.#last = committed.catch(() => undefined);
    return committed;
  }
}

class EventStore {
  readonly #node: Node;
  readonly #streams = new Map<string, Promise<Stream>>();

  private constructor(node: Node) {
    this.#node = node;
  }

  static async open(dataDir: string): Promise<EventStore> {
    const node = await openNode({ dataDir, nodeId: 'event-store', clusterId: 'example' });
    // A write or an fdatasync has failed for good. What was under way is on the disk or not, which
    // only opening the log again can tell: end here, and let whoever started this start it again.
    node.on('fatal', ({ error }) => {
      console.error(error);
      process.exit(1);
    });
    return new EventStore(node);
  }

  stream(name: string): Promise<Stream> {
    let stream = this.#streams.get(name);
    if (!stream) {
      stream = Stream.open(this.#node, name);
      this.#streams.set(name, stream);
      // Asked for again, it is tried again.
      stream.catch(() => this.#streams.delete(name));
    }
    return stream;
  }

  /** Makes durable what was appended, and frees the directory. */
  close(): Promise<void> {
    return this.#node.close();
  }
}

function withdrawn(amount: number): (account: Account) => AccountEvent[] {
  return ({ balance }) => {
    if (amount > balance) throw new Error(`only ${balance} there`);
    return [{ kind: 'withdrawn', amount }];
  };
}

async function run(store: EventStore, line: string): Promise<Account> {
  const [command, name = '', text] = line.trim().split(/\s+/);
  const amount = Number(text);
  if (command === 'balance') return await (await store.stream(name)).read();
  if (!Number.isSafeInteger(amount) || amount < 1) throw new Error('an amount is from 1: 100');
  const stream = await store.stream(name);
  if (command === 'deposit') return await stream.execute(() => [{ kind: 'deposited', amount }]);
  if (command === 'withdraw') return await stream.execute(withdrawn(amount));
  throw new Error('commands are deposit, withdraw and balance');
}

/**
 * An error that is `retryable` (Backpressure, DiskFull, ReadOnly) has stored nothing, and the same
 * command may work later. Neither has one that names a mistake of the caller (EntryTooLarge,
 * Configuration). What leaves it open, WalFailed, ends the process: see `fatal` above.
 */
async function answer(store: EventStore, line: string): Promise<void> {
  try {
    const { version, balance } = await run(store, line);
    console.log(`ok ${line.trim()}: version ${version}, balance ${balance}`);
  } catch (error) {
    const { message } = error as Error;
    const again = error instanceof EngramError && error.retryable ? ' (try again)' : '';
    console.log(`no ${line.trim()}: ${message.split('\n', 1)[0]}${again}`);
  }
}

const [dataDir] = process.argv.slice(2);
if (dataDir === undefined) throw new Error('usage: event-store.ts DATA_DIR');
const store = await EventStore.open(dataDir);
const lines = readline.createInterface({ input: process.stdin });
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => lines.close());

const underWay = new Set<Promise<void>>();
for await (const line of lines) {
  const answered = answer(store, line).finally(() => underWay.delete(answered));
  underWay.add(answered);
  if (underWay.size >= MAX_UNDER_WAY) await Promise.race(underWay);
}
// At a signal it is not at its end, and would keep the process.
process.stdin.destroy();
await Promise.all(underWay);
await store.close();
