/**
 * What goes out to one replica: fills send buffers from the log and hands them to the socket,
 * as the sender's window, the triggers and the throttle of catch-up allow.
 */

import { EngramError, firstLine } from '../../shared/errors.js';
import { BATCH_TRIGGER_BYTES, READ_CHUNK_BYTES, SEND_BUFFERS } from '../../shared/limits.js';
import type { Traffic } from '../../shared/link/control.js';
import type { SenderInput } from '../../shared/link/sender.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import type { Lsn } from '../../shared/position.js';
import { FrameBuilder } from '../../shared/wire/batches/frame-builder.js';
import type { ByteSocket } from '../../shared/wire/byte-socket.js';
import type { Codec } from '../../shared/wire/compression.js';
import type { BatchSource } from './batch-source.js';
import type { CatchUp } from './catch-up.js';
import type { CountedSender } from './counted-sender.js';

/** What a busy socket waits for. */
export interface Triggers {
  readonly batchEntries: number;
  readonly batchDelayMs: number;
}

export interface OutboxHooks {
  step(input: SenderInput): void;
  lost(reason: string, code: string): void;
  /** Everything durable is on its way: no segment is read any more. */
  caughtUp(): void;
  /** It could send at once what becomes durable; told again and again while it can. */
  eager(): void;
}

export class Outbox {
  readonly #memory: NodeMemory;
  readonly #sender: CountedSender;
  readonly #source: BatchSource;
  readonly #catchUp: CatchUp;
  readonly #triggers: Triggers;
  readonly #hooks: OutboxHooks;
  #socket: ByteSocket | undefined;
  readonly #free: FrameBuilder[] = [];
  #codec: Codec | undefined;
  #mixes = false;
  #inSocket = 0;
  /** Some space is streamed, so the source's cursor means something. */
  #cursorKnown = false;
  /** Where the cursor stood when nothing was left. */
  #caughtUpAt: Lsn = -1;
  #triggerTimer: NodeJS.Timeout | undefined;
  #traffic: Traffic = { compression: 'none', rawBytes: 0, sentBytes: 0 };

  constructor(
    memory: NodeMemory,
    sender: CountedSender,
    source: BatchSource,
    catchUp: CatchUp,
    triggers: Triggers,
    hooks: OutboxHooks,
  ) {
    this.#memory = memory;
    this.#sender = sender;
    this.#source = source;
    this.#catchUp = catchUp;
    this.#triggers = triggers;
    this.#hooks = hooks;
  }

  /**
   * The handshake is done: batches go out on this socket, in buffers of so many bytes, compressed
   * where both ends have agreed on it. @param mixes they have agreed on batches of several spaces
   */
  open(
    socket: ByteSocket,
    frameBytes: number,
    nodeHash: string,
    codec: Codec | undefined,
    mixes: boolean,
  ): void {
    this.#socket = socket;
    this.#codec = codec;
    this.#mixes = mixes;
    this.#traffic = { ...this.#traffic, compression: codec?.name ?? 'none' };
    while (this.#free.length < SEND_BUFFERS) {
      this.#free.push(new FrameBuilder(frameBytes, nodeHash));
    }
  }

  /** Frames of batches on all connections so far; another object once it has changed. */
  get traffic(): Traffic {
    return this.#traffic;
  }

  /** The link is gone, and with it what was to be sent on it. */
  drop(): void {
    this.#socket = undefined;
    this.#inSocket = 0;
    this.#cursorKnown = false;
    this.#caughtUpAt = -1;
    this.#source.clear();
    clearTimeout(this.#triggerTimer);
    this.#triggerTimer = undefined;
  }

  /** The socket holds frames that it has not taken yet. */
  get isWriting(): boolean {
    return this.#inSocket > 0;
  }

  /** Where the log is read on; undefined before anything is streamed. */
  get cursor(): Lsn | undefined {
    return this.#cursorKnown ? this.#source.cursor : undefined;
  }

  /** One more space is streamed, whose next entry stands at `lsn`. */
  joinAt(lsn: Lsn): void {
    const { cursor } = this.#source;
    this.#source.cursor = this.#cursorKnown ? Math.min(cursor, lsn) : lsn;
    this.#cursorKnown = true;
  }

  /** Sends what can be sent. A bad entry in the durable log ends the link, not the thread. */
  pump(): void {
    this.#pump(false);
  }

  /** @param isDue what waited for company goes, whatever has come */
  #pump(isDue: boolean): void {
    try {
      this.#fillAndShip(isDue);
    } catch (error) {
      if (!(error instanceof EngramError)) throw error;
      this.#hooks.lost(firstLine(error), error.code);
    }
    if (this.isEager) this.#hooks.eager();
  }

