/**
 * A pair of nodes replicates under load while everybody attacks it who can reach it: strangers,
 * holders of the key who are no members, a member that says anything (in the place of one that was
 * killed), browsers, users of the operator's socket. No crash, no hang, bounded memory, no byte of
 * a log altered, nobody else leads; and the load hardly notices: it is compared with the same
 * attack on a port of nobody's, in turn.
 *
 *   npm run hostile -- [--transport key|tls] [--frames N] [--connections N] [--seconds S]
 *     [--seed S] [--save]
 */
import { type ChildProcess, fork } from 'node:child_process';
import fs from 'node:fs';
import type net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { findSocket } from '#src/main/watch/admin/socket.js';
import { idOf } from '#src/shared/names.js';
import { Authority } from '../support/certificates.js';
import { chanceFrom } from '../support/chance.js';
import { Attackers, Counts, type Identity, overTls, PLAIN, type Transport } from './attackers.js';
import { type Facts, HostileFrames } from './frames.js';

export interface HostileResult {
  readonly seed: number;
  readonly transport: string;
  readonly seconds: number;
  readonly frames: number;
  readonly connections: number;
  /** Whose handshake succeeded. */
  readonly admitted: number;
  readonly connectionsBy: Readonly<Record<string, number>>;
  readonly framesByKind: Readonly<Record<string, number>>;
  readonly entries: number;
  /** Acknowledged on both nodes a second: medians of the turns; and their ratio. */
  readonly attackedPerSecond: number;
  readonly leftAlonePerSecond: number;
  readonly throughputRatio: number;
  /** Processors that each took, of all threads: left alone, and under attack. */
  readonly processors: Readonly<Record<string, readonly [number, number]>>;
  /** Resident, MiB, by node: before the attack, the most during it. */
  readonly memoryMiB: Readonly<Record<string, readonly [number, number]>>;
  /** The longest that the event loop of each node stood still, ms. */
  readonly longestTurnMs: Readonly<Record<string, number>>;
  /** Appends of the healthy pair, by code: there are none, or the run has failed. */
  readonly refused: Readonly<Record<string, number>>;
  /** The first of them, and what the leader told of roles; ms since its process began. */
  readonly why?: Why;
}

interface Why {
  readonly refusals: readonly { readonly ms: number; readonly message: string }[];
  readonly told: readonly { readonly ms: number; readonly name: string; readonly event: object }[];
}

interface Figures {
  readonly acked: number;
  readonly refused: Readonly<Record<string, number>>;
  readonly why: Why;
  readonly longestTurnMs: number;
  readonly cpuMs: number;
  readonly role: string;
  readonly epoch: number;
  readonly durableSequence: number;
  readonly links: readonly {
    readonly replicaId: string;
    readonly state: string;
    readonly reason: string;
  }[];
}

const RESULTS = path.join(import.meta.dirname, '../../bench/results');
const CLUSTER = 'hostile';
const SPACE = 's';
const KEY = Buffer.from('a key that hostile members have');
const TURN_MS = 3_000;
const AT_ONCE = 24;
const ANSWER_MS = 30_000;
/** All that hours have logged is read. */
const CONTENT_MS = 3_600_000;
const OPTIONS = { clusterId: CLUSTER, segmentBytes: 16 * 1024 * 1024 };
const OWN = { ...OPTIONS, maxSlotBytes: 64 * 1024 * 1024, http: { port: 0 } };
const NODES = ['a', 'b', 'c'] as const;

/** Whose processors are counted. */
const WHO = ['a', 'b', 'attackers'] as const;

interface Turn {
  /** Entries acknowledged meanwhile. */
  readonly perSecond: number;
  readonly ms: number;
  /** Of WHO. */
  readonly cpuMs: readonly number[];
}

export type How = 'key' | 'tls';

/** One node in a process of its own. */
class Attacked {
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #answers = new Map<number, (message: { result?: never; error?: string }) => void>();
  #asked = 0;
  port = 0;
  http = 0;
  /** What it ended with; undefined: it lives. */
  ended: string | undefined;
  mostBytes = 0;

