/** The options of openNode: what each must be, and its default. Nothing is silently ignored. */

import { KEY_MIN_BYTES } from '../shared/auth.js';
import type { Compression } from '../shared/compression.js';
import type { Entry } from '../shared/entry.js';
import { failure } from '../shared/errors.js';
import type { FsyncMode } from '../shared/group-commit.js';
import {
  BACKOFF_STEPS_MS,
  BATCH_DELAY_MAX_MS,
  BATCH_MAX_ENTRIES,
  CATCH_UP_BATCH_MAX_BYTES,
  CONNECT_TIMEOUT_MS,
  DEFAULT_APPLY_RETRIES,
  DEFAULT_BATCH_DELAY_MS,
  DEFAULT_BATCH_ENTRIES,
  DEFAULT_CATCH_UP_BATCH_BYTES,
  DEFAULT_HOST_TIMEOUT_MS,
  DEFAULT_KEEP_ALIVE_MS,
  DEFAULT_LAG_ALERT_MS,
  DEFAULT_LAG_DEGRADED_MS,
  DEFAULT_LAG_POLL_MS,
  DEFAULT_MAX_RETRIES,
  DEFAULT_MAX_SLOT_BYTES,
  DEFAULT_MAX_SNAPSHOTS,
  DEFAULT_MAX_SPACES,
  DEFAULT_MEMORY_BUDGET_BYTES,
  DEFAULT_METRICS_PREFIX,
  DEFAULT_READ_TIMEOUT_MS,
  DEFAULT_SEALER_THREADS,
  DEFAULT_SLOT_IDLE_TIMEOUT_MS,
  DEFAULT_SNAPSHOT_GRACE_MS,
  DEFAULT_STALLED_AFTER_MS,
  DEFAULT_WINDOW_BYTES,
  DEFAULT_WRITE_TIMEOUT_MS,
  fittingSizes,
  KEEP_ALIVE_LEAST_MS,
  leastMemoryBytes,
  MAX_SPACES_MAX,
  MEMORY_BUDGET_MAX_BYTES,
  OPEN_CONFIRM_MS,
  READ_TIMEOUT_LEAST_MS,
  SEALER_THREADS_MAX,
  SEGMENT_MAX_BYTES,
  SNAPSHOT_CHUNK_BYTES,
  SNAPSHOT_CHUNK_MAX_BYTES,
  WRITE_TIMEOUT_LEAST_MS,
} from '../shared/limits.js';
import type { Member } from '../shared/node-record.js';
import type { Epoch, Sequence } from '../shared/position.js';
import {
  type CoordinatorConfig,
  type CoordinatorOptions,
  coordinatorConfig,
  coordinatorProblem,
} from './coordinator-options.js';
import { copied } from './host-input.js';
import { type HttpOptions, httpProblem } from './http-options.js';
import { type Logger, loggerProblem } from './logger.js';
import {
  addressProblem,
  type Check,
  callback,
  checkOption,
  flag,
  isObjectOf,
  pathText,
  refuseUnknown,
  text,
  whole,
  wholeMs,
  wrong,
} from './option-checks.js';
import { checkTogether } from './option-relations.js';
import type { HostChunks } from './snapshot-chunks.js';

export interface Address {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
}

/** A space as its host has it, up to one entry. */
export interface HostSnapshot {
  /**
   * The last entry that the bytes stand for: all up to it is in them, nothing behind it. Durable,
   * and not below the first retained entry less one.
   */
  readonly sequence: Sequence;
  /** In pieces of any size. Asked for only as fast as the replica takes them. */
  readonly chunks: HostChunks;
}

/** A snapshot on its way into a replica's host. */
export interface ReceivedSnapshot {
  /** The bytes stand for the space up to here: it goes on with the entry behind it. */
  readonly sequence: Sequence;
  readonly epoch: Epoch;
  readonly chunks: AsyncIterable<Uint8Array>;
}

