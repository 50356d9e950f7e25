/**
 * Reads the files that Engram itself wrote, for looking and comparing: our log never goes through
 * here. Damage is reported and never thrown, and nothing is allocated by a length that a file
 * claims. Where Engram's reader gives up a file (bad header) or all files (torn payload), this
 * one goes on at the next good header.
 */
import {
  decodeHeader,
  ENTRY_MAGIC,
  type EntryHeader,
  EntryType,
  isGoodHeader,
  isGoodPayload,
  readPayloadSize,
} from './entry.js';
import { ENTRY_HEADER_BYTES } from './limits.js';

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

interface Range {
  /** In bytes from the start of the file. */
  readonly offset: number;
  readonly length: number;
}

/** What is wrong, or worth a look, at one place of one file. `isDamage` tells which. */
export type EngramFinding =
  /** The file ends inside a header. */
  | ({ readonly kind: 'torn-header' } & Range)
  /** A good header claims more payload than the file holds behind it. */
  | ({ readonly kind: 'torn-payload' } & Range & {
        readonly sequence: bigint;
        readonly payloadSize: number;
      })
  /** Begins as a header does, but header_crc or the magic does not fit. */
  | ({ readonly kind: 'bad-header' } & Range)
  /** A good header, and a payload that does not fit payload_crc. */
  | ({ readonly kind: 'bad-payload' } & Range & {
        readonly sequence: bigint;
        readonly payloadSize: number;
      })
  /** Bytes that are neither an entry nor what is left of one. */
  | ({ readonly kind: 'garbage' } & Range)
  /** Zeros where a header should be. */
  | ({ readonly kind: 'zeros' } & Range)
  /** Warning: an earlier entry has this sequence; `first` says where. */
  | {
      readonly kind: 'duplicate-sequence';
      readonly offset: number;
      readonly sequence: bigint;
      readonly first: { readonly file: string; readonly offset: number };
    }
  /** Warning: nothing is known of these sequences, which the run leaves out before `offset`. */
  | {
      readonly kind: 'gap';
      readonly offset: number;
      readonly from: bigint;
      readonly to: bigint;
    }
  /** Warning: a type that Engram does not name; the entry is returned as it is. */
  | {
      readonly kind: 'unknown-type';
      readonly offset: number;
      readonly sequence: bigint;
      readonly type: number;
    };

/** What one file showed, in the order of offsets. */
export interface EngramFileReport {
  readonly name: string;
  readonly size: number;
  readonly entryCount: number;
  readonly findings: readonly EngramFinding[];
}

export interface EngramLog {
  /** Every whole entry, in file-name order and then file order: the order of writing. */
  readonly entries: readonly EngramEntry[];
  /** One row for each file that counts, in name order. */
  readonly files: readonly EngramFileReport[];
}

/** Whether Engram's reader opens a file of this name: anything may stand between the ends. */
export function isEngramLogName(name: string): boolean {
  return name.startsWith('wal-') && name.endsWith('.log');
}

/** Whether bytes are damaged or lost, as against entries that are whole but strange. */
export function isDamage(finding: EngramFinding): boolean {
  switch (finding.kind) {
    case 'torn-header':
    case 'torn-payload':
    case 'bad-header':
    case 'bad-payload':
    case 'garbage':
    case 'zeros':
      return true;
    case 'duplicate-sequence':
    case 'gap':
    case 'unknown-type':
      return false;
  }
}

/** Reads all files that count, whatever state they are in. Never throws on their content. */
export function readEngramLog(files: readonly NamedBytes[]): EngramLog {
  const named = files.filter((file) => isEngramLogName(file.name));
  // Engram sorts names by their bytes; JavaScript's own order differs beyond the BMP.
  named.sort((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)));
  const reader = new Reader();
  const reports = named.map((file) => reader.file(file));
  return { entries: reader.entries, files: reports };
}

/** The same entries as Engram's reader hands them out: by sequence, equal ones as they stood. */
export function inEngramOrder(entries: readonly EngramEntry[]): EngramEntry[] {
  return [...entries].sort((a, b) => {
    const x = a.header.sequence;
    const y = b.header.sequence;
    return x < y ? -1 : x > y ? 1 : 0;
  });
}

/** One walk over all files; runs and duplicates go across them. */
class Reader {
  readonly entries: EngramEntry[] = [];
  readonly #first = new Map<bigint, EngramEntry>();
  #run = 0;
  /** The sequence of the last good header, -1 before the first: Engram counts from 0. */
  #last = -1n;

