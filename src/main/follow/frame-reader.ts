/**
 * Reads frames out of one connection's socket, and no further while there is work to do, or no room
 * for a frame that is on its way. It knows how long half a frame has been there.
 */
import { HELLO_FRAME_MAX_BYTES } from '../../shared/limits.js';
import type { ByteSocket } from '../../shared/wire/byte-socket.js';
import { FrameAssembler, type FrameBuffers } from '../../shared/wire/frame.js';

export interface FrameReaderHooks {
  /** Bytes have come. */
  heard(): void;
  /** A whole frame; its body is valid until the work that it begins has ended. */
  take(kind: number, body: Uint8Array): void;
  /** The frame, or the work that it has begun, has failed: nothing more is to be read. */
  refuse(error: unknown): void;
}

export class FrameReader {
  readonly #socket: ByteSocket;
  readonly #hooks: FrameReaderHooks;
  readonly #buffers: FrameBuffers;
  readonly #assembler: FrameAssembler;
  /** Frames wait for so many works: a registration, room; the socket is paused meanwhile. */
  #works = 0;
  /** The other side sends no more; what it has sent may still be to do. */
  #hasEnded = false;
  /** It was refused: nothing more is read. */
  #isOver = false;
  #rest: Uint8Array = new Uint8Array(0);
  /** Since when half a frame is there, monotonic ms; undefined: none is. */
  #halfSinceMs: number | undefined;

  constructor(socket: ByteSocket, buffers: FrameBuffers, hooks: FrameReaderHooks) {
    this.#socket = socket;
    this.#hooks = hooks;
    this.#buffers = buffers;
    this.#assembler = new FrameAssembler(HELLO_FRAME_MAX_BYTES, buffers);
    socket.on('data', (chunk) => this.#data(chunk, false));
    socket.on('end', () => {
      this.#hasEnded = true;
      if (this.#works === 0) socket.destroySoon();
    });
    socket.on('close', () => {
      // Work that is under way may still read out of it.
      if (this.#works === 0) this.#assembler.release();
    });
  }

  /** Nothing is read, for a reason of ours. */
  get isBusy(): boolean {
    return this.#works > 0;
  }

  /** From now on frames of up to `cap` bytes are taken. */
  setCap(cap: number): void {
    this.#assembler.setCap(cap);
  }

  /** For how long half a frame has taken room that others could have, ms; 0: it does not. */
  halfForMs(nowMs: number): number {
    const isHolding = this.#assembler.isHalf && this.#assembler.holdsBuffer;
    return isHolding ? nowMs - (this.#halfSinceMs ?? nowMs) : 0;
  }

  /** To be called now and then. */
  tick(nowMs: number): void {
    if (!this.#assembler.isHalf) this.#halfSinceMs = undefined;
    else this.#halfSinceMs ??= nowMs;
    if (this.#works === 0) this.#assembler.rest();
  }

  /** Stops reading until the work is done. */
  during(work: Promise<void>): void {
    this.#works += 1;
    this.#socket.pause();
    work.then(
      () => this.#done(),
      (error) => {
        this.#refuse(error);
        this.#done();
      },
    );
  }

  #refuse(error: unknown): void {
    this.#isOver = true;
    this.#hooks.refuse(error);
  }

  /** @param isKept the chunk stays as it is; else it is valid during this call alone */
  #data(chunk: Uint8Array, isKept: boolean): void {
    if (this.#isOver) return;
    this.#hooks.heard();
    const isReading = (): boolean => this.#works === 0 && !this.#socket.destroyed;
    let rest: Uint8Array;
    try {
      rest = this.#assembler.feed(chunk, (kind, body) => {
        this.#halfSinceMs = undefined;
        this.#hooks.take(kind, body);
        return isReading();
      });
    } catch (error) {
      this.#refuse(error);
      return;
    }
    if (rest.length > 0) this.#rest = isKept ? rest : rest.slice();
    if (!isReading()) return;
    const { wantedBytes } = this.#assembler;
    if (wantedBytes > 0) this.during(this.#buffers.whenRoom(wantedBytes));
    else if (this.#buffers.isWanted) this.#assembler.rest();
  }

  /** Goes on with what had arrived when reading was stopped. */
  #done(): void {
    this.#works -= 1;
    if (this.#works > 0) return;
    if (this.#isOver || this.#socket.destroyed) {
      this.#assembler.release();
      return;
    }
    const rest = this.#rest;
    this.#rest = new Uint8Array(0);
    if (rest.length > 0) this.#data(rest, true);
    if (this.#works > 0) return;
    if (this.#hasEnded) this.#socket.destroySoon();
    else this.#socket.resume();
  }
}
