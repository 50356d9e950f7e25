/**
 * How often in a row a directory was opened and then not closed: a crash loop shows itself, and how
 * long to wait before the next start (row 61). A small file beside the log, `openings`; whatever
 * becomes of it harms nobody, so no error of it is one of the node's. Behind a close it names the
 * generation of the state that was durable then, too: of any other one nobody knows that its name
 * is more than the cache's (row 101).
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
  /** The generation of state that the last close has left durable; undefined: none is known. */
  readonly settled: number | undefined;

  private constructor(disk: Disk, dir: string, text: string) {
    this.#disk = disk;
    this.#dir = dir;
    const [crashes, settled] = text.split(' ').map(Number);
    this.crashes = Number.isSafeInteger(crashes) && crashes! > 0 ? crashes! : 0;
    this.settled = settled;
    this.#stable = setTimeout(() => {
      this.#becoming = this.#write('0');
    }, STABLE_LIFE_MS);
    this.#stable.unref();
  }

  /** Counts this one: until it is closed or stable, the next opening sees a crash. */
  static async count(disk: Disk, dir: string): Promise<Openings> {
    const bytes = await readSmallFile(disk, dir, OPENINGS, MAX_BYTES).catch(() => undefined);
    const openings = new Openings(disk, dir, new TextDecoder().decode(bytes));
    await openings.#write(`${openings.crashes + 1}`);
    return openings;
  }

  async #write(text: string): Promise<void> {
    const bytes = new TextEncoder().encode(`${text}\n`);
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

  /** The node was closed. @param settled the generation of its last durable state */
  async closed(settled: number | undefined): Promise<void> {
    clearTimeout(this.#stable);
    await this.#becoming;
    await this.#write(settled === undefined ? '0' : `0 ${settled}`);
  }
}
