/** A space whose entries hold values of the host's: a codec stands between them and the bytes. */

import { readGiven, readList } from '../../../shared/host-input.js';
import type { Entry } from '../../../shared/log/entry.js';
import { wrong } from '../../../shared/option-checks.js';
import type { Sequence } from '../../../shared/position.js';
import type { Entries } from '../../read/entry-stream.js';
import type { Space } from '../space.js';
import { type Codec, decodeEntry, encoded, type TypedEntry } from './codec.js';
import type { Appended, AppendedBatch, AppendOptions } from './options.js';
import { FROM, RANGE, type ReadRange, type SubscribeOptions } from './readings.js';

/** Whether the library's own entries (types 5 and 7) come as well: as they are, with a payload. */
export interface LibraryEntries {
  readonly library: true;
}

/** Made by `openSpace` and `space` of a node, with `{ codec }`. */
export class TypedSpace<T> {
  /** The same space without the codec, for all that has nothing to do with what entries hold. */
  readonly bytes: Space;
  readonly #codec: Codec<T>;

  constructor(bytes: Space, codec: Codec<T>) {
    this.bytes = bytes;
    this.#codec = codec;
  }

  get name(): string {
    return this.bytes.name;
  }

  /** `Space.append` of a value. Rejects CodecFailed besides. */
  async append(type: number, value: T, options?: AppendOptions): Promise<Appended> {
    return await this.bytes.append(type, encoded(this.#codec, value, type), options);
  }

  /** `Space.appendBatch` of values, all encoded at the call. Rejects CodecFailed besides. */
  async appendBatch(
    type: number,
    values: readonly T[],
    options?: AppendOptions,
  ): Promise<AppendedBatch> {
    const list = readList('appendBatch', values, () => undefined);
    const payloads = list.map((value) => encoded(this.#codec, value, type));
    return await this.bytes.appendBatch(type, payloads, options);
  }

  /** `Space.tryAppend` of a value. Throws CodecFailed besides. */
  tryAppend(type: number, value: T, options?: undefined): Sequence | undefined {
    return this.bytes.tryAppend(type, encoded(this.#codec, value, type), options);
  }

  /**
   * `Space.read`, decoded. Throws CodecFailed at an entry that the codec does not take: a new read
   * behind it goes on.
   */
  read(range?: ReadRange): Entries<TypedEntry<T>>;
  read(range: ReadRange & LibraryEntries): Entries<TypedEntry<T> | Entry>;
  read(range?: ReadRange & Partial<LibraryEntries>): Entries<TypedEntry<T> | Entry> {
    return this.#decoded('read', range, RANGE, (rest) => this.bytes.read(rest));
  }

  /** `Space.subscribe`, decoded as by `read`. */
  subscribe(options?: SubscribeOptions): Entries<TypedEntry<T>>;
  subscribe(options: SubscribeOptions & LibraryEntries): Entries<TypedEntry<T> | Entry>;
  subscribe(options?: SubscribeOptions & Partial<LibraryEntries>): Entries<TypedEntry<T> | Entry> {
    return this.#decoded('subscribe', options, FROM, (rest) => this.bytes.subscribe(rest));
  }

  /** What is wrong comes with the first entry that is asked for, as of a plain reading. */
  #decoded<R extends object>(
    what: string,
    range: R | undefined,
    known: readonly (keyof R & string)[],
    open: (range: R | undefined) => Entries<Entry>,
  ): Entries<TypedEntry<T> | Entry> {
    try {
      const given = readGiven<R & { library: unknown }>(what, range, [...known, 'library']);
      const { library = false, ...rest } = given;
      if (typeof library !== 'boolean') throw wrong(`${what}: library`, library, 'true or false');
      return new DecodedEntries(open(rest as unknown as R), this.#codec, library);
    } catch (error) {
      return new DecodedEntries(open(undefined), this.#codec, false, error as Error);
    }
  }
}

/** It holds nothing that `from` does not: whoever leaves this one leaves that one. */
class DecodedEntries<T> implements Entries<TypedEntry<T> | Entry> {
  readonly #from: Entries<Entry>;
  readonly #codec: Codec<T>;
  readonly #library: boolean;
  /** Why nothing is read. */
  #refused: Error | undefined;

  constructor(from: Entries<Entry>, codec: Codec<T>, library: boolean, refused?: Error) {
    this.#from = from;
    this.#codec = codec;
    this.#library = library;
    this.#refused = refused;
  }

  /** The last of the calls that wait; they are answered in order. */
  #turn: Promise<unknown> = Promise.resolve();

  next(): Promise<IteratorResult<TypedEntry<T> | Entry, void>> {
    const take = (): Promise<IteratorResult<TypedEntry<T> | Entry, void>> => this.#take();
    const turn = this.#turn.then(take, take);
    this.#turn = turn;
    return turn;
  }

  async #take(): Promise<IteratorResult<TypedEntry<T> | Entry, void>> {
    const refused = this.#refused;
    if (refused) {
      this.#refused = undefined;
      await this.#from.return();
      throw refused;
    }
    for (;;) {
      const result = await this.#from.next();
      if (result.done) return result;
      const value = await this.#decode(result.value);
      if (value) return { done: false, value };
    }
  }

  async #decode(entry: Entry): Promise<TypedEntry<T> | Entry | undefined> {
    try {
      return decodeEntry(this.#codec, entry) ?? (this.#library ? entry : undefined);
    } catch (error) {
      await this.#from.return();
      throw error;
    }
  }

  return(): Promise<IteratorResult<TypedEntry<T> | Entry, void>> {
    return this.#from.return();
  }

  throw(error: unknown): Promise<IteratorResult<TypedEntry<T> | Entry, void>> {
    return this.#from.throw(error);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }
}
