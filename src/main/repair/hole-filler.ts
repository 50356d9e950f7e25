/**
 * Fills the bad places of one segment with entries that other members have. What stands around
 * them keeps its place: a place is filled when the entries that were lost, and a filler for records
 * of the node that nobody has, take exactly its room; else it stays as it is.
 */

import type { SpaceIdWords } from '../../shared/bytes.js';
import { crc32c } from '../../shared/crc.js';
import { failure } from '../../shared/errors.js';
import { ENTRY_HEADER_BYTES, FILLER_MAX_BYTES } from '../../shared/limits.js';
import { Chain, type Neighbour } from '../../shared/log/chain.js';
import { sealLocal, stageHeader, stampPlace } from '../../shared/log/entry.js';
import { encodeNodeRecord, type Member, NODE_SPACE_ID } from '../../shared/log/node-record.js';
import { isVoided, validBelow } from '../../shared/log/rewind.js';
import type { DamagedRange } from '../../shared/log/space-facts.js';
import type { Lsn, Position, Sequence } from '../../shared/position.js';
import type { SpaceState } from '../log/space-table.js';
import type { LogReader } from '../read/reader.js';
import type { NamedEntry } from '../segments/walk.js';
import type { EntrySource } from './entry-source.js';
import type { SegmentRewrite } from './rewrite.js';
import {
  firstBehind,
  lastBefore,
  type SegmentSurvey,
  type SurveyedPlace,
} from './segment-survey.js';
import { splitOf } from './split.js';

const MARK = encodeNodeRecord({ kind: 'mark' });
const MARK_CRC = crc32c(MARK);
/** The shortest filler: a header and its kind. */
const FILLER_LEAST_BYTES = ENTRY_HEADER_BYTES + 1;
const NODE_WORDS: SpaceIdWords = [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff];

export interface FillerParts {
  readonly salt: number;
  readonly reader: LogReader;
  readonly source: EntrySource;
  readonly rewrite: SegmentRewrite;
  readonly survey: SegmentSurvey;
  /** Spaces with damage that nobody has accepted, by id. */
  readonly concerned: ReadonlyMap<string, SpaceState>;
  /** Where the entries before this segment end; its own start where nobody knows. */
  readonly previousEnd: Lsn;
  /** Bad places stand in later segments, too. */
  readonly isMoreBehind: boolean;
  membersOf(space: SpaceState): readonly Member[];
}

/** Entries of one space that belong, or may belong, into a bad place. */
interface Candidate {
  readonly space: SpaceState;
  readonly from: Sequence;
  /** Infinity: nobody knows how many there were. */
  readonly to: Sequence;
  /** All of them stood there. */
  readonly isFixed: boolean;
}

export class HoleFiller {
  readonly #parts: FillerParts;
  /** Why a space cannot be brought back any further: its later places wait as well. */
  readonly stuck: Map<SpaceState, string>;
  readonly #placed = new Map<SpaceState, Sequence>();
  #pending: { lsn: Lsn; bytes: Uint8Array }[] = [];
  /** What was put last, to be taken back where it leaves too little room. */
  #last: { candidate: Candidate; lsn: Lsn } | undefined;
  #cursor: Lsn = 0;
  /** The next entry of the last candidate found no room. */
  #isFull = false;

  constructor(parts: FillerParts, stuck: Map<SpaceState, string>) {
    this.#parts = parts;
    this.stuck = stuck;
  }

  /** Where what was put last ends. */
  get cursor(): Lsn {
    return this.#cursor;
  }

