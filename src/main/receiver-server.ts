/**
 * The replica's side: listens, checks what primaries send, stages it, acknowledges what an
 * fdatasync has covered. shared/receiver.ts decides; this file owns the sockets.
 */

import { checkBatchEntries, decodeBatch } from '../shared/batch.js';
import type { ByteSocket } from '../shared/byte-socket.js';
import { readPayloadSize } from '../shared/entry.js';
import { EngramError, failure } from '../shared/errors.js';
import {
  BATCH_HEADER_BYTES,
  DUPLICATE_PING_MS,
  ENTRY_HEADER_BYTES,
  HANDSHAKE_DEADLINE_MS,
  HELLO_FRAME_MAX_BYTES,
  PRE_HELLO_CONNECTIONS_MAX,
  PROTOCOL_VERSION,
} from '../shared/limits.js';
import type { Epoch, Sequence, Slot } from '../shared/position.js';
import {
  decodeFrame,
  encodeFrame,
  type Frame,
  FrameAssembler,
  type Hello,
  inFrames,
  type PositionRow,
  type SpaceRow,
} from '../shared/protocol.js';
import { Receiver } from '../shared/receiver.js';
import type { Address } from './config.js';
import type { Listener, Platform } from './platform.js';
import type { SpaceState } from './space-table.js';
import type { Wal } from './wal.js';

const TICK_MS = 250;
/** Between attempts while the budget is used up and the queue for it full. */
const RETRY_ROOM_MS = 10;
/** What a peer that does not read may leave unread. */
const UNREAD_MAX_BYTES = 4 * 1024 * 1024;
/** Before each batch of a frame. */
const LENGTH_BYTES = 4;

/** What the server needs of its node. */
export interface ReceiverHost {
  readonly clusterId: string;
  readonly nodeId: string;
  readonly incarnation: bigint;
  readonly maxEntryBytes: number;
  readonly maxFrameBytes: number;
  readonly wal: Wal;
  spaceById(id: string): SpaceState | undefined;
  /** Makes the introduced spaces known here, durably, and says where they stand. */
  register(primaryId: string, rows: readonly SpaceRow[]): Promise<PositionRow[]>;
  connection(primaryId: string, connected: boolean, reason: string): void;
  /** The primary's main thread has not moved for so long; 0: it moves again. */
  stalled(primaryId: string, stalledMs: number): void;
  /** A second living process calls itself so. */
  duplicate(nodeId: string): void;
}

export class ReceiverServer {
  readonly #host: ReceiverHost;
  readonly #listener: Listener;
  readonly #connections = new Set<Connection>();
  /** Who follows a space for us: one connection, by its handle there. */
  readonly #followers = new Map<Slot, { connection: Connection; handle: number }>();
  readonly #timer: NodeJS.Timeout;

  constructor(platform: Platform, host: ReceiverHost) {
    this.#host = host;
    this.#listener = platform.listener((socket) => this.#accept(socket));
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#timer.unref();
  }

