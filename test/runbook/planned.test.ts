/** Planned work: each chapter of the runbook done as it stands there, on machines of its own. */
import { afterEach, describe, expect, test } from 'vitest';
import { blocksOf, follow, shows } from './document.js';
import { Machines } from './machines.js';
import { DIR, key, sameOn, THREE, threeNodes } from './three-nodes.js';

const TEST_MS = 180_000;

let machines: Machines;

afterEach(() => machines?.close());

async function begun(): Promise<void> {
  machines = await Machines.start(THREE);
  await threeNodes(machines);
}

async function machine(name: string): Promise<void> {
  await machines.add(name);
  key(machines, name);
}

async function wipe(name: string): Promise<void> {
  await machines.must(name, 'systemctl kill -s KILL engram-wal');
  await machines.must(name, `rm -r ${DIR}/*`);
}

describe('planned work, as the runbook says it', () => {
  test('drain, and rebalance', { timeout: TEST_MS }, async () => {
    await begun();
    await follow(machines, 'Drain a node, and rebalance');
    for (const name of THREE) {
      // What a node counts is counted once a second.
      const status = async () => (await machines.run(name, 'engram-wal status')).output;
      await expect.poll(status, { timeout: 20_000 }).toContain('3 spaces, 1 led here');
    }
    await sameOn(machines, THREE);
  });

  test('grow, then retire', { timeout: TEST_MS }, async () => {
    await begun();
    await machine('node-d');
    await follow(machines, 'Grow');
    await follow(machines, 'Retire a node');
    await sameOn(machines, ['node-a', 'node-b', 'node-d']);
  });

  test('rename', { timeout: TEST_MS }, async () => {
    await begun();
    await follow(machines, 'Retire a node');
    await follow(machines, 'Rename a node');
    await sameOn(machines, THREE);
  });

  test('move', { timeout: TEST_MS }, async () => {
    await begun();
    await machine('node-d');
    await follow(machines, 'Move a node');
    await sameOn(machines, ['node-a', 'node-c', 'node-d']);
  });

  test('a dead node is replaced under its name', { timeout: TEST_MS }, async () => {
    await begun();
    await wipe('node-b');
    await follow(machines, 'Replace a dead node');
    await sameOn(machines, THREE);
  });

  test('a dead primary is forgotten', { timeout: TEST_MS }, async () => {
    await begun();
    machines.remove('node-a');
    await follow(machines, 'Forget a dead primary');
    await sameOn(machines, ['node-b', 'node-c']);
  });

  test('upgrade, one at a time', { timeout: TEST_MS }, async () => {
    await begun();
    await follow(machines, 'Upgrade, one node at a time');
    await sameOn(machines, THREE);
  });

  test('upgrade, from a release that speaks an older protocol', { timeout: TEST_MS }, async () => {
    machines = await Machines.start(THREE);
    for (const name of THREE) machines.install(name, machines.older());
    await threeNodes(machines);
    const versions = async (name: string): Promise<number[]> => {
      const { replicas } = JSON.parse(await machines.must(name, 'engram-wal status --json'));
      return replicas.map(({ version }: { version: number }) => version);
    };
    expect(await versions('node-a')).toEqual([1, 1]);
    const append = (name: string, payload: string) =>
      machines.must(name, `engram-wal append ${DIR} --space tenant-b --payload ${payload} --ack 2`);
    await append('node-a', 'before');
    // Replicas first, who leads last: it hands over to one that is new already.
    for (const name of ['node-b', 'node-c', 'node-a']) {
      const between = () => machines.install(name, machines.current);
      await follow(machines, 'Upgrade, one node at a time', {}, { as: name, between });
      await sameOn(machines, THREE);
    }
    const located = await machines.must('node-a', `engram-wal locate ${DIR} --space tenant-b`);
    const leader = /node-[bc]/.exec(located)![0];
    expect(await versions(leader)).toEqual([2, 2]);
    await append(leader, 'after');
    await sameOn(machines, THREE);
  });

  test('the level of the log', { timeout: TEST_MS }, async () => {
    await begun();
    const debug = `journalctl -u engram-wal -o cat -g '"level":20'`;
    expect((await machines.run('node-a', debug)).output).toBe('');
    await follow(machines, 'See more in the log');
    await machines.must('node-b', 'systemctl restart engram-wal');
    await machines.must(
      'node-a',
      `for n in $(seq 100); do ${debug} && exit 0; sleep 0.1; done; exit 1`,
    );
  });
});

describe('backups, as the runbook says it', () => {
  test('every night; a node comes back from one', { timeout: TEST_MS }, async () => {
    await begun();
    await follow(machines, 'Back up every night, and verify');
    await machines.must('node-b', 'systemctl kill -s KILL engram-wal');
    await machines.must('node-b', `rm ${DIR}/node.json ${DIR}/state*`);
    await follow(machines, 'Restore a node');
    await sameOn(machines, THREE);
  });

  test('the cluster comes back from one', { timeout: TEST_MS }, async () => {
    await begun();
    await machines.must('node-a', 'systemctl start engram-wal-backup.service');
    await machines.must('node-a', 'mkdir -p /mnt/backup/node-a');
    await machines.must('node-a', 'cp -a /var/lib/engram-wal-backup/. /mnt/backup/node-a/');
    for (const name of THREE) await wipe(name);
    await follow(machines, 'Restore the cluster from one backup');
    await sameOn(machines, THREE);
  });
});

describe('how a chapter is followed', () => {
  test('what is shown is held against what is said, line by line', () => {
    const output = '  a: sound\nb   has 12 entries\nlast\n';
    expect(shows(output, 'a: sound\nb has … entries')).toBe(true);
    expect(shows(output, 'b has … entries\na: sound')).toBe(false);
    expect(shows(output, 'b has … bytes')).toBe(false);
    expect(shows(output, 'sound')).toBe(false);
  });

  test('a chapter that is not there is an error', () => {
    expect(() => blocksOf('Fly to the moon')).toThrow('no chapter');
  });
});
