/**
 * Counts whoever is not let in, by where, why and from what kind of address, and tells of it: the
 * first of a kind at once, then one event for all that came in a window of time, so that a flood is
 * told and is none itself (P10).
 */
import { addressClassOf } from '../../shared/address.js';
import { LINE_WINDOW_MS, SUSPECT_MS, SUSPECTS_MAX } from '../../shared/limits.js';
import type { Door, RefusalCount, RefusalReason, Refused } from '../../shared/link/refusal.js';

type Kind = { -readonly [K in keyof Refused]: Refused[K] } & {
  /** Those that no event has told of. */
  untold: number;
  lastMs: number;
  /** Until when the next ones wait, monotonic ms. */
  quietUntilMs: number;
};

export class Refusals {
  /** As many as there are doors, reasons and classes, at most. */
  readonly #kinds = new Map<string, Kind>();
  /** Until when an address that has failed to prove itself is suspected, monotonic ms. */
  readonly #suspects = new Map<string, number>();
  readonly #tell: (refused: Refused) => void;
  #timer: NodeJS.Timeout | undefined;

  constructor(tell: (refused: Refused) => void) {
    this.#tell = tell;
  }

  /**
   * @param address of the peer; undefined: its socket is gone
   * @param isMembers whether a member is known to be there
   * @param detail what was found, in a few words, and nothing secret
   */
  count(
    door: Door,
    reason: RefusalReason,
    address: string | undefined,
    isMembers: boolean,
    detail: string,
  ): void {
    const nowMs = performance.now();
    const addressClass = isMembers ? 'member' : addressClassOf(address ?? '');
    const key = `${door} ${reason} ${addressClass}`;
    let kind = this.#kinds.get(key);
    if (!kind) {
      const none = { times: 0, untold: 0, lastMs: nowMs, quietUntilMs: 0 };
      kind = { door, reason, addressClass, address: '', detail: '', ...none };
      this.#kinds.set(key, kind);
    }
    Object.assign(kind, { address: address ?? '', detail, lastMs: nowMs });
    kind.times++;
    kind.untold++;
    if (reason === 'auth' && address !== undefined) this.#suspect(address, nowMs);
    this.#tellDue(nowMs);
  }

  #suspect(address: string, nowMs: number): void {
    this.#suspects.delete(address);
    this.#suspects.set(address, nowMs + SUSPECT_MS);
    const [first] = this.#suspects.keys();
    if (this.#suspects.size > SUSPECTS_MAX) this.#suspects.delete(first!);
  }

  /** Whether wrong proofs have come from there lately. */
  isSuspect(address: string): boolean {
    return (this.#suspects.get(address) ?? 0) > performance.now();
  }

  #tellDue(nowMs: number): void {
    let next = Number.POSITIVE_INFINITY;
    for (const kind of this.#kinds.values()) {
      if (kind.untold === 0) continue;
      if (nowMs < kind.quietUntilMs) {
        next = Math.min(next, kind.quietUntilMs);
        continue;
      }
      const { door, reason, addressClass, address, detail, untold: times } = kind;
      kind.untold = 0;
      kind.quietUntilMs = nowMs + LINE_WINDOW_MS;
      this.#tell({ door, reason, addressClass, address, detail, times });
    }
    if (this.#timer || !Number.isFinite(next)) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#tellDue(performance.now());
    }, next - nowMs);
    this.#timer.unref();
  }

  get all(): readonly RefusalCount[] {
    const nowMs = performance.now();
    return [...this.#kinds.values()].map(({ door, reason, addressClass, times, lastMs }) => {
      return { door, reason, addressClass, times, agoMs: nowMs - lastMs };
    });
  }

  /** What was not told yet is told. */
  close(): void {
    clearTimeout(this.#timer);
    this.#tellDue(Number.POSITIVE_INFINITY);
  }
}
