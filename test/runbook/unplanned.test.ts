/** What goes wrong by itself: each chapter of the runbook done as it stands there. */
import fs from 'node:fs';
import { afterEach, describe, expect, test } from 'vitest';
import { follow } from './document.js';
import { Machines } from './machines.js';
import { DIR, sameOn, THREE, threeNodes } from './three-nodes.js';

const TEST_MS = 180_000;
/** The first entry that is still needed, where the log gives up what stands before it. */
const KEPT = 85;

let machines: Machines;

afterEach(() => machines?.close());

/** Changes one bit of an entry, where its segment lies. */
function rot(name: string, text: string): void {
  const folder = machines.placeOf(name, `${DIR}/`);
  for (const file of fs.readdirSync(folder)) {
    if (!file.endsWith('.log')) continue;
    const at = fs.readFileSync(`${folder}/${file}`).indexOf(text);
    if (at < 0) continue;
    const fd = fs.openSync(`${folder}/${file}`, 'r+');
    fs.writeSync(fd, Buffer.from([text.charCodeAt(0) ^ 1]), 0, 1, at);
    fs.closeSync(fd);
    return;
  }
  throw new Error(`${text} is not in the log of ${name}`);
}

async function each(names: readonly string[], line: string): Promise<void> {
  for (const name of names) await machines.must(name, line);
}

/** So many entries, until the log takes no more. */
function appends(count: number, bytes: number): string {
  const line = `head -c ${bytes} /dev/urandom | base64 -w0; echo`;
  const verb = `engram-wal append ${DIR} --space tenant-a`;
  return `for n in $(seq ${count}); do ${line}; done | ${verb} > /run/appended 2>&1`;
}

describe('what goes wrong, as the runbook says it', () => {
  test('a disk is full, and has room again', { timeout: TEST_MS }, async () => {
    machines = await Machines.start(THREE);
    // A disk of its own, with room for the two first segments.
    await machines.must('node-a', 'mount -t tmpfs -o size=24m tmpfs /var/lib');
    await threeNodes(machines, '"segmentBytes": 4000000');
    await machines.must('node-a', 'head -c 30M /dev/zero > /var/lib/core.1234 || true');
    expect((await machines.run('node-a', appends(30, 600_000))).code).toBe(2);
    expect(await machines.must('node-a', 'cat /run/appended')).toContain('DiskFull');
    await follow(machines, 'Make room');
    // What was acknowledged on the way is everywhere, what was refused is nowhere.
    await sameOn(machines, THREE);
  });

  test('one node rots, and heals from the others', { timeout: TEST_MS }, async () => {
    machines = await Machines.start(THREE);
    await threeNodes(machines);
    await machines.must('node-a', 'systemctl stop engram-wal');
    rot('node-a', 'tenant-a 20');
    await machines.must('node-a', 'systemctl start engram-wal');
    await follow(machines, 'It heals by itself');
    await sameOn(machines, THREE);
  });

  test('an entry is lost on all, and given up', { timeout: TEST_MS }, async () => {
    machines = await Machines.start(THREE);
    await threeNodes(machines);
    await each(THREE, 'systemctl stop engram-wal');
    for (const name of THREE) rot(name, 'tenant-a 20');
    await each(['node-b', 'node-c', 'node-a'], 'systemctl start engram-wal');
    await follow(machines, 'Accept the loss of a range');
    await sameOn(machines, THREE, { lost: [20] });
  });

  test('a replica whose slot is lost comes back by a backup', { timeout: TEST_MS }, async () => {
    machines = await Machines.start(THREE);
    await threeNodes(machines, '"maxSlotBytes": 4000000, "segmentBytes": 2000000');
    await machines.must('node-b', 'systemctl stop engram-wal');
    await machines.must('node-a', appends(40, 600_000));
    await machines.must(
      'node-a',
      `engram-wal checkpoint ${DIR} --space tenant-a --sequence ${KEPT}`,
    );
    await machines.must('node-b', 'systemctl start engram-wal');
    await follow(machines, 'Fill a replica from a backup of its primary');
    await sameOn(machines, THREE, { keptFrom: KEPT });
  });
});
