/** An example as a process of its own: what it is told, and what it says. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { transformSync } from 'esbuild';
import type { EachTest } from './cluster.js';
import { freePort } from './etcd.js';
import { TcpProxy } from './tcp-proxy.js';

export const ROOT = path.join(import.meta.dirname, '../..');

/** What the compiler of `tsx` made of each. */
const compiled = new Map<string, string>();

/**
 * The example without its types, as `npx tsx` would run it: that program takes longer to start
 * than the example itself, and tests start many.
 */
function withoutTypes(life: EachTest, file: string): string {
  const of = fs.readFileSync(file, 'utf8');
  const code = compiled.get(of) ?? transformSync(of, { loader: 'ts', target: 'node20' }).code;
  compiled.set(of, code);
  let dir = path.dirname(file);
  if (dir === path.join(ROOT, 'examples')) {
    dir = path.join(life.folder, 'example');
    const modules = path.join(dir, 'node_modules');
    fs.mkdirSync(modules, { recursive: true });
    const link = path.join(modules, 'engram-wal');
    if (!fs.existsSync(link)) fs.symlinkSync(ROOT, link);
  }
  const program = path.join(dir, `${path.basename(file, '.ts')}.mjs`);
  if (!fs.existsSync(program)) fs.writeFileSync(program, code);
  return program;
}

/** A run of one example, and the lines that it has printed. */
export class Example {
  readonly lines: string[] = [];
  stderr = '';
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | null>;

  /** @param file below examples/, or the whole path of a copy */
  constructor(life: EachTest, file: string, ...args: string[]) {
    const program = withoutTypes(life, path.resolve(ROOT, 'examples', file));
    this.#child = spawn(process.execPath, [program, ...args], { cwd: ROOT });
    readline
      .createInterface({ input: this.#child.stdout! })
      .on('line', (line) => this.lines.push(line));
    this.#child.stderr!.on('data', (chunk) => {
      this.stderr += chunk;
    });
    // It may have been killed.
    this.#child.stdin!.on('error', () => undefined);
    this.#ended = new Promise((resolve) => this.#child.once('close', resolve));
    life.finally(() => this.kill());
  }

  say(...lines: string[]): void {
    this.#child.stdin!.write(lines.map((line) => `${line}\n`).join(''));
  }

  /** No more is said. @returns the exit code */
  async end(): Promise<number | null> {
    this.#child.stdin!.end();
    return await this.#over();
  }

  async signal(signal: NodeJS.Signals): Promise<number | null> {
    this.#child.kill(signal);
    return await this.#over();
  }

  /** SIGSTOP, or SIGCONT: it lives on. */
  send(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async kill(): Promise<void> {
    await this.signal('SIGKILL');
  }

  async #over(): Promise<number | null> {
    return await this.#ended;
  }

  async until(what: string, isThere: () => boolean): Promise<void> {
    const deadlineMs = performance.now() + 40_000;
    while (!isThere()) {
      if (performance.now() > deadlineMs) {
        throw new Error(
          `not within 40 s: ${what}\n${this.lines.slice(-5).join('\n')}\n${this.stderr}`,
        );
      }
      await sleep(5);
    }
  }

  /** The first line that fits, however long it takes. */
  async line(pattern: RegExp): Promise<RegExpExecArray> {
    let found: RegExpExecArray | null | undefined;
    await this.until(`${pattern}`, () => {
      found = this.lines.map((line) => pattern.exec(line)).find((match) => match !== null);
      return found !== undefined && found !== null;
    });
    return found!;
  }
}

/** What several of one cluster are told of each other, as `NAME=PORT`. */
export async function placesOf(...names: string[]): Promise<string[]> {
  const places: string[] = [];
  for (const name of names) places.push(`${name}=${await freePort()}`);
  return places;
}

/** An operator at a machine: the command line beside the program that runs there. */
export async function engramWal(...args: string[]): Promise<string> {
  const bin = path.join(ROOT, 'dist/main/cli.js');
  return (await promisify(execFile)(process.execPath, [bin, ...args], { timeout: 50_000 })).stdout;
}

/** The first of two leads; what it takes once it is cut off reaches nobody, and is taken back. */
export class Overtaken {
  readonly a: Example;
  readonly b: Example;
  readonly #proxy: TcpProxy;

  private constructor(a: Example, b: Example, proxy: TcpProxy) {
    this.a = a;
    this.b = b;
    this.#proxy = proxy;
  }

  static async make(life: EachTest, start: (name: string, places: string[]) => Example) {
    const [a = '', b = ''] = await placesOf('a', 'b');
    const proxy = new TcpProxy(Number(b.split('=')[1]));
    await proxy.listen();
    life.finally(() => proxy.close());
    return new Overtaken(start('a', [a, `b=${proxy.port}`]), start('b', [a, b]), proxy);
  }

  /** Nothing that `a` sends arrives, and it is not told. */
  cutOff(): void {
    this.#proxy.stall('forth');
  }

  /** `b` comes to lead while `a` stands still; then `a` goes on, and hears of it. */
  async promote(logOfB: string, space: string): Promise<void> {
    this.a.send('SIGSTOP');
    await this.#proxy.close();
    await engramWal('promote', logOfB, '--space', space);
    // What waited in it is gone.
    this.#proxy.flow();
    await this.#proxy.listen();
    this.a.send('SIGCONT');
  }

  /** Asks again until the answer fits. */
  async answer(of: 'a' | 'b', question: string, pattern: RegExp): Promise<string> {
    const example = this[of];
    for (let tries = 0; ; tries++) {
      const told = example.lines.length;
      example.say(question);
      await example.until(question, () => example.lines.length > told);
      const answer = example.lines[told]!;
      if (pattern.test(answer)) return answer;
      if (tries === 200) throw new Error(`${question}: ${answer}, and not ${pattern}`);
      await sleep(100);
    }
  }
}
