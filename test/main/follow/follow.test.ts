/** A replica that nobody's `apply` reads keeps what its primary keeps (DESIGN 15, row 89). */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Node, NodeOptions, Space } from '#src/main/index.js';
import { openServed } from '#src/main/node/open-node.js';
import { at, contentOf, EachTest, heard, openSmall, SMALL, until } from '../../support/cluster.js';
import { TINY } from '../../support/fake-cluster.js';
import { OLD, putOldDirectory } from '../../support/old-directory.js';
import { StateHost } from '../../support/state-host.js';
import { batchFrame, PRIMARY, WireClient } from '../../support/wire-client.js';

const CLI = path.join(import.meta.dirname, '../../../dist/main/cli.js');
const LISTEN = { host: '127.0.0.1', port: 0 };
const FOLLOW = { follow: 'checkpoint' } as const;
const PAYLOAD = Buffer.alloc(8_000, 7);
const life = new EachTest();

/** Appends until the log has rolled so many times. */
async function fill(node: Node, space: Space, rolls: number): Promise<void> {
  const end = node.status().durableLsn + rolls * SMALL.segmentBytes;
  while (node.status().durableLsn < end) {
    await space.appendBatch(1, new Array<Buffer>(4).fill(PAYLOAD), { ack: { replicas: 1 } });
  }
}

function segmentsIn(dir: string): number {
  return fs.readdirSync(dir).filter((name) => name.endsWith('.log')).length;
}

