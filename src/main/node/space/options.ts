/** What a host gives to a space, and is given. */
import { failure } from '../../../shared/errors.js';
import { readGiven } from '../../../shared/host-input.js';
import { DEFAULT_ACK_TIMEOUT_MS } from '../../../shared/limits.js';
import { checkTimeout, describe, wrong } from '../../../shared/option-checks.js';
import type { Epoch, Sequence } from '../../../shared/position.js';
import type { Expected } from '../../log/host-entries.js';
import type { Abortable } from '../../runtime/abort.js';

export interface AckLevel {
  /** So many replicas have flushed the entry, besides this node. */
  readonly replicas: number;
  /** Default 5,000. */
  readonly timeoutMs?: number;
}

export interface AppendOptions extends Abortable {
  /** Default: durable on this node. */
  readonly ack?: AckLevel;
  /** false: reject Backpressure at once instead of waiting for room. */
  readonly wait?: boolean;
  /**
   * `applied`: resolves when this node's `apply` has returned for it as well, behind what `ack`
   * asks for and within its `timeoutMs` (default 5,000). Takes `applyWhenLeading`.
   */
  readonly until?: 'applied';
  /**
   * Only where no host has written behind this entry: its sequence, or what its append resolved
   * with; 0: the space has no entry of a host. Not for `appendBatch`. Else it rejects
   * SequenceConflict: `details.last` and `details.epoch` name the last entry of a host, which is
   * durable here. What the library writes into a space (types 5 and 7) conflicts with nobody.
   */
  readonly expected?: Sequence | Appended;
}

/** What `waitFor` and `catchUp` wait for, and for how long. */
export interface WaitOptions {
  /** true: until this node's `apply` has returned for it, too. */
  readonly applied?: boolean;
  /** Default 5,000. */
  readonly timeoutMs?: number;
}

/** What an append resolves with: a token of this very entry, for `waitFor` and `expected`. */
export interface Appended {
  readonly sequence: Sequence;
  readonly epoch: Epoch;
}

export interface AppendedBatch {
  readonly firstSequence: Sequence;
  readonly lastSequence: Sequence;
  readonly epoch: Epoch;
}

export function readAck(what: string, given: unknown, fewest?: number): Required<AckLevel> {
  const read = readGiven<AckLevel>(what, given, ['replicas', 'timeoutMs']);
  const { replicas = fewest, timeoutMs = DEFAULT_ACK_TIMEOUT_MS } = read;
  if (replicas === undefined || !Number.isSafeInteger(replicas) || replicas < 0) {
    throw wrong(`${what}: replicas`, replicas, 'a whole number from 0: { replicas: 1 }');
  }
  checkTimeout(`${what}: timeoutMs`, timeoutMs);
  return { replicas, timeoutMs };
}

export function readWait(what: string, given: Partial<WaitOptions>): Required<WaitOptions> {
  const { applied = false, timeoutMs = DEFAULT_ACK_TIMEOUT_MS } = given;
  if (typeof applied !== 'boolean') throw wrong(`${what}: applied`, applied, 'true or false');
  checkTimeout(`${what}: timeoutMs`, timeoutMs);
  return { applied, timeoutMs };
}

/** Whether `apply` is waited for. Throws Configuration where it is not called for what is led. */
export function readUntil(what: string, until: unknown, isAppliedWhenLed: boolean): boolean {
  if (until === undefined) return false;
  if (until !== 'applied') throw wrong(`${what}: until`, until, "'applied'");
  if (isAppliedWhenLed) return true;
  throw failure('Configuration', `${what}: until 'applied', on a node without applyWhenLeading`);
}

/** Throws Configuration for what is no token. */
export function readToken(what: string, given: unknown): Appended {
  if (typeof given !== 'object' || given === null) {
    throw wrong(what, given, 'what an append resolves with: { sequence, epoch }');
  }
  const { sequence, epoch } = readExpected(given);
  if (epoch === undefined) throw wrong(`${what}: epoch`, epoch, 'the epoch of the entry');
  return { sequence, epoch };
}

/** Throws Configuration for what is no sequence, and nothing that an append resolves with. */
export function readExpected(given: unknown): Expected {
  const { sequence, epoch } =
    typeof given === 'number'
      ? { sequence: given, epoch: undefined }
      : readGiven<Appended>('expected', given, ['sequence', 'epoch']);
  if (!Number.isSafeInteger(sequence) || sequence! < 0) {
    throw wrong('expected', sequence, 'a sequence, or { sequence, epoch }; 0 for none');
  }
  if (epoch !== undefined && (!Number.isSafeInteger(epoch) || epoch < 0)) {
    throw wrong('expected: epoch', epoch, 'a whole number, as an append resolves with it');
  }
  return { sequence: sequence!, epoch };
}

export function checkSequence(what: string, sequence: unknown): asserts sequence is number {
  if (Number.isSafeInteger(sequence) && (sequence as number) >= 1) return;
  const isNumber = typeof sequence === 'number';
  const expected = isNumber ? 'sequences are whole numbers from 1' : 'a sequence is a number';
  throw failure('Configuration', `${what} is ${describe(sequence)}: ${expected}`);
}
