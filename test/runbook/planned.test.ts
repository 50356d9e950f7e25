/** Planned work: each chapter of the runbook done as it stands there, on machines of its own. */
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { blocksOf, follow, shows } from './document.js';
import { Machines } from './machines.js';

const SEED = path.join(import.meta.dirname, 'seed.mjs');
const SPACES = ['tenant-a', 'tenant-b', 'tenant-c'];
const THREE = ['node-a', 'node-b', 'node-c'];
const DIR = '/var/lib/engram-wal';
const ENTRIES = 50;
const TEST_MS = 180_000;

let machines: Machines;

afterEach(() => machines?.close());

/** The three nodes of the runbook, with entries that both replicas have. */
async function threeNodes(): Promise<void> {
  machines = await Machines.start(THREE);
  for (const name of THREE) key(name);
  await follow(machines, 'Three nodes');
  await machines.must('node-a', 'systemctl stop engram-wal');
  await machines.must('node-a', `${process.execPath} ${SEED} /etc/engram-wal/wal.json ${ENTRIES}`);
  await machines.must('node-a', 'systemctl start engram-wal');
}

function key(name: string): void {
  machines.write(name, '/etc/engram-wal/key', `${'k'.repeat(40)}\n`);
}

async function machine(name: string): Promise<void> {
  await machines.add(name);
  key(name);
}

/** What a node has of a space, as `inspect` shows it. */
async function entriesOf(name: string, space: string): Promise<string[]> {
  const line = `engram-wal inspect ${DIR} --space ${space} --limit 10000 --json`;
  const { entries } = JSON.parse(await machines.must(name, line)) as {
    entries: { sequence: number; epoch: number; preview: string }[];
  };
  return entries.map(({ sequence, epoch, preview }) => `${sequence} ${epoch} ${preview}`);
}

/** All of these nodes have the same of each space, and all that was ever acknowledged. */
async function sameOn(names: readonly string[]): Promise<void> {
  const until = performance.now() + 30_000;
  for (const space of SPACES) {
    for (;;) {
      const [first, ...others] = await Promise.all(names.map((name) => entriesOf(name, space)));
      const isSame = others.every((other) => other.join() === first!.join());
      if (isSame || performance.now() > until) {
        for (const other of others) expect(other).toEqual(first);
        for (let n = 1; n <= ENTRIES; n++) {
          expect(first!.filter((e) => e.endsWith(`${space} ${n}`))).toHaveLength(1);
        }
        break;
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

async function wipe(name: string): Promise<void> {
  await machines.must(name, 'systemctl kill -s KILL engram-wal');
  await machines.must(name, `rm -r ${DIR}/*`);
}

describe('planned work, as the runbook says it', () => {
  test('drain, and rebalance', { timeout: TEST_MS }, async () => {
    await threeNodes();
    await follow(machines, 'Drain a node, and rebalance');
    for (const name of THREE) {
      const { output } = await machines.run(name, 'engram-wal status');
      expect(output).toContain('3 spaces, 1 led here');
    }
    await sameOn(THREE);
  });

  test('grow, then retire', { timeout: TEST_MS }, async () => {
    await threeNodes();
    await machine('node-d');
    await follow(machines, 'Grow');
    await follow(machines, 'Retire a node');
    await sameOn(['node-a', 'node-b', 'node-d']);
  });

  test('rename', { timeout: TEST_MS }, async () => {
    await threeNodes();
    await follow(machines, 'Retire a node');
    await follow(machines, 'Rename a node');
    await sameOn(THREE);
  });

  test('move', { timeout: TEST_MS }, async () => {
    await threeNodes();
    await machine('node-d');
    await follow(machines, 'Move a node');
    await sameOn(['node-a', 'node-c', 'node-d']);
  });

  test('a dead node is replaced under its name', { timeout: TEST_MS }, async () => {
    await threeNodes();
    await wipe('node-b');
    await follow(machines, 'Replace a dead node');
    await sameOn(THREE);
  });

  test('a dead primary is forgotten', { timeout: TEST_MS }, async () => {
    await threeNodes();
    machines.remove('node-a');
    await follow(machines, 'Forget a dead primary');
    await sameOn(['node-b', 'node-c']);
  });

  test('upgrade, one at a time', { timeout: TEST_MS }, async () => {
    await threeNodes();
    await follow(machines, 'Upgrade, one node at a time');
    await sameOn(THREE);
  });

  test('the level of the log', { timeout: TEST_MS }, async () => {
    await threeNodes();
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
    await threeNodes();
    await follow(machines, 'Back up every night, and verify');
    await machines.must('node-b', 'systemctl kill -s KILL engram-wal');
    await machines.must('node-b', `rm ${DIR}/node.json ${DIR}/state*`);
    await follow(machines, 'Restore a node');
    await sameOn(THREE);
  });

  test('the cluster comes back from one', { timeout: TEST_MS }, async () => {
    await threeNodes();
    await machines.must('node-a', 'systemctl start engram-wal-backup.service');
    await machines.must('node-a', 'mkdir -p /mnt/backup/node-a');
    await machines.must('node-a', 'cp -a /var/lib/engram-wal-backup/. /mnt/backup/node-a/');
    for (const name of THREE) await wipe(name);
    await follow(machines, 'Restore the cluster from one backup');
    await sameOn(THREE);
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
