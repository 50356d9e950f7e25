/** One line of a log, as events become it: short, clean, with its level and fields. */
import { LINE_TEXT_MAX } from '../../shared/limits.js';
import { shown, shownAll } from '../../shared/shown.js';

export const LEVELS = ['debug', 'info', 'warn', 'error'] as const;

export type Level = (typeof LEVELS)[number];

export interface Line {
  readonly level: Level;
  /** Lines of one event and one subject are held back together. */
  readonly subject: string;
  readonly text: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Makes the line of one kind of event. */
export type Writer<E> = (event: E, isDebug: boolean) => Line;

/** A line that no event stands behind. */
export function line(
  level: Level,
  subject: string,
  text: string,
  fields: Readonly<Record<string, unknown>>,
): Line {
  const short = Object.entries(fields).map(([key, value]) => [key, shortened(value)]);
  return { level, subject, text: clipped(text), fields: Object.fromEntries(short) };
}

function shortened(value: unknown): unknown {
  return typeof value === 'string' ? clipped(value) : shownAll(value);
}

/** One line of bounded length: peers, systems and names may say anything. */
export function clipped(text: string): string {
  const one = shown(text);
  return one.length > LINE_TEXT_MAX ? `${one.slice(0, LINE_TEXT_MAX)}…` : one;
}
