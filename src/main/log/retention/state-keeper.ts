/** Writes the state, in two generations, off the append path. */
import { ByteRoom } from '../../../shared/bytes.js';
import { CHANGES_A_TURN } from '../../../shared/limits.js';
import { type Hole, type StateOwner, StateWriter } from '../../../shared/log/state.js';
import type { NodeMemory } from '../../../shared/memory/slab.js';
import { STATE_FILES } from '../../recovery/recovery.js';
import { nextTurn } from '../../runtime/turns.js';
import { type Disk, replaceFile } from '../../segments/disk.js';
import type { Segments } from '../../segments/segments.js';
import { passingReason } from '../health.js';
import type { SpaceState, SpaceTable } from '../space-table.js';

const STATE_SLACK_BYTES = 1_024;

export class StateKeeper {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #memory: NodeMemory;
  readonly #spaces: SpaceTable;
  readonly #segments: Segments;
  #own: StateOwner;
  readonly #holes: () => readonly Hole[];
  readonly #refresh: (space: SpaceState) => void;
  #generation: number;
  #running: Promise<void> | undefined;
  #queued: Promise<void> | undefined;
  /** Bytes that the next state may take, as the last one did. */
  #mayTake = STATE_SLACK_BYTES;
  readonly #room = new ByteRoom();
  /** How many states are being taken. */
  #drafts = 0;

  /** @param refresh brings what a space keeps for its replicas up to date */
  constructor(
    disk: Disk,
    dir: string,
    memory: NodeMemory,
    spaces: SpaceTable,
    segments: Segments,
    own: StateOwner,
    generation: number,
    holes: () => readonly Hole[],
    refresh: (space: SpaceState) => void,
  ) {
    this.#disk = disk;
    this.#dir = dir;
    this.#memory = memory;
    this.#spaces = spaces;
    this.#segments = segments;
    this.#own = own;
    this.#generation = generation;
    this.#holes = holes;
    this.#refresh = refresh;
  }

  /** Of the newest one that is durable. */
  get generation(): number {
    return this.#generation;
  }

  /** This directory has another id from now on: durable when it resolves. */
  renamed(directoryId: string): Promise<void> {
    this.#own = { ...this.#own, directoryId };
    return this.write();
  }

  /** Durable when it resolves: a state that was begun after the call. */
  write(): Promise<void> {
    if (!this.#running) {
      this.#running = this.#writeOne().finally(() => {
        this.#running = undefined;
      });
      return this.#running;
    }
    this.#queued ??= this.#running
      .catch(() => undefined)
      .then(() => {
        this.#queued = undefined;
        return this.write();
      });
    return this.#queued;
  }

  /**
   * Rows of a state are being taken, over several turns. No segment may be freed meanwhile: the
   * state would begin in one that it does not list, with rows of before (DESIGN 4, State).
   */
  get isDrafting(): boolean {
    return this.#drafts > 0;
  }

  /** The first one after opening. On a full disk it takes the room that is set aside (row 13). */
  async first(): Promise<void> {
    try {
      await this.write();
    } catch (error) {
      if (passingReason(error) !== 'disk-full') throw error;
      await this.#segments.giveBack();
      await this.write();
    }
  }

  async #writeOne(): Promise<void> {
    const generation = this.#generation + 1;
    const { bytes, written } = await this.encode(generation, this.#own, () =>
      this.#segments.stateBegins(),
    );
    await replaceFile(this.#disk, this.#dir, STATE_FILES[generation % 2]!, bytes).finally(() =>
      this.#room.leave(bytes),
    );
    this.#generation = generation;
    written();
  }

  /**
   * The state as of now. Each row is as of the durable end at its moment; replay skips what stands
   * below it.
   * @param taken called in the turn in which the list of live segments is taken
   */
  async encode<T>(
    generation: number,
    own: StateOwner,
    taken: () => T,
  ): Promise<{ readonly bytes: Uint8Array; readonly written: T }> {
    this.#drafts++;
    return await this.#draft(generation, own, taken).finally(() => {
      this.#drafts--;
    });
  }

  async #draft<T>(
    generation: number,
    own: StateOwner,
    taken: () => T,
  ): Promise<{ readonly bytes: Uint8Array; readonly written: T }> {
    const room = this.#room.take(this.#mayTake);
    const writer = new StateWriter(generation, this.#memory.durableLsn, own, room);
    const { spaces } = this.#spaces;
    let drafted = 0;
    for (const space of spaces) {
      if (++drafted % CHANGES_A_TURN === 0) await nextTurn();
      this.#refresh(space);
      writer.space({ lsn: this.#memory.durableLsn, facts: space.facts });
    }
    const nodeSequence = this.#memory.durable(0);
    const written = taken();
    const { list } = this.#segments;
    const bytes = writer.finish(this.#memory.durableLsn, nodeSequence, list, this.#holes());
    // A segment more, a name: the next one is hardly longer.
    this.#mayTake = bytes.length + STATE_SLACK_BYTES;
    return { bytes, written };
  }
}
