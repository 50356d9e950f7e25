/**
 * The order in which people look for names: `space2` before `space10`. A run of digits counts as
 * one number, however long; everything else by code unit. Names that differ are never equal.
 */

const ZERO = 48;
const NINE = 57;

/** Below 0: `a` stands before `b`. For `sort`. */
export function byName(a: string, b: string): number {
  let i = 0;
  let j = 0;
  while (i < a.length && j < b.length) {
    const one = a.charCodeAt(i);
    const other = b.charCodeAt(j);
    if (!isDigit(one) || !isDigit(other)) {
      if (one !== other) return one - other;
      i++;
      j++;
      continue;
    }
    const endOfA = endOfDigits(a, i);
    const endOfB = endOfDigits(b, j);
    const order = byNumber(a.slice(i, endOfA), b.slice(j, endOfB));
    if (order !== 0) return order;
    i = endOfA;
    j = endOfB;
  }
  // One goes on where the other ends; else they differ in leading zeros alone.
  return a.length - i - (b.length - j) || (a === b ? 0 : a < b ? -1 : 1);
}

function isDigit(code: number): boolean {
  return code >= ZERO && code <= NINE;
}

function endOfDigits(text: string, from: number): number {
  let end = from;
  while (end < text.length && isDigit(text.charCodeAt(end))) end++;
  return end;
}

/** Of digits, which may be more than a number holds. */
function byNumber(a: string, b: string): number {
  const one = a.replace(/^0+/, '');
  const other = b.replace(/^0+/, '');
  return one.length - other.length || (one === other ? 0 : one < other ? -1 : 1);
}
