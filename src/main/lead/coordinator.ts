/**
 * Who leads a space, and in which epoch: the answer of a coordinator. `static` (here) is the
 * configuration and explicit promotion; `etcd` (lead/etcd/coordinator.ts) decides by leases and
 * compare-and-swap. The node asks it before it claims an epoch, and before it acknowledges.
 *
 * A coordinator says who may lead. How a space is led, promoted, fenced and rejoined is the
 * node's business: what a coordinator may ask of it is `CoordinatedNode`, nothing else.
 */

import type { Address } from '../../shared/address.js';
import { type EngramError, failure } from '../../shared/errors.js';
import type { Member } from '../../shared/log/node-record.js';
import type { Floor } from '../../shared/members/quorum.js';
import type { Epoch, Position } from '../../shared/position.js';

/** Who leads a space, as far as the coordinator knows. */
export interface Leader {
  readonly nodeId: string;
  readonly epoch: Epoch;
  /** Where it listens; undefined where it is not known to be alive. */
  readonly address: Address | undefined;
}

/** Where a space is to be: its nodes, this one among them or not, and who leads it. */
export interface Placement {
  readonly nodeIds: readonly string[];
  readonly leader: Leader | undefined;
}

/** Where one node stands in one space. */
export interface Standing {
  readonly space: string;
  readonly role: 'primary' | 'replica';
  /** In which it leads or follows the space. */
  readonly epoch: Epoch;
  /** Its last durable entry. */
  readonly position: Position;
  /** It is the primary, and takes appends. */
  readonly leads: boolean;
  /**
   * Why it must not lead (damaged, rewinding, regressed, fenced by a replica, the log has failed);
   * undefined: it may. What `stepDown` has stopped is no such reason.
   */
  readonly refusal: string | undefined;
}

/** What a coordinator tells of itself; the node makes events of it. */
export type CoordinatorEvent =
  /** The coordinator can be reached, or not; led spaces acknowledge until the lease runs out. */
  | { readonly kind: 'link'; readonly connected: boolean; readonly reason: string }
  /** The lease of this node holds, or may have run out: nothing is acknowledged meanwhile. */
  | { readonly kind: 'lease'; readonly held: boolean; readonly reason: string }
  /** Another node leads the space, or nobody does. */
  | { readonly kind: 'leader'; readonly space: string; readonly leader: Leader | undefined }
  /** A space without a leader gets none from here for now; it is tried again. */
  | { readonly kind: 'waiting'; readonly space: string; readonly reason: string };

/** What a coordinator may ask of its node. */
export interface CoordinatedNode {
  readonly nodeId: string;
  readonly clusterId: string;
  /** Where other nodes can dial this one. */
  readonly address: Address | undefined;
  /** Where this node stands in each space that it has. */
  standings(): Iterable<Standing>;
  standingOf(space: string): Standing | undefined;
  /** The nodes that have a space, as far as this one knows; itself among them. */
  nodesOf(space: string): readonly string[];
  /**
   * Makes this node the primary of a space: two steps, `claim` between them (DESIGN 9). Resolves
   * when appends are taken. Creates a space that no node has yet. Rejects where it does not
   * qualify.
   * @param nodeIds that a new space is to be on
   */
  promote(space: string, nodeIds: readonly string[]): Promise<void>;
  /** From now on nothing of the space is acknowledged here: it is another's, or nobody's. */
  stepDown(space: string, reason: string): void;
  /** This node leads the space in this very epoch still: what `stepDown` has stopped goes on. */
  resume(space: string, epoch: Epoch): void;
  /**
   * A record names this epoch of the space, as given to another node; `leader` leads in it.
   * @param isNews the record is new; it is told again while it stands, once a second
   */
  heard(space: string, epoch: Epoch, leader: Member | undefined, isNews: boolean): void;
  /** The nodes that take part have changed, or their addresses. */
  setMembers(members: readonly Member[]): void;
  /** A led space is to be on these nodes (this one among them); durable when it resolves. */
  setReplicas(space: string, nodeIds: readonly string[]): Promise<void>;
  event(event: CoordinatorEvent): void;
}

