/** A thread that appends dies in the middle, or writes whatever into its memory. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { attachProducer, openNode } from '#src/main/index.js';
import { chanceFrom } from '../../support/chance.js';
import { EachTest, until } from '../../support/cluster.js';
import { countsIn, openedAgain, Thread } from '../../support/producing.js';

const SEED = Number(process.env.ENGRAM_TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
const HOST = path.join(import.meta.dirname, '../../support/producing-host.mjs');
const HOSTS = { nodeId: 'a', clusterId: 'test' };
const DEATHS = 48;
const AT_ONCE = 4;
const life = new EachTest();

/** How much is acknowledged, as the host has told it last. */
function lastOf(lines: readonly string[]): Record<string, number> {
  return JSON.parse(lines.at(-1) ?? '{}') as Record<string, number>;
}

describe(`producers whose thread dies or runs wild, seed ${SEED}`, () => {
  test(`${DEATHS} threads end at any moment: no hole, nothing acknowledged is lost`, async () => {
    const chance = chanceFrom(SEED);
    const node = await life.start('a');
    const space = await node.openSpace('s');
    const acked = new Map<string, number>();
    const one = async (id: string): Promise<void> => {
      const producer = space.producer({ ringBytes: 65_536 });
      const thread = new Thread(life, producer, id, { bytes: 200 + chance(3_000) });
      const least = chance(200);
      await until('it appends', () => thread.acked > least);
      await sleep(chance(4));
      await thread.worker.terminate();
      acked.set(id, thread.acked);
      producer.close();
    };
    for (let n = 0; n < DEATHS; n += AT_ONCE) {
      await Promise.all(Array.from({ length: AT_ONCE }, (_, i) => one(`t${n + i}`)));
    }
    await space.append(1000, Buffer.from('main:0:'));
    const again = await openedAgain(life, node, 'a');
    const counts = await countsIn(again.space('s'));
    expect(acked.size).toBe(DEATHS);
    const lost = [...acked].filter(([id, count]) => counts.get(id)! < count);
    expect(lost).toEqual([]);
  }, 240_000);

  test('the process is killed: all that its threads were told is there, in order', async () => {
    const dataDir = path.join(life.folder, 'a');
    for (let round = 0; round < 3; round++) {
      const host = spawn(process.execPath, [HOST, path.join(dataDir, String(round))]);
      let told = '';
      let stderr = '';
      host.stdout.on('data', (chunk) => (told += chunk));
      host.stderr.on('data', (chunk) => (stderr += chunk));
      const lines = (): string[] => told.split('\n').slice(0, -1);
      const isBusy = (): boolean => Object.values(lastOf(lines())).every((n) => n > 500);
      await until('it appends', () => stderr !== '' || (lines().length > 0 && isBusy()));
      const ended = new Promise((resolve) => host.once('close', resolve));
      host.kill('SIGKILL');
      await ended;
      expect(stderr).toBe('');
      const node = await openNode({ dataDir: path.join(dataDir, String(round)), ...HOSTS });
      life.finally(() => node.close());
      const counts = new Map([
        ...(await countsIn(node.space('s0'))),
        ...(await countsIn(node.space('s1'))),
      ]);
      const lost = Object.entries(lastOf(lines())).filter(([id, n]) => counts.get(id)! < n);
      expect(lost).toEqual([]);
    }
  });

  test('what it writes into its memory breaks its own entries, and nobody else', async () => {
    const chance = chanceFrom(SEED);
    const node = await life.start('a');
    const [own, other] = [await node.openSpace('own'), await node.openSpace('other')];
    let ended = 0;
    let count = 0;
    // What main has taken by then is sound: some rounds more, where few were caught.
    for (let round = 0; round < 40 || (ended <= 3 && round < 400); round++) {
      const producer = own.producer({ ringBytes: 65_536 });
      const p = attachProducer(producer);
      const codes = new Set<string>();
      const [bytes, words] = [new Uint8Array(producer.memory), new Int32Array(producer.memory)];
      const ring = bytes.length - 65_536;
      for (let n = 0; n < 20; n++) {
        const payload = Buffer.alloc(chance(2_000));
        p.append(1000, payload).catch((error) => codes.add(error.code));
        // Some rounds write anywhere, some to the published entries, some to the words alone.
        const kind = round % 3;
        if (kind === 0) bytes[chance(bytes.length)] = chance(256);
        if (kind === 1) bytes[ring + chance(4_000)] = chance(256);
        if (kind === 2) words[16 * chance(9)] = chance(3) === 0 ? chance(2 ** 31) : chance(4_096);
        await other.append(1000, Buffer.from(`main:${count++}:`));
      }
      await own.append(1000, Buffer.from('as ever'));
      if (codes.has('ProtocolViolation')) ended++;
      producer.close();
    }
    expect(ended).toBeGreaterThan(3);
    expect(node.status().log.state).toBe('ok');
    const last = own.status().durableSequence;
    const again = await openedAgain(life, node, 'a');
    expect((await countsIn(again.space('other'))).get('main')).toBe(count);
    let next = 1;
    for await (const { sequence } of again.space('own').read()) expect(sequence).toBe(next++);
    // What was staged at that moment may have become durable by the end.
    expect(next - 1).toBeGreaterThanOrEqual(last);
  });
});
