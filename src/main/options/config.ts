/** The options of openNode: what each must be, and its default. Nothing is silently ignored. */

import type { Address } from '../../shared/address.js';
import { failure } from '../../shared/errors.js';
import { copied } from '../../shared/host-input.js';
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
  DEFAULT_MAX_SNAPSHOT_BYTES,
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
} from '../../shared/limits.js';
import {
  addressProblem,
  type Check,
  callback,
  checkOption,
  flag,
  isObjectOf,
  isText,
  pathText,
  refuseUnknown,
  text,
  whole,
  wholeMs,
  wrong,
} from '../../shared/option-checks.js';
import type { CoordinatorConfig } from '../lead/options.js';
import { loggerProblem } from '../tell/logger.js';
import { coordinatorConfig, coordinatorProblem } from './coordinator.js';
import { httpProblem } from './http.js';
import type { MetricsRegistry, NodeConfig, NodeOptions } from './options.js';
import { checkTogether } from './relations.js';
import { keyProblem, keysOf, tlsProblem } from './tls.js';

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
  key: keyProblem,
  keyFile: pathText,
  tls: tlsProblem,
  mayReplicate: (v) => {
    const isRow = ([id, names]: [string, unknown]): boolean =>
      id !== '' && Array.isArray(names) && names.every(isText);
    const isRight = typeof v === 'object' && v !== null && Object.entries(v).every(isRow);
    return isRight ? undefined : 'an object of arrays of names of spaces, by node id';
  },
  lead: flag,
  coordinator: coordinatorProblem,
  apply: callback,
  applyWhenLeading: flag,
  applyRetries: whole(1),
  hostTimeoutMs: wholeMs(1),
  appliedUpTo: callback,
  rewound: callback,
  snapshot: callback,
  restore: callback,
  maxSnapshots: whole(1),
  snapshotChunkBytes: whole(1, SNAPSHOT_CHUNK_MAX_BYTES, 'bytes'),
  maxSnapshotBytes: whole(1, Number.MAX_SAFE_INTEGER, 'bytes'),
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
  const { key, ...given } = Object.fromEntries(entries) as unknown as NodeOptions;
  const sizes = fittingSizes(given);
  const { lagDegradedThresholdMs: degradedMs = DEFAULT_LAG_DEGRADED_MS } = given;
  const alertMs = given.lagAlertThresholdMs ?? Math.min(DEFAULT_LAG_ALERT_MS, degradedMs);
  const config: NodeConfig = {
    ...sizes,
    replicas: [],
    lead: given.listen === undefined || given.coordinator?.kind === 'etcd',
    maxSnapshots: DEFAULT_MAX_SNAPSHOTS,
    snapshotChunkBytes: SNAPSHOT_CHUNK_BYTES,
    maxSnapshotBytes: DEFAULT_MAX_SNAPSHOT_BYTES,
    snapshotGraceMs: DEFAULT_SNAPSHOT_GRACE_MS,
    fsync: 'per-batch',
    memoryBudgetBytes: Math.max(DEFAULT_MEMORY_BUDGET_BYTES, leastMemoryBytes(sizes.groupBytes)),
    strictTail: false,
    applyWhenLeading: false,
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
    keys: keysOf(key),
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
