/**
 * The snapshot of one space as its replica sees it: asking for it, collecting its chunks, going on
 * where it was interrupted, and only when all of it is there and right, putting it in place.
 * Pure; main/snapshot/intake.ts carries out.
 */
import { crc32c } from '../crc.js';
import { failure } from '../errors.js';
import { SNAPSHOT_CHUNK_MAX_BYTES, SNAPSHOT_STALL_MS, SNAPSHOT_WINDOW_CHUNKS } from '../limits.js';
import type { Sequence } from '../position.js';
import { NO_SNAPSHOT, type SnapshotFacts, type SnapshotWhole } from './facts.js';
import type { Chunk } from './queue.js';

/**
 * `idle`: no link that would bring one. `asking`, `waiting` (until it asks again), `receiving`,
 * `verifying`: all is there, and read once more. `installing`: the host is given it.
 */
export type IntakePhase = 'idle' | 'asking' | 'waiting' | 'receiving' | 'verifying' | 'installing';

export type SinkInput =
  /** The primary's verdict on this space: it needs a snapshot. */
  | { readonly kind: 'wanted' }
  | { readonly kind: 'begun'; readonly facts: SnapshotFacts; readonly chunk: number }
  | { readonly kind: 'chunk'; readonly index: number; readonly chunk: Chunk }
  /** So many chunks are durable in the spool. */
  | { readonly kind: 'stored'; readonly chunks: number }
  | { readonly kind: 'ended'; readonly whole: SnapshotWhole }
  | { readonly kind: 'verified'; readonly isGood: boolean }
  | { readonly kind: 'installed' }
  | { readonly kind: 'wait'; readonly retryAfterMs: number }
  | {
      readonly kind: 'refused';
      readonly code: string;
      readonly reason: string;
      readonly retryAfterMs: number;
    }
  /** The spool cannot be written or read. */
  | { readonly kind: 'failed'; readonly code: string; readonly reason: string }
  | { readonly kind: 'unlinked' }
  /** The primary streams the space after all. */
  | { readonly kind: 'streamed' };

export type SinkEffect =
  | { readonly kind: 'request'; readonly snapshot: string; readonly chunks: number }
  /** A new spool, in the place of any that there is. */
  | { readonly kind: 'create'; readonly facts: SnapshotFacts }
  | { readonly kind: 'write'; readonly chunk: Chunk }
  | { readonly kind: 'progress'; readonly chunks: number }
  | { readonly kind: 'verify'; readonly whole: SnapshotWhole }
  | { readonly kind: 'install'; readonly facts: SnapshotFacts; readonly whole: SnapshotWhole }
  | { readonly kind: 'discard' }
  | { readonly kind: 'done'; readonly stage: 'stored' | 'installed' }
  | { readonly kind: 'refuse'; readonly code: string; readonly reason: string }
  | { readonly kind: 'started'; readonly sequence: Sequence; readonly chunk: number }
  | {
      readonly kind: 'lost';
      readonly code: string;
      readonly reason: string;
      readonly retryAfterMs: number;
    };

/** How far one has come. */
export interface IntakeProgress {
  readonly phase: IntakePhase;
  /** The entry up to which it stands; 0 while nothing of it is here. */
  readonly sequence: Sequence;
  /** Durable here. */
  readonly chunks: number;
  /** Received. */
  readonly bytes: number;
  readonly sinceMs: number;
}

export interface SinkOptions {
  readonly maxSnapshotBytes: number;
  readonly snapshotGraceMs: number;
  readonly backoffStepsMs: readonly number[];
}

export class SnapshotSink {
  readonly #options: SinkOptions;
  #phase: IntakePhase = 'idle';
  #sinceMs: number;
  /** When to ask again. */
  #againMs = 0;
  #facts: SnapshotFacts | undefined;
  #whole: SnapshotWhole | undefined;
  #received = 0;
  #bytes = 0;
  #stored = 0;
  #isLinked = false;
  #failures = 0;

  /** @param kept what a spool holds that an earlier life of the node has left */
  constructor(
    options: SinkOptions,
    nowMs: number,
    kept?: { readonly facts: SnapshotFacts; readonly chunks: number; readonly bytes: number },
  ) {
    this.#options = options;
    this.#sinceMs = nowMs;
    if (!kept) return;
    this.#facts = kept.facts;
    this.#received = kept.chunks;
    this.#stored = kept.chunks;
    this.#bytes = kept.bytes;
  }

