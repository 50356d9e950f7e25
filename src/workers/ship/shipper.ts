/**
 * One replica, one socket: sends what is durable and takes acknowledgements. Here are the send
 * buffers and the talk with main; shared/link/sender.ts decides about the link, shipper-thread.ts
 * gives it a thread.
 */

import { idWords } from '../../shared/bytes.js';
import { EngramError, failure, firstLine, withCode } from '../../shared/errors.js';
import {
  CLOSE_DEADLINE_MS,
  ENTRY_HEADER_BYTES,
  frameBytesOf,
  HELLO_FRAME_MAX_BYTES,
} from '../../shared/limits.js';
import { packAnswered } from '../../shared/link/answered-rows.js';
import type {
  AskedSpace,
  FromShipper,
  ShipperStart,
  ToShipper,
  Traffic,
} from '../../shared/link/control.js';
import type { SenderEffect, SenderInput } from '../../shared/link/sender.js';
import { type ShippedSpace, unpackShipped } from '../../shared/link/shipped-rows.js';
import { unpackVerdicts, type VerdictAnswer } from '../../shared/link/verdict-rows.js';
import { GIVEN_UP } from '../../shared/memory/loss-cause.js';
import { ReplicaProgress } from '../../shared/memory/progress.js';
import { NodeMemory } from '../../shared/memory/slab.js';
import type { Epoch, Slot } from '../../shared/position.js';
import { FEATURE_MIXED } from '../../shared/wire/batch.js';
import type { ByteSocket } from '../../shared/wire/byte-socket.js';
import { agreedCodec } from '../../shared/wire/compression.js';
import { FrameAssembler } from '../../shared/wire/frame.js';
import {
  decodeFrame,
  encodeFrame,
  type Frame,
  inFrames,
  type PlainFrame,
  type PositionRow,
  spacesInFrames,
  type Welcome,
} from '../../shared/wire/protocol.js';
import { isSnapshotFrame } from '../../shared/wire/snapshot-frames.js';
import { BatchSource } from './batch-source.js';
import { CatchUp } from './catch-up.js';
import { CountedSender } from './counted-sender.js';
import { Handshake } from './handshake.js';
import { byHistories, Introductions, verdictRow } from './introductions.js';
import { Outbox } from './outbox.js';
import { Questions } from './questions.js';
import { SegmentReader } from './segment-reader.js';
import { Vitals } from './vitals.js';
import type { ShipperWorld } from './world.js';

const TICK_MS = 50;
/** For a peer to read why. */
const BYE_MS = 1_000;
/** More than one thread ever makes. */
const CONNECTIONS_MAX = 2 ** 32;

