/**
 * The memory through which one thread of the host hands entries to the main thread: words, answers
 * and a ring of drafts, an entry's header and payload each, back to back as in the log. No draft
 * wraps: where one does not fit before the ring's end, type 0 stands there, or less than a header.
 *
 * One writer for each word:
 *   ATTACHED, LEAVING, PUBLISHED, READ and the ring: the producer's thread
 *   TAKEN, ANSWERED, ENDED and the answers: main
 *   MAIN_WAITS, THREAD_WAITS: who waits sets it, who wakes it sets it back to 0
 *
 * Main believes nothing that stands in the ring: what it takes it copies first, judges the copy,
 * and only then takes sequences. A thread that dies leaves bytes that were never published.
 */
import { copyBytes } from '../bytes.js';
import { failure } from '../errors.js';
import { copyPayload } from '../host-input.js';
import { ANSWERS_MAX, ENTRY_HEADER_BYTES, PART_MAX_ENTRIES, RING_MIN_BYTES } from '../limits.js';
import {
  draftHeader,
  isAppendableType,
  readDraftReplicas,
  readDraftTimeoutMs,
  readPayloadSize,
  readType,
} from '../log/entry.js';
import type { Slab } from '../memory/slab.js';
import { waitWord } from '../memory/wait-word.js';
import { ANSWER_BYTES } from './answers.js';

const LINE = 16;
const PUBLISHED = 0;
const TAKEN = LINE;
const MAIN_WAITS = 2 * LINE;
const THREAD_WAITS = 3 * LINE;
const ANSWERED = 4 * LINE;
const READ = 5 * LINE;
const ATTACHED = 6 * LINE;
const LEAVING = 7 * LINE;
const ENDED = 8 * LINE;
const WORD_BYTES = 9 * LINE * 4;
/** The last row says why it has ended. */
const ANSWERS_BYTES = (ANSWERS_MAX + 1) * ANSWER_BYTES;

/** What main waits for. */
const DRAFTS = 1;
const ROWS = 2;

/** The least ring, a power of two, that holds `bytes` and two of the largest entries. */
export function ringBytesFor(bytes: number, maxEntryBytes: number): number {
  const least = Math.max(bytes, 2 * (maxEntryBytes + ENTRY_HEADER_BYTES));
  return 2 ** Math.ceil(Math.log2(least));
}

export function allocateRing(ringBytes: number): SharedArrayBuffer {
  return new SharedArrayBuffer(WORD_BYTES + ANSWERS_BYTES + ringBytes);
}

/** Whether it has a size that only `allocateRing` gives. */
export function isRing({ byteLength }: SharedArrayBuffer): boolean {
  const ringBytes = byteLength - WORD_BYTES - ANSWERS_BYTES;
  return ringBytes >= RING_MIN_BYTES && Number.isInteger(Math.log2(ringBytes));
}

/** What both ends know of their memory. */
export class Channel {
  readonly #words: Int32Array;
  readonly answers: SharedArrayBuffer;
  readonly answersAt = WORD_BYTES;
  readonly ring: Uint8Array;
  readonly view: DataView;

  constructor(memory: SharedArrayBuffer) {
    this.#words = new Int32Array(memory, 0, WORD_BYTES / 4);
    this.answers = memory;
    this.ring = new Uint8Array(memory, WORD_BYTES + ANSWERS_BYTES);
    this.view = new DataView(memory, WORD_BYTES + ANSWERS_BYTES);
  }

