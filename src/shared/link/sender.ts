/**
 * One replica as its primary sees it: dialling, handshake, heartbeats, silence, backoff, and what
 * is in flight. Pure: time and chance come in as arguments, effects go out; workers/ship/shipper.ts
 * carries them out.
 */

import { assert, failure } from '../errors.js';
import {
  ACK_FAST_MS,
  ACK_SLOW_MS,
  ACK_STALL_MS,
  CHECKSUMS_TO_OPEN,
  FRAME_FIRST_BYTES,
  FRAME_SMALLEST_BYTES,
  HANDSHAKE_DEADLINE_MS,
  HEARTBEAT_MS,
  MET_AGAIN_MS,
  PAST_LIFE_MS,
  REFUSED_STEP_MS,
  STABLE_MS,
} from '../limits.js';
import { GIVEN_UP, type LossCause, lossCauseOf } from '../memory/loss-cause.js';
import type { Epoch, Sequence } from '../position.js';
import {
  ACK_APPLIED,
  ACK_EPOCH,
  ACK_FLUSHED,
  ACK_HANDLE,
  type Handle,
  type PositionRow,
} from '../wire/protocol.js';
import type { LinkReport, LinkState } from './control.js';
import { Flight } from './flight.js';

export interface SenderOptions {
  readonly connectTimeoutMs: number;
  readonly backoffStepsMs: readonly number[];
  /** Failures in a row that make it a failed one. */
  readonly maxRetries: number;
  readonly readTimeoutMs: number;
  readonly writeTimeoutMs: number;
  readonly windowBytes: number;
  readonly catchUpBatchBytes: number;
  /** What catch-up may read from disk, in all; 0: as much as it can. */
  readonly catchUpBytesPerSecond: number;
}

export type SenderInput =
  | { readonly kind: 'start' }
  | { readonly kind: 'connected' }
  /** `isNewLife`: by another process than the one that welcomed us last. */
  | { readonly kind: 'welcomed'; readonly isNewLife: boolean }
  /** The replica has dialled this node, so it lives. `isNewLife`: not the process of this link. */
  | { readonly kind: 'met'; readonly isNewLife: boolean }
  /** Bytes have arrived. */
  | { readonly kind: 'heard' }
  /** Bytes have been handed to the socket, or taken by it. */
  | { readonly kind: 'wrote' }
  /** There is something new to ship: a wait for the next attempt is over. */
  | { readonly kind: 'hurry' }
  | { readonly kind: 'caught-up' }
  | { readonly kind: 'fell-behind' }
  | {
      readonly kind: 'lost';
      readonly reason: string;
      /** Of the error that ended the link, where there is one. */
      readonly code: string | undefined;
      /** Trying again soon will not help. */
      readonly isFatal: boolean;
    }
  /** Somebody waits for an answer: one attempt more, which backoff does not count. */
  | { readonly kind: 'again' }
  /** What ended the link is mended. */
  | { readonly kind: 'retry' }
  | { readonly kind: 'close' };

export type SenderEffect =
  | { readonly kind: 'dial' }
  | { readonly kind: 'greet' }
  | { readonly kind: 'introduce' }
  | { readonly kind: 'heartbeat' }
  | { readonly kind: 'drop' }
  | { readonly kind: 'report' };

/** How far one space has come on this replica. */
const FIELDS = 4;
/** 0: the space is not streamed. */
const EPOCH = 0;
const SENT = 1;
const FLUSHED = 2;
const APPLIED = 3;
const FIRST_ROWS = 64;

/** The breaker is open: one line, as any state's reason. */
function spent(failures: number, last: string): string {
  const found = `${failures} failure${failures === 1 ? '' : 's'} in a row, the last: ${last}`;
  return failure('MaxRetriesExceeded', found).message.split('\n', 1)[0]!;
}

/** No process listens there, and the machine, or the net, says so: to ask again costs nothing. */
function isToldAtOnce(cause: LossCause): boolean {
  return cause === 'refused' || cause === 'unreachable';
}