  constructor(name: string, options: object, load: boolean) {
    this.name = name;
    const argv = [JSON.stringify({ options, load })];
    this.#child = fork(path.join(import.meta.dirname, 'node.mjs'), argv, { execArgv: [] });
    this.#child.on('exit', (code, signal) => {
      this.ended = `${signal ?? code}`;
      for (const answer of this.#answers.values())
        answer({ error: `${name} ended: ${this.ended}` });
    });
    this.#child.on('message', (message: { id: number; result?: never; error?: string }) => {
      this.#answers.get(message.id)?.(message);
      this.#answers.delete(message.id);
    });
  }

  async open(): Promise<this> {
    const told = await new Promise<{ port: number; http: number }>((resolve, reject) => {
      this.#child.once('message', (message: { port: number; http: number }) => resolve(message));
      this.#child.once('exit', () => reject(new Error(`${this.name} did not open`)));
    });
    this.port = told.port;
    this.http = told.http;
    return this;
  }

  /** Throws where it is dead, or does not answer. */
  async ask(ask: 'figures' | 'stop' | 'flushed', last?: number): Promise<Figures> {
    return (await this.#ask({ ask, last })) as Figures;
  }

  async content(): Promise<{ count: number; digest: string }> {
    return (await this.#ask({ ask: 'content' }, CONTENT_MS)) as { count: number; digest: string };
  }

  async #ask(message: object, withinMs = ANSWER_MS): Promise<unknown> {
    if (this.ended !== undefined) throw new Error(`${this.name} ended: ${this.ended}`);
    const id = ++this.#asked;
    return await new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`${this.name} hangs`)), withinMs);
      this.#answers.set(id, ({ result, error }) => {
        clearTimeout(late);
        if (error === undefined) resolve(result);
        else reject(new Error(`${this.name}: ${error}`));
      });
      this.#child.send({ id, ...message });
    });
  }

  get rssBytes(): number {
    const text = fs.readFileSync(`/proc/${this.#child.pid}/status`, 'utf8');
    const bytes = 1024 * Number(/VmRSS:\s+(\d+)/.exec(text)![1]);
    this.mostBytes = Math.max(this.mostBytes, bytes);
    return bytes;
  }

  async kill(): Promise<void> {
    if (this.ended !== undefined) return;
    const over = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    await over;
  }
}

/** Where attacks go. */
interface Aim {
  readonly ports: readonly { readonly port: number; readonly nodeId: string }[];
  readonly http: readonly number[];
  readonly sockets: readonly {
    readonly socket: net.NetConnectOpts;
    readonly shown: Record<string, unknown>;
  }[];
}

export class Hostile {
  readonly #seed: number;
  readonly #how: How;
  readonly #root = fs.mkdtempSync(path.join(os.tmpdir(), 'engram-wal-hostile-'));
  readonly #nodes = new Map<string, Attacked>();
  readonly #counts = new Counts();
  readonly #tls = new Map<string, { certFile: string; keyFile: string }>();
  /** In whose place somebody says anything. */
  #member: Identity | undefined;

  /** @param how nodes know each other */
  constructor(seed: number, how: How) {
    this.#seed = seed;
    this.#how = how;
  }

