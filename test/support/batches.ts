/** Entries and batches made by hand, for the codecs' tests. */

import { idWord } from '#src/shared/bytes.js';
import { EngramError } from '#src/shared/errors.js';
import { sealLocal, stageHeader } from '#src/shared/log/entry.js';

export const NODE = '0123456789abcdef0123456789abcdef';
export const SPACE = '00112233445566778899aabbccddeeff';

/** Entries from `first` on, back to back as they stand in a log. */
export function entriesOf(
  payloads: readonly Uint8Array[],
  first = 1,
  epoch = 1,
  spaceId = SPACE,
): Uint8Array {
  const words = [0, 1, 2, 3].map((i) => idWord(spaceId, i));
  const size = payloads.reduce((sum, p) => sum + 64 + p.length, 0);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [i, payload] of payloads.entries()) {
    bytes.set(payload, at + 64);
    stageHeader(view, at, first + i, 1000 + i, 0, 1, payload.length, epoch);
    sealLocal(bytes, view, at, words as [number, number, number, number], 0, 0, 0);
    at += 64 + payload.length;
  }
  return bytes;
}

/** The code of the error of ours that the work throws; `none` where it throws none. */
export function codeOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof EngramError) return error.code;
    throw error;
  }
  return 'none';
}
