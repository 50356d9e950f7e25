/** The processes of a peer's servers: started, asked what they have used, ended. */
import { type ChildProcess, type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';

const USER_HZ = 100;
const DEADLINE_MS = 30_000;
const OUTPUT_MAX = 4_000;

const running = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** One server process. */
export class Server {
  readonly #child: ChildProcess;
  readonly #name: string;
  #output = '';
  readonly gone: Promise<void>;

  constructor(command: string, args: readonly string[], options: SpawnOptions = {}) {
    this.#name = command;
    this.#child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    running.add(this.#child);
    const heard = (chunk: Buffer): void => {
      this.#output = (this.#output + chunk).slice(-OUTPUT_MAX);
    };
    this.#child.stdout!.on('data', heard);
    this.#child.stderr!.on('data', heard);
    this.gone = new Promise((resolve) => {
      this.#child.once('error', () => resolve());
      this.#child.once('exit', () => resolve());
    });
    void this.gone.then(() => running.delete(this.#child));
  }

  get pid(): number {
    return this.#child.pid!;
  }

  /** Resolves when `isUp` does not fail any more. Throws what the server says when it ends. */
  async until(isUp: () => Promise<unknown>): Promise<void> {
    const deadline = performance.now() + DEADLINE_MS;
    for (;;) {
      if (this.#child.exitCode !== null) throw new Error(`${this.#name}: ${this.#output}`);
      try {
        await isUp();
        return;
      } catch (error) {
        if (performance.now() > deadline) throw error;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }

  /** @param signal on which it ends at once */
  async stop(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.#child.kill(signal);
    await this.gone;
  }
}

/** Fails where nobody listens. */
export async function knock(port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(void socket.destroy()));
    socket.once('error', reject);
  });
}

/** Runs to its end. Throws what it says where that is not good. */
export function finish(
  command: string,
  args: readonly string[],
  options: SpawnOptions = {},
): string {
  const done = spawnSync(command, args, { ...options, encoding: 'utf8', stdio: 'pipe' });
  if (done.status === 0) return String(done.stdout);
  throw new Error(`${command}: ${done.error?.message ?? done.stderr}`);
}

/** What the first of these programs says of its version; undefined where none is here. */
export function versionOf(commands: readonly string[]): string | undefined {
  for (const command of commands) {
    const said = spawnSync(command, ['--version'], { encoding: 'utf8' });
    const version = /\d+\.\d+(\.\d+)?/.exec(said.stdout + said.stderr)?.[0];
    if (said.status === 0 && version) return version;
  }
  return undefined;
}

/** Seconds of processor time of these processes and of all that they have started. */
export function cpuSecondsOf(pids: readonly number[]): number {
  const children = new Map<number, number[]>();
  const ticks = new Map<number, number>();
  for (const name of fs.readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const stat = readStat(name);
    if (!stat) continue;
    const [parent, used] = stat;
    ticks.set(Number(name), used);
    children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  let sum = 0;
  const queue = [...pids];
  for (let pid = queue.pop(); pid !== undefined; pid = queue.pop()) {
    sum += ticks.get(pid) ?? 0;
    queue.push(...(children.get(pid) ?? []));
  }
  return sum / USER_HZ;
}

/** Its parent and the ticks that it has used; undefined where it has just ended. */
function readStat(pid: string): [number, number] | undefined {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name, in brackets, may hold anything.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // Its own, and of those that it has waited for: PostgreSQL's backends end with the client.
    const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
    return [Number(fields[1]), ticks];
  } catch {
    return undefined;
  }
}
