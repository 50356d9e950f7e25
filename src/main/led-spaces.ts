/** What a host may ask of a node about who leads its spaces, and who follows them. */
import { failure } from '../shared/errors.js';
import type { Member } from '../shared/node-record.js';
import { stayAlive } from './alive.js';
import type { BackupOptions, BackupReport, Backups } from './backup.js';
import type { NodeConfig } from './config.js';
import { NodeEmitter } from './events.js';
import type { SwitchoverOptions, SwitchoverReport } from './handover.js';
import { readGiven } from './host-input.js';
import type { Leadership, Located } from './leadership.js';
import type { LogStatus } from './log-health.js';
import type { NodeStatus, NodeSummary } from './node-types.js';
import { checkReplica } from './option-relations.js';
import type { PromoteOptions, PromotionReport } from './promotion.js';
import type { Retention } from './retention.js';
import type { Space } from './space.js';

export abstract class LedSpaces extends NodeEmitter {
  /** There once the node is open. */
  protected leadership: Leadership | undefined;
  protected retention: Retention | undefined;
  protected backups: Backups | undefined;
  protected readonly config: NodeConfig;

  constructor(config: NodeConfig) {
    super(config.nodeId, config.logger);
    this.config = config;
  }

  get nodeId(): string {
    return this.config.nodeId;
  }

  /** Throws Closed. */
  protected abstract checkOpen(): void;

  abstract get spaces(): readonly Space[];

  abstract summary(): NodeSummary;

  /** The figures of this node and all its spaces, as of now: plain objects. */
  status(): NodeStatus {
    return { ...this.summary(), spaces: this.spaces.map((space) => space.status()) };
  }

  protected logState({ state, reason }: LogStatus): void {
    this.emit('log-state', { state, reason });
    if (state === 'ok') this.leadership?.writable();
  }

  /**
   * Ships to one more node: every led space that goes to all the others goes to it as well, and
   * is durably its. Rejects Configuration, WalFailed, DiskFull, Closed.
   */
  async addReplica(replica: Member): Promise<void> {
    this.checkOpen();
    if (this.config.coordinator.kind === 'etcd') {
      throw failure('Configuration', 'addReplica: etcd says which nodes a space is on');
    }
    const member = checkReplica(replica, this.config);
    await stayAlive(this.leadership!.roles.addReplica(member));
    this.emit('replica-set', { replicaId: member.nodeId, change: 'added' });
  }

  /**
   * Ships to this node no more and keeps nothing for it: its slots are gone (row 55). With etcd: a
   * node that is lost for good is on no space any more, and others take its place.
   * Rejects ReplicaNotFound, Configuration (etcd, and it lives), WalFailed, DiskFull, Closed.
   */
  async removeReplica(replicaId: string): Promise<void> {
    this.checkOpen();
    await stayAlive(this.leadership!.removeReplica(replicaId));
    this.emit('replica-set', { replicaId, change: 'removed' });
    await stayAlive(this.retention!.run());
  }

  /**
   * Copies this directory while the node runs: what is durable now, verified as a whole before the
   * target gets its name. The copy has a directory id of its own; opened, it follows whoever leads,
   * and leads by force alone. What it is copied from is kept until it is done.
   * @param target a directory that is not there yet
   * Rejects Configuration, CorruptionDetected (the copy is not sound), DiskFull, Io, Closed.
   */
  async backup(target: string, options?: BackupOptions): Promise<BackupReport> {
    this.checkOpen();
    return await stayAlive(
      this.backups!.take(target, readGiven<BackupOptions>('backup', options, ['nodeId'])),
    );
  }

  /**
   * Makes this node the primary of a space that it has (DESIGN 9): where enough members answer and
   * none is ahead of it; with `force` anyway. Resolves when appends are taken here, and tells what
   * is lost.
   * Rejects PromotionRefused (it says what would be lost, against whom), SpaceUnknown, WalFailed.
   */
  async promote(space: string, options?: PromoteOptions): Promise<PromotionReport> {
    this.checkOpen();
    return await stayAlive(this.leadership!.promote(space, options));
  }

  /**
   * Hands a space that this node leads to one of its replicas: nothing is lost, appends are refused
   * (SwitchingOver) for the time that the report tells. Rejects NotPrimary, ReplicaNotFound,
   * NotEnoughReplicas, AckTimeout, PromotionRefused; then this node leads on.
   */
  async switchover(
    space: string,
    to: string,
    options?: SwitchoverOptions,
  ): Promise<SwitchoverReport> {
    this.checkOpen();
    return await stayAlive(this.leadership!.switchover(space, to, options));
  }

  /** Who leads a space, and where: asks its members. Rejects SpaceUnknown, NotPrimary (nobody). */
  async locate(space: string): Promise<Located> {
    this.checkOpen();
    return await stayAlive(this.leadership!.locate(space));
  }
}
