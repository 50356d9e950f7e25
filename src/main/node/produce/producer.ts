/** What the host holds of a producer on the main thread, and hands to the thread that appends. */
import { failure } from '../../../shared/errors.js';
import { readGiven } from '../../../shared/host-input.js';
import {
  DEFAULT_RING_BYTES,
  PRODUCERS_MAX,
  RING_MAX_BYTES,
  RING_MIN_BYTES,
} from '../../../shared/limits.js';
import { wrong } from '../../../shared/option-checks.js';
import { allocateRing, ringBytesFor } from '../../../shared/produce/ring.js';
import type { SpaceState } from '../../log/space-table.js';
import { onAbort } from '../../runtime/abort.js';
import type { Appends } from '../space/appends.js';
import type { SpaceParts } from '../space/parts.js';
import { Intake } from './intake.js';

export interface ProducerOptions {
  /**
   * Shared memory for entries that main has not taken yet, beside `memoryBudgetBytes`. Rounded up
   * to a power of two that holds two of the largest entries; default 4 MiB.
   */
  readonly ringBytes?: number;
}

/** What `attachProducer` takes: it can be cloned from thread to thread. */
export interface ProducerData {
  readonly space: string;
  readonly maxEntryBytes: number;
  readonly memory: SharedArrayBuffer;
}

let made: (data: ProducerData, end: () => void) => Producer;

/** A producer for `workerData`: another thread takes it with `attachProducer`. */
export class Producer implements ProducerData {
  /** The name of its space. */
  readonly space: string;
  readonly maxEntryBytes: number;
  readonly memory: SharedArrayBuffer;
  readonly #end: () => void;

  static {
    made = (data, end) => new Producer(data, end);
  }

  private constructor({ space, maxEntryBytes, memory }: ProducerData, end: () => void) {
    this.space = space;
    this.maxEntryBytes = maxEntryBytes;
    this.memory = memory;
    this.#end = end;
  }

  /**
   * Takes nothing more from its thread: for one that has died. What was taken is on its way to the
   * disk; the thread's other appends reject Closed.
   */
  close(): void {
    this.#end();
  }
}

/** Throws Configuration, Closed. */
export function makeProducer(
  parts: SpaceParts,
  state: SpaceState,
  appends: Appends,
  options: ProducerOptions | undefined,
): Producer {
  const { ringBytes = DEFAULT_RING_BYTES } = readGiven<ProducerOptions>('producer', options, [
    'ringBytes',
  ]);
  if (
    !Number.isSafeInteger(ringBytes) ||
    ringBytes < RING_MIN_BYTES ||
    ringBytes > RING_MAX_BYTES
  ) {
    const expected = `a whole number from ${RING_MIN_BYTES} to ${RING_MAX_BYTES}`;
    throw wrong('producer: ringBytes', ringBytes, expected);
  }
  const { stop, config, producers } = parts;
  const { name } = state.facts;
  if (stop.aborted) throw failure('Closed', 'producer on a closed node');
  if (producers.size >= PRODUCERS_MAX) {
    const found = `${PRODUCERS_MAX} producers on this node: close those whose threads have ended`;
    throw failure('Configuration', found);
  }
  const memory = allocateRing(ringBytesFor(ringBytes, config.maxEntryBytes));
  const intake: Intake = new Intake(parts, state, appends, memory, () => {
    producers.delete(intake);
    forget();
  });
  const forget = onAbort(stop, () => intake.end(failure('Closed', 'append on a closed node')));
  producers.add(intake);
  void intake.serve();
  const end = (): void => intake.end(failure('Closed', 'append on a closed producer'));
  return made({ space: name, maxEntryBytes: config.maxEntryBytes, memory }, end);
}
