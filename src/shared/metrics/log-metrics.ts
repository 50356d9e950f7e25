/** The metrics of a node and its log. */

import {
  APPEND_MS,
  FSYNC_MS,
  FSYNC_WAIT_MS,
  GROUP_ENTRIES,
  NODE_COUNTER,
  ROOM_WAIT_MS,
} from '../memory/metric-words.js';
import {
  counter,
  gauge,
  histogram,
  type MetricDefinition,
  single,
  stateSet,
  yes,
} from './definition.js';
import type { MetricView } from './view.js';

const LOG_STATES = ['ok', 'slow-disk', 'read-only', 'failed'];
const own = (view: MetricView) => [[view.counters, {}] as const];

export const LOG_METRICS: readonly MetricDefinition[] = [
  counter(
    'wal_writes_total',
    'Entries made durable on this node since it was opened, its own and those received; entries.',
    single(({ counters }) => counters.value(NODE_COUNTER.writes)),
  ),
  counter(
    'wal_bytes_written',
    'Bytes of entries made durable on this node since it was opened, headers included; bytes.',
    single(({ counters }) => counters.value(NODE_COUNTER.bytesWritten)),
  ),
  counter(
    'wal_fsync_count',
    'Completed fdatasyncs of the log since the node was opened; calls.',
    single(({ counters }) => counters.value(NODE_COUNTER.fsyncs)),
  ),
  histogram(
    'wal_fsync_duration_ms',
    'How long the fdatasync call of the log itself took; milliseconds.',
    FSYNC_MS,
    own,
  ),
  histogram(
    'wal_fsync_wait_ms',
    'From asking for a group’s write and fdatasync to its answer, less the fdatasync itself: the ' +
      'write, and waiting for threads; milliseconds.',
    FSYNC_WAIT_MS,
    own,
  ),
  histogram(
    'wal_append_duration_ms',
    'From the turn of the event loop in which an entry was appended and found room, to its ' +
      'acknowledgement at level local; counted for every entry; milliseconds.',
    APPEND_MS,
    own,
  ),
  histogram(
    'wal_append_room_wait_ms',
    'How long appends that found the memory budget used up have waited for room; milliseconds.',
    ROOM_WAIT_MS,
    own,
  ),
  histogram(
    'wal_group_commit_entries',
    'How many entries one group, written at once, has held; entries.',
    GROUP_ENTRIES,
    own,
  ),
  gauge(
    'wal_segments',
    'Live segments of the log; files.',
    single(({ facts }) => facts.segments),
  ),
  gauge(
    'wal_spare_segments',
    'Freed segments that are kept to be used again; files.',
    single(({ facts }) => facts.spareSegments),
  ),
  counter(
    'wal_recycled_segments_total',
    'Segments that were made of freed ones since the node was opened; files.',
    single(({ facts }) => facts.recycledSegments),
  ),
  gauge(
    'wal_retained_bytes',
    'Size of the segments that are live, or freed and not given up yet; bytes.',
    single(({ facts }) => facts.retainedBytes),
  ),
  gauge(
    'wal_host_bytes',
    'What of the log the host has not checkpointed; its bound is maxRetainedBytes; bytes.',
    single(({ facts }) => facts.hostBytes),
  ),
  gauge(
    'wal_retention_full',
    '1 where appends are refused until the host checkpoints, else 0.',
    single(({ facts }) => yes(facts.isRetentionFull)),
  ),
  gauge(
    'disk_free_bytes',
    'What the file system of the data directory has room for; NaN: it does not say; bytes.',
    single(({ facts }) => facts.diskRoom?.freeBytes ?? Number.NaN),
  ),
  gauge(
    'disk_full_in_ms',
    'When that is used up at the pace of the last minutes, or of the last hour; NaN: not within ' +
      'a month; milliseconds.',
    single(({ facts }) => facts.diskRoom?.fullInMs ?? Number.NaN),
  ),
  gauge(
    'backup_age_ms',
    'Since the last backup of this node was complete; NaN: none is known of; milliseconds.',
    single(({ facts }) => facts.backupAgeMs ?? Number.NaN),
  ),
  counter(
    'wal_torn_tail_total',
    'Unacknowledged tails that this opening of the log has cut off; 0 or 1.',
    single(({ facts }) => facts.tornTails),
  ),
  gauge(
    'wal_corrupt_ranges',
    'Ranges of the log that are not what was written; ranges.',
    single(({ facts }) => facts.corruptRanges),
  ),
  gauge(
    'wal_state',
    'Whether the log takes entries: 1 for the state in force (ok, slow-disk, read-only, failed).',
    ({ facts }) => stateSet('state', LOG_STATES, {}, facts.logState),
  ),
  gauge(
    'wal_slabs',
    'Slabs of the memory budget; slabs of groupBytes.',
    single(({ facts }) => facts.slabs),
  ),
  gauge(
    'wal_slabs_in_use',
    'Slabs taken by groups on their way to the disk; slabs.',
    single(({ facts }) => facts.slabsInUse),
  ),
  gauge(
    'wal_waiting_appends',
    'Appends that wait for room in the memory budget; calls.',
    single(({ facts }) => facts.waitingAppends),
  ),
  gauge('node_info', 'Always 1; who this node is.', ({ facts }) => [
    { labels: { node_id: facts.nodeId, cluster_id: facts.clusterId }, value: 1 },
  ]),
  gauge('node_spaces', 'Spaces on this node by its role in them; spaces.', ({ facts }) => [
    { labels: { role: 'primary' }, value: facts.spacesLed },
    { labels: { role: 'replica' }, value: facts.spacesFollowed },
  ]),
  gauge(
    'node_damaged_spaces',
    'Spaces with acknowledged entries that cannot be read, and that nobody accepted; spaces.',
    single(({ facts }) => facts.damagedSpaces),
  ),
  counter(
    'node_events_total',
    'Events that this node has emitted since it was opened, by name; events.',
    ({ facts }) => facts.events.map(([event, value]) => ({ labels: { event }, value })),
  ),
  counter(
    'node_log_lines_dropped_total',
    'Lines that the logger threw at, or says that it has dropped; lines.',
    single(({ facts }) => facts.droppedLines),
  ),
  gauge(
    'node_certificate_days_left',
    'Until the certificate for other nodes expires, or the authority that made it (ca); days.',
    ({ facts }) =>
      facts.certificates.map(({ certificate, daysLeft }) => {
        return { labels: { certificate }, value: daysLeft };
      }),
  ),
  gauge(
    'node_certificate_lifetime_days',
    'For how long the same certificates were made; days.',
    ({ facts }) =>
      facts.certificates.map(({ certificate, lifetimeDays }) => {
        return { labels: { certificate }, value: lifetimeDays };
      }),
  ),
  gauge(
    'node_credentials_refused',
    '1 while files of keys or certificates have changed and are wrong: those before are in force.',
    single(({ facts }) => Number(facts.credentialsRefused)),
  ),
  gauge(
    'apply_blocked_spaces',
    'Spaces of which nothing is applied, because the host’s callback fails; spaces.',
    single(({ facts }) => facts.applyBlockedSpaces),
  ),
];
