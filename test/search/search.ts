/**
 * `npm run search -- [--seconds N] [--only REGEX] [--save]`: every interleaving of a small
 * cluster over the product's own decisions, and each mutant of them; or those alone whose
 * description fits. Exit 1 where a check fails, or a mutant lives.
 */
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { Config } from './cluster.js';
import { explore, type Result, walk } from './explore.js';
import { BASE, PLANS, type Plan } from './plans.js';
import { MUTANTS, type Mutant, PRODUCT } from './rules.js';

const RESULT = path.join(import.meta.dirname, '../../bench/results/search.json');
/** What is remembered of states takes about 30 bytes each, of the widest level 70. */
const STATES_MAX = 1e8;
/** Each mutant gets so long. */
const MUTANT_SECONDS = 60;

export function search({ config, alike, isHealed, walk: length }: Plan, seconds: number): Result {
  if (length) return walk(config, PRODUCT, { seconds, seed: 1, length, healEvery: 1 });
  const healEvery = isHealed ? 1 : 0;
  return explore(config, PRODUCT, { seconds, states: STATES_MAX, alike, healEvery });
}

/** Looks for a mutant, without healing what it has not broken yet. */
export function hunt({ config, rules, start, isWalked, isHealed }: Mutant): Result {
  const of = { ...BASE, ...config };
  const mutated = { ...PRODUCT, ...rules };
  const seconds = MUTANT_SECONDS;
  if (isWalked) return walk(of, mutated, { seconds, seed: 1, length: 50, healEvery: 0 });
  return explore(of, mutated, {
    seconds,
    states: 3e6,
    alike: [],
    healEvery: isHealed ? 1 : 0,
    start,
  });
}

interface Kept extends ReturnType<typeof told> {
  readonly what: string;
  readonly config?: Config;
}

function told({ end, states, transitions, depth, healed, seconds, violation, steps }: Result) {
  return { end, states, transitions, depth, healed, seconds, violation, steps };
}

/** Of what was not visited now, what was kept stays. */
function save(plans: readonly Kept[], mutants: readonly Kept[]): void {
  const kept = JSON.parse(fs.readFileSync(RESULT, 'utf8')) as Record<'plans' | 'mutants', Kept[]>;
  const joined = (all: readonly { what: string }[], now: readonly Kept[], before: Kept[]) =>
    all.flatMap(({ what }) => [...now, ...before].find((one) => one.what === what) ?? []);
  const result = {
    plans: joined(PLANS, plans, kept.plans),
    mutants: joined(MUTANTS, mutants, kept.mutants),
  };
  const states = result.plans.reduce((sum, p) => sum + p.states, 0);
  fs.writeFileSync(RESULT, `${JSON.stringify({ states, ...result }, undefined, 1)}\n`);
}

function main(): void {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '3600' },
      only: { type: 'string', default: '' },
      save: { type: 'boolean' },
    },
  });
  const deadlineMs = performance.now() + 1000 * Number(values.seconds);
  const left = (): number => Math.max(1, (deadlineMs - performance.now()) / 1000);
  const only = new RegExp(values.only);
  const isWanted = ({ what }: { what: string }): boolean => only.test(what);
  const wanted = PLANS.filter(isWanted);
  let isBad = false;
  const mutants = MUTANTS.filter(isWanted).map((mutant) => {
    const found = hunt(mutant);
    const isFound = found.end === 'violation';
    if (!isFound) isBad = true;
    console.log(`${isFound ? 'found' : 'NOT FOUND'}: ${mutant.what} (${found.steps.length} steps)`);
    return { what: mutant.what, ...told(found) };
  });
  const plans = wanted.map((plan, i) => {
    // What comes last goes on for as long as there is; the others end by themselves.
    const seconds = left() / (i < wanted.length - 3 ? 2 : wanted.length - i);
    const result = search(plan, seconds);
    const { end, states, depth, healed, violation, steps } = result;
    console.log(`${end}: ${plan.what}: ${states} states, depth ${depth}, ${healed} healed`);
    if (end === 'violation') {
      isBad = true;
      console.log(`  ${violation}\n  ${steps.join('\n  ')}`);
    }
    return { what: plan.what, config: plan.config, ...told(result) };
  });
  const states = plans.reduce((sum, p) => sum + p.states, 0);
  console.log(`${states} states; ${mutants.length} mutants`);
  if (values.save) save(plans, mutants);
  process.exitCode = isBad ? 1 : 0;
}

if (process.argv[1] === import.meta.filename) main();