export class Shipper {
  readonly #start: ShipperStart;
  readonly #world: ShipperWorld;
  readonly #memory: NodeMemory;
  readonly #progress: ReplicaProgress;
  readonly #sender: CountedSender;
  readonly #reader: SegmentReader;
  readonly #source: BatchSource;
  readonly #catchUp: CatchUp;
  readonly #outbox: Outbox;
  readonly #frameBytes: number;
  readonly #handshake: Handshake;
  readonly #vitals: Vitals;
  readonly #introductions: Introductions;
  /** Grows with each dial: what belongs to an older one, of a life before, too, is told apart. */
  #connection: number;
  #socket: ByteSocket | undefined;
  readonly #assembler = new FrameAssembler(HELLO_FRAME_MAX_BYTES);
  readonly #questions = new Questions(
    (message) => this.#tell(message),
    (frames) => this.#sendAll(frames),
  );
  #toldTraffic: Traffic | undefined;
  #closing = false;
  #becameEager: (() => void) | undefined;

  constructor(start: ShipperStart, world: ShipperWorld) {
    this.#start = start;
    this.#connection = start.life * CONNECTIONS_MAX;
    this.#world = world;
    this.#memory = new NodeMemory(start.memory);
    this.#progress = new ReplicaProgress(start.progress);
    this.#introductions = new Introductions(this.#progress);
    this.#vitals = new Vitals(this.#memory, this.#progress, performance.now());
    this.#sender = new CountedSender(start, world.aheadMs);
    const entryBytes = start.maxEntryBytes + ENTRY_HEADER_BYTES;
    this.#reader = new SegmentReader(world, start.dataDir, start.salt, entryBytes);
    this.#source = new BatchSource(this.#memory, this.#reader, start.maxEntryBytes);
    this.#catchUp = new CatchUp(this.#memory, this.#reader, this.#source, {
      ask: (lsn) => this.#tell({ kind: 'segment', lsn }),
      seek: (lsn, wanted) => this.#tell({ kind: 'seek', lsn, wanted }),
      lost: (reason, code) => this.#lost(reason, code, code !== undefined),
      loaded: () => this.#outbox.pump(),
    });
    const parts = [this.#memory, this.#sender, this.#source] as const;
    this.#outbox = new Outbox(...parts, this.#catchUp, start, {
      step: (input) => this.#step(input),
      lost: (reason, code) => this.#lost(reason, code, true),
      caughtUp: () => {
        if (this.#reader.leave()) this.#tell({ kind: 'segment-left' });
      },
      eager: () => this.#becameEager?.(),
    });
    this.#frameBytes = frameBytesOf(start.maxEntryBytes, start.catchUpBatchBytes);
    this.#handshake = new Handshake(start, this.#frameBytes);
  }

  run(): void {
    this.#step({ kind: 'start' });
    setInterval(() => this.#tick(), TICK_MS);
    void this.#watchDurable();
  }

  /** Wakes with each durable group, while one could go; the tick is read first: none is missed. */
  async #watchDurable(): Promise<void> {
    for (;;) {
      const seen = this.#memory.durableTick;
      this.#outbox.pump();
      if (this.#outbox.isEager) await this.#memory.waitDurable(seen);
      else {
        await new Promise<void>((resolve) => {
          this.#becameEager = resolve;
        });
        // Node is told of each that is resolved again, which costs more than a promise.
        this.#becameEager = undefined;
      }
    }
  }

  // --- the machine -------------------------------------------------------------------------

  #step(input: SenderInput): void {
    for (const effect of this.#sender.step(input, performance.now(), Math.random())) {
      this.#carry(effect);
    }
  }

  #tick(): void {
    const now = performance.now();
    if (this.#vitals.tick(now, this.#outbox.cursor)) this.#tellNews();
    for (const e of this.#sender.tick(now, this.#outbox.isWriting, Math.random())) this.#carry(e);
  }

  #carry(effect: SenderEffect): void {
    switch (effect.kind) {
      case 'dial':
        this.#dial();
        return;
      case 'greet':
        this.#send(this.#handshake.hello(this.#socket?.proven));
        return;
      case 'introduce':
        this.#introduce(this.#introductions.all);
        return;
      case 'heartbeat':
        this.#heartbeat();
        return;
      case 'drop':
        this.#drop();
        return;
      case 'report':
        this.#tell({ kind: 'state', ...this.#sender.report });
        return;
    }
  }

  /** Once a second, on a busy link too; only what has moved. */
  #tellNews({ traffic } = this.#outbox): void {
    if (traffic !== this.#toldTraffic) this.#tell({ kind: 'traffic', traffic });
    this.#toldTraffic = traffic;
    if (this.#handshake.version < 2 || !this.#sender.isOpen) return;
    const rows = this.#vitals.checkpoints(this.#source.streams.keys());
    for (const part of inFrames(rows)) this.#send({ kind: 'checkpoints', rows: part });
  }

  #tell(message: FromShipper): void {
    this.#world.tell(message);
  }

  // --- the socket --------------------------------------------------------------------------

  #dial(): void {
    const connection = ++this.#connection;
    const socket = this.#world.connect(this.#start.replica, this.#handshake.security);
    this.#socket = socket;
    this.#assembler.restart(HELLO_FRAME_MAX_BYTES);
    let reason: string = GIVEN_UP.closed;
    socket.on('connect', () => this.#step({ kind: 'connected' }));
    socket.on('data', (chunk) => {
      if (connection === this.#connection) this.#heard(chunk);
    });
    socket.on('error', (error) => {
      reason = error.message;
      if (connection !== this.#connection || !(error instanceof EngramError)) return;
      this.#giveUp(firstLine(error), error.code);
    });
    socket.on('close', () => {
      if (connection === this.#connection) this.#lost(reason);
    });
  }

  #lost(reason: string, code?: string, isFatal = false): void {
    if (code === 'ChecksumMismatch') this.#source.distrustSlabs();
    // A disk that has failed once may do its work the next time.
    this.#step({ kind: 'lost', reason, code, isFatal: isFatal && code !== 'Io' });
  }

  #giveUp(reason: string, code: string): void {
    if (code === 'DuplicateNode' || code === 'AuthFailed') {
      this.#send({ kind: 'bye', fatal: true, code, message: reason });
      const socket = this.#socket!;
      this.#socket = undefined;
      socket.end();
      // What it still sends is read meanwhile: or it would not see why.
      setTimeout(() => socket.destroy(), BYE_MS);
    }
    this.#lost(reason, code, true);
  }

  #drop(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    this.#connection++;
    socket?.destroy();
    // Main keeps nothing for a link that is gone, and the file may be another one by then.
    this.#reader.leave();
    this.#outbox.drop();
    this.#introductions.disconnected();
    this.#vitals.disconnected();
    this.#questions.dropped();
  }

  #send(frame: PlainFrame): void {
    this.#sendBytes(encodeFrame(frame, this.#handshake.version));
  }

  /** In one write. */
  #sendAll(frames: readonly PlainFrame[]): void {
    const { version } = this.#handshake;
    this.#sendBytes(Buffer.concat(frames.map((frame) => encodeFrame(frame, version))));
  }

  #sendBytes(bytes: Uint8Array): void {
    this.#socket?.write(bytes);
    this.#step({ kind: 'wrote' });
  }

  #heard(chunk: Uint8Array): void {
    this.#step({ kind: 'heard' });
    try {
      this.#assembler.feed(chunk, (kind, body) => {
        this.#take(decodeFrame(kind, body));
        return this.#socket !== undefined;
      });
    } catch (error) {
      const known = error instanceof EngramError;
      this.#lost(known ? firstLine(error) : String(error), known ? error.code : undefined);
      if (!known) throw error;
    }
    this.#outbox.pump();
  }

  #take(frame: Frame): void {
    // Before its welcome, and its proof with that, it may be anybody.
    if (!this.#sender.isOpen && frame.kind !== 'welcome' && frame.kind !== 'bye') {
      throw failure('ProtocolViolation', `a frame ${frame.kind} before the welcome`);
    }
    switch (frame.kind) {
      case 'welcome':
        this.#welcomed(frame.welcome);
        return;
      case 'positions':
        this.#positions(frame.rows);
        return;
      case 'acks':
        this.#acked(frame.rows);
        return;
      case 'heartbeat':
        for (const { handle, sequence } of frame.rows) {
          const sent = this.#sender.sent(handle);
          if (sent !== undefined) this.#progress.setReceived(handle, Math.min(sequence, sent));
        }
        return;
      case 'nack':
        this.#tell({
          kind: 'locate',
          connection: this.#connection,
          slot: frame.handle,
          next: frame.expected,
        });
        return;
      case 'answer':
        this.#questions.answered(frame);
        return;
      case 'bye':
        this.#lost(withCode(frame.code, frame.message), frame.code, frame.fatal);
        return;
      case 'fenced': {
        const { handle: slot, epoch, leader } = frame;
        this.#leave(slot, false);
        this.#tell({ kind: 'fenced', slot, epoch, leader });
        return;
      }
      case 'ping':
        this.#send({ kind: 'pong' });
        return;
      default:
        if (!isSnapshotFrame(frame)) {
          throw failure('ProtocolViolation', `a frame ${frame.kind} from a replica`);
        }
        this.#tell({ kind: 'snapshot', connection: this.#connection, frame });
    }
  }

  #welcomed(welcome: Welcome): void {
    if (this.#sender.state !== 'handshake') {
      throw failure('ProtocolViolation', 'a welcome that nobody asked for');
    }
    const greeted = this.#handshake.welcomed(welcome);
    if (greeted.problem) {
      this.#lost(greeted.problem.reason, greeted.problem.code, true);
      return;
    }
    // While it proved itself, files may have been read anew.
    if (!this.#handshake.isProved) {
      this.#lost(GIVEN_UP.withdrawn);
      return;
    }
    const { proof, isNewLife, directoryId } = greeted;
    if (proof) this.#send({ kind: 'proof', proof });
    const { version } = welcome;
    this.#sender.met(directoryId);
    this.#tell({ kind: 'welcomed', connection: this.#connection, version, directoryId });
    this.#assembler.setCap(this.#frameBytes);
    const { nodeHash, compression } = this.#start;
    const codec = agreedCodec(compression, welcome.features);
    const mixes = (welcome.features & FEATURE_MIXED) !== 0;
    this.#outbox.open(this.#socket!, this.#frameBytes, nodeHash, codec, mixes);
    this.#step({ kind: 'welcomed', isNewLife });
    this.#questions.opened();
  }

  // --- spaces ------------------------------------------------------------------------------

  #add(spaces: readonly ShippedSpace[]): void {
    this.#introductions.add(spaces);
    if (this.#sender.isOpen) this.#introduce(spaces);
    else if (spaces.length > 0) this.#step({ kind: 'hurry' });
  }

  #introduce(spaces: readonly ShippedSpace[]): void {
    const rows = this.#introductions.rowsOf(spaces);
    for (const part of spacesInFrames(rows)) this.#send({ kind: 'spaces', rows: part });
    if (spaces.length === 0) this.#step({ kind: 'caught-up' });
  }

  #positions(rows: readonly PositionRow[]): void {
    const answered = packAnswered(this.#introductions.answered(rows));
    this.#tell({ kind: 'positions', connection: this.#connection, rows: answered });
  }

  message(message: ToShipper): void {
    switch (message.kind) {
      case 'spaces':
        this.#add(unpackShipped(message.spaces));
        return;
      case 'leave':
        this.#leave(message.slot, !message.isCut);
        return;
      case 'verdicts':
        if (message.connection === this.#connection) this.#verdicts(unpackVerdicts(message.rows));
        return;
      case 'segment':
        void this.#catchUp.entered(message.lsn, message.segment);
        return;
      case 'sought':
        this.#catchUp.sought(message.lsn);
        return;
      case 'located': {
        const stream = this.#source.streams.get(message.slot);
        if (message.connection !== this.#connection || !stream) return;
        this.#source.relocate(stream, message.next, message.lsn);
        this.#outbox.pump();
        return;
      }
      case 'ask':
        this.#ask(message.spaces);
        return;
      case 'frame':
        if (message.connection === this.#connection) this.#sendBytes(message.bytes);
        return;
      case 'give-up':
        if (message.connection === this.#connection) this.#giveUp(message.reason, message.code);
        return;
      case 'met':
        this.#step({ kind: 'met', isNewLife: this.#handshake.isNewLife(message.incarnation) });
        return;
      case 'credentials':
        this.#handshake.credentials = message.credentials;
        if (this.#sender.isOpen && !this.#handshake.isProved) this.#lost(GIVEN_UP.withdrawn);
        return;
      case 'again':
      case 'retry':
        this.#step({ kind: message.kind });
        return;
      case 'close':
        void this.#close();
        return;
    }
  }

  #verdicts(rows: readonly VerdictAnswer[]): void {
    for (const part of byHistories(rows)) this.#tellVerdicts(part);
    for (const row of rows) {
      if (row.verdict === 'rewind') this.#introductions.expectAgain(row.slot);
      const known = this.#introductions.answerOf(row.slot);
      if (!known || row.verdict !== 'continue') continue;
      const { space, position } = known;
      // Told anew, for other members: what is streamed goes on where it stands.
      if (this.#source.streams.get(row.slot)?.epoch === space.epoch) continue;
      this.#sender.join(position, space.epoch);
      const { slot, id, epoch, voided } = space;
      this.#source.add({ slot, id, words: idWords(id), epoch, voided, next: row.next });
      this.#vitals.joined();
      this.#progress.begin(slot, epoch, position.position.sequence, position.applied);
      this.#outbox.joinAt(row.lsn);
    }
    this.#memory.wakeMain();
    this.#outbox.pump();
  }

  /** The epochs of these spaces, then the verdicts on them. */
  #tellVerdicts(rows: readonly VerdictAnswer[]): void {
    const history = rows.flatMap((row) =>
      row.history.map((start) => ({ ...start, handle: row.slot })),
    );
    for (const part of inFrames(history)) this.#send({ kind: 'history', rows: part });
    const verdicts = rows.map(verdictRow);
    for (const part of inFrames(verdicts)) this.#send({ kind: 'verdicts', rows: part });
  }

  /** Nothing more of the space is sent: it is led elsewhere. */
  #leave(slot: Slot, isForGood: boolean): void {
    this.#introductions.leave(slot, isForGood);
    this.#source.remove(slot);
    this.#sender.leave(slot, performance.now());
  }

  #ask(spaces: readonly AskedSpace[]): void {
    const { state, isOpen } = this.#sender;
    const isAway = state === 'waiting' || state === 'failed' || state === 'closed';
    this.#questions.ask(spaces, isOpen ? 'open' : isAway ? 'away' : 'dialled');
  }

  #acked(acks: Float64Array): void {
    const overtaken = (slot: Slot, epoch: Epoch): void =>
      this.#tell({ kind: 'fenced', slot, epoch, leader: undefined });
    const moved = (): void => this.#memory.acked();
    this.#sender.takeAcks(acks, performance.now(), overtaken, moved);
  }

  #heartbeat(): void {
    const rows = this.#vitals.positions(this.#source.streams.keys());
    const stalledMs = this.#vitals.stalledMs(performance.now());
    if (rows.length === 0) this.#send({ kind: 'heartbeat', stalledMs, rows });
    for (const part of inFrames(rows)) this.#send({ kind: 'heartbeat', stalledMs, rows: part });
  }

  // --- closing -----------------------------------------------------------------------------

  /** Ships what is durable up to a deadline, then ends. */
  async #close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    const deadline = performance.now() + CLOSE_DEADLINE_MS;
    while (this.#sender.isOpen && performance.now() < deadline) {
      this.#outbox.pump();
      if (this.#introductions.all.length === 0) break;
      const behind = this.#source.cursor < this.#memory.durableLsn;
      if (this.#outbox.cursor !== undefined && !behind && this.#sender.isDrained) break;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    this.#socket?.end();
    this.#step({ kind: 'close' });
    await this.#reader.close();
    this.#world.ended();
  }
}
