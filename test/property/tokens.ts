/**
 * Conditional appends, reads in both directions, waits and applies on three nodes, through
 * hand-overs, restarts and entries that are taken back, against a model of a few lines.
 * `npm run tokens -- [RUNS] [SEED] [--save]`: the result is kept in bench/results/tokens.json.
 */
import fs from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import type { Appended, EngramError, Entry, Space } from '#src/main/index.js';
import { until } from '../support/cluster.js';
import { Trio } from '../support/trio.js';

const IDS = ['a', 'b', 'c'] as const;
type Id = (typeof IDS)[number];
const LONG = { timeoutMs: 30_000 };
const EVERYWHERE = { replicas: 2, ...LONG };

const tokenOf = ({ sequence, epoch }: Appended = { sequence: 0, epoch: 0 }): Appended => ({
  sequence,
  epoch,
});

/** What hosts have written and is true, in order; what they wrote and was taken back. */
class Model {
  readonly kept: (Appended & { readonly text: string })[] = [];
  readonly gone: Appended[] = [];
  leader: Id = 'a';
  count = 0;

  get last(): Appended {
    return tokenOf(this.kept.at(-1));
  }
}

class Real {
  /** What each host was handed, by sequence. */
  readonly handed = new Map<Id, string[]>(IDS.map((id) => [id, []]));

  constructor(readonly trio: Trio) {}

  async start(id: Id): Promise<void> {
    const entries = this.handed.get(id)!;
    await this.trio.start(id, {
      applyWhenLeading: true,
      apply: (all) => {
        for (const e of all) {
          if (e.sequence !== entries.length + 1) throw new Error(`${e.sequence} out of order`);
          entries.push(textOf(e));
        }
      },
      appliedUpTo: () => entries.length,
      rewound: (_, { from }) => void entries.splice(from - 1),
    });
  }

  space(id: Id): Space {
    return this.trio.open.get(id)!.space('s');
  }
}

const textOf = (e: Entry): string => `${e.sequence} ${e.epoch} ${Buffer.from(e.payload)}`;
const isHost = (e: Entry): boolean => e.type === 1;
type Command = fc.AsyncCommand<Model, Real>;

function expectSame(what: string, found: unknown, meant: unknown): void {
  const [f, m] = [JSON.stringify(found), JSON.stringify(meant)];
  if (f !== m) throw new Error(`${what}: found ${f}, meant ${m}`);
}

/** Its code, where it rejects. */
const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'taken',
    (error: EngramError) => error.code,
  );

async function append(m: Model, r: Real, expected: Appended | undefined): Promise<string> {
  const text = `n${++m.count}`;
  const options = { ack: EVERYWHERE, until: 'applied', ...(expected && { expected }) } as const;
  return await codeOf(
    r
      .space(m.leader)
      .append(1, Buffer.from(text), options)
      .then((token) => {
        m.kept.push({ ...token, text });
      }),
  );
}

const named = (name: string, run: (m: Model, r: Real) => Promise<void>): Command => ({
  check: () => true,
  run,
  toString: () => name,
});

const condition = fc.tuple(fc.constantFrom('last', 'older', 'gone', 'epoch'), fc.nat());
const appends = condition.map(([which, n]) =>
  named(`append if ${which} ${n}`, async (m, r) => {
    const { last } = m;
    const older = tokenOf(m.kept.at(-2 - (n % 3)));
    const gone = m.gone[n % Math.max(1, m.gone.length)] ?? last;
    const other = { ...last, epoch: last.epoch + 7 };
    const expected = { last, older, gone, epoch: other }[which]!;
    const fits = expected.sequence === last.sequence && expected.epoch === last.epoch;
    const meant = fits || (last.sequence === 0 && expected.sequence === 0);
    expectSame('append', await append(m, r, expected), meant ? 'taken' : 'SequenceConflict');
    expectSame('lastHost', r.space(m.leader).status().lastHostSequence, m.last.sequence);
  }),
);

