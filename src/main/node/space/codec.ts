/** What a host puts into entries and takes out of them, where it would not handle bytes itself. */
import { isUtf8 } from 'node:buffer';
import { failure } from '../../../shared/errors.js';
import { messageOf, viewOf } from '../../../shared/host-input.js';
import { type Entry, isOfLibrary } from '../../../shared/log/entry.js';
import { wrong } from '../../../shared/option-checks.js';
import type { Epoch, Sequence } from '../../../shared/position.js';

/** Both calls are synchronous, and get the type of the entry. */
export interface Codec<T> {
  /** The bytes are copied at once: the next value may be written into the same memory. */
  encode(value: T, type: number): Uint8Array;
  /** The payload is a view of memory that is never changed: it may be kept. */
  decode(payload: Uint8Array, type: number): T;
}

/** How a host says that the entries of a space are values of its own. */
export interface WithCodec<T> {
  readonly codec: Codec<T>;
}

/** An entry whose payload a codec has decoded. */
export interface TypedEntry<T> {
  readonly sequence: Sequence;
  readonly epoch: Epoch;
  readonly type: number;
  /** Nanoseconds since the Unix epoch. */
  readonly timestamp: bigint;
  readonly value: T;
}

/** JSON in UTF-8. What JSON has no word for (undefined, functions, a bigint) is refused. */
export function jsonCodec<T>(): Codec<T> {
  return {
    encode: (value) => Buffer.from(JSON.stringify(value)),
    decode: (payload) => {
      // What is no UTF-8 would be read with other characters in its place.
      if (!isUtf8(payload)) throw new Error('its bytes are no UTF-8');
      const { buffer, byteOffset, length } = payload;
      return JSON.parse(Buffer.from(buffer, byteOffset, length).toString()) as T;
    },
  };
}

/** What `msgpackCodec` asks of the package msgpackr: its module, or a `Packr` of the host's. */
export interface Msgpackr {
  pack(value: unknown): Uint8Array;
  unpack(bytes: Uint8Array): unknown;
}

/** MessagePack, by the optional package msgpackr: `msgpackCodec(new Packr({ ... }))`. */
export function msgpackCodec<T>(packr: Msgpackr): Codec<T> {
  if (typeof packr?.pack !== 'function' || typeof packr.unpack !== 'function') {
    throw wrong('what msgpackCodec was given', packr, 'a Packr of msgpackr: new Packr()');
  }
  return {
    encode: (value) => packr.pack(value),
    decode: (payload) => packr.unpack(payload) as T,
  };
}

/** Throws Configuration for what is no codec. */
export function checkCodec<T>(given: Codec<T>): Codec<T> {
  if (typeof given?.encode === 'function' && typeof given.decode === 'function') return given;
  throw wrong('codec', given, '{ encode, decode }: jsonCodec()');
}

/** Throws CodecFailed, Configuration. */
export function encoded<T>(codec: Codec<T>, value: T, type: number): Uint8Array {
  let bytes: Uint8Array;
  try {
    bytes = codec.encode(value, type);
  } catch (cause) {
    const found = `a value of type ${type} was not encoded: ${messageOf(cause)}`;
    throw failure('CodecFailed', found, { cause, details: { type } });
  }
  // The next value may be written where this one was, before this one has found room.
  return Buffer.from(viewOf(bytes));
}

/**
 * What an entry holds, for an `apply` callback and wherever else entries come as bytes; undefined
 * for what the library writes into a space (types 5 and 7). Throws CodecFailed.
 */
export function decodeEntry<T>(codec: Codec<T>, entry: Entry): TypedEntry<T> | undefined {
  const { sequence, epoch, type, timestamp, payload } = entry;
  if (isOfLibrary(type)) return undefined;
  try {
    return { sequence, epoch, type, timestamp, value: codec.decode(payload, type) };
  } catch (cause) {
    const found = `entry ${sequence}, of type ${type}, was not decoded: ${messageOf(cause)}`;
    throw failure('CodecFailed', found, { cause, details: { sequence, epoch, type } });
  }
}