  file({ name, bytes }: NamedBytes): EngramFileReport {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const findings: EngramFinding[] = [];
    const before = this.entries.length;
    const size = bytes.length;
    let searched = false;
    // Summing what bad headers claim is bounded by the file, or a hostile one took n^2.
    const trust = { bytes: size };
    for (let at = 0; at < size; ) {
      if (!isHeaderAt(view, at)) {
        const own = ownEnd(bytes, view, at, trust);
        const next = own ?? nextHeader(bytes, view, at + 1, size) ?? size;
        findings.push(nameDamage(bytes, at, next));
        searched ||= own === undefined;
        at = next;
        continue;
      }
      const header = decodeHeader(view, at);
      this.#follow(header.sequence, at, findings);
      const end = at + ENTRY_HEADER_BYTES + header.payloadSize;
      if (end <= size && isGoodPayload(bytes, view, at)) {
        this.#add(
          {
            file: name,
            offset: at,
            header,
            payload: bytes.subarray(at + ENTRY_HEADER_BYTES, end),
            run: this.#run,
            searched,
          },
          findings,
        );
        at = end;
        continue;
      }
      // A restart within one second appends behind a torn entry, inside what it claims.
      const skips = end === size || (end < size && isHeaderAt(view, end));
      const inside = skips
        ? undefined
        : nextHeader(bytes, view, at + ENTRY_HEADER_BYTES, Math.min(end, size));
      const next = inside ?? Math.min(end, size);
      findings.push({
        kind: end > size ? 'torn-payload' : 'bad-payload',
        offset: at,
        length: next - at,
        sequence: header.sequence,
        payloadSize: header.payloadSize,
      });
      searched ||= inside !== undefined;
      at = next;
    }
    return { name, size, entryCount: this.entries.length - before, findings };
  }

  /** Takes note of the next good header: does it go on, leave something out, or begin again? */
  #follow(sequence: bigint, offset: number, findings: EngramFinding[]): void {
    if (sequence <= this.#last) this.#run++;
    else if (sequence > this.#last + 1n) {
      findings.push({ kind: 'gap', offset, from: this.#last + 1n, to: sequence - 1n });
    }
    this.#last = sequence;
  }

  #add(entry: EngramEntry, findings: EngramFinding[]): void {
    const { offset, header } = entry;
    const { sequence, type } = header;
    this.entries.push(entry);
    if (type < EntryType.EpisodeStore || type > EntryType.CompactionMarker) {
      findings.push({ kind: 'unknown-type', offset, sequence, type });
    }
    const first = this.#first.get(sequence);
    if (first === undefined) this.#first.set(sequence, entry);
    else {
      const { file, offset: at } = first;
      findings.push({ kind: 'duplicate-sequence', offset, sequence, first: { file, offset: at } });
    }
  }
}

function isHeaderAt(view: DataView, at: number): boolean {
  return at + ENTRY_HEADER_BYTES <= view.byteLength && isGoodHeader(view, at);
}

/** The first good header in `[from, to)`. */
function nextHeader(
  bytes: Uint8Array,
  view: DataView,
  from: number,
  to: number,
): number | undefined {
  const first = ENTRY_MAGIC & 0xff;
  for (let at = bytes.indexOf(first, from); at >= 0 && at < to; at = bytes.indexOf(first, at + 1)) {
    if (isHeaderAt(view, at)) return at;
  }
  return undefined;
}

/**
 * Where the entry of a bad header ends, if the payload that it claims fits the payload_crc that
 * it claims and something sound, or the end of the file, stands behind: then both fields are
 * right, and a search could only go wrong (by finding a log kept inside this payload).
 */
function ownEnd(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  trust: { bytes: number },
): number | undefined {
  if (at + ENTRY_HEADER_BYTES > bytes.length) return undefined;
  const size = readPayloadSize(view, at);
  const end = at + ENTRY_HEADER_BYTES + size;
  if (size > trust.bytes || (end !== bytes.length && !isHeaderAt(view, end))) return undefined;
  trust.bytes -= size;
  return end <= bytes.length && isGoodPayload(bytes, view, at) ? end : undefined;
}

/** What to call the bytes of `[at, next)`, which hold no good header. */
function nameDamage(bytes: Uint8Array, at: number, next: number): EngramFinding {
  const range = { offset: at, length: next - at };
  const found = bytes.subarray(at, next);
  if (found.every((byte) => byte === 0)) return { kind: 'zeros', ...range };
  // 64 bytes with the magic put right: a header that lost nothing but its magic still sums.
  const head = new DataView(new ArrayBuffer(ENTRY_HEADER_BYTES));
  found.subarray(0, ENTRY_HEADER_BYTES).forEach((byte, i) => {
    head.setUint8(i, byte);
  });
  const magicBytes = Math.min(4, found.length);
  const stored = head.getUint32(0, true);
  head.setUint32(0, ENTRY_MAGIC, true);
  const hasMagic =
    stored === (magicBytes === 4 ? ENTRY_MAGIC : ENTRY_MAGIC % 2 ** (8 * magicBytes));
  if (hasMagic && found.length < ENTRY_HEADER_BYTES && next === bytes.length) {
    return { kind: 'torn-header', ...range };
  }
  return { kind: hasMagic || isGoodHeader(head, 0) ? 'bad-header' : 'garbage', ...range };
}
