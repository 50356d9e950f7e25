/** When a node tries for a space that nobody leads. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { EtcdCandidacy } from '#src/main/lead/etcd/candidacy.js';
import type { Pair } from '#src/main/lead/etcd/link.js';
import { EtcdRecords, type Known } from '#src/main/lead/etcd/records.js';
import { encodeNodeRow, encodeSpaceRow } from '#src/shared/lead/placement.js';
import { RESUME_GRACE_MS } from '#src/shared/limits.js';

const view = new Map<string, Pair>();
const records = new EtcdRecords('p/', view);
const tried: string[] = [];
let revision = 0;
let candidacy: EtcdCandidacy;

beforeEach(() => {
  vi.useFakeTimers();
  view.clear();
  tried.length = 0;
  candidacy = new EtcdCandidacy('a', records, {
    mayTry: () => true,
    standingOf: () => ({ role: 'primary', epoch: 7 }) as never,
    resume: async ({ row }) => void tried.push(row.name),
    promote: async (name) => void tried.push(name),
    done: () => undefined,
    waiting: () => undefined,
  });
});

afterEach(() => {
  candidacy.stop();
  vi.useRealTimers();
});

function put(key: string, value: string): void {
  view.set(key, { key, value, revision: ++revision });
  records.changed([key]);
}

function lives(nodeId: string, isDrained: boolean): void {
  const row = { nodeId, session: `${nodeId}2`, host: 'h', port: 1, place: 'p', isDrained };
  put(records.nodeKey(nodeId, row.session), encodeNodeRow(row));
}

/** A space of a and b, which the former life or lease of a node led last. */
function ledBy(nodeId: string, session: string): Known {
  const leader = { nodeId, session };
  const row = { name: 's', nodeIds: ['a', 'b'], epoch: 7, leader, released: false };
  put(records.keyOf('s'), encodeSpaceRow(row));
  return records.space(records.idOf('s'))!;
}

test('one that is drained leaves a space to who is back a moment after it', async () => {
  lives('a', true);
  candidacy.consider(ledBy('a', 'a1'));
  await vi.advanceTimersByTimeAsync(RESUME_GRACE_MS / 2);
  lives('b', false);
  ledBy('b', 'b2');
  await vi.advanceTimersByTimeAsync(2 * RESUME_GRACE_MS);
  expect(tried).toEqual([]);
});

test('one that is drained leads what nobody else can', async () => {
  lives('a', true);
  candidacy.consider(ledBy('a', 'a1'));
  await vi.advanceTimersByTimeAsync(2 * RESUME_GRACE_MS);
  expect(tried).toEqual(['s']);
});

test('one that is not drained goes on with what it led at once', async () => {
  lives('a', false);
  candidacy.consider(ledBy('a', 'a1'));
  await vi.advanceTimersByTimeAsync(0);
  expect(tried).toEqual(['s']);
});
