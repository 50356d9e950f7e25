/**
 * Batches on their way from a primary's connection into this node's log: each is checked, judged
 * (shared/link/receiver.ts) and staged, as soon as there is room.
 */

import { type EngramError, failure } from '../../shared/errors.js';
import { BATCH_HEADER_BYTES, ENTRY_HEADER_BYTES } from '../../shared/limits.js';
import type { JudgedBatch, Receiver } from '../../shared/link/receiver.js';
import { readEpoch, readPayloadSize, readSequence, readType } from '../../shared/log/entry.js';
import { MEMBERS_ENTRY } from '../../shared/members/members.js';
import type { Sequence } from '../../shared/position.js';
import { checkEntries, decodeBatch, decodeWhole, type ReadBatch } from '../../shared/wire/batch.js';
import { EntrySlots } from '../../shared/wire/batches/entry-slots.js';
import { BatchRuns } from '../../shared/wire/batches/mixed-batch.js';
import { CompressionCode, decompressed } from '../../shared/wire/compression.js';
import type { PlainFrame } from '../../shared/wire/protocol.js';
import type { SpaceState } from '../log/space-table.js';
import { ReceivedRuns, receivedRun } from '../log/write/received-runs.js';
import { pause } from '../runtime/deadline.js';
import type { ReceiverHost } from './host.js';

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

/** As many whole entries from `at` on as a group takes. */
export function wholeEntries(
  view: DataView,
  at: number,
  end: number,
  groupBytes: number,
): { to: number; count: number; holdsMembers: boolean } {
  let to = at;
  let count = 0;
  let holdsMembers = false;
  while (to < end && to + entryBytes(view, to) - at <= groupBytes) {
    if (readType(view, to) === MEMBERS_ENTRY) holdsMembers = true;
    to += entryBytes(view, to);
    count++;
  }
  return { to, count, holdsMembers };
}

export interface IntakeHooks {
  send(frame: PlainFrame): void;
  /** A batch that is here already: it is acknowledged again. */
  duplicate(): void;
  /** The batch is of a lower epoch than one that is known: its primary is told. */
  fence(space: SpaceState): void;
  /** The connection is gone; nothing more of it is taken. */
  isEnded(): boolean;
}

/** Entries of a batch, uncompressed. */
interface Opened {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly start: number;
  readonly end: number;
}

/** Those of one space, checked. */
interface Entries extends Opened {
  readonly startSequence: Sequence;
  readonly entryCount: number;
  readonly holdsMembers: boolean;
}

export class BatchIntake {
  readonly #host: ReceiverHost;
  readonly #receiver: Receiver;
  readonly #hooks: IntakeHooks;
  /** What both ends have agreed on. */
  features = 0;
  /** Of the frame that is taken: what its batches may still become. */
  #roomBytes = 0;
  /** The batch that waits for room, so that it is decompressed once; by where it stands. */
  #opened: { readonly at: number; readonly entries: Opened } | undefined;
  /** The mixed batch that waits for room, as far as its runs are taken. */
  #begun: { readonly at: number; readonly runs: BatchRuns } | undefined;
  /** Runs of a mixed batch that are judged and not staged yet, and where they begin in it. */
  readonly #pending = new ReceivedRuns();
  #pendingFrom = 0;
  /** Entries of the batch from there on. */
  #pendingLeft = 0;
  /** Made with the first mixed batch. */
  #slots: EntrySlots | undefined;

  constructor(host: ReceiverHost, receiver: Receiver, hooks: IntakeHooks) {
    this.#host = host;
    this.#receiver = receiver;
    this.#hooks = hooks;
  }

