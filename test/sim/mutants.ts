/**
 * Does the simulator see anything? `npm run mutants [-- --again] [--save]` puts one fault after
 * the other into a copy of the build and lets the simulator look for it, or the property test.
 * Exit 1 when one stays unseen.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/** Who looks for faults. */
const LOOKERS = {
  sim: 'test/sim/sim.ts',
  'roles-sim': 'test/sim/roles-sim.ts',
  property: 'test/property/property.ts',
} as const;

interface Edit {
  readonly file: string;
  /** Stands once in the built file. */
  readonly find: string;
  readonly put: string;
}

interface Mutant extends Edit {
  readonly what: string;
  /** What looks for it; `sim`, where nothing is said. */
  readonly by?: keyof typeof LOOKERS;
  /** Other places that are a part of it. */
  readonly and?: readonly Edit[];
  /** Other lines of defence, which would hide it. */
  readonly also?: readonly Edit[];
}

/** Whoever adds an entry to a space, it is the next one: the log itself sees to that. */
const ADDED_ANYWHERE: Edit = {
  file: 'main/log/write/open-group.js',
  find: 'if (first !== next)',
  put: 'if (false)',
};

/** The segment's entries behind the end that is told of it are a refusal to open. */
const NOTHING_BEHIND: Edit = {
  file: 'main/recovery/recovery.js',
  find: 'const limit = Math.min(Math.max(known ?? 0,',
  put: `if (known !== undefined && x > known) throw corrupt('entries behind the end');
        const limit = Math.min(Math.max(known ?? 0,`,
};

/** What a replica answers over its link says nothing of higher epochs. */
const FENCED_UNHEARD: Edit = {
  file: 'main/tell/part-events.js',
  find: 'fenced: (space, epoch, leader) => later.fenced(space, epoch, leader),',
  put: 'fenced: () => undefined,',
};

