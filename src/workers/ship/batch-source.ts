/**
 * Where batches come from: the slabs while they hold what is next, the segments when they do
 * not. One cursor over the log; each space is skipped up to what its replica has already.
 */

import type { SpaceIdWords } from '../../shared/bytes.js';
import { crc32cJoined } from '../../shared/crc.js';
import { BATCH_MAX_ENTRIES, ENTRY_HEADER_BYTES } from '../../shared/limits.js';
import type { WantedEntry } from '../../shared/link/control.js';
import {
  isGoodHeader,
  readEpoch,
  readPayloadSize,
  readSequence,
  readSpaceId,
  readSpaceIdWord,
} from '../../shared/log/entry.js';
import { isVoided, type Voided, validBelow } from '../../shared/log/rewind.js';
import {
  MARK_COUNT,
  MARK_CRC,
  MARK_FIELDS,
  NO_CRC,
  type NodeMemory,
  type PublishedGroup,
  RUN_BYTES,
  RUN_COUNT,
  RUN_CRC,
  RUN_FIELDS,
  RUN_FIRST,
  RUN_LAST,
  RUN_OFFSET,
  RUN_SLOT,
  type Slab,
} from '../../shared/memory/slab.js';
import type { Epoch, Lsn, Sequence, Slot } from '../../shared/position.js';
import type { FrameBuilder } from '../../shared/wire/batches/frame-builder.js';
import type { SegmentReader } from './segment-reader.js';

/** A space that this replica follows, and what goes to it next. */
export interface Stream {
  readonly slot: Slot;
  readonly id: string;
  readonly words: SpaceIdWords;
  readonly epoch: Epoch;
  /** What of its entries does not count. */
  readonly voided: readonly Voided[];
  next: Sequence;
}

const FIRST_MOVED = 64;

/** Why filling stopped. `disk`: the window must be loaded at the cursor first. */
export type Filled = 'full' | 'caught-up' | 'disk';

export class BatchSource {
  readonly #memory: NodeMemory;
  readonly #reader: SegmentReader;
  readonly #maxEntryBytes: number;
  readonly streams = new Map<Slot, Stream>();
  /** The same by slot, for what looks at every run. */
  #bySlot: (Stream | undefined)[] = [];
  /** What a slab has moved, stream by stream, and how far: once it is known to be right. */
  readonly #moved: Stream[] = [];
  #movedTo = new Float64Array(FIRST_MOVED);
  #movedCount = 0;
  /** Of segments alone entries are found by their id: made when the first one is read. */
  #slots: Map<string, Slot> | undefined;
  cursor: Lsn = 0;
  /** Bytes of segments that were passed over since an entry was taken from them. */
  passed = 0;
  /** Grows whenever something may be wanted that was not before. */
  changes = 0;
  /** The entry before which a full frame ended: it is not looked for from the run's start on. */
  #stopped: { readonly lsn: Lsn; readonly slot: Slot; readonly sequence: Sequence } | undefined;
  #lastId: SpaceIdWords = [0, 0, 0, 0];
  #lastSlot: Slot = -1;
  /** What stands before it is read from segments, whatever slabs hold. */
  #slabsFrom: Lsn = 0;
  /** Entries that are not sent did not lead to those that are. */
  #isUnsound = false;
  /** Entries taken from segments, and not told yet. */
  #replayed = 0;

  constructor(memory: NodeMemory, reader: SegmentReader, maxEntryBytes: number) {
    this.#memory = memory;
    this.#reader = reader;
    this.#maxEntryBytes = maxEntryBytes;
    memory.ship();
  }

  add(stream: Stream): void {
    this.changes++;
    this.streams.set(stream.slot, stream);
    this.#bySlot[stream.slot] = stream;
    this.#slots?.set(stream.id, stream.slot);
    this.#lastSlot = -1;
  }

