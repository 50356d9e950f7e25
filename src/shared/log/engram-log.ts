/**
 * Reads the files that Engram itself wrote, for looking and comparing: our log never goes through
 * here. Damage is reported and never thrown, and nothing is allocated by a length that a file
 * claims. Where Engram's reader gives up a file (bad header) or all files (torn payload), this
 * one goes on at the next good header.
 */

import { ENTRY_HEADER_BYTES } from '../limits.js';
import {
  decodeHeader,
  type EntryHeader,
  EntryType,
  isGoodHeader,
  isGoodPayload,
  readPayloadSize,
} from './entry.js';

/** ENTRY_MAGIC as it stands in a file. */
const MAGIC_BYTES = [0xef, 0xbe, 0xad, 0xde];

/** One file of a directory: its name without the path, and all of its bytes. */
export interface NamedBytes {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** One whole entry: header_crc and payload_crc fit. */
export interface EngramEntry {
  readonly file: string;
  /** Of the header, in bytes from the start of the file. */
  readonly offset: number;
  readonly header: EntryHeader;
  /** A view of the file's bytes. */
  readonly payload: Uint8Array;
  /**
   * From 0. Engram counts from 0 again at each start, and its two writers count apart, so a
   * sequence that does not rise begins a new run. Two counters that interleave in rising order
   * cannot be told apart: nothing in the files names the writer.
   */
  readonly run: number;
  /**
   * Found by searching behind damage in this file, or following one that was. Sound in itself,
   * but it may have been the content of a damaged payload (a log kept inside an entry).
   */
  readonly searched: boolean;
}

/** Where a finding stands: `offset` in bytes from the start of the file. */
interface At {
  readonly file: string;
  readonly offset: number;
}

/** What is wrong, or worth a look, at one place of one file. */
export type EngramFinding =
  /** The header, or the payload behind a good one, is only begun. */
  | (At & { readonly kind: 'torn'; readonly part: 'header' | 'payload'; readonly bytes: number })
  /** No good header: one that lost its sum or its magic, or nothing that looks like one. */
  | (At & { readonly kind: 'damaged'; readonly part: 'header' | 'garbage'; readonly bytes: number })
  /** Zeros where a header should be. */
  | (At & { readonly kind: 'zeros'; readonly bytes: number })
  /** A good header; its payload does not fit payload_crc. */
  | (At & { readonly kind: 'bad-payload'; readonly sequence: bigint; readonly bytes: number })
  /** Warning: an earlier entry has this sequence; `first` says where. */
  | (At & { readonly kind: 'duplicate'; readonly sequence: bigint; readonly first: At })
  /** Warning: the run leaves these out before `offset`, and no damage there explains it. */
  | (At & { readonly kind: 'gap'; readonly from: bigint; readonly to: bigint })
  /** Warning: a type that Engram does not name; the entry is returned as it is. */
  | (At & { readonly kind: 'unknown-type'; readonly sequence: bigint; readonly type: number });

export interface EngramLog {
  /** Every whole entry, in file-name order and then file order: the order of writing. */
  readonly entries: readonly EngramEntry[];
  /** In the same order. */
  readonly findings: readonly EngramFinding[];
}

/** Whether Engram's reader opens a file of this name: anything may stand between the ends. */
export function isEngramLogName(name: string): boolean {
  return name.startsWith('wal-') && name.endsWith('.log');
}

/** Whether bytes are damaged or lost, as against entries that are whole but strange. */
export function isDamage({ kind }: EngramFinding): boolean {
  return kind !== 'duplicate' && kind !== 'gap' && kind !== 'unknown-type';
}

/** Reads all files that count, whatever state they are in. Never throws on their content. */
export function readEngramLog(files: readonly NamedBytes[]): EngramLog {
  const named = files.filter((file) => isEngramLogName(file.name));
  // Engram sorts names by their bytes; JavaScript's own order differs beyond the BMP.
  named.sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)));
  const reader = new Reader();
  for (const file of named) reader.file(file);
  return reader;
}

/** The same entries as Engram's reader hands them out: by sequence, equal ones as they stood. */
export function inEngramOrder(entries: readonly EngramEntry[]): EngramEntry[] {
  return [...entries].sort((a, b) => {
    const x = a.header.sequence;
    const y = b.header.sequence;
    return x < y ? -1 : x > y ? 1 : 0;
  });
}

/** One file under way. */
interface Walk {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** What may still be summed in vain: without a bound a hostile file took n^2. */
  sumBudget: number;
}

/** One walk over all files; runs and duplicates go across them. */
class Reader {
  readonly entries: EngramEntry[] = [];
  readonly findings: EngramFinding[] = [];
  readonly #first = new Map<bigint, At>();
  #run = 0;
  /** The sequence of the last good header, -1 before the first: Engram counts from 0. */
  #last = -1n;
  /** Unreadable bytes since then: they explain a gap. */
  #unread = false;

