/**
 * The only way from the command line to a terminal: what names and reasons hold is shown, never
 * carried out by the terminal.
 */
import { jsonText, shown, shownAll, shownLines } from '../../shared/shown.js';

/** One JSON object on a line, or what people read of it. */
export function say<T>(value: T, isJson: boolean, text: (clean: T) => string): void {
  console.log(isJson ? jsonText(value) : shownLines(text(shownAll(value))));
}

export function sayLine(text: string): void {
  console.log(shown(text));
}

/** Lines whose parts are clean already. */
export function sayLines(text: string): void {
  console.log(shownLines(text));
}

/** A line of a long answer. Resolves when the reader may be given more. */
export async function sayMore(value: object): Promise<void> {
  if (process.stdout.write(`${jsonText(value)}\n`)) return;
  await new Promise((resolve) => process.stdout.once('drain', resolve));
}

/** On a terminal: a line that the next one replaces. */
export function sayInPlace(line: string): void {
  process.stdout.write(`\r\x1b[2K${shown(line).slice(0, (process.stdout.columns || 80) - 1)}`);
}

/** Wipes the terminal, where it is one. */
export function wipe(): void {
  if (process.stdout.isTTY) process.stdout.write('\x1b[H\x1b[2J\x1b[3J');
}

/** To people, whatever the output is: lines whose parts are clean already. */
export function complain(text: string): void {
  console.error(shownLines(text));
}
