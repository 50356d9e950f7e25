/**
 * What people are shown of what others gave: names, reasons, messages. Whoever gave them may have
 * put in what moves a cursor, ends a line or turns the direction of what stands around; it is told
 * as `\u{1b}`, so that nothing is lost and nothing acts. Imports nothing: the page has it, too.
 */

/** C0, DEL and C1, line and paragraph separators, what turns the direction. */
const HIDDEN = /[\p{Cc}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/u;
const EACH_HIDDEN = new RegExp(HIDDEN, 'gu');
/** What a deeper object has is left out. */
const DEPTH = 8;

export function hasHidden(text: string): boolean {
  return HIDDEN.test(text);
}

/** One line. What is shown already stays as it is. */
export function shown(text: string): string {
  return HIDDEN.test(text) ? text.replace(EACH_HIDDEN, (c) => `\\u{${hexOf(c)}}`) : text;
}

/** Lines of our own, each of which may have been given more. */
export function shownLines(text: string): string {
  return text.split('\n').map(shown).join('\n');
}

/** Two names that differ are shown differently, whatever they hold: for labels. */
export function shownAsLabel(name: string): string {
  return shown(name.replaceAll('\\u{', '\\u{5c}u{'));
}

/** Every text in an object that JSON could carry, keys too. */
export function shownAll<T>(value: T, depth = DEPTH): T {
  if (typeof value === 'string') return shown(value) as T;
  if (typeof value !== 'object' || value === null || value instanceof Error) return value;
  if (depth === 0) return undefined as T;
  if (Array.isArray(value)) return value.map((one) => shownAll(one, depth - 1)) as T;
  const pairs = Object.entries(value).map(([k, v]) => [shown(k), shownAll(v, depth - 1)]);
  return Object.fromEntries(pairs) as T;
}

/**
 * JSON of the very same value: what is hidden stands in it as an escape of JSON's own. The
 * arguments are those of JSON.stringify.
 */
export function jsonText(
  value: unknown,
  replacer?: (key: string, value: unknown) => unknown,
  space?: number,
): string {
  // Between the texts there is nothing hidden but the line ends of `space`.
  const escaped = (c: string): string => (c === '\n' ? c : `\\u${hexOf(c).padStart(4, '0')}`);
  return JSON.stringify(value, replacer, space).replace(EACH_HIDDEN, escaped);
}

/** One word for a shell, whatever is in it. */
export function shellWord(word: string): string {
  return /^[\w./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

function hexOf(char: string): string {
  return char.codePointAt(0)!.toString(16);
}
