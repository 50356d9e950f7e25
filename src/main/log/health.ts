/**
 * Whether the log takes entries, in one word with its reason: ok; slow-disk (a write or fdatasync
 * has been under way for a second); read-only (no room, no rights, no descriptors: tried again by
 * itself); failed (only opening again helps). FAULTS rows 10, 13, 15, 24.
 */
import { type EngramError, failure, firstLine } from '../../shared/errors.js';
import { RESUME_POLL_MS, SLOW_DISK_MS } from '../../shared/limits.js';

export type LogState = 'ok' | 'slow-disk' | 'read-only' | 'failed';

export interface LogStatus {
  readonly state: LogState;
  readonly reason: string;
}

/** Why a disk may take writes again without anybody opening the log anew; by errno. */
const REASONS: Record<string, string> = {
  ENOSPC: 'disk-full',
  EDQUOT: 'disk-full',
  EROFS: 'read-only-file-system',
  EACCES: 'access-denied',
  EPERM: 'access-denied',
  EMFILE: 'too-many-open-files',
  ENFILE: 'too-many-open-files',
};

/** The reason of a passing failure; undefined for one that is final. */
export function passingReason(error: unknown): string | undefined {
  const cause = (error as EngramError).cause as NodeJS.ErrnoException | undefined;
  return REASONS[cause?.code ?? ''];
}

/** So often it is looked within the time that makes a disk a slow one. */
const LOOKS = 4;

export class LogHealth {
  readonly #changed: (status: LogStatus) => void;
  status: LogStatus = { state: 'ok', reason: '' };
  /** What appends are told while the log is read-only. */
  refusal: EngramError | undefined;
  #ioSinceMs: number | undefined;
  /** Looks that have found it under way: a turn of the event loop for its answer before each. */
  #looks = 0;
  readonly #watch: NodeJS.Timeout;
  #resuming: NodeJS.Timeout | undefined;
  #trying: Promise<void> | undefined;
  #isOver = false;

  constructor(changed: (status: LogStatus) => void) {
    this.#changed = changed;
    this.#watch = setInterval(() => this.#look(), SLOW_DISK_MS / LOOKS);
    this.#watch.unref();
  }

  #become(state: LogState, reason: string): void {
    if (this.status.state === state && this.status.reason === reason) return;
    this.status = { state, reason };
    this.#changed(this.status);
  }

  /** Runs a write or fdatasync, and notices when it takes long. */
  async timed(io: Promise<void>): Promise<void> {
    this.#ioSinceMs = performance.now();
    this.#looks = 0;
    try {
      await io;
    } finally {
      this.#ioSinceMs = undefined;
      if (this.status.state === 'slow-disk') this.#become('ok', 'the disk has answered');
    }
  }

  #look(): void {
    const since = this.#ioSinceMs;
    if (since === undefined || this.status.state !== 'ok') return;
    // A host that has kept the event loop to itself is no slow disk.
    if (++this.#looks < LOOKS) return;
    const ms = Math.round(performance.now() - since);
    if (ms >= SLOW_DISK_MS) this.#become('slow-disk', `an I/O call takes ${ms} ms`);
  }

  /**
   * No writes for now.
   * @param resume tried every RESUME_POLL_MS until it returns true
   */
  suspend(reason: string, cause: unknown, resume: () => Promise<boolean>): void {
    const found = `the log is read-only (${reason}): ${firstLine(cause)}`;
    const code = reason === 'disk-full' ? 'DiskFull' : 'ReadOnly';
    this.refusal = failure(code, found, { cause, details: { reason } });
    this.#become('read-only', reason);
    this.#later(reason, resume);
  }

  #later(reason: string, resume: () => Promise<boolean>): void {
    if (this.#isOver) return;
    this.#resuming = setTimeout(() => {
      this.#trying = this.#try(reason, resume);
    }, RESUME_POLL_MS);
    this.#resuming.unref();
  }

  async #try(reason: string, resume: () => Promise<boolean>): Promise<void> {
    const isResumed = await resume().catch(() => false);
    if (this.#isOver || this.status.state !== 'read-only') return;
    if (!isResumed) return this.#later(reason, resume);
    this.refusal = undefined;
    this.#become('ok', `no longer ${reason}`);
  }

  fail(error: Error): void {
    this.#end();
    this.#become('failed', firstLine(error));
  }

  #end(): void {
    this.#isOver = true;
    clearInterval(this.#watch);
    clearTimeout(this.#resuming);
  }

  /** Nothing is tried any more. Resolves when what is being tried has ended. */
  async close(): Promise<void> {
    this.#end();
    await this.#trying;
  }
}
