/**
 * A failover before your eyes, on this machine: an etcd, three nodes, load; the leader of most
 * spaces is killed, the others take over, it comes back. `npm run demo:failover`.
 */
import { type ChildProcess, fork, spawn, spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { complain, sayLine } from '../output.js';
import type { FromFailoverNode, ToFailoverNode } from './failover-node.js';

const TTL_MS = 3_000;
const LOAD_MS = 2_000;
const STEP_TIMEOUT_MS = 60_000;
const SPACES = ['anna', 'ben', 'clara', 'david', 'emma', 'felix'];
const NO_ETCD = `This demo needs etcd, and there is none on the PATH.
  Debian, Ubuntu:  apt-get install etcd-server
  elsewhere:       https://etcd.io/docs/latest/install/`;

type Acked = FromFailoverNode & { kind: 'acked' };

function now(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

function say(line: string): void {
  sayLine(line);
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = net.createServer().on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as net.AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

/** Resolves when `check` holds; rejects with `what` after a minute. */
async function until(what: string, check: () => boolean): Promise<void> {
  const deadline = now() + STEP_TIMEOUT_MS;
  while (!check()) {
    if (now() > deadline) throw new Error(`not within ${STEP_TIMEOUT_MS / 1_000} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** One node, and what it has told. */
class Actor {
  readonly nodeId: string;
  readonly told: FromFailoverNode[] = [];
  readonly #start: string;
  readonly #heard: (actor: Actor, message: FromFailoverNode) => void;
  #child: ChildProcess | undefined;

  constructor(
    nodeId: string,
    base: string,
    endpoint: string,
    heard: (actor: Actor, message: FromFailoverNode) => void,
  ) {
    this.nodeId = nodeId;
    this.#heard = heard;
    const dataDir = path.join(base, nodeId);
    this.#start = JSON.stringify({ nodeId, dataDir, endpoint, ttlMs: TTL_MS });
  }

  /** Resolves with what it says when it is ready. */
  async start(): Promise<FromFailoverNode & { kind: 'ready' }> {
    const program = new URL('./failover-node.js', import.meta.url);
    const child = fork(program, [this.#start], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
    this.#child = child;
    child.on('message', (message: FromFailoverNode) => {
      this.told.push(message);
      this.#heard(this, message);
    });
    return await this.#next('ready');
  }

  async #next<K extends FromFailoverNode['kind']>(
    kind: K,
  ): Promise<FromFailoverNode & { kind: K }> {
    const from = this.told.length;
    const found = (): FromFailoverNode | undefined =>
      this.told.slice(from).find((m) => m.kind === kind);
    await until(`${this.nodeId} says ${kind}`, () => found() !== undefined);
    return found() as FromFailoverNode & { kind: K };
  }

  async ask<K extends FromFailoverNode['kind']>(
    message: ToFailoverNode,
    kind: K,
  ): Promise<FromFailoverNode & { kind: K }> {
    const answer = this.#next(kind);
    this.#child?.send(message);
    return await answer;
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await gone;
  }
}

class Story {
  readonly #actors: Actor[];
  readonly #acked: { actor: Actor; ack: Acked }[] = [];
  readonly #leaders = new Map<string, string>();
  #killedMs = 0;

  constructor(base: string, endpoint: string) {
    this.#actors = ['a', 'b', 'c'].map(
      (id) => new Actor(id, base, endpoint, (actor, message) => this.#heard(actor, message)),
    );
  }

  #heard(actor: Actor, message: FromFailoverNode): void {
    if (message.kind === 'acked') this.#acked.push({ actor, ack: message });
    if (message.kind === 'leader' && message.by !== '')
      this.#leaders.set(message.space, message.by);
    if (message.kind === 'promoted' && this.#killedMs > 0) {
      const { space, epoch, tookMs, atMs } = message;
      const how = `in epoch ${epoch} (elected and promoted in ${tookMs.toFixed(0)} ms)`;
      say(`${this.#since(atMs)}  ${space} is led by ${actor.nodeId} ${how}`);
    }
    if (message.kind === 'rewound') {
      const { space, entries, quarantine } = message;
      const what = `${entries} of ${space} that only ${actor.nodeId} had`;
      say(`            taken back: ${what}, now in ${path.basename(quarantine)}`);
    }
  }

  #since(atMs: number): string {
    return `+${((atMs - this.#killedMs) / 1_000).toFixed(2)} s`.padStart(10);
  }

  #ledBy(actor: Actor): string[] {
    return SPACES.filter((space) => this.#leaders.get(space) === actor.nodeId);
  }

  /** @returns whether everything that was promised is there, the same on all three */
  async tell(): Promise<boolean> {
    for (const actor of this.#actors) {
      const { host, port } = await actor.start();
      say(`node ${actor.nodeId} listens at ${host}:${port}`);
    }
    await this.#actors[0]!.ask({ kind: 'open', spaces: SPACES }, 'opened');
    for (const actor of this.#actors) await actor.ask({ kind: 'open', spaces: SPACES }, 'opened');
    await until('all spaces are led', () => this.#leaders.size === SPACES.length);
    const led = this.#actors.map(
      (actor) => `${actor.nodeId} leads ${this.#ledBy(actor).join(', ')}`,
    );
    say(`${SPACES.length} spaces; etcd has it that ${led.join('; ')}`);
    for (const actor of this.#actors) await actor.ask({ kind: 'load', on: true }, 'settled');
    await new Promise((resolve) => setTimeout(resolve, LOAD_MS));
    await until('all are appended to', () => this.#isAppended(SPACES, () => true));
    say(`${this.#acked.length} entries acknowledged, every second one on a replica's disk too`);
    const victim = await this.#kill();
    await this.#comeBack(victim);
    return await this.#prove();
  }

  #isAppended(spaces: readonly string[], by: (actor: Actor) => boolean): boolean {
    return spaces.every((s) => this.#acked.some(({ actor, ack }) => ack.space === s && by(actor)));
  }

  async #kill(): Promise<Actor> {
    const byLoad = [...this.#actors].sort((x, y) => this.#ledBy(y).length - this.#ledBy(x).length);
    const victim = byLoad[0]!;
    const orphans = this.#ledBy(victim);
    say(`kill -9 ${victim.nodeId}, which leads ${orphans.join(', ')}`);
    this.#killedMs = now();
    await victim.kill();
    say(`${this.#since(now())}  it is gone; its lease lives for up to ${TTL_MS / 1_000} s`);
    const others = this.#actors.filter((actor) => actor !== victim);
    const gone = (): number[] =>
      others.flatMap((actor) =>
        actor.told.flatMap((m) =>
          m.kind === 'leader' && m.by === '' && m.atMs > this.#killedMs ? [m.atMs] : [],
        ),
      );
    await until('etcd takes its lease back', () => gone().length > 0);
    const goneMs = Math.min(...gone());
    say(`${this.#since(goneMs)}  etcd deletes its key: ${orphans.join(', ')} have no leader`);
    await until('all are appended to again', () =>
      this.#isAppended(orphans, (actor) => actor !== victim),
    );
    for (const space of orphans) {
      const { ack } = this.#acked.find((a) => a.ack.space === space && a.actor !== victim)!;
      const late = (ack.atMs - goneMs).toFixed(0);
      say(`${this.#since(ack.atMs)}  ${space} is appended to again, ${late} ms after that`);
    }
    return victim;
  }

  async #comeBack(victim: Actor): Promise<void> {
    say(`${victim.nodeId} is started again`);
    const from = victim.told.length;
    await victim.start();
    await victim.ask({ kind: 'load', on: true }, 'settled');
    await new Promise((resolve) => setTimeout(resolve, LOAD_MS));
    const taken = victim.told.slice(from).filter((m) => m.kind === 'rewound');
    if (taken.length === 0) say('            nothing was to be taken back: others had all of it');
    say(`            it follows; what it led is led by the others`);
  }

  async #prove(): Promise<boolean> {
    for (const actor of this.#actors) await actor.ask({ kind: 'load', on: false }, 'settled');
    let logs: string[] = [];
    let contents: (FromFailoverNode & { kind: 'content' })[] = [];
    const deadline = now() + STEP_TIMEOUT_MS;
    do {
      contents = [];
      for (const actor of this.#actors) contents.push(await actor.ask({ kind: 'read' }, 'content'));
      logs = contents.map(({ spaces }) => JSON.stringify(SPACES.map((s) => spaces[s])));
    } while (logs.some((log) => log !== logs[0]) && now() < deadline);
    const isSame = logs.every((log) => log === logs[0]);
    const there = new Set(
      SPACES.flatMap((space) =>
        contents[0]!.spaces[space]!.map((e) => `${space} ${e.split(' ').slice(3).join(' ')}`),
      ),
    );
    const promised = this.#acked.filter(({ ack }) => ack.isReplicated);
    const lost = promised.filter(({ ack }) => !there.has(`${ack.space} ${ack.payload}`));
    say(
      `${promised.length} entries were acknowledged with { replicas: 1 }: ` +
        `${lost.length === 0 ? 'all are there' : `${lost.length} ARE LOST`}; the three logs are ` +
        `${isSame ? 'identical' : 'NOT identical'}, ${there.size} entries each`,
    );
    return isSame && lost.length === 0;
  }

  async end(): Promise<void> {
    await Promise.all(this.#actors.map((actor) => actor.kill()));
  }
}

async function startEtcd(base: string): Promise<{ endpoint: string; child: ChildProcess }> {
  const endpoint = `http://127.0.0.1:${await freePort()}`;
  const peers = `http://127.0.0.1:${await freePort()}`;
  const child = spawn(
    'etcd',
    [
      ...['--name', 'demo', '--data-dir', path.join(base, 'etcd')],
      ...['--listen-client-urls', endpoint, '--advertise-client-urls', endpoint],
      ...['--listen-peer-urls', peers, '--initial-advertise-peer-urls', peers],
      ...['--initial-cluster', `demo=${peers}`],
    ],
    { stdio: 'ignore' },
  );
  return { endpoint, child };
}

async function main(): Promise<number> {
  if (spawnSync('etcd', ['--version']).status !== 0) {
    complain(NO_ETCD);
    return 2;
  }
  const base = await mkdtemp(path.join(os.tmpdir(), 'engram-wal-failover-'));
  const { endpoint, child } = await startEtcd(base);
  say(`etcd is started at ${endpoint}`);
  const story = new Story(base, endpoint);
  let stopped!: (code: number) => void;
  const interrupted = new Promise<number>((resolve) => {
    stopped = resolve;
  });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => stopped(2));
  try {
    const told = story.tell().then((isWhole) => (isWhole ? 0 : 2));
    return await Promise.race([told, interrupted]);
  } finally {
    await story.end();
    child.kill('SIGKILL');
    await rm(base, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  }
}

main().then(
  (code) => process.exit(code),
  (error: Error) => {
    complain(error.message);
    process.exit(2);
  },
);
