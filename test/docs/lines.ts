/** Text of documents in lines of bounded length; what stands in backticks is not broken. */

const WIDTH = 116;

/** An item of a list, at a depth. */
export function item(text: string, depth = 0, width = WIDTH): string {
  const indent = '  '.repeat(depth);
  const words = text.split(/ (?=(?:[^`]*`[^`]*`)*[^`]*$)/);
  const lines: string[] = [];
  let line = `${indent}-`;
  for (const word of words) {
    if (line.length + word.length + 1 > width) {
      lines.push(line);
      line = `${indent} `;
    }
    line += ` ${word}`;
  }
  return [...lines, line].join('\n');
}

export function paragraph(text: string, width = WIDTH): string {
  return item(text, 0, width + 2)
    .replace(/^- /, '')
    .replace(/^ {2}/gm, '');
}

/** Puts `text` between the marks `<!-- name -->` and `<!-- end -->` of a document. */
export function between(document: string, name: string, text: string): string {
  const [before, rest] = document.split(`<!-- ${name} -->\n`);
  const end = rest?.indexOf('<!-- end -->') ?? -1;
  if (end < 0) throw new Error(`there is no place for ${name}`);
  return `${before}<!-- ${name} -->\n${text}\n${rest!.slice(end)}`;
}