const MUTANTS: readonly Mutant[] = [
  {
    what: 'entries are acknowledged and shipped before their fdatasync',
    file: 'main/log/write/output.js',
    find: 'async sync() {\n        await final(this.#segments.file.sync());',
    put: 'async sync() {',
  },
  {
    what: 'a replica acknowledges what it has received, before its fdatasync',
    file: 'shared/link/receiver.js',
    find: 'this.#rows[row + RECEIVED] = last;',
    put: '(this.#rows[row + RECEIVED] = last, this.#reached(slot, FLUSHED, last));',
  },
  {
    what: 'a replica tells its position before what it has staged is durable',
    file: 'main/lead/roles.js',
    find: 'this.#memory.allocated(space.slot));\n        if (this.#hooks.isInstalling',
    put: '0);\n        if (this.#hooks.isInstalling',
    also: [ADDED_ANYWHERE],
  },
  {
    what: 'slots keep nothing',
    file: 'shared/log/slot.js',
    find: 'if (!slot.lost)',
    put: 'if (slot.lost)',
  },
  {
    what: 'catch-up begins behind what the replica lacks',
    file: 'workers/ship/outbox.js',
    find: 'this.#cursorKnown ? Math.min(cursor, lsn) : lsn',
    put: 'this.#cursorKnown ? Math.max(cursor, lsn) : lsn',
  },
  {
    what: 'runs of a batch of several spaces that found no room count as received',
    file: 'main/follow/batch-intake.js',
    find: 'this.#receiver.received(pending.slot(run), pending.first(run) - 1);',
    put: '',
    also: [ADDED_ANYWHERE],
  },
  {
    what: 'an entry of an older epoch joins a batch of several spaces',
    by: 'roles-sim',
    file: 'workers/ship/batch-source.js',
    find: 'if (readEpoch(view, first) !== epoch || readEpoch(view, last) !== epoch)',
    put: 'if (false)',
    and: [
      {
        file: 'workers/ship/batch-source.js',
        find: 'const isNow = readEpoch(view, offset) === epoch;',
        put: 'const isNow = true;',
      },
    ],
  },
  {
    what: 'what does not fit its sums is sent out of the same memory again',
    file: 'workers/ship/shipper.js',
    find: 'this.#source.distrustSlabs();',
    put: ';',
  },
  {
    what: 'the window is never freed',
    file: 'shared/link/flight.js',
    find: 'this.bytes -= bytes;',
    put: '',
  },
  {
    what: 'a checksum of a control frame is not looked at',
    file: 'shared/wire/frame.js',
    find: 'head.kind !== BATCHES && crc32c(body) !== head.crc',
    put: 'false',
  },
  {
    what: 'the directory is not synced when a segment is made',
    file: 'main/segments/segments.js',
    find: 'file.path = this.pathOf(start);\n            await this.#disk.syncDir(this.#dir);',
    put: 'file.path = this.pathOf(start);',
  },
  {
    what: 'the tail is not zeroed when the log is opened',
    file: 'main/segments/log-end.js',
    find: '    await zeroFrom(file, segment, x);\n}',
    put: '}',
  },
  {
    what: 'allocation is not taken back when a group is refused',
    file: 'main/log/lost-appends.js',
    find: 'memory.setAllocated(space.slot, durable);',
    put: '',
  },
  {
    what: 'an entry that the host has refused counts as applied',
    file: 'main/follow/apply.js',
    find: 'return { error };',
    put: 'return undefined;',
  },
  {
    what: 'the host’s own position is not asked for',
    file: 'main/follow/apply.js',
    find: `return space.facts.applied;
        for (let attempts = 1; !signal.aborted; attempts++) {
            try {
                const applied = await this.#asked(space);`,
    put: `return space.facts.applied;
        for (let attempts = 1; !signal.aborted; attempts++) {
            try {
                const applied = space.facts.applied;`,
  },
  {
    what: 'a link is believed in, however long it is silent',
    file: 'shared/link/sender.js',
    find: 'nowMs - this.#lastHeardMs >= this.#options.readTimeoutMs',
    put: 'false',
    also: [
      {
        file: 'shared/link/sender.js',
        find: 'isWriting && nowMs - this.#lastWroteMs >= this.#options.writeTimeoutMs',
        put: 'false',
      },
    ],
  },
  {
    what: 'a slot keeps less than its replica lacks',
    file: 'shared/log/slot.js',
    find: 'Math.min(floor, slot.flushed)',
    put: 'Math.min(floor, slot.flushed + 60)',
  },
  {
    what: 'what is staged counts as received for one entry too many',
    file: 'main/follow/batch-intake.js',
    find: 'this.#receiver.received(space.slot, sequence - 1);',
    put: 'this.#receiver.received(space.slot, sequence);',
  },
  {
    what: 'a freed segment is used again before a state without it is durable',
    file: 'main/segments/segments.js',
    find: 'stateBegins() {',
    put: `stateBegins() {
        for (const freed of this.#freed) freed.statesLeft = 0;
        this.#sweep();`,
  },
  {
    what: 'what a replica has is not kept with its slot: after a restart it counts as having all',
    file: 'shared/log/state.js',
    find: '.u64(slot.flushed)',
    put: '.u64(f.position.sequence)',
  },
  {
    what: 'a promise does not end what is followed in an epoch before it',
    by: 'roles-sim',
    file: 'main/lead/leadership.js',
    find: 'fence: (space) => parts.fence(space),',
    put: 'fence: () => undefined,',
    also: [
      {
        file: 'main/follow/batch-intake.js',
        find: 'known && batch.epoch < known.facts.epochSeen',
        put: 'false',
      },
    ],
  },
  {
    what: 'a primary takes no notice of a higher epoch',
    by: 'roles-sim',
    file: 'main/lead/fencing.js',
    find: 'halt(space) {',
    put: 'halt(space) { return;',
  },
  {
    what: 'a promise is given in an epoch that was promised to another',
    by: 'roles-sim',
    file: 'shared/lead/heard.js',
    find: "return own.promisedTo === '' ? 'grant' : 'refuse';",
    put: "return 'grant';",
  },
  {
    what: 'who is behind its members may lead',
    by: 'roles-sim',
    file: 'shared/lead/promotion-verdict.js',
    find: 'const isFree = !farthest &&',
    put: 'const isFree =',
    // What promises bring may have come between the two questions.
    also: [
      {
        file: 'main/lead/promotion/ballot.js',
        find: 'if (!best || comparePositions(best.position, position) <= 0)',
        put: 'if (true)',
      },
    ],
  },
  {
    what: 'one answer is enough to lead',
    by: 'roles-sim',
    file: 'shared/members/quorum.js',
    find: 'Math.max(1, replicas - keep + 1)',
    put: '1',
  },
  {
    what: 'a diverged suffix is rewound without a copy of it',
    by: 'roles-sim',
    file: 'main/lead/rejoin.js',
    find: 'const quarantine = await keepSuffix(...parts, space, from);',
    put: "const quarantine = '';",
  },
  {
    what: 'the lease is not looked at before an acknowledgement, nor is its end',
    by: 'roles-sim',
    file: 'main/lead/coordinator.js',
    find: 'if (nowMs < ackUntilMs)',
    put: 'if (true)',
  },
  {
    what: 'a lease lives from when its answer came, and without a margin',
    by: 'roles-sim',
    file: 'main/lead/etcd/session.js',
    find: 'const untilMs = sent.monotonicMs + lifeMs * (1 - LEASE_MARGIN);',
    put: 'const untilMs = performance.now() + lifeMs;',
  },
  {
    what: 'a lease outlives a sleep of its machine (row 84)',
    by: 'roles-sim',
    file: 'main/runtime/two-clocks.js',
    find: 'return apartMs >',
    put: 'return false && apartMs >',
  },
  {
    what: 'who waits is not told that the history it waited in is over (row 109)',
    by: 'roles-sim',
    file: 'main/log/space-table.js',
    find: 'if (wait.replicas >= replicas)',
    put: 'if (false)',
  },
  {
    what: 'who reads along is not told of what was taken back (row 110)',
    by: 'roles-sim',
    file: 'main/read/reader.js',
    find: 'if (at.next > first)',
    put: 'if (false)',
  },
  {
    what: 'of two rewinds who reads along is told of the last one alone (row 110)',
    by: 'roles-sim',
    file: 'shared/log/truth.js',
    find: 'this.#all.find((change) => change.mark > mark)?.first',
    put: 'this.#all.at(-1)?.first',
  },
  {
    what: 'a promotion waits for a host however long that is silent (row 112)',
    by: 'roles-sim',
    file: 'main/follow/host-calls.js',
    find: 'this.timeoutMs = timeoutMs;',
    put: 'this.timeoutMs = 2 ** 30;',
  },
  {
    what: 'while members change the new ones alone count (row 105)',
    by: 'roles-sim',
    file: 'shared/members/members.js',
    find: 'return row.old ? [row.old, row.next] : [row.next];',
    put: 'return [row.next];',
  },
  {
    what: 'a change of members is settled before those of before have it (row 105)',
    by: 'roles-sim',
    file: 'shared/members/quorum.js',
    find: 'return isKeptBy(row.old, row.sequence, progress);',
    put: 'return true;',
  },
  {
    what: 'whoever answers counts, member or not (row 106)',
    by: 'roles-sim',
    file: 'shared/members/quorum.js',
    find: 'got: countMembers(set, answered),',
    put: 'got: answered.length,',
  },
  {
    what: 'a directory that was emptied counts under its old name (row 108)',
    by: 'roles-sim',
    file: 'shared/members/members.js',
    find: 'return a.directoryId === b.directoryId;',
    put: 'return true;',
  },
  {
    what: 'who is asked to lead says that it does, in the epoch of who leads since (row 111)',
    by: 'roles-sim',
    file: 'main/lead/promotion/promotion.js',
    find: 'isPromoted: true, epoch: facts.epoch, passedOver',
    put: 'isPromoted: true, passedOver',
    and: [
      {
        file: 'main/lead/leadership.js',
        find: 'heardIn(frame, peerId) {',
        put: 'heardIn(frame, peerId) { return;',
      },
    ],
    also: [FENCED_UNHEARD],
  },
  {
    what: 'candidates that meet ask again at once, and nobody gives way (row 113)',
    by: 'roles-sim',
    file: 'main/lead/promotion/duels.js',
    find: 'async giveWay(space, others, asked, round) {',
    put: 'async giveWay(space, others, asked, round) { return undefined;',
    and: [
      {
        file: 'main/lead/promotion/duels.js',
        find: 'async led(space) {',
        put: 'async led(space) { return undefined;',
      },
    ],
  },
  {
    what: 'who comes back makes itself heard nowhere, and waits for a dial (row 116)',
    by: 'roles-sim',
    file: 'main/lead/knocking.js',
    find: '!stop.aborted; round++',
    put: 'false; round++',
  },
  {
    what: 'who has just begun to lead refuses what asks for replicas (row 117)',
    by: 'roles-sim',
    file: 'main/ship/link-waits.js',
    find: 'if (timeoutMs === 0 || !this.#isHope(space, replicas))',
    put: 'if (true)',
  },
  {
    what: 'what a candidate fetches is added to what another primary streams',
    by: 'roles-sim',
    file: 'main/lead/refill.js',
    find: 'if (!isAlone())',
    put: 'if (false)',
    also: [ADDED_ANYWHERE],
  },
  {
    what: 'a condition is judged without what is staged',
    file: 'main/log/host-entries.js',
    find: 'const end = memory.allocated(space.slot);',
    put: 'const end = memory.durable(space.slot);',
  },
  {
    what: 'an entry of another epoch meets a condition',
    by: 'roles-sim',
    file: 'main/log/host-entries.js',
    find: 'epochOf(sequence) === epoch;',
    put: 'true;',
  },
  {
    what: 'entries of the library stand against a condition',
    by: 'roles-sim',
    file: 'main/log/host-entries.js',
    find: 'if (!isOwn)',
    put: 'if (true)',
  },
  {
    what: 'a conflict is told before the entry that it names is durable',
    file: 'main/node/space/appends.js',
    find: 'await stayAlive(wal.whenDurable(space, conflict.last));',
    put: '',
  },
  {
    what: 'applied is told before the host has returned',
    file: 'main/follow/apply.js',
    find: 'if (!(await this.#hand(space, entries, signal)))',
    put: `this.#reached(space, sequence, signal);
            if (!(await this.#hand(space, entries, signal)))`,
  },
  {
    what: 'an entry of another epoch is what was waited for',
    by: 'roles-sim',
    file: 'main/node/space/waits.js',
    find: 'row.epoch > epoch && row.startSequence <= sequence',
    put: 'false',
    and: [
      {
        file: 'main/node/space/waits.js',
        find: '(epochAt(this.#space, sequence, durable) ?? epoch) < epoch',
        put: 'false',
      },
    ],
  },
  {
    what: 'a token of an epoch to come is taken for the one that is there',
    file: 'main/node/space/waits.js',
    find: '(epochAt(this.#space, sequence, durable) ?? epoch) < epoch',
    put: 'false',
  },
  {
    what: 'a shipper closes a segment while it reads it (row 98)',
    by: 'roles-sim',
    file: 'workers/ship/segment-reader.js',
    find: 'await reading?.catch(() => undefined);',
    put: '',
  },
  {
    what: 'a file is closed while calls of it are under way (row 98)',
    by: 'property',
    file: 'main/segments/disk-in-use.js',
    find: 'await this.#calls.end();\n        try {\n            await this.#file.close();',
    put: 'try {\n            await this.#file.close();',
  },
  {
    what: 'a group behind a roll is sealed with what was durable before it (row 99)',
    by: 'property',
    file: 'shared/log/group-commit.js',
    find: 'const known = Math.max(this.#durable, this.#rolledAt);',
    put: 'const known = this.#durable;',
    also: [NOTHING_BEHIND],
  },
  {
    what: 'a torn head of a fresh segment is taken for an empty segment (row 100)',
    by: 'property',
    file: 'main/recovery/recovery.js',
    find: 'head?.isThere || head?.isTouched || segment.start < acknowledged ||',
    put: 'head?.isThere ||',
  },
  {
    what: 'an end in an older list is believed against the entries behind it (row 101)',
    by: 'property',
    file: 'main/recovery/recovery.js',
    find: 'const known = told ? Math.max(listed ?? 0, next.previousEnd) : listed;',
    put: 'const known = listed ?? (told ? next.previousEnd : undefined);',
    also: [NOTHING_BEHIND],
  },
  {
    what: 'a new directory is not synced in its parent (row 102)',
    by: 'property',
    file: 'main/segments/disk.js',
    find: 'await disk.syncDir(path.dirname(dir)).catch((error) => {',
    put: 'await Promise.resolve().catch((error) => {',
  },
  {
    what: 'an opening on a full disk keeps the room that is set aside (row 13)',
    by: 'property',
    file: 'main/segments/log-end.js',
    find: "if (error.code !== 'DiskFull' || !hasReserve)",
    put: 'if (true)',
  },
  {
    what: 'an fdatasync that has failed is made once more (row 104)',
    by: 'property',
    file: 'main/log/write/output.js',
    find: 'async sync() {\n        await final(this.#segments.file.sync());',
    put: `async sync() {
        const { file } = this.#segments;
        await file.sync().catch(() => file.sync());`,
  },
  {
    what: 'what is recovered is not written again (row 104)',
    by: 'property',
    file: 'main/segments/log-end.js',
    find: 'await file.write(bytes, lsn - segment.start);\n    }',
    put: '}',
  },
  {
    what: 'what is made durable at opening is not read again (row 104)',
    by: 'property',
    file: 'main/recovery/recovery.js',
    find: 'if (again < x)',
    put: 'if (again < 0)',
  },
];