  /**
   * Fills the bad place of this index of the survey.
   * @param isOpenEnded where the entries end is not known: what is not filled is no entry
   * @returns whether it is whole now
   */
  async fill(index: number, isOpenEnded = false): Promise<boolean> {
    const place = this.#parts.survey.places[index]!;
    if (place.entry) return await this.#fillNamed(place, place.entry);
    const candidates = this.#candidates(place, index);
    if (candidates.length === 0) return false;
    this.#cursor = place.start;
    this.#last = undefined;
    const open = candidates.filter((candidate) => !candidate.isFixed);
    let taken: Map<Candidate, Candidate | undefined> | undefined;
    for (const one of candidates) {
      if (!one.isFixed) taken ??= await this.#split(open, place);
      const candidate = taken?.has(one) ? taken.get(one) : one;
      if (!candidate) continue;
      const next = await this.#restore(candidate, place);
      const isAll = next > candidate.to || candidate.to === Number.POSITIVE_INFINITY;
      // What finds no room here stood in a later place, if it may.
      if (isAll || (this.#isFull && !candidate.isFixed)) continue;
      const entry = `entry ${next} of ${candidate.space.facts.name}`;
      const why = this.#isFull ? `no room for ${entry}` : `no member gave ${entry}`;
      return await this.#giveUp(place, candidates, why);
    }
    if (this.#cursor === place.start) {
      return await this.#giveUp(place, candidates, 'no member gave what stood there');
    }
    if (isOpenEnded) return true;
    const problem = await this.#fillRest(place);
    return problem === undefined ? true : await this.#giveUp(place, candidates, problem);
  }

  /**
   * Of several spaces that may have stood here, each with entries in a later place as well: how far
   * each goes here, so that later places have room for what is left.
   * @returns those of which it is told; undefined: none of it stands here
   */
  async #split(
    open: readonly Candidate[],
    place: SurveyedPlace,
  ): Promise<Map<Candidate, Candidate | undefined>> {
    const found = new Map<Candidate, Candidate | undefined>();
    const isKnown = open.every(({ to }) => to < Number.POSITIVE_INFINITY);
    if (open.length < 2 || !isKnown) return found;
    const room = place.end - this.#cursor;
    const sizes: number[][] = [];
    for (const one of open) sizes.push(await this.#sizesOf(one, room));
    const counts = splitOf(sizes, room, FILLER_LEAST_BYTES);
    for (const [i, count] of (counts ?? []).entries()) {
      const one = open[i]!;
      found.set(one, count === 0 ? undefined : { ...one, to: one.from + count - 1 });
    }
    return found;
  }

  /** Of its entries that find room, in order. */
  async #sizesOf({ space, from, to }: Candidate, room: number): Promise<number[]> {
    const sizes: number[] = [];
    let left = room;
    await this.#parts.source.fetch(
      this.#wanted(space, from, to),
      this.#parts.membersOf(space),
      (_bytes, _view, _at, size) => {
        if (size > left) return false;
        left -= size;
        sizes.push(size);
        return true;
      },
    );
    return sizes;
  }

