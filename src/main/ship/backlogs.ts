/**
 * What a replica lacks that became durable before this node knows when (it was opened since, or
 * shipped to nobody): how old that is by its timestamps, how much by the indexes of the segments.
 * Looked up when positions are compared, and again while the replica moves through it.
 */
import type { Backlog } from '../../shared/link/lag.js';
import type { Lsn, Sequence } from '../../shared/position.js';
import type { SpaceState } from '../log/space-table.js';
import type { LookedUp } from '../read/reader.js';
import type { ShipperHandle } from './shipper-handle.js';

/** Pairs that are looked up at once in one tick of the monitor; the others have their turn. */
const LOOKS_A_TICK = 64;

/** Of the reader: what the log says of a space. */
export interface BacklogReader {
  lookUp(
    wanted: readonly { readonly space: SpaceState; readonly sequence: Sequence }[],
  ): Promise<Map<SpaceState, LookedUp>>;
  bytesOf(space: SpaceState, from: Sequence, to: Sequence): Promise<number>;
}

interface Known {
  sinceMs: number;
  /** Of the entries behind `flushed`, up to `to`. */
  bytes: number;
  flushed: Sequence;
  to: Sequence;
  isMeasured: boolean;
}

export class Backlogs {
  readonly #reader: BacklogReader;
  readonly #known = new Map<ShipperHandle, Map<SpaceState, Known>>();
  /** Both clocks when the node was opened: a wall clock that is set later changes nothing here. */
  readonly #openedMs = performance.now();
  readonly #openedWallMs = Date.now();
  readonly #openedLsn: Lsn;

  constructor(reader: BacklogReader, openedLsn: Lsn) {
    this.#reader = reader;
    this.#openedLsn = openedLsn;
  }

  /** Of who has flushed up to there, as far as it is known. */
  of(shipper: ShipperHandle, space: SpaceState, flushed: Sequence): Backlog | undefined {
    const known = this.#known.get(shipper)?.get(space);
    if (!known || known.to <= known.flushed) return undefined;
    // In between by its entries; where it stands by now is looked up at the next tick.
    const left = Math.max(0, known.to - flushed) / (known.to - known.flushed);
    return { sinceMs: known.sinceMs, bytes: Math.round(Math.min(1, left) * known.bytes) };
  }

  /** Its position was compared. */
  met(shipper: ShipperHandle, space: SpaceState, flushed: Sequence, found: LookedUp): void {
    const of = this.#known.get(shipper);
    if (found.next === undefined || space.times.behind(flushed)) {
      of?.delete(space);
      return;
    }
    const known = {
      sinceMs: this.#sinceMs(found.timestamp),
      bytes: Math.max(0, this.#openedLsn - found.next),
      flushed,
      to: space.times.from,
      isMeasured: false,
    };
    if (of) of.set(space, known);
    else this.#known.set(shipper, new Map([[space, known]]));
  }

  #sinceMs(timestamp: bigint): number {
    const nowMs = performance.now();
    const wallMs = this.#openedWallMs + nowMs - this.#openedMs;
    return nowMs - Math.max(0, wallMs - Number(timestamp / 1_000_000n));
  }

  forget(shipper: ShipperHandle): void {
    this.#known.delete(shipper);
  }

  /** Looks some of them up where they stand now. @param flushedOf where a replica stands */
  async refresh(flushedOf: (shipper: ShipperHandle, space: SpaceState) => Sequence): Promise<void> {
    let looks = LOOKS_A_TICK;
    for (const [shipper, spaces] of this.#known) {
      for (const [space, known] of [...spaces]) {
        const flushed = flushedOf(shipper, space);
        if (space.times.behind(flushed) || flushed >= space.facts.position.sequence) {
          spaces.delete(space);
          continue;
        }
        const hasMoved = flushed > known.flushed || known.to !== space.times.from;
        if (looks === 0 || (known.isMeasured && !hasMoved)) continue;
        looks--;
        const found = await this.#measured(space, flushed, known);
        // Its position was compared anew meanwhile.
        if (spaces.get(space) !== known) continue;
        // The next tick begins with the others.
        spaces.delete(space);
        spaces.set(space, found);
        if (looks === 0) break;
      }
    }
  }

  async #measured(space: SpaceState, flushed: Sequence, known: Known): Promise<Known> {
    const to = space.times.from;
    try {
      const found = (await this.#reader.lookUp([{ space, sequence: flushed }])).get(space);
      if (found?.next === undefined) return known;
      const bytes = await this.#reader.bytesOf(space, flushed + 1, to);
      return { sinceMs: this.#sinceMs(found.timestamp), bytes, flushed, to, isMeasured: true };
    } catch {
      // What cannot be read is told by who reads it.
      return { ...known, isMeasured: true };
    }
  }
}
