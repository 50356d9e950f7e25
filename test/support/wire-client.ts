/** A primary made by hand: speaks the wire to a replica, and can say what no primary would. */
import net from 'node:net';
import { idWords, type SpaceIdWords } from '#src/shared/bytes.js';
import { sealLocal, stageHeader } from '#src/shared/log/entry.js';
import { idOf } from '#src/shared/names.js';
import { FrameBuilder } from '#src/shared/wire/batches/frame-builder.js';
import { FrameAssembler } from '#src/shared/wire/frame.js';
import {
  decodeFrame,
  encodeFrame,
  type Frame,
  type Hello,
  type Welcome,
} from '#src/shared/wire/protocol.js';

export const PRIMARY = 'hand-made';

export class WireClient {
  readonly socket: net.Socket;
  readonly frames: Frame[] = [];
  readonly closed: Promise<void>;
  readonly #assembler = new FrameAssembler(4 * 1024 * 1024);
  #wake: (() => void)[] = [];

  /** @param to a port of this machine, or a socket of its own kind */
  constructor(to: number | net.Socket) {
    this.socket = typeof to === 'number' ? net.connect({ host: '127.0.0.1', port: to }) : to;
    this.socket.on('error', () => undefined);
    this.closed = new Promise((resolve) => this.socket.once('close', () => resolve()));
    this.socket.on('data', (chunk) => {
      this.#assembler.feed(chunk, (kind, body) => {
        this.frames.push(decodeFrame(kind, Uint8Array.from(body)));
        return true;
      });
      for (const wake of this.#wake.splice(0)) wake();
    });
    this.socket.on('close', () => {
      for (const wake of this.#wake.splice(0)) wake();
    });
  }

  send(frame: Exclude<Frame, { kind: 'batches' }>): void {
    this.socket.write(encodeFrame(frame));
  }

  /** The next frame of this kind; fails when the connection ends before. */
  async next<K extends Frame['kind']>(kind: K): Promise<Frame & { kind: K }> {
    for (;;) {
      const at = this.frames.findIndex((f) => f.kind === kind);
      if (at >= 0) return this.frames.splice(at, 1)[0] as Frame & { kind: K };
      if (this.socket.destroyed) throw new Error(`closed before a frame ${kind}`);
      await new Promise<void>((resolve) => this.#wake.push(resolve));
    }
  }

  /** @returns how the replica welcomes it */
  async hello(peerId: string, change: Partial<Hello> = {}): Promise<Welcome> {
    this.send({
      kind: 'hello',
      hello: {
        minVersion: 1,
        maxVersion: 1,
        clusterId: 'test',
        nodeId: PRIMARY,
        peerId,
        incarnation: 1n,
        features: 0,
        maxFrameBytes: 64 * 1024,
        maxEntryBytes: 1024,
        ...change,
      },
    });
    return (await this.next('welcome')).welcome;
  }

  /** Introduces a space and says `continue`. @returns the replica's last sequence */
  async follow(name: string, handle = 1, epoch = 1): Promise<number> {
    this.send({
      kind: 'spaces',
      rows: [{ handle, id: idOf(name), epoch, name, members: [], sets: [] }],
    });
    const { rows } = await this.next('positions');
    const { sequence } = rows[0]!.position;
    const next = sequence + 1;
    this.send({ kind: 'verdicts', rows: [{ handle, verdict: 'continue', next }] });
    return sequence;
  }
}

/**
 * A frame with one batch of entries `first`..`last`; the payload of each is its number.
 * @param epochOf each of them, where that is not the batch's own
 */
export function batchFrame(
  name: string,
  first: number,
  last: number,
  epoch = 1,
  epochOf: (sequence: number) => number = () => epoch,
): Buffer {
  const words = idWords(idOf(name));
  const builder = new FrameBuilder(256 * 1024, idOf(PRIMARY));
  builder.begin(1, words, epoch, first);
  for (let sequence = first; sequence <= last; sequence++) {
    builder.add(entryOf(words, sequence, epochOf(sequence)), 1);
  }
  return Buffer.from(builder.finish());
}

/** Entries of one space, in a batch of several. */
export interface MixedRun {
  /** Of the space; or its id, where it is none that a name has. */
  readonly name: string | SpaceIdWords;
  readonly first: number;
  readonly last: number;
  readonly epoch?: number;
}

/** A frame with one batch of several spaces, two runs or more. */
export function mixedFrame(runs: readonly MixedRun[]): Buffer {
  const builder = new FrameBuilder(256 * 1024, idOf(PRIMARY));
  builder.reset(256 * 1024, undefined, true);
  for (const [i, { name, first, last, epoch = 1 }] of runs.entries()) {
    const words = typeof name === 'string' ? idWords(idOf(name)) : name;
    if (i === 0) builder.begin(1, words, epoch, first, true);
    else builder.join(1 + i, first);
    for (let sequence = first; sequence <= last; sequence++) {
      builder.add(entryOf(words, sequence, epoch), 1);
    }
  }
  return Buffer.from(builder.finish());
}

/** Its payload is its number. */
function entryOf(words: SpaceIdWords, sequence: number, epoch: number): Uint8Array {
  const payload = Buffer.from(`entry ${sequence}`);
  const bytes = new Uint8Array(64 + payload.length);
  const view = new DataView(bytes.buffer);
  bytes.set(payload, 64);
  stageHeader(view, 0, sequence, sequence, 1, 1, payload.length, epoch);
  sealLocal(bytes, view, 0, words, 0, 0, 0);
  return bytes;
}
