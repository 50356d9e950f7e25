/** A replica whose process is killed and started again, ten times in a row (row 116). */
import { type ChildProcess, fork } from 'node:child_process';
import path from 'node:path';
import { expect, test } from 'vitest';
import { at, EachTest, heard, until } from '../support/cluster.js';
import { freePort } from '../support/etcd.js';
import { TcpProxy } from '../support/tcp-proxy.js';

const REPLICA = path.join(import.meta.dirname, 'replica-node.mjs');
// As a host leaves them; other tests are in more of a hurry.
const backoffStepsMs = [100, 1_000, 10_000, 60_000];

const each = new EachTest();

async function up(dir: string, port: number): Promise<ChildProcess> {
  const child = fork(REPLICA, [dir, String(port)]);
  each.finally(() => child.kill('SIGKILL'));
  await new Promise((resolve) => child.once('message', resolve));
  return child;
}

async function killed(child: ChildProcess): Promise<void> {
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await ended;
}

for (const listens of [true, false]) {
  const who = listens ? 'a primary that listens' : 'a primary that nobody can dial';
  test(`FAULT-116 restarted ten times in a row, ${who} dials each time`, async () => {
    const port = await freePort();
    const listen = listens ? { listen: { host: '127.0.0.1', port: 0 } } : {};
    const replicas = [at('b', port)];
    const a = await each.start('a', { ...listen, lead: true, replicas, backoffStepsMs });
    const space = await a.openSpace('s');
    const dir = path.join(each.folder, 'b');
    const waits: number[] = [];
    let last = 0;
    for (let life = 1; life <= 10; life++) {
      const child = await up(dir, port);
      const upMs = performance.now();
      const { sequence } = await space.append(1, Buffer.from(`life ${life}`));
      await until('it is dialled', () => space.status().isReplicated(1), 15_000);
      waits.push(performance.now() - upMs);
      // The first takes it in as a member, and that stands in the log, too.
      expect(sequence).toBe(life === 1 ? 1 : last + (life === 2 ? 3 : 1));
      last = sequence;
      await killed(child);
      // Away for longer and longer: backoff has grown by the time it is back.
      await new Promise((resolve) => setTimeout(resolve, 100 * life));
    }
    expect(Math.max(...waits)).toBeLessThan(10_000);
  }, 300_000);
}

test('FAULT-116 a net that is whole again is used within seconds, whoever backs off', async () => {
  const [port, own] = [await freePort(), await freePort()];
  const there = new TcpProxy(port);
  await there.listen();
  const back = new TcpProxy(own);
  await back.listen();
  each.finally(() => Promise.all([there.close(), back.close()]));
  await up(path.join(each.folder, 'b'), port);
  const listen = { host: '127.0.0.1', port: own };
  const advertise = { host: '127.0.0.1', port: back.port };
  const replicas = [at('b', there.port)];
  const a = await each.start('a', {
    listen,
    advertise,
    lead: true,
    replicas,
    backoffStepsMs: [60_000],
  });
  const space = await a.openSpace('s');
  await space.append(1, Buffer.from('one'));
  await until('it has it', () => space.status().isReplicated(1));
  const states = heard(a, 'replica-state');
  await back.close();
  await there.close();
  // From here on it is not dialled for half a minute, on the average.
  await until('it backs off', () => ['waiting', 'failed'].includes(states.at(-1)?.state ?? ''));
  await space.append(1, Buffer.from('two'));
  await there.listen();
  await back.listen();
  await until('it has the second', () => space.status().isReplicated(1), 15_000);
});
