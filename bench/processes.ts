/** The measured processes: plain Node on the compiled code, one for each node of a benchmark. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { NodeOptions } from '#src/main/index.js';
import type { Figures } from './result.js';

/** What a process under load has used. */
export interface Used {
  readonly cpuSeconds: number;
  /** The kernel's part of it. */
  readonly systemSeconds: number;
  readonly maxRssBytes: number;
  /** Where the replica itself says that its log ends. */
  readonly durableSequence: number;
  /** Where its threads are watched. */
  readonly threads?: Watched;
}

/** What children/threads.cjs has seen of one process, since the mark. */
export interface Watched {
  /** By name of thread, those of one name summed. */
  readonly threads: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** fdatasyncs of the log. */
  readonly syncs: number;
  /** Triples: kind, sequence, milliseconds on the clock that all share. */
  readonly notes: readonly { readonly name: string; readonly values: readonly number[] }[];
  /** By name of system call: how many. */
  readonly calls: Readonly<Record<string, number>>;
  readonly fromMs: number;
  readonly toMs: number;
}

/** Where a process takes connections; some have a second place. */
interface Listening {
  readonly kind: 'listening';
  readonly port: number;
  readonly tellPort?: number;
  readonly httpPort?: number;
}

type Message =
  | { readonly kind: 'result'; readonly result: unknown }
  | { readonly kind: 'failed'; readonly message: string }
  | Listening
  | { readonly kind: 'used'; readonly used: Used }
  | { readonly kind: 'mark' }
  /** It is set up; what that took. */
  | { readonly kind: 'ready'; readonly figures: Figures }
  | { readonly kind: 'round'; readonly figures: Figures; readonly watched?: Watched };

/** The other checkouts whose code a child has run. */
export const measured = new Set<string>();
const OTHER_CHECKOUT = new URL('children/other-checkout.mjs', import.meta.url).href;
const THREADS = fileURLToPath(new URL('children/threads.cjs', import.meta.url));

/** How the processes of a run are started. */
export interface Started {
  /** Where each writes a CPU profile. */
  readonly profileDir?: string | undefined;
  /** The root of another checkout, built, whose code is measured instead of this one's. */
  readonly checkout?: string | undefined;
  /** What children/threads.cjs does in each thread of theirs; undefined: it is not there. */
  readonly threads?: 'count' | 'trace' | 'profile' | 'strace' | undefined;
  /** Where profiles of threads go. */
  readonly threadProfiles?: string | undefined;
}

const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** A process with a file of bench/children in it and a job on its command line. */
export class Child {
  readonly #process: ChildProcess;
  readonly exited: Promise<unknown>;
  /** Rejects when it says that it has failed, and when it ends. */
  readonly broken: Promise<never>;

  constructor(name: string, job: unknown, started: Started) {
    const { profileDir, checkout, threads, threadProfiles } = started;
    const file = fileURLToPath(new URL(`children/${name}.mjs`, import.meta.url));
    const profile = profileDir ? ['--cpu-prof', `--cpu-prof-dir=${profileDir}/${name}`] : [];
    const watched = threads ? ['--require', THREADS] : [];
    const other = checkout ? ['--import', OTHER_CHECKOUT] : [];
    this.#process = fork(file, [JSON.stringify(job)], {
      execArgv: ['--expose-gc', ...profile, ...other, ...watched],
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      env: {
        ...process.env,
        ...(checkout ? { BENCH_CHECKOUT: checkout } : {}),
        ...(threads ? { BENCH_THREADS: threads } : {}),
        ...(threadProfiles ? { BENCH_PROFILES: threadProfiles } : {}),
      },
    });
    running.add(this.#process);
    if (checkout) measured.add(checkout);
    this.exited = once(this.#process, 'exit').then(() => running.delete(this.#process));
    this.broken = new Promise((_, reject) => {
      this.#process.on('message', (message: Message) => {
        if (message.kind === 'failed') reject(new Error(`${name}: ${message.message}`));
      });
      this.#process.on('exit', (code, signal) => {
        const early = (): void => reject(new Error(`${name} ended early: ${signal ?? code}`));
        // A long last message may still be on its way.
        if (this.#process.connected) this.#process.once('disconnect', early);
        else early();
      });
    });
    // Every process ends; who waits for something of it hears that it does too early.
    this.broken.catch(() => undefined);
  }

  get pid(): number {
    return this.#process.pid!;
  }

  /** `round` and `end`: to a primary that runs round by round. */
  send(message: { kind: 'mark' | 'used' | 'close' | 'round' | 'end' }): void {
    this.#process.send(message);
  }

  onMark(listener: () => void): void {
    this.#process.on('message', (message: Message) => {
      if (message.kind === 'mark') listener();
    });
  }

  /** The next message of that kind. Rejects when the process has failed or ended before it. */
  async next<K extends Message['kind']>(kind: K): Promise<Message & { kind: K }> {
    const child = this.#process;
    let heard: (message: Message) => void;
    const came = new Promise<Message & { kind: K }>((resolve) => {
      heard = (message) => {
        if (message.kind === kind) resolve(message as Message & { kind: K });
      };
      child.on('message', heard);
    });
    return await Promise.race([came, this.broken]).finally(() => child.off('message', heard));
  }

  kill(): void {
    this.#process.kill('SIGKILL');
  }
}

