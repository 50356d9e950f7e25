/**
 * Every limit and default in one place; units come last in the name. The relations between
 * them are asserted when the module is loaded, so that nobody can change one alone.
 */

const KiB = 1024;
const MiB = 1024 * KiB;

export const ENTRY_HEADER_BYTES = 64;
export const BATCH_HEADER_BYTES = 64;
/** Zero bytes behind each written group; the next group overwrites them. */
export const TRAILER_BYTES = 64;
export const SPACE_ID_BYTES = 16;
export const SPACE_NAME_MAX_BYTES = 255;

export const DEFAULT_SEGMENT_BYTES = 64 * MiB;
export const SEGMENT_MAX_BYTES = 2 ** 31 - 64;
/** Holes in a log, and damaged ranges of a space, that are told apart. */
export const HOLES_MAX = 1_024;
/** Epochs of one space that are remembered, the newest; and rewinds that its host is told of. */
export const HISTORY_MAX = 4_096;
export const REWINDS_MAX = 16;
/** So far above the highest that is known may an epoch be that others name, and no farther. */
export const EPOCH_REACH = 2 ** 20;
/** The last one that is taken from anybody: the words for epochs have 32 bits. */
export const EPOCH_MAX = 2 ** 32 - EPOCH_REACH;
/** The last entry that another node's snapshot may stand for: half of what is reckoned exactly. */
export const SNAPSHOT_SEQUENCE_MAX = 2 ** 52;
/** Rewinds since a node was opened that are told apart to those who read. */
export const TAKEN_BACK_MAX = 64;
/** Freed segments that are kept to be used again; the others are removed. */
export const SPARE_SEGMENTS_MAX = 4;
/** Entries of one space that its host was told to do without, above its checkpoint. */
export const SKIPS_MAX = 1_024;
/** How often an entry that the host cannot apply is offered before it blocks its space (row 52). */
export const DEFAULT_APPLY_RETRIES = 5;
/** How long a callback of the host may take before others do not wait for it (row 112). */
export const DEFAULT_HOST_TIMEOUT_MS = 10_000;
/** How far a replica may keep the log back; beyond, it needs a snapshot. */
export const DEFAULT_MAX_SLOT_BYTES = 16 * 1024 * MiB;
/** How long a replica may be away before what it lacks is not kept any more: a week. */
export const DEFAULT_SLOT_IDLE_TIMEOUT_MS = 7 * 24 * 3_600_000;
export const DEFAULT_GROUP_BYTES = 4 * MiB;
export const DEFAULT_MAX_ENTRY_BYTES = 1 * MiB;
export const DEFAULT_MEMORY_BUDGET_BYTES = 64 * MiB;
/** Fewer slabs than this and staging, sealing and writing could not overlap. */
export const MIN_SLABS = 4;
/** What is durable stays readable for so long, for links that are late; less at full rate. */
export const SLAB_KEPT_MS = 500;
/** Where a small group may begin in a slab: behind one that left room. */
export const SLAB_PLACES = 8;
/** A group holds at most so many runs of entries of one space. */
export const GROUP_MAX_RUNS = 16_384;
/** More would reserve more than they are good for: each has a table of runs. */
export const SLABS_MAX = 1_024;
export const DEFAULT_MAX_SPACES = 16_384;
/** Spaces that background work looks at before other work has its turn. */
export const SPACES_A_TURN = 1_024;
/** Spaces whose roles change, or that are made or written down, beside each other. */
export const CHANGES_A_TURN = 256;
export const MAX_SPACES_MAX = 2 ** 20;
/** The longest piece of shared memory that Node 20 has views of. */
export const MEMORY_BUDGET_MAX_BYTES = 4 * 1024 * MiB;
export const CATCH_UP_BATCH_MAX_BYTES = 256 * MiB;

/** From this size on a waiting group is worth a pool task; below, main seals it at once. */
export const POOL_SEAL_BYTES = 256 * KiB;
/** Groups that are written and not made durable: what waits for a timer or a roll is bounded. */
export const UNSYNCED_GROUPS_MAX = 4_096;
/** Of `fsync.timerMs` where members wait for it, one record after the other (electorate.ts). */
export const SHIPPED_TIMER_MAX_MS = 500;
export const DEFAULT_SEALER_THREADS = 1;
export const SEALER_THREADS_MAX = 64;

