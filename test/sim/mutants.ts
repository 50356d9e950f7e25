/**
 * Does the simulator see anything? `npm run mutants [-- --save]` puts one fault after the other
 * into a copy of the build and lets the simulator look for it. Exit 1 when one stays unseen.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

interface Mutant {
  readonly what: string;
  readonly file: string;
  /** Stands once in the built file. */
  readonly find: string;
  readonly put: string;
}

const MUTANTS: readonly Mutant[] = [
  {
    what: 'entries are acknowledged and shipped before their fdatasync',
    file: 'main/wal.js',
    find: 'await this.#segments.file.sync();\n        this.#isSynced = false;',
    put: ';\n        this.#isSynced = false;',
  },
  {
    what: 'a replica acknowledges what it has received, before its fdatasync',
    file: 'shared/receiver.js',
    find: 'followed.received = last;',
    put: '(followed.received = last, followed.flushed = last, this.#due(followed));',
  },
  {
    what: 'the gap check is off by one',
    file: 'shared/receiver.js',
    find: 'batch.startSequence > received + 1)',
    put: 'batch.startSequence > received + 2)',
  },
  {
    what: 'a replica tells its position before what it has staged is durable',
    file: 'main/roles.js',
    find: 'this.#memory.allocated(space.slot));\n        if (this.#hooks.isInstalling',
    put: '0);\n        if (this.#hooks.isInstalling',
  },
  {
    what: 'slots keep nothing',
    file: 'shared/slot.js',
    find: 'if (!slot.lost)',
    put: 'if (slot.lost)',
  },
  {
    what: 'catch-up begins behind what the replica lacks',
    file: 'workers/outbox.js',
    find: 'this.#cursorKnown ? Math.min(cursor, lsn) : lsn',
    put: 'this.#cursorKnown ? Math.max(cursor, lsn) : lsn',
  },
  {
    what: 'the window is never freed',
    file: 'shared/sender.js',
    find: 'this.#flightBytes -= batch.bytes;',
    put: '',
  },
  {
    what: 'a checksum of a control frame is not looked at',
    file: 'shared/frame.js',
    find: 'head.kind !== BATCHES && crc32c(body) !== head.crc',
    put: 'false',
  },
  {
    what: 'the directory is not synced when a segment is made',
    file: 'main/segments.js',
    find: 'this.pathOf(start));\n            await this.#disk.syncDir(this.#dir);',
    put: 'this.pathOf(start));',
  },
  {
    what: 'the tail is not zeroed when the log is opened',
    file: 'main/tail.js',
    find: '    await zeroFrom(file, segment, x);\n}',
    put: '}',
  },
  {
    what: 'allocation is not taken back when a group is refused',
    file: 'main/lost-appends.js',
    find: 'memory.setAllocated(space.slot, durable);',
    put: '',
  },
  {
    what: 'an entry that the host has refused counts as applied',
    file: 'main/apply.js',
    find: 'return { error };',
    put: 'return undefined;',
  },
  {
    what: 'the host’s own position is not asked for',
    file: 'main/apply.js',
    find: 'const applied = await appliedUpTo(space.facts.name);',
    put: 'const applied = space.facts.applied;',
  },
  {
    what: 'a link is believed in, however long it is silent',
    file: 'shared/sender.js',
    find: 'nowMs - this.#lastHeardMs >= SILENCE_MS',
    put: 'false',
  },
  {
    what: 'a slot keeps less than its replica lacks',
    file: 'shared/slot.js',
    find: 'Math.min(floor, slot.flushed)',
    put: 'Math.min(floor, slot.flushed + 60)',
  },
  {
    what: 'what is staged counts as received for one entry too many',
    file: 'main/batch-intake.js',
    find: 'this.#receiver.received(batch.spaceId, sequence - 1);',
    put: 'this.#receiver.received(batch.spaceId, sequence);',
  },
  {
    what: 'a freed segment is used again before states without it are durable',
    file: 'main/segments.js',
    find: 'const STATES_WITHOUT = 2;',
    put: 'const STATES_WITHOUT = 0;',
  },
];

const ROOT = path.resolve(import.meta.dirname, '../..');
const SEEDS = 400;
const FROM = 1;

interface Caught {
  readonly what: string;
  readonly seed: number | undefined;
  readonly how: string;
}

function tryOne(mutant: Mutant): Caught {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'engram-wal-mutant-'));
  try {
    for (const name of ['dist', 'test/sim', 'test/support', 'package.json', 'tsconfig.json']) {
      fs.cpSync(path.join(ROOT, name), path.join(dir, name), { recursive: true });
    }
    fs.symlinkSync(path.join(ROOT, 'node_modules'), path.join(dir, 'node_modules'));
    const file = path.join(dir, 'dist', mutant.file);
    const parts = fs.readFileSync(file, 'utf8').split(mutant.find);
    if (parts.length !== 2) throw new Error(`${mutant.what}: found ${parts.length - 1} times`);
    fs.writeFileSync(file, parts.join(mutant.put));
    const args = ['--import', 'tsx', 'test/sim/sim.ts', '--seeds', `${SEEDS}`, '--from', `${FROM}`];
    const { stdout, status } = spawnSync('node', args, { cwd: dir, encoding: 'utf8' });
    const found = /^seed (\d+) failed: (.*)$/m.exec(stdout);
    if (status === 0 || !found) return { what: mutant.what, seed: undefined, how: 'not caught' };
    return { what: mutant.what, seed: Number(found[1]), how: found[2]! };
  } finally {
    fs.rmSync(dir, { recursive: true, force: true });
  }
}

const caught: Caught[] = [];
/** `--only TEXT`: those whose description has it. */
const only = process.argv[process.argv.indexOf('--only') + 1];
const chosen = process.argv.includes('--only')
  ? MUTANTS.filter(({ what }) => what.includes(only ?? ''))
  : MUTANTS;
for (const mutant of chosen) {
  const one = tryOne(mutant);
  caught.push(one);
  process.stdout.write(
    `${one.seed === undefined ? 'NOT CAUGHT' : `seed ${one.seed}`}: ${one.what}\n`,
  );
  process.stdout.write(`  ${one.how.slice(0, 160)}\n`);
}
const unseen = caught.filter((c) => c.seed === undefined).length;
if (process.argv.includes('--save')) {
  const file = path.join(ROOT, 'bench/results/mutants.json');
  const report = { from: FROM, seeds: SEEDS, mutants: caught };
  fs.writeFileSync(file, `${JSON.stringify(report, null, 2)}\n`);
}
process.stdout.write(`${caught.length} faults put in, ${caught.length - unseen} caught\n`);
process.exit(unseen === 0 ? 0 : 1);