export interface NodeOptions {
  /** Made when absent, mode 0700. One process at a time. */
  readonly dataDir: string;
  /** The name of this node, of its own within the cluster; a data directory keeps it. */
  readonly nodeId: string;
  /** The same on every node: nodes of other clusters are refused. */
  readonly clusterId: string;
  /** Where primaries may dial this node. Loopback only, unless there is a key. */
  readonly listen?: Address;
  /**
   * Where others dial this node, where that is not where it listens: behind NAT, in a container, or
   * where it listens on every address of its machine. Default: `listen`, where that can be dialled.
   */
  readonly advertise?: Address;
  /** The nodes that this one ships its spaces to. Loopback only, unless there is a key. */
  readonly replicas?: readonly Member[];
  /**
   * The same on every node of the cluster, at least 16 bytes: both ends of a connection prove that
   * they have it. It keeps strangers out; what is sent is not encrypted.
   */
  readonly key?: string | Uint8Array;
  /** Whether openSpace creates unknown spaces. Default: true without `listen`, or with etcd. */
  readonly lead?: boolean;
  /** Who says who leads a space. With etcd, `listen` is needed and `replicas` is etcd's. */
  readonly coordinator?: CoordinatorOptions;
  /**
   * Replica: gets entries in order within a space; resolves = applied. What it throws is an
   * event, and the same entries come again. `position` is that of the last of them: a host that
   * commits it with its own data, and tells it by `appliedUpTo`, applies each entry exactly once.
   */
  readonly apply?: (
    entries: Entry[],
    context: { space: string; position: { epoch: Epoch; sequence: Sequence } },
  ) => Promise<void> | void;
  /** How often an entry is offered that the host throws at, before it blocks its space. */
  readonly applyRetries?: number;
  /**
   * For how long a promotion, a hand-over or a snapshot that comes waits for a callback of the host
   * that does not return, or does not come further. Then it says which one (`apply-blocked`, with
   * `silent`), and only `force` leads without it. Default 10,000.
   */
  readonly hostTimeoutMs?: number;
  /** Where the host's own commit stands; without it the node keeps the applied sequence. */
  readonly appliedUpTo?: (space: string) => Promise<Sequence> | Sequence;
  /** Called when entries are taken back after a promotion elsewhere. */
  readonly rewound?: (
    space: string,
    range: { from: Sequence; to: Sequence; quarantine: string },
  ) => Promise<void> | void;
  /**
   * Primary: what a replica gets whose entries are freed here already. What it throws is an event,
   * and it is asked again. Without it such a replica gets nothing (SnapshotUnavailable).
   */
  readonly snapshot?: (space: string) => Promise<HostSnapshot> | HostSnapshot;
  /**
   * Replica: puts the bytes in the place of all that the host has of the space; it resolves when
   * that is durable. Called again after a crash, or when it throws, until it has resolved. With
   * `appliedUpTo`, that says `sequence` from then on.
   */
  readonly restore?: (space: string, snapshot: ReceivedSnapshot) => Promise<void> | void;
  /** Full syncs of replicas at once; others wait in a queue. */
  readonly maxSnapshots?: number;
  /** The bytes of a snapshot that travel and are acknowledged together. */
  readonly snapshotChunkBytes?: number;
  /** For how long an interrupted snapshot is kept, at both ends, to go on where it was. */
  readonly snapshotGraceMs?: number;
  /**
   * What an append waits for: the fdatasync of its group, one of its own, or only the write, with
   * an fdatasync so many ms later, or at each new segment and at close.
   */
  readonly fsync?: FsyncMode;
  /** Of segments to come; those that are there keep the size that they have. */
  readonly segmentBytes?: number;
  /** The most that one fdatasync covers. */
  readonly groupBytes?: number;
  /** At least the longest entry of the log; on a replica at least what its primary has. */
  readonly maxEntryBytes?: number;
  /** What staged, sealed and recently written groups may take. */
  readonly memoryBudgetBytes?: number;
  /**
   * A tail that looks torn refuses to open instead of being cut. It may be the last acknowledged
   * group, damaged before anything else told of it. Default: false.
   */
  readonly strictTail?: boolean;
  /**
   * Replica without `apply`: `checkpoint` takes its primary's checkpoints for its own: its log is
   * freed as the primary's is; `nothing` keeps all until this node checkpoints. Default:
   * `nothing`; of `engram-wal serve`, for directories that this release has made, `checkpoint`.
   */
  readonly follow?: 'checkpoint' | 'nothing';
  /** What the host has not checkpointed may take; beyond, appends reject. Default: unlimited. */
  readonly maxRetainedBytes?: number;
  /** How far one replica may keep the log back, per space; beyond, its slot is lost. */
  readonly maxSlotBytes?: number;
  /** For how long a replica may be away, in this node's running time; then its slots are lost. */
  readonly slotIdleTimeoutMs?: number;
  /** At least the spaces that are in the log. */
  readonly maxSpaces?: number;
  /** Threads that seal large groups. They begin with the first such group. */
  readonly sealerThreads?: number;
  /** Per replica: what may be sent and not yet flushed there. */
  readonly windowBytes?: number;
  /** The most that one batch of catching up holds. */
  readonly catchUpBatchBytes?: number;
  /** What catching up one replica may read and send per second; 0 (the default): no bound. */
  readonly catchUpBytesPerSecond?: number;
  /**
   * What is shipped is compressed, for replicas that can undo it; others get it as it is. `zstd`
   * needs Node 22.15. Default: `none`.
   */
  readonly compression?: Compression;
  /** For how long a connection to another node may take to come about. */
  readonly connectTimeoutMs?: number;
  /** How long to wait before the next attempt to connect, step by step, each with chance. */
  readonly backoffStepsMs?: readonly number[];
  /** Failures in a row from which on a replica counts as failed. Default: 3. */
  readonly maxRetries?: number;
  /**
   * Of whom nothing is heard for so long, the connection is given up. Every node beats once a
   * second, whatever it is set to elsewhere: at least 3,000. Default: 10,000.
   */
  readonly readTimeoutMs?: number;
  /** What the system takes nothing of for so long is given up. Default: 10,000. */
  readonly writeTimeoutMs?: number;
  /** When the system begins to probe an idle connection; in whole seconds. Default: 10,000. */
  readonly keepAliveMs?: number;
  /**
   * While the socket to a replica is busy, entries wait until so many have come (100), 256 KiB of
   * them, or this time has passed (10): what is sent together costs less.
   */
  readonly batchEntries?: number;
  /** See `batchEntries`. */
  readonly batchDelayMs?: number;
  /**
   * For how long members that are silent, or refuse connections, are asked again before a space is
   * created, or a led one opened. Default: 2,000.
   */
  readonly openConfirmMs?: number;
  /** From this lag on a replica is degraded, and an alert is raised: a warning. Default: 1,000. */
  readonly lagAlertThresholdMs?: number;
  /** Gets one structured line for each event, rate-limited. Default: none, nothing is written. */
  readonly logger?: Logger;
  /** Metrics, health, status and a page for people over HTTP. Default: none, nothing listens. */
  readonly http?: HttpOptions;
  /** From this lag on the alert is critical. Default: 5,000. */
  readonly lagDegradedThresholdMs?: number;
  /** How often every (space, replica) is looked at. Default: 5,000. */
  readonly lagPollMs?: number;
  /** A replica whose link lives, that lacks entries and does not move, is stalled after this. */
  readonly stalledAfterMs?: number;
  /** What the names of metrics begin with. Default: `engram_`. */
  readonly metricsPrefix?: string;
  /**
   * A registry of the host's own (prom-client): the node's metrics are registered there until it
   * closes, and are formatted on the main thread. Two nodes in one registry need two prefixes.
   */
  readonly metricsRegistry?: MetricsRegistry;
}

