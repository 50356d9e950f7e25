/**
 * Snapshots as their primary sees them: which replica's turn it is, what is on its way to it, how
 * an interrupted one goes on. At most so many full syncs at once; the others wait in a queue
 * (row 60). Pure; main/snapshot/supply.ts carries out.
 */
import { failure } from '../errors.js';
import {
  SNAPSHOT_HOST_STALL_MS,
  SNAPSHOT_STALL_MS,
  SNAPSHOT_WAIT_MS,
  SNAPSHOT_WINDOW_CHUNKS,
} from '../limits.js';
import type { Sequence, Slot } from '../position.js';
import type { SnapshotFacts, SnapshotWhole } from './facts.js';

/** Who needs a snapshot of what. */
export interface Pair {
  readonly replicaId: string;
  readonly slot: Slot;
}

export interface Chunk {
  readonly crc: number;
  readonly bytes: Uint8Array;
}

/**
 * `queued`: others come first. `opening`: the host makes it. `sending`. `parked`: its link is lost,
 * it is kept for a while. `installing`: whole on the replica, whose host is given it.
 */
export type SupplyPhase = 'queued' | 'opening' | 'sending' | 'parked' | 'installing';

export type QueueInput =
  /** The replica asks, on this link, and has so many chunks of one already. */
  | {
      readonly kind: 'requested';
      readonly pair: Pair;
      readonly link: number;
      readonly snapshot: string;
      readonly chunks: number;
    }
  /** The host has given one; its sequence is checked and pinned. */
  | { readonly kind: 'opened'; readonly pair: Pair; readonly facts: SnapshotFacts }
  | { readonly kind: 'pulled'; readonly pair: Pair; readonly chunk: Chunk }
  /** The host's bytes are at their end. */
  | { readonly kind: 'ended'; readonly pair: Pair; readonly whole: SnapshotWhole }
  | {
      readonly kind: 'failed';
      readonly pair: Pair;
      readonly code: string;
      readonly reason: string;
    }
  | { readonly kind: 'progress'; readonly pair: Pair; readonly chunks: number }
  | { readonly kind: 'stored'; readonly pair: Pair }
  | { readonly kind: 'installed'; readonly pair: Pair }
  /** The replica wants no more of it. */
  | {
      readonly kind: 'refused';
      readonly pair: Pair;
      readonly code: string;
      readonly reason: string;
    }
  | { readonly kind: 'unlinked'; readonly replicaId: string };

export type QueueEffect =
  /** Ask the host for a snapshot, and keep what comes behind it. */
  | { readonly kind: 'open'; readonly pair: Pair }
  | { readonly kind: 'pull'; readonly pair: Pair }
  /** The host's bytes are not needed any more. */
  | { readonly kind: 'close'; readonly pair: Pair }
  /** What comes behind the snapshot need not be kept for it. */
  | { readonly kind: 'unpin'; readonly pair: Pair }
  /** The replica stands on it: positions are compared anew. */
  | { readonly kind: 'join'; readonly pair: Pair }
  | {
      readonly kind: 'begin';
      readonly pair: Pair;
      readonly link: number;
      readonly facts: SnapshotFacts;
      readonly chunk: number;
    }
  | {
      readonly kind: 'chunk';
      readonly pair: Pair;
      readonly link: number;
      readonly index: number;
      readonly chunk: Chunk;
    }
  | {
      readonly kind: 'end';
      readonly pair: Pair;
      readonly link: number;
      readonly whole: SnapshotWhole;
    }
  | {
      readonly kind: 'wait';
      readonly pair: Pair;
      readonly link: number;
      readonly before: number;
      readonly retryAfterMs: number;
    }
  | {
      readonly kind: 'refuse';
      readonly pair: Pair;
      readonly link: number;
      readonly code: string;
      readonly reason: string;
      readonly retryAfterMs: number;
    }
  | { readonly kind: 'done'; readonly pair: Pair; readonly progress: SupplyProgress }
  | {
      readonly kind: 'lost';
      readonly pair: Pair;
      readonly code: string;
      readonly reason: string;
      readonly retryAfterMs: number;
    };

/** How far one has come. */
export interface SupplyProgress {
  readonly phase: SupplyPhase;
  /** The entry up to which it stands; 0 while the host has not said. */
  readonly sequence: Sequence;
  /** Durable on the replica. */
  readonly chunks: number;
  readonly bytes: number;
  readonly sinceMs: number;
}

