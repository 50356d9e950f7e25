/**
 * `engram-wal accept-loss`: a person takes note that damaged entries will not come back (FAULTS
 * row 6). The space takes entries again; reading what is lost goes on to fail.
 */
import path from 'node:path';
import { failure } from '../shared/errors.js';
import type { Sequence } from '../shared/position.js';
import { type State, StateWriter } from '../shared/state.js';
import { type Disk, replaceFile } from './disk.js';
import { newestState, STATE_FILES } from './recovery.js';

/**
 * Marks one damaged range of a space as accepted, in both generations of the state.
 * @param to undefined for a range whose end nobody knows
 * Throws Configuration where the state knows no such range, Locked, Io.
 */
export async function acceptLoss(
  disk: Disk,
  dir: string,
  space: string,
  from: Sequence,
  to: Sequence | undefined,
): Promise<void> {
  const full = path.resolve(dir);
  if (!(await disk.list(full)).includes('node.json')) {
    throw failure('Configuration', `${dir} is no data directory of a node`);
  }
  const lock = await disk.lock(full);
  try {
    const state = await newestState(disk, full);
    const facts = state?.spaces.find((row) => row.facts.name === space)?.facts;
    const range = facts?.damage.find((d) => d.from === from && d.to === (to ?? 0));
    if (!state || !range) {
      const known = facts?.damage.map((d) => `${d.from}..${d.to || ''}`).join(', ') || 'none';
      throw failure('Configuration', `no damaged range ${from}..${to ?? ''}; known: ${known}`);
    }
    range.accepted = true;
    // Both generations: a damaged newer one must not bring the older mind back.
    for (let n = 1; n <= STATE_FILES.length; n++) {
      const generation = state.generation + n;
      const name = STATE_FILES[generation % STATE_FILES.length]!;
      await replaceFile(disk, full, name, encode(state, generation));
    }
  } finally {
    lock.release();
  }
}

function encode(state: State, generation: number): Uint8Array {
  const { lsn, nodeId, clusterId, durableLsn, nodeSequence, segments, holes } = state;
  const writer = new StateWriter(generation, lsn, nodeId, clusterId);
  for (const row of state.spaces) writer.space(row);
  return writer.finish(durableLsn, nodeSequence, segments, holes);
}
