/**
 * The replica's side: listens, and lets each primary in once. What a primary says on its
 * connection is follow/connection.ts.
 */

import type { Address } from '../../shared/address.js';
import { type EngramError, type ErrorCode, failure, firstLine } from '../../shared/errors.js';
import {
  CONNECTIONS_MAX,
  DUPLICATE_PING_MS,
  HALF_FRAME_MS,
  HANDSHAKE_DEADLINE_MS,
  PEER_CALLS_MAX,
  PEER_CALLS_PER_NODE_MAX,
  PRE_TRUST_CONNECTIONS_MAX,
  PRE_TRUST_KEPT,
  PRE_TRUST_PER_ADDRESS_MAX,
  PRE_TRUST_PER_SUSPECT_MAX,
  WRONG_PROOF_MS,
} from '../../shared/limits.js';
import { Places } from '../../shared/link/places.js';
import type { RefusalReason } from '../../shared/link/refusal.js';
import type { Sequence } from '../../shared/position.js';
import type { ByteSocket } from '../../shared/wire/byte-socket.js';
import { FrameBuffers } from '../../shared/wire/frame.js';
import type { Hello } from '../../shared/wire/protocol.js';
import type { SpaceState } from '../log/space-table.js';
import type { RunEnds } from '../log/write/run-ends.js';
import type { Listener, Sockets } from '../runtime/machine.js';
import { ReceiverConnection, WITHDRAWN } from './connection.js';
import type { Directories, ReceiverHost } from './host.js';

const TICK_MS = 250;

/** What is counted of those that are refused; the others have done nothing odd. */
const REASONS: Partial<Record<ErrorCode, RefusalReason>> = {
  AuthFailed: 'auth',
  NotMember: 'not-member',
  EpochOutOfReach: 'epoch',
  WrongCluster: 'protocol',
  WrongNode: 'protocol',
  UnsupportedVersion: 'protocol',
  TlsMismatch: 'protocol',
  ProtocolViolation: 'protocol',
  ConnectionRefused: 'full',
};

