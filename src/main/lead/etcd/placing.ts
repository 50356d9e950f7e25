/** Where spaces are: the nodes of a new one, what lacks nodes, what a lost node leaves behind. */
import { failure } from '../../../shared/errors.js';
import { completed, placeSpace, type SpaceRow } from '../../../shared/lead/placement.js';
import { PROMOTIONS_MAX } from '../../../shared/limits.js';
import type { Floor } from '../../../shared/members/quorum.js';
import type { EtcdRecords, Known } from './records.js';

export interface PlacingHooks {
  /**
   * Writes a record where it is still as known. @returns whether it was written
   * Rejects CoordinatorUnavailable.
   */
  put(known: Known, row: SpaceRow): Promise<boolean>;
  /** What was written has come to rest: what found no place may be tried again. */
  written(): void;
}

/** How often the record of a space is changed anew where somebody else was quicker. */
const REMOVE_ATTEMPTS = 5;

export class EtcdPlacing {
  readonly #nodeId: string;
  readonly #replicas: number;
  readonly #records: EtcdRecords;
  readonly #hooks: PlacingHooks;
  /** Records that are being written, by space id. */
  readonly #writing = new Set<string>();

  /** @param replicas that a space should have, besides its leader */
  constructor(nodeId: string, replicas: number, records: EtcdRecords, hooks: PlacingHooks) {
    this.#nodeId = nodeId;
    this.#replicas = replicas;
    this.#records = records;
    this.#hooks = hooks;
  }

  /** The record of a space: the one that is there, or a new one. */
  async place(space: string, lead: boolean | undefined): Promise<SpaceRow> {
    const id = this.#records.idOf(space);
    if (!this.#records.space(id)) {
      const { living, loads } = this.#records;
      const nodeIds = placeSpace(space, this.#nodeId, lead, this.#replicas, living, loads);
      const row: SpaceRow = { name: space, nodeIds, epoch: 0, leader: undefined, released: false };
      // Those that are placed meanwhile go elsewhere.
      loads.add(row);
      await this.#hooks.put({ id, row, revision: 0 }, row).finally(() => loads.remove(row));
    }
    const row = this.#records.space(id)?.row;
    if (!row) throw failure('CoordinatorUnavailable', `etcd has no record of ${space}`);
    return row;
  }

  /** @returns whether the space lacks nodes, and living ones are about to be added to it */
  complete(known: Known): boolean {
    const { living, loads } = this.#records;
    const nodeIds = completed(known.row, this.#replicas, living, loads.copies);
    if (nodeIds) this.writeSoon(known, { ...known.row, nodeIds });
    return nodeIds !== undefined;
  }

  /** So many at once and no more; what finds no place comes again with the next comparison. */
  writeSoon(known: Known, row: SpaceRow): void {
    if (this.#writing.size >= PROMOTIONS_MAX || this.#writing.has(known.id)) return;
    this.#writing.add(known.id);
    this.#hooks
      .put(known, row)
      .then(
        () => true,
        () => false,
      )
      .then((isWritten) => {
        this.#writing.delete(known.id);
        // What was refused at once would be tried again at once, for ever.
        if (isWritten && this.#writing.size === 0) this.#hooks.written();
      });
  }

  /** The other nodes that a space is to be on, and that live. */
  othersOf(space: string): readonly string[] {
    const { living } = this.#records;
    const row = this.#records.space(this.#records.idOf(space))?.row;
    return row?.nodeIds.filter((id) => id !== this.#nodeId && living.has(id)) ?? [];
  }

  /** See Coordinator.writeFloor. Where somebody was quicker it is still to be written. */
  async writeFloor(space: string, { epoch, sequence }: Floor): Promise<void> {
    const known = this.#records.space(this.#records.idOf(space));
    if (known?.row.epoch !== epoch) return;
    await this.#hooks.put(known, { ...known.row, floor: { epoch, sequence } });
  }

  /** See Coordinator.removeNode. */
  async removeNode(nodeId: string): Promise<void> {
    if (this.#records.living.has(nodeId)) {
      throw failure('Configuration', `${nodeId} lives: close it before it is removed`);
    }
    const concerned = this.#records.spaceIds().filter((id) => this.#isOn(id, nodeId));
    if (concerned.length === 0) throw failure('ReplicaNotFound', `no space is on ${nodeId}`);
    for (const id of concerned) {
      // Its leader may change the record meanwhile: what stands there then is changed.
      for (let n = 0; n < REMOVE_ATTEMPTS && this.#isOn(id, nodeId); n++) {
        const known = this.#records.space(id)!;
        const nodeIds = known.row.nodeIds.filter((other) => other !== nodeId);
        await this.#hooks.put(known, { ...known.row, nodeIds });
      }
      if (this.#isOn(id, nodeId)) {
        throw failure('CoordinatorUnavailable', `${nodeId} is still on spaces: try again`);
      }
    }
  }

  #isOn(id: string, nodeId: string): boolean {
    return this.#records.space(id)?.row.nodeIds.includes(nodeId) ?? false;
  }
}
