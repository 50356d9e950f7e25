/** What the host holds of a node. How it is made is behind it, out of reach. */

import type { Address } from '../../shared/address.js';
import type { Member } from '../../shared/log/node-record.js';
import type { SwitchoverOptions, SwitchoverReport } from '../lead/handover.js';
import type { Located } from '../lead/leadership.js';
import type { OpenSpaceOptions, RemoveOptions } from '../lead/options.js';
import type { PromoteOptions } from '../lead/promotion/promotion.js';
import type { PromotionReport } from '../lead/promotion/report.js';
import type { NodeEventName, NodeEvents } from '../tell/events.js';
import type { RecentEvent } from '../tell/logger.js';
import type { Scrape } from '../watch/metrics.js';
import type { NodeStatus, NodeSummary } from '../watch/status.js';
import type { BackupOptions, BackupReport } from './backup.js';
import type { NodeCore } from './core.js';
import type { Space } from './space.js';

/** For `openNode`; no host can reach it. */
export let handleTo: (core: NodeCore) => Node;

/** Made by `openNode`. */
export class Node {
  readonly #core: NodeCore;

  static {
    handleTo = (core) => new Node(core);
  }

  private constructor(core: NodeCore) {
    this.#core = core;
  }

  get nodeId(): string {
    return this.#core.nodeId;
  }

  /** Where this node listens, with the port that was bound; undefined without `listen`. */
  get address(): Address | undefined {
    return this.#core.address;
  }

  /** Where this node answers over HTTP, with the port that was bound; undefined without `http`. */
  get httpAddress(): Address | undefined {
    return this.#core.httpAddress;
  }

  /** `close()` was called: it takes no more work. */
  get isClosing(): boolean {
    return this.#core.isClosing;
  }

  /** Throws Configuration for an event that there is not, or a listener that is no function. */
  on<K extends NodeEventName>(name: K, listener: (event: NodeEvents[K]) => void): this {
    this.#core.on(name, listener);
    return this;
  }

  off<K extends NodeEventName>(name: K, listener: (event: NodeEvents[K]) => void): this {
    this.#core.off(name, listener);
    return this;
  }

  /** The last events, oldest first, as people are told of them. */
  get recentEvents(): readonly RecentEvent[] {
    return this.#core.recentEvents;
  }

  // --- spaces ------------------------------------------------------------------------------

  /**
   * Opens a space: the one that is here or, where this node leads, a new one. Before the first
   * append of a led space its reachable replicas have told where they stand.
   * Rejects Configuration, SpaceUnknown, ReplicaNotFound, StalePrimary, WalFailed, Closed.
   */
  openSpace(name: string, options?: OpenSpaceOptions): Promise<Space> {
    return this.#core.openSpace(name, options);
  }

  /** A handle to a space that is here. Throws SpaceUnknown, Closed. */
  space(name: string): Space {
    return this.#core.space(name);
  }

  /** Handles to all spaces that are here. */
  get spaces(): readonly Space[] {
    return this.#core.spaces;
  }

  // --- who leads, and who follows ------------------------------------------------------------

  /**
   * Ships to one more node: every led space that goes to all the others goes to it as well, and
   * is durably its. It counts, for acknowledgements and promotions, once it has caught up and the
   * members have agreed; that goes on by itself (`status().spaces[].members`, `members-changed`).
   * Rejects Configuration, WalFailed, DiskFull, Closed.
   */
  addReplica(replica: Member): Promise<void> {
    return this.#core.addReplica(replica);
  }

  /**
   * Ships to this node no more and keeps nothing for it: its slots are gone (row 55). Resolves when
   * the members have agreed that it does not count any more. With etcd: a node that is lost for
   * good is on no space any more, and others take its place.
   * Rejects ReplicaNotFound, NotEnoughReplicas (too few of the members answer: it goes on, and
   * `force` does it without them), Configuration (etcd, and it lives), WalFailed, DiskFull, Closed.
   */
  removeReplica(replicaId: string, options?: RemoveOptions): Promise<void> {
    return this.#core.removeReplica(replicaId, options);
  }

  /**
   * Copies this directory while the node runs: what is durable now, verified as a whole before the
   * target gets its name. The copy has a directory id of its own; opened, it follows whoever leads,
   * and leads by force alone. What it is copied from is kept until it is done.
   * @param target a directory that is not there yet
   * Rejects Configuration, CorruptionDetected (the copy is not sound), DiskFull, Io, Closed.
   */
  backup(target: string, options?: BackupOptions): Promise<BackupReport> {
    return this.#core.backup(target, options);
  }

  /**
   * Makes this node the primary of a space that it has (DESIGN 9): where enough members answer and
   * none is ahead of it; with `force` anyway. Resolves when appends are taken here, and tells what
   * is lost.
   * Rejects PromotionRefused (it says what would be lost, against whom), SpaceUnknown, WalFailed.
   */
  promote(space: string, options?: PromoteOptions): Promise<PromotionReport> {
    return this.#core.promote(space, options);
  }

  /**
   * Hands a space that this node leads to one of its replicas: nothing is lost, appends are refused
   * (SwitchingOver) for the time that the report tells. Rejects NotPrimary, ReplicaNotFound,
   * NotEnoughReplicas, AckTimeout, PromotionRefused; then this node leads on.
   */
  switchover(space: string, to: string, options?: SwitchoverOptions): Promise<SwitchoverReport> {
    return this.#core.switchover(space, to, options);
  }

  /** Who leads a space, and where: asks its members. Rejects SpaceUnknown, NotPrimary (nobody). */
  locate(space: string): Promise<Located> {
    return this.#core.locate(space);
  }

  // --- status and end ------------------------------------------------------------------------

  /** The figures of this node and all its spaces, as of now: plain objects. */
  status(): NodeStatus {
    return this.#core.status();
  }

  /** `status()` without the spaces: it costs the same however many there are. */
  summary(): NodeSummary {
    return this.#core.summary();
  }

  /**
   * All metrics as of now, in the text format of Prometheus (or of the host's own registry): to be
   * served as it is. Rejects WorkerLost, Closed.
   */
  metrics(): Promise<Scrape> {
    return this.#core.metrics();
  }

  /**
   * Stops intake, makes durable what was appended, ships it up to a deadline of 5 s, and frees the
   * directory. Callbacks of the host that are under way have 5 s to return; what they were given
   * comes again. Safe to call twice. What could not be flushed has rejected already.
   */
  close(): Promise<void> {
    return this.#core.close();
  }
}