const ROOT = path.resolve(import.meta.dirname, '../..');
const SEEDS = 400;
const FROM = 1;

const RESULT = path.join(ROOT, 'bench/results/mutants.json');

interface Caught {
  readonly what: string;
  readonly seed: number | undefined;
  readonly how: string;
}

/** `--again`: the seeds that have shown them before are tried first. */
const KNOWN = new Map<string, number | undefined>();
if (process.argv.includes('--again')) {
  const { mutants } = JSON.parse(fs.readFileSync(RESULT, 'utf8')) as { mutants: Caught[] };
  for (const { what, seed } of mutants) KNOWN.set(what, seed);
}

/** The first of these seeds that fails on the build in `dir`. */
function firstFailure(
  dir: string,
  sim: string,
  from: number,
  seeds: number,
): { seed: number; how: string } | undefined {
  const args = ['--import', 'tsx', sim, '--seeds', `${seeds}`, '--from', `${from}`];
  const { stdout, status } = spawnSync('node', args, { cwd: dir, encoding: 'utf8' });
  if (status === 0) return undefined;
  const found = /^seed (\d+) failed: (.*)$/m.exec(stdout);
  if (!found) throw new Error(`${sim} ended with ${status}: ${stdout.slice(-2_000)}`);
  return { seed: Number(found[1]), how: found[2]! };
}

