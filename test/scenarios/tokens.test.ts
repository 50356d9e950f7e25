/** Tokens: waiting on any node for what another one has acknowledged, and for all of it. */
import { describe, expect, test } from 'vitest';
import type { Appended, Node, NodeOptions, Space } from '#src/main/index.js';
import type { Coordinator } from '#src/main/lead/coordinator.js';
import type { Electorate } from '#src/main/lead/promotion/electorate.js';
import { LeaderTips } from '#src/main/lead/promotion/leader-tips.js';
import { SpaceTable } from '#src/main/log/space-table.js';
import { newSpaceFacts } from '#src/shared/log/space-facts.js';
import { allocateMemory, NodeMemory } from '#src/shared/memory/slab.js';
import { EachTest, until } from '../support/cluster.js';
import { Trio } from '../support/trio.js';

const life = new EachTest();
const LONG = { timeoutMs: 20_000 };
const bytes = Buffer.from('entry');

/** `a` leads `s`, and each has its first entry. */
async function three(
  more: Partial<NodeOptions> = {},
  isCuttable = false,
): Promise<{ trio: Trio; nodes: Record<'a' | 'b' | 'c', Node>; s: Space }> {
  const trio = await Trio.make(['a', 'b', 'c'], isCuttable);
  life.finally(() => trio.close());
  const a = await trio.start('a');
  const b = await trio.start('b', more);
  const c = await trio.start('c', more);
  const s = await a.openSpace('s');
  await s.append(1, bytes, { ack: { replicas: 2, ...LONG } });
  return { trio, nodes: { a, b, c }, s };
}

describe('waitFor', () => {
  test('a replica has the entry, and has applied it where that is asked', async () => {
    const applied: number[] = [];
    const { nodes, s } = await three({
      apply: async (entries) => {
        await new Promise((resolve) => setTimeout(resolve, 30));
        applied.push(entries.at(-1)!.sequence);
      },
    });
    const far = nodes.b.space('s');
    const ahead = far.waitFor({ sequence: 9, epoch: 1 }, LONG);
    for (let n = 2; n <= 8; n++) {
      const token = await s.append(1, bytes);
      await far.waitFor(token, LONG);
      expect(far.status().durableSequence).toBeGreaterThanOrEqual(token.sequence);
    }
    const token = await s.append(1, bytes);
    await far.waitFor(token, { ...LONG, applied: true });
    expect(Math.max(...applied)).toBeGreaterThanOrEqual(9);
    await ahead;
    // On the node that leads, too; and what is there takes no time.
    await s.waitFor(token, { timeoutMs: 1 });
    await far.waitFor({ sequence: 3, epoch: 1 }, { timeoutMs: 1, applied: true });
  });

  test('it ends in time, with its signal, and with the node; no token is refused', async () => {
    const { trio, nodes, s } = await three();
    const far = nodes.b.space('s');
    const never = { sequence: 100, epoch: 1 };
    await expect(far.waitFor(never, { timeoutMs: 30 })).rejects.toMatchObject({
      code: 'AckTimeout',
      details: { ...never, durableSequence: far.status().durableSequence },
    });
    const stop = new AbortController();
    const aborted = far.waitFor(never, { ...LONG, signal: stop.signal });
    stop.abort();
    await expect(aborted).rejects.toMatchObject({ code: 'Aborted' });
    for (const wrong of [5, undefined, {}, { sequence: 1 }, { sequence: -1, epoch: 1 }]) {
      const waiting = far.waitFor(wrong as Appended);
      await expect(waiting).rejects.toMatchObject({ code: 'Configuration' });
    }
    const applying = s.waitFor({ sequence: 1, epoch: 1 }, { applied: true });
    await expect(applying).rejects.toMatchObject({ code: 'Configuration' });
    const closing = far.waitFor(never, LONG);
    const refused = expect(closing).rejects.toMatchObject({ code: 'Closed' });
    await trio.stop('b');
    await refused;
    // Whoever had it all before, too: what is acknowledged from now on it cannot know.
    await trio.stop('a');
    const over = { code: 'Closed' };
    await expect(s.waitFor({ sequence: 1, epoch: 1 })).rejects.toMatchObject(over);
    await expect(s.catchUp()).rejects.toMatchObject(over);
  });

  test('what was taken back is Rewound; what replaced it is waited for', async () => {
    const { trio, nodes, s } = await three({}, true);
    await trio.isolate('a');
    const gone = await s.append(1, bytes);
    const over = await s.append(1, bytes);
    await s.append(1, bytes);
    const { a, b, c } = nodes;
    const early = c.space('s').waitFor(over, LONG);
    const earlier = expect(early).rejects.toMatchObject({ code: 'Rewound' });
    await b.promote('s', { force: true });
    // The epoch's first entry stands where `gone` stood.
    const kept = await b.space('s').append(1, bytes);
    expect(kept).toEqual({ sequence: over.sequence, epoch: 2 });
    await c.space('s').waitFor(kept, LONG);
    await earlier;
    for (const node of [b, c]) {
      await expect(node.space('s').waitFor(gone, LONG)).rejects.toMatchObject({ code: 'Rewound' });
    }
    // It still has the others, at both sequences.
    const back = a.space('s').waitFor(kept, LONG);
    expect(a.space('s').status().durableSequence).toBeGreaterThan(kept.sequence);
    await trio.heal();
    await back;
    const found: string[] = [];
    for await (const e of a.space('s').read()) found.push(`${e.epoch}/${e.sequence}`);
    expect(found.at(-1)).toBe(`2/${kept.sequence}`);
    await expect(a.space('s').waitFor(gone, LONG)).rejects.toMatchObject({ code: 'Rewound' });
  });
});