  get phase(): IntakePhase {
    return this.#phase;
  }

  /** Something of one is here, or on its way. */
  get isBegun(): boolean {
    return this.#facts !== undefined;
  }

  get progress(): IntakeProgress {
    const sequence = this.#facts?.position.sequence ?? 0;
    const phase = this.#phase;
    return { phase, sequence, chunks: this.#stored, bytes: this.#bytes, sinceMs: this.#sinceMs };
  }

  /** A crash had come between: the host is given it again. */
  installAgain(nowMs: number): void {
    this.#become('installing', nowMs);
  }

  /**
   * @param chance in [0, 1): how much later than it may a replica asks again
   * Throws ProtocolViolation for what no primary sends, ChecksumMismatch for a chunk that is bad.
   */
  step(input: SinkInput, nowMs: number, chance: number): SinkEffect[] {
    switch (input.kind) {
      case 'wanted': {
        // Told anew on a link on which it is under way.
        const isUnderWay = this.#isBusy || (this.#isLinked && this.#phase !== 'idle');
        this.#isLinked = true;
        return isUnderWay ? [] : this.#ask(nowMs);
      }
      case 'begun':
        return this.#begun(input.facts, input.chunk, nowMs);
      case 'chunk':
        return this.#chunk(input.index, input.chunk, nowMs, chance);
      case 'stored':
        return this.#storedUpTo(input.chunks, nowMs);
      case 'ended':
        return this.#ended(input.whole, nowMs);
      case 'verified':
        return this.#verified(input.isGood, nowMs, chance);
      case 'installed':
        this.#forget();
        this.#failures = 0;
        this.#become('idle', nowMs);
        return this.#isLinked ? [{ kind: 'done', stage: 'installed' }] : [];
      case 'wait':
        if (this.#phase !== 'asking') return [];
        return this.#later(input.retryAfterMs, nowMs, chance);
      case 'refused': {
        if (this.#isBusy || this.#phase === 'idle') return [];
        const { code, reason, retryAfterMs } = input;
        return [
          { kind: 'lost', code, reason, retryAfterMs },
          ...this.#later(retryAfterMs, nowMs, chance),
        ];
      }
      case 'failed':
        return this.#failed(input.code, input.reason, nowMs, chance);
      case 'unlinked':
        this.#isLinked = false;
        if (!this.#isBusy) this.#become('idle', nowMs);
        return [];
      case 'streamed': {
        if (this.#phase === 'installing') {
          throw failure('ProtocolViolation', 'entries in the midst of a snapshot');
        }
        const had = this.#facts !== undefined;
        this.#forget();
        this.#become('idle', nowMs);
        return had ? [{ kind: 'discard' }] : [];
      }
    }
  }

  tick(nowMs: number): SinkEffect[] {
    const isDue = this.#phase === 'waiting' || this.#phase === 'asking';
    if (isDue && nowMs >= this.#againMs) return this.#ask(nowMs);
    const isOver = nowMs - this.#sinceMs >= this.#options.snapshotGraceMs;
    if (this.#phase !== 'idle' || !this.#facts || !isOver) return [];
    // Its primary does not keep the rest any more, either.
    this.#forget();
    return [{ kind: 'discard' }];
  }

  /** From here on it needs no link. */
  get #isBusy(): boolean {
    return this.#phase === 'verifying' || this.#phase === 'installing';
  }

  #become(phase: IntakePhase, nowMs: number): void {
    if (phase !== this.#phase) this.#sinceMs = nowMs;
    this.#phase = phase;
  }

  #forget(): void {
    this.#facts = undefined;
    this.#whole = undefined;
    this.#received = 0;
    this.#stored = 0;
    this.#bytes = 0;
  }

  #ask(nowMs: number): SinkEffect[] {
    this.#become('asking', nowMs);
    this.#whole = undefined;
    this.#againMs = nowMs + SNAPSHOT_STALL_MS;
    // What is still being written counts as well: asked when it is durable.
    if (this.#received > this.#stored) return [];
    const snapshot = this.#facts?.id ?? NO_SNAPSHOT;
    return [{ kind: 'request', snapshot, chunks: this.#stored }];
  }

  #later(ms: number, nowMs: number, chance: number): SinkEffect[] {
    this.#become('waiting', nowMs);
    this.#againMs = nowMs + ms * (1 + chance);
    return [];
  }

  #begun(facts: SnapshotFacts, chunk: number, nowMs: number): SinkEffect[] {
    if (this.#phase !== 'asking' && this.#phase !== 'waiting') {
      throw failure('ProtocolViolation', `a snapshot begins while this one is ${this.#phase}`);
    }
    const isSame = this.#facts?.id === facts.id;
    if (chunk !== (isSame ? this.#stored : 0)) {
      throw failure('ProtocolViolation', `a snapshot begins at chunk ${chunk}`);
    }
    this.#become('receiving', nowMs);
    const started: SinkEffect = { kind: 'started', sequence: facts.position.sequence, chunk };
    if (isSame) return [started];
    this.#forget();
    this.#facts = facts;
    return [{ kind: 'create', facts }, started];
  }

  #chunk(index: number, chunk: Chunk, nowMs: number, chance: number): SinkEffect[] {
    // Of one that was given up: it was on its way.
    if (this.#phase !== 'receiving') return [];
    const { crc, bytes } = chunk;
    const isNoSize = bytes.length === 0 || bytes.length > SNAPSHOT_CHUNK_MAX_BYTES;
    const isBeyond = this.#received - this.#stored >= 2 * SNAPSHOT_WINDOW_CHUNKS;
    if (index !== this.#received || isNoSize || isBeyond || this.#whole) {
      const found = `chunk ${index} of ${bytes.length} bytes, expected is ${this.#received}`;
      throw failure('ProtocolViolation', `${found}, stored ${this.#stored}`);
    }
    if (crc32c(bytes) !== crc) {
      throw failure('ChecksumMismatch', `chunk ${index} of a snapshot does not fit its CRC`);
    }
    const { maxSnapshotBytes } = this.#options;
    if (this.#bytes + bytes.length > maxSnapshotBytes) {
      // Another try brings the same: none soon.
      this.#failures = this.#options.backoffStepsMs.length;
      const reason = `it has more than maxSnapshotBytes, ${maxSnapshotBytes} bytes`;
      return this.#failed('SnapshotFailed', reason, nowMs, chance);
    }
    this.#received++;
    this.#bytes += bytes.length;
    return [{ kind: 'write', chunk }];
  }

  #storedUpTo(chunks: number, nowMs: number): SinkEffect[] {
    if (!this.#facts || chunks > this.#received) return [];
    this.#stored = chunks;
    const isAll = this.#stored === this.#received;
    if (this.#phase === 'asking' && isAll) return this.#ask(nowMs);
    if (this.#phase !== 'receiving') return [];
    return [{ kind: 'progress', chunks }, ...this.#verifyWhenWhole(nowMs)];
  }

  #ended(whole: SnapshotWhole, nowMs: number): SinkEffect[] {
    if (this.#phase !== 'receiving') return [];
    if (whole.chunks !== this.#received || whole.bytes !== this.#bytes) {
      const found = `${this.#received} chunks, ${this.#bytes} bytes`;
      throw failure('ProtocolViolation', `a snapshot ends behind ${found}, not as announced`);
    }
    this.#whole = whole;
    return this.#verifyWhenWhole(nowMs);
  }

  #verifyWhenWhole(nowMs: number): SinkEffect[] {
    if (!this.#whole || this.#stored < this.#received) return [];
    this.#become('verifying', nowMs);
    return [{ kind: 'verify', whole: this.#whole }];
  }

  #verified(isGood: boolean, nowMs: number, chance: number): SinkEffect[] {
    if (this.#phase !== 'verifying') return [];
    if (!isGood) {
      const reason = 'the bytes do not have the digest that was announced';
      return this.#failed('ChecksumMismatch', reason, nowMs, chance);
    }
    this.#become('installing', nowMs);
    const install: SinkEffect = { kind: 'install', facts: this.#facts!, whole: this.#whole! };
    return this.#isLinked ? [{ kind: 'done', stage: 'stored' }, install] : [install];
  }

  /** What was collected is of no use; nothing else was touched (row 57). */
  #failed(code: string, reason: string, nowMs: number, chance: number): SinkEffect[] {
    const steps = this.#options.backoffStepsMs;
    const retryAfterMs = steps[Math.min(this.#failures++, steps.length - 1)]!;
    this.#forget();
    const effects: SinkEffect[] = [
      { kind: 'discard' },
      { kind: 'lost', code, reason, retryAfterMs },
    ];
    if (!this.#isLinked) this.#become('idle', nowMs);
    else {
      effects.push({ kind: 'refuse', code, reason });
      this.#later(retryAfterMs, nowMs, chance);
    }
    return effects;
  }
}
