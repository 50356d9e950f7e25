/**
 * The soak: a primary and two replicas in processes of their own, under load that does not give
 * way, while processes are killed and stopped and the network between them misbehaves. This process
 * records every acknowledgement, compares what the three logs hold, lets the hosts give up what was
 * compared (so segments are freed and used again), and watches memory and files from outside.
 *
 *   npm run soak -- [--seconds S] [--rate N] [--seed S] [--save]
 */
import { randomInt } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { idOf } from '#src/shared/names.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { random } from './campaign-facts.mjs';
import { OPTIONS, SPACES } from './soak-facts.mjs';
import { Faults } from './soak-faults.js';
import { type Row, readFiles, rowsOf, SpaceLedger } from './soak-ledger.js';
import { type Figures, type Offered, SoakProcess } from './soak-process.js';

export interface SoakResult {
  readonly seed: number;
  readonly seconds: number;
  readonly offeredPerSecond: number;
  readonly offered: number;
  readonly acknowledged: number;
  /** Entries that were compared on all three nodes. */
  readonly compared: number;
  readonly refused: Readonly<Record<string, number>>;
  readonly faults: Readonly<Record<string, number>>;
  readonly primaryLives: number;
  readonly recycledSegments: number;
  /** Of the primary's last life: the medians of its first and last third, and the most. */
  readonly memory: {
    readonly lifeSeconds: number;
    readonly firstThirdMiB: number;
    readonly lastThirdMiB: number;
    readonly mostMiB: number;
  };
  readonly files: { readonly firstThird: number; readonly lastThird: number };
  /** Every so often, of the primary: seconds since the start, MiB resident, open files. */
  readonly series: readonly (readonly [number, number, number])[];
}

const NODES = ['a', 'b', 'c'] as const;
const MiB = 1024 * 1024;
/** How many entries of a space are compared at once. */
const COMPARED_MAX = 60_000;
const SAMPLE_MS = 1_000;
/** A process has its memory and its hot code after so long. */
const SETTLED_MS = 8_000;
/** When faults have stopped, everything is on every node within this time. */
const HEAL_MS = 120_000;

export class Soak {
  readonly #seed: number;
  readonly #rate: number;
  readonly #root = fs.mkdtempSync(path.join(os.tmpdir(), 'engram-wal-soak-'));
  readonly #processes: ReadonlyMap<string, SoakProcess>;
  readonly #proxies = new Map<string, TcpProxy>();
  readonly #ports = new Map<string, number>();
  readonly #ledgers = SPACES.map((name) => new SpaceLedger(name));
  readonly #wrong: string[] = [];
  readonly #refused: Record<string, number> = {};
  readonly #samples: { atMs: number; life: number; rssBytes: number; files: number }[] = [];
  #life = 0;
  /** By life of the primary. */
  readonly #offered = new Map<number, Offered>();
  readonly #recycled = new Map<number, number>();
  #startMs = 0;
  /** Of the primary, in bytes: JavaScript's heap, and buffers. */
  #heap: readonly number[] = [0, 0];

  constructor(seed: number, rate: number) {
    this.#seed = seed;
    this.#rate = rate;
    const hooks = {
      acks: (space: number, row: Row) => this.#ledgers[space]!.ack(row),
      offered: (life: number, offered: Offered) => this.#offered.set(life, offered),
      bad: (what: string) => this.#wrong.push(what),
    };
    this.#processes = new Map(NODES.map((name) => [name, new SoakProcess(name, hooks)]));
  }

