/**
 * The iterator that a host holds: entries one by one out of pieces. It can be left at any moment,
 * also while a `next()` waits, and none outlives its node: the reading behind it, with its file and
 * its pinned segment, is known to the node, not to the host alone. What a rewind has taken back is
 * not handed out any more, also of a piece that was read before it (FAULTS row 110).
 */
import type { Entry } from '../../shared/log/entry.js';
import type { Cursor, LogTruth } from '../../shared/log/truth.js';
import { abortedError } from '../runtime/abort.js';
import { beginWait, endWait } from '../runtime/alive.js';

/** Entries, one after the other: leaving the loop, `return()` or `await using` ends the reading. */
export interface Entries<E> extends AsyncGenerator<E, void, undefined>, AsyncDisposable {}

type Pieces = AsyncGenerator<Entry[], void, undefined>;
type Result = IteratorResult<Entry, void>;

/** What is read for a host: of a space, and where it stands there. */
export interface Reads {
  readonly truth: LogTruth;
  /** As of the piece that was given last. */
  readonly at: Cursor;
  /** Gives the pieces; ends soon when its signal is aborted. */
  make(signal: AbortSignal): Pieces;
}

const DONE: Result = { done: true, value: undefined };

/** What reads for a host's iterator. */
class Reading {
  readonly stop = new AbortController();
  readonly pieces: Pieces;
  readonly isEndless: boolean;
  readonly #reads: Reads;
  readonly #readings: Set<Reading>;
  /** Told when it is ended by somebody else than its host. */
  ended: ((error: Error | undefined) => void) | undefined;
  error: Error | undefined;
  /** Told when it is over, however. */
  detach: (() => void) | undefined;
  #over: Promise<void> | undefined;

  constructor(reads: Reads, isEndless: boolean, readings: Set<Reading>) {
    this.#reads = reads;
    this.pieces = reads.make(this.stop.signal);
    this.isEndless = isEndless;
    this.#readings = readings;
  }

  get isOver(): boolean {
    return this.#over !== undefined;
  }

  /**
   * Whether this entry of the last piece, which nobody has been given, is still true. Where it is
   * not, what is read goes on there: in the true log, or with Rewound for those before it.
   */
  isTrue({ sequence }: Entry): boolean {
    const { truth, at } = this.#reads;
    if (truth.mark === at.mark || sequence < truth.voidSince(at.mark)) return true;
    at.next = sequence;
    return false;
  }

  begin(): void {
    if (!this.isOver) this.#readings.add(this);
  }

  /** Resolves when it holds nothing any more: no file, no segment. */
  end(error?: Error): Promise<void> {
    if (this.#over) return this.#over;
    this.error = error;
    const forget = (): void => void this.#readings.delete(this);
    this.#over = this.pieces.return().then(forget, forget);
    this.stop.abort();
    this.detach?.();
    this.ended?.(error);
    return this.#over;
  }
}

/** All iterators of a node that have begun and not ended. */
export class EntryStreams {
  readonly #readings = new Set<Reading>();
  /** Hosts forget iterators without a word: what is read for one ends with it. */
  readonly #forgotten = new FinalizationRegistry<Reading>((reading) => void reading.end());
  #closed: Error | undefined;

  /**
   * @param isEndless ends with the node without an error: nobody takes it for all that there is
   */
  open(reads: Reads, isEndless: boolean, signal?: AbortSignal): Entries<Entry> {
    const reading = new Reading(reads, isEndless, this.#readings);
    const stream = new EntryStream(reading, () => this.#closed, signal);
    this.#forgotten.register(stream, reading);
    return stream;
  }

  /** Ends them all; what waits settles at once. Resolves when no file of theirs is open. */
  async close(error: Error): Promise<void> {
    this.#closed ??= error;
    const all = [...this.#readings];
    await Promise.all(all.map((reading) => reading.end(reading.isEndless ? undefined : error)));
  }
}

class EntryStream implements Entries<Entry> {
  readonly #reading: Reading;
  readonly #closed: () => Error | undefined;
  readonly #signal: AbortSignal | undefined;
  #piece: Entry[] = [];
  #at = 0;
  /** The last of the calls that wait; they are answered in order. */
  #turn: Promise<Result> | undefined;
  #hasBegun = false;

  constructor(reading: Reading, closed: () => Error | undefined, signal: AbortSignal | undefined) {
    this.#reading = reading;
    this.#closed = closed;
    this.#signal = signal;
  }

  next(): Promise<Result> {
    if (!this.#turn) {
      const entry = this.#piece[this.#at];
      const isReady = entry && !this.#signal?.aborted && !this.#reading.isOver;
      if (isReady && this.#reading.isTrue(entry)) {
        this.#at++;
        return Promise.resolve({ done: false, value: entry });
      }
    }
    const turn = this.#turn
      ? this.#turn.then(
          () => this.#take(),
          () => this.#take(),
        )
      : this.#take();
    this.#turn = turn;
    const over = (): void => {
      if (this.#turn === turn) this.#turn = undefined;
    };
    turn.then(over, over);
    return turn;
  }

  async #take(): Promise<Result> {
    const reading = this.#reading;
    if (!this.#hasBegun) this.#begin();
    if (this.#signal?.aborted) this.#abort();
    if (reading.isOver) {
      this.#piece = [];
      const { error } = reading;
      // Told once, as a generator does.
      reading.error = undefined;
      if (error) throw error;
      return DONE;
    }
    for (;;) {
      const entry = this.#piece[this.#at++];
      if (entry && reading.isTrue(entry)) return { done: false, value: entry };
      this.#piece = [];
      const piece = await this.#pull();
      // A piece is never empty.
      if (!piece || reading.isOver) {
        await reading.end();
        return DONE;
      }
      this.#piece = piece;
      this.#at = 0;
    }
  }

  #begin(): void {
    this.#hasBegun = true;
    const reading = this.#reading;
    const closed = this.#closed();
    if (closed) void reading.end(closed);
    reading.begin();
    if (!this.#signal || reading.isOver) return;
    // One of its own: a host's signal may have any number of listeners, and warns of more than ten.
    const signal = AbortSignal.any([this.#signal]);
    const end = (): void => this.#abort();
    signal.addEventListener('abort', end);
    reading.detach = () => signal.removeEventListener('abort', end);
  }

  /** Nobody takes what has been read so far for all that there is. */
  #abort(): void {
    const reading = this.#reading;
    if (reading.isOver) return;
    void reading.end(reading.isEndless ? undefined : abortedError('read', this.#signal!));
  }

  /** The next piece; undefined at the end, or when the reading is ended meanwhile. */
  async #pull(): Promise<Entry[] | undefined> {
    const reading = this.#reading;
    beginWait();
    try {
      return await new Promise((resolve, reject) => {
        reading.ended = (error) => {
          reading.error = undefined;
          if (error) reject(error);
          else resolve(undefined);
        };
        reading.pieces.next().then(({ done, value }) => resolve(done ? undefined : value), reject);
      });
    } catch (error) {
      await reading.end();
      throw error;
    } finally {
      reading.ended = undefined;
      endWait();
    }
  }

  async return(): Promise<Result> {
    this.#hasBegun = true;
    await this.#reading.end();
    return DONE;
  }

  async throw(error: unknown): Promise<Result> {
    await this.return();
    throw error;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  [Symbol.asyncIterator](): Entries<Entry> {
    return this;
  }
}