  /** The place stays as it is. */
  async #giveUp(
    place: SurveyedPlace,
    candidates: readonly Candidate[],
    why: string,
  ): Promise<false> {
    for (const { space } of candidates) this.stuck.set(space, why);
    this.#pending = [];
    await this.#parts.rewrite.putBack(place.start, place.end);
    return false;
  }

  // --- an entry whose header is good -----------------------------------------------------------

  async #fillNamed(place: SurveyedPlace, entry: NamedEntry): Promise<boolean> {
    const { rewrite, source, concerned } = this.#parts;
    const at = place.start + ENTRY_HEADER_BYTES;
    if (entry.id === NODE_SPACE_ID) {
      // Every mark is like any other; what another record said nobody else knows.
      if (entry.payloadSize !== MARK.length || entry.payloadCrc !== MARK_CRC) return false;
      await rewrite.put(at, MARK);
      return true;
    }
    const space = concerned.get(entry.id);
    const { sequence } = entry.position;
    if (!space || this.stuck.has(space) || !openRow(space, sequence)) return false;
    if (isVoided(space.facts.voided, sequence, place.start)) return false;
    const chain = new Chain(undefined, undefined, [entry.position]);
    let payload: Uint8Array | undefined;
    await source.fetch(
      this.#wanted(space, sequence, sequence),
      this.#parts.membersOf(space),
      (bytes, view, from, size) => {
        check(chain, space, view, from);
        payload = bytes.slice(from + ENTRY_HEADER_BYTES, from + size);
        return true;
      },
    );
    if (!payload) {
      this.stuck.set(space, `no member gave entry ${sequence} of ${space.facts.name}`);
      return false;
    }
    await rewrite.put(at, payload);
    this.#placed.set(space, sequence);
    return true;
  }

  #wanted(space: SpaceState, from: Sequence, to: Sequence) {
    return { spaceId: space.facts.id, spaceName: space.facts.name, from, to };
  }

  // --- a place that names nothing --------------------------------------------------------------

  /** First what must have stood there, then what may have. */
  #candidates(place: SurveyedPlace, index: number): Candidate[] {
    const found: Candidate[] = [];
    for (const space of this.#parts.concerned.values()) {
      if (this.stuck.has(space)) continue;
      for (const row of space.facts.damage) {
        if (row.accepted || row.lsn >= place.end) continue;
        const candidate = this.#candidate(space, row, index);
        if (candidate) found.push(candidate);
      }
    }
    return found.sort((a, b) => Number(b.isFixed) - Number(a.isFixed));
  }

  #candidate(space: SpaceState, row: DamagedRange, index: number): Candidate | undefined {
    const { survey, isMoreBehind } = this.#parts;
    const seen = survey.seen.get(space);
    const named = (places: readonly SurveyedPlace[]) =>
      places.flatMap(({ entry }) =>
        entry?.id === space.facts.id ? [entry.position.sequence] : [],
      );
    const before = Math.max(
      lastBefore(seen, index) ?? 0,
      this.#placed.get(space) ?? 0,
      ...named(survey.places.slice(0, index)),
    );
    const rest = survey.places.slice(index + 1);
    const next = firstBehind(seen, index);
    const named1 = named(rest)[0] ?? Number.POSITIVE_INFINITY;
    const behind = Math.min(next?.sequence ?? Number.POSITIVE_INFINITY, named1);
    const from = Math.max(row.from, before + 1);
    const last = row.doubt === 'record' ? space.facts.position.sequence : Number.POSITIVE_INFINITY;
    // What a later rewind took back is not asked for: nobody has it.
    const valid = validBelow(space.facts.voided, survey.places[index]!.start);
    const to = Math.min(row.to === 0 ? last : row.to, behind - 1, valid - 1);
    if (from > to) return undefined;
    const isLastPlace = !isMoreBehind && rest.every((p) => p.entry);
    const isFixed = to < Number.POSITIVE_INFINITY && (next?.isNext === true || isLastPlace);
    return { space, from, to, isFixed };
  }

  /** @returns the first sequence that was not put */
  async #restore(candidate: Candidate, place: SurveyedPlace): Promise<Sequence> {
    const { space, from, to } = candidate;
    const { source, salt } = this.#parts;
    const chain = await this.#chainOf(candidate);
    this.#isFull = false;
    const durableLsn = place.durableLsn ?? this.#parts.previousEnd;
    const next = await source.fetch(
      { ...this.#wanted(space, from, to), drain: () => this.#drain() },
      this.#parts.membersOf(space),
      (bytes, view, at, size) => {
        this.#isFull = size > place.end - this.#cursor;
        if (this.#isFull) return false;
        check(chain, space, view, at);
        const entry = bytes.slice(at, at + size);
        const lsn = this.#cursor;
        stampPlace(new DataView(entry.buffer), 0, salt, lsn, lsn - durableLsn);
        this.#pending.push({ lsn, bytes: entry });
        this.#last = { candidate, lsn };
        this.#cursor += size;
        return true;
      },
    );
    await this.#drain();
    if (next > from) this.#placed.set(space, next - 1);
    return next;
  }

  async #drain(): Promise<void> {
    for (const { lsn, bytes } of this.#pending.splice(0)) await this.#parts.rewrite.put(lsn, bytes);
  }

  async #chainOf({ space, from, to }: Candidate): Promise<Chain> {
    const { position } = space.facts;
    const known: Position[] = position.sequence > 0 ? [position] : [];
    const before = await this.#neighbour(space, from - 1);
    const behind = to < position.sequence ? await this.#neighbour(space, to + 1) : undefined;
    return new Chain(before, behind, known);
  }

  /** A good entry of ours; undefined where it is damaged itself, or freed. */
  async #neighbour(space: SpaceState, sequence: Sequence): Promise<Neighbour | undefined> {
    if (sequence < space.facts.first) return undefined;
    try {
      for await (const [entry] of this.#parts.reader.read(space, sequence, sequence)) return entry;
    } catch {
      // What it says is not known; the others say enough.
    }
    return undefined;
  }

  #isUnasked(space: SpaceState): boolean {
    const { source, membersOf } = this.#parts;
    return membersOf(space).some((m) => source.unreachable.has(m.nodeId));
  }

  /**
   * What no entry takes. Where the end of a space is not known, such bytes may have been entries of
   * it that no member has: a primary that took them for nothing would give their sequences again.
   * @returns why the place cannot be filled
   */
  async #fillRest(place: SurveyedPlace): Promise<string | undefined> {
    let left = place.end - this.#cursor;
    const isOpen = this.#last?.candidate.to === Number.POSITIVE_INFINITY;
    if (left > 0 && left < FILLER_LEAST_BYTES && isOpen) {
      const { candidate, lsn } = this.#last!;
      this.#cursor = lsn;
      this.#placed.set(candidate.space, this.#placed.get(candidate.space)! - 1);
      left = place.end - lsn;
    }
    if (left === 0) return undefined;
    for (const space of this.#parts.concerned.values()) {
      const isUnasked = this.#isUnasked(space);
      const isCounted = space.facts.damage.some(
        (d) =>
          !d.accepted &&
          d.to === 0 &&
          d.lsn <= place.start &&
          (d.doubt === 'end' ||
            (d.doubt === undefined && (space.facts.role === 'primary' || isUnasked))),
      );
      if (isCounted) return `${left} bytes at LSN ${this.#cursor} that no member accounts for`;
    }
    if (left < FILLER_LEAST_BYTES) return `${left} bytes are left at LSN ${this.#cursor}`;
    while (left > 0) {
      let size = Math.min(left, FILLER_MAX_BYTES);
      if (left > size && left - size < FILLER_LEAST_BYTES) size -= FILLER_LEAST_BYTES;
      const lsn = this.#cursor;
      const durableLsn = place.durableLsn ?? this.#parts.previousEnd;
      await this.#parts.rewrite.put(lsn, filler(size, this.#parts.salt, lsn, durableLsn));
      this.#cursor += size;
      left -= size;
    }
    return undefined;
  }
}

function check(chain: Chain, space: SpaceState, view: DataView, at: number): void {
  const problem = chain.take(view, at);
  if (problem !== undefined) throw failure('Fork', `${space.facts.name}: ${problem}`);
}

function openRow(space: SpaceState, sequence: Sequence): boolean {
  return space.facts.damage.some(
    (d) => !d.accepted && d.from <= sequence && (d.to === 0 || d.to >= sequence),
  );
}

function filler(size: number, salt: number, lsn: Lsn, durableLsn: Lsn): Uint8Array {
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  const payload = encodeNodeRecord({ kind: 'filler', bytes: size - ENTRY_HEADER_BYTES });
  bytes.set(payload, ENTRY_HEADER_BYTES);
  stageHeader(view, 0, 0, 0, 0, 6, payload.length, 0);
  sealLocal(bytes, view, 0, NODE_WORDS, salt, lsn, lsn - durableLsn);
  return bytes;
}