/** A copy of the build with these edits in it. */
function copyWith(edits: readonly Edit[], what: string): string {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'engram-wal-mutant-'));
  const parts = ['dist', 'test/sim', 'test/property', 'test/support'];
  for (const name of [...parts, 'package.json', 'tsconfig.json']) {
    fs.cpSync(path.join(ROOT, name), path.join(dir, name), { recursive: true });
  }
  fs.symlinkSync(path.join(ROOT, 'node_modules'), path.join(dir, 'node_modules'));
  for (const { file, find, put } of edits) {
    const built = path.join(dir, 'dist', file);
    const pieces = fs.readFileSync(built, 'utf8').split(find);
    if (pieces.length !== 2) throw new Error(`${what}: found ${pieces.length - 1} times`);
    fs.writeFileSync(built, pieces.join(put));
  }
  return dir;
}

/** Each fault still has its place in the code: `--check`, without looking for any. */
function check(): void {
  for (const { what, and, also, ...edit } of MUTANTS) {
    for (const { file, find } of [edit, ...(and ?? []), ...(also ?? [])]) {
      const text = fs.readFileSync(path.join(ROOT, 'dist', file), 'utf8');
      if (text.split(find).length === 2) continue;
      process.stdout.write(`not once in ${file}: ${what}\n`);
      process.exitCode = 1;
    }
  }
}

