/**
 * A SQLite database for each tenant, the same on every machine: each change in it exactly once.
 *
 *     npm install better-sqlite3@12                # in this repository with --no-save
 *     npx tsx examples/sqlite-per-tenant.ts ./a a a=7411,b=7412,c=7413 shop bank   # so for b and c
 *     add shop apples 3
 *     sum shop apples
 *
 * A node, where each listens, and the tenants. Commands are one a line on standard input, one
 * answer a line, on any machine. The first opens the tenants. Where it is gone another one leads a
 * tenant on: `npx engram-wal promote ./b/log --space shop`.
 *
 * What it promises: what was answered with `ok` is on two disks, and will be in the database of
 * every machine exactly once, in the order of its numbers, whoever is killed. Where the answer is
 * `no` with OutcomeUnknown, AckTimeout or Fenced it may be there all the same.
 */
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { Readable } from 'node:stream';
import Sqlite from 'better-sqlite3';
import { decodeEntry, type EngramError, type Entry, jsonCodec, openNode } from 'engram-wal';

interface Change {
  readonly item: string;
  readonly amount: number;
}

const CHANGE = 1000;
const codec = jsonCodec<Change>();
/** Commands under way: the more, the more share one fdatasync. */
const concurrency = 200;

const [dir = '', nodeId, list = '', ...tenants] = process.argv.slice(2);
const members = list.split(',').map((one) => {
  const [name = '', port] = one.split('=');
  return { nodeId: name, host: '127.0.0.1', port: Number(port) };
});
const here = members.find((member) => member.nodeId === nodeId);
if (!here) throw new Error('usage: sqlite-per-tenant.ts DIR NODE NODE=PORT,... TENANT...');

/** What is applied is here with its position, in one transaction: both are there, or neither. */
class Database {
  readonly #db: Sqlite.Database;

  constructor(file: string) {
    this.#db = new Sqlite(file);
    // No fsync of its own: what a power loss takes from it comes again out of the log.
    this.#db.pragma('journal_mode = WAL');
    this.#db.pragma('synchronous = NORMAL');
    this.#db.exec(`
      CREATE TABLE IF NOT EXISTS change (sequence INTEGER, item TEXT, amount INTEGER);
      CREATE INDEX IF NOT EXISTS item ON change (item, sequence);
      CREATE TABLE IF NOT EXISTS position (sequence INTEGER);
      INSERT INTO position SELECT 0 WHERE NOT EXISTS (SELECT * FROM position);`);
  }

  get position(): number {
    return this.#db.prepare('SELECT sequence FROM position').pluck().get() as number;
  }

  sum(item: string): number {
    const sum = this.#db.prepare('SELECT total(amount) FROM change WHERE item = ?');
    return sum.pluck().get(item) as number;
  }

  apply(entries: readonly Entry[], position: number): void {
    const insert = this.#db.prepare('INSERT INTO change VALUES (?, ?, ?)');
    this.#to(position, () => {
      for (const entry of entries) {
        // What the library writes into a space is no change.
        const { item, amount } = decodeEntry(codec, entry)?.value ?? {};
        if (item !== undefined) insert.run(entry.sequence, item, amount);
      }
    });
  }

  /** Undoes what a failover has taken back. */
  rewind(from: number): void {
    if (from > this.position) return;
    const remove = this.#db.prepare('DELETE FROM change WHERE sequence >= ?');
    this.#to(from - 1, () => remove.run(from));
  }

  #to(position: number, change: () => void): void {
    this.#db.transaction(() => {
      change();
      this.#db.prepare('UPDATE position SET sequence = ?').run(position);
    })();
  }
}

const databases = new Map<string, Database>();
function databaseOf(tenant: string): Database {
  let database = databases.get(tenant);
  if (!database) {
    database = new Database(path.join(dir, `${tenant}.sqlite`));
    databases.set(tenant, database);
  }
  return database;
}

fs.mkdirSync(dir, { recursive: true });
await using node = await openNode({
  dataDir: path.join(dir, 'log'),
  nodeId: here.nodeId,
  clusterId: 'tenants',
  listen: { host: here.host, port: here.port },
  replicas: members.filter((member) => member !== here),
  lead: here === members[0],
  applyWhenLeading: true,
  apply: (entries, { space, position }) => databaseOf(space).apply(entries, position.sequence),
  appliedUpTo: (space) => databaseOf(space).position,
  rewound: (space, { from }) => databaseOf(space).rewind(from),
});
// A write or an fdatasync has failed for good: end, and let whoever started this start it again.
node.on('fatal', ({ error }) => {
  console.error(error);
  process.exit(1);
});
if (here === members[0]) await Promise.all(tenants.map((name) => node.openSpace(name)));

async function run(line: string): Promise<string> {
  const [command, tenant = '', item = '', amount] = line.trim().split(/\s+/);
  if (!tenants.includes(tenant)) throw new Error(`tenants are ${tenants.join(', ')}`);
  if (command === 'add') {
    const payload = codec.encode({ item, amount: Number(amount) }, CHANGE);
    const { sequence } = await node.append(tenant, CHANGE, payload, { ack: { replicas: 1 } });
    return `ok ${tenant} ${sequence} ${item} ${amount}`;
  }
  if (command !== 'sum') throw new Error('commands are add and sum');
  // All that was acknowledged before, on whichever machine.
  await node.space(tenant).catchUp({ applied: true });
  return `sum ${tenant} ${item} ${databaseOf(tenant).sum(item)}`;
}

async function answer(line: string): Promise<void> {
  try {
    console.log(await run(line));
  } catch (error) {
    const { code, message } = error as EngramError;
    console.log(`no ${line.trim()}: ${message.split('\n', 1)[0]} (${code ?? 'usage'})`);
  }
}

const lines = readline.createInterface({ input: process.stdin });
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => lines.close());
await Readable.from(lines).forEach(answer, { concurrency });
// At a signal it is not at its end, and would keep the process.
process.stdin.destroy();
