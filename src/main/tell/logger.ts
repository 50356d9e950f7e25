/**
 * Turns events into lines: one structured line an event, with a level and the event's name, held
 * back where the same comes too often, through the logger that the host has given. Remembers the
 * last events for those who look at the node. A logger that throws, or whose promise rejects,
 * harms nobody (FAULTS rows 79, 81).
 */

import { textOf } from '../../shared/host-input.js';
import { RECENT_EVENTS_MAX } from '../../shared/limits.js';
import { LineGate } from '../../shared/metrics/line-gate.js';
import { warn } from '../runtime/warn.js';
import { LEVELS, type Level, type Line } from './line.js';

/** What a logger must have: pino does, and so do bunyan, console and many others. */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
  /** Pino's: what the host's own errors say is written only where debug lines are. */
  isLevelEnabled?(level: string): boolean;
  /** How many lines it has dropped so far, where it counts them: a metric tells. */
  readonly dropped?: unknown;
}

/** An event as people are told of it later. */
export interface RecentEvent {
  /** Wall clock, ms since 1970. */
  readonly at: number;
  readonly level: Level;
  readonly event: string;
  readonly text: string;
  /** More than 1: so many of this kind in a row, of which this is the last. */
  readonly times: number;
}

/** So many of one kind in a row stand one by one; more become one. */
const ALIKE_KEPT = 3;

/** What it should have been; undefined where it is one. */
export function loggerProblem(value: unknown): string | undefined {
  const isLogger =
    typeof value === 'object' &&
    value !== null &&
    LEVELS.every((level) => typeof (value as Record<string, unknown>)[level] === 'function');
  return isLogger ? undefined : 'an object with debug, info, warn and error, as pino has them';
}

export class EventLog {
  readonly #logger: Logger | undefined;
  readonly #nodeId: string;
  readonly #gate = new LineGate();
  /** Of each event: the last line that was held back. */
  readonly #held = new Map<string, Line>();
  readonly #recent: RecentEvent[] = [];
  #timer: NodeJS.Timeout | undefined;
  #hasWarned = false;
  #refused = 0;

  constructor(nodeId: string, logger: Logger | undefined) {
    this.#nodeId = nodeId;
    this.#logger = logger;
  }

  get isSilent(): boolean {
    return this.#logger === undefined;
  }

  /** Whether lines may carry what the host's own errors say. */
  get isDebug(): boolean {
    try {
      return this.#logger?.isLevelEnabled?.('debug') === true;
    } catch {
      return false;
    }
  }

  /** The last events, oldest first. */
  get recent(): readonly RecentEvent[] {
    return this.#recent;
  }

  /** Takes one event: remembers it, and writes its line or holds it back. */
  line(event: string, line: Line): void {
    const { level, text } = line;
    if (level !== 'debug') this.#remember({ at: Date.now(), level, event, text, times: 1 });
    if (!this.#logger) return;
    const now = performance.now();
    this.#tellHeldBack(now);
    if (this.#gate.admit(event, line.subject, now)) {
      this.#write(event, line, {});
    } else {
      const before = this.#held.get(event);
      const worse = before && LEVELS.indexOf(before.level) > LEVELS.indexOf(level);
      this.#held.set(event, worse ? { ...line, level: before.level } : line);
      this.#arm(now);
    }
  }

  #remember(recent: RecentEvent): void {
    const alike = this.#recent.slice(-ALIKE_KEPT);
    const isAlike = (one: RecentEvent): boolean =>
      one.event === recent.event && one.level === recent.level;
    if (alike.length === ALIKE_KEPT && alike.every(isAlike)) {
      const { times } = this.#recent.pop()!;
      this.#recent.push({ ...recent, times: times + 1 });
      return;
    }
    if (this.#recent.length === RECENT_EVENTS_MAX) this.#recent.shift();
    this.#recent.push(recent);
  }

  #tellHeldBack(nowMs: number): void {
    for (const { event, subject, count } of this.#gate.over(nowMs)) {
      const last = this.#held.get(event)!;
      this.#held.delete(event);
      const whose = subject === '' ? '' : ` of ${subject}`;
      const text = `${last.text} (the last of ${count} lines${whose} that were held back)`;
      this.#write(event, { ...last, text }, { suppressed: count });
    }
  }

  /** Only while lines are held back: their count is told although no other event comes. */
  #arm(nowMs: number): void {
    if (this.#timer) return;
    const ms = Math.max(0, (this.#gate.nextMs ?? nowMs) - nowMs);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      const now = performance.now();
      this.#tellHeldBack(now);
      if (this.#held.size > 0) this.#arm(now);
    }, ms);
    this.#timer.unref();
  }

  #write(event: string, { level, text, fields }: Line, more: object): void {
    try {
      const line = { event, nodeId: this.#nodeId, ...fields, ...more };
      const returned: unknown = this.#logger![level](line, text);
      harmless(returned, (error) => this.#failed(error));
    } catch (error) {
      this.#failed(error);
    }
  }

  /** Lines that the logger threw at, or says that it has dropped. */
  get dropped(): number {
    const told = this.#logger?.dropped;
    return this.#refused + (typeof told === 'number' && told > 0 ? told : 0);
  }

  #failed(error: unknown): void {
    this.#refused++;
    // Once: a broken logger would break with every line.
    if (this.#hasWarned) return;
    this.#hasWarned = true;
    warn(`the logger threw: ${textOf(error)}`);
  }

  /** Tells what is still held back. */
  close(): void {
    clearTimeout(this.#timer);
    this.#tellHeldBack(Number.POSITIVE_INFINITY);
  }
}

/** A promise that a host's callback has returned may reject: that ends no process. */
export function harmless(returned: unknown, failed: (error: unknown) => void): void {
  if (typeof returned !== 'object' || returned === null || !('then' in returned)) return;
  Promise.resolve(returned as PromiseLike<unknown>).catch(failed);
}