  /** Positions count bytes, modulo 2^32. */
  get published(): number {
    return Atomics.load(this.#words, PUBLISHED) >>> 0;
  }
  set published(position: number) {
    Atomics.store(this.#words, PUBLISHED, position | 0);
  }

  get taken(): number {
    return Atomics.load(this.#words, TAKEN) >>> 0;
  }
  set taken(position: number) {
    Atomics.store(this.#words, TAKEN, position | 0);
  }

  /** Answers written, and read, modulo 2^32. */
  get answered(): number {
    return Atomics.load(this.#words, ANSWERED) >>> 0;
  }
  set answered(count: number) {
    Atomics.store(this.#words, ANSWERED, count | 0);
  }

  get read(): number {
    return Atomics.load(this.#words, READ) >>> 0;
  }
  set read(count: number) {
    Atomics.store(this.#words, READ, count | 0);
  }

  /** @returns whether another thread has it already */
  attach(): boolean {
    return Atomics.exchange(this.#words, ATTACHED, 1) === 1;
  }

  get isLeaving(): boolean {
    return Atomics.load(this.#words, LEAVING) === 1;
  }

  get hasEnded(): boolean {
    return Atomics.load(this.#words, ENDED) === 1;
  }

  /** The producer's thread appends nothing more. */
  leave(): void {
    Atomics.store(this.#words, LEAVING, 1);
    this.tellMain();
  }

  /** Main takes nothing more; why, says the last row of the answers. */
  end(): void {
    Atomics.store(this.#words, ENDED, 1);
    this.tellThread();
    // What waits for a word lives until the word is notified: a thread may have ended before that.
    Atomics.store(this.#words, MAIN_WAITS, 0);
    Atomics.notify(this.#words, MAIN_WAITS);
  }

  tellMain(): void {
    this.#tell(MAIN_WAITS, DRAFTS);
  }

  /** Rows of answers have become free. */
  tellRead(): void {
    this.#tell(MAIN_WAITS, ROWS);
  }

  tellThread(): void {
    this.#tell(THREAD_WAITS, 1);
  }

  /** Resolves when `isDue` may be true: it is asked again after the word says that main waits. */
  async mainWaits(isForRows: boolean, isDue: () => boolean): Promise<void> {
    await this.#wait(MAIN_WAITS, isForRows ? ROWS : DRAFTS, isDue);
  }

  async threadWaits(isDue: () => boolean): Promise<void> {
    await this.#wait(THREAD_WAITS, 1, isDue);
  }

  #tell(word: number, waitsFor: number): void {
    if (Atomics.load(this.#words, word) !== waitsFor) return;
    if (Atomics.compareExchange(this.#words, word, waitsFor, 0) !== waitsFor) return;
    Atomics.notify(this.#words, word);
  }

  async #wait(word: number, waitsFor: number, isDue: () => boolean): Promise<void> {
    Atomics.store(this.#words, word, waitsFor);
    if (!isDue()) await waitWord(this.#words, word, waitsFor);
    Atomics.store(this.#words, word, 0);
  }
}

/** The producer's end of the ring. */
export class RingWriter {
  readonly #channel: Channel;
  #published: number;
  #taken: number;

  constructor(channel: Channel) {
    this.#channel = channel;
    this.#published = channel.published;
    this.#taken = channel.taken;
  }

  /**
   * Copies an entry into the ring and publishes it. Throws Configuration where the payload cannot
   * be copied; then nothing has happened.
   * @returns the bytes that it takes; 0: there is no room now
   */
  put(type: number, payload: Uint8Array, size: number, ack: DraftAck): number {
    const { ring, view } = this.#channel;
    const bytes = ENTRY_HEADER_BYTES + size;
    const at = this.#published & (ring.length - 1);
    const left = ring.length - at;
    const skipped = bytes > left ? left : 0;
    if (!this.#hasRoom(skipped + bytes)) return 0;
    const start = skipped === 0 ? at : 0;
    copyPayload(ring, start + ENTRY_HEADER_BYTES, payload, size);
    if (skipped >= ENTRY_HEADER_BYTES) draftHeader(view, at, 0, 0, 0, 0);
    draftHeader(view, start, type, size, ack.replicas, ack.timeoutMs);
    this.#published = (this.#published + skipped + bytes) >>> 0;
    this.#channel.published = this.#published;
    return bytes;
  }

  #hasRoom(bytes: number): boolean {
    const { length } = this.#channel.ring;
    if (((this.#published - this.#taken) >>> 0) + bytes <= length) return true;
    this.#taken = this.#channel.taken;
    return ((this.#published - this.#taken) >>> 0) + bytes <= length;
  }
}

/** What a producer asks for; `timeoutMs` 0: the usual acknowledgement. */
export interface DraftAck {
  readonly replicas: number;
  readonly timeoutMs: number;
}

/** The next draft, as far as it was looked at where it may still change. */
export interface NextDraft extends DraftAck {
  readonly bytes: number;
}

/** Main's end of the ring. What is wrong there throws ProtocolViolation. */
export class RingReader {
  readonly #channel: Channel;
  readonly #maxEntryBytes: number;
  #taken: number;

  constructor(channel: Channel, maxEntryBytes: number) {
    this.#channel = channel;
    this.#maxEntryBytes = maxEntryBytes;
    this.#taken = channel.taken;
  }

  get isEmpty(): boolean {
    return this.#channel.published === this.#taken;
  }

  /** Bytes that are published now. */
  get waiting(): number {
    const waiting = (this.#channel.published - this.#taken) >>> 0;
    if (waiting > this.#channel.ring.length) throw scribbled(`${waiting} bytes published`);
    return waiting;
  }

  /** The next of `waiting` bytes; undefined: nothing is left of them. */
  next(waiting: number): { readonly draft: NextDraft; readonly waiting: number } | undefined {
    if (waiting === 0) return undefined;
    const skipped = this.#skipped();
    const left = waiting - skipped;
    // Nothing is skipped but for an entry behind it.
    if (left <= 0) throw scribbled(`the ring's end, ${skipped} of ${waiting} bytes on`);
    if (skipped > 0) this.take(skipped);
    const { view } = this.#channel;
    const at = this.#at;
    const size = readPayloadSize(view, at);
    const bytes = ENTRY_HEADER_BYTES + size;
    if (bytes > Math.min(left, this.#toEnd) || size > this.#maxEntryBytes) {
      throw scribbled(`a payload of ${size} bytes among ${left}`);
    }
    const [replicas, timeoutMs] = [readDraftReplicas(view, at), readDraftTimeoutMs(view, at)];
    return { draft: { bytes, replicas, timeoutMs }, waiting: left };
  }

  /**
   * Copies drafts that ask for the same as `first`, as many as fit into `room` bytes of a slab,
   * and judges the copies.
   * @returns how many, and their bytes
   */
  copy(first: NextDraft, waiting: number, slab: Slab, to: number, room: number): [number, number] {
    const most = Math.min(waiting, this.#toEnd, room);
    const at = this.#at;
    let [count, bytes, copied] = [0, 0, 0];
    // By twice as much each time: of what is not of this part not all is copied in vain.
    const copyUpTo = (end: number): void => {
      if (end <= copied) return;
      const next = Math.min(most, Math.max(end, 2 * copied));
      copyBytes(slab.bytes, to + copied, this.#channel.ring.subarray(at + copied, at + next));
      copied = next;
    };
    while (bytes + ENTRY_HEADER_BYTES <= most && count < PART_MAX_ENTRIES) {
      copyUpTo(bytes + ENTRY_HEADER_BYTES);
      const next = this.#judge(slab.view, to + bytes, most - bytes, first);
      if (next === 0) break;
      copyUpTo(bytes + next);
      bytes += next;
      count++;
    }
    if (count === 0) throw scribbled('an entry that changed while it was taken');
    return [count, bytes];
  }

  /** @returns the bytes of the draft; 0: it is not of this part */
  #judge(view: DataView, offset: number, left: number, first: NextDraft): number {
    const type = readType(view, offset);
    const size = readPayloadSize(view, offset);
    if (type === 0 || ENTRY_HEADER_BYTES + size > left) return 0;
    if (!isAppendableType(type) || size > this.#maxEntryBytes) {
      throw scribbled(`an entry of type ${type} with ${size} bytes`);
    }
    if (readDraftReplicas(view, offset) !== first.replicas) return 0;
    if (readDraftTimeoutMs(view, offset) !== first.timeoutMs) return 0;
    return ENTRY_HEADER_BYTES + size;
  }

  /** So many bytes have been taken. */
  take(bytes: number): void {
    this.#taken = (this.#taken + bytes) >>> 0;
    this.#channel.taken = this.#taken;
  }

  get #at(): number {
    return this.#taken & (this.#channel.ring.length - 1);
  }

  get #toEnd(): number {
    return this.#channel.ring.length - this.#at;
  }

  /** Bytes before the ring's end in which no draft stands. */
  #skipped(): number {
    const left = this.#toEnd;
    if (left === this.#channel.ring.length) return 0;
    if (left >= ENTRY_HEADER_BYTES && readType(this.#channel.view, this.#at) !== 0) return 0;
    return left;
  }
}

function scribbled(found: string): Error {
  return failure(
    'ProtocolViolation',
    `the ring of a producer holds what no producer puts: ${found}`,
  );
}