export class ReceiverServer {
  readonly #host: ReceiverHost;
  readonly #listener: Listener;
  readonly #buffers: FrameBuffers;
  readonly #connections = new Set<ReceiverConnection>();
  /** Those that have not been let in yet. */
  readonly #places = new Places<ReceiverConnection>({
    most: PRE_TRUST_CONNECTIONS_MAX,
    perAddress: PRE_TRUST_PER_ADDRESS_MAX,
    perSuspect: PRE_TRUST_PER_SUSPECT_MAX,
    kept: PRE_TRUST_KEPT,
  });
  /** Who follows a space for us, by its slot: one connection. */
  readonly #followers: (ReceiverConnection | undefined)[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor(sockets: Sockets, host: ReceiverHost) {
    this.#host = host;
    this.#buffers = new FrameBuffers(Math.max(host.frameMemoryBytes, 2 * host.maxFrameBytes));
    this.#listener = sockets.listener(
      (socket) => this.#accept(socket),
      host.keepAliveMs,
      host.credentials,
    );
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

  /** Whoever comes gets a place; who has waited longest may have to go for it (row 47). */
  #accept(socket: ByteSocket): void {
    const { primaries, doors } = this.#host;
    const address = socket.remoteAddress ?? '';
    const counted = primaries.counted(socket, () => connection.primaryId);
    const connection: ReceiverConnection = new ReceiverConnection(this.#host, counted, {
      buffers: this.#buffers,
      address,
      spoken: (hello) => {
        if (doors.knows(hello.nodeId)) this.#places.spoken(connection);
      },
      admit: (hello) => this.#admit(connection, hello),
      refused: (c, error) => this.#refused(c, error),
      claim: (c, hello) => this.#claim(c, hello),
      called: (nodeId) => this.#called(connection, nodeId),
      follows: (space) => this.#follows(space, connection),
      closed: (c, reason) => this.#closed(c, reason),
    });
    this.#connections.add(connection);
    const origin = {
      address,
      isMembers: doors.isMembers(address),
      isSuspect: doors.isSuspect(address),
    };
    const goes = this.#places.take(connection, origin, performance.now());
    if (goes) this.#letGo(goes, 'evicted', 'its place was needed for another one');
  }

  #letGo(connection: ReceiverConnection, reason: RefusalReason, detail: string): void {
    this.#host.doors.refused(reason, connection.address, detail);
    connection.drop(detail);
  }

  /** Frames wait for room: whoever has held half of one for long gives it up. */
  #makeRoom(nowMs: number): void {
    for (const connection of [...this.#connections]) {
      const ms = Math.round(connection.halfForMs(nowMs));
      if (ms < HALF_FRAME_MS) continue;
      this.#letGo(connection, 'memory', `half a frame of it was held for ${ms} ms`);
    }
  }

  /** It has proved itself, where this is asked for. Throws NotMember, ConnectionRefused. */
  #admit({ address }: ReceiverConnection, { nodeId }: Hello): void {
    const { doors } = this.#host;
    doors.admit(nodeId, address);
    const letIn = this.#connections.size - this.#places.taken;
    if (letIn < CONNECTIONS_MAX) return;
    throw failure('ConnectionRefused', `${letIn} connections are open, and no more are taken`);
  }

  #refused({ address }: ReceiverConnection, error: EngramError): number {
    const { doors } = this.#host;
    const reason = REASONS[error.code];
    const waitsMs = reason === 'auth' && doors.isSuspect(address) ? WRONG_PROOF_MS : 0;
    if (reason) doors.refused(reason, address, firstLine(error));
    return waitsMs;
  }

  /**
   * The connection is this primary's from now on. The same process that dials again has lost its
   * old connection, whether we know it or not; another one of that name, be it on another directory
   * or on a copy of the same, is refused while the first one lives (row 26). Throws DuplicateNode.
   */
  async #claim(connection: ReceiverConnection, hello: Hello): Promise<void> {
    if (hello.nodeId === this.#host.nodeId) {
      this.#host.duplicate(hello.nodeId, [this.#host.directoryId, connection.directoryId]);
      throw failure('DuplicateNode', `the primary calls itself ${hello.nodeId}, as this node does`);
    }
    const linked = this.#host.livingDirectory(hello.nodeId);
    if (linked && connection.directoryId && linked !== connection.directoryId) {
      throw this.#twice(hello.nodeId, [linked, connection.directoryId]);
    }
    const others = [...this.#connections].filter((c) => c.primaryId === hello.nodeId);
    for (const other of others) {
      if (other.incarnation !== hello.incarnation && (await other.answers(DUPLICATE_PING_MS))) {
        throw this.#twice(hello.nodeId, [other.directoryId, connection.directoryId]);
      }
      other.drop('the primary has dialled again');
    }
    if (!this.#connections.has(connection)) return;
    this.#places.leave(connection);
    connection.primaryId = hello.nodeId;
    connection.incarnation = hello.incarnation;
    this.#host.connection(hello.nodeId, true, 'hello', connection);
  }

  #twice(nodeId: string, directories: Directories): Error {
    this.#host.duplicate(nodeId, directories);
    return failure('DuplicateNode', twice(nodeId, directories));
  }

  /** @returns why a node that we dial is refused: another directory of its name ships to us */
  async twinOf(nodeId: string, directoryId: string): Promise<string | undefined> {
    for (const other of [...this.#connections].filter((c) => c.primaryId === nodeId)) {
      const first = other.directoryId;
      if (!first || first === directoryId || !(await other.answers(DUPLICATE_PING_MS))) continue;
      return this.#twice(nodeId, [first, directoryId]).message.split('\n', 1)[0]!;
    }
    return undefined;
  }

  /** One connection follows a space for us; another primary's takes the place of the one before. */
  #follows(space: SpaceState, connection: ReceiverConnection): void {
    const before = this.#followers[space.slot];
    if (before !== connection) before?.fence(space);
    this.#followers[space.slot] = connection;
  }

  /** A higher epoch is known: nothing more is taken from, or acknowledged to, who led so far. */
  fence(space: SpaceState): void {
    const follower = this.#followers[space.slot];
    this.#followers[space.slot] = undefined;
    follower?.fence(space);
  }

  #called(connection: ReceiverConnection, nodeId: string): void {
    const callers = [...this.#connections].flatMap(({ callerId }) => callerId ?? []);
    const own = callers.filter((callerId) => callerId === nodeId).length;
    if (callers.length >= PEER_CALLS_MAX || own >= PEER_CALLS_PER_NODE_MAX) {
      const found = `${callers.length} calls of peers at once, ${own} of them of ${nodeId}`;
      throw failure('ConnectionRefused', found);
    }
    this.#places.leave(connection);
  }

  #closed(connection: ReceiverConnection, reason: string): void {
    if (!this.#connections.delete(connection)) return;
    this.#places.leave(connection);
    this.#followers.forEach((follower, slot) => {
      if (follower === connection) this.#followers[slot] = undefined;
    });
    const { primaryId } = connection;
    if (primaryId === undefined) return;
    // One that was replaced is no loss: its primary is connected.
    if ([...this.#connections].some((other) => other.primaryId === primaryId)) return;
    this.#host.connection(primaryId, false, reason, connection);
  }

  #tick(): void {
    const nowMs = performance.now();
    for (const connection of this.#places.overdue(nowMs, HANDSHAKE_DEADLINE_MS)) {
      this.#letGo(connection, 'late', 'it has not proved who it is within 5 s');
    }
    for (const connection of this.#connections) connection.tick(nowMs);
    if (this.#buffers.isWanted) this.#makeRoom(nowMs);
  }

  /** An fdatasync has covered these: one ack frame a connection. */
  flushed(ends: RunEnds): void {
    if (this.#connections.size === 0) return;
    for (let run = 0; run < ends.length; run++) {
      const slot = ends.slot(run);
      this.#followers[slot]?.flushed(slot, ends.last(run));
    }
    for (const connection of this.#connections) connection.sendAcks();
  }

  /** The host has applied the space up to `sequence`. */
  applied(space: SpaceState, sequence: Sequence): void {
    this.#followers[space.slot]?.applied(space, sequence);
  }

  /**
   * The log takes nothing more, for now or for good: primaries are told why (rows 11, 50). They
   * come back, and are told where this node stands.
   */
  refuseAll(error: Error): void {
    for (const connection of [...this.#connections]) connection.refuse(error);
  }

  /** Keys or certificates were read anew: who could not come in by them goes. */
  renewed(): void {
    for (const connection of [...this.#connections]) {
      if (!connection.isProved) connection.drop(WITHDRAWN);
    }
  }

  /** A space that was refused to its primary is whole: it dials again, and hears where we stand. */
  dialAgain({ slot, facts }: SpaceState): void {
    if (this.#followers[slot]) return;
    for (const connection of [...this.#connections]) {
      if (connection.primaryId === facts.primary) connection.drop('a space is whole again');
    }
  }

  async close(reason: string): Promise<void> {
    clearInterval(this.#timer);
    const closed = this.#listener.close();
    for (const connection of [...this.#connections]) connection.drop(reason);
    await closed;
  }
}

/** @param directories of the one that lives, and of the one that is refused */
function twice(nodeId: string, [first, second]: Directories): string {
  const [a, b] = [first ?? 'not told', second ?? 'not told'];
  const what = first === second ? `a copy of the same directory (${a})` : `directory ${b}`;
  return `another ${nodeId} (directory ${a}) is connected, and it lives; this one is ${what}`;
}