export interface QueueOptions {
  readonly maxSnapshots: number;
  readonly snapshotGraceMs: number;
  readonly backoffStepsMs: readonly number[];
}

interface Transfer {
  readonly pair: Pair;
  phase: SupplyPhase;
  sinceMs: number;
  /** Where its frames go; undefined while the replica is away. */
  link: number | undefined;
  facts: SnapshotFacts | undefined;
  whole: SnapshotWhole | undefined;
  /** Chunks pulled and not yet durable on the replica: from `acked` to `pulled`. */
  held: Chunk[];
  acked: number;
  ackedBytes: number;
  sent: number;
  pulled: number;
  isPulling: boolean;
  isEndSent: boolean;
  /** When the host, or the replica, was last seen to do its part. */
  hostMs: number;
  replicaMs: number;
}

interface Failures {
  count: number;
  retryAtMs: number;
}

export class SnapshotQueue {
  readonly #options: QueueOptions;
  readonly #transfers = new Map<string, Transfer>();
  readonly #failures = new Map<string, Failures>();

  constructor(options: QueueOptions) {
    this.#options = options;
  }

  /** No snapshot is under way, and none has failed of late. */
  get isEmpty(): boolean {
    return this.#transfers.size === 0 && this.#failures.size === 0;
  }

  progressOf(pair: Pair): SupplyProgress | undefined {
    const t = this.#transfers.get(keyOf(pair));
    return t && progressOf(t);
  }

