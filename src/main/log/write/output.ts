/**
 * How a sealed group gets to its place: what stands before a roll made durable, the next segment,
 * the write, the fdatasync. When, is decided by shared/log/group-commit.ts.
 */
import { failure } from '../../../shared/errors.js';
import { TRAILER_BYTES } from '../../../shared/limits.js';
import type { FsyncMode } from '../../../shared/log/group-commit.js';
import type { Segments } from '../../segments/segments.js';
import type { LogGroup } from './open-group.js';
import type { PlaceWatch } from './place-watch.js';

export class LogOutput {
  readonly #segments: Segments;
  readonly #mode: FsyncMode;
  readonly #place: PlaceWatch;
  readonly #rolled: () => void;
  /** The group that was written last is durable already. */
  #isSynced = false;
  #isStopped = false;

  /** @param rolled told when a new segment has begun */
  constructor(segments: Segments, mode: FsyncMode, place: PlaceWatch, rolled: () => void) {
    this.#segments = segments;
    this.#mode = mode;
    this.#place = place;
    this.#rolled = rolled;
  }

  /** The log has failed: no write begins any more. */
  stop(): void {
    this.#isStopped = true;
  }

  /** Rejects as the disk does; WalFailed where an fdatasync has failed, whatever its errno. */
  async write(group: LogGroup): Promise<void> {
    if (group.rolls) {
      await final(this.#segments.file.sync());
      await this.#segments.roll(group.startLsn, group.previousEnd);
      this.#rolled();
    }
    if (this.#isStopped) throw failure('WalFailed', 'the log has failed meanwhile');
    const { start, size } = this.#segments.current;
    const at = group.startLsn - start;
    const bytes = Math.min(group.bytes + TRAILER_BYTES, size - at);
    const { file } = this.#segments;
    const content = group.slab.bytes.subarray(0, bytes);
    // Where an fdatasync follows at once, one call does both.
    if (file.writeAndSync && (this.#mode === 'per-batch' || this.#mode === 'per-write')) {
      await file.writeAndSync(content, at);
      this.#isSynced = true;
    } else {
      await file.write(content, at);
    }
    const looking = this.#place.confirm();
    if (looking) await looking;
  }

  /** Whether what was written last is durable already: then nothing is to be waited for. */
  takeSynced(): boolean {
    const isSynced = this.#isSynced;
    this.#isSynced = false;
    return isSynced;
  }

  /** fdatasync of what is written. */
  async sync(): Promise<void> {
    await final(this.#segments.file.sync());
    const looking = this.#place.confirm();
    if (looking) await looking;
  }
}

/** A failed fdatasync is no passing failure: pages may be gone (row 14). */
export async function final(sync: Promise<void>): Promise<void> {
  await sync.catch((error) => {
    throw failure('WalFailed', (error as Error).message.split('\n', 1)[0]!);
  });
}
