/** Of a node: who leads its spaces, and who follows them. What it promises says `Node`. */
import { failure } from '../../shared/errors.js';
import { readGiven } from '../../shared/host-input.js';
import type { Member } from '../../shared/log/node-record.js';
import type { SwitchoverOptions, SwitchoverReport } from '../lead/handover.js';
import type { Leadership, Located } from '../lead/leadership.js';
import type { RemoveOptions } from '../lead/options.js';
import type { PromoteOptions } from '../lead/promotion/promotion.js';
import type { PromotionReport } from '../lead/promotion/report.js';
import type { LogStatus } from '../log/health.js';
import type { Retention } from '../log/retention/retention.js';
import type { NodeConfig } from '../options/options.js';
import { checkReplica } from '../options/relations.js';
import { stayAlive } from '../runtime/alive.js';
import { NodeEmitter } from '../tell/emitter.js';
import type { NodeStatus, NodeSummary } from '../watch/status.js';
import type { BackupOptions, BackupReport, Backups } from './backup.js';
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
