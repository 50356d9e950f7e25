/** The public names of engram-wal, nothing else: every type that they lead to is among them. */

export type { Compression } from '../shared/compression.js';
export type { LinkState, Traffic } from '../shared/control.js';
export { type Entry, EntryType } from '../shared/entry.js';
export {
  EngramError,
  type ErrorCode,
  type ErrorDetails,
  MemorySpaceError,
  ReplicationError,
  StorageError,
} from '../shared/errors.js';
export type { FsyncMode } from '../shared/group-commit.js';
export type { ReplicaStatus } from '../shared/lag.js';
export type { Member, Role } from '../shared/node-record.js';
export type { LagAlert, PairState, Stage } from '../shared/pair-watch.js';
export type { Epoch, Lsn, Position, Sequence } from '../shared/position.js';
export type { LostEntries } from '../shared/promotion-verdict.js';
export type { Verdict } from '../shared/protocol.js';
export type { End, EndFacts } from '../shared/segment.js';
export type { SlotState } from '../shared/slot.js';
export type { SupplyPhase } from '../shared/snapshot-queue.js';
export type { IntakePhase, IntakeProgress } from '../shared/snapshot-sink.js';
export type { Hole } from '../shared/state.js';
export type { ApplyBlock } from './apply.js';
export type { BackupOptions, BackupReport } from './backup.js';
export type {
  Address,
  HostSnapshot,
  MetricsRegistry,
  NodeOptions,
  ReceivedSnapshot,
} from './config.js';
export type { Leader } from './coordinator.js';
export type { CoordinatorEvents } from './coordinator-events.js';
export type { CoordinatorOptions } from './coordinator-options.js';
export type { DamagedEntries } from './damage.js';
export type { SilentMember } from './electorate.js';
export type { Level } from './event-lines.js';
export type { NodeEventName, NodeEvents, SnapshotOf } from './events.js';
export type { SwitchoverOptions, SwitchoverReport } from './handover.js';
export type { HostCallback } from './host-calls.js';
export type { HttpOptions } from './http-options.js';
export type { LagAlertChange, ReplicaStatusChange, StalledChange } from './lag-changes.js';
export type { Located } from './leadership.js';
export type { LogState, LogStatus } from './log-health.js';
export type { SyncTimes } from './log-writer.js';
export type { Logger, RecentEvent } from './logger.js';
export type { LostAppends } from './lost-appends.js';
export type { Scrape } from './metrics.js';
export type { Node } from './node-handle.js';
export type {
  NodeStatus,
  NodeSummary,
  OpenSpaceOptions,
  ReplicaLinkStatus,
  SpaceReplicaStatus,
  SpaceStatus,
} from './node-types.js';
export { openNode } from './open-node.js';
export type { PrimaryLink, PrimaryStatus } from './primary-links.js';
export type { AnsweredMember, PromoteOptions, PromotionReport } from './promotion.js';
export type { RecoveryReport } from './recovery.js';
export type { RoleEvents } from './role-events.js';
export type { HostChunks } from './snapshot-chunks.js';
export type { SnapshotNews, SupplyStatus } from './snapshot-supply.js';
export type { AckLevel, Appended, AppendedBatch, AppendOptions, Space } from './space.js';
