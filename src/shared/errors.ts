/**
 * The three error families and their closed set of codes. Each code says once what was
 * expected, what to do and shows an example; the message names what was found.
 */
import { shown } from './shown.js';

type Family = 'StorageError' | 'MemorySpaceError' | 'ReplicationError';

interface CodeFacts {
  readonly family: Family;
  /** The same call may succeed later without anybody changing anything. */
  readonly retryable: boolean;
  readonly expected: string;
  readonly remedy: string;
  readonly example: string;
}

function facts(family: Family, retryable: boolean, lines: [string, string, string]): CodeFacts {
  return { family, retryable, expected: lines[0], remedy: lines[1], example: lines[2] };
}

const S = 'StorageError';
const M = 'MemorySpaceError';
const R = 'ReplicationError';

const CODES = {
  Io: facts(S, false, [
    'the operating system to carry out a file operation',
    'look at the cause (errno, path), mend the disk or the permissions, then open the node again',
    'EACCES: chown the dataDir to the user that runs the host, mode 0700',
  ]),
  CorruptionDetected: facts(S, false, [
    'every acknowledged byte of the log to be as it was written',
    'keep the directory as it is; restore it from a replica or a backup',
    'cp -a data data.damaged && start a new node and let it be filled by the primary',
  ]),
  Repairing: facts(S, true, [
    'acknowledged entries that can be read',
    'nothing to do: the members of the space are asked for them; see status().repair',
    'start the members that status().repair names as unreachable',
  ]),
  ChecksumMismatch: facts(S, false, [
    'a CRC32C that fits the bytes it covers',
    'for a file: check the disk; for a connection: it is dropped and the bytes are sent again',
    'crc32c("123456789") = e3069283',
  ]),
  WalFailed: facts(S, false, [
    'every earlier write and fdatasync of this log to have succeeded',
    'find the cause in the first error, mend it, close the node and open it again',
    'await node.close(); node = await openNode(options)',
  ]),
  DiskFull: facts(S, true, [
    'free space for one more segment',
    'free space on the file system of dataDir, or move dataDir to a larger one',
    'df -h ./data/a',
  ]),
  ReadOnly: facts(S, true, [
    'a data directory that can be written to',
    'mend what the message names (mount, rights, open files); the log goes on by itself',
    'mount -o remount,rw /data',
  ]),
  Configuration: facts(S, false, [
    'options and arguments as the documentation names them',
    'correct the option or argument that the message names',
    "openNode({ dataDir: './data/a', nodeId: 'node-a', clusterId: 'demo' })",
  ]),
  Locked: facts(S, true, [
    'a data directory that no other node has open',
    'close the node that has it, in the process that the message names, or use another dataDir',
    "openNode({ ..., dataDir: './data/b' })",
  ]),
  WrongUser: facts(S, false, [
    'the data directory to belong to the user that runs this process (the owner of node.json)',
    'run it as that user, or give the directory to this one: what this one wrote would lock it out',
    'sudo -u engram-wal node host.js; or: chown -R "$(id -u)" ./data/a',
  ]),
  Backpressure: facts(S, true, [
    'room in the memory budget within 5 s',
    'append more slowly, raise memoryBudgetBytes, or look for a slow disk',
    'openNode({ ..., memoryBudgetBytes: 256 * 1024 * 1024 })',
  ]),
  EntryTooLarge: facts(S, false, [
    'a payload of at most maxEntryBytes',
    'split the payload, or raise maxEntryBytes on every node of the cluster',
    'openNode({ ..., maxEntryBytes: 2 * 1024 * 1024 })',
  ]),
  Trimmed: facts(S, false, [
    'a first sequence that the log still holds',
    'read from the sequence that the message names',
    'space.read({ from: space.status().firstSequence })',
  ]),
  RetentionFull: facts(S, true, [
    'the host to checkpoint what it does not need any more',
    'checkpoint every space up to what the host has kept elsewhere, or raise maxRetainedBytes',
    'await space.checkpoint(space.status().durableSequence)',
  ]),
  WorkerLost: facts(S, true, [
    'a thread of the node to live until it has answered',
    'call again: the thread is started anew; where it dies again, look at the cause',
    'await node.metrics()',
  ]),
  HostUnsuitable: facts(S, false, [
    'a host that may start threads and sync files, and this package whole where it was installed',
    'mark engram-wal as external in your bundler; leave out what takes threads or fsync from Node',
    'esbuild main.ts --bundle --platform=node --external:engram-wal',
  ]),
  PackageMissing: facts(S, false, [
    'the optional packages of what is asked for (npm install --omit=optional leaves them out)',
    'install the package that the message names, beside engram-wal',
    'npm install prom-client',
  ]),
  CodecFailed: facts(S, false, [
    'a codec that takes every value and every payload of its space',
    'look at the cause; the entry stays in the log, and space.bytes reads it without the codec',
    "await node.openSpace('tenant-a', { codec: jsonCodec() })",
  ]),
  Aborted: facts(S, false, [
    'the signal of the call not to be aborted before what is waited for',
    'nothing; what had begun may still happen: space.status() and the log tell',
    'await space.append(1000, payload, { signal: AbortSignal.timeout(1_000) })',
  ]),
  Closed: facts(S, false, [
    'a node that is open',
    'do not use a node or its spaces after close()',
    'const node = await openNode(options)',
  ]),
  EngramDirectory: facts(S, false, [
    'a data directory of engram-wal',
    "give the node a directory of its own; Engram's files are left as they are",
    "openNode({ ..., dataDir: './data/new' })",
  ]),
  DataRootUnavailable: facts(M, false, [
    'a dataDir that this process can make, read and write',
    'correct dataDir, its owner or rights, or mount what is to lie there; nothing was changed',
    'install -d -m 700 -o service /var/lib/engram-wal',
  ]),
  SpaceUnknown: facts(M, false, [
    'a space that this node has, or lead: true to create it',
    'open the space on the node that leads it, or pass { lead: true }',
    "await node.openSpace('tenant-a', { lead: true })",
  ]),
  SequenceConflict: facts(M, false, [
    'no entry of a host behind the one that `expected` names',
    'read what is there behind it, decide anew, and append with details as `expected`',
    'space.append(type, payload, { expected: { sequence: details.last, epoch: details.epoch } })',
  ]),
  UnsupportedVersion: facts(R, false, [
    'a format or protocol version that this release knows',
    'run the same release on both ends, or the newer one here',
    'npm install engram-wal@latest',
  ]),
  EmptyBatch: facts(R, false, [
    'a batch of at least one entry',
    'this is a fault of the peer: upgrade it',
    'entry_count = 1',
  ]),
  InvalidBatchSize: facts(R, false, [
    'a batch whose sizes and counts agree with its bytes and with the caps',
    'this is a fault of the peer or of the link: look at the peer and at the network',
    'total_size = 64 x entry_count + payloads',
  ]),
  TruncatedBatch: facts(R, true, [
    'as many bytes as the batch header announces',
    'nothing to do: the bytes are sent again',
    'a frame of 4 + 64 + total_size bytes',
  ]),
  TruncatedEntry: facts(R, true, [
    'as many bytes as the entry header announces',
    'nothing to do: the bytes are sent again',
    'an entry of 64 + payload_size bytes',
  ]),
  ProtocolViolation: facts(R, true, [
    'frames in the order and with the fields that docs/PROTOCOL.md names',
    'run the same release on both ends; if they agree, look for a stranger on the port',
    'hello, then spaces, then batches',
  ]),
  ConnectionTimeout: facts(R, true, [
    'the peer to answer in time',
    'check that the peer runs and that its address is right; the node keeps trying',
    "replicas: [{ nodeId: 'node-b', host: '127.0.0.1', port: 7402 }]",
  ]),
  ConnectionRefused: facts(R, true, [
    'a node that listens at the address of this member',
    'start the node, or correct its address; the question is asked again',
    "listen: { host: '127.0.0.1', port: 7402 }",
  ]),
  ConnectionLost: facts(R, true, [
    'the connection to hold until the answer is complete',
    'nothing to do where it happens once: the question is asked again',
    'look at the log of the other node when it happens often',
  ]),
  MaxRetriesExceeded: facts(R, true, [
    'a link to this replica within maxRetries attempts',
    'bring the replica or the way to it back; it is tried again by itself, at the slowest pace',
    'openNode({ ..., maxRetries: 3, backoffStepsMs: [100, 1000, 10000, 60000] })',
  ]),
  ReplicaNotFound: facts(R, false, [
    'the node id of a configured replica',
    'name one of the replicas that openNode was given',
    "openSpace('tenant-a', { replicas: ['node-b'] })",
  ]),
  AuthFailed: facts(R, false, [
    'the same key at both ends of a connection, and certificates of one authority for both nodes',
    'give both nodes the same key, or the one named a certificate of its own; it is tried again',
    'engram-wal cert node /etc/engram-wal/ca --cluster prod --node node-b',
  ]),
  TlsMismatch: facts(R, false, [
    'TLS on both ends of a connection, or on none',
    'give the option tls to every node of the cluster, and restart those that lack it',
    "openNode({ ..., tls: { caFile: 'ca.pem', certFile: 'cert.pem', keyFile: 'key.pem' } })",
  ]),
  NotMember: facts(R, true, [
    'a node that is a member of a space here, or that replicas or mayReplicate names',
    'name it on the node that refuses it: in replicas or mayReplicate, or by addReplica',
    "openNode({ ..., replicas: [{ nodeId: 'node-c', host: '10.0.0.3', port: 7402 }] })",
  ]),
  EpochOutOfReach: facts(R, false, [
    'an epoch at most 2^20 above the highest that is known here, and at most 2^32 - 2^20',
    'look at the node that named it: nothing has so many promotions, and nothing was taken of it',
    'engram-wal inspect ./data/a --space tenant-a',
  ]),
  WrongCluster: facts(R, false, [
    'both ends to name the same clusterId',
    'correct clusterId or the address on one end',
    "openNode({ ..., clusterId: 'demo' })",
  ]),
  WrongNode: facts(R, false, [
    'the node at this address to have the configured nodeId',
    'correct nodeId or the address in replicas',
    "replicas: [{ nodeId: 'node-b', host: '127.0.0.1', port: 7402 }]",
  ]),
  DuplicateNode: facts(R, false, [
    'every node to have a nodeId of its own, and one process to run it',
    'give the copied directory another nodeId, or stop one of the two processes',
    "openNode({ dataDir: './data/c', nodeId: 'node-c', clusterId: 'demo' })",
  ]),
  Fenced: facts(R, false, [
    'no higher epoch of this space anywhere',
    'append on the node that leads the space now',
    'node.space(name).status().primaryNodeId',
  ]),
  Fork: facts(R, false, [
    'one single history of the space on all nodes',
    'keep both directories and compare them; neither node goes on by itself',
    'diff <(node-a) <(node-b)',
  ]),
  NotPrimary: facts(R, false, [
    'this node to lead the space',
    'append on the node that the message names',
    'node.space(name).status().primaryNodeId',
  ]),
  OutcomeUnknown: facts(R, false, [
    'the answer of the node that leads, on the connection on which the append was led to it',
    'read the space: the entry may be in it; append it again only if it is not',
    "await node.append('tenant-a', 1000, payload, { expected: last })",
  ]),
  LeaseLost: facts(R, true, [
    'the lease of this node to hold from the append to its acknowledgement',
    'the entry is durable here and its fate open: look for it on the node that leads now',
    'const { nodeId, address } = await node.locate(space)',
  ]),
  CoordinatorUnavailable: facts(R, true, [
    'the coordinator to answer in time',
    'bring etcd back, or correct coordinator.endpoints; the node goes on by itself',
    "coordinator: { kind: 'etcd', endpoints: ['http://127.0.0.1:2379'] }",
  ]),
  NotRunning: facts(S, true, [
    'a node that runs on this data directory, on this machine, as this user',
    'start the node, or name the dataDir of one that runs',
    'engram-wal promote ./data/b --space tenant-a',
  ]),
  PromotionRefused: facts(R, true, [
    'enough members that answer, none of them ahead of this node',
    'promote the node that is farthest, or bring members back; force: true accepts the loss named',
    "await node.promote('tenant-a', { dryRun: true })",
  ]),
  SwitchingOver: facts(R, true, [
    'no hand-over of the space to be under way',
    'append again in a moment: here, or on the node that leads then',
    'const { nodeId, address } = await node.locate(space)',
  ]),
  Rewound: facts(R, true, [
    'entries that another primary has not replaced',
    'forget what was read from the sequence that the message names on, and read again from there',
    'for await (const entry of space.subscribe({ from: error.details.from })) {}',
  ]),
  StalePrimary: facts(R, false, [
    'no replica to be ahead of the primary within one epoch',
    'the disk of this node went back in time: restore it from the replica that the message names',
    'stop this node and let the other one lead',
  ]),
  NotEnoughReplicas: facts(R, true, [
    'as many connected replicas as the ack level asks for, now or within its time',
    'bring the replicas back, or ask for fewer',
    'space.append(type, payload, { ack: { replicas: 1 } })',
  ]),
  SnapshotUnavailable: facts(R, false, [
    'a host that supplies snapshot() on the primary, and one that takes restore() on the replica',
    'give openNode both functions, or let a replica come back before its entries are freed',
    'openNode({ ..., snapshot: async (space) => ({ sequence, chunks }), restore })',
  ]),
  SnapshotFailed: facts(R, true, [
    'a snapshot that is complete, at a sequence that the log still continues',
    'look at the reason; it is tried again by itself',
    'return { sequence: space.status().durableSequence, chunks }',
  ]),
  AckTimeout: facts(R, true, [
    'the replicas to have flushed within timeoutMs',
    'the entry is durable here and may reach them later: wait with flushed()',
    'await space.flushed(sequence, { replicas: 1, timeoutMs: 10_000 })',
  ]),
} as const satisfies Record<string, CodeFacts>;

