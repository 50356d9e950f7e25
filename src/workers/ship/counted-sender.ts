/** The sender of one replica, counting for metrics what passes through it. */
import type { ShipperStart } from '../../shared/link/control.js';
import { Sender, type SenderEffect, type SenderInput } from '../../shared/link/sender.js';
import { CounterWords, observe } from '../../shared/memory/counter-words.js';
import { LOSS_CAUSES, type LossCause } from '../../shared/memory/loss-cause.js';
import {
  BATCH_BYTES,
  LINKS_LOST_FIRST,
  SHIPPER_COUNTER,
  SPACE_SERIES_MAX,
  spaceShipped,
} from '../../shared/memory/metric-words.js';
import { ReplicaProgress } from '../../shared/memory/progress.js';
import type { Epoch, Slot } from '../../shared/position.js';
import {
  type FrameBuilder,
  PART_BYTES,
  PART_FIELDS,
  PART_LAST,
  PART_SLOT,
} from '../../shared/wire/batches/frame-builder.js';
import {
  ACK_APPLIED,
  ACK_EPOCH,
  ACK_FIELDS,
  ACK_FLUSHED,
  ACK_HANDLE,
  type Handle,
  type PositionRow,
} from '../../shared/wire/protocol.js';

export class CountedSender extends Sender {
  readonly #words: CounterWords;
  readonly #progress: ReplicaProgress;
  readonly #aheadMs: number;
  /** At the other end last; '': not known to this thread. */
  #directoryId: string | undefined = '';

  /** @param aheadMs of the main thread's clock against this one's */
  constructor(start: ShipperStart, aheadMs: number) {
    super(start);
    this.#words = new CounterWords(start.counters);
    this.#progress = new ReplicaProgress(start.progress);
    this.#aheadMs = aheadMs;
    // A thread before this one may have died with batches in flight.
    const { batchesSent, batchesAcked, batchesFailed } = SHIPPER_COUNTER;
    const settled = this.#words.value(batchesAcked) + this.#words.value(batchesFailed);
    this.#words.add(batchesFailed, Math.max(0, this.#words.value(batchesSent) - settled));
    this.#progress.setStreams(0);
  }

  /**
   * The replica has said which directory it is, and main is told next: what another one had is not
   * this one's.
   */
  met(directoryId: string | undefined): void {
    if (this.#directoryId !== directoryId) this.#progress.forget();
    this.#directoryId = directoryId;
  }

  override step(input: SenderInput, nowMs: number, chance: number): SenderEffect[] {
    if (input.kind === 'heard') this.#progress.setHeard(nowMs + this.#aheadMs);
    return super.step(input, nowMs, chance);
  }

  override join(row: PositionRow, epoch: Epoch): void {
    super.join(row, epoch);
    this.#progress.setStreams(this.streams);
  }

  override leave(handle: Handle, nowMs: number): void {
    super.leave(handle, nowMs);
    this.#progress.setStreams(this.streams);
  }

  /** The batches of a frame: what is counted of all of them is added once. */
  batchesSent({ batches, parts: rows }: Pick<FrameBuilder, 'batches' | 'parts'>, nowMs: number) {
    let entries = 0;
    let [size, alike] = [0, 0];
    let row = 0;
    for (const { parts, bytes } of batches) {
      const end = row + PART_FIELDS * parts;
      for (; row < end; row += PART_FIELDS) {
        // A handle is the slot of its space.
        const slot = rows[row + PART_SLOT]!;
        const last = rows[row + PART_LAST]!;
        entries += Math.max(0, last - this.sent(slot)!);
        this.batchSent(slot, last, row + PART_FIELDS === end ? bytes : 0, nowMs);
        this.#progress.setSent(slot, last);
        if (slot < 1 || slot > SPACE_SERIES_MAX) continue;
        this.#words.add(spaceShipped(slot), 1);
        this.#words.add(spaceShipped(slot) + 1, parts > 1 ? rows[row + PART_BYTES]! : bytes);
      }
      if (bytes !== size) {
        if (alike > 0) observe(this.#words, BATCH_BYTES, size, alike);
        [size, alike] = [bytes, 0];
      }
      alike++;
    }
    if (alike > 0) observe(this.#words, BATCH_BYTES, size, alike);
    this.#words.add(SHIPPER_COUNTER.batchesSent, batches.length);
    this.#words.add(SHIPPER_COUNTER.entriesSent, entries);
  }

  /**
   * Takes the rows of an ack frame; what they free is counted together. Where one of them is no
   * ack, those before it are, as if they had come alone. Throws as `acked` does.
   * @param overtaken told of a space that is acknowledged in a higher epoch
   * @param moved told once, where anything has
   */
  takeAcks(
    acks: Float64Array,
    nowMs: number,
    overtaken: (slot: Slot, epoch: Epoch) => void,
    moved: () => void,
  ): void {
    let hasMoved = false;
    let entries = 0;
    try {
      for (let at = 0; at < acks.length; at += ACK_FIELDS) {
        const slot = acks[at + ACK_HANDLE]!;
        if (this.isOvertaken(acks, at)) overtaken(slot, acks[at + ACK_EPOCH]!);
        const before = this.flushed(slot);
        if (!this.acked(acks, at, nowMs)) continue;
        hasMoved = true;
        const flushed = acks[at + ACK_FLUSHED]!;
        entries += flushed - before!;
        this.#progress.acked(slot, flushed, acks[at + ACK_APPLIED]!);
      }
    } finally {
      if (entries > 0) this.#words.add(SHIPPER_COUNTER.entriesAcked, entries);
      this.shrinkFlight(nowMs);
      if (hasMoved) moved();
    }
  }

  /** So many of the entries sent were read back from segments. */
  replayed(entries: number): void {
    if (entries > 0) this.#words.add(SHIPPER_COUNTER.entriesReplayed, entries);
  }

  protected override linkLost(cause: LossCause, unacknowledged: number): void {
    this.#words.add(LINKS_LOST_FIRST + LOSS_CAUSES.indexOf(cause), 1);
    this.#words.add(SHIPPER_COUNTER.batchesFailed, unacknowledged);
    this.#progress.setStreams(0);
  }

  protected override batchesDone(count: number): void {
    this.#words.add(SHIPPER_COUNTER.batchesAcked, count);
  }
}
