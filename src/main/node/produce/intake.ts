/**
 * Main's end of a producer: takes what its thread has published, in one synchronous step for each
 * part, as `append` would, and answers it. It trusts the thread with nothing but its own entries.
 */
import { EngramError, failure, firstLine } from '../../../shared/errors.js';
import { ANSWERS_MAX } from '../../../shared/limits.js';
import { type Answer, AnswerRows } from '../../../shared/produce/answers.js';
import {
  Channel,
  type DraftAck,
  type NextDraft,
  RingReader,
} from '../../../shared/produce/ring.js';
import { fencedError, mayAcknowledge } from '../../lead/fencing.js';
import type { SpaceState } from '../../log/space-table.js';
import type { TakenEntries } from '../../log/write/settled.js';
import { nextTurn } from '../../runtime/turns.js';
import type { Appends } from '../space/appends.js';
import type { AckLevel } from '../space/options.js';
import type { SpaceParts } from '../space/parts.js';

export class Intake {
  readonly #parts: SpaceParts;
  readonly #state: SpaceState;
  readonly #appends: Appends;
  readonly #channel: Channel;
  readonly #ring: RingReader;
  readonly #rows: AnswerRows;
  readonly #ended: () => void;
  /** Entries that were taken, or refused. */
  #count = 0;
  /** Parts that are not answered yet, and answers that were given. */
  #open = 0;
  #answered = 0;
  #isTelling = false;
  #hasEnded = false;

  /** @param ended it takes nothing more */
  constructor(
    parts: SpaceParts,
    state: SpaceState,
    appends: Appends,
    memory: SharedArrayBuffer,
    ended: () => void,
  ) {
    this.#parts = parts;
    this.#state = state;
    this.#appends = appends;
    this.#channel = new Channel(memory);
    this.#ring = new RingReader(this.#channel, parts.config.maxEntryBytes);
    this.#rows = new AnswerRows(this.#channel.answers, this.#channel.answersAt);
    this.#ended = ended;
  }

  /** Serves its thread until it has ended. */
  async serve(): Promise<void> {
    const isDue = (): boolean => !this.#ring.isEmpty || this.#hasEnded || this.#channel.isLeaving;
    while (!this.#hasEnded) {
      if (this.#ring.isEmpty) {
        if (this.#channel.isLeaving) this.end(failure('Closed', 'append on a closed producer'));
        else await this.#channel.mainWaits(false, isDue);
        continue;
      }
      try {
        await this.#takeWaiting();
      } catch (error) {
        this.end(error instanceof EngramError ? error : failure('Closed', firstLine(error)));
      }
      // The thread may publish without end: others have their turn.
      await nextTurn();
    }
  }

  /** Nothing more is taken. What has been is on its way to the disk, and is answered. */
  end(error: EngramError): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#rows.writeEnd(this.#count, error);
    this.#channel.end();
    this.#ended();
  }

  /** What is published now. Throws where the ring holds what no producer puts. */
  async #takeWaiting(): Promise<void> {
    let { waiting } = this.#ring;
    while (!this.#hasEnded) {
      if (!this.#hasRow) {
        await this.#channel.mainWaits(true, () => this.#hasRow || this.#hasEnded);
        continue;
      }
      const next = this.#ring.next(waiting);
      if (!next) return;
      waiting = next.waiting;
      const { draft } = next;
      try {
        const ack = await this.#ready(draft);
        await this.#parts.wal.whenRoom(() => {
          const taken = this.#hasEnded ? 0 : this.#stage(draft, waiting, ack);
          waiting -= taken;
          return taken > 0 || this.#hasEnded;
        });
      } catch (error) {
        if (!(error instanceof EngramError) || error.code === 'ProtocolViolation') throw error;
        if (!this.#hasEnded) waiting = this.#refuse(draft, waiting, error);
      }
    }
  }

  /** There is a row for one more answer. */
  get #hasRow(): boolean {
    const unread = (this.#answered - this.#channel.read) >>> 0;
    return unread + this.#open < ANSWERS_MAX;
  }

  /** Resolves when entries that ask for this may be taken. Rejects as `append`. */
  async #ready({ replicas, timeoutMs }: DraftAck): Promise<Required<AckLevel> | undefined> {
    const { gate } = this.#parts;
    this.#appends.checkLeads();
    if (gate?.isShut(this.#state)) await gate.opened(this.#state, true);
    if (timeoutMs === 0) return undefined;
    const linked = this.#appends.whenLinked({ replicas, timeoutMs }, true);
    return { replicas, timeoutMs: linked ? await linked : timeoutMs };
  }

  /** @returns the bytes that were taken; 0: there is no room now */
  #stage(first: NextDraft, waiting: number, ack: Required<AckLevel> | undefined): number {
    this.#appends.checkLeads();
    const { epoch } = this.#state.facts;
    const index = this.#count;
    let [count, bytes, sequence] = [0, 0, 0];
    const settle = (error?: Error): void => {
      this.#open--;
      const isLed = mayAcknowledge(this.#state, epoch);
      const why = error ?? (isLed ? undefined : fencedError(this.#state));
      this.#answer({ index, count, sequence, epoch, error: why as EngramError | undefined });
    };
    const taken: TakenEntries = {
      leastBytes: first.bytes,
      copyTo: (slab, at, room) => {
        [count, bytes] = this.#ring.copy(first, waiting, slab, at, room);
        return count;
      },
      resolve: () => {
        if (!ack || !mayAcknowledge(this.#state, epoch)) settle();
        else this.#appends.whenFlushed(sequence + count - 1, ack).then(() => settle(), settle);
      },
      reject: settle,
    };
    sequence = this.#parts.wal.stageTaken(this.#state, taken);
    if (sequence === 0) return 0;
    this.#ring.take(bytes);
    this.#count += count;
    this.#open++;
    return bytes;
  }

  /** Of what is published: whatever asks for the same as `first`. @returns the bytes of the rest */
  #refuse(first: NextDraft, waiting: number, error: EngramError): number {
    let [left, count] = [waiting, 0];
    for (;;) {
      const next = this.#ring.next(left);
      left = next?.waiting ?? 0;
      if (next?.draft.replicas !== first.replicas) break;
      if (next.draft.timeoutMs !== first.timeoutMs) break;
      this.#ring.take(next.draft.bytes);
      left -= next.draft.bytes;
      count++;
    }
    this.#answer({ index: this.#count, count, sequence: 0, epoch: 0, error });
    this.#count += count;
    return left;
  }

  /** What one turn answers wakes the thread once. */
  #answer(answer: Answer): void {
    this.#rows.write(this.#answered, answer);
    this.#answered = (this.#answered + 1) >>> 0;
    if (this.#isTelling) return;
    this.#isTelling = true;
    process.nextTick(() => {
      this.#isTelling = false;
      this.#channel.answered = this.#answered;
      this.#channel.tellThread();
    });
  }
}
