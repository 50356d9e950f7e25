/**
 * A lost node led thousands of spaces: how long until the last of them takes appends again? Three
 * nodes, each a process of its own, the one that leads everything is killed (SIGKILL). With etcd:
 * from the deletion of its lease key, as a watch in a process of its own hears of it, to the first
 * acknowledged append of each space. Without: an operator promotes all of them in one moment.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { EtcdServer, freePort } from '../test/support/etcd.js';
import { DataDirs } from './data-dir.js';
import type { Plan } from './plan.js';
import { type Figures, type Result, summarise } from './result.js';

const IDS = ['a', 'b', 'c'];
const SPACES = 3_000;
const TTL_MS = 2_000;
const POLL_MS = 200;
/** For everything that is waited for. */
const PATIENCE_MS = 60_000;
const MiB = 1024 ** 2;

interface Standing {
  readonly here: number;
  readonly led: number;
  /** Led, and streamed to all of its replicas. */
  readonly whole: number;
  readonly acked: number | [string, number][];
  readonly longestTurnMs: number;
  readonly cpuMs: number;
  /** Appends that were refused, and tried again. */
  readonly refusals: number;
}

interface Count {
  readonly acked: number;
}

const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

function started(file: string, args: readonly string[], execArgv: string[]): ChildProcess {
  const child = fork(fileURLToPath(new URL(file, import.meta.url)), [...args], { execArgv });
  running.add(child);
  child.once('exit', () => running.delete(child));
  return child;
}

async function heard(child: ChildProcess, kind: string): Promise<Record<string, unknown>> {
  for (;;) {
    const [message] = await Promise.race([
      once(child, 'message'),
      once(child, 'exit').then(() => Promise.reject(new Error(`ended before ${kind}`))),
    ]);
    if (message.kind === 'failed') throw new Error(message.message);
    if (message.kind === kind) return message;
  }
}

/** One node in a process of its own. */
class MassNode {
  readonly #child: ChildProcess;
  #asked = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start(options: object, profileDir: string | undefined): Promise<MassNode> {
    const profile = profileDir ? ['--cpu-prof', `--cpu-prof-dir=${profileDir}`] : [];
    const child = started('children/mass-node.mjs', [JSON.stringify(options)], profile);
    child.setMaxListeners(0);
    await heard(child, 'listening');
    return new MassNode(child);
  }

  async ask<T>(question: object): Promise<T> {
    const id = ++this.#asked;
    const gone = once(this.#child, 'exit').then(() => {
      throw new Error('a node has ended before it has answered');
    });
    const answered = new Promise<T>((resolve, reject) => {
      const take = (message: { kind: string; id: number; message: string }): void => {
        if (message.kind === 'failed') reject(new Error(message.message));
        if (message.id !== id) return;
        this.#child.off('message', take);
        resolve(message as T);
      };
      this.#child.on('message', take);
    });
    this.#child.send({ ...question, id });
    return await Promise.race([answered, gone]);
  }

  async kill(): Promise<void> {
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
  }

  /** A clean end, for the sake of its profile. */
  async end(): Promise<void> {
    const gone = once(this.#child, 'exit');
    await this.ask({ close: true });
    this.#child.disconnect();
    await gone;
  }
}

