/**
 * Which lines of a log pass, so that a thousand same events are no flood (FAULTS row 81): of one
 * (event, subject) a few in a window of time, of one event so many over all subjects. What was
 * held back is counted, and the count is told once the window is over. Pure.
 */
import { LINE_WINDOW_MS, LINES_PER_EVENT, LINES_PER_SUBJECT } from '../limits.js';

export interface HeldBack {
  readonly event: string;
  /** Empty where lines of several subjects were held back. */
  readonly subject: string;
  readonly count: number;
}

interface EventWindow {
  readonly endsMs: number;
  passed: number;
  heldBack: number;
  /** Lines that came, passed or not. As many subjects as lines may pass, at most. */
  readonly bySubject: Map<string, number>;
  /** Whose lines were held back; undefined: more than one subject's. */
  subject: string | undefined;
}

export class LineGate {
  readonly #windows = new Map<string, EventWindow>();

  /** Whether this line passes. Call `over` first. */
  admit(event: string, subject: string, nowMs: number): boolean {
    let window = this.#windows.get(event);
    if (!window) {
      window = {
        endsMs: nowMs + LINE_WINDOW_MS,
        passed: 0,
        heldBack: 0,
        bySubject: new Map(),
        subject: undefined,
      };
      this.#windows.set(event, window);
    }
    const before = window.bySubject.get(subject) ?? 0;
    if (window.passed < LINES_PER_EVENT && before < LINES_PER_SUBJECT) {
      window.bySubject.set(subject, before + 1);
      window.passed++;
      return true;
    }
    if (window.heldBack === 0) window.subject = subject;
    else if (window.subject !== subject) window.subject = undefined;
    window.heldBack++;
    return false;
  }

  /** Windows that have ended, with what each has held back; none is told twice. */
  over(nowMs: number): HeldBack[] {
    const over: HeldBack[] = [];
    for (const [event, window] of this.#windows) {
      if (nowMs < window.endsMs) continue;
      this.#windows.delete(event);
      const { heldBack, subject } = window;
      if (heldBack > 0) over.push({ event, subject: subject ?? '', count: heldBack });
    }
    return over;
  }

  /** When the next window ends; undefined: none is open. */
  get nextMs(): number | undefined {
    let next: number | undefined;
    for (const { endsMs } of this.#windows.values()) next = Math.min(next ?? endsMs, endsMs);
    return next;
  }
}