  remove(slot: Slot): void {
    const stream = this.streams.get(slot);
    // By its word alone nothing is kept of a handle.
    if (!stream) return;
    this.#slots?.delete(stream.id);
    this.streams.delete(slot);
    this.#bySlot[slot] = undefined;
    this.#lastSlot = -1;
  }

  clear(): void {
    this.changes++;
    this.streams.clear();
    this.#bySlot = [];
    this.#slots = undefined;
    this.#lastSlot = -1;
  }

  /**
   * A replica has got bytes that do not fit their sums. Where memory has changed they would be sent
   * again and again; what comes from the disk is verified.
   */
  distrustSlabs(): void {
    this.#slabsFrom = this.#memory.durableLsn;
  }

  #groupAt(lsn: Lsn): PublishedGroup | undefined {
    return lsn < this.#slabsFrom ? undefined : this.#memory.groupAt(lsn);
  }

  /** A stream goes on from there, once more. */
  relocate(stream: Stream, next: Sequence, lsn: Lsn): void {
    this.changes++;
    stream.next = next;
    this.cursor = Math.min(this.cursor, lsn);
  }

  /** What streams lack of what is durable; undefined where more than `most` lag. */
  lagging(most: number): WantedEntry[] | undefined {
    const wanted: WantedEntry[] = [];
    for (const { slot, next } of this.streams.values()) {
      if (next > this.#memory.durable(slot)) continue;
      if (wanted.length === most) return undefined;
      wanted.push({ slot, next });
    }
    return wanted;
  }

  /** How many entries came from segments since the last call. */
  takeReplayed(): number {
    const replayed = this.#replayed;
    this.#replayed = 0;
    return replayed;
  }

  /** Entries and bytes published and not yet taken, as far as the slabs know; capped. */
  pending(enoughEntries: number, enoughBytes: number): boolean {
    const durable = this.#memory.durableLsn;
    if (durable - this.cursor >= enoughBytes) return true;
    let entries = 0;
    for (let lsn = this.cursor; lsn < durable; ) {
      const group = this.#groupAt(lsn);
      if (!group) return true;
      entries += group.entries;
      if (entries >= enoughEntries) return true;
      lsn = group.start + group.bytes;
    }
    return false;
  }

  /** Fills the frame from the cursor on and moves it past what was taken. */
  fill(frame: FrameBuilder): Filled {
    for (;;) {
      if (this.cursor >= this.#memory.durableLsn) return 'caught-up';
      const group = this.#groupAt(this.cursor);
      const filled = group ? this.#fromSlab(frame, group) : this.#fromWindow(frame);
      if (filled !== 'go-on') return filled;
    }
  }

  // --- slabs -------------------------------------------------------------------------------

  /**
   * Copies from a slab. What was copied counts only when the generation has not changed
   * meanwhile; otherwise all of it is thrown away and the segment is read instead.
   */
  #fromSlab(frame: FrameBuilder, group: PublishedGroup): Filled | 'go-on' {
    if (frame.isMostlyFull) return 'full';
    frame.end();
    const mark = frame.mark();
    this.#movedCount = 0;
    this.#isUnsound = false;
    const copied = this.#copyRuns(frame, group);
    if (!this.#memory.isUnchanged(group.slab.index, group.generation)) {
      frame.rewind(mark);
      this.#stopped = undefined;
      return 'go-on';
    }
    if (this.#isUnsound) {
      frame.rewind(mark);
      this.#stopped = undefined;
      // What was sealed there is on the disk.
      this.#slabsFrom = group.start + group.bytes;
      return 'go-on';
    }
    frame.end();
    for (let i = 0; i < this.#movedCount; i++) this.#moved[i]!.next = this.#movedTo[i]!;
    this.cursor = copied.cursor;
    return copied.isFull ? 'full' : 'go-on';
  }

  #copyRuns(frame: FrameBuilder, group: PublishedGroup): { cursor: Lsn; isFull: boolean } {
    const { bytes, runs } = group.slab;
    const from = Math.max(0, this.cursor - group.start);
    // What joins the open batch, and lies behind each other here, is copied at once.
    let [begin, end, to] = [0, -1, 0];
    const copy = (): void => {
      if (end > begin) frame.fill(to, bytes.subarray(begin, end));
      end = -1;
    };
    for (let r = 0; r < group.runs; r++) {
      const row = r * RUN_FIELDS;
      const offset = runs[row + RUN_OFFSET]!;
      const size = runs[row + RUN_BYTES]!;
      if (offset + size <= from) continue;
      const stream = this.#bySlot[runs[row + RUN_SLOT]!];
      if (!stream) continue;
      const [first, count] = [runs[row + RUN_FIRST]!, runs[row + RUN_COUNT]!];
      const isWhole = offset >= from && first === stream.next;
      if (isWhole && frame.mayJoin(count, size) && isCurrent(stream, group, row)) {
        if (offset !== end) copy();
        frame.join(stream.slot, first);
        const at = frame.reserve(count, size);
        if (end < 0) [begin, to] = [offset, at];
        end = offset + size;
        this.#move(stream, first + count);
        continue;
      }
      copy();
      const stopped = this.#copyRun(frame, group, row, stream, Math.max(from, offset));
      if (stopped !== undefined) return { cursor: group.start + stopped, isFull: true };
    }
    copy();
    return { cursor: group.start + group.bytes, isFull: false };
  }

  /** Rows that are used again: a list that is emptied grows anew, for each group of thousands. */
  #move(stream: Stream, next: Sequence): void {
    const at = this.#movedCount++;
    if (at === this.#movedTo.length) {
      const grown = new Float64Array(2 * at);
      grown.set(this.#movedTo);
      this.#movedTo = grown;
    }
    this.#moved[at] = stream;
    this.#movedTo[at] = next;
  }

  /** @returns the offset at which the frame was full; undefined when the run is done */
  #copyRun(
    frame: FrameBuilder,
    group: PublishedGroup,
    row: number,
    stream: Stream,
    from: number,
  ): number | undefined {
    const { bytes, view, runs } = group.slab;
    const start = runs[row + RUN_OFFSET]!;
    const end = start + runs[row + RUN_BYTES]!;
    const count = runs[row + RUN_COUNT]!;
    let sequence = runs[row + RUN_FIRST]!;
    if (sequence + count <= stream.next || isBehind(stream, view, start)) return undefined;
    let at = start;
    const stopped = this.#stopped;
    if (stopped?.slot === stream.slot && stopped.lsn === this.cursor && from > start) {
      at = from;
      sequence = stopped.sequence;
    }
    // Entries before the cursor, and those that the replica has already.
    while (at < end && (at < from || sequence < stream.next)) {
      at += this.#entryBytes(view, at);
      sequence++;
    }
    // By sizes that have changed it ends anywhere: no sum would tell, and all of it be left out.
    const isThere = at < end && at + ENTRY_HEADER_BYTES <= view.byteLength;
    if (!isThere || readSequence(view, at) !== sequence) {
      this.#isUnsound = true;
      return undefined;
    }
    const valid = validBelow(stream.voided, group.start + start);
    const last = Math.min(runs[row + RUN_FIRST]! + count, valid);
    const isWhole = valid === Number.POSITIVE_INFINITY;
    while (at < end && sequence < last) {
      const inFrame = frame.roomInNewBatch;
      const parts = isWhole ? partsFrom(group.slab, row, at, inFrame) : NO_PARTS;
      const next = Math.min(end, parts.next);
      // A part that another frame has room for goes with that, whole.
      const waits = parts.isHere && !frame.isEmpty && next - at <= frame.roomOfFrame;
      const room = waits ? 0 : Math.min(inFrame, next - at);
      let to = parts.taken > 0 ? parts.to : at;
      let taken = parts.taken;
      while (parts.taken === 0 && taken < BATCH_MAX_ENTRIES && sequence + taken < last) {
        const size = this.#entryBytes(view, to);
        // A frame that holds nothing takes an entry of any size.
        if (to + size - at > room && (taken > 0 || !frame.isEmpty)) break;
        to += size;
        taken++;
      }
      if (taken === 0) {
        this.#stopped = { lsn: group.start + at, slot: stream.slot, sequence };
        return at;
      }
      const { slot, words, epoch } = stream;
      frame.begin(slot, words, epoch, sequence, isCurrent(stream, group, row));
      frame.add(bytes.subarray(at, to), taken, parts.crc);
      at = to;
      sequence += taken;
      this.#move(stream, sequence);
    }
    return undefined;
  }

  /** Bounded, for a slab may be overwritten while it is read; the generation then tells. */
  #entryBytes(view: DataView, at: number): number {
    if (at + ENTRY_HEADER_BYTES > view.byteLength) return ENTRY_HEADER_BYTES;
    return ENTRY_HEADER_BYTES + Math.min(readPayloadSize(view, at), this.#maxEntryBytes);
  }

  // --- segments ----------------------------------------------------------------------------

  #fromWindow(frame: FrameBuilder): Filled | 'go-on' {
    const durable = this.#memory.durableLsn;
    for (;;) {
      const lsn = this.#reader.resolve(this.cursor);
      if (lsn === undefined) return 'disk';
      if (lsn !== this.cursor) {
        this.cursor = lsn;
        return 'go-on';
      }
      if (lsn >= durable) return 'caught-up';
      const size = this.#reader.sizeAt(lsn);
      if (size === 0) return 'disk';
      const before = this.#replayed;
      const taken = this.#takeRun(frame, size);
      if (taken === 0) return 'full';
      this.passed = this.#replayed > before ? 0 : this.passed + taken;
      this.cursor += taken;
    }
  }

  /**
   * The entry at the cursor, and those behind it that go on with its space in one batch.
   * @returns bytes of the log that are done with; 0: the frame has no room for it
   */
  #takeRun(frame: FrameBuilder, size: number): number {
    const { bytes, view } = this.#reader;
    const offset = this.#reader.offsetOf(this.cursor);
    const stream = this.#bySlot[this.#slotOf(view, offset)];
    if (!stream) return size;
    const sequence = readSequence(view, offset);
    if (sequence !== stream.next || isBehind(stream, view, offset)) return size;
    if (isVoided(stream.voided, sequence, this.cursor)) return size;
    const { slot, words, epoch } = stream;
    const isNow = readEpoch(view, offset) === epoch;
    const continues = frame.continues(slot, sequence);
    const joins = !continues && isNow && frame.mayJoin(1, size);
    const room = continues || joins ? frame.room : frame.roomInNewBatch;
    if (size > room && !frame.isEmpty) return 0;
    if (joins) frame.join(slot, sequence);
    else if (!continues) frame.begin(slot, words, epoch, sequence, isNow);
    const most = frame.entriesLeft;
    let [taken, to] = [1, size];
    while (taken < most) {
      const more = this.#nextOf(stream, sequence + taken, this.cursor + to);
      if (more === 0 || to + more > room) break;
      to += more;
      taken++;
    }
    frame.add(bytes.subarray(offset, offset + to), taken);
    this.#replayed += taken;
    stream.next = sequence + taken;
    return to;
  }

  /** Bytes of the entry at `lsn`, where the window holds it and it goes out next; else 0. */
  #nextOf(stream: Stream, sequence: Sequence, lsn: Lsn): number {
    const size = stream.voided.length > 0 ? 0 : this.#reader.sizeAt(lsn);
    if (size === 0) return 0;
    const { view } = this.#reader;
    const offset = this.#reader.offsetOf(lsn);
    const isNext = this.#slotOf(view, offset) === stream.slot;
    if (!isNext || readSequence(view, offset) !== sequence) return 0;
    return isBehind(stream, view, offset) ? 0 : size;
  }

  /** -1 for a space that is not streamed. */
  #slotOf(view: DataView, at: number): Slot {
    const id = this.#lastId;
    if (
      this.#lastSlot >= 0 &&
      readSpaceIdWord(view, at, 0) === id[0] &&
      readSpaceIdWord(view, at, 1) === id[1] &&
      readSpaceIdWord(view, at, 2) === id[2] &&
      readSpaceIdWord(view, at, 3) === id[3]
    ) {
      return this.#lastSlot;
    }
    this.#slots ??= new Map([...this.streams.values()].map((s) => [s.id, s.slot]));
    const slot = this.#slots.get(readSpaceId(view, at));
    if (slot === undefined) return -1;
    this.#lastSlot = slot;
    this.#lastId = this.#memory.spaceId(slot);
    return slot;
  }
}