function tryOne(mutant: Mutant): Caught {
  const { what, and, also } = mutant;
  const around = also ?? [];
  const dir = copyWith([mutant, ...(and ?? []), ...around], what);
  const sane = copyWith(around, what);
  const sim = LOOKERS[mutant.by ?? 'sim'];
  try {
    const shows = (seed: number): { seed: number; how: string } | undefined => {
      const found = firstFailure(dir, sim, seed, 1);
      return found && !firstFailure(sane, sim, seed, 1) ? found : undefined;
    };
    const known = KNOWN.get(what);
    const again = known === undefined ? undefined : shows(known);
    if (again) return { what, ...again };
    for (let from = FROM; from < FROM + SEEDS; ) {
      const found = firstFailure(dir, sim, from, FROM + SEEDS - from);
      if (!found) break;
      if (!firstFailure(sane, sim, found.seed, 1)) return { what, ...found };
      // That is no proof; without a second line taken away it is a defect of ours.
      process.stdout.write(`seed ${found.seed} fails without the fault, too: ${what}\n`);
      if (!also) process.exitCode = 1;
      from = found.seed + 1;
    }
    return { what, seed: undefined, how: 'not caught' };
  } finally {
    for (const one of [dir, sane]) fs.rmSync(one, { recursive: true, force: true });
  }
}

