/**
 * How often in a row a directory was opened and then not closed: a crash loop shows itself, and how
 * long to wait before the next start (row 61). A small file beside the log, `openings`; whatever
 * becomes of it harms nobody, so no error of it is one of the node's.
 */
import { CRASHES_TO_TELL, RESTART_HINT_MS, STABLE_LIFE_MS } from '../../shared/limits.js';
import { type Disk, readSmallFile, replaceFile } from '../segments/disk.js';

const OPENINGS = 'openings';
const MAX_BYTES = 32;

export class Openings {
  readonly #disk: Disk;
  readonly #dir: string;
  readonly #stable: NodeJS.Timeout;
  #becoming: Promise<void> | undefined;
  /** Lives before this one, in a row, that ended without a close and before they were stable. */
  readonly crashes: number;

  private constructor(disk: Disk, dir: string, crashes: number) {
    this.#disk = disk;
    this.#dir = dir;
    this.crashes = crashes;
    this.#stable = setTimeout(() => {
      this.#becoming = this.#write(0);
    }, STABLE_LIFE_MS);
    this.#stable.unref();
  }

  /** Counts this one: until it is closed or stable, the next opening sees a crash. */
  static async count(disk: Disk, dir: string): Promise<Openings> {
    const bytes = await readSmallFile(disk, dir, OPENINGS, MAX_BYTES).catch(() => undefined);
    const found = Number(new TextDecoder().decode(bytes));
    const openings = new Openings(disk, dir, Number.isSafeInteger(found) && found > 0 ? found : 0);
    await openings.#write(openings.crashes + 1);
    return openings;
  }

  async #write(count: number): Promise<void> {
    const bytes = new TextEncoder().encode(`${count}\n`);
    await replaceFile(this.#disk, this.#dir, OPENINGS, bytes).catch(() => undefined);
  }

  /** So long whoever starts this node should wait before the next time: doubled with each crash. */
  get restartHintMs(): number {
    const { first, last } = RESTART_HINT_MS;
    return this.crashes === 0 ? 0 : Math.min(last, first * 2 ** (this.crashes - 1));
  }

  /** What the event says. */
  get told(): { readonly crashes: number; readonly restartHintMs: number } {
    return { crashes: this.crashes, restartHintMs: this.restartHintMs };
  }

  get isLoop(): boolean {
    return this.crashes >= CRASHES_TO_TELL;
  }

  /** The node was closed. */
  async closed(): Promise<void> {
    clearTimeout(this.#stable);
    await this.#becoming;
    await this.#write(0);
  }
}
