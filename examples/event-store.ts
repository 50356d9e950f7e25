/**
 * An event store: accounts whose balance is what their events add up to, on as many machines as
 * you like. Each of them takes commands, one a line on standard input, one answer a line.
 *
 *     npx tsx examples/event-store.ts ./data-a a a=7411 b=7412 c=7413     # so for b and c
 *     deposit anna 100
 *     withdraw anna 30
 *     balance anna
 *
 * The first that is named opens new accounts. Where it is gone another one leads an account on:
 * `npx engram-wal promote ./data-b --space anna`. Alone it needs no name: `event-store.ts ./data`.
 *
 * What it promises: what was answered with `ok` is on the disk, of two machines where there are
 * more, in the order of the version numbers. An account never goes below zero, whoever is asked,
 * and whoever is killed. Where the answer is `no` with OutcomeUnknown, AckTimeout or Fenced it may
 * have happened all the same: ask for the balance.
 */
import readline from 'node:readline';
import { Readable } from 'node:stream';
import { type Appended, EngramError, jsonCodec, openNode } from 'engram-wal';

interface AccountEvent {
  readonly kind: 'deposited' | 'withdrawn';
  readonly amount: number;
}

/** The events of one command are one entry: all of them are there, or none. */
const COMMIT = 1000;
const codec = jsonCodec<readonly AccountEvent[]>();
/** Commands on their way to the disk: the more, the more share one fdatasync. */
const concurrency = 1_000;

const [dataDir, nodeId = 'alone', ...list] = process.argv.slice(2);
if (dataDir === undefined) throw new Error('usage: event-store.ts DATA_DIR [NODE NODE=PORT...]');
const members = list.map((one) => {
  const [name = '', port] = one.split('=');
  return { nodeId: name, host: '127.0.0.1', port: Number(port) };
});
const replicas = members.filter((member) => member.nodeId !== nodeId);
const here = members.find((member) => member.nodeId === nodeId);
await using node = await openNode({
  dataDir,
  nodeId,
  clusterId: 'accounts',
  replicas,
  lead: here === members[0],
  ...(here && { listen: { host: here.host, port: here.port } }),
});
// A write or an fdatasync has failed for good: end, and let whoever started this start it again.
node.on('fatal', ({ error }) => {
  console.error(error);
  process.exit(1);
});

type Decide = (balance: number) => readonly AccountEvent[];

/** One account: a space of its own. What is in memory was made from the log, and only from it. */
class Account {
  readonly #name: string;
  #last: Appended | undefined;
  #balance = 0;
  /** One command after the other, for each decides by what the one before did. */
  #turn: Promise<unknown> = Promise.resolve();

  constructor(name: string) {
    this.#name = name;
  }

  forget(): void {
    this.#last = undefined;
    this.#balance = 0;
  }

  /** Commits what `decide` makes of the balance as it is now; it may throw instead. */
  execute(decide: Decide): Promise<string> {
    const done = this.#turn.then(() => this.#execute(decide));
    this.#turn = done.catch(() => undefined);
    return done;
  }

  async #execute(decide: Decide): Promise<string> {
    for (;;) {
      await this.#catchUp();
      const events = decide(this.#balance);
      if (events.length === 0) return this.#text;
      const payload = codec.encode(events, COMMIT);
      const ack = { replicas: Math.min(1, replicas.length) };
      const options = { expected: this.#last ?? 0, ack };
      try {
        this.#take(await node.append(this.#name, COMMIT, payload, options), events);
        return this.#text;
      } catch (error) {
        // Another machine was faster: decide anew, by what it has committed.
        if (!(error instanceof EngramError && error.code === 'SequenceConflict')) throw error;
      }
    }
  }

  /** Takes in all that was acknowledged before, on whichever machine. */
  async #catchUp(): Promise<void> {
    const space = await node.openSpace(this.#name, { codec });
    await space.bytes.catchUp();
    for await (const entry of space.read({ from: (this.#last?.sequence ?? 0) + 1 })) {
      this.#take(entry, entry.value);
    }
  }

  #take({ sequence, epoch }: Appended, events: readonly AccountEvent[]): void {
    this.#last = { sequence, epoch };
    for (const { kind, amount } of events) this.#balance += kind === 'deposited' ? amount : -amount;
  }

  get #text(): string {
    return `version ${this.#last?.sequence ?? 0}, balance ${this.#balance}`;
  }
}

const accounts = new Map<string, Account>();
// This machine led, and what nobody else had got of it is taken back.
node.on('rewound', ({ space }) => accounts.get(space)?.forget());

async function run(line: string): Promise<string> {
  const [command, name = '', text] = line.trim().split(/\s+/);
  const amount = Number(text);
  const account = accounts.get(name) ?? new Account(name);
  accounts.set(name, account);
  if (command === 'balance') return await account.execute(() => []);
  if (!Number.isSafeInteger(amount) || amount < 1) throw new Error('an amount is from 1: 100');
  if (command !== 'deposit' && command !== 'withdraw') {
    throw new Error('commands are deposit, withdraw and balance');
  }
  return await account.execute((balance) => {
    if (command === 'deposit') return [{ kind: 'deposited', amount }];
    if (amount > balance) throw new Error(`only ${balance} there`);
    return [{ kind: 'withdrawn', amount }];
  });
}

async function answer(line: string): Promise<void> {
  try {
    console.log(`ok ${line.trim()}: ${await run(line)}`);
  } catch (error) {
    const code = error instanceof EngramError ? ` (${error.code})` : '';
    console.log(`no ${line.trim()}: ${(error as Error).message.split('\n', 1)[0]}${code}`);
  }
}

const lines = readline.createInterface({ input: process.stdin });
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => lines.close());
await Readable.from(lines).forEach(answer, { concurrency });
// At a signal it is not at its end, and would keep the process.
process.stdin.destroy();
