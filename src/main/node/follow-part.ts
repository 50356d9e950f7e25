/** What a node follows: where primaries dial it, what becomes of what they send, what applies. */
import path from 'node:path';
import type { Address } from '../../shared/address.js';
import { failure } from '../../shared/errors.js';
import { FRAME_SHARE } from '../../shared/limits.js';
import type { Sequence } from '../../shared/position.js';
import type { Glance } from '../../shared/wire/peer-frames.js';
import { Applier } from '../follow/apply.js';
import { AppliedWaits, ApplyGate } from '../follow/apply-gate.js';
import { CheckpointFollower } from '../follow/checkpoint-follower.js';
import type { ReceiverHost } from '../follow/host.js';
import { PrimaryLinks } from '../follow/primary-links.js';
import { ReceiverServer } from '../follow/server.js';
import type { SpaceState } from '../log/space-table.js';
import type { NodeConfig } from '../options/options.js';
import { appendHandler, type TakeAppend } from '../peer/append-handler.js';
import type { PeerIdentity } from '../peer/client.js';
import { glanceHandler, peerHandlers } from '../peer/handlers.js';
import type { Emit } from '../runtime/emit.js';
import { inTurn } from '../runtime/in-order.js';
import type { Sockets } from '../runtime/machine.js';
import { QUARANTINE } from '../segments/folders.js';
import { SnapshotIntake } from '../snapshot/intake.js';
import type { NodeEvents } from '../tell/events.js';
import { applyEvents, primaryEvents, snapshotEvents } from '../tell/part-events.js';
import type { LogPart } from './log-part.js';
import type { ShipPart } from './ship-part.js';

export interface FollowGiven {
  readonly config: NodeConfig;
  /** As who this node answers. */
  readonly own: PeerIdentity;
  readonly log: LogPart;
  readonly ship: ShipPart;
  /** Aborted when the node closes. */
  readonly stop: AbortSignal;
  readonly emit: Emit<NodeEvents>;
}

/** What whoever leads decides about primaries that introduce themselves. */
export type Leading = Pick<
  ReceiverHost,
  | 'doors'
  | 'mayReplicate'
  | 'register'
  | 'regressed'
  | 'leaderOf'
  | 'heardIn'
  | 'heard'
  | 'told'
  | 'rejoin'
  | 'peers'
>;

/** The node is being opened: nothing is taken, and who asks may ask again. */
async function notYet(): Promise<never> {
  throw failure('NotPrimary', 'this node is being opened');
}

export class FollowPart {
  readonly primaries = new PrimaryLinks();
  readonly snapshots: SnapshotIntake;
  /** Who waits for what the host applies. */
  readonly applied = new AppliedWaits();
  /** undefined: its host applies nothing where it leads. */
  readonly gate: ApplyGate | undefined;
  /** undefined: this node's host applies nothing. */
  readonly applier: Applier | undefined;
  /** A primary's link is there; what parts that come later do about it. */
  readonly later = {
    connected: (_primaryId: string): void => undefined,
    append: notYet as TakeAppend,
    glance: notYet as () => Promise<Glance>,
  };
  readonly #given: FollowGiven;
  readonly #checkpoints: CheckpointFollower | undefined;
  /** undefined: nobody can dial this node. */
  #server: ReceiverServer | undefined;
  #address: Address | undefined;

  /** Goes on where an earlier life was: snapshots that were coming, entries to be applied. */
  static async open(given: FollowGiven): Promise<FollowPart> {
    const part = new FollowPart(given);
    try {
      await part.snapshots.start();
    } catch (error) {
      await inTurn([() => part.rest(), () => part.close()]).catch(() => undefined);
      throw error;
    }
    for (const space of given.log.spaces.spaces) {
      part.applier?.roleChanged(space);
    }
    return part;
  }