/** Every code an error of ours can carry. */
export type ErrorCode = keyof typeof CODES;

/** What all our errors share: a stable code and three lines that help. */
export class EngramError extends Error {
  /** Stable: meant for programs. */
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly expected: string;
  readonly remedy: string;
  readonly example: string;
  /** Figures that belong to the error, such as `{ lastDurableSequence: 17 }`. */
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: ErrorCode, found: string, options: ErrorDetails = {}) {
    const f = CODES[code];
    super(
      `${code}: ${oneLine(code, found)}${adviceOf(f)}`,
      options.cause === undefined ? undefined : { cause: options.cause },
    );
    this.name = f.family;
    this.code = code;
    this.retryable = f.retryable;
    this.expected = f.expected;
    this.remedy = f.remedy;
    this.example = f.example;
    this.details = options.details ?? {};
  }
}

function adviceOf({ expected, remedy, example }: CodeFacts): string {
  return `\n  expected: ${expected}\n  to do: ${remedy}\n  example: ${example}`;
}

/**
 * An error told within another: its advice would be taken for this one's, its code is said. What
 * else may be lines of somebody's is shown as one.
 */
function oneLine(code: ErrorCode, found: string): string {
  let told = `: ${found}`;
  if (told.includes('\n')) {
    for (const other of Object.values(CODES)) told = told.replaceAll(adviceOf(other), '');
  }
  return shown(told.split(`: ${code}: `).join(': ').slice(2));
}