/** Appends that may wait for budget, and how long each may. */
export const WAITING_APPENDS_MAX = 10_000;
/** Producers of one node, the ring of each, and its appends that are not answered yet. */
export const PRODUCERS_MAX = 64;
export const DEFAULT_RING_BYTES = 4 * MiB;
export const RING_MIN_BYTES = 64 * KiB;
export const RING_MAX_BYTES = 1024 * MiB;
export const PRODUCER_PENDING_MAX = 65_536;
/** Parts of what a producer appends that are settled at once, and entries of one. */
export const ANSWERS_MAX = 256;
export const PART_MAX_ENTRIES = 4_096;
/** What a producer's thread has put into its ring before main is told in the same turn. */
export const PRODUCER_TELL_BYTES = 64 * KiB;
/** Entries of a led space that `apply` may lack while more are taken. */
export const APPLY_BEHIND_MAX = 100_000;
export const WAITING_APPEND_MS = 5_000;
/** A write or fdatasync that takes longer makes the disk a slow one. */
export const SLOW_DISK_MS = 1_000;
/** How often a log that is read-only for a passing reason tries to go on. */
export const RESUME_POLL_MS = 500;
/** How often it is looked whether the data directory is still in its place (row 92). */
export const PLACE_LOOK_MS = 1_000;
/** Kept aside, so that state can be written and segments freed on a full disk (row 13). */
export const RESERVE_BYTES = 4 * MiB;
/** The mark is written within this time of going idle. */
export const MARK_IDLE_MS = 100;

export const BATCH_MAX_ENTRIES = 1_000;
/** Longer runs have batches of their own: what is of one space is checked many at a time. */
export const MIXED_RUN_MAX_ENTRIES = 16;
export const DEFAULT_BATCH_ENTRIES = 100;
export const BATCH_TRIGGER_BYTES = 256 * KiB;
export const DEFAULT_BATCH_DELAY_MS = 10;
export const BATCH_DELAY_MAX_MS = 1_000;
export const DEFAULT_CATCH_UP_BATCH_BYTES = 2 * MiB;
/** What may be sent and not yet acknowledged, per replica. */
export const DEFAULT_WINDOW_BYTES = 16 * MiB;
/** A frame grows while acknowledgements come within the first time, shrinks beyond the other. */
export const FRAME_FIRST_BYTES = 64 * KiB;
export const FRAME_SMALLEST_BYTES = 16 * KiB;
export const ACK_FAST_MS = 100;
export const ACK_SLOW_MS = 1_000;
/** Send buffers per shipper; each is in the socket's hands until its write has completed. */
export const SEND_BUFFERS = 3;

export const FRAME_HEADER_BYTES = 16;
/** Buffers for whole frames that a node keeps for the next connection. */
export const SPARE_FRAME_BUFFERS = 2;
/** The longest frame accepted before the hello has been answered. */
export const HELLO_FRAME_MAX_BYTES = 1 * KiB;
/** Every node takes and sends frames of at least this size, however small its batches. */
export const FRAME_LEAST_BYTES = 64 * KiB;
/** Members of one space, as far as a peer may name them. */
export const MEMBERS_MAX = 64;
/** What promotions keep, where nobody has said otherwise: entries acknowledged on one replica. */
export const DEFAULT_KEEP = 1;
/** Entries of members that the facts of one space remember: pending and settled ones. */
export const MEMBERS_ROWS_MAX = 64;
/** What a frame may carry around its largest batch: length, headers, slack for small ones. */
export const FRAME_OVERHEAD_BYTES = 4 * KiB;
/** Spoken with who speaks it; else the highest that both know, down to the first. */
export const PROTOCOL_VERSION = 2;
export const PROTOCOL_VERSION_MIN = 1;