  /** @returns the address that was bound. Throws Configuration when it cannot be. */
  listen(address: Address): Promise<Address> {
    return this.#listener.listen(address).catch((cause) => {
      const where = `${address.host}:${address.port}`;
      throw failure('Configuration', `cannot listen on ${where}: ${cause.message}`, { cause });
    });
  }

  #accept(socket: ByteSocket): void {
    const waiting = [...this.#connections].filter((c) => c.primaryId === undefined).length;
    if (waiting >= PRE_HELLO_CONNECTIONS_MAX) {
      socket.destroy();
      return;
    }
    const connection = new Connection(this.#host, socket, {
      claim: (c, hello) => this.#claim(c, hello),
      follows: (slot, handle) => this.#followers.set(slot, { connection, handle }),
      closed: (c, reason) => this.#closed(c, reason),
    });
    this.#connections.add(connection);
  }

  /**
   * The connection is this primary's from now on. The same process that dials again has lost its
   * old connection, whether we know it or not; another one of that name is refused only while
   * the first one lives (row 26). Throws DuplicateNode.
   */
  async #claim(connection: Connection, hello: Hello): Promise<void> {
    if (hello.nodeId === this.#host.nodeId) {
      this.#host.duplicate(hello.nodeId);
      throw failure('DuplicateNode', `the primary calls itself ${hello.nodeId}, as this node does`);
    }
    const others = [...this.#connections].filter((c) => c.primaryId === hello.nodeId);
    for (const other of others) {
      if (other.incarnation !== hello.incarnation && (await other.answers(DUPLICATE_PING_MS))) {
        this.#host.duplicate(hello.nodeId);
        throw failure('DuplicateNode', `another ${hello.nodeId} is connected, and it lives`);
      }
      other.drop('the primary has dialled again');
    }
    if (!this.#connections.has(connection)) return;
    connection.primaryId = hello.nodeId;
    connection.incarnation = hello.incarnation;
    this.#host.connection(hello.nodeId, true, 'hello');
  }

  #closed(connection: Connection, reason: string): void {
    if (!this.#connections.delete(connection)) return;
    for (const [slot, follower] of this.#followers) {
      if (follower.connection === connection) this.#followers.delete(slot);
    }
    if (connection.primaryId !== undefined) {
      this.#host.connection(connection.primaryId, false, reason);
    }
  }

  #tick(): void {
    for (const connection of this.#connections) connection.tick(performance.now());
  }

  /** An fdatasync has covered these spaces up to their positions: one ack frame a connection. */
  flushed(spaces: readonly SpaceState[]): void {
    if (this.#followers.size === 0) return;
    for (const space of spaces) {
      const follower = this.#followers.get(space.slot);
      follower?.connection.flushed(follower.handle, space.facts.position.sequence);
    }
    for (const connection of this.#connections) connection.sendAcks();
  }

  /** The host has applied the space up to `sequence`. */
  applied(space: SpaceState, sequence: Sequence): void {
    const follower = this.#followers.get(space.slot);
    follower?.connection.applied(follower.handle, sequence);
  }

  /**
   * The log takes nothing more, for now or for good: primaries are told why (rows 11, 50). They
   * come back, and are told where this node stands.
   */
  refuseAll(error: Error): void {
    for (const connection of [...this.#connections]) connection.refuse(error);
  }

  async close(reason: string): Promise<void> {
    clearInterval(this.#timer);
    const closed = this.#listener.close();
    for (const connection of [...this.#connections]) connection.drop(reason);
    await closed;
  }
}

/** Where the batch whose length stands at `at` ends. Throws TruncatedBatch. */
function batchEnd(body: Uint8Array, view: DataView, at: number): number {
  const left = body.length - at - LENGTH_BYTES;
  const length = left >= 0 ? view.getUint32(at, true) : 0;
  if (left < 0 || length > left) {
    throw failure('TruncatedBatch', `${left} bytes of a frame left, announced ${length}`);
  }
  return at + LENGTH_BYTES + length;
}

function entryBytes(view: DataView, at: number): number {
  return ENTRY_HEADER_BYTES + readPayloadSize(view, at);
}

interface ConnectionHooks {
  /** Rejects where the primary of this hello must not come in. */
  claim(connection: Connection, hello: Hello): Promise<void>;
  follows(slot: Slot, handle: number): void;
  closed(connection: Connection, reason: string): void;
}

class Connection {
  readonly #host: ReceiverHost;
  readonly #socket: ByteSocket;
  readonly #hooks: ConnectionHooks;
  readonly #receiver: Receiver;
  readonly #assembler = new FrameAssembler(HELLO_FRAME_MAX_BYTES);
  readonly #acceptedMs = performance.now();
  primaryId: string | undefined;
  incarnation = 0n;
  #isGreeted = false;
  #pongs: (() => void)[] = [];
  #stalledMs = 0;
  #reason = 'the primary closed the connection';
  /** Frames wait for a registration or for room; the socket is paused meanwhile. */
  #busy = false;
  #rest: Uint8Array = new Uint8Array(0);
  #ackScheduled = false;

  constructor(host: ReceiverHost, socket: ByteSocket, hooks: ConnectionHooks) {
    this.#host = host;
    this.#socket = socket;
    this.#hooks = hooks;
    this.#receiver = new Receiver(this.#acceptedMs);
    socket.on('data', (chunk) => this.#data(chunk));
    socket.on('error', (error) => {
      this.#reason = error.message;
    });
    socket.on('close', () => this.#hooks.closed(this, this.#reason));
  }

  /** Whether the node at the other end says so within `ms`. */
  async answers(ms: number): Promise<boolean> {
    if (this.#socket.destroyed) return false;
    this.#send({ kind: 'ping' });
    return await new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), ms);
      this.#pongs.push(() => {
        clearTimeout(timer);
        resolve(true);
      });
    });
  }

  drop(reason: string): void {
    this.#reason = reason;
    this.#socket.destroy();
  }

  tick(nowMs: number): void {
    if (this.primaryId === undefined) {
      if (nowMs - this.#acceptedMs >= HANDSHAKE_DEADLINE_MS) this.drop('no hello within 5 s');
      return;
    }
    // While we do not read, the silence is ours.
    if (this.#busy) this.#receiver.heard(nowMs);
    const due = this.#receiver.tick(nowMs);
    if (due?.kind === 'drop') this.drop('nothing received for 10 s');
    else if (due?.rows.length === 0) this.#send({ kind: 'heartbeat', stalledMs: 0, rows: [] });
    else {
      for (const rows of inFrames(due?.rows ?? [])) {
        this.#send({ kind: 'heartbeat', stalledMs: 0, rows });
      }
    }
  }

  #send(frame: Exclude<Frame, { kind: 'batches' }>): void {
    if (this.#socket.destroyed) return;
    if (this.#socket.writableLength > UNREAD_MAX_BYTES) this.drop('the primary does not read');
    else this.#socket.write(encodeFrame(frame));
  }

  // --- frames ------------------------------------------------------------------------------

  #data(chunk: Uint8Array): void {
    this.#receiver.heard(performance.now());
    try {
      this.#rest = this.#assembler.feed(chunk, (kind, body) => {
        this.#take(kind, body);
        return !this.#busy && !this.#socket.destroyed;
      });
    } catch (error) {
      this.refuse(error);
    }
  }

  /** Goes on with what had arrived when reading was stopped. */
  #resume(): void {
    this.#busy = false;
    if (this.#socket.destroyed) return;
    const rest = this.#rest;
    this.#rest = new Uint8Array(0);
    if (rest.length > 0) this.#data(rest);
    if (!this.#busy) this.#socket.resume();
  }

  /** Stops reading until the work is done. */
  #during(work: Promise<void>): void {
    this.#busy = true;
    this.#socket.pause();
    work.then(
      () => this.#resume(),
      (error) => this.refuse(error),
    );
  }

  /** Tells the primary why, and ends. */
  refuse(error: unknown): void {
    if (!(error instanceof EngramError)) {
      // Whatever a peer has brought about, the host goes on; the connection does not.
      process.emitWarning(`a connection ended: ${String(error)}`, 'EngramWalWarning');
      this.drop(`a fault of ours: ${String(error)}`);
      return;
    }
    this.#reason = error.message;
    const message = error.message.split('\n', 1)[0]!.slice(0, 200);
    // Bytes that were changed on the way come again, and most likely right.
    const fatal = !error.retryable && error.code !== 'ChecksumMismatch';
    this.#send({ kind: 'bye', fatal, code: error.code, message });
    this.#socket.destroySoon();
  }

  #take(kind: number, body: Uint8Array): void {
    const frame = decodeFrame(kind, body);
    if (!this.#isGreeted) {
      if (frame.kind !== 'hello')
        throw failure('ProtocolViolation', `a ${frame.kind} before hello`);
      this.#isGreeted = true;
      this.#hello(frame.hello);
      return;
    }
    switch (frame.kind) {
      case 'spaces':
        this.#during(this.#register(frame.rows));
        return;
      case 'verdicts':
        for (const row of frame.rows) this.#receiver.verdict(row);
        return;
      case 'batches':
        this.#batches(frame.body);
        return;
      case 'heartbeat':
        this.#heardBeat(frame.stalledMs);
        return;
      case 'pong':
        for (const answered of this.#pongs.splice(0)) answered();
        return;
      case 'ask': {
        const space = this.#host.spaceById(frame.id);
        const { epoch, primary } = space?.facts ?? { epoch: 0, primary: '' };
        this.#send({ kind: 'answer', id: frame.id, known: space !== undefined, epoch, primary });
        return;
      }
      case 'bye':
        this.drop(frame.message);
        return;
      default:
        throw failure('ProtocolViolation', `a frame ${frame.kind} from a primary`);
    }
  }

  #hello(hello: Hello): void {
    const { clusterId, nodeId, incarnation, maxEntryBytes, maxFrameBytes } = this.#host;
    if (hello.minVersion > PROTOCOL_VERSION || hello.maxVersion < PROTOCOL_VERSION) {
      const theirs = `${hello.minVersion}..${hello.maxVersion}`;
      throw failure('UnsupportedVersion', `the primary speaks ${theirs}, we ${PROTOCOL_VERSION}`);
    }
    if (hello.clusterId !== clusterId) {
      throw failure(
        'WrongCluster',
        `the primary is of cluster ${hello.clusterId}, we ${clusterId}`,
      );
    }
    if (hello.peerId !== nodeId) {
      throw failure('WrongNode', `the primary looks for ${hello.peerId}, this is ${nodeId}`);
    }
    const { refusal } = this.#host.wal;
    if (refusal) throw refusal;
    const welcome = async (): Promise<void> => {
      await this.#hooks.claim(this, hello);
      if (this.#socket.destroyed) return;
      this.#assembler.setCap(maxFrameBytes);
      const own = { clusterId, nodeId, incarnation, features: 0, maxFrameBytes, maxEntryBytes };
      this.#send({ kind: 'welcome', welcome: { version: PROTOCOL_VERSION, ...own } });
    };
    this.#during(welcome());
  }

  /** The shipper lives by itself; whether its node does, it says (row 75). */
  #heardBeat(stalledMs: number): void {
    const isNews = stalledMs > 0 !== this.#stalledMs > 0;
    this.#stalledMs = stalledMs;
    if (isNews) this.#host.stalled(this.primaryId!, stalledMs);
  }

  async #register(rows: readonly SpaceRow[]): Promise<void> {
    const positions = await this.#host.register(this.primaryId!, rows);
    if (this.#socket.destroyed) return;
    const epochs = new Map<number, { id: string; epoch: Epoch }>();
    for (const row of rows) epochs.set(row.handle, row);
    for (const position of positions) {
      const { id, epoch } = epochs.get(position.handle)!;
      if (position.answer !== 'follows') continue;
      this.#receiver.follow(id, position, epoch);
      this.#hooks.follows(this.#host.spaceById(id)!.slot, position.handle);
    }
    for (const rows of inFrames(positions)) this.#send({ kind: 'positions', rows });
  }

  // --- batches -----------------------------------------------------------------------------

  /** Takes the batches of a frame; stops reading when there is no room. */
  #batches(body: Uint8Array): void {
    const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
    for (let at = 0; at < body.length; at = batchEnd(body, view, at)) {
      const end = batchEnd(body, view, at);
      if (!this.#host.wal.isCrowded && this.#batch(body, view, at + LENGTH_BYTES, end)) continue;
      this.#during(this.#whenRoom(body, view, at));
      return;
    }
  }

  /** The rest of a frame, from the batch at `from` on, each as soon as it finds room. */
  async #whenRoom(body: Uint8Array, view: DataView, from: number): Promise<void> {
    let at = from;
    while (at < body.length && !this.#socket.destroyed) {
      const start = at + LENGTH_BYTES;
      const end = batchEnd(body, view, at);
      try {
        await this.#host.wal.whenRoom(() => this.#batch(body, view, start, end));
        at = end;
      } catch (error) {
        // A slow disk is no fault of the peer: it is tried again, and the window bounds it.
        if ((error as EngramError).code !== 'Backpressure') throw error;
        await new Promise((resolve) => setTimeout(resolve, RETRY_ROOM_MS));
      }
    }
  }

  /** @returns false when there is no room to stage it */
  #batch(body: Uint8Array, view: DataView, at: number, end: number): boolean {
    if (this.#socket.destroyed) return true;
    const { wal, maxEntryBytes } = this.#host;
    const batch = decodeBatch(body, view, at, end);
    const decision = this.#receiver.judge(batch);
    if (decision.kind === 'duplicate') {
      this.#scheduleAcks();
      return true;
    }
    if (decision.kind === 'gap') {
      const { handle, epoch, expected } = decision;
      this.#send({ kind: 'nack', handle, epoch, expected });
      return true;
    }
    checkBatchEntries(body, view, at, batch, maxEntryBytes);
    const space = this.#host.spaceById(batch.spaceId)!;
    if (batch.epoch < space.facts.epochSeen) {
      throw failure('Fenced', `epoch ${batch.epoch}, seen is ${space.facts.epochSeen}`);
    }
    let start = at + BATCH_HEADER_BYTES;
    for (let n = 0; n < decision.skip; n++) start += entryBytes(view, start);
    let sequence = batch.startSequence + decision.skip;
    while (start < end) {
      // A group takes at most groupBytes; when it is full the rest is judged again as overlap.
      let to = start;
      let count = 0;
      while (to < end && to + entryBytes(view, to) - start <= wal.groupBytes) {
        to += entryBytes(view, to);
        count++;
      }
      if (!wal.stageReceived(space, body.subarray(start, to), sequence, count)) return false;
      sequence += count;
      start = to;
      this.#receiver.received(batch.spaceId, sequence - 1);
    }
    return true;
  }

  // --- acknowledgements --------------------------------------------------------------------

  flushed(handle: number, sequence: Sequence): void {
    this.#receiver.flushed(handle, sequence);
  }

  applied(handle: number, sequence: Sequence): void {
    this.#receiver.applied(handle, sequence);
    this.#scheduleAcks();
  }

  /** Once per turn of the event loop, however many spaces have been applied in it. */
  #scheduleAcks(): void {
    if (this.#ackScheduled) return;
    this.#ackScheduled = true;
    setImmediate(() => {
      this.#ackScheduled = false;
      this.sendAcks();
    });
  }

  sendAcks(): void {
    const rows = this.#receiver.takeAcks(performance.now());
    const timestampMs = Date.now();
    for (const part of inFrames(rows)) this.#send({ kind: 'acks', timestampMs, rows: part });
  }
}
