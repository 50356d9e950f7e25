/** The metrics of replication: of each link, and of each (space, replica). */
import { LINK_STATES } from '../link/control.js';
import { ADDRESS_CLASSES, DOORS, REFUSAL_REASONS, type RefusalCount } from '../link/refusal.js';
import { LOSS_CAUSES } from '../memory/loss-cause.js';
import {
  BATCH_BYTES,
  LINKS_LOST_FIRST,
  SHIPPER_COUNTER,
  SPACE_SERIES_MAX,
  spaceShipped,
} from '../memory/metric-words.js';
import { PAIR, type PairField } from '../memory/pair-rows.js';
import {
  counter,
  gauge,
  histogram,
  linkLabels,
  type MetricDefinition,
  type MetricRow,
  perPair,
  perReplica,
  stateSet,
  yes,
} from './definition.js';
import type { MetricView } from './view.js';

const field = (of: PairField) => perPair(({ pairs }, slot) => pairs.get(slot, of));
const counted = (of: number) => perReplica(({ counters }) => counters.value(of));

/** Of both ends: what this node’s shippers and its listening side have moved. */
function bytesMoved(view: MetricView): MetricRow[] {
  const rows: MetricRow[] = [];
  for (const replica of view.replicas) {
    const labels = linkLabels(view, replica);
    const sent = replica.counters.value(SHIPPER_COUNTER.bytesSent);
    const received = replica.counters.value(SHIPPER_COUNTER.bytesReceived);
    rows.push({ labels: { ...labels, direction: 'sent' }, value: sent });
    rows.push({ labels: { ...labels, direction: 'received' }, value: received });
  }
  for (const { primaryId, bytesSent, bytesReceived } of view.facts.primaries) {
    const labels = { replica_id: view.facts.nodeId, primary_id: primaryId };
    rows.push({ labels: { ...labels, direction: 'sent' }, value: bytesSent });
    rows.push({ labels: { ...labels, direction: 'received' }, value: bytesReceived });
  }
  return rows;
}

function* linksLost(view: MetricView): Generator<MetricRow> {
  for (const replica of view.replicas) {
    const labels = linkLabels(view, replica);
    for (const [i, reason] of LOSS_CAUSES.entries()) {
      const isThread = reason === 'thread-lost';
      const { threadDeaths } = replica.facts;
      const value = isThread ? threadDeaths : replica.counters.value(LINKS_LOST_FIRST + i);
      yield { labels: { ...labels, reason }, value };
    }
  }
}

function* alertsRaised(view: MetricView): Generator<MetricRow> {
  for (const replica of view.replicas) {
    const { pairs } = replica;
    for (const { slot, labels: sharedLabels } of view.pairsOf(replica)) {
      const warnings = pairs.get(slot, PAIR.warnings);
      const criticals = pairs.get(slot, PAIR.criticals);
      yield { sharedLabels, labels: { severity: 'warning' }, value: warnings };
      yield { sharedLabels, labels: { severity: 'critical' }, value: criticals };
    }
  }
}

/** What no replica has flushed: the least lag of a space. NaN: unknown on all. */
function* exposure(view: MetricView, of: PairField): Generator<MetricRow> {
  for (let slot = 1; slot < view.spaceNames.length; slot++) {
    const pairs = view.replicas.filter((r) => r.pairs.isFollowed(slot)).map((r) => r.pairs);
    if (pairs.length === 0) continue;
    const known = pairs.map((p) => p.get(slot, of)).filter((lag) => !Number.isNaN(lag));
    const value = known.length > 0 ? Math.min(...known) : Number.NaN;
    yield { labels: { memory_space: view.spaceNames[slot]! }, value };
  }
}

/** What was shipped of each space to each replica: batches (0), their bytes (1). */
function* shipped(view: MetricView, which: 0 | 1): Generator<MetricRow> {
  for (const replica of view.replicas) {
    for (const { slot, labels: sharedLabels } of view.pairsOf(replica)) {
      if (slot > SPACE_SERIES_MAX) break;
      const value = replica.counters.value(spaceShipped(slot) + which);
      yield { sharedLabels, labels: {}, value };
    }
  }
}

