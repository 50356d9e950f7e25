/**
 * Conditional appends from several nodes, reads in all directions, waits and applies on three real
 * nodes, through hand-overs, restarts, SIGKILLs and entries that are taken back, against a model of
 * a few lines. `npm run tokens -- [RUNS] [SEED] [--jobs N] [--seconds S] [--save]`: RUNS in all, or
 * those that S seconds are enough for, N at a time; kept in bench/results/tokens.json.
 */
import fs from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import type { Appended } from '#src/main/index.js';
import { IDS, type Id, type Line, lineOf, Refused, World } from './tokens-world.js';

/** Of calls that end well, however slow the machine is. */
const LONG = { timeoutMs: 300_000 };
/** Of waits that are to end badly. */
const SHORT = { timeoutMs: 30 };

type Written = Appended & { readonly text: string };

/** What hosts have written and is true, in order; what they wrote and was taken back. */
class Model {
  readonly kept: Written[] = [];
  readonly gone: Appended[] = [];
  /** So many of those kept are on two nodes at least: no failover takes them back. */
  safe = 0;
  leader: Id = 'a';
  #count = 0;

  get last(): Appended {
    return tokenOf(this.kept.at(-1));
  }

  next(): string {
    return `n${++this.#count}`;
  }
}

const tokenOf = ({ sequence, epoch }: Appended = { sequence: 0, epoch: 0 }): Appended => ({
  sequence,
  epoch,
});

/** How often each command has run, and what came of it. */
export type Counts = Record<string, number>;
const counts: Counts = {};
const count = (what: string): void => {
  counts[what] = (counts[what] ?? 0) + 1;
};

type Command = fc.AsyncCommand<Model, World>;

const named = (kind: string, of: string, run: (m: Model, w: World) => Promise<void>): Command => ({
  check: () => true,
  run: async (m, w) => {
    count(kind);
    await run(m, w);
  },
  toString: () => `${kind} ${of}`,
});

function expectSame(what: string, found: unknown, meant: unknown): void {
  const texts = [found, meant].map((one) =>
    JSON.stringify(one, (_, v) => (typeof v === 'bigint' ? `${v}` : v)),
  );
  if (texts[0] !== texts[1]) throw new Error(`${what}: found ${texts[0]}, meant ${texts[1]}`);
}

const told = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'done',
    (error) => (error instanceof Refused ? error.code : Promise.reject(error)),
  );

const isHost = ({ type }: Line): boolean => type === 1;
const same = (a: Written | undefined, b: Written): boolean =>
  a?.sequence === b.sequence && a.epoch === b.epoch && a.text === b.text;

/** One of these that are up. */
const oneOf = (ids: readonly Id[], n: number): Id => ids[n % ids.length]!;

/** What the node reads is all that is acknowledged, from here on. */
async function catchUp(m: Model, w: World, id: Id): Promise<void> {
  const tip = await w.ask<Appended>(id, 'catchUp', { ...LONG, applied: true });
  if (tip.sequence < m.last.sequence) throw new Error(`${id} caught up with ${tip.sequence}`);
  if (id !== m.leader) m.safe = m.kept.length;
}

// --- appends -------------------------------------------------------------------------------

interface Options {
  readonly expected?: Appended | number;
  readonly replicas: number;
}

/** On the node itself where it leads, else by it on who does. @returns `done`, or why not */
async function append(m: Model, w: World, id: Id, { expected, replicas }: Options) {
  const text = m.next();
  const isLed = id !== m.leader;
  const how = isLed ? { isLed, here: true, ...LONG } : { until: 'applied' };
  const ack = { replicas: Math.min(replicas, w.up.length - 1), ...LONG };
  const options = { text, ...how, ack, ...(expected !== undefined && { expected }) };
  try {
    const done = await w.ask<{ token: Appended; applied: number }>(id, 'append', options);
    const isEarly = !isLed && done.applied < done.token.sequence;
    if (isEarly) throw new Error(`${done.token.sequence} told, ${done.applied} applied`);
    m.kept.push({ ...done.token, text });
    // `here` is a second node, as a replica is.
    if (ack.replicas > 0 || isLed) m.safe = m.kept.length;
    return { code: 'done' };
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return { code: error.code, last: error.details.last, message: error.message };
  }
}

