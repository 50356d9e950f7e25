/** What nodes that may lead have acknowledged, and in which epochs; nothing of it may be gone. */
import { type SimNode, Violation } from './cluster.js';
import type { Seen } from './histories.js';

interface Acked {
  readonly sequence: number;
  readonly payload: string;
  readonly replicas: number;
}

/** A `flushed` of at least one replica has resolved. */
interface Flushed {
  readonly sequence: number;
  /** In which the node led then: nothing of a later epoch stands at the place. */
  readonly epoch: number;
  /** Of the entry that stood there, where it was looked at. */
  readonly of: number | undefined;
  readonly who: string;
}

export class Acknowledged {
  /** By space, as all that follow. */
  readonly #acked = new Map<string, Acked[]>();
  readonly #flushed = new Map<string, Flushed[]>();
  /** And epoch and sequence: the payload that was acknowledged there. */
  readonly #placed = new Map<string, string>();
  /** And epoch: who acknowledges in it. */
  readonly #leaders = new Map<string, string>();
  /** The highest epoch in which anybody has acknowledged. */
  readonly #latest = new Map<string, number>();
  /** And process: the highest epoch that it has told of. */
  readonly #told = new Map<string, number>();
  readonly #hasLeases: boolean;

  constructor(hasLeases: boolean) {
    this.#hasLeases = hasLeases;
  }

  /** How many epochs anything was acknowledged in. */
  get epochs(): number {
    return this.#leaders.size;
  }

  get waits(): number {
    return [...this.#flushed.values()].reduce((sum, all) => sum + all.length, 0);
  }

  /** A process says what epoch of a space it has heard of. */
  told({ owner }: SimNode, space: string, epoch: number): void {
    const key = `${owner.name} ${space}`;
    this.#told.set(key, Math.max(epoch, this.#told.get(key) ?? 0));
  }

  /** Throws a Violation. */
  append(node: SimNode, space: string, epoch: number, acked: Acked): void {
    const { name, owner } = node;
    const { sequence, payload } = acked;
    listOf(this.#acked, space).push(acked);
    const seen = this.#told.get(`${owner.name} ${space}`) ?? 0;
    if (epoch < seen) throw new Violation(`${name} acknowledged in ${epoch}, told ${seen} (I5)`);
    const leader = this.#leaders.get(`${space} ${epoch}`) ?? name;
    this.#leaders.set(`${space} ${epoch}`, leader);
    if (leader !== name) throw new Violation(`${space}: ${leader} and ${name} in epoch ${epoch}`);
    const place = `${space} ${epoch} ${sequence}`;
    if (this.#placed.has(place)) throw new Violation(`${place} was acknowledged twice (P3)`);
    this.#placed.set(place, payload);
    const latest = this.#latest.get(space) ?? 0;
    this.#latest.set(space, Math.max(latest, epoch));
    if (this.#hasLeases && epoch < latest) {
      throw new Violation(`${name} acknowledged ${space} in ${epoch}, another had in ${latest}`);
    }
  }

  /** `flushed(sequence, { replicas: 1 })`, or more, has resolved on a node that leads. */
  flushed({ name }: SimNode, space: string, flushed: Omit<Flushed, 'who'>): void {
    listOf(this.#flushed, space).push({ ...flushed, who: name });
  }

  /**
   * Throws a Violation.
   * @param log by sequence, from 1 on: what all nodes have in the end
   * @param kept payloads in their quarantines
   */
  check(space: string, log: readonly Seen[], kept: ReadonlySet<string>): void {
    for (const { sequence, payload, replicas } of listOf(this.#acked, space)) {
      if (log[sequence - 1]?.payload === payload) continue;
      if (replicas === 0 && kept.has(payload)) continue;
      throw new Violation(`${space} ${sequence}, acknowledged by ${replicas} replicas, is gone`);
    }
    for (const { sequence, epoch, of, who } of listOf(this.#flushed, space)) {
      const now = log[sequence - 1]?.epoch;
      if (now !== undefined && now <= epoch && now === (of ?? now)) continue;
      const was = `${who} in epoch ${epoch}: ${space} ${sequence} is flushed on a replica`;
      throw new Violation(`${was}; it was taken back, for one of epoch ${now}`);
    }
  }
}

function listOf<T>(lists: Map<string, T[]>, space: string): T[] {
  const list = lists.get(space) ?? [];
  lists.set(space, list);
  return list;
}