  private constructor(given: FollowGiven) {
    const { config, log, emit, stop } = given;
    const { disk, dir, memory, spaces, segments, reader, wal, retention } = log;
    this.#given = given;
    this.#checkpoints = CheckpointFollower.of(config, memory, retention);
    const parts = [disk, dir, memory, spaces, segments] as const;
    this.snapshots = new SnapshotIntake([...parts], config, reader, wal, () => this.applier, {
      ...snapshotEvents(emit, config.nodeId, dir),
      installed: (space) => {
        retention.noteHostFloor(space);
        void retention.run();
      },
    });
    const { apply, rewound, appliedUpTo } = config;
    const keptAt = (name: string): string => path.join(dir, QUARANTINE, name);
    this.applier =
      apply || rewound
        ? new Applier(config, reader, wal, keptAt, {
            applied: (space, sequence) => {
              this.#server?.applied(space, sequence);
              this.applied.reached(space, sequence);
            },
            closing: stop,
            ...applyEvents(emit),
          })
        : undefined;
    this.gate = config.applyWhenLeading
      ? new ApplyGate({
          ...{ memory, applied: this.applied, closing: stop },
          appliedTo: (space) => this.appliedTo(space),
          sync: () => wal.syncSoon(),
        })
      : undefined;
    Object.assign(log.later, {
      durable: (durable) => this.#server?.flushed(durable),
      refused: (error) => this.refuseAll(error),
      applied: (space) => {
        const isHanded = space.facts.role === 'replica' || config.applyWhenLeading;
        if (!apply || !isHanded) return undefined;
        // What a restart begins from.
        return appliedUpTo ? this.appliedTo(space) : space.facts.applied;
      },
    } satisfies Partial<LogPart['later']>);
    const twin = async (nodeId: string, directoryId: string): Promise<string | undefined> =>
      await this.#server?.twinOf(nodeId, directoryId);
    Object.assign(given.ship.later, { twin });
  }

  /** Keys or certificates were read anew. */
  renewed(): void {
    this.#server?.renewed();
  }

  /** Where this node listens; undefined: it does not. */
  get address(): Address | undefined {
    return this.#address;
  }

  appliedTo(space: SpaceState): Sequence {
    const { applied, position } = space.facts;
    return this.applier?.appliedTo(space) ?? Math.min(applied, position.sequence);
  }

  /** The same as its host sees it: what it was not handed it has applied itself. */
  hostAppliedTo(space: SpaceState): Sequence {
    const { config, log } = this.#given;
    const isItself = space.facts.role === 'primary' && !config.applyWhenLeading;
    return isItself ? log.memory.durable(space.slot) : this.appliedTo(space);
  }

  /** From now on primaries may dial this node. Rejects as the system does. */
  async listen(listen: Address, sockets: Sockets, leading: Leading): Promise<void> {
    const { config, own, log, ship, emit } = this.#given;
    const { replication } = ship;
    const { memory, spaces, reader, wal } = log;
    const appliedTo = (space: SpaceState): Sequence => this.appliedTo(space);
    const connected = (primaryId: string): void => this.later.connected(primaryId);
    this.#server = new ReceiverServer(sockets, {
      ...own,
      get directoryId() {
        return own.directoryId;
      },
      frameMemoryBytes: config.memoryBudgetBytes / FRAME_SHARE,
      wal,
      snapshots: this.snapshots,
      spaceById: (id) => spaces.byId(id),
      spaceByWords: (words) => spaces.byWords(words),
      slotAt: (view, at) => spaces.slotAt(view, at),
      epochSeen: (slot) => spaces.rows.epochSeen(slot),
      spaceAt: (slot) => spaces.bySlot[slot]!,
      appliedTo,
      primaries: this.primaries,
      ...primaryEvents(emit, this.primaries, connected, replication),
      checkpointed: (space, sequence) => this.#checkpoints?.told(space, sequence),
      ...leading,
      peers: {
        ...peerHandlers({
          ...{ nodeId: own.nodeId, own, memory, spaces, reader, appliedTo },
          standingOf: (space) => replication.quorum.standingOf(space),
        }),
        ...appendHandler((ask) => this.later.append(ask)),
        ...glanceHandler(() => this.later.glance()),
        ...leading.peers,
      },
    });
    this.#address = await this.#server.listen(listen);
  }

  /** Nothing of the space is taken from whoever was its primary. */
  fence(space: SpaceState): void {
    this.#server?.fence(space);
  }

  /** Its primary is to dial this node anew, and to introduce the space again. */
  dialAgain(space: SpaceState): void {
    this.#server?.dialAgain(space);
  }

  /** What primaries have sent and nobody has yet is taken back. */
  refuseAll(error: Error): void {
    this.#server?.refuseAll(error);
  }

  /** What primaries send would never let the log come to rest. */
  async rest(): Promise<void> {
    const steps = [() => this.#server?.close('the node closes'), () => this.#checkpoints?.close()];
    await inTurn(steps);
  }

  async close(): Promise<void> {
    await inTurn([
      () => this.snapshots.close(),
      () => this.applier?.close().catch((error) => this.#given.log.stateFailed(error)),
    ]);
  }
}
