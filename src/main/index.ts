/** The public names of engram-wal, nothing else. */
export type { LinkState } from '../shared/control.js';
export { type Entry, EntryType } from '../shared/entry.js';
export {
  EngramError,
  type ErrorCode,
  MemorySpaceError,
  ReplicationError,
  StorageError,
} from '../shared/errors.js';
export type { FsyncMode } from '../shared/group-commit.js';
export type { ReplicaStatus } from '../shared/lag.js';
export type { Member, Role } from '../shared/node-record.js';
export type { LagAlert, PairState, Stage } from '../shared/pair-watch.js';
export type { Epoch, Lsn, Sequence } from '../shared/position.js';
export type { BackupOptions, BackupReport } from './backup.js';
export type {
  Address,
  HostSnapshot,
  MetricsRegistry,
  NodeOptions,
  ReceivedSnapshot,
} from './config.js';
export type { Leader } from './coordinator.js';
export type { CoordinatorOptions } from './coordinator-options.js';
export type { NodeEventName, NodeEvents } from './events.js';
export type { Logger, RecentEvent } from './logger.js';
export type { Scrape } from './metrics.js';
export type { Node } from './node-handle.js';
export type {
  NodeStatus,
  NodeSummary,
  OpenSpaceOptions,
  SpaceReplicaStatus,
  SpaceStatus,
} from './node-types.js';
export { openNode } from './open-node.js';
export type { AckLevel, Appended, AppendedBatch, AppendOptions, Space } from './space.js';
