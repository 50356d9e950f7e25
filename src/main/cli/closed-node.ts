/**
 * What a person decides about a directory whose node is closed: `engram-wal accept-loss` (damaged
 * entries will not come back, FAULTS row 6) and `engram-wal skip` (the host will never apply this
 * entry, row 52). Both stand in the state from then on.
 */
import path from 'node:path';
import { type EngramError, failure } from '../../shared/errors.js';
import type { SpaceFacts } from '../../shared/log/space-facts.js';
import { addSkip } from '../../shared/log/space-facts.js';
import { type State, StateWriter } from '../../shared/log/state.js';
import type { Sequence } from '../../shared/position.js';
import { shellWord } from '../../shared/shown.js';
import { newDirectoryId, readNodeFile, writeNodeFile } from '../recovery/node-file.js';
import { newestState, STATE_FILES } from '../recovery/recovery.js';
import { type Disk, replaceFile } from '../segments/disk.js';

/**
 * Marks one damaged range of a space as accepted: it takes entries again; reading what is lost
 * goes on to fail. @param to undefined for a range whose end nobody knows
 * Throws Configuration where the state knows no such range, Locked, Io.
 */
export async function acceptLoss(
  disk: Disk,
  dir: string,
  space: string,
  from: Sequence,
  to: Sequence | undefined,
): Promise<void> {
  await changeFacts(disk, dir, space, (facts) => {
    const range = facts?.damage.find((d) => d.from === from && d.to === (to ?? 0));
    if (!range) {
      const known = facts?.damage.map((d) => `${d.from}..${d.to || ''}`).join(', ') || 'none';
      throw failure('Configuration', `no damaged range ${from}..${to ?? ''}; known: ${known}`);
    }
    range.accepted = true;
  });
}

/**
 * The ranges that may be accepted, as the commands that accept them: what a person looks at first.
 * Changes nothing; the node may run. Throws Configuration where there is no such space, Io.
 */
export async function proposedLoss(disk: Disk, dir: string, space: string): Promise<string[]> {
  const full = path.resolve(dir);
  const state = await newestState(disk, full);
  const facts = state?.spaces.find((row) => row.facts.name === space)?.facts;
  if (!facts) throw notInState(space, dir);
  const open = facts.damage.filter((range) => !range.accepted);
  if (open.length === 0) return [`${space}: no damaged range is known that is not accepted`];
  return open.map(({ from, to }) => {
    const range = `--from ${from}${to === 0 ? '' : ` --to ${to}`}`;
    return `engram-wal accept-loss ${shellWord(dir)} --space ${shellWord(space)} ${range}`;
  });
}

/**
 * The host's apply callback is never given this entry again.
 * Throws Configuration where the state knows no such space, Locked, Io.
 */
export async function skipEntry(
  disk: Disk,
  dir: string,
  space: string,
  sequence: Sequence,
): Promise<void> {
  await changeFacts(disk, dir, space, (facts) => {
    if (!facts) throw notInState(space, dir);
    addSkip(facts, sequence);
  });
}

/** One that a killed node had made may stand in its log alone. */
function notInState(space: string, dir: string): EngramError {
  const found = `no space ${space} in the state of ${dir}`;
  const todo = 'a node that was killed writes there what its log has when it is opened again';
  return failure('Configuration', `${found}: ${todo}`);
}

async function changeFacts(
  disk: Disk,
  dir: string,
  space: string,
  change: (facts: SpaceFacts | undefined) => void,
): Promise<void> {
  const full = path.resolve(dir);
  if (!(await disk.list(full)).includes('node.json')) {
    throw failure('Configuration', `${dir} is no data directory of a node`);
  }
  const lock = await disk.lock(full);
  try {
    const state = await newestState(disk, full);
    change(state?.spaces.find((row) => row.facts.name === space)?.facts);
    await replaceStates(disk, full, state!);
  } finally {
    lock.release();
  }
}

/**
 * `engram-wal adopt`: a directory that was copied by other means than `backup` becomes one of its
 * own; opened, it follows whoever leads, and leads by force alone. @returns its new directory id
 * Throws Configuration, Locked, WrongUser, CorruptionDetected, UnsupportedVersion, DiskFull, Io.
 */
export async function adoptCopy(disk: Disk, dir: string): Promise<string> {
  const full = path.resolve(dir);
  if (!(await disk.list(full)).includes('node.json')) {
    throw failure('Configuration', `${dir} is no data directory of a node`);
  }
  const lock = await disk.lock(full);
  try {
    return await renewDirectoryId(disk, full);
  } finally {
    lock.release();
  }
}

/**
 * Makes a directory somebody new (DESIGN 14): one that is a copy, and is to live beside its
 * original or in its place. The caller has its lock. A crash leaves the old id or the new one.
 * @returns the new id. Throws CorruptionDetected, UnsupportedVersion, DiskFull, Io.
 */
export async function renewDirectoryId(disk: Disk, dir: string): Promise<string> {
  const file = await readNodeFile(disk, dir);
  const directoryId = newDirectoryId();
  const state = await newestState(disk, dir);
  // The witness first: a node.json that is lost later must not bring the old id back.
  if (state) await replaceStates(disk, dir, { ...state, directoryId });
  await writeNodeFile(disk, dir, { ...file, directoryId, copied: true });
  return directoryId;
}

/** Both generations: a damaged newer one must not bring the older mind back. */
async function replaceStates(disk: Disk, dir: string, state: State): Promise<void> {
  for (let n = 1; n <= STATE_FILES.length; n++) {
    const generation = state.generation + n;
    const name = STATE_FILES[generation % STATE_FILES.length]!;
    await replaceFile(disk, dir, name, encode(state, generation));
  }
}

function encode(state: State, generation: number): Uint8Array {
  const { lsn, durableLsn, nodeSequence, segments, holes } = state;
  const writer = new StateWriter(generation, lsn, state);
  for (const row of state.spaces) writer.space(row);
  return writer.finish(durableLsn, nodeSequence, segments, holes);
}
