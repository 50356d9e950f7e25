/**
 * One primary's connection, on the replica: checks what it sends, stages it, acknowledges what an
 * fdatasync has covered. shared/link/receiver.ts decides; this file owns the socket.
 */
import { randomBytes } from 'node:crypto';
import type { ByteRoom } from '../../shared/bytes.js';
import { EngramError, failure, firstLine } from '../../shared/errors.js';
import type { History } from '../../shared/lead/epoch.js';
import { CHANGES_A_TURN } from '../../shared/limits.js';
import { Receiver } from '../../shared/link/receiver.js';
import { GIVEN_UP } from '../../shared/memory/loss-cause.js';
import type { Epoch, Sequence, Slot } from '../../shared/position.js';
import { CHANCE_BYTES, ListenerAuth, nonceOf } from '../../shared/wire/auth.js';
import type { ByteSocket } from '../../shared/wire/byte-socket.js';
import { loadCodecs } from '../../shared/wire/compression.js';
import type { FrameBuffers } from '../../shared/wire/frame.js';
import { checkHello, directoryOf, featuresFor, isCall } from '../../shared/wire/greeting.js';
import {
  acksInFrames,
  decodeFrame,
  encodeFrame,
  type Handle,
  type HeartbeatRow,
  type Hello,
  inFrames,
  type PlainFrame,
  type PositionRow,
  type SpaceRow,
  type VerdictRow,
} from '../../shared/wire/protocol.js';
import { isSnapshotFrame, type SnapshotFrame } from '../../shared/wire/snapshot-frames.js';
import { checkCertificate, isStillProved } from '../../shared/wire/tls/certificates.js';
import type { SpaceState } from '../log/space-table.js';
import { PeerConnection } from '../peer/answers.js';
import { oneByOne } from '../runtime/in-order.js';
import { warn } from '../runtime/warn.js';
import type { SnapshotLink } from '../snapshot/intake.js';
import { BatchIntake } from './batch-intake.js';
import { FrameReader } from './frame-reader.js';
import type { ReceiverHost } from './host.js';
import { Pings } from './pings.js';
import { ToldHistory } from './told-history.js';

export const WITHDRAWN = 'what it has proved itself by counts no more';

/** What a peer that does not read may leave unread. */
const UNREAD_MAX_BYTES = 4 * 1024 * 1024;

export interface ConnectionHooks {
  /** For whole frames; shared by the connections of one server. */
  readonly buffers: FrameBuffers;
  readonly address: string;
  /** It has said what a node of this cluster says. */
  spoken(hello: Hello): void;
  /** Throws where a node that has proved itself is not let in. */
  admit(hello: Hello): void;
  /** It is refused, or dropped for what it did. @returns for how long it waits to hear it, ms */
  refused(connection: ReceiverConnection, error: EngramError): number;
  /** Rejects where the primary of this hello must not come in. */
  claim(connection: ReceiverConnection, hello: Hello): Promise<void>;
  /** Throws where no more peer calls are taken of this node. */
  called(nodeId: string): void;
  follows(space: SpaceState): void;
  closed(connection: ReceiverConnection, reason: string): void;
}

export class ReceiverConnection implements SnapshotLink {
  readonly #host: ReceiverHost;
  readonly #socket: ByteSocket;
  readonly #hooks: ConnectionHooks;
  readonly #receiver: Receiver;
  readonly #intake: BatchIntake;
  readonly #reader: FrameReader;
  /** Of the other side; '': not known. */
  readonly address: string;
  primaryId: string | undefined;
  /** It is no primary's: a peer asks. */
  #peer: PeerConnection | undefined;
  incarnation = 0n;
  /** At the other end; undefined before its hello, and where it speaks version 1. */
  directoryId: string | undefined;
  /** Of the protocol. */
  version = 1;
  #isGreeted = false;
  #auth: ListenerAuth | undefined;
  /** Goes on with the hello once the dialler has proved its key. */
  #proved: ((proof: Uint8Array) => void) | undefined;
  /** The id of each space that was introduced here. */
  readonly #introduced = new Map<Handle, string>();
  /** Positions that were told and have no verdict yet. */
  readonly #unjudged = new Map<Handle, number>();
  readonly #pings = new Pings();
  #stalledMs = 0;
  #reason = 'the primary closed the connection';
  #acking: NodeJS.Immediate | undefined;
  /** Frames of answers that are not written yet. */
  readonly #answers: Uint8Array[] = [];
  /** Epochs that the primary has told, of spaces on which its verdict is to follow. */
  readonly #told = new ToldHistory();

