/**
 * Three real nodes, each in a process of its own: whoever dials one does so by its proxy, which can
 * be cut, and any of them can be killed. A process whose node was closed is used again later.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';
import type { Appended, ReadRange } from '#src/main/index.js';
import { at, makeFolder, removeFolder, SMALL } from '../support/cluster.js';
import { freePort } from '../support/etcd.js';
import { TcpProxy } from '../support/tcp-proxy.js';

export const IDS = ['a', 'b', 'c'] as const;
export type Id = (typeof IDS)[number];

const NODE = path.join(import.meta.dirname, 'tokens-node.mjs');
/** What does not move for so long is a hang: that many looks, however slow the machine is. */
const STILL_LOOKS = 3_000;
const LOOK_MS = 10;
const LOOKS_MAX = 60_000;

/** What a call of a node has rejected with; `Gone`: its process was killed meanwhile. */
export class Refused extends Error {
  readonly code: string;
  readonly details: Record<string, unknown>;

  constructor({
    code,
    message,
    details = {},
  }: { code: string; message: string; details?: object }) {
    super(message);
    this.code = code;
    this.details = { ...details };
  }
}

export interface Status {
  readonly role: 'primary' | 'replica' | 'unknown';
  readonly epoch: number;
  readonly primaryNodeId: string;
  readonly lastSequence: number;
  readonly lastHostSequence: number;
  /** On so many replicas: by number. */
  readonly isReplicated: readonly boolean[];
}

/** An entry as a node gives it, and its host has it. */
export interface Line extends Appended {
  readonly type: number;
  readonly ns: bigint;
  readonly text: string;
}

export function lineOf(line: string): Line {
  const [sequence, epoch, type, ns, hex] = line.split(' ');
  const text = Buffer.from(hex!, 'hex').toString();
  const numbers = { sequence: Number(sequence), epoch: Number(epoch), type: Number(type) };
  return { ...numbers, ns: BigInt(ns!), text };
}

interface Answer {
  readonly id?: number;
  readonly value?: unknown;
  readonly error?: ConstructorParameters<typeof Refused>[0];
  readonly violation?: string;
}

class Process {
  readonly #child: ChildProcess;
  readonly #asked = new Map<number, (answer: Answer) => void>();
  readonly exited: Promise<void>;
  #count = 0;
  #errors = '';
  /** What its host has seen that may not be. */
  violation = '';

  constructor() {
    const stdio = ['ignore', 'ignore', 'pipe', 'ipc'] as const;
    this.#child = spawn(process.execPath, [NODE], { stdio: [...stdio] });
    this.#child.stderr!.on('data', (chunk) => {
      this.#errors = (this.#errors + chunk).slice(-5_000);
    });
    this.#child.on('message', ({ id, ...answer }: Answer) => {
      this.violation ||= answer.violation ?? '';
      this.#asked.get(id ?? 0)?.(answer);
      this.#asked.delete(id ?? 0);
    });
    this.exited = new Promise((resolve) => {
      this.#child.on('exit', (_, signal) => {
        if (signal !== 'SIGKILL') this.violation ||= `it has ended by itself: ${this.#errors}`;
        for (const answer of this.#asked.values()) answer(GONE);
        this.#asked.clear();
        resolve();
      });
    });
  }

  ask(what: string, given: object): Promise<Answer> {
    const id = ++this.#count;
    return new Promise((resolve) => {
      this.#asked.set(id, resolve);
      this.#child.send({ id, what, given }, (error) => {
        if (!error) return;
        this.#asked.delete(id);
        resolve(GONE);
      });
    });
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.exited;
  }
}

const GONE: Answer = { error: { code: 'Gone', message: 'its process was killed' } };

export class World {
  static readonly #idle: Process[] = [];
  readonly #folder = makeFolder();
  readonly #ports = new Map<Id, number>();
  readonly #proxies = new Map<Id, TcpProxy>();
  readonly #processes = new Map<Id, Process>();

  static async make(): Promise<World> {
    const world = new World();
    for (const id of IDS) {
      const port = await freePort();
      world.#ports.set(id, port);
      world.#proxies.set(id, new TcpProxy(port));
      await world.#proxies.get(id)!.listen();
    }
    await Promise.all(IDS.map((id) => world.start(id)));
    return world;
  }

  /** Ends the processes that no world uses. */
  static async end(): Promise<void> {
    await Promise.all(World.#idle.splice(0).map((one) => one.kill()));
  }

  get up(): Id[] {
    return IDS.filter((id) => this.#processes.has(id));
  }

  /** Opens a node that is down. */
  async start(id: Id): Promise<void> {
    const reached = (one: Id) => at(one, this.#proxies.get(one)!.port);
    this.#processes.set(id, World.#idle.pop() ?? new Process());
    await this.ask(id, 'open', {
      ...SMALL,
      nodeId: id,
      dataDir: path.join(this.#folder, id),
      file: path.join(this.#folder, `${id}.applied`),
      listen: { host: '127.0.0.1', port: this.#ports.get(id) },
      advertise: { host: '127.0.0.1', port: reached(id).port },
      replicas: IDS.filter((other) => other !== id).map(reached),
      lead: id === 'a',
      openConfirmMs: 5_000,
    });
  }

  async stop(id: Id): Promise<void> {
    const process = this.#processes.get(id)!;
    await this.ask(id, 'close');
    this.#processes.delete(id);
    World.#idle.push(process);
  }

  async kill(id: Id): Promise<void> {
    const process = this.#processes.get(id)!;
    this.#processes.delete(id);
    await process.kill();
    if (process.violation) throw new Error(`${id}: ${process.violation}`);
  }

  /** Rejects Refused. */
  async ask<T = void>(id: Id, what: string, given: object = {}): Promise<T> {
    const process = this.#processes.get(id)!;
    const { value, error } = await process.ask(what, given);
    if (process.violation) throw new Error(`${id}: ${process.violation}`);
    if (error) throw new Refused(error);
    return value as T;
  }

  async read(id: Id, range: ReadRange = {}): Promise<Line[]> {
    return (await this.ask<string[]>(id, 'read', range)).map(lineOf);
  }

  status(id: Id): Promise<Status> {
    return this.ask<Status>(id, 'status');
  }

  /** Nobody reaches another one: connections are refused. */
  async cut(): Promise<void> {
    for (const proxy of this.#proxies.values()) await proxy.close();
  }

  async heal(): Promise<void> {
    for (const proxy of this.#proxies.values()) await proxy.listen();
  }

  /** However long it takes, as long as what the nodes say of themselves still changes. */
  async until(what: string, check: () => Promise<boolean>): Promise<void> {
    let seen = '';
    let still = 0;
    for (let looks = 0; !(await check()); looks++) {
      const now = JSON.stringify(await Promise.all(this.up.map((id) => this.status(id))));
      still = now === seen ? still + 1 : 0;
      seen = now;
      if (still > STILL_LOOKS || looks > LOOKS_MAX) throw new Error(`never: ${what}: ${seen}`);
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  /** All that are up have what `leader` has, and it says so. */
  async settled(leader: Id): Promise<void> {
    await this.until('all have it', async () => {
      const { role, isReplicated } = await this.status(leader);
      return role === 'primary' && isReplicated[this.up.length - 1]!;
    });
  }

  async close(): Promise<void> {
    try {
      await Promise.all(this.up.map((id) => this.stop(id)));
    } finally {
      await Promise.all([...this.#processes.values()].map((one) => one.kill()));
      await this.cut();
      removeFolder(this.#folder);
    }
  }
}
