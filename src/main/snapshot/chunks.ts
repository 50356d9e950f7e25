/** Cuts what a host gives of its snapshot into chunks of one size, and sums them up. */
import { createHash } from 'node:crypto';
import { types } from 'node:util';
import { crc32c } from '../../shared/crc.js';
import { failure } from '../../shared/errors.js';
import { viewOf } from '../../shared/host-input.js';
import { describe } from '../../shared/option-checks.js';
import type { SnapshotWhole } from '../../shared/snapshot/facts.js';
import type { Chunk } from '../../shared/snapshot/queue.js';
import { pause } from '../runtime/deadline.js';

/** So many pieces are asked for in one turn of the event loop. */
const TURN_PIECES = 256;

/** The bytes of a host, in pieces of any size. */
export type HostChunks = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

export class SnapshotChunks {
  readonly #pieces: AsyncIterator<Uint8Array> | Iterator<Uint8Array>;
  readonly #chunkBytes: number;
  readonly #hash = createHash('sha256');
  /** Of the piece that the host gave last: it is not asked for more before this is used up. */
  #rest: Uint8Array = new Uint8Array(0);
  #chunks = 0;
  #bytes = 0;
  #isClosed = false;

  /** @param chunkBytes of every chunk but the last */
  constructor(pieces: HostChunks, chunkBytes: number) {
    const isAsync = Symbol.asyncIterator in pieces;
    this.#pieces = isAsync ? pieces[Symbol.asyncIterator]() : pieces[Symbol.iterator]();
    this.#chunkBytes = chunkBytes;
  }

  /**
   * The next chunk, or, at the end, the sum of all. Rejects with what the host throws, and
   * SnapshotFailed for a piece that is no Uint8Array.
   */
  async next(): Promise<Chunk | SnapshotWhole> {
    const bytes = new Uint8Array(this.#chunkBytes);
    let used = 0;
    for (let asked = 0; used < bytes.length; ) {
      if (this.#rest.length === 0) {
        // Pieces of nothing, or of little, are not to hold up everything else.
        if (++asked % TURN_PIECES === 0) await pause(0);
        const { done, value } = await this.#pieces.next();
        if (done) break;
        if (!types.isUint8Array(value)) {
          throw failure(
            'SnapshotFailed',
            `the host's chunk is no Uint8Array but ${describe(value)}`,
          );
        }
        this.#rest = viewOf(value);
        continue;
      }
      const part = this.#rest.subarray(0, bytes.length - used);
      bytes.set(part, used);
      used += part.length;
      this.#rest = this.#rest.subarray(part.length);
    }
    if (used === 0) {
      const digest = this.#hash.copy().digest('hex');
      return { chunks: this.#chunks, bytes: this.#bytes, digest };
    }
    const chunk = bytes.subarray(0, used);
    this.#hash.update(chunk);
    this.#chunks++;
    this.#bytes += used;
    return { crc: crc32c(chunk), bytes: chunk };
  }

  /** The host may let go of it. What it throws about that concerns nobody any more. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    try {
      Promise.resolve(this.#pieces.return?.()).catch(() => undefined);
    } catch {
      // As above.
    }
  }
}
