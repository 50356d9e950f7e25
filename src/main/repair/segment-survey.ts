/**
 * What a repair has to know of one segment file: where it is bad, and which entries of the spaces
 * concerned stand before and behind each bad place.
 */

import { failure } from '../../shared/errors.js';
import { ENTRY_HEADER_BYTES, REPAIR_PLACES_MAX } from '../../shared/limits.js';
import {
  readDurableLsn,
  readEpoch,
  readHeaderCrc,
  readPayloadSize,
  readSequence,
  readSpaceId,
  readTimestamp,
  readType,
} from '../../shared/log/entry.js';
import { isVoided } from '../../shared/log/rewind.js';
import { decodeMembers, MEMBERS_ENTRY, type MembersRow } from '../../shared/members/members.js';
import type { Epoch, Lsn, Position, Sequence } from '../../shared/position.js';
import type { SpaceState } from '../log/space-table.js';
import { addRun, type Runs } from '../read/damage.js';
import type { DiskFile } from '../segments/disk.js';
import { type BadPlace, type Extent, walkAround } from '../segments/walk.js';

export interface SurveyedPlace extends BadPlace {
  /** durable_lsn of the good entry before it in this segment. */
  readonly durableLsn: Lsn | undefined;
}

/** Good entries of one space between two bad places. */
interface Span {
  /** Index of the bad place before them; -1 for the segment's head. */
  readonly place: number;
  readonly first: Sequence;
  last: Sequence;
}

/** Entries of one space in the segment. */
export interface SeenSpace {
  readonly runs: Runs;
  readonly spans: Span[];
  /** The last of those that continue the space behind its known position. */
  end: { readonly position: Position; readonly timestamp: bigint } | undefined;
  /** The lowest sequence of each epoch. */
  readonly epochs: Map<Epoch, Sequence>;
  /** What its entries say about who counts. */
  readonly sets: MembersRow[];
}

/** The last good sequence before a bad place, in its segment. */
export function lastBefore(seen: SeenSpace | undefined, place: number): Sequence | undefined {
  return seen?.spans.findLast((s) => s.place < place)?.last;
}

/** The first good sequence behind a bad place, and whether another bad place lies between. */
export function firstBehind(
  seen: SeenSpace | undefined,
  place: number,
): { sequence: Sequence; isNext: boolean } | undefined {
  const span = seen?.spans.find((s) => s.place >= place);
  return span && { sequence: span.first, isNext: span.place === place };
}

export interface SegmentSurvey {
  readonly places: SurveyedPlace[];
  readonly seen: Map<SpaceState, SeenSpace>;
}

/**
 * Walks a segment up to `to`, around whatever is bad.
 * @param concerned by id; of other spaces nothing is remembered
 */
export async function surveySegment(
  file: DiskFile,
  extent: Extent,
  to: Lsn,
  salt: number,
  concerned: ReadonlyMap<string, SpaceState>,
): Promise<SegmentSurvey> {
  const places: SurveyedPlace[] = [];
  const seen = new Map<SpaceState, SeenSpace>();
  let durableLsn: Lsn | undefined;
  await walkAround(
    file,
    extent,
    extent.start,
    to,
    salt,
    (bytes, view, at, lsn) => {
      durableLsn = Math.max(durableLsn ?? 0, readDurableLsn(view, at, lsn));
      const space = concerned.get(readSpaceId(view, at));
      if (!space || isVoided(space.facts.voided, readSequence(view, at), lsn)) return;
      let known = seen.get(space);
      if (!known) {
        known = { runs: [], spans: [], end: undefined, epochs: new Map(), sets: [] };
        seen.set(space, known);
      }
      take(known, space.facts.position.sequence, places.length - 1, view, at);
      if (readType(view, at) === MEMBERS_ENTRY) known.sets.push(membersAt(bytes, view, at));
    },
    (place) => {
      if (places.length >= REPAIR_PLACES_MAX) {
        throw failure('CorruptionDetected', `more than ${REPAIR_PLACES_MAX} bad places`);
      }
      places.push({ ...place, durableLsn });
    },
  );
  return { places, seen };
}

function membersAt(bytes: Uint8Array, view: DataView, at: number): MembersRow {
  const start = at + ENTRY_HEADER_BYTES;
  const members = decodeMembers(bytes.subarray(start, start + readPayloadSize(view, at)));
  return { epoch: readEpoch(view, at), sequence: readSequence(view, at), ...members };
}

function take(
  seen: SeenSpace,
  position: Sequence,
  place: number,
  view: DataView,
  at: number,
): void {
  const sequence = readSequence(view, at);
  const epoch = readEpoch(view, at);
  addRun(seen.runs, sequence);
  const span = seen.spans.at(-1);
  if (span?.place === place) span.last = sequence;
  else seen.spans.push({ place, first: sequence, last: sequence });
  if (sequence < (seen.epochs.get(epoch) ?? Number.POSITIVE_INFINITY)) {
    seen.epochs.set(epoch, sequence);
  }
  if (sequence !== (seen.end?.position.sequence ?? position) + 1) return;
  const headerCrc = readHeaderCrc(view, at);
  seen.end = { position: { epoch, sequence, headerCrc }, timestamp: readTimestamp(view, at) };
}