export const HEARTBEAT_MS = 1_000;
/** Nothing heard of a peer for so long, and the connection is given up. */
export const DEFAULT_READ_TIMEOUT_MS = 10_000;
/** Every node beats once a second: a peer is silent when several beats are missing. */
export const READ_TIMEOUT_LEAST_MS = 3 * HEARTBEAT_MS;
/** What the system does not take for so long is stuck. */
export const DEFAULT_WRITE_TIMEOUT_MS = 10_000;
export const WRITE_TIMEOUT_LEAST_MS = 100;
/** No acknowledgement moves, of batches in flight: more than the slowest healthy disk takes. */
export const ACK_STALL_MS = 15_000;
/** A link that has held so long is stable: its failures before are forgotten. */
export const STABLE_MS = 5_000;
/** The longest backoff step where a dial is refused at once: nobody listens there, yet. */
export const REFUSED_STEP_MS = 1_000;
/** A replica that dials its primary is dialled at once, but not more often than this. */
export const MET_AGAIN_MS = 500;
/** A link whose replica has another life by now, and is silent for so long, is over. */
export const PAST_LIFE_MS = 1.25 * HEARTBEAT_MS;
/** A replica knocks so often at nodes that may lead what it follows, and do not ship to it. */
export const KNOCK_EVERY_MS = 1_000;
export const KNOCKS_AT_ONCE = 16;
/** Corrupted frames in a row after which the path to a replica counts as broken (row 30). */
export const CHECKSUMS_TO_OPEN = 3;
/** How long a node whose id is claimed a second time has for an answer (row 26). */
export const DUPLICATE_PING_MS = 1_000;
/** How often the main thread says that it is alive, and after what silence it is called stalled. */
export const MAIN_BEAT_MS = 250;
export const MAIN_STALLED_MS = 2_000;
export const CONNECT_TIMEOUT_MS = 5_000;
/** How often it is looked whether files of keys and certificates have changed, and their size. */
export const CREDENTIALS_LOOK_MS = 5_000;
export const SECRET_FILE_MAX_BYTES = 256 * KiB;
export const HANDSHAKE_DEADLINE_MS = 5_000;
/** From when on the system probes an idle connection; it counts in seconds. */
export const DEFAULT_KEEP_ALIVE_MS = 10_000;
export const KEEP_ALIVE_LEAST_MS = 1_000;
export const BACKOFF_STEPS_MS: readonly number[] = [100, 1_000, 10_000, 60_000];
/** Failures in a row after which a replica counts as failed. */
export const DEFAULT_MAX_RETRIES = 3;
/** Connections that have proved nothing yet: in all, of them for members' addresses alone. */
export const PRE_TRUST_CONNECTIONS_MAX = 128;
export const PRE_TRUST_KEPT = 32;
/** The same from one address that is no member's, and where wrong proofs come from. */
export const PRE_TRUST_PER_ADDRESS_MAX = 32;
export const PRE_TRUST_PER_SUSPECT_MAX = 4;
/** For how long after a wrong proof an address is suspected, and how many are remembered. */
export const SUSPECT_MS = 60_000;
export const SUSPECTS_MAX = 1_024;
/** How late a wrong proof is answered; a right one is answered at once, wherever it comes from. */
export const WRONG_PROOF_MS = 1_000;
/** Addresses from which members have come that are remembered. */
export const MEMBER_ADDRESSES_MAX = 256;
/** Connections to the HTTP server, in all and from one address; the time for a whole request. */
export const HTTP_CONNECTIONS_MAX = 128;
export const HTTP_PER_ADDRESS_MAX = 64;
export const HTTP_REQUEST_MS = 5_000;
/** For so long an answer may be made: a look at very many spaces on a busy machine. */
export const HTTP_ANSWER_MS = 60_000;
/** Nodes that members have named, and this node has in no set yet, that are remembered. */
export const VOUCHED_MAX = 1_024;
/** What a thread reads of a socket at once; one buffer for all plain sockets of a thread. */
export const READ_BUFFER_BYTES = 256 * KiB;
/**
 * How many the system takes for us while we are busy; at most net.core.somaxconn. Who finds no room
 * there comes again after a second, then after three.
 */
export const LISTEN_BACKLOG = 4_096;
/** Connections that were let in. */
export const CONNECTIONS_MAX = 256;
/**
 * Peer calls that are answered at once, in all and of one node: no member's appends leave the
 * others no room to ask who leads. How long each may take, what an answer may come to.
 */
export const PEER_CALLS_MAX = 128;
export const PEER_CALLS_PER_NODE_MAX = 32;
export const PEER_CALL_MAX_MS = 60_000;
export const PEER_ANSWER_MAX_BYTES = 16 * MiB;
/** What a repair asks for at once, how long the answer may take, bad places in one segment. */
export const REPAIR_PIECE_BYTES = 1 * MiB;
export const REPAIR_ANSWER_MS = 10_000;
export const REPAIR_PLACES_MAX = 4_096;
/** The longest filler: what lies behind it is found with a small window. */
export const FILLER_MAX_BYTES = 256 * KiB;
/** Bytes of entries in one answer, whatever was asked for. */
export const PEER_ENTRIES_MAX_BYTES = 4 * MiB;

