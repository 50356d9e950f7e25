/** A child of the demo: what it says, what it is told, and its end. */
import { type ChildProcess, fork } from 'node:child_process';
import type { DemoFigures, DemoFlushed, DemoMessage, DemoOrder, DemoStart } from './node.js';

const END_TIMEOUT_MS = 15_000;
const STDERR_KEPT = 2_000;

/** A failure of the demo or one of its processes; the message is for people. */
export class DemoError extends Error {
  /** The code of the error that a process ended with; undefined where it had none. */
  readonly code: string | undefined;

  constructor(message: string, code?: string) {
    super(message);
    this.code = code;
  }
}

/** What a process says over and over. */
export interface DemoNews {
  progress(figures: DemoFigures): void;
  flushed(nodeId: string, flushed: DemoFlushed): void;
}

export class DemoProcess {
  readonly nodeId: string;
  readonly #child: ChildProcess;
  /** How it ended; undefined when well. */
  readonly #exited: Promise<string | undefined>;
  /** Rejects DemoError when it fails, or dies without having been told to. */
  readonly failed: Promise<never>;
  readonly #said = new Map<string, DemoMessage>();
  readonly #heard = new Map<string, (message: DemoMessage) => void>();
  #stderr = '';
  #ending = false;

  constructor(start: DemoStart, news: DemoNews) {
    this.nodeId = start.nodeId;
    const file = new URL('./node.js', import.meta.url);
    // A group of its own: a terminal's interrupt reaches the parent, which ends it in order.
    this.#child = fork(file, { stdio: ['ignore', 'ignore', 'pipe', 'ipc'], detached: true });
    this.#child.stderr!.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString('utf8')).slice(-STDERR_KEPT);
    });
    this.#exited = new Promise((resolve) => {
      // `close`, not `exit`: then all of its stderr has come.
      this.#child.once('close', (code, signal) => {
        resolve(code === 0 ? undefined : (signal ?? `exit code ${code}`));
      });
      // Without a pid it never ran, and closes nothing.
      this.#child.on('error', (error) => {
        if (this.#child.pid === undefined) resolve(error.message);
      });
    });
    this.failed = new Promise((_, reject) => {
      this.#child.on('message', (message: DemoMessage) => {
        if (message.kind === 'failed') {
          reject(new DemoError(`${this.nodeId}: ${message.message}`, message.code));
        } else this.#hear(message, news);
      });
      void this.#exited.then((how) => {
        if (!this.#ending) reject(this.#died(how ?? 'exit code 0'));
      });
    });
    this.failed.catch(() => undefined);
    this.#child.send(start, () => undefined);
  }

  #hear(message: DemoMessage, news: DemoNews): void {
    if (message.kind === 'progress') news.progress(message.figures);
    else if (message.kind === 'flushed') news.flushed(this.nodeId, message.flushed);
    else {
      this.#said.set(message.kind, message);
      this.#heard.get(message.kind)?.(message);
    }
  }

  /** The message of this kind; rejects when the process fails or dies before it comes. */
  until<K extends 'listening' | 'page' | 'logged' | 'done'>(
    kind: K,
  ): Promise<DemoMessage & { kind: K }> {
    const heard = new Promise<DemoMessage & { kind: K }>((resolve) => {
      const hear = (message: DemoMessage): void => resolve(message as DemoMessage & { kind: K });
      const said = this.#said.get(kind);
      if (said) hear(said);
      else this.#heard.set(kind, hear);
    });
    return Promise.race([heard, this.failed]);
  }

  /** One that is gone does not hear it. */
  tell(order: DemoOrder): void {
    if (this.#child.connected) this.#child.send(order, () => undefined);
  }

  #died(how: string): DemoError {
    return new DemoError(`${this.nodeId} died (${how})\n${this.#stderr}`.trim());
  }

  /**
   * Asks the process to close its node and waits; after 15 s it is killed.
   * @returns how it ended; undefined when well
   */
  async end(): Promise<string | undefined> {
    this.#ending = true;
    this.tell('end');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), END_TIMEOUT_MS);
    const how = await this.#exited;
    clearTimeout(timer);
    return how;
  }

  /** As `end`; throws DemoError unless the node was closed in order. */
  async endWell(): Promise<void> {
    const how = await this.end();
    if (how !== undefined) throw this.#died(how);
  }

  /** Ends the process at once and waits for its end. */
  async kill(): Promise<void> {
    this.#ending = true;
    this.#child.kill('SIGKILL');
    await this.#exited;
  }
}