/** Runs one job in one process. @returns its result */
export async function runAlone<T>(name: string, job: unknown, started: Started = {}): Promise<T> {
  const child = new Child(name, job, started);
  try {
    const { result } = await child.next('result');
    await child.exited;
    return result as T;
  } finally {
    child.kill();
  }
}

/** The result of a job on a primary, and what each of its replicas has used meanwhile. */
export interface ClusterRun<T> {
  readonly result: T;
  readonly replicas: readonly Used[];
}

/** What stands between a primary and its replicas. */
export interface Route {
  /** Where the primary is to dial a replica that listens there. */
  to(replica: string, port: number): Promise<number> | number;
  /** The primary has connected to all of them, and goes on. */
  marked(): void;
}

/** A primary that runs, and its replicas. */
export class Cluster {
  readonly primary: Child;
  readonly #replicas: readonly Child[];

  constructor(primary: Child, replicas: readonly Child[]) {
    this.primary = primary;
    this.#replicas = replicas;
  }

  /** The primary's next message of that kind. Rejects where any node fails or ends first. */
  async next<K extends Message['kind']>(kind: K): Promise<Message & { kind: K }> {
    const broken = this.#replicas.map((replica) => replica.broken);
    return await Promise.race([this.primary.next(kind), ...broken]);
  }

  /** What each replica has used since the primary marked last. */
  async used(): Promise<Used[]> {
    const answers = this.#replicas.map(async (replica) => {
      const next = replica.next('used');
      replica.send({ kind: 'used' });
      return (await next).used;
    });
    return await Promise.all(answers);
  }

  /** The primary has said all that it has to say. */
  async end(): Promise<void> {
    await this.primary.exited;
    for (const replica of this.#replicas) replica.send({ kind: 'close' });
    await Promise.all(this.#replicas.map((replica) => replica.exited));
  }

  kill(): void {
    for (const child of [this.primary, ...this.#replicas]) child.kill();
  }
}

/** What `children/<name>.mjs` is told, but for `node`, the options of its node. */
export interface ClusterJob {
  /** More options of the primary. */
  readonly options?: Partial<NodeOptions>;
  /** More options of every node. */
  readonly everywhere?: Partial<NodeOptions>;
}

/**
 * Starts a primary and, one for each further directory, its replicas.
 * @param name of the primary's file; the bare pipeline has replicas of its own
 * @param dirs data directories, the primary's first
 */
export async function startCluster(
  name: string,
  dirs: readonly string[],
  job: object & ClusterJob,
  started: Started = {},
  route?: Route,
  more: (nodeId: string) => Partial<NodeOptions> = () => ({}),
): Promise<Cluster> {
  const replicaName = name.startsWith('bare/') ? 'bare/replica' : 'replica';
  const replicas: Child[] = [];
  const optionsOf = (index: number): NodeOptions => {
    const nodeId = index === 0 ? 'primary' : `replica-${index}`;
    const options = { dataDir: dirs[index]!, nodeId, clusterId: 'bench' };
    return { ...options, ...job.everywhere, ...more(nodeId) };
  };
  try {
    for (let i = 1; i < dirs.length; i++) {
      replicas.push(new Child(replicaName, optionsOf(i), started));
    }
    const heard = await Promise.all(replicas.map((replica) => replica.next('listening')));
    const members = await Promise.all(
      heard.map(async ({ port }, i) => {
        const nodeId = `replica-${i + 1}`;
        return { nodeId, host: '127.0.0.1', port: (await route?.to(nodeId, port)) ?? port };
      }),
    );
    const node: NodeOptions = { ...optionsOf(0), replicas: members, ...job.options };
    const primary = new Child(name, { ...job, node }, started);
    primary.onMark(() => {
      route?.marked();
      for (const replica of replicas) replica.send({ kind: 'mark' });
    });
    return new Cluster(primary, replicas);
  } catch (error) {
    for (const replica of replicas) replica.kill();
    throw error;
  }
}

/** Runs the one job of a cluster, as `startCluster` does. */
export async function runCluster<T>(
  ...start: Parameters<typeof startCluster>
): Promise<ClusterRun<T>> {
  const cluster = await startCluster(...start);
  try {
    const { result } = await cluster.next('result');
    const run = { result: result as T, replicas: await cluster.used() };
    await cluster.end();
    return run;
  } finally {
    cluster.kill();
  }
}