  constructor(host: ReceiverHost, socket: ByteSocket, hooks: ConnectionHooks) {
    this.#host = host;
    this.#socket = socket;
    this.#hooks = hooks;
    this.address = hooks.address;
    this.#receiver = new Receiver(performance.now(), host.readTimeoutMs);
    this.#reader = new FrameReader(socket, hooks.buffers, {
      heard: () => this.#receiver.heard(performance.now()),
      take: (kind, body) => this.#take(kind, body),
      refuse: (error) => this.refuse(error),
    });
    this.#intake = new BatchIntake(host, this.#receiver, {
      send: (frame) => this.#send(frame),
      duplicate: () => this.#scheduleAcks(),
      fence: (space) => this.fence(space),
      isEnded: () => this.#socket.destroyed,
    });
    socket.on('error', (error) => {
      if (error instanceof EngramError) this.refuse(error);
      else this.#reason = error.message;
    });
    socket.on('close', () => {
      this.#host.snapshots.closed(this);
      this.#hooks.closed(this, this.#reason);
    });
  }

  /** Whether the node at the other end says so within `ms`. */
  async answers(ms: number): Promise<boolean> {
    if (this.#socket.destroyed) return false;
    this.#send({ kind: 'ping' });
    return await this.#pings.answered(ms);
  }

  drop(reason: string): void {
    this.#reason = reason;
    this.#socket.destroy();
  }

  /** What it has proved itself by is in force here. */
  get isProved(): boolean {
    const proof = { proven: this.#socket.proven, key: this.#auth?.key };
    return isStillProved(proof, this.#host.credentials.now);
  }

  /** Whose call it is; undefined: it is none. */
  get callerId(): string | undefined {
    return this.#peer?.nodeId;
  }

  /** For how long half a frame of it has taken room that others could have, ms. */
  halfForMs(nowMs: number): number {
    return this.#reader.halfForMs(nowMs);
  }

  tick(nowMs: number): void {
    this.#reader.tick(nowMs);
    if (this.#peer) {
      const overdue = this.#peer.overdue(nowMs);
      if (overdue) this.drop(overdue);
      return;
    }
    if (this.primaryId === undefined) return;
    // While we do not read, the silence is ours.
    if (this.#reader.isBusy) this.#receiver.heard(nowMs);
    const due = this.#receiver.tick(nowMs);
    if (due?.kind === 'drop') this.drop(GIVEN_UP.silent);
    else if (due) {
      const parts = due.rows.length > 0 ? inFrames(due.rows) : [[]];
      for (const rows of parts) this.#send({ kind: 'heartbeat', stalledMs: 0, rows });
    }
  }

  #send(frame: PlainFrame, room?: ByteRoom): void {
    const bytes = encodeFrame(frame, this.version, room);
    this.#sendBytes(bytes, room && (() => room.leave(bytes)));
  }

  #sendBytes(bytes: Uint8Array, sent?: () => void): void {
    if (this.#socket.destroyed) return;
    if (this.#socket.writableLength > UNREAD_MAX_BYTES) this.drop('the primary does not read');
    else this.#socket.write(bytes, sent);
  }

  /** Answers of one turn go in one write: a primary that makes spaces asks about thousands. */
  #answer(frame: PlainFrame): void {
    if (this.#answers.length === 0) setImmediate(() => this.#sendAnswers());
    this.#answers.push(encodeFrame(frame, this.version));
    if (this.#answers.length >= CHANGES_A_TURN) this.#sendAnswers();
  }

  #sendAnswers(): void {
    if (this.#answers.length > 0) this.#sendBytes(Buffer.concat(this.#answers.splice(0)));
  }

  // --- frames ------------------------------------------------------------------------------

  /** Tells the primary why, and ends. */
  refuse(error: unknown): void {
    if (!(error instanceof EngramError)) {
      // Whatever a peer has brought about, the host goes on; the connection does not.
      warn(`a connection ended: ${String(error)}`);
      this.drop(`a fault of ours: ${String(error)}`);
      return;
    }
    const waitsMs = this.#hooks.refused(this, error);
    if (waitsMs === 0) this.#bye(error);
    else {
      // Who guesses keys guesses slowly; nothing more is read from now on.
      this.#reader.during(new Promise(() => setTimeout(() => this.#bye(error), waitsMs).unref()));
    }
  }

  #bye(error: EngramError): void {
    this.#reason = firstLine(error);
    const message = this.#reason.slice(0, 200);
    // Bytes that were changed on the way come again, and most likely right.
    // So may a disk that has failed once.
    const isPassing = error.retryable || ['ChecksumMismatch', 'Io'].includes(error.code);
    this.#send({ kind: 'bye', fatal: !isPassing, code: error.code, message });
    this.#socket.destroySoon();
  }

  #take(kind: number, body: Uint8Array): void {
    const frame = decodeFrame(kind, body);
    if (!this.#isGreeted && frame.kind !== 'bye') {
      if (frame.kind !== 'hello')
        throw failure('ProtocolViolation', `a ${frame.kind} before hello`);
      this.#isGreeted = true;
      this.#hello(frame.hello);
      return;
    }
    if (this.#proved) {
      if (frame.kind !== 'proof') throw failure('ProtocolViolation', `a ${frame.kind}, no proof`);
      this.#proved(frame.proof);
      return;
    }
    if (this.#peer && frame.kind !== 'bye') {
      this.#reader.during(this.#peer.take(frame));
      return;
    }
    switch (frame.kind) {
      case 'spaces':
        this.#reader.during(this.#register(frame.rows));
        return;
      case 'history':
        this.#told.add(frame.rows);
        return;
      case 'verdicts':
        this.#verdicts(frame.rows);
        return;
      case 'batches': {
        const waiting = this.#intake.take(frame.body);
        if (waiting) this.#reader.during(waiting);
        return;
      }
      case 'regressed':
        this.#host.regressed(this.primaryId!, this.#followed(frame.handle), frame.flushed);
        return;
      case 'heartbeat':
        this.#heardBeat(frame.stalledMs);
        return;
      case 'checkpoints':
        this.#checkpoints(frame.rows);
        return;
      case 'pong':
        this.#pings.pong();
        return;
      case 'ask': {
        const isTold = this.#host.mayReplicate(this.primaryId!, frame.id);
        const space = isTold ? this.#host.spaceById(frame.id) : undefined;
        const { epoch, primary } = space?.facts ?? { epoch: 0, primary: '' };
        this.#answer({ kind: 'answer', id: frame.id, known: space !== undefined, epoch, primary });
        return;
      }
      case 'bye':
        if (!this.#isGreeted) this.#hooks.refused(this, failure('AuthFailed', frame.message));
        this.drop(frame.message);
        return;
      default:
        if (!isSnapshotFrame(frame)) {
          throw failure('ProtocolViolation', `a frame ${frame.kind} from a primary`);
        }
        this.#snapshot(frame);
    }
  }

  #spaceOf(handle: Handle): SpaceState | undefined {
    return this.#host.spaceById(this.#introduced.get(handle) ?? '');
  }

  #followed(handle: Handle): SpaceState | undefined {
    const slot = this.#receiver.followedSlot(handle);
    return slot === undefined ? undefined : this.#host.spaceAt(slot);
  }

  #snapshot(frame: SnapshotFrame): void {
    const space = this.#spaceOf(frame.handle);
    if (space && frame.kind === 'snapshot-begin') this.#host.heard(space, frame.epoch);
    this.#host.snapshots.take(this, space, frame);
  }

  #judgedBySnapshot(row: VerdictRow): void {
    const space = this.#spaceOf(row.handle);
    if (!space || space.facts.primary !== this.primaryId || space.refusal) return;
    if (row.verdict !== 'snapshot' && row.verdict !== 'continue') return;
    const isMoved = !space.isInstalling && row.next !== space.facts.position.sequence + 1;
    if (row.verdict === 'snapshot' && isMoved) {
      // One was put in place while the verdict came: positions are compared anew.
      this.drop('a verdict on where the space stood before a snapshot');
      return;
    }
    this.#host.snapshots.judged(this, row.handle, space, row.verdict === 'snapshot');
  }

  sendSnapshot(frame: SnapshotFrame): void {
    this.#send(frame);
  }

  #hello(hello: Hello): void {
    const { clusterId, nodeId, directoryId, credentials } = this.#host;
    const { keys, tls } = credentials.now;
    const { proven } = this.#socket;
    if (tls) checkCertificate(proven, { tls, clusterId, nodeId: hello.nodeId });
    const loading = loadCodecs(hello.features);
    if (loading) this.#reader.during(loading.then(() => this.#hello(hello)));
    if (loading || this.#socket.destroyed) return;
    this.version = checkHello(hello, this.#host);
    this.directoryId = directoryOf(hello.maxVersion, hello.auth);
    this.#hooks.spoken(hello);
    const nonce = nonceOf(directoryId, randomBytes(CHANCE_BYTES));
    const auth = new ListenerAuth(keys, nonce, proven?.channel);
    this.#auth = auth;
    const parties = { clusterId, dialler: hello.nodeId, listener: nodeId };
    const ours = auth.hello(hello.auth, parties, { ...hello, version: this.version });
    if (!auth.asks) {
      this.#welcome(hello, () => this.#sendWelcome(hello, ours));
      return;
    }
    // Before the proof nobody's place is taken, and no question is answered.
    this.#sendWelcome(hello, ours);
    this.#proved = (given) => {
      this.#proved = undefined;
      auth.proved(given);
      this.#welcome(hello);
    };
  }

  /** Lets the dialler in. @param tell where it has not been welcomed yet */
  #welcome(hello: Hello, tell?: () => void): void {
    // While it proved itself, files may have been read anew.
    if (!this.isProved) throw failure('AuthFailed', WITHDRAWN);
    this.#hooks.admit(hello);
    const isPeerCall = isCall(hello);
    const { refusal } = this.#host.wal;
    if (refusal && !isPeerCall) throw refusal;
    if (isPeerCall) this.#called(hello);
    const welcome = async (): Promise<void> => {
      if (!isPeerCall) await this.#hooks.claim(this, hello);
      if (this.#socket.destroyed) return;
      this.#host.met(hello.nodeId, hello.incarnation);
      this.#reader.setCap(this.#host.maxFrameBytes);
      this.#intake.features = featuresFor(hello);
      tell?.();
    };
    this.#reader.during(welcome());
  }

  #sendWelcome(hello: Hello, auth: Uint8Array | undefined): void {
    const { clusterId, nodeId, incarnation, maxEntryBytes, maxFrameBytes } = this.#host;
    const features = featuresFor(hello);
    const own = { clusterId, nodeId, incarnation, features, maxFrameBytes, maxEntryBytes };
    this.#send({ kind: 'welcome', welcome: { version: this.version, ...own, auth } });
  }

  /** From now on the connection is a peer's that asks: no primary's place is taken (row 26). */
  #called(hello: Hello): void {
    this.#hooks.called(hello.nodeId);
    const send = (frame: PlainFrame): Promise<void> =>
      new Promise((taken) => {
        if (this.#socket.destroyed) taken();
        else this.#socket.write(encodeFrame(frame, this.version), taken);
      });
    const isEnded = (): boolean => this.#socket.destroyed;
    this.#peer = new PeerConnection(this.#host, hello, send, isEnded);
  }

  /** The shipper lives by itself; whether its node does, it says (row 75). */
  #heardBeat(stalledMs: number): void {
    const isNews = stalledMs > 0 !== this.#stalledMs > 0;
    this.#stalledMs = stalledMs;
    if (isNews) this.#host.stalled(this.primaryId!, stalledMs);
  }

  #checkpoints(rows: readonly HeartbeatRow[]): void {
    if (this.version < 2) throw failure('ProtocolViolation', 'checkpoints in version 1');
    for (const { handle, sequence } of rows) {
      const space = this.#followed(handle);
      if (space) this.#host.checkpointed(space, sequence);
    }
  }

  async #register(rows: readonly SpaceRow[]): Promise<void> {
    const { primaryId: nodeId, directoryId } = this;
    const positions = await this.#host.register({ nodeId: nodeId!, directoryId }, rows);
    if (this.#socket.destroyed) return;
    const epochs = new Map<number, { id: string; epoch: Epoch }>();
    for (const row of rows) {
      epochs.set(row.handle, row);
      this.#introduced.set(row.handle, row.id);
    }
    for (const position of positions) {
      const { id, epoch } = epochs.get(position.handle)!;
      const space = this.#host.spaceById(id);
      // It was refused, and is not here.
      if (!space) continue;
      const isLedElsewhere = position.answer === 'leads' || position.answer === 'forked';
      if (position.epochSeen > epoch || isLedElsewhere) this.#tellFenced(space, position.handle);
      else if (position.answer === 'follows') {
        this.#receiver.follow(space.slot, position, epoch);
        this.#hooks.follows(space);
      }
    }
    for (const rows of inFrames(positions)) this.#tell(rows);
  }

  #tell(rows: readonly PositionRow[]): void {
    for (const { handle } of rows)
      this.#unjudged.set(handle, (this.#unjudged.get(handle) ?? 0) + 1);
    this.#send({ kind: 'positions', rows });
  }

  // --- who leads ---------------------------------------------------------------------------

  /** Nothing more of the space is taken from this primary; it is told why. */
  fence(space: SpaceState): void {
    const handle = this.#receiver.fence(space.slot, space.facts.epochSeen);
    if (handle !== undefined) this.#tellFenced(space, handle);
  }

  #tellFenced(space: SpaceState, handle: number): void {
    const leader = this.#host.leaderOf(space);
    this.#send({ kind: 'fenced', handle, epoch: space.facts.epochSeen, leader });
  }

  #verdicts(rows: readonly VerdictRow[]): void {
    const back: (() => Promise<void>)[] = [];
    for (const row of rows) {
      const { handle, verdict, next } = row;
      const unjudged = this.#unjudged.get(handle);
      if (unjudged) this.#unjudged.set(handle, unjudged - 1);
      const history = this.#told.take(handle);
      const followed = this.#receiver.verdict(row);
      this.#judgedBySnapshot(row);
      if (!followed) continue;
      const space = this.#host.spaceAt(followed.slot);
      // The host may have gone on since the position was told, before anybody listened.
      this.applied(space, this.#host.appliedTo(space));
      if (history.length > 0) this.#host.told(space, history);
      if (verdict !== 'rewind') continue;
      const primary = { rows: history, last: next - 1 };
      back.push(() => this.#rejoin(space, handle, followed.epoch, primary));
    }
    if (back.length > 0) this.#reader.during(oneByOne(back));
  }

  async #rejoin(space: SpaceState, handle: number, epoch: Epoch, primary: History): Promise<void> {
    const unjudged = this.#unjudged.get(handle) ?? 0;
    const row = { ...(await this.#host.rejoin(space, epoch, primary, unjudged)), handle };
    if (this.#socket.destroyed) return;
    if (row.answer === 'follows') this.#receiver.follow(space.slot, row, epoch);
    this.#tell([row]);
  }

  // --- acknowledgements --------------------------------------------------------------------

  flushed(slot: Slot, sequence: Sequence): void {
    this.#receiver.flushed(slot, sequence);
  }

  applied({ slot }: SpaceState, sequence: Sequence): void {
    this.#receiver.applied(slot, sequence);
    this.#scheduleAcks();
  }

  /** Once per turn of the event loop, however many spaces have been applied in it. */
  #scheduleAcks(): void {
    if (this.#acking) return;
    this.#acking = setImmediate(() => {
      this.#acking = undefined;
      this.sendAcks();
    });
  }

  sendAcks(): void {
    const acks = this.#receiver.takeAcks(performance.now());
    const [timestampMs, room] = [Date.now(), this.#receiver.ackRoom];
    for (const rows of acksInFrames(acks)) this.#send({ kind: 'acks', timestampMs, rows }, room);
  }
}
