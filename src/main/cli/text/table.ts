/** A table as text, in one pass: however many rows there are. */

const lengthOf = (text: string): number => [...text].length;

/** One line a row, below a head; columns as wide as their longest cell. */
export function tableText(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map(lengthOf);
  for (const row of rows) {
    for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i]!, lengthOf(cell));
  }
  const line = (cells: readonly string[]): string => {
    const padded = cells.map((cell, i) => ` ${cell}${' '.repeat(widths[i]! - lengthOf(cell))} `);
    return `│${padded.join('│')}│`;
  };
  const rule = (left: string, middle: string, right: string): string =>
    `${left}${widths.map((width) => '─'.repeat(width + 2)).join(middle)}${right}`;
  const top = [rule('┌', '┬', '┐'), line(head), rule('├', '┼', '┤')];
  return [...top, ...rows.map(line), rule('└', '┴', '┘')].join('\n');
}