const node = fc.constantFrom(...IDS);
const reads = fc.tuple(node, fc.integer({ min: 1, max: 9 }), fc.boolean()).map(([id, n, reverse]) =>
  named(`read ${n} on ${id}${reverse ? ', reverse' : ''}`, async (m, r) => {
    const space = r.space(id);
    const tip = await space.catchUp({ ...LONG, applied: true });
    if (tip.sequence < m.last.sequence)
      throw new Error('caught up with less than was acknowledged');
    const [first] = m.kept.slice(-n);
    const found: string[] = [];
    const range = { from: first?.sequence ?? 1, reverse };
    for await (const e of space.read(range)) if (isHost(e)) found.push(textOf(e));
    const meant = m.kept.slice(-n).map((k) => `${k.sequence} ${k.epoch} ${k.text}`);
    expectSame('read', found, reverse ? meant.reverse() : meant);
    const own = r.handed.get(id)!.filter((text) => / n\d+$/.test(text));
    expectSame('applied', own.slice(-n), reverse ? meant.reverse() : meant);
  }),
);

const waits = fc.tuple(node, fc.nat()).map(([id, n]) =>
  named(`wait on ${id} for ${n}`, async (m, r) => {
    const token = m.kept[n % Math.max(1, m.kept.length)];
    if (token) await r.space(id).waitFor(tokenOf(token), { ...LONG, applied: true });
    const gone = m.gone[n % Math.max(1, m.gone.length)];
    if (gone) expectSame('gone', await codeOf(r.space(id).waitFor(gone, LONG)), 'Rewound');
  }),
);

const others = node.map((id) =>
  named(`hand over to ${id}`, async (m, r) => {
    if (id === m.leader || m.count === 0) return;
    await r.trio.settled(m.leader, 's', 2);
    await r.trio.open.get(m.leader)!.switchover('s', id, LONG);
    m.leader = id;
  }),
);

const restarts = node.map((id) =>
  named(`restart ${id}`, async (m, r) => {
    if (id === m.leader) return;
    await r.trio.stop(id);
    await r.start(id);
  }),
);

const overtakings = fc.tuple(node, fc.integer({ min: 1, max: 3 })).map(([id, n]) =>
  named(`${id} takes over, ${n} are lost`, async (m, r) => {
    if (id === m.leader || m.count === 0) return;
    await r.trio.settled(m.leader, 's', 2);
    const old = m.leader;
    await r.trio.isolate(old);
    for (let i = 0; i < n; i++) {
      m.gone.push(await r.space(old).append(1, Buffer.from('lost'), { until: 'applied' }));
    }
    await r.trio.open.get(id)!.promote('s', { force: true });
    m.leader = id;
    await r.trio.heal();
    await until('it follows', () => r.space(old).status().primaryNodeId === id);
    await r.trio.settled(id, 's', 2);
  }),
);

/** Throws, with the seed and the shortest way, where a node does what the model does not mean. */
export async function tokensHold(numRuns: number, seed: number): Promise<void> {
  const all = [appends, appends, reads, waits, others, restarts, overtakings];
  const commands = fc.commands([...all], { maxCommands: 14 });
  const run = fc.asyncProperty(commands, async (todo) => {
    const real = new Real(await Trio.make([...IDS], true));
    try {
      for (const id of IDS) await real.start(id);
      const model = new Model();
      await real.trio.open.get('a')!.openSpace('s');
      expectSame('first', await append(model, real, { sequence: 0, epoch: 0 }), 'taken');
      await fc.asyncModelRun(() => ({ model, real }), todo);
    } finally {
      await real.trio.close();
    }
  });
  await fc.assert(run, { numRuns, seed, endOnFailure: true });
}

if (process.argv[1] === import.meta.filename) {
  const given = process.argv.slice(2).filter((one) => one !== '--save');
  const [runs = '20', seed = `${Date.now() % 2 ** 31}`] = given;
  const sinceMs = performance.now();
  await tokensHold(Number(runs), Number(seed));
  const seconds = Math.round((performance.now() - sinceMs) / 1_000);
  const told = { runs: Number(runs), seed: Number(seed), failures: 0, seconds };
  const file = path.join(import.meta.dirname, '../../bench/results/tokens.json');
  if (process.argv.includes('--save')) fs.writeFileSync(file, `${JSON.stringify(told, null, 2)}\n`);
  console.log(JSON.stringify(told));
}
