import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { hasHidden, jsonText, shown, shownAll, shownAsLabel } from '#src/shared/shown.js';

const HIDDEN = '\u0000\u0007\t\n\r\u001b\u007f\u0085\u009b\u061c\u200f\u2028\u2029\u202e\u2067';
/** Texts in which what is hidden, and what looks like an escape, come often. */
const texts = fc
  .array(fc.oneof(fc.constantFrom(...HIDDEN, '\\u{1b}', '\\', 'ä', '𝄞'), fc.string()))
  .map((parts) => parts.join(''));

describe('what is shown', () => {
  test('of each hidden character is its number, and of others the text itself', () => {
    for (const char of HIDDEN) {
      expect(hasHidden(`a${char}b`)).toBe(true);
      expect(shown(`a${char}b`)).toBe(`a\\u{${char.codePointAt(0)!.toString(16)}}b`);
    }
    for (const text of ['', 'tenant-a', 'ünï ☃ 𝄞', 'a\\nb', 'می‌خواهم', '\\u{1b}']) {
      expect(hasHidden(text)).toBe(false);
      expect(shown(text)).toBe(text);
      expect(jsonText(text)).toBe(JSON.stringify(text));
    }
  });

  test('holds nothing hidden, is shown again as it is, and as a label tells all apart', () => {
    fc.assert(
      fc.property(texts, texts, (a, b) => {
        expect(hasHidden(shown(a))).toBe(false);
        expect(shown(shown(a))).toBe(shown(a));
        if (a !== b) expect(shownAsLabel(a)).not.toBe(shownAsLabel(b));
      }),
      { numRuns: 2_000 },
    );
    expect(shownAsLabel('a\u001bb')).not.toBe(shownAsLabel('a\\u{1b}b'));
  });

  test('as JSON is the very same value', () => {
    fc.assert(
      fc.property(fc.dictionary(texts, fc.array(texts)), (value) => {
        const text = jsonText(value);
        expect(hasHidden(text)).toBe(false);
        expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)));
      }),
      { numRuns: 500 },
    );
    const indented = jsonText({ a: ['\u202e'] }, undefined, 2);
    expect(indented).toBe('{\n  "a": [\n    "\\u202e"\n  ]\n}');
  });

  test('of an object is every text in it, keys too, and nothing without end', () => {
    const value = { 'k\u001b': [{ name: 'a\nb', at: 7n, no: undefined }], yes: true, gone: null };
    expect(shownAll(value)).toEqual({
      'k\\u{1b}': [{ name: 'a\\u{a}b', at: 7n, no: undefined }],
      yes: true,
      gone: null,
    });
    const endless: Record<string, unknown> = {};
    endless.again = endless;
    expect(JSON.stringify(shownAll(endless)).length).toBeLessThan(200);
  });
});