/** What is used of prom-client's `Registry`. */
export interface MetricsRegistry {
  readonly contentType: string;
  registerMetric(metric: never): void;
  removeSingleMetric(name: string): void;
  metrics(): Promise<string>;
}

type WithoutDefault =
  | 'listen'
  | 'advertise'
  | 'apply'
  | 'appliedUpTo'
  | 'follow'
  | 'rewound'
  | 'snapshot'
  | 'restore'
  | 'logger'
  | 'http'
  | 'metricsRegistry';

/** The options with every default filled in. */
export type NodeConfig = Required<Omit<NodeOptions, WithoutDefault | 'key' | 'coordinator'>> &
  Pick<NodeOptions, WithoutDefault> & {
    readonly key: Uint8Array | undefined;
    readonly coordinator: CoordinatorConfig;
  };

const registryProblem: Check = (v) => {
  const { registerMetric, removeSingleMetric, metrics } = Object(v) as Partial<MetricsRegistry>;
  const all = [registerMetric, removeSingleMetric, metrics];
  return all.every((f) => typeof f === 'function') ? undefined : 'a registry of prom-client';
};

const CHECKS: Record<keyof NodeOptions, Check> = {
  dataDir: pathText,
  nodeId: text,
  clusterId: text,
  listen: (v) => addressProblem(v, 'listen', 0),
  advertise: (v) => addressProblem(v, 'advertise', 1),
  replicas: (v) => {
    if (!Array.isArray(v)) return 'an array of { nodeId, host, port }';
    const problems = v.map((member, i) => addressProblem(member, `replicas[${i}]`, 1, 'nodeId'));
    return problems.find((problem) => problem !== undefined);
  },
  key: (v) => {
    const bytes =
      typeof v === 'string' ? Buffer.byteLength(v) : v instanceof Uint8Array && v.length;
    return bytes !== false && bytes >= KEY_MIN_BYTES
      ? undefined
      : `a string or Uint8Array of at least ${KEY_MIN_BYTES} bytes`;
  },
  lead: flag,
  coordinator: coordinatorProblem,
  apply: callback,
  applyRetries: whole(1),
  hostTimeoutMs: wholeMs(1),
  appliedUpTo: callback,
  rewound: callback,
  snapshot: callback,
  restore: callback,
  maxSnapshots: whole(1),
  snapshotChunkBytes: whole(1, SNAPSHOT_CHUNK_MAX_BYTES, 'bytes'),
  snapshotGraceMs: wholeMs(1),
  fsync: (v) => {
    if (v === 'per-batch' || v === 'per-write' || v === 'none') return undefined;
    if (!isObjectOf(v, ['timerMs'])) return "'per-batch', 'per-write', { timerMs } or 'none'";
    const expected = wholeMs(1)(v.timerMs);
    return expected && { at: 'fsync.timerMs', found: v.timerMs, expected };
  },
  segmentBytes: whole(1, SEGMENT_MAX_BYTES, 'bytes'),
  groupBytes: whole(1, SEGMENT_MAX_BYTES, 'bytes'),
  maxEntryBytes: whole(1, SEGMENT_MAX_BYTES, 'bytes'),
  memoryBudgetBytes: whole(1, MEMORY_BUDGET_MAX_BYTES, 'bytes'),
  strictTail: flag,
  follow: (v) => (v === 'checkpoint' || v === 'nothing' ? undefined : "'checkpoint' or 'nothing'"),
  maxRetainedBytes: (v) =>
    v === Number.POSITIVE_INFINITY ? undefined : whole(1, undefined, 'bytes')(v),
  maxSlotBytes: whole(1, undefined, 'bytes'),
  // Compared with what has passed, never waited for: it may be longer than a timer's longest.
  slotIdleTimeoutMs: whole(1, undefined, 'ms'),
  maxSpaces: whole(1, MAX_SPACES_MAX),
  sealerThreads: whole(1, SEALER_THREADS_MAX),
  windowBytes: whole(1, undefined, 'bytes'),
  catchUpBatchBytes: whole(1, CATCH_UP_BATCH_MAX_BYTES, 'bytes'),
  catchUpBytesPerSecond: whole(0, undefined, 'bytes'),
  compression: (v) =>
    v === 'none' || v === 'lz4' || v === 'zstd' ? undefined : "'none', 'lz4' or 'zstd'",
  connectTimeoutMs: wholeMs(1),
  backoffStepsMs: (v) => {
    if (!Array.isArray(v) || v.length === 0) return 'an array of at least one time in ms';
    const at = v.findIndex((ms) => wholeMs(1)(ms) !== undefined);
    const expected = wholeMs(1)(undefined)!;
    return at < 0 ? undefined : { at: `backoffStepsMs[${at}]`, found: v[at], expected };
  },
  maxRetries: whole(1),
  readTimeoutMs: wholeMs(READ_TIMEOUT_LEAST_MS),
  writeTimeoutMs: wholeMs(WRITE_TIMEOUT_LEAST_MS),
  keepAliveMs: wholeMs(KEEP_ALIVE_LEAST_MS),
  batchEntries: whole(1, BATCH_MAX_ENTRIES),
  batchDelayMs: whole(0, BATCH_DELAY_MAX_MS, 'ms'),
  openConfirmMs: wholeMs(0),
  lagAlertThresholdMs: wholeMs(1),
  lagDegradedThresholdMs: wholeMs(1),
  lagPollMs: wholeMs(10),
  stalledAfterMs: wholeMs(1),
  metricsPrefix: (v) =>
    typeof v === 'string' && /^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(v)
      ? undefined
      : 'a beginning of metric names: letters, digits, _ and :, no digit first',
  metricsRegistry: registryProblem,
  logger: loggerProblem,
  http: httpProblem,
};