/** What of a run may go out as one batch without a look at its entries. */
interface Parts {
  readonly taken: number;
  /** Where they end. */
  readonly to: Lsn;
  /** CRC32C of them, where it is known. */
  readonly crc: number | undefined;
  /** Where the part ends in which they begin ... */
  readonly next: Lsn;
  /** ... and whether it begins there, too. */
  readonly isHere: boolean;
}

const NO_PARTS: Parts = {
  taken: 0,
  to: 0,
  crc: undefined,
  next: Number.POSITIVE_INFINITY,
  isHere: false,
};

/** As many whole parts of the run from the offset `from` on as one batch of `room` bytes takes. */
function partsFrom({ runs, marks }: Slab, row: number, from: number, room: number): Parts {
  const start = runs[row + RUN_OFFSET]!;
  const end = start + runs[row + RUN_BYTES]!;
  let mark = 0;
  while (marks[mark]! > 0 && marks[mark]! <= from) mark += MARK_FIELDS;
  const isHere = from === start || marks[mark - MARK_FIELDS] === from;
  const before = from === start ? 0 : marks[mark - MARK_FIELDS + MARK_COUNT]!;
  const next = marks[mark]! > 0 ? Math.min(end, marks[mark]!) : end;
  let [taken, to] = [0, from];
  let crc: number | undefined = 0;
  while (isHere && to < end) {
    const isMarked = marks[mark]! > 0 && marks[mark]! < end;
    const until = isMarked ? marks[mark]! : end;
    const count = (isMarked ? marks[mark + MARK_COUNT]! : runs[row + RUN_COUNT]!) - before;
    const its = isMarked ? marks[mark + MARK_CRC]! : runs[row + RUN_CRC]!;
    // Behind what was taken, unless the slab is overwritten meanwhile.
    if (until <= to || until - from > room || count > BATCH_MAX_ENTRIES) break;
    crc = crc === undefined || its === NO_CRC ? undefined : crc32cJoined(crc, its, until - to);
    [taken, to] = [count, until];
    mark += MARK_FIELDS;
  }
  return { taken, to, crc: taken > 0 ? crc : undefined, next, isHere };
}

/** All entries of the run count, and are of the epoch in which they are sent. */
function isCurrent({ epoch, voided }: Stream, { slab, start }: PublishedGroup, row: number) {
  const { view, runs } = slab;
  const [first, last] = [runs[row + RUN_OFFSET]!, runs[row + RUN_LAST]!];
  // Bounded, as above; epochs never fall within a run.
  if (Math.max(first, last) + ENTRY_HEADER_BYTES > view.byteLength) return false;
  if (readEpoch(view, first) !== epoch || readEpoch(view, last) !== epoch) return false;
  return validBelow(voided, start + first) === Number.POSITIVE_INFINITY;
}

/**
 * This node leads in a later epoch by now: what is of it goes out when it is introduced in it. A
 * header that does not fit its sum says nothing: it goes out, and the replica finds it.
 */
function isBehind(stream: Stream, view: DataView, at: number): boolean {
  if (at + ENTRY_HEADER_BYTES > view.byteLength || readEpoch(view, at) <= stream.epoch)
    return false;
  return isGoodHeader(view, at);
}
