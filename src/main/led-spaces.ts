/** Of a node: who leads its spaces, and who follows them. What it promises says `Node`. */
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
import type { NodeStatus, NodeSummary, RemoveOptions } from './node-types.js';
import { checkReplica } from './option-relations.js';
import type { PromoteOptions } from './promotion.js';
import type { PromotionReport } from './promotion-report.js';
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

  status(): NodeStatus {
    return { ...this.summary(), spaces: this.spaces.map((space) => space.status()) };
  }

  protected logState({ state, reason }: LogStatus): void {
    this.emit('log-state', { state, reason });
    if (state === 'ok') this.leadership?.writable();
  }

  async addReplica(replica: Member): Promise<void> {
    this.checkOpen();
    if (this.config.coordinator.kind === 'etcd') {
      throw failure('Configuration', 'addReplica: etcd says which nodes a space is on');
    }
    const member = checkReplica(replica, this.config);
    await stayAlive(this.leadership!.replicas.add(member));
    this.emit('replica-set', { replicaId: member.nodeId, change: 'added' });
  }

  async removeReplica(replicaId: string, options?: RemoveOptions): Promise<void> {
    this.checkOpen();
    await stayAlive(this.leadership!.removeReplica(replicaId, options));
    this.emit('replica-set', { replicaId, change: 'removed' });
    await stayAlive(this.retention!.run());
  }

  async backup(target: string, options?: BackupOptions): Promise<BackupReport> {
    this.checkOpen();
    return await stayAlive(
      this.backups!.take(target, readGiven<BackupOptions>('backup', options, ['nodeId'])),
    );
  }

  async promote(space: string, options?: PromoteOptions): Promise<PromotionReport> {
    this.checkOpen();
    return await stayAlive(this.leadership!.promote(space, options));
  }

  async switchover(
    space: string,
    to: string,
    options?: SwitchoverOptions,
  ): Promise<SwitchoverReport> {
    this.checkOpen();
    return await stayAlive(this.leadership!.switchover(space, to, options));
  }

  async locate(space: string): Promise<Located> {
    this.checkOpen();
    return await stayAlive(this.leadership!.locate(space));
  }
}
