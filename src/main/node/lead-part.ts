/** Who leads the spaces of a node, and what of it other members are asked. */

import type { Address } from '../../shared/address.js';
import { EngramError, firstLine } from '../../shared/errors.js';
import type { PositionRow, SpaceRow } from '../../shared/wire/protocol.js';
import type { Doors, Introducer } from '../follow/host.js';
import { noPlace } from '../follow/position-rows.js';
import type { Coordinator } from '../lead/coordinator.js';
import { Leadership } from '../lead/leadership.js';
import { Acquaintances } from '../lead/members/acquaintances.js';
import { LeaderTips } from '../lead/promotion/leader-tips.js';
import { Renewal } from '../lead/renewal.js';
import type { SpaceTable } from '../log/space-table.js';
import type { NodeConfig } from '../options/options.js';
import { PeerClient, type PeerIdentity } from '../peer/client.js';
import type { Emit } from '../runtime/emit.js';
import type { Sockets } from '../runtime/machine.js';
import type { Refusals } from '../runtime/refusals.js';
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
  readonly refusals: Refusals;
  /** Aborted when the node closes. */
  readonly stop: AbortSignal;
  readonly emit: Emit<NodeEvents>;
}

export class LeadPart {
  readonly leadership: Leadership;
  /** Asks other members. */
  readonly peers: PeerClient;
  /** Whom this node lets in. */
  readonly acquaintances: Acquaintances;
  readonly #refusals: Refusals;
  readonly #spaces: SpaceTable;
  /** What leaders have durable. */
  readonly tips: LeaderTips;
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
    this.#refusals = given.refusals;
    this.#spaces = spaces;
    this.acquaintances = new Acquaintances({
      nodeId: own.nodeId,
      isProved: own.credentials.now.keys.length > 0 || own.credentials.now.tls !== undefined,
      mayReplicate: config.mayReplicate,
      peers: this.peers,
      spaces: () => spaces.spaces,
      known: () => leadership.known(),
      isLinked: (nodeId) => follow.primaries.versionOf(nodeId) !== undefined,
      reachable: (space) => leadership.electorate.reachable(space),
    });
    const { electorate } = leadership;
    const { nodeId } = config;
    this.tips = new LeaderTips({ nodeId, memory, spaces, coordinator, electorate });
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
      fenced: (space, epoch, leader) => {
        try {
          leadership.fencing.heard(space, epoch, leader);
        } catch (error) {
          if (!(error instanceof EngramError)) throw error;
          // The space goes there no more; nothing else comes of what it said.
          given.refusals.count('replication', 'epoch', '', true, firstLine(error));
        }
      },
      met: (space) => leadership.founders.met(space),
      stale: (space) => leadership.stale(space),
    } satisfies Partial<ShipPart['later']>);
  }

  /** What primaries that dial this node are judged by. */
  get leading(): Leading {
    const { leadership } = this;
    return {
      doors: this.#doors,
      register: (primary, rows) => this.#register(primary, rows),
      regressed: (...told) => this.#renewal.told(...told),
      leaderOf: (space) => leadership.leaderOf(space),
      heardIn: (frame, peerId) => {
        // It was let in, and may be none of ours by now.
        this.acquaintances.check(peerId);
        leadership.heardIn(frame, peerId);
      },
      mayReplicate: (nodeId, id) => this.#mayReplicate(nodeId, id),
      heard: (space, epoch) => leadership.fencing.heard(space, epoch, undefined),
      told: (space, history) => leadership.told(space, history),
      rejoin: (...asked) => leadership.rejoin(...asked),
      peers: { ...leadership.handlers, ...this.tips.handlers },
    };
  }

  async #register(primary: Introducer, rows: readonly SpaceRow[]): Promise<PositionRow[]> {
    const { acquaintances } = this;
    acquaintances.check(primary.nodeId);
    const isAllowed = ({ name }: SpaceRow): boolean =>
      acquaintances.mayReplicate(primary.nodeId, name);
    const refused = rows.filter((row) => !isAllowed(row));
    for (const { name } of refused) {
      const detail = `${primary.nodeId} may not replicate ${name} here`;
      this.#refusals.count('replication', 'not-allowed', '', true, detail);
    }
    const taken = await this.leadership.roles.register(primary, rows.filter(isAllowed));
    return [...taken, ...refused.map(noPlace)];
  }

  /** @param id of a space; one that is not here is told of to anybody who may ask */
  #mayReplicate(nodeId: string, id: string): boolean {
    const space = this.#spaces.byId(id);
    return !space || this.acquaintances.mayReplicate(nodeId, space.facts.name);
  }

  get #doors(): Doors {
    const { acquaintances } = this;
    const refusals = this.#refusals;
    return {
      knows: (nodeId) => acquaintances.knows(nodeId),
      isMembers: (address) => acquaintances.isMembers(address),
      isSuspect: (address) => refusals.isSuspect(address),
      admit: (nodeId, address) => {
        acquaintances.check(nodeId);
        acquaintances.came(address);
      },
      refused: (reason, address, detail) => {
        const isMembers = acquaintances.isMembers(address);
        refusals.count('replication', reason, address, isMembers, detail);
      },
    };
  }

  /** Nobody is asked any more; what is under way has ended. */
  async close(): Promise<void> {
    this.peers.close();
    await this.leadership.close();
  }
}