const CONDITIONS = ['last', 'sequence', 'end', 'older', 'gone', 'epoch', 'beyond', 'none'] as const;
const picked = fc.tuple(fc.constantFrom(...CONDITIONS), fc.nat(), fc.nat(2), fc.nat(2));

const appends = picked.map(([which, n, where, replicas]) =>
  named('append', `if ${which} ${n}, at ${where}, to ${replicas}`, async (m, w) => {
    const id = oneOf(w.up, where);
    if (id !== m.leader) await catchUp(m, w, id);
    const { last } = m;
    const { lastSequence } = await w.status(m.leader);
    const expected = {
      last,
      sequence: last.sequence,
      end: lastSequence,
      older: tokenOf(m.kept.at(-2 - (n % 3))),
      gone: m.gone[n % Math.max(1, m.gone.length)] ?? last,
      epoch: { ...last, epoch: last.epoch + 7 },
      beyond: lastSequence + 50 + (n % 3),
      none: undefined,
    }[which];
    const isToken = typeof expected === 'object';
    const fits = isToken
      ? same({ ...last, text: '' }, { ...expected, text: '' })
      : expected === undefined || (expected >= last.sequence && expected <= lastSequence);
    const done = await append(m, w, id, { ...(expected !== undefined && { expected }), replicas });
    count(`append: ${done.code}`);
    const conflict = { code: 'SequenceConflict', last: last.sequence };
    expectSame('append', { code: done.code, last: done.last }, fits ? { code: 'done' } : conflict);
    expectSame('last', (await w.status(m.leader)).lastHostSequence, m.last.sequence);
  }),
);

/** All at the same moment, all after the same entry: one of them is taken. */
const races = fc.tuple(fc.nat(2), fc.integer({ min: 2, max: 6 })).map(([replicas, n]) =>
  named('race', `of ${n}, to ${replicas}`, async (m, w) => {
    for (const id of w.up) await catchUp(m, w, id);
    const expected = m.last;
    const tries = Array.from({ length: n }, (_, i) => oneOf(w.up, i));
    const done = await Promise.all(tries.map((id) => append(m, w, id, { expected, replicas })));
    const codes = done.map(({ code }) => code).sort();
    expectSame('race', codes, [...Array(n - 1).fill('SequenceConflict'), 'done']);
    const { sequence } = m.last;
    for (const { code, last } of done) if (code !== 'done') expectSame('lost to', last, sequence);
  }),
);

// --- reads and waits -----------------------------------------------------------------------

type Direction = readonly [by: 'from' | 'last' | 'fromTime', begin: number, end: number, boolean];

/** What a reading gives, by all that the node has. */
async function readPart(w: World, id: Id, all: readonly Line[], direction: Direction) {
  const [by, begin, end, reverse] = direction;
  const to = all.length - (end % all.length);
  const first = 1 + (begin % to);
  const meant = all.slice(first - 1, to);
  const range = { to, reverse };
  let found: Line[];
  if (by === 'fromTime') {
    // Entries of one moment begin with the first of them.
    const ns = all[first - 1]!.ns;
    const at = all.findIndex((line) => line.ns >= ns) + 1;
    const read = await w.ask<{ lines: string[]; at: number }>(id, 'readTime', {
      ns: `${ns}`,
      ...range,
    });
    expectSame('seek', read.at, at);
    meant.unshift(...all.slice(at - 1, first - 1));
    found = read.lines.map(lineOf);
  } else {
    const from = by === 'from' ? { from: first } : { last: meant.length };
    found = await w.read(id, { ...range, ...from });
  }
  expectSame(`read by ${by}`, found, reverse ? meant.reverse() : meant);
}

