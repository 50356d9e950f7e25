/**
 * A commit, step by step: from `append` on the primary to the acknowledgement of the last replica,
 * out of what threads.cjs has noted in each thread of each node. All times are of one clock.
 */
import type { Watched } from '../processes.js';

/** Kinds of notes, as threads.cjs writes them. */
const NOTE = { write: 1, sync: 2, batch: 3, ack: 4 } as const;

/** An entry that was followed: its sequence; when it was called, acknowledged, flushed there. */
export type Sample = readonly [number, number, number, number];

export const STEPS = [
  'append to write',
  'write and fdatasync',
  'fdatasync to ack on main',
  'durable to socket, slower link',
  'socket to replica write',
  'replica write and fdatasync',
  'replica fdatasync to ack sent',
  'ack sent to flushed on main',
] as const;

/** Ascending sequences, and when each was noted. */
interface Line {
  readonly sequences: readonly number[];
  readonly timesMs: readonly number[];
}

/** @param thread its name; of several of one name the nth */
function lineOf(watched: Watched, thread: string, kind: number, nth = 0): Line {
  const { values } = watched.notes.filter(({ name }) => name === thread)[nth] ?? { values: [] };
  const sequences: number[] = [];
  const timesMs: number[] = [];
  for (let at = 0; at < values.length; at += 3) {
    if (values[at] !== kind) continue;
    sequences.push(values[at + 1]!);
    timesMs.push(values[at + 2]!);
  }
  return { sequences, timesMs };
}

/** When the first note was made that covers the sequence; undefined where none does. */
function coveredMs({ sequences, timesMs }: Line, sequence: number): number | undefined {
  let low = 0;
  let high = sequences.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sequences[middle]! >= sequence) high = middle;
    else low = middle + 1;
  }
  return timesMs[low];
}

/** Of each step, what every followed entry spent in it, in microseconds. */
export function stepsOf(
  samples: readonly Sample[],
  primary: Watched,
  replicas: readonly Watched[],
): Map<string, number[]> {
  const found = new Map<string, number[]>(STEPS.map((step) => [step, []]));
  const writes = lineOf(primary, 'log-writer', NOTE.write);
  const syncs = lineOf(primary, 'log-writer', NOTE.sync);
  const sent = replicas.map((_, n) => lineOf(primary, 'shipper-thread', NOTE.batch, n));
  const there = replicas.map((replica) => ({
    writes: lineOf(replica, 'log-writer', NOTE.write),
    syncs: lineOf(replica, 'log-writer', NOTE.sync),
    acks: lineOf(replica, 'main', NOTE.ack),
  }));
  for (const [sequence, calledMs, ackedMs, flushedMs] of samples) {
    // The slowest of the replicas counts, step by step.
    const last = (times: (number | undefined)[]): number =>
      times.some((time) => time === undefined) ? Number.NaN : Math.max(...(times as number[]));
    const write = coveredMs(writes, sequence) ?? Number.NaN;
    const sync = coveredMs(syncs, sequence) ?? Number.NaN;
    const handed = last(sent.map((line) => coveredMs(line, sequence)));
    const farWrite = last(there.map((one) => coveredMs(one.writes, sequence)));
    const farSync = last(there.map((one) => coveredMs(one.syncs, sequence)));
    const farAck = last(there.map((one) => coveredMs(one.acks, sequence)));
    const moments = [calledMs, write, sync, ackedMs, handed, farWrite, farSync, farAck, flushedMs];
    if (moments.some(Number.isNaN)) continue;
    const took = [
      write - calledMs,
      sync - write,
      ackedMs - sync,
      handed - sync,
      farWrite - handed,
      farSync - farWrite,
      farAck - farSync,
      flushedMs - farAck,
    ];
    for (const [n, step] of STEPS.entries()) found.get(step)!.push(took[n]! * 1e3);
  }
  return found;
}

/** From durable to handed to the socket, of each batch of each link, in microseconds. */
export function handedMicros(primary: Watched, replicas: number): number[] {
  const syncs = lineOf(primary, 'log-writer', NOTE.sync);
  const found: number[] = [];
  for (let n = 0; n < replicas; n++) {
    const { sequences, timesMs } = lineOf(primary, 'shipper-thread', NOTE.batch, n);
    for (const [i, sequence] of sequences.entries()) {
      const durableMs = coveredMs(syncs, sequence);
      if (durableMs !== undefined) found.push((timesMs[i]! - durableMs) * 1e3);
    }
  }
  return found;
}