  /**
   * What becomes durable could go out. Otherwise something else is waited for, which pumps: an ack,
   * the socket, a segment, the throttle. A replica that takes nothing then costs nothing (P5).
   */
  get isEager(): boolean {
    if (!this.#cursorKnown || this.#catchUp.isLoading || !this.#sender.isOpen) return false;
    if (this.#free.length === 0 || !this.#sender.hasWindow) return false;
    return (
      this.#sender.state !== 'catching-up' || this.#sender.readDelayMs(performance.now()) === 0
    );
  }

  /** Sends as long as there is something to send, a buffer and room in the window. */
  #fillAndShip(isDue: boolean): void {
    if (!this.#cursorKnown || this.#catchUp.isLoading || !this.#sender.isOpen) return;
    // An ack, or the socket: most pumps find that nothing has come.
    const { cursor } = this.#source;
    if (cursor === this.#caughtUpAt && cursor === this.#memory.durableLsn) return;
    let mayGo = isDue;
    while (this.#free.length > 0 && this.#sender.hasWindow) {
      if (!mayGo && this.#inSocket > 0 && !this.#isTriggered()) return;
      mayGo = false;
      if (this.#sender.state === 'catching-up' && this.#mustWait()) return;
      const frame = this.#free.pop()!;
      frame.reset(this.#sender.frameBytes, this.#codec, this.#mixes);
      const filled = this.#source.fill(frame);
      if (frame.isEmpty) this.#free.push(frame);
      else this.#ship(frame);
      if (filled === 'caught-up') {
        this.#caughtUpAt = this.#source.cursor;
        this.#hooks.step({ kind: 'caught-up' });
        this.#hooks.caughtUp();
        return;
      }
      if (filled === 'disk') {
        // A window behind is catching up; less is the ordinary detour over the page cache.
        const behind = this.#memory.durableLsn - this.#source.cursor;
        if (behind > READ_CHUNK_BYTES) this.#hooks.step({ kind: 'fell-behind' });
        // However the end is come to, it is told.
        this.#caughtUpAt = -1;
        this.#catchUp.load();
        return;
      }
    }
  }

  /** Catch-up has a budget of bytes a second; the live path has none. */
  #mustWait(): boolean {
    const ms = this.#sender.readDelayMs(performance.now());
    if (ms > 0) this.#triggerTimer ??= this.#pumpIn(ms);
    return ms > 0;
  }

  #pumpIn(ms: number): NodeJS.Timeout {
    return setTimeout(() => {
      this.#triggerTimer = undefined;
      this.#pump(true);
    }, ms);
  }

  /** While the socket is busy, small batches wait for company: entries, 256 KiB or a time. */
  #isTriggered(): boolean {
    if (this.#source.pending(this.#triggers.batchEntries, BATCH_TRIGGER_BYTES)) return true;
    this.#triggerTimer ??= this.#pumpIn(this.#triggers.batchDelayMs);
    return false;
  }

  #ship(frame: FrameBuilder): void {
    const bytes = frame.finish();
    this.#sender.replayed(this.#source.takeReplayed());
    const now = performance.now();
    const { compression, rawBytes, sentBytes } = this.#traffic;
    this.#traffic = {
      compression,
      rawBytes: rawBytes + frame.rawBytes,
      sentBytes: sentBytes + bytes.length,
    };
    if (this.#sender.state === 'catching-up') this.#sender.bytesRead(frame.rawBytes, now);
    this.#sender.batchesSent(frame, now);
    const socket = this.#socket!;
    this.#inSocket++;
    socket.write(bytes, () => {
      // Of a lost connection as well: the next one sends out of the same buffers.
      if (this.#free.length < SEND_BUFFERS) this.#free.push(frame);
      if (socket !== this.#socket) return;
      this.#inSocket--;
      this.#hooks.step({ kind: 'wrote' });
      this.pump();
    });
    this.#hooks.step({ kind: 'wrote' });
  }
}