  file({ name: file, bytes }: NamedBytes): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const size = bytes.length;
    let searched = false;
    const walk: Walk = { bytes, view, sumBudget: size };
    for (let at = 0; at < size; ) {
      if (!isHeaderAt(view, at)) {
        const own = ownEnd(walk, at);
        const next = own ?? nextHeader(walk, at + 1, size) ?? size;
        this.findings.push(nameDamage(file, bytes, at, next));
        this.#unread = true;
        searched ||= own === undefined;
        at = next;
        continue;
      }
      const header = decodeHeader(view, at);
      const { sequence, payloadSize } = header;
      this.#follow(sequence, { file, offset: at });
      const start = at + ENTRY_HEADER_BYTES;
      const end = start + payloadSize;
      if (end <= size && isGoodPayload(bytes, view, at)) {
        const payload = bytes.subarray(start, end);
        const entry = { file, offset: at, header, payload, run: this.#run, searched };
        this.#add(entry);
        at = end;
        continue;
      }
      // A restart within one second appends behind a torn entry, inside what that one claims.
      const search = end > size || (!isEndSound(view, end) && payloadSize <= walk.sumBudget);
      if (search && end <= size) walk.sumBudget -= payloadSize;
      const inside = search ? nextHeader(walk, start, Math.min(end, size)) : undefined;
      const next = inside ?? Math.min(end, size);
      const where = { file, offset: at, bytes: next - at };
      this.findings.push(
        end > size
          ? { kind: 'torn', part: 'payload', ...where }
          : { kind: 'bad-payload', sequence, ...where },
      );
      searched ||= inside !== undefined;
      at = next;
    }
  }

  /** Takes note of the next good header: does it go on, leave something out, or begin again? */
  #follow(sequence: bigint, at: At): void {
    const next = this.#last + 1n;
    if (sequence < next) this.#run++;
    else if (sequence > next && !this.#unread) {
      this.findings.push({ kind: 'gap', ...at, from: next, to: sequence - 1n });
    }
    this.#last = sequence;
    this.#unread = false;
  }

  #add(entry: EngramEntry): void {
    this.entries.push(entry);
    const { sequence, type } = entry.header;
    const at = { file: entry.file, offset: entry.offset };
    if (type < EntryType.EpisodeStore || type > EntryType.CompactionMarker) {
      this.findings.push({ kind: 'unknown-type', ...at, sequence, type });
    }
    const first = this.#first.get(sequence);
    if (first === undefined) this.#first.set(sequence, at);
    else this.findings.push({ kind: 'duplicate', ...at, sequence, first });
  }
}

function isHeaderAt(view: DataView, at: number): boolean {
  return at + ENTRY_HEADER_BYTES <= view.byteLength && isGoodHeader(view, at);
}

/** An entry that ends here is followed by what should follow: a good header, or nothing. */
function isEndSound(view: DataView, end: number): boolean {
  return end === view.byteLength || isHeaderAt(view, end);
}

/** The first good header in `[from, to)`. */
function nextHeader({ bytes, view }: Walk, from: number, to: number): number | undefined {
  const first = MAGIC_BYTES[0]!;
  for (let at = bytes.indexOf(first, from); at >= 0 && at < to; at = bytes.indexOf(first, at + 1)) {
    if (isHeaderAt(view, at)) return at;
  }
  return undefined;
}

/**
 * Where the entry of a bad header ends, if the payload that it claims fits the payload_crc that
 * it claims and the end is sound: then both fields are right, and a search could only go wrong
 * (by finding a log kept inside this payload).
 */
function ownEnd(walk: Walk, at: number): number | undefined {
  const { bytes, view } = walk;
  if (at + ENTRY_HEADER_BYTES > bytes.length) return undefined;
  const payloadSize = readPayloadSize(view, at);
  const end = at + ENTRY_HEADER_BYTES + payloadSize;
  if (!isEndSound(view, end) || payloadSize > walk.sumBudget) return undefined;
  walk.sumBudget -= payloadSize;
  return isGoodPayload(bytes, view, at) ? end : undefined;
}

/** What to call the bytes of `[at, next)`, which hold no good header. */
function nameDamage(file: string, bytes: Uint8Array, at: number, next: number): EngramFinding {
  const where = { file, offset: at, bytes: next - at };
  const found = bytes.subarray(at, next);
  if (found.every((byte) => byte === 0)) return { kind: 'zeros', ...where };
  const hasMagic = MAGIC_BYTES.every((byte, i) => i >= found.length || found[i] === byte);
  if (found.length < ENTRY_HEADER_BYTES) {
    if (hasMagic) return { kind: 'torn', part: 'header', ...where };
    return { kind: 'damaged', part: 'garbage', ...where };
  }
  // With the magic put right: a header that lost nothing else still sums.
  const head = Uint8Array.from(found.subarray(0, ENTRY_HEADER_BYTES));
  head.set(MAGIC_BYTES);
  const isHeader = hasMagic || isGoodHeader(new DataView(head.buffer), 0);
  return { kind: 'damaged', part: isHeader ? 'header' : 'garbage', ...where };
}
