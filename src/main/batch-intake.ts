/**
 * Batches on their way from a primary's connection into this node's log: each is checked, judged
 * (shared/receiver.ts) and staged, as soon as there is room.
 */
import { checkBatchEntries, decodeBatch } from '../shared/batch.js';
import { readPayloadSize } from '../shared/entry.js';
import { type EngramError, failure } from '../shared/errors.js';
import { BATCH_HEADER_BYTES, ENTRY_HEADER_BYTES } from '../shared/limits.js';
import type { PlainFrame } from '../shared/protocol.js';
import type { Receiver } from '../shared/receiver.js';
import type { ReceiverHost } from './receiver-connection.js';

/** Between attempts while the budget is used up and the queue for it full. */
const RETRY_ROOM_MS = 10;
/** Before each batch of a frame. */
const LENGTH_BYTES = 4;

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

export interface IntakeHooks {
  send(frame: PlainFrame): void;
  /** A batch that is here already: it is acknowledged again. */
  duplicate(): void;
  /** The connection is gone; nothing more of it is taken. */
  isEnded(): boolean;
}

export class BatchIntake {
  readonly #host: ReceiverHost;
  readonly #receiver: Receiver;
  readonly #hooks: IntakeHooks;

  constructor(host: ReceiverHost, receiver: Receiver, hooks: IntakeHooks) {
    this.#host = host;
    this.#receiver = receiver;
    this.#hooks = hooks;
  }

  /** Takes the batches of a frame. @returns what to wait for, without room for all of them */
  take(body: Uint8Array): Promise<void> | undefined {
    const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
    for (let at = 0; at < body.length; at = batchEnd(body, view, at)) {
      const end = batchEnd(body, view, at);
      if (!this.#host.wal.isCrowded && this.#batch(body, view, at + LENGTH_BYTES, end)) continue;
      return this.#whenRoom(body, view, at);
    }
    return undefined;
  }

  /** The rest of a frame, from the batch at `from` on, each as soon as it finds room. */
  async #whenRoom(body: Uint8Array, view: DataView, from: number): Promise<void> {
    let at = from;
    while (at < body.length && !this.#hooks.isEnded()) {
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
    if (this.#hooks.isEnded()) return true;
    const { wal, maxEntryBytes } = this.#host;
    const batch = decodeBatch(body, view, at, end);
    const decision = this.#receiver.judge(batch);
    if (decision.kind === 'duplicate') {
      this.#hooks.duplicate();
      return true;
    }
    if (decision.kind === 'gap') {
      const { handle, epoch, expected } = decision;
      this.#hooks.send({ kind: 'nack', handle, epoch, expected });
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
}
