/**
 * What has become of the entries of a producer, one row for each part of them:
 *
 *    0   8  index     f64, of the part's first entry among all that the producer has appended
 *    8   8  count     f64
 *   16   8  sequence  f64, of the first one
 *   24   8  epoch     f64
 *   32   4  bytes     u32, of the text behind; 0: they are acknowledged
 *   64      text      JSON: the code of an error, what was found, its details
 */
import { type EngramError, type ErrorCode, failure, firstLine } from '../errors.js';
import { ANSWERS_MAX } from '../limits.js';
import type { Epoch, Sequence } from '../position.js';

export const ANSWER_BYTES = 1_024;
const TEXT_AT = 64;
const TEXT_MAX = ANSWER_BYTES - TEXT_AT;
/** Of what was found, where the details do not fit beside it: three bytes a character at most. */
const FOUND_MAX = 240;

export interface Answer {
  /** Entries are numbered as they are appended, from 0. */
  readonly index: number;
  readonly count: number;
  readonly sequence: Sequence;
  readonly epoch: Epoch;
  readonly error: EngramError | undefined;
}

/** The rows; the last one is no answer, but says why it has ended. */
export class AnswerRows {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(memory: SharedArrayBuffer, at: number) {
    const length = (ANSWERS_MAX + 1) * ANSWER_BYTES;
    this.#bytes = new Uint8Array(memory, at, length);
    this.#view = new DataView(memory, at, length);
  }

  /** @param count of answers before it */
  write(count: number, answer: Answer): void {
    this.#write(count % ANSWERS_MAX, answer);
  }

  read(count: number): Answer {
    return this.#read(count % ANSWERS_MAX);
  }

  /** @param index of the first entry that is not taken any more */
  writeEnd(index: number, error: EngramError): void {
    this.#write(ANSWERS_MAX, { index, count: 0, sequence: 0, epoch: 0, error });
  }

  readEnd(): Answer {
    return this.#read(ANSWERS_MAX);
  }

  #write(row: number, { index, count, sequence, epoch, error }: Answer): void {
    const at = row * ANSWER_BYTES;
    const text = error ? textOf(error) : undefined;
    if (text) this.#bytes.set(text, at + TEXT_AT);
    this.#view.setFloat64(at, index, true);
    this.#view.setFloat64(at + 8, count, true);
    this.#view.setFloat64(at + 16, sequence, true);
    this.#view.setFloat64(at + 24, epoch, true);
    this.#view.setUint32(at + 32, text?.length ?? 0, true);
  }

  #read(row: number): Answer {
    const at = row * ANSWER_BYTES;
    const length = this.#view.getUint32(at + 32, true);
    const text = this.#bytes.slice(at + TEXT_AT, at + TEXT_AT + length);
    return {
      index: this.#view.getFloat64(at, true),
      count: this.#view.getFloat64(at + 8, true),
      sequence: this.#view.getFloat64(at + 16, true),
      epoch: this.#view.getFloat64(at + 24, true),
      error: length === 0 ? undefined : errorOf(text),
    };
  }
}

function textOf({ code, message, details }: EngramError): Uint8Array {
  const found = firstLine({ message }).slice(code.length + 2);
  const whole = Buffer.from(JSON.stringify({ code, found, details }));
  if (whole.length <= TEXT_MAX) return whole;
  return Buffer.from(JSON.stringify({ code, found: found.slice(0, FOUND_MAX), details: {} }));
}

function errorOf(text: Uint8Array): EngramError {
  const { code, found, details } = JSON.parse(Buffer.from(text).toString()) as {
    code: ErrorCode;
    found: string;
    details: Record<string, unknown>;
  };
  return failure(code, found, { details });
}