const OF_PAIRS: readonly MetricDefinition[] = [
  gauge(
    'replication_lag_ms',
    'Since the oldest entry that the replica has not flushed became durable here; NaN where the ' +
      'replica was never connected and lacks entries; milliseconds.',
    field(PAIR.lagMs),
  ),
  gauge(
    'replication_lag_entries',
    'Entries that are durable here and not flushed on the replica; entries.',
    field(PAIR.lagEntries),
  ),
  gauge(
    'replication_lag_bytes',
    'Bytes of the entries that are durable here and not flushed on the replica, exact to a ' +
      'group; bytes.',
    field(PAIR.lagBytes),
  ),
  gauge(
    'replication_replica_status',
    'Status of the replica in the space: 3 healthy, 2 lagging, 1 degraded, 0 failed.',
    field(PAIR.status),
  ),
  gauge(
    'replication_stalled',
    '1 where the link lives and the replica’s position does not move though entries wait, else 0.',
    perPair(({ pairs }, slot) => yes(pairs.get(slot, PAIR.stage) > 0)),
  ),
  counter(
    'replication_lag_alert_total',
    'How often the lag of the replica in the space has raised an alert (warning from ' +
      'lagAlertThresholdMs on, critical from lagDegradedThresholdMs on); alerts.',
    alertsRaised,
  ),
  counter(
    'replication_space_batches_sent_total',
    'Batches with entries of the space handed to the socket; only the first 1,000 spaces of a ' +
      'node; batches.',
    (view) => shipped(view, 0),
  ),
  counter(
    'replication_space_batch_bytes_total',
    'Bytes of these batches before they are compressed, headers included; of a batch of several ' +
      'spaces only the entries of this one; bytes.',
    (view) => shipped(view, 1),
  ),
  gauge(
    'replication_rpo_entries',
    'Entries of the space that no replica has flushed: lost with this node’s disk; entries.',
    (view) => exposure(view, PAIR.lagEntries),
  ),
  gauge(
    'replication_rpo_ms',
    'Since the oldest entry of the space that no replica has flushed became durable here; NaN ' +
      'where no replica was ever connected; milliseconds.',
    (view) => exposure(view, PAIR.lagMs),
  ),
];