const direction = fc.tuple(
  fc.constantFrom('from', 'last', 'fromTime'),
  fc.nat(),
  fc.nat(),
  fc.boolean(),
);
const directions = fc.array(direction, { minLength: 1, maxLength: 4 });
const reads = fc.tuple(fc.nat(2), directions).map(([where, parts]) =>
  named('read', `at ${where}, by ${JSON.stringify(parts)}`, async (m, w) => {
    const id = oneOf(w.up, where);
    await catchUp(m, w, id);
    const all = await w.read(id);
    const written = all.filter(isHost).map(({ text, ...token }) => ({ ...tokenOf(token), text }));
    expectSame(
      'log',
      written,
      m.kept.map(({ text, ...token }) => ({ ...tokenOf(token), text })),
    );
    const applied = await w.ask<string[]>(id, 'applied');
    expectSame('applied', applied.map(lineOf), all);
    for (const one of parts) await readPart(w, id, all, one);
  }),
);

/** What a wait resolves on is what that node has, and its host. */
async function waitFor(m: Model, w: World, id: Id, token: Appended): Promise<void> {
  const options = { token, ...LONG, applied: true };
  const { line, applied } = await w.ask<{ line: string; applied?: string }>(id, 'waitFor', options);
  expectSame('waited for', tokenOf(lineOf(line)), token);
  expectSame('applied, when told so', applied, line);
  const at = m.kept.findIndex(({ sequence }) => sequence === token.sequence);
  if (id !== m.leader) m.safe = Math.max(m.safe, at + 1);
}

const waits = fc.tuple(fc.nat(2), fc.nat()).map(([where, n]) =>
  named('wait', `at ${where} for ${n}`, async (m, w) => {
    const id = oneOf(w.up, where);
    const token = tokenOf(m.kept[n % m.kept.length]);
    await waitFor(m, w, id, token);
    const of = (epoch: number) =>
      told(w.ask(id, 'waitFor', { token: { ...token, epoch }, ...SHORT }));
    expectSame('of an epoch to come', await of(token.epoch + 1), 'AckTimeout');
    expectSame('of an epoch before', await of(token.epoch - 1), 'Rewound');
    const gone = m.gone[n % Math.max(1, m.gone.length)];
    if (!gone) return;
    count('wait: taken back');
    expectSame('gone', await told(w.ask(id, 'waitFor', { token: gone, ...LONG })), 'Rewound');
  }),
);

/** On one node for what is about to be appended by another one, or by the library before it. */
const awaits = fc.tuple(fc.nat(2), fc.nat(2)).map(([where, by]) =>
  named('await', `at ${where} what ${by} appends`, async (m, w) => {
    const [id, other] = [oneOf(w.up, where), oneOf(w.up, by)];
    await catchUp(m, w, other);
    const { lastSequence, epoch } = await w.status(m.leader);
    const token = { sequence: lastSequence + 1, epoch };
    const waiting = waitFor(m, w, id, token);
    // Heard of below, where the append is what it should be.
    waiting.catch(() => undefined);
    const done = await append(m, w, other, { expected: m.last, replicas: 0 });
    expectSame('append', done, { code: 'done' });
    await waiting;
    if (id !== m.leader) m.safe = m.kept.length;
  }),
);

// --- roles and crashes ---------------------------------------------------------------------

/** The node that is away comes back, if there is one. */
async function allUp(w: World): Promise<void> {
  for (const id of IDS) if (!w.up.includes(id)) await w.start(id);
}