describe('catchUp', () => {
  test('what was acknowledged before it is there when it resolves, however many ask', async () => {
    const { nodes, s } = await three();
    const far = nodes.c.space('s');
    expect(far.status().ageMs).toBeUndefined();
    expect(s.status().ageMs).toBe(0);
    for (let n = 0; n < 10; n++) {
      const { sequence } = await s.append(1, bytes);
      const all = await Promise.all(Array.from({ length: 20 }, () => far.catchUp(LONG)));
      expect(far.status().durableSequence).toBeGreaterThanOrEqual(sequence);
      expect(all.every((tip) => tip.sequence >= sequence && tip.epoch === 1)).toBe(true);
    }
    const asked = performance.now();
    const tip = await far.catchUp(LONG);
    const { ageMs } = far.status();
    expect(ageMs).toBeLessThanOrEqual(performance.now() - asked);
    expect(await s.catchUp()).toEqual(tip);
  });

  test('a leader that is gone is asked for again: the next one answers', async () => {
    const { trio, nodes, s } = await three();
    const last = await s.append(1, bytes, { ack: { replicas: 2, ...LONG } });
    await trio.stop('a');
    const far = nodes.c.space('s');
    await expect(far.catchUp({ timeoutMs: 200 })).rejects.toMatchObject({
      code: expect.stringMatching(/^Connection|^NotPrimary/),
    });
    const waiting = far.catchUp(LONG);
    await nodes.b.promote('s');
    const next = await nodes.b.space('s').append(1, bytes);
    expect((await waiting).sequence).toBeGreaterThanOrEqual(last.sequence);
    await until('c follows', () => far.status().primaryNodeId === 'b');
    expect(await far.catchUp(LONG)).toMatchObject({ epoch: 2 });
    expect(far.status().durableSequence).toBeGreaterThanOrEqual(next.sequence);
  });

  test('questions of one moment are two; without its lease no leader answers as one', async () => {
    const memory = new NodeMemory(allocateMemory(4096, 4 * 4096, 4));
    const spaces = new SpaceTable(memory);
    const facts = newSpaceFacts('ab'.repeat(16), 's');
    const space = spaces.add({ ...facts, role: 'replica', primary: 'b' });
    let asked = 0;
    const tip = { id: facts.id, leads: true, epoch: 3, sequence: 7 };
    const electorate = {
      tipOf: async () => {
        asked++;
        await new Promise((resolve) => setTimeout(resolve, 20));
        return tip;
      },
    } as unknown as Electorate;
    const coordinator = { ackUntilMs: Number.POSITIVE_INFINITY, leaderOf: () => undefined };
    const given = { nodeId: 'a', memory, spaces, electorate };
    const tips = new LeaderTips({ ...given, coordinator: coordinator as unknown as Coordinator });
    const all = await Promise.all(Array.from({ length: 1_000 }, () => tips.of(space)));
    expect(all.every(({ sequence, epoch }) => sequence === 7 && epoch === 3)).toBe(true);
    expect(asked).toBe(2);
    const own = async (): Promise<unknown> => {
      for await (const frame of tips.handlers['tip-ask']!(
        { kind: 'tip-ask', ids: [facts.id, '00'.repeat(16)] },
        { nodeId: 'c', maxFrameBytes: 1e6 },
      )) {
        return frame;
      }
      return undefined;
    };
    const none = { id: '00'.repeat(16), leads: false, epoch: 0, sequence: 0 };
    const row = { id: facts.id, leads: false, epoch: 0, sequence: 0 };
    expect(await own()).toEqual({ kind: 'tips', rows: [row, none] });
    space.facts.role = 'primary';
    expect(await own()).toEqual({ kind: 'tips', rows: [{ ...row, leads: true }, none] });
    coordinator.ackUntilMs = performance.now() - 1;
    expect(await own()).toEqual({ kind: 'tips', rows: [row, none] });
  });
});
