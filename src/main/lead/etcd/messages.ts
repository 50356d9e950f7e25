/**
 * Protobuf, as far as etcd's messages need it: fields are integers (kind 0) or bytes with their
 * length in front (kind 2), which a text and a message within a message are, too. What a newer etcd
 * says besides is skipped.
 */

const INTEGER = 0;
const LENGTH = 2;
/** Of kinds that etcd does not use: their bytes. */
const FIXED_BYTES: Readonly<Record<number, number>> = { 1: 8, 5: 4 };
const VARINT_MAX_BYTES = 10;
/** So many bytes of seven bits fit a JS number. */
const EXACT_BYTES = 7;

/** One that is made. */
export class Message {
  readonly #parts: Uint8Array[] = [];

  /** Up to 64 bits; 0 is written, too: in a choice it says which. */
  int(field: number, value: number | bigint): this {
    this.#parts.push(varint(field * 8 + INTEGER), varint(value));
    return this;
  }

  bytes(field: number, value: string | Uint8Array | Message): this {
    const bytes = value instanceof Message ? value.encoded() : Buffer.from(value as string);
    this.#parts.push(varint(field * 8 + LENGTH), varint(bytes.length), bytes);
    return this;
  }

  encoded(): Uint8Array {
    return Buffer.concat(this.#parts);
  }
}

function varint(value: number | bigint): Uint8Array {
  const bytes: number[] = [];
  // As a rule; 64 bits cost ten times as much.
  if (typeof value === 'number' && value >= 0) {
    let rest = value;
    for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128);
    bytes.push(rest);
    return Uint8Array.from(bytes);
  }
  let rest = BigInt.asUintN(64, BigInt(value));
  do {
    const low = Number(rest & 127n);
    rest >>= 7n;
    bytes.push(rest > 0n ? low | 128 : low);
  } while (rest > 0n);
  return Uint8Array.from(bytes);
}

/** One that has come. What is not in it is 0, empty, or none. */
export class Fields {
  readonly #values = new Map<number, (number | bigint | Uint8Array)[]>();

  /** Throws Error for what is no message. */
  constructor(bytes: Uint8Array) {
    const at = { bytes, next: 0 };
    while (at.next < bytes.length) {
      const tag = Number(readVarint(at));
      const [field, kind] = [Math.floor(tag / 8), tag % 8];
      if (kind === INTEGER) this.#add(field, readVarint(at));
      else if (kind === LENGTH) this.#add(field, readBytes(at, Number(readVarint(at))));
      else if (FIXED_BYTES[kind] !== undefined) readBytes(at, FIXED_BYTES[kind]);
      else throw new Error(`no message of etcd: kind ${kind}`);
    }
  }

  #add(field: number, value: number | bigint | Uint8Array): void {
    const known = this.#values.get(field);
    if (known) known.push(value);
    else this.#values.set(field, [value]);
  }

  big(field: number): bigint {
    const value = this.#values.get(field)?.at(-1);
    return value === undefined || value instanceof Uint8Array
      ? 0n
      : BigInt.asIntN(64, BigInt(value));
  }

  int(field: number): number {
    const value = this.#values.get(field)?.at(-1);
    return typeof value === 'number' ? value : Number(this.big(field));
  }

  text(field: number): string {
    const value = this.#values.get(field)?.at(-1);
    return value instanceof Uint8Array ? Buffer.from(value).toString('utf8') : '';
  }

  /** Messages within it, in order. */
  all(field: number): Fields[] {
    const values = this.#values.get(field) ?? [];
    return values.map((value) => new Fields(value instanceof Uint8Array ? value : NOTHING));
  }

  /** The last of these; an empty one where there is none. */
  message(field: number): Fields {
    return this.all(field).at(-1) ?? new Fields(NOTHING);
  }
}

const NOTHING = new Uint8Array();

interface Cursor {
  readonly bytes: Uint8Array;
  next: number;
}

/** A bigint only where a number does not hold it. */
function readVarint(at: Cursor): number | bigint {
  let low = 0;
  let high = 0n;
  for (let n = 0; n < VARINT_MAX_BYTES; n++) {
    const byte = at.bytes[at.next++];
    if (byte === undefined) break;
    if (n < EXACT_BYTES) low += (byte & 127) * 2 ** (7 * n);
    else high += BigInt(byte & 127) << BigInt(7 * n);
    if (byte < 128) return n < EXACT_BYTES ? low : BigInt(low) + high;
  }
  throw new Error('no message of etcd: it ends within a number');
}

function readBytes(at: Cursor, length: number): Uint8Array {
  const end = at.next + length;
  if (end > at.bytes.length) throw new Error(`no message of etcd: ${length} bytes are announced`);
  const bytes = at.bytes.subarray(at.next, end);
  at.next = end;
  return bytes;
}
