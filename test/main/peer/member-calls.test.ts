/** Questions about many spaces to one member, on their way: FAULTS row 115. */
import { expect, test } from 'vitest';
import type { PeerCall, PeerClient } from '#src/main/peer/client.js';
import { MemberCalls } from '#src/main/peer/member-calls.js';
import { ASK_SPACES_MAX, MEMBER_CALLS_MAX } from '#src/shared/limits.js';
import type { StandingRow } from '#src/shared/wire/peer-frames.js';

const B = { nodeId: 'b', host: '127.0.0.1', port: 4_000 };

/** A member that answers every question about spaces but these. */
function memberWithout(...silent: readonly string[]) {
  const opened: PeerCall[] = [];
  const asked: number[] = [];
  const open = async (): Promise<PeerCall> => {
    const call = {
      version: 2,
      close: () => undefined,
      ask: async (
        { ids }: { ids: readonly string[] },
        _kinds: unknown,
        _ms: number,
        heard: (part: { rows: readonly StandingRow[] }) => number,
      ) => {
        asked.push(ids.length);
        await new Promise((resolve) => setImmediate(resolve));
        const answered = ids.filter((id) => !silent.includes(id));
        heard({ rows: answered.map((id) => ({ id }) as StandingRow) });
        return [];
      },
    };
    opened.push(call as unknown as PeerCall);
    return call as unknown as PeerCall;
  };
  const calls = new MemberCalls({ open } as unknown as PeerClient);
  return { calls, opened, asked };
}

function ids(count: number): string[] {
  return Array.from({ length: count }, (_, n) => n.toString(16).padStart(32, '0'));
}

test('FAULT-115 what waits goes on a connection that is there', async () => {
  const { calls, opened, asked } = memberWithout();
  const many = ids(2 * MEMBER_CALLS_MAX * ASK_SPACES_MAX + 7);

  const rows = await Promise.all(many.map((id) => calls.standing(B, id)));

  expect(rows.map(({ id }) => id)).toEqual(many);
  expect(asked.reduce((sum, n) => sum + n, 0)).toBe(many.length);
  expect(asked).toHaveLength(2 * MEMBER_CALLS_MAX + 1);
  expect(opened).toHaveLength(MEMBER_CALLS_MAX);
});

test('FAULT-115 who gets no answer is told so, and those behind are asked for', async () => {
  const many = ids(MEMBER_CALLS_MAX * ASK_SPACES_MAX + 2);
  const { calls } = memberWithout(many[0]!);

  const all = await Promise.allSettled(many.map((id) => calls.standing(B, id)));

  expect(all[0]).toMatchObject({ status: 'rejected', reason: { code: 'ProtocolViolation' } });
  expect(all.slice(1).every(({ status }) => status === 'fulfilled')).toBe(true);
});