  get #primary(): SoakProcess {
    return this.#processes.get('a')!;
  }

  dirOf(name: string): string {
    return path.join(this.#root, name);
  }

  /** Throws with what is wrong. */
  async run(seconds: number, progress: (text: string) => void): Promise<SoakResult> {
    try {
      for (const name of ['b', 'c']) {
        await this.start(name);
        const port = this.#processes.get(name)!.port;
        this.#ports.set(name, port);
        const proxy = new TcpProxy(port);
        await proxy.listen();
        this.#proxies.set(name, proxy);
      }
      await this.start('a');
      this.#startMs = performance.now();
      const faults = new Faults(random(this.#seed), this.#processes, this.#proxies, (name) =>
        this.start(name),
      );
      await this.#suffer(faults, seconds, progress);
      await faults.heal();
      await this.#end();
      return await this.#result(faults);
    } finally {
      for (const one of this.#processes.values()) await one.kill();
      for (const proxy of this.#proxies.values()) await proxy.close();
      fs.rmSync(this.#root, { recursive: true, force: true });
    }
  }

  async start(name: string): Promise<void> {
    const options: Record<string, unknown> = { dataDir: this.dirOf(name) };
    if (name === 'a') {
      const replicas = [...this.#proxies].map(([nodeId, { port }]) => ({
        nodeId,
        host: '127.0.0.1',
        port,
      }));
      Object.assign(options, { replicas, life: ++this.#life, rate: this.#rate });
    } else options.port = this.#ports.get(name) ?? 0;
    // Before it starts: the new life acknowledges before we hear that it is open.
    const acked = new Map(this.#ledgers.map((ledger) => [ledger.name, ledger.acked]));
    const figures = await this.#processes.get(name)!.start(options);
    if (!figures || name !== 'a') return;
    for (const { name, durable } of figures.spaces) {
      const was = acked.get(name)!;
      if (durable < was) this.#wrong.push(`${name} ends at ${durable}, acked was ${was}`);
    }
  }

  /** Faults, samples and comparisons side by side, until the time is over. */
  async #suffer(faults: Faults, seconds: number, progress: (text: string) => void): Promise<void> {
    const endMs = this.#startMs + seconds * 1_000;
    const isOver = (): boolean => performance.now() >= endMs || this.#wrong.length > 0;
    const watch = async (): Promise<void> => {
      for (let n = 1; !isOver(); n++) {
        await sleep(SAMPLE_MS);
        this.#sample();
        await this.#count();
        if (n % 10 === 0) progress(this.#told(faults));
      }
    };
    const compare = async (): Promise<void> => {
      while (!isOver()) {
        await sleep(100);
        await this.#compareAll();
      }
    };
    const suffer = async (): Promise<void> => {
      while (!isOver()) {
        // The primary's memory is looked at over one long life: the second half.
        const mayKillPrimary = performance.now() < this.#startMs + seconds * 400;
        await faults.one(mayKillPrimary);
      }
    };
    await Promise.all([watch(), compare(), suffer()]);
    this.#throwIfWrong();
  }

  #told(faults: Faults): string {
    const seconds = Math.round((performance.now() - this.#startMs) / 1_000);
    const acked = sum(this.#ledgers.map((l) => l.ackedEntries));
    const compared = sum(this.#ledgers.map((l) => l.verified));
    const rss = Math.round((this.#samples.at(-1)?.rssBytes ?? 0) / MiB);
    const entries = `${acked} acknowledged, ${compared} compared`;
    const [heap, buffers] = this.#heap.map((bytes) => Math.round(bytes / MiB));
    const memory = `${rss} MiB (heap ${heap}, buffers ${buffers})`;
    return `${seconds} s: ${entries}, ${faults.total} faults, ${memory}`;
  }

  #throwIfWrong(): void {
    if (this.#wrong.length > 0) throw new Error(this.#wrong.slice(0, 5).join('\n'));
  }

  #sample(): void {
    const sample = this.#primary.sample();
    if (!sample || !this.#primary.isOpen || this.#primary.isStopped) return;
    this.#samples.push({ atMs: performance.now(), life: this.#life, ...sample });
  }

  /** What the primary tells of itself. */
  async #count(): Promise<Figures | undefined> {
    const life = this.#life;
    const figures = await this.#primary.ask<Figures>({ kind: 'figures' }, 2_000);
    if (!figures || life !== this.#life) return undefined;
    this.#recycled.set(life, figures.recycled);
    this.#heap = [figures.heapBytes, figures.buffersBytes];
    for (const [code, n] of Object.entries(figures.refused)) {
      this.#refused[`${life} ${code}`] = n;
    }
    return figures;
  }

  // --- what the logs hold ----------------------------------------------------------------------

  async #figuresOfAll(): Promise<Figures[] | undefined> {
    const all = await Promise.all(
      NODES.map((name) => this.#processes.get(name)!.ask<Figures>({ kind: 'figures' }, 5_000)),
    );
    return all.every((f) => f !== undefined) ? (all as Figures[]) : undefined;
  }

  /** Of each space a range that all nodes have: the same, and what was acknowledged. */
  async #compareAll(): Promise<void> {
    const figures = await this.#figuresOfAll();
    if (!figures) return;
    await Promise.all(
      this.#ledgers.map(async (ledger) => {
        const ends = figures.map((f) => f.spaces.find((s) => s.name === ledger.name)?.durable ?? 0);
        const to = Math.min(...ends, ledger.verified + COMPARED_MAX);
        if (to > ledger.verified) await this.#compare(ledger, to);
      }),
    );
  }

  async #compare(ledger: SpaceLedger, to: number): Promise<void> {
    const request = { kind: 'read', space: ledger.name, from: ledger.verified + 1, to } as const;
    type Read = { digest: string; runs: Row[]; wrong?: string };
    const reads = await Promise.all(
      NODES.map((name) => this.#processes.get(name)!.ask<Read>(request)),
    );
    if (!reads.every((r) => r !== undefined)) return;
    const wrong = reads.find((r) => r.wrong)?.wrong;
    if (wrong) this.#wrong.push(wrong);
    else if (new Set(reads.map((r) => r.digest)).size > 1) {
      this.#wrong.push(`${ledger.name} up to ${to} is not the same everywhere`);
    } else {
      const found = ledger.hold(reads[0]!.runs, to);
      if (found) this.#wrong.push(found);
      const give = { kind: 'checkpoint', space: ledger.name, sequence: to } as const;
      for (const name of NODES) void this.#processes.get(name)!.ask(give);
    }
  }

  // --- the end ---------------------------------------------------------------------------------

  async #end(): Promise<void> {
    await this.#primary.ask({ kind: 'rest' });
    const endMs = performance.now() + HEAL_MS;
    for (;;) {
      this.#throwIfWrong();
      const figures = await this.#figuresOfAll();
      if (figures && isWhole(figures)) break;
      if (performance.now() > endMs) {
        throw new Error(`not whole ${HEAL_MS} ms after the last fault: ${JSON.stringify(figures)}`);
      }
      await sleep(100);
    }
    await this.#count();
    // Most is compared and given up; the rest is looked at in the files of closed nodes.
    for (const one of this.#processes.values()) {
      if (!(await one.close())) this.#wrong.push(`${one.nodeId} did not close`);
    }
    const logs = await Promise.all(NODES.map((name) => readFiles(this.dirOf(name))));
    for (const ledger of this.#ledgers) this.#compareFiles(ledger, logs);
    this.#throwIfWrong();
  }

  #compareFiles(
    ledger: SpaceLedger,
    logs: readonly ReadonlyMap<string, ReadonlyMap<number, Buffer>>[],
  ): void {
    const id = idOf(ledger.name);
    const [first, ...others] = logs.map((log) => log.get(id) ?? new Map<number, Buffer>());
    let to = ledger.acked;
    for (const sequence of first!.keys()) to = Math.max(to, sequence);
    for (let sequence = ledger.verified + 1; sequence <= to; sequence++) {
      const entry = first!.get(sequence);
      if (entry && others.every((o) => o.get(sequence)?.equals(entry))) continue;
      this.#wrong.push(`${ledger.name} ${sequence} is not the same in all files`);
      return;
    }
    const rows = rowsOf(first!, ledger.verified + 1, to);
    const found = rows ? ledger.hold(rows, to) : `${ledger.name} holds what nobody has offered`;
    if (found) this.#wrong.push(found);
  }

  async #result(faults: Faults): Promise<SoakResult> {
    const refused: Record<string, number> = {};
    for (const [key, n] of Object.entries(this.#refused)) {
      const code = key.split(' ')[1]!;
      refused[code] = (refused[code] ?? 0) + n;
    }
    const last = this.#samples.filter((s) => s.life === this.#life);
    const from = (last[0]?.atMs ?? 0) + SETTLED_MS;
    const settled = last.filter((s) => s.atMs >= from);
    const third = Math.max(1, Math.floor(settled.length / 3));
    const [head, tail] = [settled.slice(0, third), settled.slice(-third)];
    const rssOf = (of: typeof settled): number => round(median(of.map((s) => s.rssBytes)) / MiB);
    const offered = sum([...this.#offered.values()].map((o) => o.offered));
    const offeringMs = sum([...this.#offered.values()].map((o) => o.offeringMs));
    const every = Math.max(1, Math.floor(this.#samples.length / 60));
    return {
      seed: this.#seed,
      seconds: round((performance.now() - this.#startMs) / 1_000),
      offeredPerSecond: Math.round((1_000 * offered) / offeringMs),
      offered,
      acknowledged: sum(this.#ledgers.map((l) => l.ackedEntries)),
      compared: sum(this.#ledgers.map((l) => l.verified)),
      refused,
      faults: faults.counts,
      primaryLives: this.#life,
      recycledSegments: sum([...this.#recycled.values()]),
      memory: {
        lifeSeconds: Math.round(((last.at(-1)?.atMs ?? 0) - (last[0]?.atMs ?? 0)) / 1_000),
        firstThirdMiB: rssOf(head),
        lastThirdMiB: rssOf(tail),
        mostMiB: round(Math.max(0, ...last.map((s) => s.rssBytes)) / MiB),
      },
      files: {
        firstThird: median(head.map((s) => s.files)),
        lastThird: median(tail.map((s) => s.files)),
      },
      series: this.#samples
        .filter((_, i) => i % every === 0)
        .map((s) => [
          Math.round((s.atMs - this.#startMs) / 1_000),
          round(s.rssBytes / MiB),
          s.files,
        ]),
    };
  }
}

/** Everything durable is flushed and applied everywhere, and everything offered has its outcome. */
function isWhole([primary, ...replicas]: readonly Figures[]): boolean {
  if (primary!.untold > 0) return false;
  return primary!.spaces.every(
    (space) =>
      space.replicas.length === replicas.length &&
      space.replicas.every((r) => r.state === 'streaming' && r.acked === space.durable) &&
      replicas.every((r) => r.spaces.find((s) => s.name === space.name)?.applied === space.durable),
  );
}

function sum(values: readonly number[]): number {
  return values.reduce((all, value) => all + value, 0);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((x, y) => x - y);
  return sorted[sorted.length >> 1] ?? 0;
}

function round(value: number): number {
  return Math.round(10 * value) / 10;
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '600' },
      rate: { type: 'string', default: '22000' },
      seed: { type: 'string' },
      save: { type: 'boolean', default: false },
    },
  });
  const seed = Number(values.seed ?? randomInt(2 ** 31));
  process.stderr.write(`seed ${seed}, ${OPTIONS.segmentBytes / MiB} MiB segments\n`);
  try {
    const soak = new Soak(seed, Number(values.rate));
    const done = await soak.run(Number(values.seconds), (text) =>
      process.stderr.write(`${text}\n`),
    );
    const result = { name: 'soak', ...done, node: process.version };
    process.stdout.write(`${JSON.stringify(result, null, 1)}\n`);
    if (values.save) {
      const file = path.join(import.meta.dirname, '../../bench/results/soak.json');
      fs.writeFileSync(file, `${JSON.stringify(result, null, 2)}\n`);
    }
    const { acknowledged, compared } = done;
    process.stdout.write(`${acknowledged} entries acknowledged, ${compared} compared, 0 lost\n`);
  } catch (error) {
    process.stderr.write(`seed ${seed} failed: ${String((error as Error).stack)}\n`);
    process.exitCode = 1;
  }
}

if (process.argv[1] === import.meta.filename) await main();