  /** Throws ProtocolViolation for what no replica says. */
  step(input: QueueInput, nowMs: number): QueueEffect[] {
    if (input.kind === 'requested') return this.#requested(input, nowMs);
    if (input.kind === 'unlinked') return this.#unlinked(input.replicaId, nowMs);
    const { pair } = input;
    const t = this.#transfers.get(keyOf(pair));
    // The primary was started anew meanwhile, or had given up: the replica stands all the same.
    if (!t && input.kind === 'installed') return [{ kind: 'join', pair }];
    if (!t) return [];
    switch (input.kind) {
      case 'opened':
        return this.#opened(t, input.facts, nowMs);
      case 'pulled':
        t.isPulling = false;
        t.hostMs = nowMs;
        t.held.push(input.chunk);
        t.pulled++;
        return this.#flow(t, nowMs);
      case 'ended':
        t.isPulling = false;
        t.whole = input.whole;
        return this.#flow(t, nowMs);
      case 'failed':
      case 'refused':
        return this.#give(t, input.code, input.reason, nowMs, input.kind === 'failed');
      case 'progress':
        if (input.chunks > t.sent || input.chunks < t.acked) {
          const found = `${input.chunks} chunks stored, of ${t.sent} sent, before ${t.acked}`;
          throw failure('ProtocolViolation', `a snapshot's progress: ${found}`);
        }
        if (input.chunks > t.acked) t.replicaMs = nowMs;
        acknowledge(t, input.chunks);
        return this.#flow(t, nowMs);
      case 'stored':
        if (!t.isEndSent || t.phase === 'installing') return [];
        acknowledge(t, t.pulled);
        this.#become(t, 'installing', nowMs);
        return [{ kind: 'close', pair }, ...this.#next(nowMs)];
      case 'installed':
        this.#transfers.delete(keyOf(pair));
        this.#failures.delete(keyOf(pair));
        return [
          { kind: 'done', pair, progress: progressOf(t) },
          { kind: 'close', pair },
          { kind: 'join', pair },
          ...this.#next(nowMs),
        ];
    }
  }

  tick(nowMs: number): QueueEffect[] {
    const effects: QueueEffect[] = [];
    for (const t of this.#transfers.values()) {
      const why = this.#problemOf(t, nowMs);
      if (why) effects.push(...this.#give(t, 'SnapshotFailed', why, nowMs, true));
    }
    return [...effects, ...this.#next(nowMs)];
  }

  /** What keeps a transfer from going on, if it is time to say so. */
  #problemOf(t: Transfer, nowMs: number): string | undefined {
    if (t.phase === 'parked' && nowMs - t.sinceMs >= this.#options.snapshotGraceMs) {
      return 'the replica did not come back for the rest of it';
    }
    const isHostDue = t.phase === 'opening' || t.isPulling;
    if (isHostDue && nowMs - t.hostMs >= SNAPSHOT_HOST_STALL_MS) {
      return `the host has given nothing for ${SNAPSHOT_HOST_STALL_MS / 1_000} s`;
    }
    if (t.phase !== 'sending' || (t.acked === t.sent && !t.isEndSent)) return undefined;
    // Behind the end the replica reads all of it once more.
    const patienceMs = t.acked === t.sent ? SNAPSHOT_HOST_STALL_MS : SNAPSHOT_STALL_MS;
    if (nowMs - t.replicaMs < patienceMs) return undefined;
    return `the replica has stored nothing for ${patienceMs / 1_000} s`;
  }

  /** Nothing comes of the pair's snapshot, for a reason of this node. */
  drop(pair: Pair, code: string, reason: string, nowMs: number): QueueEffect[] {
    const t = this.#transfers.get(keyOf(pair));
    return t ? this.#give(t, code, reason, nowMs, true) : [];
  }

  /** The replica follows the space no more. */
  forget(pair: Pair, nowMs: number): QueueEffect[] {
    // As a rule; thousands of spaces may change hands in one moment.
    if (this.isEmpty) return [];
    const t = this.#transfers.get(keyOf(pair));
    this.#failures.delete(keyOf(pair));
    if (!t) return [];
    this.#transfers.delete(keyOf(pair));
    return [{ kind: 'close', pair }, { kind: 'unpin', pair }, ...this.#next(nowMs)];
  }

  #requested(input: QueueInput & { kind: 'requested' }, nowMs: number): QueueEffect[] {
    const { pair, link, snapshot, chunks } = input;
    const known = this.#transfers.get(keyOf(pair));
    if (known && (known.phase === 'queued' || known.phase === 'opening')) {
      known.link = link;
      return known.phase === 'queued' ? [this.#wait(known, nowMs)] : [];
    }
    // It asked for the second time while the first answer was on its way.
    if (known?.phase === 'sending' && known.link === link) return [];
    if (known?.facts?.id === snapshot && chunks >= known.acked && chunks <= known.pulled) {
      return this.#resume(known, link, chunks, nowMs);
    }
    const effects: QueueEffect[] = [];
    if (known) {
      this.#transfers.delete(keyOf(pair));
      effects.push({ kind: 'close', pair }, { kind: 'unpin', pair });
    }
    const t: Transfer = {
      pair,
      phase: 'queued',
      sinceMs: nowMs,
      link,
      facts: undefined,
      whole: undefined,
      held: [],
      acked: 0,
      ackedBytes: 0,
      sent: 0,
      pulled: 0,
      isPulling: false,
      isEndSent: false,
      hostMs: nowMs,
      replicaMs: nowMs,
    };
    this.#transfers.set(keyOf(pair), t);
    effects.push(...this.#next(nowMs));
    if (t.phase === 'queued') effects.push(this.#wait(t, nowMs));
    return effects;
  }

  /** The replica is back, and has what this link need not carry again. */
  #resume(t: Transfer, link: number, chunks: number, nowMs: number): QueueEffect[] {
    const { pair } = t;
    acknowledge(t, chunks);
    t.link = link;
    t.sent = chunks;
    t.isEndSent = false;
    t.replicaMs = nowMs;
    if (t.phase === 'parked') this.#become(t, 'sending', nowMs);
    const facts = t.facts!;
    return [{ kind: 'begin', pair, link, facts, chunk: chunks }, ...this.#flow(t, nowMs)];
  }

  #opened(t: Transfer, facts: SnapshotFacts, nowMs: number): QueueEffect[] {
    const { pair, link } = t;
    if (t.phase !== 'opening') return [];
    t.facts = facts;
    t.hostMs = nowMs;
    t.replicaMs = nowMs;
    this.#become(t, link === undefined ? 'parked' : 'sending', nowMs);
    if (link === undefined) return [];
    return [{ kind: 'begin', pair, link, facts, chunk: 0 }, ...this.#flow(t, nowMs)];
  }

  /** Sends what is held, and pulls as long as the window has room. */
  #flow(t: Transfer, nowMs: number): QueueEffect[] {
    const effects: QueueEffect[] = [];
    const { pair, link } = t;
    if (link === undefined || t.phase === 'queued' || t.phase === 'opening') return effects;
    if (t.sent === t.acked) t.replicaMs = nowMs;
    for (; t.sent < t.pulled; t.sent++) {
      const chunk = t.held[t.sent - t.acked]!;
      effects.push({ kind: 'chunk', pair, link, index: t.sent, chunk });
    }
    if (t.whole && !t.isEndSent) {
      t.isEndSent = true;
      effects.push({ kind: 'end', pair, link, whole: t.whole });
    }
    if (!t.whole && !t.isPulling && t.held.length < SNAPSHOT_WINDOW_CHUNKS) {
      t.isPulling = true;
      t.hostMs = nowMs;
      effects.push({ kind: 'pull', pair });
    }
    return effects;
  }

  #unlinked(replicaId: string, nowMs: number): QueueEffect[] {
    for (const [key, t] of this.#transfers) {
      if (t.pair.replicaId !== replicaId) continue;
      t.link = undefined;
      if (t.phase === 'queued') this.#transfers.delete(key);
      else if (t.phase === 'sending') this.#become(t, 'parked', nowMs);
    }
    return [];
  }

  /** The transfer has failed. @param isTold by this node: the replica does not know yet */
  #give(t: Transfer, code: string, reason: string, nowMs: number, isTold: boolean): QueueEffect[] {
    const { pair, link } = t;
    const key = keyOf(pair);
    this.#transfers.delete(key);
    const failures = this.#failures.get(key) ?? { count: 0, retryAtMs: 0 };
    const steps = this.#options.backoffStepsMs;
    const retryAfterMs = steps[Math.min(failures.count, steps.length - 1)]!;
    this.#failures.set(key, { count: failures.count + 1, retryAtMs: nowMs + retryAfterMs });
    const effects: QueueEffect[] = [
      { kind: 'close', pair },
      { kind: 'unpin', pair },
      { kind: 'lost', pair, code, reason, retryAfterMs },
    ];
    if (isTold && link !== undefined) {
      effects.push({ kind: 'refuse', pair, link, code, reason, retryAfterMs });
    }
    return [...effects, ...this.#next(nowMs)];
  }

  /** Whose turn it is: in the order in which they asked, as soon as they may try again. */
  #next(nowMs: number): QueueEffect[] {
    const effects: QueueEffect[] = [];
    for (const [key, t] of this.#transfers) {
      if (this.#active >= this.#options.maxSnapshots) break;
      const isDue = (this.#failures.get(key)?.retryAtMs ?? 0) <= nowMs;
      if (t.phase !== 'queued' || !isDue) continue;
      this.#become(t, 'opening', nowMs);
      t.hostMs = nowMs;
      effects.push({ kind: 'open', pair: t.pair });
    }
    return effects;
  }

  #wait(t: Transfer, nowMs: number): QueueEffect {
    const { pair } = t;
    let before = this.#active;
    for (const other of this.#transfers.values()) {
      if (other === t) break;
      if (other.phase === 'queued') before++;
    }
    const retryAtMs = this.#failures.get(keyOf(pair))?.retryAtMs ?? 0;
    const retryAfterMs = Math.ceil(Math.max(SNAPSHOT_WAIT_MS, retryAtMs - nowMs));
    return { kind: 'wait', pair, link: t.link!, before, retryAfterMs };
  }

  /** Those that take one of the places: the host's bytes are open for them. */
  get #active(): number {
    let active = 0;
    for (const { phase } of this.#transfers.values()) {
      if (phase !== 'queued' && phase !== 'installing') active++;
    }
    return active;
  }

  #become(t: Transfer, phase: SupplyPhase, nowMs: number): void {
    t.phase = phase;
    t.sinceMs = nowMs;
  }
}

/** Frees what is durable on the replica. */
function acknowledge(t: Transfer, chunks: number): void {
  const done = t.held.splice(0, chunks - t.acked);
  for (const { bytes } of done) t.ackedBytes += bytes.length;
  t.acked = chunks;
}

function progressOf(t: Transfer): SupplyProgress {
  const { phase, sinceMs, acked: chunks, ackedBytes: bytes } = t;
  return { phase, sequence: t.facts?.position.sequence ?? 0, chunks, bytes, sinceMs };
}

function keyOf({ replicaId, slot }: Pair): string {
  return `${slot} ${replicaId}`;
}