const OF_LINKS: readonly MetricDefinition[] = [
  counter(
    'replication_batches_sent_total',
    'Batches handed to the socket; batches.',
    counted(SHIPPER_COUNTER.batchesSent),
  ),
  counter(
    'replication_batches_failed_total',
    'Batches that were sent and not acknowledged when their link ended; batches.',
    counted(SHIPPER_COUNTER.batchesFailed),
  ),
  histogram(
    'replication_batch_size_bytes',
    'Size of batches before they are compressed, headers included; bytes.',
    BATCH_BYTES,
    (view) => view.replicas.map((r) => [r.counters, linkLabels(view, r)] as const),
  ),
  counter(
    'replication_bytes_total',
    'Bytes on the connections between this node and the other, all frames; bytes.',
    bytesMoved,
  ),
  counter(
    'replication_entries_acked_total',
    'Entries that the replica has told to be flushed since the node was opened; entries.',
    counted(SHIPPER_COUNTER.entriesAcked),
  ),
  gauge(
    'replication_throughput_entries_per_sec',
    'Entries that the replica has flushed, over the last lag poll; entries per second.',
    perReplica(({ facts }) => facts.entriesPerSecond),
  ),
  counter(
    'replication_catchup_entries_replayed_total',
    'Entries sent to the replica that were read back from segments; entries.',
    counted(SHIPPER_COUNTER.entriesReplayed),
  ),
  gauge(
    'replication_catchup_behind_bytes',
    'What of the log has not been read for the replica yet, as of the last second; bytes.',
    perReplica(({ facts }) => facts.behindBytes),
  ),
  gauge(
    'replication_connection_pool_active',
    'Connections to the replica on which positions were exchanged: 1 or 0; connections.',
    perReplica(({ facts }) => yes(facts.isConnected)),
  ),
  gauge(
    'replication_streams',
    'Spaces that are streamed on the link to the replica; spaces.',
    perReplica(({ facts }) => (facts.isConnected ? facts.streams : 0)),
  ),
  counter(
    'replication_reconnects_total',
    'Links, or attempts to connect, that have ended and are tried again, by reason; links.',
    linksLost,
  ),
  gauge(
    'replication_last_received_age_ms',
    'Since the last byte was received from the replica; NaN: none ever; milliseconds.',
    perReplica(({ facts }) => facts.lastReceivedAgeMs ?? Number.NaN),
  ),
  gauge(
    'replication_never_connected',
    '1 where the replica has not once been connected since the node was opened, else 0.',
    perReplica(({ facts }) => yes(!facts.wasConnected)),
  ),
  gauge(
    'replication_consecutive_failures',
    'Links to the replica lost in a row; from 3 on the replica is failed; links.',
    perReplica(({ facts }) => facts.consecutiveFailures),
  ),
  counter(
    'replication_checksum_failures_total',
    'Links to the replica that ended because bytes were changed on the way; links.',
    perReplica(({ facts }) => facts.checksumFailures),
  ),
  gauge(
    'replication_bare_spaces',
    'Spaces of which the replica does not take what is appended, and too few others do: ' +
      'acknowledgements by replicas are refused or late; spaces.',
    perReplica(({ facts }) => facts.bareSpaces),
  ),
  gauge(
    'replication_lost_slots',
    'Spaces of which the log no longer keeps what the replica lacks; spaces.',
    perReplica(({ facts }) => facts.slotsLost),
  ),
  gauge(
    'replication_link_state',
    'State of the link to the replica: 1 for the one in force.',
    (view) =>
      view.replicas.flatMap((r) =>
        stateSet('state', LINK_STATES, linkLabels(view, r), r.facts.state),
      ),
  ),
];

const OF_PRIMARIES: readonly MetricDefinition[] = [
  gauge('replication_primary_connected', '1 while the primary is connected to this node.', (view) =>
    view.facts.primaries.map(({ primaryId, isConnected }) => ({
      labels: { replica_id: view.facts.nodeId, primary_id: primaryId },
      value: yes(isConnected),
    })),
  ),
  gauge(
    'replication_primary_stalled',
    '1 while the main thread of the connected primary does not move, though its shipper does.',
    (view) =>
      view.facts.primaries.map(({ primaryId, isStalled }) => ({
        labels: { replica_id: view.facts.nodeId, primary_id: primaryId },
        value: yes(isStalled),
      })),
  ),
];

/** All kinds from the start: the first of a kind is an increase, too. */
function* refusedRows({ facts }: MetricView): Generator<MetricRow> {
  const times = new Map(facts.refused.map((one) => [kindOf(one), one.times]));
  for (const door of DOORS) {
    for (const reason of REFUSAL_REASONS) {
      for (const addressClass of ADDRESS_CLASSES) {
        const value = times.get(kindOf({ door, reason, addressClass })) ?? 0;
        yield { labels: { door, reason, address_class: addressClass }, value };
      }
    }
  }
}

function kindOf(of: Pick<RefusalCount, 'door' | 'reason' | 'addressClass'>): string {
  return `${of.door} ${of.reason} ${of.addressClass}`;
}

const OF_STRANGERS: readonly MetricDefinition[] = [
  counter(
    'refused_connections_total',
    'Connections, introductions and requests that were not let in, by where (replication or ' +
      'http), why, and what kind of address they came from; connections.',
    refusedRows,
  ),
];

export const REPLICATION_METRICS: readonly MetricDefinition[] = [
  ...OF_PAIRS,
  ...OF_LINKS,
  ...OF_PRIMARIES,
  ...OF_STRANGERS,
];
