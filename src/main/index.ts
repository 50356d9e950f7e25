/** The public names of engram-wal, nothing else: every type that they lead to is among them. */

export type { Address } from '../shared/address.js';
export {
  EngramError,
  type ErrorCode,
  type ErrorDetails,
  MemorySpaceError,
  ReplicationError,
  StorageError,
} from '../shared/errors.js';
export type { Verdict } from '../shared/lead/epoch.js';
export type { LostEntries } from '../shared/lead/promotion-verdict.js';
export type { LinkState, Traffic } from '../shared/link/control.js';
export type { ReplicaStatus } from '../shared/link/lag.js';
export type { LagAlert, PairState, Stage } from '../shared/link/pair-watch.js';
export type {
  AddressClass,
  Door,
  RefusalCount,
  RefusalReason,
  Refused,
} from '../shared/link/refusal.js';
export { type Entry, EntryType } from '../shared/log/entry.js';
export type { FsyncMode } from '../shared/log/group-commit.js';
export type { Member, Role } from '../shared/log/node-record.js';
export type { End, EndFacts } from '../shared/log/segment.js';
export type { SlotState } from '../shared/log/slot.js';
export type { Hole } from '../shared/log/state.js';
export type { MemberId } from '../shared/members/members.js';
export type { Epoch, Lsn, Position, Sequence } from '../shared/position.js';
export type { SupplyPhase } from '../shared/snapshot/queue.js';
export type { IntakePhase, IntakeProgress } from '../shared/snapshot/sink.js';
export type { Compression } from '../shared/wire/compression.js';
export type { ApplyBlock } from './follow/apply.js';
export type { FollowEvents } from './follow/events.js';
export type { HostCallback } from './follow/host-calls.js';
export type { FollowOptions } from './follow/options.js';
export type { PrimaryLink, PrimaryStatus } from './follow/primary-links.js';
export type { Leader } from './lead/coordinator.js';
export type { CoordinatorStatus, LeaderWord } from './lead/coordinator-state.js';
export type { CoordinatorEvents, LeadEvents, RoleEvents } from './lead/events.js';
export type { SwitchoverOptions, SwitchoverReport } from './lead/handover.js';
export type { Located } from './lead/leadership.js';
export type { MembersStatus } from './lead/members/changes.js';
export type {
  CoordinatorOptions,
  EtcdTls,
  LeadOptions,
  OpenSpaceOptions,
  RemoveOptions,
} from './lead/options.js';
export type { SilentMember } from './lead/promotion/electorate.js';
export type { PromoteOptions } from './lead/promotion/promotion.js';
export type { AnsweredMember, PassedOver, PromotionReport } from './lead/promotion/report.js';
export type { SharingReport } from './lead/sharing.js';
export type { LogEvents } from './log/events.js';
export type { LogState, LogStatus } from './log/health.js';
export type { LostAppends } from './log/lost-appends.js';
export type { LogOptions } from './log/options.js';
export type { SyncTimes } from './log/write/writer.js';
export type { BackupOptions, BackupReport } from './node/backup.js';
export type { MemberAppendOptions } from './node/member-appends.js';
export type { Node } from './node/node.js';
export { openNode } from './node/open-node.js';
export {
  type AttachedProducer,
  attachProducer,
  type ProducerAppendOptions,
} from './node/produce/attach.js';
export type { Producer, ProducerData, ProducerOptions } from './node/produce/producer.js';
export {
  type Codec,
  decodeEntry,
  jsonCodec,
  type Msgpackr,
  msgpackCodec,
  type TypedEntry,
  type WithCodec,
} from './node/space/codec.js';
export type {
  AckLevel,
  Appended,
  AppendedBatch,
  AppendOptions,
  WaitOptions,
} from './node/space/options.js';
export type { ReadRange, SubscribeOptions } from './node/space/readings.js';
export type { LibraryEntries, TypedSpace } from './node/space/typed.js';
export type { Space } from './node/space.js';
export type { HttpOptions } from './options/http.js';
export type { MetricsRegistry, NodeOptions } from './options/options.js';
export type { Entries } from './read/entry-stream.js';
export type { DamagedEntries, DamageEvents } from './read/events.js';
export type { RecoveryEvents } from './recovery/events.js';
export type { RecoveryReport } from './recovery/recovery.js';
export type { Abortable } from './runtime/abort.js';
export type {
  CertificateStatus,
  CredentialEvents,
  CredentialsNews,
  CredentialsStatus,
  TlsOptions,
} from './runtime/credentials.js';
export type { ShipEvents } from './ship/events.js';
export type { LagAlertChange, ReplicaStatusChange, StalledChange } from './ship/lag-changes.js';
export type { ShipOptions } from './ship/options.js';
export type { ReplicaLinkStatus, SpaceReplicaStatus } from './ship/status.js';
export type { HostChunks } from './snapshot/chunks.js';
export type { SnapshotEvents, SnapshotOf } from './snapshot/events.js';
export type { HostSnapshot, ReceivedSnapshot, SnapshotOptions } from './snapshot/options.js';
export type { SnapshotNews, SupplyStatus } from './snapshot/supply.js';
export type { EventStream, NamedEvent } from './tell/event-waits.js';
export type { NodeEventName, NodeEvents } from './tell/events.js';
export type { Level } from './tell/line.js';
export type { Logger, RecentEvent } from './tell/logger.js';
export type { DiskRoomStatus } from './watch/health/disk-room.js';
export type { Scrape } from './watch/metrics.js';
export type { NodeStatus, NodeSummary, SpaceStatus } from './watch/status.js';