/** The longest piece of a snapshot in one frame, where the frame holds it. */
export const SNAPSHOT_CHUNK_BYTES = 256 * KiB;
/** The longest piece that is taken. */
export const SNAPSHOT_CHUNK_MAX_BYTES = 1 * MiB;
/** Chunks that may be on their way to a replica, or there and not durable yet. */
export const SNAPSHOT_WINDOW_CHUNKS = 4;
/** Epochs that a snapshot's history names, the newest ones. */
export const SNAPSHOT_HISTORY_MAX = 100;
/** Full syncs at once, per primary (row 60). */
export const DEFAULT_MAX_SNAPSHOTS = 1;
/** The most bytes that a replica takes of one snapshot, and of how many spaces at once. */
export const DEFAULT_MAX_SNAPSHOT_BYTES = 64 * 1024 * MiB;
export const SNAPSHOT_INTAKES_MAX = 64;
/** So many segments stay free on a disk that takes a snapshot: the log goes on. */
export const SNAPSHOT_FREE_SEGMENTS = 4;
/** For how long an interrupted snapshot is kept, at both ends, to go on where it was (row 56). */
export const DEFAULT_SNAPSHOT_GRACE_MS = 60_000;
/** A replica that makes no chunk durable for so long gives its place to the next one. */
export const SNAPSHOT_STALL_MS = 30_000;
/** A host that gives nothing of its snapshot for so long has failed. */
export const SNAPSHOT_HOST_STALL_MS = 300_000;
/** When a replica that waits for its turn asks again, at the earliest. */
export const SNAPSHOT_WAIT_MS = 5_000;

/** The longest question that a person's tool asks a node, beside an entry that it appends. */
export const ADMIN_LINE_MAX_BYTES = 64 * KiB;
/** Spaces that one question to a member may name. */
export const ASK_SPACES_MAX = 256;
/** Calls about spaces that one node has open at one member, for each kind of question. */
export const MEMBER_CALLS_MAX = 4;
/** Spaces that one node hands over to one member at once: a call there and one back for each. */
export const HANDOVERS_MAX = 8;
/** Connections to one member for appends that are led to it, one append at a time on each. */
export const APPEND_CALLS_MAX = 16;
/** Such a connection is used no longer: a call ends after PEER_CALL_MAX_MS, whatever it does. */
export const APPEND_CALL_LIFE_MS = 20_000;
/** Appends of a node that are on their way to others. */
export const LED_APPENDS_MAX = 256;
export const LED_APPENDS_MAX_BYTES = 16 * 1024 * 1024;
/** How long a candidate waits for the word of one member. */
export const MEMBER_ASK_MS = 2_000;
/** How long a call about many spaces may take, while answers go on coming. */
export const MEMBER_CALL_MAX_MS = 10_000;
/** A node asks so many members how they are, each for so long, and tells of so many links. */
export const CLUSTER_MEMBERS_MAX = 64;
export const CLUSTER_ASK_MS = 1_500;
export const GLANCE_LINKS_MAX = 128;
/** How often it asks anew with a higher epoch, where one was heard of. */
export const PROMISE_ROUNDS = 3;
/** Between such rounds, where another candidate is met: doubled from the first to the last. */
export const DUEL_BACKOFF_MS = { first: 100, last: 800 } as const;
/** Who has promised an epoch to another candidate tries for none itself for so long. */
export const PROMISE_HOLD_MS = 1_000;
/** How long a planned hand-over may stop appends, by default. */
export const DEFAULT_SWITCHOVER_MS = 5_000;
/** Openings in a row without a close that make a crash loop (row 61). */
export const CRASHES_TO_TELL = 3;
/** A node that has lived so long is out of it. */
export const STABLE_LIFE_MS = 60_000;
/** How long to wait before starting it again: doubled from the first to the last. */
export const RESTART_HINT_MS = { first: 1_000, last: 60_000 } as const;

/** How long a primary waits for a silent member before it opens without its word. */
export const OPEN_CONFIRM_MS = 2_000;
export const CLOSE_DEADLINE_MS = 5_000;
export const DEFAULT_ACK_TIMEOUT_MS = 5_000;

/** The longest time that a timer of Node waits, 24 days; what is longer waits 1 ms. */
export const TIMER_MAX_MS = 2 ** 31 - 1;

/** A log line an event: so many of one subject, and of one event in all, in a window of time. */
export const LINE_WINDOW_MS = 10_000;
export const LINES_PER_SUBJECT = 10;
export const LINES_PER_EVENT = 100;
/** The longest text out of an event that goes into a line. */
export const LINE_TEXT_MAX = 300;
/** Events that the page and /replication/status remember. */
export const RECENT_EVENTS_MAX = 100;
/** That a loop over events has not taken yet. */
export const EVENTS_WAITING_MAX = 1_000;

