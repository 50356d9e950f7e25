/** What a host reads of one space: its iterators. */
import { failure } from '../../../shared/errors.js';
import { atCall, readGiven } from '../../../shared/host-input.js';
import type { Entry } from '../../../shared/log/entry.js';
import { cursorAt } from '../../../shared/log/truth.js';
import { describe } from '../../../shared/option-checks.js';
import type { Sequence } from '../../../shared/position.js';
import type { SpaceState } from '../../log/space-table.js';
import { checkSequence } from './options.js';
import type { SpaceParts } from './parts.js';

export interface ReadRange {
  readonly from?: Sequence;
  readonly to?: Sequence;
}

export interface SubscribeOptions {
  readonly from?: Sequence;
  readonly signal?: AbortSignal;
}

/** See Space.read. */
export function openRead(
  parts: SpaceParts,
  space: SpaceState,
  range: ReadRange | undefined,
): AsyncGenerator<Entry, void, undefined> {
  const { memory, reader } = parts;
  const durable = memory.durable(space.slot);
  const given = atCall(() => {
    const read = readGiven<{ from: Sequence; to: Sequence }>('read', range, ['from', 'to']);
    if (read.from !== undefined) checkSequence('read: from', read.from);
    if (read.to !== undefined && read.to !== 0) checkSequence('read: to', read.to);
    return read;
  });
  const at = cursorAt(0);
  const make = async function* (signal: AbortSignal) {
    const { from = 0, to = durable } = given();
    at.next = from;
    yield* reader.read(space, from, to, signal, at);
  };
  return reader.streams.open({ truth: space.truth, at, make }, false);
}

/** See Space.subscribe. */
export function openSubscription(
  parts: SpaceParts,
  space: SpaceState,
  options: SubscribeOptions | undefined,
): AsyncGenerator<Entry, void, undefined> {
  type Given = { from: Sequence; signal: AbortSignal };
  const { reader } = parts;
  let asked: AbortSignal | undefined;
  const given = atCall(() => {
    const read = readGiven<Given>('subscribe', options, ['from', 'signal']);
    const { from, signal } = read;
    if (from !== undefined) checkSequence('subscribe: from', from);
    if (signal === undefined || signal instanceof AbortSignal) {
      asked = signal;
      return read;
    }
    throw failure('Configuration', `subscribe: signal ${describe(signal)} is not an AbortSignal`);
  });
  const at = cursorAt(0);
  const make = async function* (stop: AbortSignal) {
    at.next = given().from ?? 0;
    yield* reader.follow(space, at.next, stop, at);
  };
  return reader.streams.open({ truth: space.truth, at, make }, true, asked);
}