export class Sender {
  readonly #options: SenderOptions;
  #state: LinkState = 'waiting';
  #reason = 'not started';
  #failures = 0;
  #fatal: string | undefined;
  /** Links lost in a row, but for one that has held for a while: what backoff goes by (row 38). */
  #lostInRow = 0;
  /** The attempt under way is one that backoff does not count. */
  #isExtra = false;
  /** When an attempt was last made because it had dialled us. */
  #metMs = Number.NEGATIVE_INFINITY;
  /** When a life after the one of this link was met; undefined: none was. */
  #nextLifeMs: number | undefined;
  #checksumsInRow = 0;
  #checksums = 0;
  #openSinceMs = 0;
  #lastAckMs = 0;
  #frameBytes: number;
  #nextReadMs = 0;
  #deadlineMs = 0;
  #lastHeardMs = 0;
  #lastWroteMs = 0;
  #lastBeatMs = 0;
  /** By handle: there are as many as a node has spaces. */
  #rows = new Float64Array(FIELDS * FIRST_ROWS);
  #streams = 0;
  readonly #flight = new Flight();

  constructor(options: SenderOptions) {
    this.#options = options;
    this.#frameBytes = Math.min(FRAME_FIRST_BYTES, options.catchUpBatchBytes);
  }

  get state(): LinkState {
    return this.#state;
  }
  get failures(): number {
    return this.#failures;
  }
  get fatal(): string | undefined {
    return this.#fatal;
  }
  /** What the outside is told of the link. */
  get report(): LinkReport {
    const { state, failures, fatal } = this;
    return { state, reason: this.#reason, failures, fatal, checksumFailures: this.#checksums };
  }
  /** How long the next frame of batches may be: what this replica acknowledges in good time. */
  get frameBytes(): number {
    return this.#frameBytes;
  }
  /** Positions have been exchanged: batches may go out. */
  get isOpen(): boolean {
    return this.#state === 'streaming' || this.#state === 'catching-up';
  }

  /** @param chance in [0, 1): where in the backoff step the next attempt falls */
  step(input: SenderInput, nowMs: number, chance: number): SenderEffect[] {
    switch (input.kind) {
      case 'start':
        return this.#dial(nowMs);
      case 'connected':
        this.#lastHeardMs = nowMs;
        this.#lastWroteMs = nowMs;
        this.#deadlineMs = nowMs + HANDSHAKE_DEADLINE_MS;
        return [...this.#become('handshake', 'connected'), { kind: 'greet' }];
      case 'welcomed':
        this.#failures = 0;
        this.#isExtra = false;
        this.#fatal = undefined;
        this.#openSinceMs = nowMs;
        this.#nextLifeMs = undefined;
        // What ended the lives before says nothing of this one (row 116).
        if (input.isNewLife) this.#lostInRow = 0;
        return [...this.#become('catching-up', 'positions are compared'), { kind: 'introduce' }];
      case 'met':
        return this.#met(input.isNewLife, nowMs);
      case 'heard':
        this.#lastHeardMs = nowMs;
        return [];
      case 'wrote':
        this.#lastWroteMs = nowMs;
        this.#lastBeatMs = nowMs;
        return [];
      case 'hurry':
        if (this.#state !== 'waiting' && this.#state !== 'failed') return [];
        // Once: what is lost again waits as long as it would have.
        return this.#dial(nowMs);
      case 'caught-up':
        return this.isOpen ? this.#become('streaming', 'streams what becomes durable') : [];
      case 'fell-behind':
        return this.isOpen ? this.#become('catching-up', 'reads from segments') : [];
      case 'lost':
        return this.#lost(input.reason, nowMs, chance, input.code, input.isFatal);
      case 'again':
        if (this.#state !== 'waiting' && this.#state !== 'failed') return [];
        this.#isExtra = true;
        return this.#dial(nowMs);
      case 'retry':
        return this.#state === 'waiting' || this.#state === 'failed' ? this.#dial(nowMs) : [];
      case 'close':
        return [...this.#become('closed', 'the node closes'), { kind: 'drop' }];
    }
  }

  /** @param isWriting the socket holds bytes that it has not taken yet */
  tick(nowMs: number, isWriting: boolean, chance: number): SenderEffect[] {
    switch (this.#state) {
      case 'waiting':
      case 'failed':
        return nowMs >= this.#deadlineMs ? this.#dial(nowMs) : [];
      case 'connecting':
        if (nowMs < this.#deadlineMs) return [];
        return this.#lost(GIVEN_UP.timeout, nowMs, chance);
      case 'handshake':
        if (nowMs < this.#deadlineMs) return [];
        return this.#lost(GIVEN_UP.handshake, nowMs, chance);
      case 'catching-up':
      case 'streaming': {
        if (nowMs - this.#lastHeardMs >= this.#options.readTimeoutMs) {
          return this.#lost(GIVEN_UP.silent, nowMs, chance);
        }
        if (nowMs - this.#openSinceMs >= STABLE_MS) this.#lostInRow = 0;
        if (this.#isOfPastLife(nowMs)) return this.#lost(GIVEN_UP.replaced, nowMs, chance);
        if (this.#isUnacknowledged(nowMs)) {
          return this.#lost(GIVEN_UP.unacknowledged, nowMs, chance);
        }
        if (isWriting && nowMs - this.#lastWroteMs >= this.#options.writeTimeoutMs) {
          return this.#lost(GIVEN_UP.writeStalled, nowMs, chance);
        }
        if (isWriting || nowMs - this.#lastBeatMs < HEARTBEAT_MS) return [];
        this.#lastBeatMs = nowMs;
        return [{ kind: 'heartbeat' }];
      }
      case 'closed':
        return [];
    }
  }

  #dial(nowMs: number): SenderEffect[] {
    this.#deadlineMs = nowMs + this.#options.connectTimeoutMs;
    // While the breaker is open this is its half-open probe; the state keeps saying `failed`
    // to the outside only through `failures`.
    return [...this.#become('connecting', 'dialling'), { kind: 'dial' }];
  }

  /** It is dialled now, whatever backoff says, and nothing is counted where that fails. */
  #met(isNewLife: boolean, nowMs: number): SenderEffect[] {
    if (this.isOpen) {
      if (isNewLife) this.#nextLifeMs ??= nowMs;
      return [];
    }
    if (this.#state === 'closed') return [];
    if (this.#state === 'connecting' || this.#state === 'handshake') {
      // What waits for an answer may have been said to a life that is over.
      this.#deadlineMs = Math.min(this.#deadlineMs, nowMs + MET_AGAIN_MS);
      return [];
    }
    const soonestMs = this.#metMs + MET_AGAIN_MS;
    if (nowMs < soonestMs) {
      this.#deadlineMs = Math.min(this.#deadlineMs, soonestMs);
      return [];
    }
    this.#metMs = nowMs;
    this.#isExtra = true;
    return this.#dial(nowMs);
  }

  /** Another process of that name is met, and this one is not heard any more. */
  #isOfPastLife(nowMs: number): boolean {
    if (this.#nextLifeMs === undefined) return false;
    if (this.#lastHeardMs > this.#nextLifeMs) this.#nextLifeMs = undefined;
    return nowMs - (this.#nextLifeMs ?? nowMs) >= PAST_LIFE_MS;
  }

  #isUnacknowledged(nowMs: number): boolean {
    if (this.#flight.length === 0) return false;
    return nowMs - Math.max(this.#flight.oldestMs, this.#lastAckMs) >= ACK_STALL_MS;
  }

  #lost(
    reason: string,
    nowMs: number,
    chance: number,
    code?: string,
    isFatal = false,
  ): SenderEffect[] {
    if (this.#state === 'closed' || this.#state === 'waiting' || this.#state === 'failed')
      return [];
    if (!this.#isExtra || this.#lostInRow === 0) this.#lostInRow++;
    this.#isExtra = false;
    this.#failures = this.#lostInRow;
    this.#fatal = isFatal ? code : undefined;
    if (code === 'ChecksumMismatch') {
      this.#checksums++;
      // One changed bit may happen; three in a row are a broken path (row 30).
      if (++this.#checksumsInRow >= CHECKSUMS_TO_OPEN) this.#fatal = code;
    }
    const cause = lossCauseOf(reason, code);
    this.linkLost(cause, this.#flight.batches);
    this.#rows.fill(0);
    this.#streams = 0;
    this.#flight.clear();
    this.#frameBytes = Math.min(FRAME_FIRST_BYTES, this.#options.catchUpBatchBytes);
    const steps = this.#options.backoffStepsMs;
    const last = steps.length - 1;
    // A fatal error is tried again at the slowest pace: somebody may have mended it.
    const atMost = isToldAtOnce(cause) ? Math.max(REFUSED_STEP_MS, steps[0]!) : Infinity;
    const paced = this.#fatal ? steps[last]! : steps[Math.min(this.#failures - 1, last)]!;
    const step = Math.min(paced, atMost);
    this.#deadlineMs = nowMs + step * chance;
    // A full disk may have room again soon; until then the replica has failed (row 50).
    const isFull = code === 'DiskFull';
    const isSpent = this.#failures >= this.#options.maxRetries;
    const open = isFull || isSpent || this.#fatal !== undefined;
    // A fatal error says itself what is wrong.
    const why = isSpent && !this.#fatal && !isFull ? spent(this.#failures, reason) : reason;
    return [...this.#become(open ? 'failed' : 'waiting', why), { kind: 'drop' }];
  }

  /** For who counts: a link, or an attempt at one, has ended with batches in flight. */
  protected linkLost(_cause: LossCause, _unacknowledged: number): void {}

  /** For who counts: so many batches are flushed, or not waited for any more. */
  protected batchesDone(_count: number): void {}

  #become(state: LinkState, reason: string): SenderEffect[] {
    if (state === this.#state && reason === this.#reason) return [];
    this.#state = state;
    this.#reason = reason;
    return [{ kind: 'report' }];
  }

  // --- spaces and what is in flight ----------------------------------------------------------

  /** The replica has told where it stands and may have batches of this epoch. */
  join(row: PositionRow, epoch: Epoch): void {
    const { sequence } = row.position;
    const at = FIELDS * row.handle;
    if (at >= this.#rows.length) {
      const rows = new Float64Array(Math.max(at + FIELDS, 2 * this.#rows.length));
      rows.set(this.#rows);
      this.#rows = rows;
    }
    if (this.#rowOf(row.handle) < 0) this.#streams++;
    this.#rows.set([epoch, sequence, sequence, row.applied], at);
  }

  /** Where the row of a space begins; -1: it is not streamed, or there is none. */
  #rowOf(handle: Handle): number {
    const at = FIELDS * handle;
    return at < this.#rows.length && this.#rows[at + EPOCH]! > 0 ? at : -1;
  }

  /** The space goes to this replica no more; what is in flight of it frees its window. */
  leave(handle: Handle, nowMs: number): void {
    const at = this.#rowOf(handle);
    if (at >= 0) this.#streams--;
    if (at >= 0) this.#rows[at + EPOCH] = 0;
    this.shrinkFlight(nowMs);
  }

  /** The last sequence handed to the socket; undefined where the space is not streamed. */
  sent(handle: Handle): Sequence | undefined {
    const at = this.#rowOf(handle);
    return at < 0 ? undefined : this.#rows[at + SENT];
  }

  /** The last sequence flushed there; undefined where the space is not streamed. */
  flushed(handle: Handle): Sequence | undefined {
    const at = this.#rowOf(handle);
    return at < 0 ? undefined : this.#rows[at + FLUSHED];
  }

  /** How many spaces the replica has told its position of. */
  get streams(): number {
    return this.#streams;
  }

  /** The window leaves room for at least one more batch. */
  get hasWindow(): boolean {
    return this.#flight.bytes < this.#options.windowBytes;
  }

  /** May catch-up read on? Otherwise: not before so many ms from now. */
  readDelayMs(nowMs: number): number {
    return Math.max(0, this.#nextReadMs - nowMs);
  }

  /** Catch-up has read so many bytes, of what it may per second. */
  bytesRead(bytes: number, nowMs: number): void {
    const perSecond = this.#options.catchUpBytesPerSecond;
    if (perSecond === 0) return;
    this.#nextReadMs = Math.max(this.#nextReadMs, nowMs) + (1_000 * bytes) / perSecond;
  }

  /** @param bytes of the batch; 0: this is a part of it, and more of them follow */
  batchSent(handle: Handle, last: Sequence, bytes: number, nowMs: number): void {
    const at = this.#rowOf(handle);
    assert(at >= 0, 'a batch of a space that is not streamed');
    // After a nack entries go out again: what was sent stays sent.
    this.#rows[at + SENT] = Math.max(this.#rows[at + SENT]!, last);
    this.#flight.add(handle, last, bytes, nowMs);
  }

  /**
   * Takes one row of an ack, which begins at `at`. @returns whether anything moved
   * Throws ProtocolViolation for an ack of what was never sent, or one that goes back (row 33).
   */
  acked(acks: Float64Array, at: number, nowMs: number): boolean {
    const rows = this.#rows;
    const row = this.#rowOf(acks[at + ACK_HANDLE]!);
    if (row < 0 || acks[at + ACK_EPOCH] !== rows[row + EPOCH]) return false;
    const flushed = acks[at + ACK_FLUSHED]!;
    const applied = acks[at + ACK_APPLIED]!;
    const before = rows[row + FLUSHED]!;
    if (flushed > rows[row + SENT]!) {
      throw failure('ProtocolViolation', `an ack of ${flushed}, sent is ${rows[row + SENT]}`);
    }
    if (flushed < before) {
      throw failure('ProtocolViolation', `an ack of ${flushed} behind ${before}`);
    }
    const moved = flushed > before || applied > rows[row + APPLIED]!;
    if (flushed > before) {
      this.#lastAckMs = nowMs;
      this.#checksumsInRow = 0;
    }
    rows[row + FLUSHED] = flushed;
    rows[row + APPLIED] = Math.max(rows[row + APPLIED]!, applied);
    return moved;
  }

  /** The ack is of a higher epoch than the one that is streamed: another node leads (row 111). */
  isOvertaken(acks: Float64Array, at: number): boolean {
    const row = this.#rowOf(acks[at + ACK_HANDLE]!);
    return row >= 0 && acks[at + ACK_EPOCH]! > this.#rows[row + EPOCH]!;
  }

  /** Frees the window of what is flushed. Replicas flush in the order of arrival, or nearly. */
  shrinkFlight(nowMs: number): void {
    const flight = this.#flight;
    const { length, batches } = flight;
    let sentMs = 0;
    while (flight.length > 0) {
      const row = this.#rowOf(flight.handle);
      if (row >= 0 && this.#rows[row + FLUSHED]! < flight.last) break;
      sentMs = flight.oldestMs;
      flight.shift();
    }
    if (flight.length === length) return;
    const tookMs = nowMs - sentMs;
    this.batchesDone(batches - flight.batches);
    const { catchUpBatchBytes } = this.#options;
    if (tookMs < ACK_FAST_MS) {
      this.#frameBytes = Math.min(catchUpBatchBytes, 2 * this.#frameBytes);
    } else if (tookMs > ACK_SLOW_MS) {
      const least = Math.min(FRAME_SMALLEST_BYTES, catchUpBatchBytes);
      this.#frameBytes = Math.max(least, this.#frameBytes / 2);
    }
  }

  get isDrained(): boolean {
    return this.#flight.length === 0;
  }
}
