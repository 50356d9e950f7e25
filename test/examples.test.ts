/** Each example as a process of its own: killed in the middle, run again, its promise checked. */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

const ROOT = path.join(import.meta.dirname, '..');

let dir: string;
const running = new Set<Example>();

beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'engram-wal-example-'));
});
afterEach(async () => {
  for (const example of running) await example.kill();
  fs.rmSync(dir, { recursive: true, force: true });
});

/** A run of one example, and the lines that it has printed. */
class Example {
  readonly lines: string[] = [];
  stderr = '';
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | null>;

  constructor(name: string, ...args: string[]) {
    const file = path.join(ROOT, 'examples', name);
    this.#child = spawn(process.execPath, ['--import', 'tsx', file, ...args], { cwd: ROOT });
    readline
      .createInterface({ input: this.#child.stdout! })
      .on('line', (line) => this.lines.push(line));
    this.#child.stderr!.on('data', (chunk) => {
      this.stderr += chunk;
    });
    // It may have been killed.
    this.#child.stdin!.on('error', () => undefined);
    this.#ended = new Promise((resolve) => this.#child.once('close', resolve));
    running.add(this);
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

  async kill(): Promise<void> {
    await this.signal('SIGKILL');
  }

  async #over(): Promise<number | null> {
    const code = await this.#ended;
    running.delete(this);
    return code;
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

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = net.createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as net.AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

describe('event-store.ts', () => {
  test('what was answered with ok is there, in its order, none below zero', async () => {
    const data = path.join(dir, 'data');
    const accounts = ['anna', 'ben', 'clara'];
    const answered = new Map(accounts.map((name) => [name, 0]));
    let asked = 0;
    for (let life = 0; life < 3; life++) {
      const store = new Example('event-store.ts', data);
      for (const name of accounts) store.say(`balance ${name}`);
      await store.until('all balances', () => store.lines.length === accounts.length);
      for (const name of accounts) {
        const [, version, balance] = (
          await store.line(new RegExp(`^ok balance ${name}: version (\\d+), balance (\\d+)$`))
        ).map(Number) as [number, number, number];
        // Each version deposits one: nothing is there twice, and nothing that was answered is not.
        expect(balance).toBe(version);
        expect(version).toBeGreaterThanOrEqual(answered.get(name)!);
        expect(version).toBeLessThanOrEqual(asked);
      }
      // More than it has: whatever was there before, none of these may pass.
      store.say(...accounts.map((name) => `withdraw ${name} 1000000`));
      for (const name of accounts) await store.line(new RegExp(`^no withdraw ${name} .*only \\d+`));
      for (let i = 0; i < 1_000; i++) store.say(...accounts.map((name) => `deposit ${name} 1`));
      asked += 1_000;
      await store.until('some answers', () => store.lines.length > 500);
      await store.kill();
      for (const name of accounts) {
        const told = store.lines.filter((line) => line.startsWith(`ok deposit ${name} `));
        const versions = told.map((line) => Number(/version (\d+)/.exec(line)![1]));
        expect(versions).toEqual([...versions].sort((a, b) => a - b));
        answered.set(name, versions.at(-1) ?? answered.get(name)!);
      }
    }
    expect(Math.min(...answered.values())).toBeGreaterThan(0);
  });

  test('SIGTERM answers what was asked for, and ends well', async () => {
    const store = new Example('event-store.ts', path.join(dir, 'data'));
    store.say('deposit anna 5', 'withdraw anna 6', 'withdraw anna 5', 'close anna');
    await store.until('answers', () => store.lines.length === 4);
    expect(await store.signal('SIGTERM')).toBe(0);
    expect(store.stderr).toBe('');
    expect(store.lines.toSorted()).toEqual([
      'no close anna: an amount is from 1: 100',
      'no withdraw anna 6: only 5 there',
      'ok deposit anna 5: version 1, balance 5',
      'ok withdraw anna 5: version 2, balance 0',
    ]);
  });
});

describe('queue.ts', () => {
  test('what was told as queued is done, and only what was under way is done again', async () => {
    const data = path.join(dir, 'data');
    const queued = new Set<string>();
    const done = new Map<string, number>();
    let jobs = 0;
    const told = (queue: Example): void => {
      for (const line of queue.lines) {
        const [, how, number, job] = /^(queued|done) (\d+) (.*)$/.exec(line)!;
        if (how === 'queued') queued.add(job!);
        else done.set(job!, (done.get(job!) ?? 0) + 1);
        expect(Number(number)).toBeGreaterThan(0);
      }
    };
    for (let life = 0; life < 3; life++) {
      const queue = new Example('queue.ts', data);
      queue.say(...Array.from({ length: 1_000 }, () => `job-${jobs++}`));
      const worked = (): number => queue.lines.filter((line) => line.startsWith('done')).length;
      await queue.until('some are done', () => worked() > 300);
      await queue.kill();
      told(queue);
    }
    const last = new Example('queue.ts', data);
    expect(await last.end()).toBe(0);
    told(last);
    expect(queued.size).toBeGreaterThan(300);
    expect([...queued].filter((job) => !done.has(job))).toEqual([]);
    // What was done since the last checkpoint: jobs under way, and those of one fdatasync.
    const again = [...done.values()].filter((times) => times > 1).length;
    expect(again).toBeLessThan(600);
    // All of it is given up: another run has nothing to do.
    const idle = new Example('queue.ts', data);
    expect(await idle.end()).toBe(0);
    expect(idle.lines).toEqual([]);
  });

  test('a job that never works is put aside, and holds nothing up', async () => {
    const data = path.join(dir, 'data');
    const queue = new Example('queue.ts', data);
    queue.say('fail always', 'one', 'two');
    expect(await queue.end()).toBe(0);
    expect(fs.readFileSync(`${data}.dead`, 'utf8')).toBe('1 fail always\n');
    expect(queue.lines.filter((line) => line.startsWith('done')).toSorted()).toEqual([
      'done 2 one',
      'done 3 two',
    ]);
    expect(queue.stderr.match(/attempt \d/g)).toEqual(['attempt 1', 'attempt 2', 'attempt 3']);
  });

  test('SIGTERM ends it while input is open: the rest is done the next time', async () => {
    const data = path.join(dir, 'data');
    const queue = new Example('queue.ts', data);
    queue.say(...Array.from({ length: 3_000 }, (_, i) => `job-${i}`));
    await queue.until('some are done', () => queue.lines.some((line) => line.startsWith('done')));
    expect(await queue.signal('SIGTERM')).toBe(0);
    expect(queue.stderr).toBe('');
    const next = new Example('queue.ts', data);
    expect(await next.end()).toBe(0);
    const lines = [...queue.lines, ...next.lines];
    const of = (how: string): string[] =>
      lines
        .filter((line) => line.startsWith(how))
        .map((line) => line.slice(how.length))
        .toSorted();
    // An orderly end: none twice.
    expect(of('done')).toEqual(of('queued'));
  });
});

describe('kv-store.ts', () => {
  const VALUE = 'v'.repeat(16_000);

  async function countOf(store: Example): Promise<string> {
    const counts = (): string[] => store.lines.filter((line) => /^\d+ keys, /.test(line));
    const before = counts().length;
    store.say('count');
    await store.until('count', () => counts().length > before);
    return counts().at(-1)!;
  }

  test('survives kill -9; an empty follower gets the state, and what comes after it', async () => {
    const port = String(await freePort());
    const [a, b] = [path.join(dir, 'a'), path.join(dir, 'b')];
    let lead = new Example('kv-store.ts', 'lead', a, port);
    for (let i = 0; i < 1_500; i++) lead.say(`put key-${i} ${VALUE}${i}`);
    const acked = (): number => lead.lines.filter((line) => line.startsWith('ok')).length;
    await lead.until('most answers', () => acked() > 1_000);
    await lead.kill();
    const last = acked() - 1;
    lead = new Example('kv-store.ts', 'lead', a, port);
    lead.say('get key-0', `get key-${last}`, 'del key-0');
    await lead.until('answers', () => acked() === 1);
    expect(lead.lines.slice(1, 3)).toEqual([`${VALUE}0`, `${VALUE}${last}`]);
    // What is saved is not kept in the log as well, nor for one that is away, beyond a bound.
    lead.say('save');
    for (let i = 0; i < 1_500; i++) lead.say(`put more-${i} ${VALUE}`);
    lead.say('save');
    const wanted = Number(/^\d+/.exec(await countOf(lead))![0]);
    expect(wanted).toBeGreaterThanOrEqual(last + 1_500);
    await lead.until('the beginning is freed', () => {
      const names = fs.readdirSync(path.join(a, 'log'));
      return !names.includes('wal-0000000000000000.log');
    });

    let follow = new Example('kv-store.ts', 'follow', b, port);
    await expect.poll(() => countOf(follow), { timeout: 40_000 }).toContain(`${wanted} keys`);
    expect(fs.readdirSync(path.join(b, 'state'))).toEqual([expect.stringMatching(/^state-\d+$/)]);
    // Killed under load; what it lacks comes to it from the log.
    for (let i = 0; i < 500; i++) lead.say(`put late-${i} ${VALUE}`);
    await lead.until('some answers', () => acked() > 1_600);
    await follow.kill();
    lead.say('put last one', 'del late-0');
    const all = await countOf(lead);
    expect(all).toContain(`${wanted + 500} keys`);
    follow = new Example('kv-store.ts', 'follow', b, port);
    await expect.poll(() => countOf(follow), { timeout: 40_000 }).toContain(`${wanted + 500} keys`);
    const told = follow.lines.length;
    follow.say('get last', 'get late-0', 'put not here');
    await follow.until('three answers', () => follow.lines.length === told + 3);
    const answers = follow.lines.slice(told).toSorted();
    expect(answers).toEqual(['(none)', expect.stringMatching(/^no \(NotPrimary\)/), 'one']);
    expect(await follow.signal('SIGTERM')).toBe(0);
    expect(await lead.signal('SIGTERM')).toBe(0);
    expect([lead.stderr, follow.stderr]).toEqual(['', '']);
  }, 180_000);
});

describe('ingest-http.ts', () => {
  async function serve(): Promise<{ server: Example; url: string }> {
    const server = new Example('ingest-http.ts', path.join(dir, 'data'), '0', 'tenant-a', 'b');
    const [, url] = await server.line(/^listens on (\S+)$/);
    return { server, url: url! };
  }

  const post = (url: string, key: string, body: string): Promise<Response> =>
    fetch(url, { method: 'POST', headers: { 'idempotency-key': key }, body });

  async function keptAt(url: string): Promise<{ key: string; event: { n: number } }[]> {
    const lines = (await (await fetch(url)).text()).split('\n').slice(0, -1);
    return lines.map((line) => JSON.parse(line));
  }

  test('each event is kept once, however often it is sent, and over kill -9', async () => {
    const EVENTS = 450;
    const sequences = new Map<string, number>();
    let life = await serve();
    let kills = 0;
    // Ten clients, each sends until it gets an answer; twice, as clients do that have timed out.
    const send = async (n: number): Promise<void> => {
      const key = `event-${n}`;
      for (;;) {
        const { url } = life;
        try {
          const answers = [1, 2].map(() => post(`${url}/tenant-a`, key, `{"n":${n}}`));
          for (const answer of await Promise.all(answers)) {
            expect(answer.status).toBe(200);
            const { sequence } = (await answer.json()) as { sequence: number };
            // An answer that was given is the answer for ever.
            expect(sequences.get(key) ?? sequence).toBe(sequence);
            sequences.set(key, sequence);
          }
          return;
        } catch (error) {
          if (!(error instanceof TypeError)) throw error;
          await sleep(20);
        }
      }
    };
    let next = 0;
    const client = async (): Promise<void> => {
      while (next < EVENTS) await send(next++);
    };
    const clients = Promise.all(Array.from({ length: 10 }, client));
    for (const at of [150, 300]) {
      await life.server.until(`${at} answers`, () => sequences.size > at);
      await life.server.kill();
      kills++;
      life = await serve();
    }
    await clients;
    expect({ kills, answered: sequences.size }).toEqual({ kills: 2, answered: EVENTS });
    // Sent again to a server that has read its keys from the log.
    await life.server.kill();
    life = await serve();
    for (const n of [0, 200, EVENTS - 1]) await send(n);
    const kept = await keptAt(`${life.url}/tenant-a`);
    expect(kept.map(({ key }) => key).toSorted()).toEqual([...sequences.keys()].toSorted());
    expect(kept.every(({ key, event }) => key === `event-${event.n}`)).toBe(true);
    expect(await keptAt(`${life.url}/b`)).toEqual([]);
    expect(await life.server.signal('SIGTERM')).toBe(0);
    expect(life.server.stderr).toBe('');
  });

  test('what cannot be kept is refused, and says why', async () => {
    const { server, url } = await serve();
    const status = async (answer: Promise<Response>): Promise<number> => (await answer).status;
    expect(await status(post(`${url}/nobody`, 'k', '{}'))).toBe(404);
    expect(await status(post(`${url}//b`, 'k', '{}'))).toBe(404);
    expect(await status(post(`${url}/b`, '', '{}'))).toBe(400);
    expect(await status(post(`${url}/b`, 'k', '{'))).toBe(400);
    expect(await status(post(`${url}/b`, 'k', `"${'x'.repeat(300_000)}"`))).toBe(413);
    expect(await status(fetch(`${url}/b?from=0`))).toBe(400);
    expect(await status(fetch(`${url}/b`, { method: 'PUT' }))).toBe(405);
    expect(await keptAt(`${url}/b`)).toEqual([]);
    // A key that was refused is free.
    expect(await status(post(`${url}/b`, 'k', '{"n":1}'))).toBe(200);
    expect(await keptAt(`${url}/b?from=1`)).toEqual([{ sequence: 1, key: 'k', event: { n: 1 } }]);
    expect(await keptAt(`${url}/b?from=2`)).toEqual([]);
    expect(await server.signal('SIGTERM')).toBe(0);
  });
});
