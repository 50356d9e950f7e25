/**
 * Room on the file system of the data directory, and when it will be used up at the pace of late:
 * who learns of a full disk by a refused append learns of it too late.
 */
import type { Todo } from './words.js';

const HOUR = 3_600_000;
/** Samples are at least so far apart, and kept for so long. */
const STEP_MS = 5_000;
const KEPT_MS = HOUR;
/** A pace is measured over these: a burst of minutes says nothing of tomorrow. */
const PACES = [
  { overMs: 5 * 60_000, atLeastMs: 60_000, withinMs: HOUR / 2 },
  { overMs: HOUR, atLeastMs: 20 * 60_000, withinMs: 30 * 24 * HOUR },
] as const;
/** Below these something is to be done, at all times and at once. */
export const DISK_SOON_MS = 24 * HOUR;
export const DISK_NOW_MS = HOUR / 2;

export interface DiskRoomStatus {
  readonly freeBytes: number;
  /** At the pace of the last minutes, or of the last hour; undefined: not within a month. */
  readonly fullInMs: number | undefined;
}

/** What whoever reads it must do. */
export function todoOfRoom(fullInMs: number | undefined): Todo {
  if (fullInMs === undefined || fullInMs >= DISK_SOON_MS) return 'nothing';
  return fullInMs < DISK_NOW_MS ? 'now' : 'soon';
}

interface Sample {
  readonly atMs: number;
  readonly freeBytes: number;
}

export class DiskRoom {
  readonly #freeBytes: () => Promise<number>;
  readonly #samples: Sample[] = [];
  #looking: Promise<void> | undefined;
  #todo: Todo = 'nothing';
  readonly #changed: (room: DiskRoomStatus, todo: Todo) => void;

  /**
   * @param freeBytes what the file system says
   * @param changed something else is to be done about it than before
   */
  constructor(
    freeBytes: () => Promise<number>,
    changed: (room: DiskRoomStatus, todo: Todo) => void = () => undefined,
  ) {
    this.#freeBytes = freeBytes;
    this.#changed = changed;
  }

  /** Asks the file system, unless it was asked a moment ago. Never rejects: it may not say. */
  async look(): Promise<void> {
    const last = this.#samples.at(-1);
    if (last && performance.now() - last.atMs < STEP_MS) return;
    this.#looking ??= this.#ask().finally(() => {
      this.#looking = undefined;
    });
    await this.#looking;
  }

  async #ask(): Promise<void> {
    try {
      const freeBytes = await this.#freeBytes();
      this.add(performance.now(), freeBytes);
    } catch {
      this.#samples.length = 0;
    }
  }

  /** @param atMs monotonic */
  add(atMs: number, freeBytes: number): void {
    this.#samples.push({ atMs, freeBytes });
    const old = this.#samples.findIndex((sample) => atMs - sample.atMs <= KEPT_MS);
    this.#samples.splice(0, old);
    const room = this.status!;
    const todo = todoOfRoom(room.fullInMs);
    if (todo === this.#todo) return;
    this.#todo = todo;
    this.#changed(room, todo);
  }

  get status(): DiskRoomStatus | undefined {
    const last = this.#samples.at(-1);
    if (!last) return undefined;
    const { freeBytes } = last;
    const soon = PACES.map((pace) => this.#fullIn(last, pace)).filter((ms) => ms !== undefined);
    const fullInMs = soon.length > 0 ? Math.min(...soon) : undefined;
    return { freeBytes, fullInMs };
  }

  /** What has come and gone within the window is no pace: its last third must say so, too. */
  #fullIn(last: Sample, pace: (typeof PACES)[number]): number | undefined {
    const { overMs, atLeastMs, withinMs } = pace;
    const whole = this.#over(last, overMs);
    const late = this.#over(last, whole.tookMs / 3);
    const ms = Math.max(whole.fullInMs, late.fullInMs);
    return whole.tookMs >= atLeastMs && ms <= withinMs ? Math.round(ms) : undefined;
  }

  #over(last: Sample, overMs: number): { readonly tookMs: number; readonly fullInMs: number } {
    const first = this.#samples.find((sample) => last.atMs - sample.atMs <= overMs)!;
    const tookMs = last.atMs - first.atMs;
    const used = first.freeBytes - last.freeBytes;
    return {
      tookMs,
      fullInMs: used > 0 ? (last.freeBytes * tookMs) / used : Number.POSITIVE_INFINITY,
    };
  }
}