/** How long the lease of a node lives without a word of it (etcd grants no less than 2 s). */
export const DEFAULT_LEASE_TTL_MS = 5_000;
export const LEASE_TTL_MIN_MS = 2_000;
export const LEASE_TTL_MAX_MS = 3_600_000;
/** A lease is kept so often within its life, and trusted for all but this part of it. */
export const LEASE_KEEPS = 4;
export const LEASE_MARGIN = 0.1;
export const DEFAULT_REPLICAS_PER_SPACE = 2;
/** Between attempts to reach the coordinator: doubled from the first to the last, jittered. */
export const COORDINATOR_BACKOFF_MS = { first: 100, last: 2_000 } as const;
/** Who is not the first candidate for a space waits so long for each one before it. */
export const CANDIDATE_STEP_MS = 150;
/** Who led last, or is to make a new space, goes first where it lives: others wait so long. */
export const RESUME_GRACE_MS = 1_000;
/** A node that has become a leader of another space so lately is at work: it is waited for. */
export const CANDIDATE_AT_WORK_MS = 1_000;
/** How often who is not the first candidate waits for one that is at work. */
export const CANDIDATE_WAITS_MAX = 20;
/** Promotions that one node tries at once, and records that it writes. */
export const PROMOTIONS_MAX = CHANGES_A_TURN;
/** Transactions of spaces in one of etcd's (of 128 operations), its bytes (of 1.5 MiB). */
export const ETCD_TXN_SPACES = 100;
export const ETCD_TXN_BYTES = 768 * KiB;
/** Transactions that are on their way to etcd at once. */
export const ETCD_TXNS_MAX = 4;
/** The longest answer that is taken of etcd, and what may be under way of one. */
export const ETCD_ANSWER_MAX_BYTES = 64 * MiB;
export const ETCD_WINDOW_BYTES = 1 * MiB;
/** After a promotion that came to nothing: doubled from the first to the last, jittered. */
export const PROMOTION_BACKOFF_MS = { first: 200, last: 2_000 } as const;
/** How often what the coordinator has said is held against what this node does. */
export const COORDINATOR_TICK_MS = 1_000;
/** How often a node looks whether it leads more than others; for how long they were the same. */
export const REBALANCE_EVERY_MS = 5_000;
export const REBALANCE_CALM_MS = 30_000;
/** Spaces that it hands over at one look, at most. */
export const REBALANCE_STEP_MAX = 16;

export const LAG_HEALTHY_MS = 10;
export const DEFAULT_LAG_ALERT_MS = 1_000;
export const DEFAULT_LAG_DEGRADED_MS = 5_000;
/** An alert or a worse status ends when the lag has fallen below this share of its bound. */
export const LAG_CLEAR_SHARE = 0.8;
export const DEFAULT_LAG_POLL_MS = 5_000;
/** A replica that does not move for so long, though its link is open and entries wait. */
export const DEFAULT_STALLED_AFTER_MS = 10_000;

export const DEFAULT_METRICS_PREFIX = 'engram_';
/** Primaries that metrics tell apart; of those beyond, the ones that are away are forgotten. */
export const PRIMARIES_KEPT = 64;
/** A scrape of which nothing more comes for so long has failed: its text is made in pieces. */
export const SCRAPE_SILENCE_MS = 10_000;

/** How far those that follow a space may fall behind in memory before they read the log. */
export const TAIL_QUEUE_BYTES = 4 * MiB;
/** What a run takes in memory beside its bytes, about. */
export const RUN_OBJECT_BYTES = 512;
/** What one read of the log asks for, and what it may always ask for. */
export const READ_CHUNK_BYTES = 1 * MiB;
export const READ_LEAST_BYTES = 4 * KiB;
/** Readers hold this part of the memory budget, and one of them this part of what is left. */
export const READ_SHARE = 8;
/** Frames that are not whole yet hold this part of the memory budget. */
export const FRAME_SHARE = 4;
/** Who holds half a frame for so long has to go when others need the room. */
export const HALF_FRAME_MS = 1_000;
/** Small payloads that are handed out share memory of this size. */
export const PAYLOAD_CHUNK_BYTES = 4 * KiB;
/** The longest stretch of a space in an index, unless one run is longer. */
export const INDEX_EVERY_BYTES = 256 * KiB;
/** What is longer than that is divided into parts of at least so much. */
export const INDEX_PART_BYTES = INDEX_EVERY_BYTES / 2;
/** What may lie between two runs of one stretch: reading it costs less than a read of its own. */
export const INDEX_GAP_BYTES = 4 * KiB;
/** Stretches of one segment after each so many of which four times as much may lie between. */
export const INDEX_STRETCHES = 2 ** 17;
/** A shipper that has passed over so much asks where to go on, where no more streams lag. */
export const SEEK_AFTER_BYTES = 128 * KiB;
export const SEEK_STREAMS_MAX = 64;
/** Look-ups in the log that are made at once. */
export const LOOK_UPS_AT_ONCE = 8;

