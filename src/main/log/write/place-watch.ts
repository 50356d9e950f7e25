/**
 * Looks every second whether the log still has its place: the directory, its lock and the segment
 * that is written under the names that they had. Else the log has failed for good (row 92): what
 * goes on into a file without a name is lost, and another process may be at the same place.
 */
import { failure } from '../../../shared/errors.js';
import { PLACE_LOOK_MS } from '../../../shared/limits.js';

/** Who has looked before so long must look again before anything is acknowledged. */
const LATE_MS = 3 * PLACE_LOOK_MS;

export class PlaceWatch {
  readonly #displaced: () => Promise<string | undefined>;
  readonly #told: (error: Error) => void;
  readonly #timer: NodeJS.Timeout;
  #lookedMs = performance.now();
  #looking: Promise<void> | undefined;

  /**
   * @param displaced why the place is lost; rejects where that is not known
   * @param told with the reason, when it is
   */
  constructor(displaced: () => Promise<string | undefined>, told: (error: Error) => void) {
    this.#displaced = displaced;
    this.#told = told;
    this.#timer = setInterval(() => void this.#look().catch(() => undefined), PLACE_LOOK_MS);
    this.#timer.unref();
  }

  /**
   * Before something is acknowledged: after a long silence (a stopped process) it is looked first.
   * @returns undefined where that is not needed; rejects where the place is lost
   */
  confirm(): Promise<void> | undefined {
    return performance.now() - this.#lookedMs < LATE_MS ? undefined : this.#look();
  }

  /** One look at a time: a disk that does not answer is not asked again and again. */
  #look(): Promise<void> {
    this.#looking ??= this.#lookOnce().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #lookOnce(): Promise<void> {
    const nowMs = performance.now();
    const why = await this.#displaced().catch(() => undefined);
    this.#lookedMs = nowMs;
    if (why === undefined) return;
    this.close();
    const error = failure('Io', why);
    this.#told(error);
    throw error;
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
