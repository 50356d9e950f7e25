/** A replica made by hand: a primary dials it, and it says what no replica would. */
import net from 'node:net';
import type { PositionAnswer } from '#src/shared/lead/epoch.js';
import { decodeBatch } from '#src/shared/wire/batch.js';
import { FrameAssembler } from '#src/shared/wire/frame.js';
import { FEATURE_PEER_CALL } from '#src/shared/wire/peer-frames.js';
import {
  decodeFrame,
  encodeFrame,
  type Frame,
  type PlainFrame,
} from '#src/shared/wire/protocol.js';

/** A batch that has arrived: its first sequence, and how many entries. */
export interface ArrivedBatch {
  readonly start: number;
  readonly count: number;
}

export class WireReplica {
  readonly #nodeId: string;
  readonly #server: net.Server;
  #socket: net.Socket | undefined;
  readonly frames: Frame[] = [];
  /** Of the newest connection. */
  readonly batches: ArrivedBatch[] = [];
  connections = 0;
  port = 0;
  /** Where it says that it stands, of every space. */
  position = { epoch: 0, sequence: 0, headerCrc: 0 };
  /** That it has seen, of every space; undefined: the one that it is introduced to. */
  epochSeen: number | undefined;
  /** What it says to an introduction, of every space. */
  stands: PositionAnswer = 'follows';
  /** What it says to a question of a peer call; undefined: nothing, ever. */
  answer: (question: Frame) => PlainFrame | readonly PlainFrame[] | undefined = () => undefined;
  /** What it says that it knows of peer calls. */
  callFeatures = FEATURE_PEER_CALL;

  constructor(nodeId: string) {
    this.#nodeId = nodeId;
    this.#server = net.createServer({ noDelay: true }, (socket) => this.#accept(socket));
  }

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    this.port = (this.#server.address() as net.AddressInfo).port;
    return this.port;
  }

  #accept(socket: net.Socket): void {
    let isCall = false;
    const assembler = new FrameAssembler(4 * 1024 * 1024);
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      assembler.feed(chunk, (kind, body) => {
        const frame = decodeFrame(kind, Uint8Array.from(body));
        isCall ||= frame.kind === 'hello' && (frame.hello.features & FEATURE_PEER_CALL) !== 0;
        if (isCall) this.#called(socket, frame);
        else this.#take(socket, frame);
        return true;
      });
    });
  }

  #called(socket: net.Socket, frame: Frame): void {
    if (frame.kind === 'hello') {
      socket.write(encodeFrame(this.#welcome(frame, this.callFeatures)));
      return;
    }
    const answer = this.answer(frame);
    if (!answer) return;
    for (const part of [answer].flat()) socket.write(encodeFrame(part));
    socket.write(encodeFrame({ kind: 'peer-done' }));
  }

  #welcome({ hello }: Extract<Frame, { kind: 'hello' }>, features: number): PlainFrame {
    const { clusterId, maxFrameBytes, maxEntryBytes } = hello;
    const who = { clusterId, nodeId: this.#nodeId, incarnation: 1n, features };
    return { kind: 'welcome', welcome: { version: 1, ...who, maxFrameBytes, maxEntryBytes } };
  }

  #take(socket: net.Socket, frame: Frame): void {
    this.frames.push(frame);
    if (frame.kind === 'hello') {
      this.connections++;
      this.batches.length = 0;
      this.#socket = socket;
      this.send(this.#welcome(frame, 0));
    } else if (frame.kind === 'spaces') {
      const rows = frame.rows.map(({ handle, epoch }) => ({
        handle,
        answer: this.stands,
        epochSeen: this.epochSeen ?? epoch,
        position: this.position,
        applied: 0,
      }));
      this.send({ kind: 'positions', rows });
    } else if (frame.kind === 'batches') this.#count(frame.body);
  }

  #count(body: Uint8Array): void {
    const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
    for (let at = 0; at < body.length; ) {
      const end = at + 4 + view.getUint32(at, true);
      const { startSequence, entryCount } = decodeBatch(body, view, at + 4, end);
      this.batches.push({ start: startSequence, count: entryCount });
      at = end;
    }
  }

  send(frame: PlainFrame): void {
    this.#socket?.write(encodeFrame(frame));
  }

  /** Says that so much is flushed of the first space that was introduced. */
  ack(flushed: number, applied = 0): void {
    const rows = Float64Array.of(this.handle, 1, flushed, applied);
    this.send({ kind: 'acks', timestampMs: Date.now(), rows });
  }

  get handle(): number {
    for (const frame of this.frames) if (frame.kind === 'spaces') return frame.rows[0]!.handle;
    throw new Error('no space was introduced');
  }

  /** The last entry that has arrived on the newest connection. */
  get last(): number {
    return this.batches.reduce((last, b) => Math.max(last, b.start + b.count - 1), 0);
  }

  /** Ends the newest connection. */
  cut(): void {
    this.#socket?.destroy();
  }

  async close(): Promise<void> {
    this.#socket?.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
