/**
 * The batches that were sent and are not flushed yet, in the order in which they were sent: rows of
 * one ring, for there may be tens of thousands of them, each of one entry. A batch of several
 * spaces has a row for each; its bytes stand in the last one.
 */
import type { Sequence } from '../position.js';
import type { Handle } from '../wire/protocol.js';

const FIRST_ROWS = 256;
const HANDLE = 0;
const LAST = 1;
const BYTES = 2;
const SENT_MS = 3;
const FIELDS = 4;

export class Flight {
  #rows = new Float64Array(FIELDS * FIRST_ROWS);
  /** Of the oldest row; rows go round. */
  #head = 0;
  length = 0;
  /** Of all of them. */
  bytes = 0;
  /** That have not left as a whole. */
  batches = 0;

  /** @param bytes of the batch; 0: rows of it follow */
  add(handle: Handle, last: Sequence, bytes: number, sentMs: number): void {
    if (FIELDS * this.length === this.#rows.length) this.#grow();
    const rows = this.#rows;
    const at = (this.#head + FIELDS * this.length) & (rows.length - 1);
    rows[at + HANDLE] = handle;
    rows[at + LAST] = last;
    rows[at + BYTES] = bytes;
    rows[at + SENT_MS] = sentMs;
    this.length++;
    this.bytes += bytes;
    if (bytes > 0) this.batches++;
  }

  /** Of the oldest one, where there is one. */
  get handle(): Handle {
    return this.#rows[this.#head + HANDLE]!;
  }
  get last(): Sequence {
    return this.#rows[this.#head + LAST]!;
  }
  get oldestMs(): number {
    return this.#rows[this.#head + SENT_MS]!;
  }

  /** Takes out the oldest one. */
  shift(): void {
    const bytes = this.#rows[this.#head + BYTES]!;
    this.bytes -= bytes;
    if (bytes > 0) this.batches--;
    this.#head = (this.#head + FIELDS) & (this.#rows.length - 1);
    this.length--;
  }

  /** All of it is lost. */
  clear(): void {
    this.#rows = new Float64Array(FIELDS * FIRST_ROWS);
    this.#head = 0;
    this.length = 0;
    this.bytes = 0;
    this.batches = 0;
  }

  #grow(): void {
    const rows = new Float64Array(2 * this.#rows.length);
    rows.set(this.#rows.subarray(this.#head));
    rows.set(this.#rows.subarray(0, this.#head), this.#rows.length - this.#head);
    this.#rows = rows;
    this.#head = 0;
  }
}