/** What was found, without the advice that follows; of any error, or of what else was thrown. */
export function firstLine(error: unknown): string {
  return String((error as Error | undefined)?.message ?? error).split('\n', 1)[0]!;
}

/** A first line that says its code, once: those of ours begin with it. */
export function withCode(code: string, found: string): string {
  return found.startsWith(`${code}: `) ? found : `${code}: ${found}`;
}

export interface ErrorDetails {
  readonly cause?: unknown;
  readonly details?: Readonly<Record<string, unknown>>;
}

/** The log, the disk, the options. */
export class StorageError extends EngramError {}
/** A space: unknown, not to be had. */
export class MemorySpaceError extends EngramError {}
/** Other nodes: who leads, who answers, what they sent. */
export class ReplicationError extends EngramError {}

/**
 * Makes the error of the family that `code` belongs to.
 * @param found what was found, in one sentence without a full stop; an error of ours that is told
 *   in it is told without its advice
 */
export function failure(code: ErrorCode, found: string, options?: ErrorDetails): EngramError {
  switch (CODES[code].family) {
    case 'StorageError':
      return new StorageError(code, found, options);
    case 'MemorySpaceError':
      return new MemorySpaceError(code, found, options);
    case 'ReplicationError':
      return new ReplicationError(code, found, options);
  }
}

/** All codes, for tests and documentation. */
export const ERROR_CODES: readonly ErrorCode[] = Object.keys(CODES) as ErrorCode[];

/** A state that our own code must never reach. */
export function assert(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(`engram-wal bug: ${what}`);
}
