/** The group that is being staged: runs of entries in a slab, and who waits for them. */

import { copyBytes } from '../../../shared/bytes.js';
import { failure } from '../../../shared/errors.js';
import { ENTRY_HEADER_BYTES } from '../../../shared/limits.js';
import { isOfLibrary, readPayloadSize, readType, stageHeader } from '../../../shared/log/entry.js';
import type { Group } from '../../../shared/log/group-commit.js';
import { MEMBERS_ENTRY, type MembersRow } from '../../../shared/members/members.js';
import {
  type NodeMemory,
  RUN_BYTES,
  RUN_COUNT,
  RUN_FIELDS,
  RUN_FIRST,
  RUN_OFFSET,
  RUN_RECEIVED,
  RUN_SLOT,
  type Slab,
} from '../../../shared/memory/slab.js';
import type { EpochStart, Sequence, Slot } from '../../../shared/position.js';

import type { SpaceRows } from '../space-rows.js';
import type { SpaceState } from '../space-table.js';
import type { ReceivedRuns } from './received-runs.js';
import type { Settled } from './settled.js';

/** A group that takes no more entries, on its way to the disk. */
export interface LogGroup extends Group {
  /** Where it was staged, and from sealing on where it stands. */
  slab: Slab;
  runs: number;
  readonly entries: number;
  readonly grouped: boolean;
  /** See OpenGroup. */
  readonly isReceived: boolean;
  readonly settled: Settled[];
  /** See OpenGroup. */
  readonly turns: readonly number[];
  readonly appended: number;
  /** Holds nothing but a mark. */
  readonly markOnly: boolean;
  /** An entry in it says who counts in its space. */
  readonly holdsMembers: boolean;
  /** What it held, when its slab was given up before it became durable. */
  aside: RunTable | undefined;
}

/** A turn of the event loop. An object, for a fraction that is handed on is one for each entry. */
export interface Turn {
  /** When it began. */
  readonly ms: number;
}

/** Turns of the event loop that a group tells apart; what comes later counts as of the last. */
const TURNS_MAX = 64;

export class OpenGroup {
  readonly slab: Slab;
  readonly settled: Settled[] = [];
  /** When turns that appended to it began, ms, and how many appends it had before; in turn. */
  readonly turns: number[] = [];
  /** Entries of this node's own spaces. */
  appended = 0;
  #turnMs = 0;
  bytes = 0;
  entries = 0;
  runs = 0;
  /** No space has two runs: it can be sealed where it stands. */
  grouped = true;
  /** Nothing in it is this node's own: each entry came sealed. */
  isReceived = true;
  /** Holds nothing but a mark. */
  markOnly = true;
  /** An entry in it says who counts in its space: what is published is looked through. */
  holdsMembers = false;
  readonly #number: number;
  readonly #stagedIn: Float64Array;
  readonly #rows: SpaceRows;

  /**
   * @param number of this group, from 1
   * @param stagedIn by slot: the number of the group in which the space was staged last
   * @param rows where the time of each entry stands when it is entered
   */
  constructor(slab: Slab, number: number, stagedIn: Float64Array, rows: SpaceRows) {
    this.slab = slab;
    this.#number = number;
    this.#stagedIn = stagedIn;
    this.#rows = rows;
  }

  /** Puts the header before a payload that stands behind it already, and accounts for both. */
  enter(space: SpaceState, sequence: Sequence, type: number, size: number, turn: Turn): void {
    const { slot, facts } = space;
    const low = this.#rows.timeLow(slot);
    const high = this.#rows.timeHigh(slot);
    stageHeader(this.slab.view, this.bytes, sequence, low, high, type, size, facts.epoch);
    if (slot !== 0) this.append(turn);
    if (isOfLibrary(type)) {
      space.stagedOwn.push(sequence);
      space.lookAt();
      if (type === MEMBERS_ENTRY) this.holdsMembers = true;
    }
    this.add(slot, sequence, 1, ENTRY_HEADER_BYTES + size, 0);
  }

