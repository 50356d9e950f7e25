/** The producer's end, in a thread of the host: entries into shared memory, answers out of it. */
import { types } from 'node:util';
import { type EngramError, failure, firstLine } from '../../../shared/errors.js';
import { checkUnchanged } from '../../../shared/host-input.js';
import { ANSWERS_MAX, PRODUCER_PENDING_MAX, PRODUCER_TELL_BYTES } from '../../../shared/limits.js';
import { wrong } from '../../../shared/option-checks.js';
import { type Answer, AnswerRows } from '../../../shared/produce/answers.js';
import { Channel, type DraftAck, isRing, RingWriter } from '../../../shared/produce/ring.js';
import { WaitingRoom } from '../../log/waiting-room.js';
import { type Abortable, abortable, withoutSignal } from '../../runtime/abort.js';
import { beginWait, endWait } from '../../runtime/alive.js';
import { checkPayload } from '../space/appends.js';
import { type AckLevel, type Appended, readAck } from '../space/options.js';
import type { ProducerData } from './producer.js';

export interface ProducerAppendOptions extends Abortable {
  /** Default: durable on the node. */
  readonly ack?: AckLevel;
}

/** As it stands in the ring: whole numbers of 32 bits, and no time would say that none is asked. */
function draftAck({ replicas, timeoutMs }: Required<AckLevel>): DraftAck {
  return {
    replicas: Math.min(replicas, DRAFT_REPLICAS_MAX),
    timeoutMs: Math.max(1, Math.ceil(timeoutMs)),
  };
}

type End = Pick<Answer, 'index' | 'error'>;

/** As many as no space has. */
const DRAFT_REPLICAS_MAX = 2 ** 32 - 1;

const USUAL: DraftAck = { replicas: 0, timeoutMs: 0 };

/** Who is told what has become of one entry. */
interface Pending {
  resolve(appended: Appended): void;
  reject(error: EngramError): void;
}

let attached: (given: ProducerData) => AttachedProducer;

/**
 * Takes a producer in the thread that appends: once, in one thread.
 * @param given what `space.producer()` gave, as it came in `workerData`
 * Throws Configuration.
 */
export function attachProducer(given: ProducerData): AttachedProducer {
  // By its kind, not by its constructor: that of another realm is another one.
  if (!types.isSharedArrayBuffer(given?.memory) || !isRing(given.memory)) {
    throw wrong('what attachProducer was given', given, 'what space.producer() gave');
  }
  return attached(given);
}

