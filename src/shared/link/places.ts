/**
 * The places for connections that nobody has proved anything on yet (FAULTS row 47): so many in
 * all, so many from one address, and some that only addresses of members get. Whoever comes gets a
 * place: where there is none, the one that has waited longest goes, of those that have said least.
 * So idle connections lock nobody out, however many there are. Pure.
 */

export interface PlaceLimits {
  readonly most: number;
  /** From one address that is no member's: members may share theirs, be it with a stranger. */
  readonly perAddress: number;
  /** From one address that has failed to prove itself lately, and is no member's. */
  readonly perSuspect: number;
  /** Of all of them, those that only addresses of members get. */
  readonly kept: number;
}

/** Where a connection comes from. */
export interface Origin {
  readonly address: string;
  /** A member is known to be there, whoever else is. */
  readonly isMembers: boolean;
  /** Wrong proofs have come from there lately. */
  readonly isSuspect: boolean;
}

interface Place extends Origin {
  readonly sinceMs: number;
  /** It has said something that only who knows this node would say. */
  hasSpoken: boolean;
}

export class Places<C> {
  readonly #limits: PlaceLimits;
  /** In the order in which they came. */
  readonly #places = new Map<C, Place>();

  constructor(limits: PlaceLimits) {
    this.#limits = limits;
  }

  get taken(): number {
    return this.#places.size;
  }

  has(one: C): boolean {
    return this.#places.has(one);
  }

  /** @returns who has to go for it; undefined: nobody */
  take(one: C, origin: Origin, nowMs: number): C | undefined {
    const goes = this.#whoGoes(origin);
    if (goes !== undefined) this.#places.delete(goes);
    this.#places.set(one, { ...origin, sinceMs: nowMs, hasSpoken: false });
    return goes;
  }

  #whoGoes({ address, isMembers, isSuspect }: Origin): C | undefined {
    const { most, perAddress, perSuspect, kept } = this.#limits;
    const all = [...this.#places];
    if (!isMembers) {
      const same = all.filter(([, place]) => place.address === address);
      if (same.length >= (isSuspect ? perSuspect : perAddress)) return oldest(same);
      const strangers = all.filter(([, place]) => !place.isMembers);
      if (strangers.length >= most - kept) return oldest(ofCrowd(strangers));
    }
    if (all.length < most) return undefined;
    const strangers = all.filter(([, place]) => !place.isMembers);
    return oldest(ofCrowd(strangers.length > 0 ? strangers : all));
  }

  /** It has said what a peer would say: others go before it. */
  spoken(one: C): void {
    const place = this.#places.get(one);
    if (place) place.hasSpoken = true;
  }

  /** It is let in, or gone. */
  leave(one: C): void {
    this.#places.delete(one);
  }

  /** Those that came `ms` ago or earlier, and are here still. */
  overdue(nowMs: number, ms: number): C[] {
    return [...this.#places].filter(([, { sinceMs }]) => nowMs - sinceMs >= ms).map(([one]) => one);
  }
}

type Held<C> = readonly (readonly [C, Place])[];

/** Those of the address that has most of them: one alone crowds nobody else out. */
function ofCrowd<C>(held: Held<C>): Held<C> {
  const counts = new Map<string, number>();
  for (const [, { address }] of held) counts.set(address, (counts.get(address) ?? 0) + 1);
  const most = Math.max(...counts.values());
  return held.filter(([, { address }]) => counts.get(address) === most);
}

/** The first that came of those that have said nothing; else the first of all. */
function oldest<C>(held: Held<C>): C {
  return (held.find(([, place]) => !place.hasSpoken) ?? held[0]!)[0];
}