/** @param look what there is, and whether it is what is waited for */
async function until(what: string, look: () => Promise<[boolean, string]>): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const [isDone, found] = await look();
    if (isDone) return;
    if (performance.now() > deadline) throw new Error(`in vain: ${what}: ${found}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** Three nodes of which the first leads all spaces, streamed to both others; it is killed. */
class Mass {
  readonly nodes: MassNode[] = [];
  readonly names: string[];
  /** What those that are left had used before. */
  #cpuMs = 0;

  constructor(count: number) {
    this.names = Array.from({ length: count }, (_, n) => `tenant-${n}`);
  }

  async start(paths: readonly string[], profileDir: string | undefined, etcd?: string) {
    const members: { nodeId: string; host: string; port: number }[] = [];
    for (const nodeId of IDS) members.push({ nodeId, host: '127.0.0.1', port: await freePort() });
    for (const [i, { nodeId, host, port }] of members.entries()) {
      const who = { nodeId, clusterId: 'bench', dataDir: paths[i], listen: { host, port } };
      const coordinator = etcd && {
        coordinator: { kind: 'etcd', endpoints: [etcd], ttlMs: TTL_MS, prefix: 'mass' },
      };
      const replicas = members.filter((m) => m.nodeId !== nodeId);
      const more = coordinator || { replicas, lead: nodeId === 'a' };
      this.nodes.push(await MassNode.start({ ...who, ...more }, profileDir));
    }
  }

  async fill(): Promise<void> {
    const [a, ...others] = this.nodes;
    await a!.ask({ open: this.names });
    const count = this.names.length;
    await until('all spaces are on all nodes, led by the first', async () => {
      const found = await Promise.all(this.nodes.map((node) => node.ask<Standing>({})));
      const isAll = found[0]!.whole === count && found.every(({ here }) => here === count);
      // On a machine that is busy others may have been quicker.
      for (const [i, { led }] of found.slice(1).entries()) {
        if (led > 0) await others[i]!.ask({ handOverTo: IDS[0] });
      }
      return [isAll, JSON.stringify(found)];
    });
    const marked = await Promise.all(others.map((node) => node.ask<Standing>({ mark: true })));
    this.#cpuMs = marked.reduce((sum, { cpuMs }) => sum + cpuMs, 0);
  }

  /** @returns when each space took its first append, in order; and what it cost the nodes */
  async taken(): Promise<{ readonly acked: number[]; readonly figures: Figures }> {
    const left = this.nodes.slice(1);
    await until('all spaces take appends', async () => {
      const found = await Promise.all(left.map((node) => node.ask<Count>({ count: true })));
      const all = found.reduce((n, { acked }) => n + acked, 0);
      return [all >= this.names.length, JSON.stringify(found)];
    });
    const found = await Promise.all(left.map((node) => node.ask<Standing>({ take: true })));
    const each = found.flatMap(({ acked }) => acked as [string, number][]);
    if (new Set(each.map(([name]) => name)).size !== this.names.length) {
      throw new Error(`${each.length} first appends, not one of each space`);
    }
    const acked = each.map(([, ms]) => ms).sort((x, y) => x - y);
    const longestTurnMs = Math.max(...found.map((f) => f.longestTurnMs));
    const refusals = found.reduce((sum, f) => sum + f.refusals, 0);
    const cpuMs = found.reduce((sum, f) => sum + f.cpuMs, -this.#cpuMs);
    return { acked, figures: { longestTurnMs, cpuMs, refusals } };
  }

  /** Those that were left. */
  async end(): Promise<void> {
    for (const node of this.nodes.slice(1)) await node.end();
  }
}

const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;

function at(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!;
}

function timesOf(acked: readonly number[], sinceMs: number): Figures {
  const since = (q: number): number => at(acked, q) - sinceMs;
  return { firstMs: since(0), p50Ms: since(0.5), p99Ms: since(0.99), lastMs: since(1) };
}

async function byEtcd(count: number, plan: Plan, dirs: DataDirs): Promise<Figures> {
  const [folder, ...paths] = dirs.prepare(IDS.length + 1, 'fresh', 64 * MiB);
  const etcd = await EtcdServer.start(folder!);
  try {
    const mass = new Mass(count);
    await mass.start(paths, plan.profileDir, etcd.endpoint);
    await mass.fill();
    const prefix = 'mass/bench/nodes/';
    const observer = started('../test/failover/observer.mjs', [etcd.endpoint, prefix], []);
    await heard(observer, 'watching');
    const gone = heard(observer, 'gone');
    const killedMs = monotonicMs();
    await mass.nodes[0]!.kill();
    const deletedMs = (await gone).atMs as number;
    const { acked, figures } = await mass.taken();
    observer.disconnect();
    await mass.end();
    const fromSigkillMs = acked.at(-1)! - killedMs;
    return { ...timesOf(acked, deletedMs), fromSigkillMs, ...figures };
  } finally {
    await etcd.kill();
  }
}

async function byHand(count: number, plan: Plan, dirs: DataDirs): Promise<Figures> {
  const paths = dirs.prepare(IDS.length, 'fresh', 64 * MiB);
  const mass = new Mass(count);
  await mass.start(paths, plan.profileDir);
  await mass.fill();
  await mass.nodes[0]!.kill();
  const [, b] = mass.nodes;
  const done = await b!.ask<{ begunMs: number; endedMs: number; failed: number; why: string }>({
    promote: mass.names,
  });
  if (done.failed > 0) throw new Error(`${done.failed} of ${count} promotions: ${done.why}`);
  const { acked, figures } = await mass.taken();
  await mass.end();
  const calledMs = done.endedMs - done.begunMs;
  return { ...timesOf(acked, done.begunMs), allLedMs: calledMs, ...figures };
}

export async function massFailover(plan: Plan): Promise<Result[]> {
  const count = plan.spaces ?? SPACES;
  const dirs = new DataDirs();
  const results: Result[] = [];
  const labels = { name: 'mass-failover', payloadBytes: 32, replicas: 2, spaces: count };
  const cases = [
    [`etcd, lease of ${TTL_MS} ms`, byEtcd],
    ['static, all promoted at once', byHand],
  ] as const;
  try {
    for (const [what, measure] of cases) {
      const runs: Figures[] = [];
      for (let run = 1; run <= plan.runs; run++) {
        plan.progress(`mass-failover: ${count} spaces, ${what}, run ${run} of ${plan.runs}`);
        runs.push(await measure(count, plan, dirs));
      }
      results.push(summarise({ ...labels, case: what, tmpfs: dirs.isTmpfs }, runs));
    }
  } finally {
    // Whatever has failed: nobody is left behind.
    for (const child of running) child.kill('SIGKILL');
    dirs.remove();
  }
  return results;
}