/** Made by `attachProducer`. */
export class AttachedProducer {
  /** The name of the space that it appends to. */
  readonly space: string;
  readonly #maxEntryBytes: number;
  readonly #channel: Channel;
  readonly #ring: RingWriter;
  readonly #rows: AnswerRows;
  readonly #waiting = new WaitingRoom();
  /** By index modulo its length. */
  readonly #pending = new Array<Pending | undefined>(PRODUCER_PENDING_MAX).fill(undefined);
  /** Entries that were put into the ring, and how many of the first ones are answered. */
  #put = 0;
  #settled = 0;
  #untold = 0;
  #isTelling = false;
  /** Of what nobody waits for, since `flushed` was asked. */
  #lost: EngramError | undefined;
  /** Why nothing more is appended. */
  #end: EngramError | undefined;
  /** Main has said so. */
  #hasEnded = false;
  #flushes: { readonly upTo: number; readonly done: () => void }[] = [];
  readonly #nobody: Pending = {
    resolve: () => undefined,
    reject: (error) => {
      this.#lost ??= error;
    },
  };

  static {
    attached = (given) => new AttachedProducer(given);
  }

  private constructor({ space, maxEntryBytes, memory }: ProducerData) {
    this.space = space;
    this.#maxEntryBytes = maxEntryBytes;
    this.#channel = new Channel(memory);
    if (this.#channel.attach()) {
      throw failure('Configuration', 'a producer that is attached already: one for each thread');
    }
    this.#ring = new RingWriter(this.#channel);
    this.#rows = new AnswerRows(this.#channel.answers, this.#channel.answersAt);
    void this.#serve();
  }

  /**
   * Appends one entry, as `Space.append` on the node does; the entries of one producer keep their
   * order. The payload is copied before this returns or, where the ring is full, before it
   * resolves. Rejects Configuration, EntryTooLarge, NotPrimary, Backpressure, DiskFull, WalFailed,
   * NotEnoughReplicas, AckTimeout, Aborted, Closed; and ProtocolViolation, where somebody else has
   * written into the producer's memory.
   */
  append(type: number, payload: Uint8Array, options?: ProducerAppendOptions): Promise<Appended> {
    if (options === undefined) return this.#append(type, payload, USUAL);
    try {
      const [signal, { ack }] = withoutSignal<ProducerAppendOptions>('append', options, ['ack']);
      const asked = ack === undefined ? USUAL : draftAck(readAck('ack', ack));
      return abortable('append', signal, () => this.#append(type, payload, asked));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  /**
   * Appends without a promise; false: the ring is full. When all is durable `flushed` tells.
   * Throws Configuration, EntryTooLarge, Closed.
   */
  tryAppend(type: number, payload: Uint8Array): boolean {
    if (this.#end) throw this.#end;
    const size = checkPayload(type, payload, this.#maxEntryBytes);
    return this.#waiting.isEmpty && this.#enter(type, payload, size, USUAL, this.#nobody);
  }

  /**
   * Resolves when all that was appended before this call is answered. Rejects with the first error
   * of a `tryAppend` since it was called last. Rejects Aborted.
   */
  async flushed(options?: Abortable): Promise<void> {
    const [signal] = withoutSignal('flushed', options, []);
    await abortable('flushed', signal, () => this.#whenSettled());
    const lost = this.#lost;
    this.#lost = undefined;
    if (lost) throw lost;
  }

  /** Waits until all is answered, then gives the producer back. Rejects as `flushed`. */
  async close(): Promise<void> {
    try {
      await this.flushed();
    } finally {
      this.#end ??= failure('Closed', 'append on a closed producer');
      this.#channel.leave();
    }
  }

  #append(type: number, payload: Uint8Array, ack: DraftAck): Promise<Appended> {
    return new Promise((resolve, reject) => {
      if (this.#end) throw this.#end;
      const size = checkPayload(type, payload, this.#maxEntryBytes);
      const pending = { resolve, reject };
      if (this.#waiting.isEmpty && this.#enter(type, payload, size, ack, pending)) return;
      beginWait();
      this.#waiting
        .enter(() => {
          if (this.#end) throw this.#end;
          checkUnchanged(payload, size);
          return this.#enter(type, payload, size, ack, pending);
        })
        .catch(reject)
        .finally(endWait);
    });
  }

  #enter(
    type: number,
    payload: Uint8Array,
    size: number,
    ack: DraftAck,
    pending: Pending,
  ): boolean {
    if (this.#put - this.#settled >= PRODUCER_PENDING_MAX) return false;
    const bytes = this.#ring.put(type, payload, size, ack);
    if (bytes === 0) {
      this.#tell();
      return false;
    }
    if (this.#put === this.#settled) beginWait();
    this.#pending[this.#put++ % PRODUCER_PENDING_MAX] = pending;
    this.#untold += bytes;
    if (this.#untold >= PRODUCER_TELL_BYTES) this.#tell();
    else if (!this.#isTelling) {
      // What one turn appends wakes main once.
      this.#isTelling = true;
      process.nextTick(() => {
        this.#isTelling = false;
        this.#tell();
      });
    }
    return true;
  }

  #tell(): void {
    this.#untold = 0;
    this.#channel.tellMain();
  }

  // --- answers -----------------------------------------------------------------------------

  async #serve(): Promise<void> {
    const isDue = (): boolean =>
      this.#channel.answered !== this.#channel.read || (this.#channel.hasEnded && !this.#hasEnded);
    try {
      while (!this.#hasEnded || this.#settled < this.#put) {
        this.#readAnswers();
        if (this.#channel.hasEnded && !this.#hasEnded) this.#over(this.#rows.readEnd());
        else await this.#channel.threadWaits(isDue);
      }
    } catch (cause) {
      // Whoever writes into this memory besides us: it is good for nothing any more.
      const found = `the answers to a producer are none: ${firstLine(cause)}`;
      const error = failure('ProtocolViolation', found, { cause });
      this.#over({ index: 0, error });
    }
  }

  #readAnswers(): void {
    const { answered } = this.#channel;
    let { read } = this.#channel;
    if (read === answered) return;
    const unread = (answered - read) >>> 0;
    if (unread > ANSWERS_MAX) throw new Error(`${unread} rows`);
    for (; read !== answered; read = (read + 1) >>> 0) this.#answer(this.#rows.read(read));
    this.#channel.read = read;
    this.#channel.tellRead();
    this.#moveOn();
    this.#waiting.drain();
  }

  #answer({ index, count, sequence, epoch, error }: Answer): void {
    const end = Math.min(index + count, this.#put);
    for (let i = Math.max(index, this.#settled); i < end; i++) {
      const at = i % PRODUCER_PENDING_MAX;
      const pending = this.#pending[at];
      this.#pending[at] = undefined;
      if (error) pending?.reject(error);
      else pending?.resolve({ sequence: sequence + i - index, epoch });
    }
  }

  /** Answers come in any order: what is answered of all up to an entry counts. */
  #moveOn(): void {
    const before = this.#settled;
    while (this.#settled < this.#put) {
      if (this.#pending[this.#settled % PRODUCER_PENDING_MAX]) break;
      this.#settled++;
    }
    if (before < this.#settled && this.#settled === this.#put) endWait();
    if (this.#flushes.length === 0) return;
    const over = this.#flushes.filter(({ upTo }) => upTo <= this.#settled);
    this.#flushes = this.#flushes.filter(({ upTo }) => upTo > this.#settled);
    for (const { done } of over) done();
  }

  /** Main takes nothing more: what it has not taken is not appended. */
  #over({ index, error = failure('Closed', 'append on a closed node') }: End): void {
    this.#hasEnded = true;
    this.#end ??= error;
    const count = this.#put - index;
    this.#answer({ index, count, sequence: 0, epoch: 0, error });
    this.#moveOn();
    this.#waiting.rejectAll(error);
  }

  #whenSettled(): Promise<void> {
    if (this.#settled === this.#put) return Promise.resolve();
    return new Promise((done) => this.#flushes.push({ upTo: this.#put, done }));
  }
}
