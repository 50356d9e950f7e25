/**
 * Reading a file of the log whose disk has bad sectors. What cannot be read is handed out as bytes
 * that no entry is made of, so that it is damage like any other: found, named, asked for at the
 * members (FAULTS rows 5-7). Not where a log's end is decided: what cannot be read is not torn.
 */

/** How a disk says that it cannot read what stands there. */
const UNREADABLE = ['EIO', 'EBADMSG', 'EILSEQ', 'ENODATA'];
/** No sector is larger. */
const PIECE_BYTES = 4096;
/** Where else it is tried, before a whole window counts as bad. */
const ELSEWHERE_BYTES = 256 * 1024;
/** Neither a zero nor the first byte of an entry. */
const FILLER = 0xbd;

/** Bytes into `into`, from `position` in the file. @returns how many; 0: the file ends there */
export type ReadPart = (into: Uint8Array, position: number) => Promise<number>;

/**
 * As `read`, around sectors that cannot be read. Rejects as it does where the whole disk seems to
 * be away, or for another reason.
 */
export async function readAround(
  read: ReadPart,
  into: Uint8Array,
  position: number,
): Promise<number> {
  try {
    return await read(into, position);
  } catch (error) {
    if (!isUnreadable(error)) throw error;
    const { length, isAny } = await readPieces(read, into, position);
    if (!isAny && !(await isElsewhere(read, position, length))) throw error;
    return length;
  }
}

async function readPieces(read: ReadPart, into: Uint8Array, position: number) {
  let length = 0;
  let isAny = false;
  while (length < into.length) {
    const at = position + length;
    const part = into.subarray(length, length + PIECE_BYTES - (at % PIECE_BYTES));
    const got = await readPiece(read, part, at);
    if (got === 0) break;
    isAny ||= got !== undefined;
    length += got ?? part.length;
  }
  return { length, isAny };
}

/** @returns undefined: it is the filler now */
async function readPiece(
  read: ReadPart,
  part: Uint8Array,
  position: number,
): Promise<number | undefined> {
  try {
    return await read(part, position);
  } catch (error) {
    if (!isUnreadable(error)) throw error;
    part.fill(FILLER);
    return undefined;
  }
}

/** A file may end near the window, and other places of it may be bad as well. */
async function isElsewhere(read: ReadPart, position: number, length: number): Promise<boolean> {
  const start = position - (position % PIECE_BYTES);
  const end = position + length + PIECE_BYTES;
  const behind = end - (end % PIECE_BYTES);
  const places = [behind, start - PIECE_BYTES, position + ELSEWHERE_BYTES, 0];
  places.push(position - ELSEWHERE_BYTES);
  const piece = new Uint8Array(PIECE_BYTES);
  for (const place of places) {
    const isInWindow = place >= start && place < behind;
    if (place < 0 || isInWindow) continue;
    if (((await readPiece(read, piece, place)) ?? 0) > 0) return true;
  }
  return false;
}

function isUnreadable(error: unknown): boolean {
  const { code, cause } = error as { code?: unknown; cause?: { code?: unknown } };
  return UNREADABLE.includes(String(cause?.code ?? code));
}
