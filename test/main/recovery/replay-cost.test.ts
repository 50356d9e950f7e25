/** What a replay costs by how much is bad: as much again for as much again, not its square. */
import { describe, expect, test } from 'vitest';
import { Replay } from '#src/main/recovery/replay.js';
import { HOLES_MAX } from '#src/shared/limits.js';
import { ENTRY_MAGIC, encodeHeader } from '#src/shared/log/entry.js';
import { newSpaceFacts } from '#src/shared/log/space-facts.js';
import type { State } from '#src/shared/log/state.js';

const ID = '1'.padStart(32, '0');

function stateOf(spaces: number): State {
  const rows = Array.from({ length: spaces }, (_, i) => {
    return { lsn: 0, facts: newSpaceFacts((i + 1).toString(16).padStart(32, '0'), `s${i}`) };
  });
  const owner = { nodeId: 'a', clusterId: 'c', directoryId: '0'.repeat(32), madeAs: 2 };
  const log = { generation: 1, lsn: 0, durableLsn: 0, nodeSequence: 0, segments: [], holes: [] };
  return { ...owner, ...log, spaces: rows };
}

/** Every second header is bad, of entries of one space among many. @returns ms of CPU */
function cost(bad: number, spaces: number): number {
  const replay = new Replay(stateOf(spaces));
  const bytes = new Uint8Array(64);
  const view = new DataView(bytes.buffer);
  const header = { magic: ENTRY_MAGIC, timestamp: 1n, type: 1, payloadSize: 0, payloadCrc: 0 };
  const began = process.cpuUsage().user;
  for (let n = 0; n < bad; n++) {
    const lsn = 128 * n;
    replay.bad({ start: lsn, end: lsn + 64, entry: undefined });
    const rest = { headerCrc: n, spaceId: ID, epoch: 1, back: 0, place: 0 };
    encodeHeader(view, 0, { ...header, sequence: BigInt(2 * n + 2), ...rest });
    replay.entry(bytes, view, 0, lsn + 64);
  }
  replay.finish();
  const ms = (process.cpuUsage().user - began) / 1_000;
  const { damage } = replay.spaces.get(ID)!;
  expect(damage[0]).toMatchObject({ from: 1, to: 1 });
  expect(damage).toHaveLength(HOLES_MAX);
  return ms;
}

/** Whatever else the process does: the lesser of two runs. */
function least(bad: number, spaces: number): number {
  return Math.min(...Array.from({ length: 2 }, () => cost(bad, spaces)));
}

describe('a replay around what is bad', () => {
  test('FAULT-81 80,000 bad headers cost about eight times what 10,000 do', () => {
    const few = least(10_000, 1);
    expect(least(80_000, 1)).toBeLessThan(20 * few + 50);
  });

  test('FAULT-81 80,000 bad headers that concern 8,000 spaces: each is asked once', () => {
    const few = least(10_000, 1_000);
    expect(least(80_000, 8_000)).toBeLessThan(20 * few + 50);
  });
});