const all = Object.keys(CHECKS);
/** Every option of openNode, and those that only code can give. */
export const OPTION_NAMES: {
  readonly all: readonly string[];
  readonly functions: readonly string[];
} = {
  all,
  functions: all.filter((key) => {
    const check = CHECKS[key as keyof NodeOptions];
    return check === callback || check === loggerProblem || check === registryProblem;
  }),
};

/** What the host goes on using: everything else is copied at the call (row 83). */
const SHARED: readonly string[] = ['logger', 'metricsRegistry'];

/** Checks the options and fills in the defaults. Throws Configuration, naming the option. */
export function readOptions(asked: NodeOptions): NodeConfig {
  const options = copied('openNode', asked, SHARED);
  refuseUnknown('openNode', options, Object.keys(CHECKS));
  for (const key of ['dataDir', 'nodeId', 'clusterId'] as const) {
    if (options[key] !== undefined) continue;
    throw failure('Configuration', `openNode needs ${key}`, { details: { option: key } });
  }
  const entries = Object.entries(options).filter(([, value]) => value !== undefined);
  for (const [key, value] of entries) checkOption(key, value, CHECKS[key as keyof NodeOptions]);
  const given = Object.fromEntries(entries) as unknown as NodeOptions;
  const sizes = fittingSizes(given);
  const { lagDegradedThresholdMs: degradedMs = DEFAULT_LAG_DEGRADED_MS } = given;
  const alertMs = given.lagAlertThresholdMs ?? Math.min(DEFAULT_LAG_ALERT_MS, degradedMs);
  const config: NodeConfig = {
    ...sizes,
    replicas: [],
    lead: given.listen === undefined || given.coordinator?.kind === 'etcd',
    maxSnapshots: DEFAULT_MAX_SNAPSHOTS,
    snapshotChunkBytes: SNAPSHOT_CHUNK_BYTES,
    snapshotGraceMs: DEFAULT_SNAPSHOT_GRACE_MS,
    fsync: 'per-batch',
    memoryBudgetBytes: Math.max(DEFAULT_MEMORY_BUDGET_BYTES, leastMemoryBytes(sizes.groupBytes)),
    strictTail: false,
    applyRetries: DEFAULT_APPLY_RETRIES,
    hostTimeoutMs: DEFAULT_HOST_TIMEOUT_MS,
    maxRetainedBytes: Number.POSITIVE_INFINITY,
    slotIdleTimeoutMs: DEFAULT_SLOT_IDLE_TIMEOUT_MS,
    maxSlotBytes: DEFAULT_MAX_SLOT_BYTES,
    maxSpaces: DEFAULT_MAX_SPACES,
    sealerThreads: DEFAULT_SEALER_THREADS,
    windowBytes: DEFAULT_WINDOW_BYTES,
    catchUpBatchBytes: DEFAULT_CATCH_UP_BATCH_BYTES,
    catchUpBytesPerSecond: 0,
    compression: 'none',
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    backoffStepsMs: BACKOFF_STEPS_MS,
    maxRetries: DEFAULT_MAX_RETRIES,
    readTimeoutMs: DEFAULT_READ_TIMEOUT_MS,
    writeTimeoutMs: DEFAULT_WRITE_TIMEOUT_MS,
    keepAliveMs: DEFAULT_KEEP_ALIVE_MS,
    batchEntries: DEFAULT_BATCH_ENTRIES,
    batchDelayMs: DEFAULT_BATCH_DELAY_MS,
    openConfirmMs: OPEN_CONFIRM_MS,
    lagAlertThresholdMs: alertMs,
    lagDegradedThresholdMs: Math.max(DEFAULT_LAG_DEGRADED_MS, alertMs),
    lagPollMs: DEFAULT_LAG_POLL_MS,
    stalledAfterMs: DEFAULT_STALLED_AFTER_MS,
    metricsPrefix: DEFAULT_METRICS_PREFIX,
    ...given,
    ...advertised(given),
    key: given.key === undefined ? undefined : Buffer.from(given.key as Uint8Array),
  };
  checkTogether(config);
  return config;
}

/** One word for where others dial the node, wherever it was given. */
function advertised({ advertise, coordinator }: NodeOptions): {
  readonly coordinator: CoordinatorConfig;
  readonly advertise?: Address;
} {
  const more = coordinator?.kind === 'etcd' ? coordinator.advertise : undefined;
  if (advertise && more && (advertise.host !== more.host || advertise.port !== more.port)) {
    const found = `${more.host}:${more.port}`;
    throw wrong('option coordinator.advertise', found, 'what advertise is', 'coordinator');
  }
  const one = advertise ?? more;
  return { coordinator: coordinatorConfig(coordinator), ...(one && { advertise: one }) };
}