/** Who leads now has this: all that is safe, and of the rest what comes first. */
async function resolve(m: Model, w: World, tried: readonly Partial<Written>[], mayLose: boolean) {
  const found = (await w.read(m.leader)).filter(isHost);
  const { kept, safe } = m;
  const all = [...kept, ...tried];
  for (const [i, { text, ...token }] of found.entries()) {
    const meant = all[i];
    const isIts = meant?.sequence === undefined || same({ ...token, text }, meant as Written);
    if (meant?.text !== text || !isIts) throw new Error(`${m.leader} has ${text} at ${i + 1}`);
  }
  const lost = all.slice(found.length).filter((one): one is Written => one.sequence !== undefined);
  const isBad = lost.length > 0 && (!mayLose || found.length < safe);
  if (isBad) expectSame('lost', lost, []);
  kept.splice(0, kept.length, ...found.map(({ text, ...token }) => ({ ...tokenOf(token), text })));
  m.gone.push(...lost.map(tokenOf));
  m.safe = Math.min(m.safe, found.length);
  for (const _ of lost) count('lost with a crash');
}

async function leads(w: World, id: Id): Promise<void> {
  await w.until(`${id} leads`, async () => (await w.status(id)).role === 'primary');
}

/** One after the other is tried: the one that is farthest may lead. */
async function failOver(m: Model, w: World, first: number): Promise<void> {
  let n = first;
  await w.until('one is promoted', async () => {
    m.leader = oneOf(w.up, n++);
    return (await told(w.ask(m.leader, 'promote'))) === 'done';
  });
}

/** Nobody else gets it, however slow the machine is. */
async function appendAlone(m: Model, w: World): Promise<Written> {
  await w.cut();
  const text = m.next();
  const { token } = await w.ask<{ token: Appended }>(m.leader, 'append', { text });
  return { ...token, text };
}

/** @returns in order what was appended, with its token where that was told */
function load(w: World, m: Model, n: number, isAlone: boolean): Partial<Written>[] {
  return Array.from({ length: n }, (_, i) => {
    const tried: { -readonly [K in keyof Written]?: Written[K] } = { text: m.next() };
    const ack = { replicas: isAlone ? 0 : i % 2, ...LONG };
    w.ask<{ token: Appended }>(m.leader, 'append', { text: tried.text, ack }).then(
      ({ token }) => Object.assign(tried, token, { isSafe: ack.replicas > 0 }),
      () => undefined,
    );
    return tried;
  });
}

const node = fc.constantFrom(...IDS);
const crash = fc.record({
  load: fc.nat(6),
  ms: fc.nat(12),
  heir: fc.nat(2),
  isAway: fc.boolean(),
  isAlone: fc.constantFrom(true, true, false),
});
const crashed = fc.constantFrom(...IDS, 'leader' as const, 'leader' as const);
const crashes = fc.tuple(crashed, crash).map(([who, { load: n, ms, heir, isAway, ...cut }]) => {
  const of = `${who} after ${n} in ${ms} ms, heir ${heir}, away ${isAway}, alone ${cut.isAlone}`;
  return named('crash', of, async (m, w) => {
    await allUp(w);
    const id = who === 'leader' ? m.leader : who;
    const isLeader = id === m.leader;
    const isAlone = cut.isAlone && isLeader && heir < 2;
    const tried: Partial<Written>[] = isAlone ? [await appendAlone(m, w)] : [];
    if (isLeader) tried.push(...load(w, m, n, isAlone));
    await new Promise((resolve) => setTimeout(resolve, isLeader ? ms : 0));
    await w.kill(id);
    count(isLeader ? 'crash: of the leader' : 'crash: of a replica');
    if (isAlone) await w.heal();
    if (isLeader && heir < 2) {
      await failOver(m, w, heir);
      count('failover');
    }
    // Else the next crash may bring back what was lost: nobody else has heard of this one.
    if (isAlone) await w.settled(m.leader);
    if (!isAway || m.leader === id) await w.start(id);
    if (!isLeader) return;
    if (m.leader === id) await leads(w, id);
    const acked = tried.findLastIndex((one) => (one as { isSafe?: boolean }).isSafe === true);
    if (acked >= 0) m.safe = m.kept.length + acked + 1;
    await resolve(m, w, tried, m.leader !== id);
  });
});

const comings = fc.constant(named('all come back', '', (_, w) => allUp(w)));