export interface Coordinator {
  readonly kind: 'static' | 'etcd';
  /**
   * The moment (performance.now(), ms) from which on this node must acknowledge nothing: looked at
   * after an fdatasync and before the promise resolves (row 74). Infinity: no bound; -Infinity:
   * nothing, since no lease is held or the machine has slept since (row 84).
   */
  readonly ackUntilMs: number;
  /**
   * Once, when the log is open and the node listens. Resolves when it is known which of the
   * spaces that this node led it still leads; `stepDown` has been called for the others.
   */
  start(node: CoordinatedNode): Promise<void>;
  /**
   * Takes the right to lead a space in an epoch above `above`, that no other node ever gets. By
   * `promote`, after positions and before promises.
   * @param from the node that hands the space over, in a switchover; else nobody may lead it now
   * @returns the epoch. Rejects NotPrimary where another node leads, CoordinatorUnavailable.
   */
  claim(space: string, above: Epoch, from?: string): Promise<Epoch>;
  /** A claim that came to nothing, or a space that is led no more: others may claim it now. */
  release(space: string, epoch: Epoch): Promise<void>;
  /**
   * Whether this node still leads the space in this epoch, as of now and not as of what was heard
   * last: before a paused primary goes on in its epoch (row 72). Rejects CoordinatorUnavailable.
   */
  holds(space: string, epoch: Epoch): Promise<boolean>;
  /** Whether the node lives, as of what was heard last; true where nobody says that it does not. */
  lives(nodeId: string): boolean;
  /**
   * The pending change of members that the coordinator is the witness of: who leads the space must
   * hold that entry. undefined: none, as of what was heard last.
   */
  floorOf(space: string): Floor | undefined;
  /**
   * Becomes the witness of one, where this node leads the space in the epoch of the entry: then
   * `floorOf` says so. Rejects CoordinatorUnavailable. undefined: it never is one.
   */
  readonly writeFloor?: (space: string, floor: Floor) => Promise<void>;
  /** Who leads the space, as of what was heard last; undefined: nobody that it knows of. */
  leaderOf(space: string): Leader | undefined;
  /**
   * A space is opened that this node does not have: finds it its nodes, for good, or says which
   * they are. undefined: nobody but the node's own configuration decides, and it leads at once.
   * @param lead whether this node is to lead it; undefined: as the load has it
   */
  place(space: string, lead: boolean | undefined): Promise<Placement | undefined>;
  /**
   * A node is lost for good: no space is on it any more, others take its place.
   * Rejects Configuration where it lives, ReplicaNotFound, CoordinatorUnavailable.
   */
  removeNode(nodeId: string): Promise<void>;
  /**
   * How many spaces each living node leads, as of what was heard last, without those that are
   * drained. undefined: it does not know.
   */
  led(): ReadonlyMap<string, number> | undefined;
  /**
   * This node is to lead nothing that another one can, or takes its part again; until it closes.
   * Rejects CoordinatorUnavailable.
   */
  drain(isDrained: boolean): Promise<void>;
  /** The log is at rest: leaderships and the lease are given up, so that others go on at once. */
  close(): Promise<void>;
}

/** Configuration, and people who call `promote`: it knows nothing that its node does not. */
export class StaticCoordinator implements Coordinator {
  readonly kind = 'static';
  readonly ackUntilMs = Number.POSITIVE_INFINITY;

  start(): Promise<void> {
    return Promise.resolve();
  }

  /** The promises of the members are what makes the epoch this node's own (DESIGN 9). */
  claim(_space: string, above: Epoch): Promise<Epoch> {
    return Promise.resolve(above + 1);
  }

  release(): Promise<void> {
    return Promise.resolve();
  }

  holds(): Promise<boolean> {
    return Promise.resolve(true);
  }

  lives(): boolean {
    return true;
  }

  floorOf(): undefined {
    return undefined;
  }

  leaderOf(): undefined {
    return undefined;
  }

  place(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  /** Whom a space goes to is its node's own business. */
  removeNode(): Promise<void> {
    return Promise.resolve();
  }

  led(): undefined {
    return undefined;
  }

  /** Nobody gives it anything by himself. */
  drain(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** A pause may have outlived the lease: the clock is asked at the last moment (row 74). */
export function leaseRefusal({ ackUntilMs }: Coordinator): EngramError | undefined {
  // Without a bound no clock is read.
  if (ackUntilMs === Number.POSITIVE_INFINITY) return undefined;
  const nowMs = performance.now();
  if (nowMs < ackUntilMs) return undefined;
  const agoMs = Math.ceil(nowMs - ackUntilMs);
  const found =
    agoMs === Number.POSITIVE_INFINITY
      ? 'there is none, or it ended while the machine slept'
      : `it may have run out ${agoMs} ms ago`;
  return failure('LeaseLost', found);
}
