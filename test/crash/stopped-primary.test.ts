import { type ChildProcess, fork } from 'node:child_process';
import path from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { openSmall, until } from '../support/cluster.js';
import { Trio } from '../support/trio.js';

const NODE = path.join(import.meta.dirname, 'stopped-node.mjs');

let trio: Trio;
let child: ChildProcess | undefined;

afterEach(async () => {
  child?.kill('SIGKILL');
  await trio.close();
});

/** By sequence: what `s` holds on the node that is opened there for a moment. */
async function contentAt(nodeId: string): Promise<Map<number, string>> {
  const node = await openSmall(path.join(trio.folder, nodeId), nodeId, { openConfirmMs: 0 });
  const content = new Map<number, string>();
  for await (const { sequence, type, payload } of node.space('s').read()) {
    if (type === 1) content.set(sequence, Buffer.from(payload).toString());
  }
  await node.close();
  return content;
}

test('FAULT-74 without leases: who was stopped wakes beside a new primary', async () => {
  trio = await Trio.make();
  const b = await trio.start('b');
  const c = await trio.start('c');
  const acked: [number, string][] = [];
  const refused = new Set<string>();
  const roles: string[] = [];
  const { port } = trio.members.find((m) => m.nodeId === 'a')!;
  const others = JSON.stringify(trio.othersOf('a'));
  child = fork(NODE, [path.join(trio.folder, 'a'), String(port), others]);
  child.on('message', (m: { acked?: [number, string]; refused?: string; role?: string }) => {
    if (m.acked) acked.push(m.acked);
    if (m.refused) refused.add(m.refused);
    if (m.role) roles.push(m.role);
  });
  await until('it is under load', () => acked.length > 200);
  child.kill('SIGSTOP');
  // Either may lack what the other one has acknowledged: the one that is farther leads.
  const leader = await b.promote('s').then(
    () => b,
    async () => {
      await c.promote('s');
      return c;
    },
  );
  const before = acked.length;
  const led = await leader.openSpace('s');
  for (let n = 1; n <= 50; n++) await led.append(1, Buffer.from(`new ${n}`));
  await led.flushed(led.status().lastSequence, { replicas: 1, timeoutMs: 10_000 });
  child.kill('SIGCONT');
  await until('it follows', () => roles.at(-1) === 'replica');
  await until('all have all', () => led.status().isReplicated(2));
  const last = acked.length;
  await until('it refuses', () => refused.has('NotPrimary'));
  expect(acked.length).toBe(last);
  // What it was waiting for when it was stopped, and no more than that.
  expect(last - before).toBeLessThanOrEqual(8);
  child.kill('SIGKILL');
  await trio.stop('b');
  await trio.stop('c');
  const held = await contentAt('b');
  for (const [sequence, text] of acked) expect(held.get(sequence)).toBe(text);
  expect([...held.values()].filter((text) => text.startsWith('new'))).toHaveLength(50);
  expect(await contentAt('c')).toEqual(held);
  expect(await contentAt('a')).toEqual(held);
}, 60_000);