/**
 * The longest frame body that a node with these options sends and takes: its largest batch, its
 * longest entry, or the least that every node takes.
 */
export function frameBytesOf(maxEntryBytes: number, catchUpBatchBytes: number): number {
  const longestEntry = maxEntryBytes + ENTRY_HEADER_BYTES + BATCH_HEADER_BYTES;
  return Math.max(catchUpBatchBytes, longestEntry, FRAME_LEAST_BYTES) + FRAME_OVERHEAD_BYTES;
}

/** The configurable sizes of one log. */
export interface LogSizes {
  readonly segmentBytes: number;
  readonly groupBytes: number;
  readonly maxEntryBytes: number;
}

/**
 * Checks maxEntryBytes + 64 <= group <= segment < 2^31 (DESIGN 4, Segments).
 * @returns undefined when they fit, else the sentence that names what does not.
 */
export function sizesProblem(sizes: LogSizes): string | undefined {
  const { segmentBytes, groupBytes, maxEntryBytes } = sizes;
  if (segmentBytes % 64 !== 0) return `segmentBytes is ${segmentBytes}, not a multiple of 64`;
  if (segmentBytes > SEGMENT_MAX_BYTES) {
    return `segmentBytes is ${segmentBytes}, not at most ${SEGMENT_MAX_BYTES}`;
  }
  if (groupBytes > segmentBytes) {
    return `groupBytes is ${groupBytes}, not at most segmentBytes, ${segmentBytes}`;
  }
  const most = groupBytes - ENTRY_HEADER_BYTES;
  if (maxEntryBytes > most) {
    const bound = `groupBytes, ${groupBytes}, less ${ENTRY_HEADER_BYTES}`;
    return `maxEntryBytes is ${maxEntryBytes}, not at most ${bound}`;
  }
  return undefined;
}

/** The least that slabs may take: fewer of them, and nothing overlaps. */
export function leastMemoryBytes(groupBytes: number): number {
  return MIN_SLABS * (groupBytes + TRAILER_BYTES);
}

/** The default sizes of one log, so that they fit those which are set. */
export function fittingSizes(given: Partial<LogSizes>): LogSizes {
  const leastGroup = (given.maxEntryBytes ?? 0) + ENTRY_HEADER_BYTES;
  const wantedGroup = given.groupBytes ?? Math.max(DEFAULT_GROUP_BYTES, leastGroup);
  const leastSegment = 64 * Math.ceil(wantedGroup / 64);
  const segmentBytes = given.segmentBytes ?? Math.max(DEFAULT_SEGMENT_BYTES, leastSegment);
  const groupBytes = given.groupBytes ?? Math.min(wantedGroup, segmentBytes);
  const mostEntry = Math.max(1, groupBytes - ENTRY_HEADER_BYTES);
  const maxEntryBytes = given.maxEntryBytes ?? Math.min(DEFAULT_MAX_ENTRY_BYTES, mostEntry);
  return { segmentBytes, groupBytes, maxEntryBytes };
}

const problem = sizesProblem({
  segmentBytes: DEFAULT_SEGMENT_BYTES,
  groupBytes: DEFAULT_GROUP_BYTES,
  maxEntryBytes: DEFAULT_MAX_ENTRY_BYTES,
});
if (problem !== undefined) throw new Error(`limits.ts contradicts itself: ${problem}`);
// Standings, tips, promises and entries; spaces handed over in both directions.
if (4 * MEMBER_CALLS_MAX + 2 * HANDOVERS_MAX > PEER_CALLS_PER_NODE_MAX) {
  throw new Error('limits.ts contradicts itself: members refuse each other');
}
if (DEFAULT_MEMORY_BUDGET_BYTES < MIN_SLABS * DEFAULT_GROUP_BYTES) {
  throw new Error('limits.ts contradicts itself: the memory budget holds too few slabs');
}