async function runCli(...args: string[]): Promise<{ code: number; text: string }> {
  const child = spawn(process.execPath, [CLI, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (text += chunk));
  const [code] = await once(child, 'close');
  return { code, text };
}

/** `engram-wal serve`, as a process of its own. @returns where it listens */
async function serve(dir: string, more: object = {}): Promise<number> {
  const file = path.join(life.folder, 'serve.json');
  const { backoffStepsMs: _, ...sizes } = SMALL;
  const options = { ...sizes, dataDir: dir, nodeId: 'b', listen: LISTEN, ...more };
  fs.writeFileSync(file, JSON.stringify(options));
  const child = spawn(process.execPath, [CLI, 'serve', '--config', file]);
  life.finally(async () => {
    child.kill('SIGTERM');
    if (child.exitCode === null) await once(child, 'close');
  });
  let text = '';
  child.stdout.on('data', (chunk) => (text += chunk));
  await until('it serves', () => text.includes('"event":"serving"'), 20_000);
  const line = text.split('\n').find((one) => one.includes('"event":"serving"'))!;
  return (JSON.parse(line) as { address: { port: number } }).address.port;
}

/** A primary of version 2 by hand. */
async function dial(b: Node, epoch = 1, nodeId = PRIMARY): Promise<WireClient> {
  const client = new WireClient(b.address!.port);
  life.finally(() => client.socket.destroy());
  const auth = Buffer.alloc(16, nodeId);
  await client.hello('b', { nodeId, maxVersion: 2, incarnation: BigInt(epoch), auth });
  return client;
}

describe('a replica without a host', () => {
  test('FAULT-89 `serve` comes down to what its primary keeps, and stays there', async () => {
    const dir = path.join(life.folder, 'served');
    const port = await serve(dir);
    const a = await life.start('a', { replicas: [at('b', port)] });
    const space = await a.openSpace('s');
    const idle = await a.openSpace('idle');
    await idle.append(1, PAYLOAD, { ack: { replicas: 1 } });
    await fill(a, space, 38);
    expect(segmentsIn(dir)).toBeGreaterThan(36);
    await idle.checkpoint(idle.status().durableSequence + 1);
    await space.checkpoint(space.status().durableSequence);
    const own = path.join(life.folder, 'a');
    await until('its primary keeps little', () => segmentsIn(own) <= 4);
    await until('it keeps as little', () => segmentsIn(dir) <= 4, 10_000);
    // Under load as well, when the link is never idle.
    for (let n = 0; n < 10; n++) {
      await fill(a, space, 3);
      await space.checkpoint(space.status().durableSequence);
      await new Promise((resolve) => setTimeout(resolve, 300));
      expect(segmentsIn(dir)).toBeLessThan(20);
    }
    await until('and in the end again', () => segmentsIn(dir) <= 4, 10_000);
  });

  test('its checkpoint is durable, and no farther than what it has flushed', async () => {
    let b = await life.start('b', { listen: LISTEN, ...FOLLOW });
    const client = await dial(b);
    await client.follow('s');
    client.socket.write(batchFrame('s', 1, 3));
    await client.next('acks');
    client.send({ kind: 'checkpoints', rows: [{ handle: 1, sequence: 100 }] });
    const checkpoint = (): number => b.space('s').status().checkpoint;
    await until('all that it has', () => checkpoint() === 4);
    client.socket.write(batchFrame('s', 4, 9));
    await until('and what comes', () => checkpoint() === 10);
    // Back, or of a handle that nobody introduced: nothing comes of it.
    const rows = [2, 9].map((sequence) => ({ handle: sequence - 1, sequence }));
    client.send({ kind: 'checkpoints', rows });
    client.socket.write(batchFrame('s', 10, 12));
    await client.next('acks');
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    expect(checkpoint()).toBe(10);
    expect(b.space('s').status().keeps).toEqual({ by: 'primary', reason: '' });
    await b.close();
    b = await life.start('b', { listen: LISTEN, ...FOLLOW });
    expect(checkpoint()).toBe(10);
  });

  test('another primary with another history: only its own word counts', async () => {
    const b = await life.start('b', { listen: LISTEN, ...FOLLOW });
    const first = await dial(b);
    await first.follow('s');
    first.socket.write(batchFrame('s', 1, 9));
    await first.next('acks');
    first.send({ kind: 'checkpoints', rows: [{ handle: 1, sequence: 50 }] });
    await until('what it has', () => b.space('s').status().checkpoint === 10);
    const second = await dial(b, 2, 'other');
    // It goes back to entry 6, which both have, and then far beyond what the first one spoke of.
    second.send({
      kind: 'spaces',
      rows: [
        { handle: 1, id: b.space('s').status().id, epoch: 2, name: 's', members: [], sets: [] },
      ],
    });
    await second.next('positions');
    const history = [
      { epoch: 1, startSequence: 1 },
      { epoch: 2, startSequence: 7 },
    ].map((row) => ({ handle: 1, ...row, primaryNodeId: '0'.repeat(32) }));
    second.send({ kind: 'history', rows: history });
    second.send({ kind: 'verdicts', rows: [{ handle: 1, verdict: 'rewind', next: 7 }] });
    const { rows } = await second.next('positions');
    expect(rows[0]!.position.sequence).toBe(6);
    expect(b.space('s').status().checkpoint).toBeLessThanOrEqual(7);
    second.send({ kind: 'verdicts', rows: [{ handle: 1, verdict: 'continue', next: 7 }] });
    for (let at = 7; at < 67; at += 10) second.socket.write(batchFrame('s', at, at + 9, 2));
    await until('they have come', () => b.space('s').status().durableSequence >= 66);
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    expect(b.space('s').status().checkpoint).toBeLessThanOrEqual(7);
    second.send({ kind: 'checkpoints', rows: [{ handle: 1, sequence: 20 }] });
    await until('what it says', () => b.space('s').status().checkpoint === 20);
  });

  test('promoted: it keeps all until somebody checkpoints, and says so', async () => {
    const b = await life.start('b', { listen: LISTEN, http: { port: 0 }, ...FOLLOW });
    const a = await openSmall(path.join(life.folder, 'a'), 'a', {
      replicas: [at('b', b.address!.port)],
    });
    const space = await a.openSpace('s');
    await fill(a, space, 4);
    await space.checkpoint(20);
    await until('it follows', () => b.space('s').status().checkpoint === 20);
    const told = heard(b, 'keeps-all');
    await a.close();
    await b.promote('s', { force: true });
    expect(told).toEqual([{ space: 's', checkpoint: 20 }]);
    expect(b.space('s').status().keeps).toMatchObject({ by: 'nobody' });
    const { text } = await runCli('status', '--url', `http://127.0.0.1:${b.httpAddress!.port}`);
    expect(text).toContain('keeps all: led without a host');
    expect(text).toContain(`directory ${b.status().directoryId}`);
    const led = b.space('s');
    for (let n = 0; n < 40; n++) await led.appendBatch(1, [PAYLOAD, PAYLOAD, PAYLOAD, PAYLOAD]);
    expect(led.status().checkpoint).toBe(20);
    const before = b.status().segments;
    const dir = path.join(life.folder, 'b');
    const to = String(led.status().durableSequence);
    expect(await runCli('checkpoint', dir, '--space', 's', '--sequence', to)).toMatchObject({
      code: 0,
    });
    expect(led.status().checkpoint).toBe(Number(to));
    await until('it is freed', () => b.status().segments < Math.min(3, before));
    const beyond = await runCli('checkpoint', dir, '--space', 's', '--sequence', '99999');
    expect(beyond.code).not.toBe(0);
    expect(beyond.text).toContain('beyond the last entry');
    const unknown = await runCli('checkpoint', dir, '--space', 'x', '--sequence', '1');
    expect(unknown.text).toContain('SpaceUnknown');
  });

  test('FAULT-89 it keeps what others lack: they go on where it leads', async () => {
    const b = await life.start('b', { listen: LISTEN, ...FOLLOW });
    let c = await life.start('c', { listen: LISTEN, ...FOLLOW });
    const { port } = c.address!;
    const replicas = [at('b', b.address!.port), at('c', port)];
    const a = await life.start('a', { replicas });
    const space = await a.openSpace('s');
    await space.append(1, PAYLOAD, { ack: { replicas: 2 } });
    await c.close();
    await fill(a, space, 6);
    const far = space.status().durableSequence;
    await space.checkpoint(far);
    await until('b has them', () => b.space('s').status().durableSequence === far);
    // Longer than it takes to be told.
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    expect(b.space('s').status().firstSequence).toBe(1);
    await a.close();
    c = await life.start('c', { listen: { host: '127.0.0.1', port }, ...FOLLOW });
    await b.promote('s', { force: true });
    await b.space('s').append(1, PAYLOAD);
    const all = far + 2;
    await until('c has caught up', () => c.space('s').status().durableSequence === all);
    // And is told, as soon as nobody lacks anything.
    await b.space('s').checkpoint(all);
    await until('both free', () => b.status().segments < 3 && c.status().segments < 3);
  });

  test('a snapshot in its place: it follows from there', async () => {
    const [host, kept] = [new StateHost(), new StateHost()];
    const a = await life.start('a', {
      lead: true,
      snapshot: host.snapshot,
      replicas: [at('b', 1)],
    });
    const space = await a.openSpace('s');
    for (let n = 0; n < 120; n++) await host.append(space, PAYLOAD);
    await a.removeReplica('b');
    await space.checkpoint(100);
    await until('it is freed', () => space.status().firstSequence > 1);
    const b = await life.start('b', { listen: LISTEN, ...FOLLOW, restore: kept.restore });
    await a.addReplica(at('b', b.address!.port));
    const state = (): ReturnType<Space['status']> | undefined =>
      b.spaces.find((s) => s.name === 's')?.status();
    await until('it has come', () => (state()?.durableSequence ?? 0) >= 120, 20_000);
    for (let n = 0; n < 5; n++) await host.append(space, PAYLOAD);
    await space.checkpoint(124);
    await until('it follows', () => state()?.checkpoint === 124);
    expect(kept.restores).toBe(1);
  });
});

describe('the option', () => {
  test.each([
    [{ ...FOLLOW, apply: () => undefined }, 'follow'],
    [{ follow: 'primary' }, 'follow'],
    [{ follow: true }, 'follow'],
  ])('%j is refused', async (more, option) => {
    const opened = life.start('x', more as Partial<NodeOptions>);
    await expect(opened).rejects.toMatchObject({ code: 'Configuration' });
    await expect(opened).rejects.toThrow(option);
  });

  test('of `serve`: for new directories; older ones keep all until it is set', async () => {
    const dir = path.join(life.folder, 'old');
    putOldDirectory(dir);
    const own = { ...TINY, clusterId: 'golden', nodeId: 'a', dataDir: dir };
    for (const [more, by] of [
      [{}, 'host'],
      [FOLLOW, 'primary'],
      [{}, 'host'],
    ] as const) {
      const node = await openServed({ ...own, ...more });
      expect(node.space('s').status().keeps.by).toBe(by);
      expect(await contentOf(node.space('s'))).toHaveLength(OLD.spaces.s!.entries.length);
      await node.close();
    }
    const fresh = { ...SMALL, nodeId: 'n', dataDir: path.join(life.folder, 'n'), lead: true };
    for (const [more, by] of [
      [{}, 'nobody'],
      [{ follow: 'nothing' }, 'host'],
    ] as const) {
      const node = await openServed({ ...fresh, ...more });
      expect((await node.openSpace('s')).status().keeps.by).toBe(by);
      await node.close();
    }
  });
});
