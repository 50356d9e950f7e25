/**
 * docs/OPERATIONS.md as a page of the node: whoever looks for what to do at night has it there. Of
 * Markdown it knows what that file uses.
 */
import fs from 'node:fs/promises';

const FILE = new URL('../../../docs/OPERATIONS.md', import.meta.url);
const NOT_HERE = '# The handbook\n\ndocs/OPERATIONS.md of the package is not on this machine.';

/** One HTML page; where a bundle has left the file behind, it says so. */
export async function loadHandbook(): Promise<Buffer> {
  const markdown = await fs.readFile(FILE, 'utf8').catch(() => NOT_HERE);
  return Buffer.from(handbookPage(markdown));
}

/** @param markdown ours: headings, paragraphs, lists, tables, fenced code */
export function handbookPage(markdown: string): string {
  return [
    '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8" />',
    '<meta name="viewport" content="width=device-width, initial-scale=1" />',
    '<meta name="color-scheme" content="light dark" />\n<title>Running engram-wal</title>',
    '<link rel="icon" href="/icon.svg" type="image/svg+xml" />',
    '<link rel="stylesheet" href="/page.css" />\n</head>\n<body>\n<main class="page handbook">',
    '<p><a href="/">The node</a></p>',
    ...blocksOf(markdown).map(blockHtml),
    '</main>\n</body>\n</html>\n',
  ].join('\n');
}

/** What stands between empty lines; a fence may hold some. */
function blocksOf(markdown: string): string[] {
  const blocks: string[] = [];
  let block: string[] = [];
  let isFenced = false;
  for (const line of markdown.split('\n')) {
    const isFence = line.startsWith('```');
    if (isFence && !isFenced && block.length > 0) {
      blocks.push(block.join('\n'));
      block = [];
    }
    const isEnd = isFenced ? isFence : line === '';
    if (!isEnd || isFenced) block.push(line);
    if (isFence) isFenced = !isFenced;
    if (!isEnd || block.length === 0) continue;
    blocks.push(block.join('\n'));
    block = [];
  }
  return block.length > 0 ? [...blocks, block.join('\n')] : blocks;
}

function blockHtml(block: string): string {
  const heading = /^(#+) (.*)$/.exec(block);
  if (heading) {
    const [, marks, title] = heading as unknown as [string, string, string];
    const tag = `h${marks.length}`;
    return `<${tag} id="${anchorOf(title)}">${inline(title)}</${tag}>`;
  }
  const fence = /^```.*\n([\s\S]*?)\n?```$/.exec(block);
  if (fence) return `<pre tabindex="0"><code>${escaped(fence[1]!)}</code></pre>`;
  if (block.startsWith('|')) return tableHtml(block.split('\n'));
  const list = /^(- |\d+\. )/.exec(block);
  if (!list) return `<p>${inline(block)}</p>`;
  const tag = list[1] === '- ' ? 'ul' : 'ol';
  const items = block.split(/^(?:- |\d+\. )/m).slice(1);
  return `<${tag}>${items.map((item) => `<li>${inline(item.trim())}</li>`).join('')}</${tag}>`;
}

function tableHtml(lines: readonly string[]): string {
  const row = (line: string, tag: string): string => {
    const cells = line.slice(1, -1).split('|');
    return `<tr>${cells.map((cell) => `<${tag}>${inline(cell.trim())}</${tag}>`).join('')}</tr>`;
  };
  const [head = '', , ...rows] = lines;
  const body = rows.map((line) => row(line, 'td')).join('');
  return `<table><thead>${row(head, 'th')}</thead><tbody>${body}</tbody></table>`;
}

/** As GitHub makes them, so that one link does for both. */
export function anchorOf(title: string): string {
  return title
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .replaceAll(' ', '-');
}

/** Code is as it stands; links lead within this page, to other files they are text. */
function inline(text: string): string {
  const codes: string[] = [];
  const kept = text.replace(/`([^`]+)`/g, (_, code: string) => {
    codes.push(`<code>${escaped(code)}</code>`);
    return `\u{e000}${codes.length - 1}\u{e000}`;
  });
  return escaped(kept)
    .replace(/\[([^\]]+)\]\((#[\w-]+)\)/g, '<a href="$2">$1</a>')
    .replace(/\[([^\]]+)\]\([^)]+\)/g, '$1')
    .replace(/\*\*(.+?)\*\*(?!\*)/gs, '<strong>$1</strong>')
    .replace(/\*([^*]+)\*/g, '<em>$1</em>')
    .replace(/\u{e000}(\d+)\u{e000}/gu, (_, at: string) => codes[Number(at)]!);
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