  async #start(name: string, options: object, load = false): Promise<Attacked> {
    const proof = this.#how === 'key' ? { key: KEY.toString() } : { tls: this.#tls.get(name) };
    const own = { ...OWN, nodeId: name, dataDir: path.join(this.#root, name), ...proof };
    const node = new Attacked(name, { ...own, ...options }, load);
    this.#nodes.set(name, node);
    return await node.open();
  }

  /**
   * Until so many frames on so many connections, or so long; whole turns, at least so many: the
   * ratio wants two. Throws with what is wrong.
   */
  async run(
    frames: number,
    connections: number,
    seconds: number,
    progress: (text: string) => void,
    leastTurns = 2,
  ): Promise<HostileResult> {
    const begun = performance.now();
    let evil: net.Server | undefined;
    const sink = fork(path.join(import.meta.dirname, 'sink.mjs'), { execArgv: [] });
    try {
      const nobody = await new Promise<number>((resolve) => {
        sink.once('message', ({ port }: { port: number }) => resolve(port));
      });
      await this.#certify();
      const [a, b, members] = await this.#cluster();
      progress('a leads, b follows');
      const facts: Facts = {
        space: SPACE,
        spaceId: idOf(SPACE),
        epoch: (await a.ask('figures')).epoch,
        nodeIds: ['a', 'b', 'c', 'nobody'],
        directoryIds: Object.values(members.directories),
        last: 1,
      };
      const chance = chanceFrom(this.#seed);
      const made = new HostileFrames(facts, chance);
      const attackers = new Attackers(this.#transport(), made, chance, this.#counts);
      this.#member = this.#identity('c', members.directories.c!);
      evil = attackers.listen(this.#member);
      const server = evil;
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(members.portOfC, '127.0.0.1', resolve);
      });
      const theirs = await this.#aimAt(a, b);
      const elsewhere = aimAtNobody(nobody);
      const before = new Map([a, b].map((node) => [node.name, node.rssBytes] as const));
      const [alone, attacked]: [Turn[], Turn[]] = [[], []];
      const isDone = (): boolean =>
        (this.#counts.frames >= frames && this.#counts.connections >= connections) ||
        performance.now() - begun >= seconds * 1_000;
      while (!isDone() || alone.length < leastTurns) {
        alone.push(await this.#turn(a, b, attackers, elsewhere, facts, new Counts()));
        attacked.push(await this.#turn(a, b, attackers, theirs, facts, this.#counts));
        const { frames: said, connections: made } = this.#counts;
        const refused = JSON.stringify((await a.ask('figures')).refused);
        progress(`${said} frames on ${made} connections; refused ${refused}`);
      }
      const entries = await this.#compare(a, b, facts.epoch);
      const rates = [attacked, alone].map((turns) => median(turns.map((turn) => turn.perSecond)));
      const processors = [alone, attacked].map(processorsOf);
      const [last, other] = [await a.ask('figures'), await b.ask('figures')];
      const isWhole = Object.keys(last.refused).length === 0;
      const MiB = 1024 * 1024;
      const mib = (bytes: number): number => Math.round(bytes / MiB);
      return {
        seed: this.#seed,
        transport: this.#how,
        seconds: Math.round((performance.now() - begun) / 1_000),
        frames: this.#counts.frames,
        connections: this.#counts.connections,
        admitted: this.#counts.admitted,
        connectionsBy: this.#counts.by,
        framesByKind: made.made,
        entries,
        attackedPerSecond: Math.round(rates[0]!),
        leftAlonePerSecond: Math.round(rates[1]!),
        throughputRatio: Number((rates[0]! / rates[1]!).toFixed(2)),
        processors: Object.fromEntries(
          WHO.map((who, n) => [who, [processors[0]![n]!, processors[1]![n]!] as const]),
        ),
        memoryMiB: Object.fromEntries(
          [a, b].map((n) => [n.name, [mib(before.get(n.name)!), mib(n.mostBytes)] as const]),
        ),
        longestTurnMs: { a: last.longestTurnMs, b: other.longestTurnMs },
        refused: last.refused,
        ...(isWhole ? {} : { why: last.why }),
      };
    } finally {
      evil?.close();
      sink.kill();
      for (const node of this.#nodes.values()) await node.kill();
      fs.rmSync(this.#root, { recursive: true, force: true });
    }
  }

  /** Who is of the cluster has a certificate: mallory, too, whom nobody has made a member. */
  async #certify(): Promise<void> {
    if (this.#how !== 'tls') return;
    const authority = await Authority.make(this.#root, CLUSTER);
    for (const name of [...NODES, 'mallory']) {
      this.#tls.set(name, await authority.tlsOf(name, { clusterId: CLUSTER }));
    }
  }

  #transport(): Transport {
    if (this.#how === 'key') return PLAIN;
    const files = [...this.#tls].map(([name, { certFile, keyFile }]) => {
      return [name, { cert: fs.readFileSync(certFile), key: fs.readFileSync(keyFile) }] as const;
    });
    return overTls(new Map(files));
  }

  /** a leads, b and c follow, all three are members; then c is no more, and its place is taken. */
  async #cluster(): Promise<
    [Attacked, Attacked, { portOfC: number; directories: Record<string, string> }]
  > {
    const listen = { host: '127.0.0.1', port: 0 };
    const b = await this.#start('b', { listen });
    const c = await this.#start('c', { listen });
    const replicas = [b, c].map(({ name, port }) => ({ nodeId: name, host: '127.0.0.1', port }));
    const a = await this.#start('a', { listen, replicas }, true);
    await acknowledged(a);
    await c.kill();
    const directories = Object.fromEntries(
      NODES.map((name) => {
        const file = path.join(this.#root, name, 'node.json');
        return [name, JSON.parse(fs.readFileSync(file, 'utf8')).directoryId as string];
      }),
    );
    return [a, b, { portOfC: c.port, directories }];
  }

  #identity(nodeId: string, directoryId: string): Identity {
    const key = this.#how === 'key' ? KEY : undefined;
    return { clusterId: CLUSTER, nodeId, directoryId, key };
  }

  async #aimAt(...nodes: Attacked[]): Promise<Aim> {
    const sockets = nodes.map(async ({ name }) => {
      const { socket, ...shown } = await findSocket(path.join(this.#root, name));
      return { socket: { path: socket }, shown };
    });
    return {
      ports: nodes.map(({ port, name }) => ({ port, nodeId: name })),
      http: nodes.map(({ http }) => http),
      sockets: await Promise.all(sockets),
    };
  }

  /** One turn of attacks. */
  async #turn(
    a: Attacked,
    b: Attacked,
    attackers: Attackers,
    aim: Aim,
    facts: Facts,
    counts: Counts,
  ): Promise<Turn> {
    const [before, other] = [await a.ask('figures'), await b.ask('figures')];
    facts.last = before.durableSequence;
    const own = process.cpuUsage();
    const begun = performance.now();
    const end = begun + TURN_MS;
    attackers.counts = counts;
    const one = async (): Promise<void> => {
      while (performance.now() < end) await this.#attack(attackers, aim);
    };
    const watch = setInterval(() => {
      for (const node of [a, b]) if (node.ended === undefined) node.rssBytes;
    }, 200);
    await Promise.all(Array.from({ length: AT_ONCE }, one));
    clearInterval(watch);
    const ms = performance.now() - begun;
    const { user, system } = process.cpuUsage(own);
    const [after, otherAfter] = [await a.ask('figures'), await b.ask('figures')];
    const cpuMs = [after.cpuMs - before.cpuMs, otherAfter.cpuMs - other.cpuMs];
    const link = after.links.find(({ replicaId }) => replicaId === 'b');
    if (link?.state !== 'streaming' && link?.state !== 'catching-up') {
      throw new Error(`the link to b: ${link?.state}, ${link?.reason}`);
    }
    const perSecond = (1_000 * (after.acked - before.acked)) / ms;
    return { perSecond, ms, cpuMs: [...cpuMs, (user + system) / 1_000] };
  }

  async #attack(attackers: Attackers, { ports, http, sockets }: Aim): Promise<void> {
    const { chance } = attackers;
    const { port, nodeId } = ports[chance(ports.length)]!;
    const member = this.#member!;
    const holder = this.#identity('mallory', idOf('mallory'));
    switch (chance(10)) {
      case 0:
      case 1:
        return await attackers.stranger(port);
      case 2:
        return await attackers.greeter(port, member, nodeId);
      case 3:
        return await attackers.node(port, { ...holder, key: undefined }, nodeId, false);
      case 4:
        return await attackers.node(port, holder, nodeId, chance(2) === 0);
      case 5:
      case 6:
        return await attackers.node(port, member, nodeId, false);
      case 7:
        return await attackers.node(port, member, nodeId, true);
      case 8:
        return await attackers.browser(http[chance(http.length)]!);
      default: {
        const { socket, shown } = sockets[chance(sockets.length)]!;
        return await attackers.operator(socket, shown);
      }
    }
  }

  /** Nobody else leads, and both logs hold the same. @returns how many entries of the host */
  async #compare(a: Attacked, b: Attacked, epoch: number): Promise<number> {
    await a.ask('stop');
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    const { durableSequence } = await a.ask('figures');
    await a.ask('flushed', durableSequence);
    const roles = [await a.ask('figures'), await b.ask('figures')];
    const seen = roles.map((r) => `${r.role} in epoch ${r.epoch}`).join(', ');
    if (seen !== `primary in epoch ${epoch}, replica in epoch ${epoch}`) throw new Error(seen);
    const [here, there] = [await a.content(), await b.content()];
    if (here.digest !== there.digest) throw new Error(`a has ${here.count}, b ${there.count}`);
    return here.count;
  }
}

/** Entries are acknowledged by replicas: its members have agreed who counts. */
async function acknowledged(node: Attacked): Promise<void> {
  for (let n = 0; n < 200; n++) {
    if ((await node.ask('figures')).acked > 1_000) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error('nobody acknowledges');
}

function aimAtNobody(port: number): Aim {
  return {
    ports: ['a', 'b'].map((nodeId) => ({ port, nodeId })),
    http: [port],
    sockets: [{ socket: { port, host: '127.0.0.1' }, shown: {} }],
  };
}

/** Of each of WHO. */
function processorsOf(turns: readonly Turn[]): number[] {
  const ms = turns.reduce((sum, turn) => sum + turn.ms, 0);
  return WHO.map((_, n) => {
    const cpuMs = turns.reduce((sum, turn) => sum + turn.cpuMs[n]!, 0);
    return Number((cpuMs / ms).toFixed(3));
  });
}

function median(values: readonly number[]): number {
  return values.toSorted((x, y) => x - y)[Math.floor(values.length / 2)]!;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      frames: { type: 'string', default: '1000000' },
      connections: { type: 'string', default: '20000' },
      seconds: { type: 'string', default: '7200' },
      seed: { type: 'string', default: '1' },
      transport: { type: 'string', default: 'key' },
      save: { type: 'boolean', default: false },
    },
  });
  const { frames, connections, seconds, seed, save, transport } = values;
  if (transport !== 'key' && transport !== 'tls') throw new Error('--transport: key or tls');
  const progress = (text: string): void => {
    process.stderr.write(`${text}\n`);
  };
  const hostile = new Hostile(Number(seed), transport);
  const result = await hostile.run(Number(frames), Number(connections), Number(seconds), progress);
  const found = { name: 'hostile', ...result, node: process.version };
  const text = `${JSON.stringify(found, undefined, 2)}\n`;
  process.stdout.write(text);
  if (save) fs.writeFileSync(path.join(RESULTS, `hostile-${transport}.json`), text);
  if (result.why) throw new Error('appends of the healthy pair were refused');
}

if (process.argv[1] === import.meta.filename) await main();
