/**
 * A diverged replica goes back to what it shares with its primary: suffix to quarantine, durably;
 * one rewind record, durable; the host undoes what it had applied; then it follows (FAULTS rows 64
 * to 66). Interrupted anywhere it begins again, or is done.
 */

import { assert, failure } from '../../shared/errors.js';
import type { PositionAnswer } from '../../shared/lead/epoch.js';
import { divergenceOf, type History } from '../../shared/lead/epoch.js';
import type { Rewind } from '../../shared/log/rewind.js';
import { applyRewind } from '../../shared/log/space-facts.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import type { Epoch, Position, Sequence } from '../../shared/position.js';
import { NO_POSITION } from '../../shared/position.js';
import { type SpaceState, takeBack } from '../log/space-table.js';
import type { Wal } from '../log/wal.js';
import type { LogReader } from '../read/reader.js';
import type { Disk } from '../segments/disk.js';
import type { Segments } from '../segments/segments.js';
import { keepSuffix } from '../snapshot/quarantine.js';

export interface RejoinHooks {
  /** Nothing of the space is handed to the host any more. */
  stopApplying(space: SpaceState): void;
  /** `rewind` is durable: the host is told, and applying goes on from there. */
  rewound(space: SpaceState, rewind: Rewind): void;
}

/** Where a space has gone back to, and how many verdicts may yet come on what it had before. */
interface Gone {
  readonly epoch: Epoch;
  readonly sequence: Sequence;
  unjudged: number;
}

export class Rejoin {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #memory: NodeMemory;
  readonly #segments: Segments;
  readonly #reader: LogReader;
  readonly #wal: Wal;
  readonly #hooks: RejoinHooks;
  /** Where each space has gone back to last, and in which epoch. */
  readonly #gone = new Map<SpaceState, Gone>();

  constructor(
    disk: Disk,
    dir: string,
    memory: NodeMemory,
    segments: Segments,
    reader: LogReader,
    wal: Wal,
    hooks: RejoinHooks,
  ) {
    this.#disk = disk;
    this.#dir = dir;
    this.#memory = memory;
    this.#segments = segments;
    this.#reader = reader;
    this.#wal = wal;
    this.#hooks = hooks;
  }

  /**
   * Goes back to where our history and the primary's part.
   * @param unjudged how often the primary was told where we stood before this, and has not yet said
   *   what it thinks of it
   * @returns `follows`: it may go on from the position that the space has now. `forked`: nobody can
   *   say which entries are the right ones. `refused`: what is shared was freed here
   * Rejects as the disk and the log do; nothing is half done then.
   */
  async back(
    space: SpaceState,
    epoch: Epoch,
    primary: History,
    unjudged: number,
  ): Promise<PositionAnswer> {
    const { facts, slot } = space;
    await this.#wal.whenDurable(space, this.#memory.allocated(slot));
    // Another primary may have come meanwhile.
    if (facts.role !== 'replica' || facts.epoch !== epoch || facts.epochSeen > epoch) {
      return 'follows';
    }
    const own = { rows: facts.history, last: facts.position.sequence };
    const common = divergenceOf(own, primary);
    if (common === undefined) return this.#isBack(space) ? 'follows' : 'forked';
    const kept = await this.#entryAt(space, common);
    if (!kept) return 'refused';
    space.isRewinding = true;
    try {
      await this.#rewind(space, kept.position, kept.timestamp);
    } finally {
      space.isRewinding = false;
    }
    this.#gone.set(space, { epoch, sequence: facts.position.sequence, unjudged });
    return 'follows';
  }

  /**
   * All that the space has goes to quarantine, and is taken back: another node has begun the
   * history that goes on (row 114). A replica's, in the queue of roles; nothing is half done.
   */
  async undo(space: SpaceState): Promise<void> {
    await this.#wal.whenDurable(space, this.#memory.allocated(space.slot));
    if (space.facts.position.sequence === 0) return;
    space.isRewinding = true;
    try {
      await this.#rewind(space, NO_POSITION, 0n);
    } finally {
      space.isRewinding = false;
    }
  }

  /**
   * A primary that has introduced the space more than once says as often to go back, and we have
   * gone already. It compares our position anew; where that is no end of it, it is a fork.
   */
  #isBack(space: SpaceState): boolean {
    const gone = this.#gone.get(space);
    const { epoch, position } = space.facts;
    if (gone?.epoch !== epoch || gone.sequence !== position.sequence) return false;
    return gone.unjudged-- > 0;
  }

  async #entryAt(
    space: SpaceState,
    sequence: Sequence,
  ): Promise<{ position: Position; timestamp: bigint } | undefined> {
    if (sequence === 0) return { position: NO_POSITION, timestamp: 0n };
    if (sequence < space.facts.first) return undefined;
    const position = (await this.#reader.lookUp([{ space, sequence }])).get(space)?.position;
    for await (const [entry] of this.#reader.read(space, sequence, sequence)) {
      return position && { position, timestamp: entry!.timestamp };
    }
    return undefined;
  }

  async #rewind(space: SpaceState, position: Position, timestamp: bigint): Promise<void> {
    const { facts, slot } = space;
    const from = position.sequence + 1;
    const end = facts.position;
    this.#hooks.stopApplying(space);
    const parts = [this.#disk, this.#dir, this.#memory, this.#reader] as const;
    const quarantine = await keepSuffix(...parts, space, from);
    if (this.#memory.allocated(slot) !== end.sequence) {
      throw failure('ProtocolViolation', `entries of ${facts.name} came while it was rewound`);
    }
    const rewind: Rewind = { position, timestamp, to: end.sequence, quarantine };
    await this.#wal.record({ kind: 'rewind', id: facts.id, ...rewind }, () =>
      this.#apply(space, rewind),
    );
    this.#hooks.rewound(space, rewind);
  }

  /** In the turn in which the record becomes durable. */
  #apply(space: SpaceState, rewind: Rewind): void {
    const { slot, facts } = space;
    const last = rewind.position.sequence;
    assert(this.#memory.allocated(slot) === rewind.to, `${facts.name} grew while it was rewound`);
    // The record stands behind all that is durable as yet, and what is void before.
    applyRewind(facts, rewind, this.#memory.durableLsn);
    this.#memory.setAllocated(slot, last);
    this.#memory.setDurable(slot, last);
    this.#segments.rewindIndexes(slot, last + 1);
    takeBack(space, last + 1);
  }
}