  /** The same for entries that stand behind each other; each header holds its type and size. */
  enterAll(space: SpaceState, first: Sequence, count: number, turn: Turn): void {
    const { view } = this.slab;
    for (let i = 0; i < count; i++) {
      const type = readType(view, this.bytes);
      this.enter(space, first + i, type, readPayloadSize(view, this.bytes), turn);
    }
  }

  /** One more append of that turn. Public for who measures what it costs. */
  append(turn: Turn): void {
    if (turn.ms !== this.#turnMs && this.turns.length < 2 * TURNS_MAX) {
      this.#turnMs = turn.ms;
      this.turns.push(turn.ms, this.appended);
    }
    this.appended++;
  }

  /** Takes entries as another node sealed them, and their sequences. */
  receive(entries: Uint8Array, runs: ReceivedRuns, memory: NodeMemory): void {
    copyBytes(this.slab.bytes, this.bytes, entries);
    if (runs.holdsMembers) this.holdsMembers = true;
    for (let run = 0; run < runs.length; run++) {
      const slot = runs.slot(run);
      const first = runs.first(run);
      const count = runs.count(run);
      const next = memory.allocated(slot) + 1;
      // Whoever else has added to the space meanwhile: its log stays without a gap, and a double.
      if (first !== next) {
        throw failure('ProtocolViolation', `entry ${first} where ${next} belongs`);
      }
      this.add(slot, first, count, runs.bytesOf(run), 1);
      memory.setAllocated(slot, first + count - 1);
    }
  }

  /** Accounts for entries whose bytes have been put at the group's end. */
  add(slot: Slot, first: Sequence, count: number, bytes: number, received: 0 | 1): void {
    const { runs } = this.slab;
    const row = (this.runs - 1) * RUN_FIELDS;
    const continues =
      this.runs > 0 && runs[row + RUN_SLOT] === slot && runs[row + RUN_RECEIVED] === received;
    if (continues) {
      runs[row + RUN_COUNT]! += count;
      runs[row + RUN_BYTES]! += bytes;
    } else {
      if (this.#stagedIn[slot] === this.#number) this.grouped = false;
      this.#stagedIn[slot] = this.#number;
      const next = this.runs * RUN_FIELDS;
      runs[next + RUN_SLOT] = slot;
      runs[next + RUN_FIRST] = first;
      runs[next + RUN_COUNT] = count;
      runs[next + RUN_OFFSET] = this.bytes;
      runs[next + RUN_BYTES] = bytes;
      runs[next + RUN_RECEIVED] = received;
      this.runs++;
    }
    this.bytes += bytes;
    this.entries += count;
    if (slot !== 0) this.markOnly = false;
    if (received === 0) this.isReceived = false;
  }
}

/** Its place in the log is given when it is sealed. */
export function closedGroup(open: OpenGroup): LogGroup {
  return {
    slab: open.slab,
    bytes: open.bytes,
    entries: open.entries,
    runs: open.runs,
    grouped: open.grouped,
    isReceived: open.isReceived,
    settled: open.settled,
    turns: open.turns,
    appended: open.appended,
    markOnly: open.markOnly,
    holdsMembers: open.holdsMembers,
    aside: undefined,
    startLsn: 0,
    previousEnd: 0,
    durableLsn: 0,
    rolls: false,
  };
}

/** The runs of a group, told without their bytes: rows, so that none of them is an object. */
export interface RunTable {
  /** As in a slab. */
  readonly runs: Float64Array;
  /** As `readTips` has them. */
  readonly tips: Uint32Array;
  /** What few groups hold, in the order of their runs. */
  readonly news: readonly RunNews[];
}

/** What a run says besides that it goes on. */
export interface RunNews {
  readonly run: number;
  readonly begins: readonly EpochStart[];
  readonly sets: readonly MembersRow[];
}