const caught: Caught[] = [];
/** `--only TEXT`: those whose description has it. */
const only = process.argv[process.argv.indexOf('--only') + 1];
const isCheck = process.argv.includes('--check');
if (isCheck) check();
const chosen = process.argv.includes('--only')
  ? MUTANTS.filter(({ what }) => what.includes(only ?? ''))
  : MUTANTS;
for (const mutant of isCheck ? [] : chosen) {
  const one = tryOne(mutant);
  caught.push(one);
  process.stdout.write(
    `${one.seed === undefined ? 'NOT CAUGHT' : `seed ${one.seed}`}: ${one.what}\n`,
  );
  process.stdout.write(`  ${one.how.slice(0, 160)}\n`);
}
const unseen = caught.filter((c) => c.seed === undefined).length;
if (process.argv.includes('--save')) {
  // Of those that were not tried now, what was kept stays.
  const kept = (JSON.parse(fs.readFileSync(RESULT, 'utf8')) as { mutants: Caught[] }).mutants;
  const mutants = MUTANTS.flatMap(
    ({ what }) => [...caught, ...kept].find((one) => one.what === what) ?? [],
  );
  const report = { from: FROM, seeds: SEEDS, mutants };
  fs.writeFileSync(RESULT, `${JSON.stringify(report, null, 2)}\n`);
}
process.stdout.write(`${caught.length} faults put in, ${caught.length - unseen} caught\n`);
if (unseen > 0) process.exitCode = 1;
