/** One node of the soak as the outside sees it: its process, its memory, its answers. */
import { type ChildProcess, fork } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import type { Row } from './soak-ledger.js';

const PAGE_BYTES = 4_096;
const ANSWER_MS = 60_000;

export interface Figures {
  readonly spaces: readonly {
    readonly name: string;
    readonly first: number;
    readonly durable: number;
    readonly checkpoint: number;
    readonly applied: number;
    readonly replicas: readonly {
      readonly id: string;
      readonly state: string;
      readonly acked: number;
    }[];
  }[];
  readonly links: readonly {
    readonly id: string;
    readonly state: string;
    readonly reason: string;
  }[];
  readonly segments: number;
  readonly recycled: number;
  readonly slabsInUse: number;
  readonly heapBytes: number;
  /** Of the host's own payloads, and the node's slabs. */
  readonly buffersBytes: number;
  readonly refused: Readonly<Record<string, number>>;
  /** Batches without an outcome, or whose outcome has not been told. */
  readonly untold: number;
}

/** What one life of the primary has offered, and for how long, stops not counted. */
export interface Offered {
  readonly offered: number;
  readonly offeringMs: number;
}

type Message =
  | { kind: 'open'; port?: number; figures: Figures }
  | ({ kind: 'acks'; life: number; rows: [number, number, number, number][] } & Offered)
  | { kind: 'bad'; what: string }
  | { kind: 'answer'; id: number; result?: unknown; error?: string };

export interface ProcessHooks {
  acks(space: number, row: Row): void;
  offered(life: number, offered: Offered): void;
  /** What must never happen. */
  bad(what: string): void;
}

export type Request =
  | { kind: 'read'; space: string; from: number; to: number }
  | { kind: 'checkpoint'; space: string; sequence: number }
  | { kind: 'figures' | 'rest' | 'close' };

export class SoakProcess {
  readonly nodeId: string;
  readonly #hooks: ProcessHooks;
  #child: ChildProcess | undefined;
  #isExpectedToEnd = false;
  #errors = '';
  #asked = 0;
  readonly #answers = new Map<number, (message: Message & { kind: 'answer' }) => void>();
  isOpen = false;
  isStopped = false;
  openedMs = 0;
  port = 0;

  constructor(nodeId: string, hooks: ProcessHooks) {
    this.nodeId = nodeId;
    this.#hooks = hooks;
  }

  get isRunning(): boolean {
    return this.#child !== undefined;
  }

  /** Resolves when the node is open; or when it has been killed before. */
  async start(options: object): Promise<Figures | undefined> {
    const program = path.join(import.meta.dirname, 'soak-node.mjs');
    const argv = [JSON.stringify({ ...options, nodeId: this.nodeId })];
    const child = fork(program, argv, { stdio: ['ignore', 'ignore', 'pipe', 'ipc'], execArgv: [] });
    this.#child = child;
    this.#isExpectedToEnd = false;
    this.#errors = '';
    child.stderr!.on('data', (chunk) => {
      this.#errors = (this.#errors + String(chunk)).slice(-4_000);
    });
    return await new Promise((resolve) => {
      child.on('message', (message: Message) => {
        if (message.kind === 'open') {
          this.isOpen = true;
          this.openedMs = performance.now();
          this.port = message.port ?? 0;
          resolve(message.figures);
        } else this.#take(message);
      });
      child.on('close', (code, signal) => {
        if (!this.#isExpectedToEnd) {
          this.#hooks.bad(`${this.nodeId} ended by itself: ${signal ?? code}: ${this.#errors}`);
        }
        this.#ended(child);
        resolve(undefined);
      });
    });
  }

  #ended(child: ChildProcess): void {
    if (this.#child !== child) return;
    this.#child = undefined;
    this.isOpen = false;
    this.isStopped = false;
    for (const [id, answered] of this.#answers) answered({ kind: 'answer', id, error: 'it died' });
    this.#answers.clear();
  }

  #take(message: Exclude<Message, { kind: 'open' }>): void {
    switch (message.kind) {
      case 'acks':
        this.#hooks.offered(message.life, message);
        for (const [space, first, count, n] of message.rows) {
          this.#hooks.acks(space, [message.life, first, count, n]);
        }
        return;
      case 'bad':
        this.#hooks.bad(`${this.nodeId}: ${message.what}`);
        return;
      case 'answer':
        this.#answers.get(message.id)?.(message);
        this.#answers.delete(message.id);
        return;
    }
  }

  /** @returns undefined where the node died, or has no answer now */
  async ask<T>(request: Request, ms = ANSWER_MS): Promise<T | undefined> {
    const child = this.#child;
    if (!child || !this.isOpen) return undefined;
    const id = ++this.#asked;
    return await new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#answers.delete(id);
        resolve(undefined);
      }, ms);
      this.#answers.set(id, ({ result, error }) => {
        clearTimeout(timer);
        resolve(error === undefined ? (result as T) : undefined);
      });
      child.send({ ...request, id }, () => undefined);
    });
  }

  stop(): void {
    this.isStopped = true;
    this.#child?.kill('SIGSTOP');
  }

  goOn(): void {
    this.isStopped = false;
    this.#child?.kill('SIGCONT');
  }

  /** SIGKILL. Resolves when it is gone. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (!child) return;
    this.#isExpectedToEnd = true;
    const gone = new Promise((resolve) => child.once('close', resolve));
    child.kill('SIGKILL');
    await gone;
  }

  /** The node closes, then its process ends. */
  async close(): Promise<boolean> {
    this.#isExpectedToEnd = true;
    const closed = await this.ask({ kind: 'close' });
    await this.kill();
    return closed !== undefined;
  }

  /** Resident memory and open files; undefined while it does not run. */
  sample(): { rssBytes: number; files: number } | undefined {
    const pid = this.#child?.pid;
    if (pid === undefined) return undefined;
    try {
      const pages = fs.readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1];
      return {
        rssBytes: Number(pages) * PAGE_BYTES,
        files: fs.readdirSync(`/proc/${pid}/fd`).length,
      };
    } catch {
      // It is just ending.
      return undefined;
    }
  }
}