const restarts = node.map((id) =>
  named('restart', id, async (m, w) => {
    if (!w.up.includes(id)) return;
    await w.stop(id);
    await w.start(id);
    if (id === m.leader) await leads(w, id);
  }),
);

const others = node.map((id) =>
  named('hand over', `to ${id}`, async (m, w) => {
    if (id === m.leader || !w.up.includes(id)) return;
    await w.settled(m.leader);
    await w.ask(m.leader, 'switchover', { to: id, ...LONG });
    m.leader = id;
    m.safe = m.kept.length;
  }),
);

const overtakings = fc.tuple(node, fc.integer({ min: 1, max: 3 })).map(([id, n]) =>
  named('overtake', `by ${id}, ${n} are lost`, async (m, w) => {
    if (id === m.leader) return;
    await allUp(w);
    await w.settled(m.leader);
    m.safe = m.kept.length;
    const old = m.leader;
    await w.cut();
    for (let i = 0; i < n; i++) {
      const lost = { text: 'lost', until: 'applied' };
      m.gone.push((await w.ask<{ token: Appended }>(old, 'append', lost)).token);
    }
    await w.ask(id, 'promote', { force: true });
    m.leader = id;
    await w.heal();
    // Else the next crash may bring back what was lost: nobody else has heard of this one.
    await w.settled(id);
  }),
);

async function runOne(todo: Iterable<Command>): Promise<void> {
  const world = await World.make();
  try {
    const model = new Model();
    await world.ask('a', 'create');
    const first = await append(model, world, 'a', { expected: 0, replicas: 0 });
    expectSame('first', first, { code: 'done' });
    // On a busy machine a replica may be opened, and connected a while later.
    await world.settled('a');
    await fc.asyncModelRun(() => ({ model, real: world }), todo);
    count('runs');
  } finally {
    await world.close();
  }
}

/** Throws, with the seed and the way, where a node does what the model does not mean. */
export async function tokensHold(
  numRuns: number,
  seed: number,
  { jobs = 1, seconds = 86_400 } = {},
): Promise<Counts> {
  const all = [appends, appends, races, reads, waits, awaits];
  const roles = [others, restarts, crashes, crashes, comings, overtakings];
  const commands = fc.commands([...all, ...roles], { maxCommands: 14, size: 'max' });
  const untilMs = performance.now() + 1_000 * seconds;
  const run = fc.asyncProperty(commands, async (todo) => {
    if (performance.now() < untilMs) await runOne(todo);
  });
  const share = (job: number): number => Math.floor((numRuns + job) / jobs);
  const parts = Array.from({ length: jobs }, (_, job) =>
    fc.assert(run, { numRuns: share(job), seed: seed + job, endOnFailure: true }),
  );
  try {
    await Promise.all(parts);
  } finally {
    await World.end();
  }
  return counts;
}

/** The number behind an option, which is taken out. */
function taken(args: string[], name: string, otherwise: number): number {
  const at = args.indexOf(name);
  return at < 0 ? otherwise : Number(args.splice(at, 2)[1]);
}

if (process.argv[1] === import.meta.filename) {
  const args = process.argv.slice(2);
  const limits = { jobs: taken(args, '--jobs', 1), seconds: taken(args, '--seconds', 86_400) };
  const [asked = '20', seed = `${Date.now() % 2 ** 31}`] = args.filter((one) => one !== '--save');
  const sinceMs = performance.now();
  const { runs, ...commands } = await tokensHold(Number(asked), Number(seed), limits);
  const seconds = Math.round((performance.now() - sinceMs) / 1_000);
  const { jobs } = limits;
  const told = {
    runs,
    asked: Number(asked),
    seed: Number(seed),
    jobs,
    failures: 0,
    seconds,
    commands,
  };
  const file = path.join(import.meta.dirname, '../../bench/results/tokens.json');
  if (args.includes('--save')) fs.writeFileSync(file, `${JSON.stringify(told, null, 2)}\n`);
  console.log(JSON.stringify(told));
}
