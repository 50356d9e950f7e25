/**
 * A directory that has forgotten what it acknowledged, under the id that it had then (a copy put
 * back, a disk that lied): its primary has said so. It is somebody new from then on: it takes
 * another id, durably, before it acknowledges anything more, and learns (DESIGN 14, row 108).
 */
import { failure } from '../../shared/errors.js';
import type { Sequence } from '../../shared/position.js';
import type { LogEvents } from '../log/events.js';
import type { StateKeeper } from '../log/retention/state-keeper.js';
import type { SpaceState, SpaceTable } from '../log/space-table.js';
import type { PeerIdentity } from '../peer/client.js';
import { newDirectoryId, readNodeFile, writeNodeFile } from '../recovery/node-file.js';
import type { Emit } from '../runtime/emit.js';
import type { Disk } from '../segments/disk.js';
import type { Replication } from '../ship/replication.js';
import type { LeadEvents } from './events.js';
import type { Leadership } from './leadership.js';

type Writable<T> = { -readonly [K in keyof T]: T[K] };

export interface RenewalParts {
  readonly disk: Disk;
  readonly dir: string;
  /** As who this node greets. */
  readonly own: PeerIdentity;
  readonly spaces: SpaceTable;
  readonly state: StateKeeper;
  readonly replication: Replication;
  readonly leadership: Leadership;
  refuseAll(error: Error): void;
  readonly emit: Emit<LeadEvents & LogEvents>;
}

export class Renewal {
  readonly #parts: RenewalParts;
  #isUnderWay = false;
  #isRenewed = false;

  constructor(parts: RenewalParts) {
    this.#parts = parts;
  }

  /**
   * At once: nothing more is taken, or acknowledged, as who this directory was.
   * @param space that follows the primary on this very link; undefined: it does not
   * Throws ProtocolViolation where it does not, or the entries are here, or where this id was made
   * in this life of the node: what was acknowledged as that is here.
   */
  told(primaryId: string, space: SpaceState | undefined, flushed: Sequence): void {
    const { leadership, own, emit } = this.#parts;
    if (!space || flushed <= space.facts.position.sequence) {
      const found = `${primaryId} misses entries up to ${flushed} that are here, or not its own`;
      throw failure('ProtocolViolation', found);
    }
    // A primary that lies would have it become somebody new again and again, in every space.
    if (this.#isRenewed) {
      const found = `${primaryId} misses what ${own.directoryId} has never acknowledged`;
      throw failure('ProtocolViolation', found);
    }
    const { name } = space.facts;
    const why = `${primaryId} was told of ${name} up to ${flushed}: more than there is here`;
    const refuse = (): void => this.#parts.refuseAll(failure('ConnectionLost', why));
    refuse();
    if (this.#isUnderWay) return;
    this.#isUnderWay = true;
    leadership.roles
      .serially(() => this.#renew())
      // Who has come meanwhile was greeted under the old one.
      .then(refuse)
      .catch((error) => emit('state-failed', { error }))
      .finally(() => {
        this.#isUnderWay = false;
      });
  }

  /** Nothing else goes on in the queue of roles: nobody is followed meanwhile. */
  async #renew(): Promise<void> {
    const { disk, dir, own, spaces, state, replication, emit } = this.#parts;
    const { directoryId: before } = own;
    const directoryId = newDirectoryId();
    await writeNodeFile(disk, dir, { ...(await readNodeFile(disk, dir)), directoryId });
    (own as Writable<PeerIdentity>).directoryId = directoryId;
    this.#isRenewed = true;
    await state.renamed(directoryId);
    // What it has led it has led as another one.
    const { fencing } = this.#parts.leadership;
    for (const space of spaces.spaces) {
      const { role, epochSeen } = space.facts;
      if (role !== 'primary') continue;
      fencing.halt(space);
      await fencing.stepAside(space, epochSeen, undefined, true);
    }
    await replication.renamed(directoryId);
    emit('directory-renewed', { directoryId, before });
  }
}
