/**
 * The text of a scrape, bit by bit: of 100,000 spaces it is 150 MB, and what one metric's rows take
 * is to be gone when the next one's are made.
 */

/** Texts are gathered to so much. */
const PIECE_CHARS = 2 ** 20;

/**
 * The texts of metrics as prom-client's registry joins them, as UTF-8.
 * @param textOf asked for one after the other
 */
export async function* piecesOf(
  names: readonly string[],
  textOf: (name: string) => Promise<string>,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const utf8 = new TextEncoder();
  let text = '';
  for (const [i, name] of names.entries()) {
    text += `${await textOf(name)}${i < names.length - 1 ? '\n\n' : '\n'}`;
    if (text.length < PIECE_CHARS && i < names.length - 1) continue;
    yield utf8.encode(text);
    text = '';
  }
}
