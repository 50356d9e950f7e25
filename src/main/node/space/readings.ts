/** What a host reads of one space: its iterators. */
import { types } from 'node:util';
import { failure } from '../../../shared/errors.js';
import { atCall, readGiven } from '../../../shared/host-input.js';
import type { Entry } from '../../../shared/log/entry.js';
import { cursorAt } from '../../../shared/log/truth.js';
import { wrong } from '../../../shared/option-checks.js';
import type { Sequence } from '../../../shared/position.js';
import type { SpaceState } from '../../log/space-table.js';
import type { Entries } from '../../read/entry-stream.js';
import { checkSignal } from '../../runtime/abort.js';
import { checkSequence } from './options.js';
import type { SpaceParts } from './parts.js';

export interface ReadRange {
  /** The first one that is read. Default: the first retained one. */
  readonly from?: Sequence;
  /** In its place: the first one that was written then or later. bigint: ns since the epoch. */
  readonly fromTime?: bigint | Date;
  /** In its place: so many, those before `to` and with it. */
  readonly last?: number;
  /** The last one that is read. Default: the durable end at the call. */
  readonly to?: Sequence;
  /** true: the newest first, from `to` down. */
  readonly reverse?: boolean;
  /** Aborted, the reading throws Aborted. */
  readonly signal?: AbortSignal;
}

export interface SubscribeOptions {
  readonly from?: Sequence;
  /** Aborted, the loop ends. */
  readonly signal?: AbortSignal;
}

/** ns since the Unix epoch. Throws Configuration for what is no time. */
export function readTime(what: string, time: unknown): bigint {
  if (typeof time === 'bigint') return time;
  // Of whatever realm.
  const ms = types.isDate(time) ? time.getTime() : Number.NaN;
  if (Number.isNaN(ms)) throw wrong(what, time, 'a Date, or a bigint of ns since the Unix epoch');
  return BigInt(Math.floor(ms)) * 1_000_000n;
}

export const RANGE = ['from', 'fromTime', 'last', 'to', 'reverse', 'signal'] as const;

/** What `subscribe` takes. */
export const FROM = ['from', 'signal'] as const;

function readRange(range: ReadRange | undefined) {
  const read = readGiven<ReadRange>('read', range, RANGE);
  const { from, last, to, reverse = false, signal } = read;
  checkSignal('read', signal);
  if (from !== undefined) checkSequence('read: from', from);
  if (last !== undefined) checkSequence('read: last', last);
  if (to !== undefined && to !== 0) checkSequence('read: to', to);
  const begins = RANGE.slice(0, 3).filter((key) => read[key] !== undefined);
  if (begins.length > 1) throw failure('Configuration', `read: ${begins.join(' and ')} at once`);
  if (typeof reverse !== 'boolean') throw wrong('read: reverse', reverse, 'true or false');
  const time = read.fromTime === undefined ? undefined : readTime('read: fromTime', read.fromTime);
  return { from, time, last, to, reverse, signal };
}

/** See Space.read. */
export function openRead(
  { memory, reader }: SpaceParts,
  space: SpaceState,
  range: ReadRange | undefined,
): Entries<Entry> {
  const durable = memory.durable(space.slot);
  let asked: AbortSignal | undefined;
  const given = atCall(() => {
    const read = readRange(range);
    asked = read.signal;
    return read;
  });
  const at = cursorAt(0);
  const make = async function* (signal: AbortSignal) {
    const { time, last, to = durable, reverse } = given();
    let { from = 0 } = given();
    if (last !== undefined) {
      const end = Math.min(to, memory.durable(space.slot));
      from = Math.max(space.facts.first, end - last + 1);
    }
    if (time !== undefined) from = await reader.atTime(space, time);
    if (reverse) {
      yield* reader.readBack(space, from, to, signal, at);
    } else {
      at.next = from;
      yield* reader.read(space, from, to, signal, at);
    }
  };
  return reader.streams.open({ truth: space.truth, at, make }, false, asked);
}

/** See Space.subscribe. */
export function openSubscription(
  parts: SpaceParts,
  space: SpaceState,
  options: SubscribeOptions | undefined,
): Entries<Entry> {
  type Given = { from: Sequence; signal: AbortSignal };
  const { reader } = parts;
  let asked: AbortSignal | undefined;
  const given = atCall(() => {
    const read = readGiven<Given>('subscribe', options, FROM);
    if (read.from !== undefined) checkSequence('subscribe: from', read.from);
    checkSignal('subscribe', read.signal);
    asked = read.signal;
    return read;
  });
  const at = cursorAt(0);
  const make = async function* (stop: AbortSignal) {
    at.next = given().from ?? 0;
    yield* reader.follow(space, at.next, stop, at);
  };
  return reader.streams.open({ truth: space.truth, at, make }, true, asked);
}
