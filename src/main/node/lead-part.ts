/** Who leads the spaces of a node, and what of it other members are asked. */
import type { Address } from '../../shared/address.js';
import type { Coordinator } from '../lead/coordinator.js';
import { Leadership } from '../lead/leadership.js';
import { Renewal } from '../lead/renewal.js';
import type { NodeConfig } from '../options/options.js';
import { PeerClient, type PeerIdentity } from '../peer/client.js';
import type { Emit } from '../runtime/emit.js';
import type { Sockets } from '../runtime/machine.js';
import type { NodeEvents } from '../tell/events.js';
import type { FollowPart, Leading } from './follow-part.js';
import type { LogPart } from './log-part.js';
import type { ShipPart } from './ship-part.js';

export interface LeadGiven {
  readonly config: NodeConfig;
  readonly sockets: Sockets;
  readonly own: PeerIdentity;
  readonly coordinator: Coordinator;
  readonly log: LogPart;
  readonly ship: ShipPart;
  readonly follow: FollowPart;
  /** Aborted when the node closes. */
  readonly stop: AbortSignal;
  readonly emit: Emit<NodeEvents>;
}

export class LeadPart {
  readonly leadership: Leadership;
  /** Asks other members. */
  readonly peers: PeerClient;
  readonly #renewal: Renewal;

  constructor(given: LeadGiven) {
    const { config, sockets, own, coordinator, log, ship, follow, stop, emit } = given;
    const { replication } = ship;
    const { disk, dir, memory, spaces, segments, reader, wal, retention } = log;
    this.peers = new PeerClient(sockets, own, (frame, { nodeId }) =>
      this.leadership.heardIn(frame, nodeId),
    );
    const leadership = new Leadership({
      ...{ config, disk, dir, memory, spaces, segments, reader, wal, replication, coordinator },
      peers: this.peers,
      applier: follow.applier,
      stop,
      isLinked: (nodeId) => follow.primaries.versionOf(nodeId) !== undefined,
      emit,
      address: (): Address | undefined => follow.address,
      fence: (space) => follow.fence(space),
      appliedTo: (space) => follow.appliedTo(space),
      isInstalling: (space) => follow.snapshots.isInstalling(space),
      floorMoved: (space) => retention.noteHostFloor(space),
    });
    this.leadership = leadership;
    this.#renewal = new Renewal({
      ...{ disk, dir, own, spaces, state: log.state, replication, leadership, emit },
      refuseAll: (error) => follow.refuseAll(error),
    });
    Object.assign(log.later, { writable: () => leadership.writable() });
    const linked = ship.later.connected;
    Object.assign(ship.later, {
      connected: (replicaId) => {
        linked(replicaId);
        leadership.changes.linked(replicaId);
      },
      fenced: (space, epoch, leader) => leadership.fencing.heard(space, epoch, leader),
      met: (space) => leadership.founders.met(space),
      stale: (space) => leadership.stale(space),
    } satisfies Partial<ShipPart['later']>);
  }

  /** What primaries that dial this node are judged by. */
  get leading(): Leading {
    const { leadership } = this;
    return {
      register: (primary, rows) => leadership.roles.register(primary, rows),
      regressed: (...told) => this.#renewal.told(...told),
      leaderOf: (space) => leadership.leaderOf(space),
      heardIn: (...frame) => leadership.heardIn(...frame),
      heard: (space, epoch) => leadership.fencing.heard(space, epoch, undefined),
      told: (space, history) => leadership.told(space, history),
      rejoin: (...asked) => leadership.rejoin(...asked),
      peers: leadership.handlers,
    };
  }

  /** Nobody is asked any more; what is under way has ended. */
  async close(): Promise<void> {
    this.peers.close();
    await this.leadership.close();
  }
}