  /** Takes the batches of a frame. @returns what to wait for, without room for all of them */
  take(body: Uint8Array): Promise<void> | undefined {
    this.#roomBytes = this.#host.maxFrameBytes;
    this.#opened = undefined;
    this.#begun = undefined;
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
        await pause(RETRY_ROOM_MS);
      }
    }
  }

  /** @returns false when there is no room to stage it, or all of it */
  #batch(body: Uint8Array, view: DataView, at: number, end: number): boolean {
    if (this.#hooks.isEnded()) return true;
    if (this.#begun?.at === at) return this.#takeRuns(this.#begun.runs);
    const { maxEntryBytes, maxFrameBytes } = this.#host;
    const terms = { features: this.features, maxBytes: maxFrameBytes };
    // Most are as they must be; of what is not, the two steps say what is wrong with it.
    const whole = decodeWhole(body, view, at, end, terms, maxEntryBytes);
    const batch = whole?.batch ?? decodeBatch(body, view, at, end, terms);
    const { startSequence, entryCount } = batch;
    if (batch.isMixed) {
      const { bytes, view: of, start, end: last } = this.#open(body, view, at, batch);
      const isSound = whole !== undefined;
      const runs = new BatchRuns(bytes, of, start, last, entryCount, maxEntryBytes, isSound);
      this.#begun = { at, runs };
      return this.#takeRuns(runs);
    }
    const space = this.#host.spaceByWords(batch.spaceWords);
    const skip = this.#judge(space, batch);
    if (skip < 0) return true;
    const opened = this.#open(body, view, at, batch);
    const { bytes, view: of, start } = opened;
    const holdsMembers =
      whole?.holdsMembers ?? checkEntries(bytes, of, start, batch, maxEntryBytes);
    return this.#append(space!, { ...opened, startSequence, entryCount, holdsMembers }, skip);
  }

  /** @returns how many entries at its head are here already; -1: nothing of it is taken */
  #judge(known: SpaceState | undefined, batch: JudgedBatch): number {
    if (known && batch.epoch < known.facts.epochSeen) this.#hooks.fence(known);
    else if (known && batch.epoch > known.facts.epochSeen) this.#host.heard(known, batch.epoch);
    const decision = this.#receiver.judge(known?.slot, batch);
    switch (decision.kind) {
      case 'append':
        return decision.skip;
      case 'fenced':
        return -1;
      case 'duplicate':
        this.#hooks.duplicate();
        return -1;
      case 'gap': {
        const { handle, epoch, expected } = decision;
        this.#hooks.send({ kind: 'nack', handle, epoch, expected });
        return -1;
      }
    }
  }

  /** Stages entries of one space, all but the first `skip`. @returns false without room for all */
  #append(space: SpaceState, entries: Entries, skip: number): boolean {
    const { wal } = this.#host;
    const { bytes, view, start, end } = entries;
    let from = start;
    for (let n = 0; n < skip; n++) from += entryBytes(view, from);
    let sequence = entries.startSequence + skip;
    while (from < end) {
      // A group takes at most groupBytes; when it is full the rest is judged again as overlap.
      const isAll = from === start && end - from <= wal.groupBytes;
      const whole = isAll
        ? { to: end, count: entries.entryCount, holdsMembers: entries.holdsMembers }
        : wholeEntries(view, from, end, wal.groupBytes);
      const { to, count, holdsMembers } = whole;
      const run = receivedRun(space.slot, sequence, count, to - from, holdsMembers);
      if (!wal.stageReceived(bytes.subarray(from, to), run)) return false;
      sequence += count;
      from = to;
      this.#receiver.received(space.slot, sequence - 1);
    }
    return true;
  }

  /**
   * Takes the runs of a mixed batch, each as if it were a batch of its own; those that lie behind
   * each other are staged at once. @returns false without room for all: the rest is read again
   */
  #takeRuns(runs: BatchRuns): boolean {
    const { groupBytes } = this.#host.wal;
    for (;;) {
      this.#takeNext(runs, groupBytes);
      if (!runs.next()) break;
      const space = this.#host.spaceByWords(runs.spaceWords);
      const skip = this.#judge(space, runs);
      const { start, end, startSequence: first, entryCount: count, holdsMembers } = runs;
      const bytes = end - start;
      const joins = skip === 0 && this.#pending.bytes + bytes <= groupBytes;
      if (!joins && !this.#stagePending(runs)) return false;
      if (skip < 0) continue;
      if (skip === 0 && bytes <= groupBytes) {
        const { slot } = space!;
        if (this.#pending.length === 0) {
          this.#pendingFrom = start;
          this.#pendingLeft = runs.left + count;
        }
        this.#pending.add(slot, first, count, bytes, holdsMembers);
        // Already now: another run of the space may stand behind.
        this.#receiver.received(slot, first + count - 1);
      } else if (!this.#append(space!, runs, skip)) {
        runs.goBack(start, runs.left + count);
        return false;
      }
    }
    if (!this.#stagePending(runs)) return false;
    this.#begun = undefined;
    this.#slots?.done();
    return true;
  }

  /**
   * Takes entries that are sound and go on where their spaces stand, up to one that does not:
   * nothing is made for any of them. What is left, `#takeRuns` judges.
   */
  #takeNext(runs: BatchRuns, groupBytes: number): void {
    const host = this.#host;
    const { view } = runs;
    const [pending, receiver] = [this.#pending, this.#receiver];
    this.#slots ??= new EntrySlots();
    const slots = this.#slots;
    const first = slots.lookOn(runs, host.slotAt);
    let entry = first;
    for (; entry < slots.end; entry++) {
      const slot = slots.slot(entry);
      const at = slots.start(entry);
      const bytes = slots.start(entry + 1) - at;
      if (slot < 0 || pending.bytes + bytes > groupBytes) break;
      const epoch = readEpoch(view, at);
      const sequence = readSequence(view, at);
      if (epoch !== host.epochSeen(slot) || !receiver.takeNext(slot, epoch, sequence)) break;
      if (pending.length === 0) {
        this.#pendingFrom = at;
        this.#pendingLeft = runs.left;
      }
      pending.addNext(slot, sequence, bytes);
    }
    if (entry > first) runs.pass(entry - first, slots.start(entry));
  }

  /** @returns false when there is no room; then their batch is read again from the first of them */
  #stagePending(runs: BatchRuns): boolean {
    const pending = this.#pending;
    if (pending.length === 0) return true;
    const from = this.#pendingFrom;
    const entries = runs.bytes.subarray(from, from + pending.bytes);
    const isStaged = this.#host.wal.stageReceived(entries, pending);
    if (!isStaged) {
      runs.goBack(from, this.#pendingLeft);
      for (let run = pending.length - 1; run >= 0; run--) {
        this.#receiver.received(pending.slot(run), pending.first(run) - 1);
      }
    }
    pending.clear();
    return isStaged;
  }

  /** Throws InvalidBatchSize where all batches of a frame together become more than one may. */
  #open(body: Uint8Array, view: DataView, at: number, batch: ReadBatch): Opened {
    const { compression, sentSize, totalSize } = batch;
    const start = at + BATCH_HEADER_BYTES;
    if (compression === CompressionCode.none) {
      return { bytes: body, view, start, end: start + totalSize };
    }
    if (this.#opened?.at === at) return this.#opened.entries;
    this.#roomBytes -= totalSize;
    if (this.#roomBytes < 0) {
      throw failure('InvalidBatchSize', `a frame that becomes more than its cap`);
    }
    const bytes = decompressed(compression, body.subarray(start, start + sentSize), totalSize);
    const opened = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const entries = { bytes, view: opened, start: 0, end: totalSize };
    this.#opened = { at, entries };
    return entries;
  }
}
