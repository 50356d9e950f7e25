/**
 * Hosts that append only if nobody has written since, and wait for what was appended elsewhere. A
 * token says which entry is meant, so all of it can be judged from outside, by what a node has in
 * the moment in which a call ends: no append is taken behind an entry of a host that it did not
 * expect, none is refused for one that is not there, and what was waited for is there, and applied.
 */
import type { Appended, AppendOptions, EngramError, Entry, Space } from '#src/main/index.js';
import { isAppendableType } from '#src/shared/log/entry.js';
import type { Chance } from '../support/fake-disk.js';
import { type SimNode, Violation } from './cluster.js';

/** In every third seed: those of before stay what they were. */
export function hasTokens(seed: number): boolean {
  return seed % 3 === 0;
}

/** Taken, refused; waits that found what they waited for, and that were told it is gone. */
export const NO_TOKENS = { conditions: 0, conflicts: 0, awaited: 0, outdated: 0 };

/** Newest last, of each space. */
const KNOWN_MAX = 50;
const WAIT_MS = 3_000;

/** What its append expects: a token, or its sequence alone. */
type Expected = { readonly sequence: number; readonly epoch?: number };

export interface TokensWorld {
  readonly chance: Chance;
  note(line: string): void;
  /** Up to where the host of a node has applied a space; undefined: nobody can say. */
  applied(node: SimNode, space: string): number | undefined;
}

export class Tokens {
  readonly #world: TokensWorld;
  readonly #known = new Map<string, Appended[]>();
  readonly counts = { ...NO_TOKENS };

  constructor(world: TokensWorld) {
    this.#world = world;
  }

  /** An append was acknowledged, wherever. */
  acknowledged(space: string, { sequence, epoch }: Appended): void {
    const all = this.#known.get(space) ?? [];
    this.#known.set(space, all);
    all.push({ sequence, epoch });
    if (all.length > KNOWN_MAX) all.shift();
  }

  #one(space: string): Appended | undefined {
    const all = this.#known.get(space) ?? [];
    return all[Math.max(0, all.length - 1 - this.#world.chance(8))];
  }

  /** Right, as a rule, and wrong in each way. */
  expected(name: string, space: Space): Expected {
    const { chance } = this.#world;
    const { lastHostSequence, lastSequence } = space.status();
    const known = this.#known.get(name)?.at(-1) ?? { sequence: 0, epoch: 0 };
    const ways: readonly (() => Expected)[] = [
      () => ({ sequence: lastHostSequence }),
      // With what is staged.
      () => ({ sequence: lastSequence }),
      () => ({ sequence: lastSequence }),
      () => ({ sequence: lastSequence }),
      () => known,
      () => this.#one(name) ?? known,
      () => ({ ...known, epoch: known.epoch + (chance(2) === 0 ? 1 : -1) }),
      () => ({ sequence: lastSequence + 20 }),
    ];
    return ways[chance(ways.length)]!();
  }

  /**
   * Throws a Violation, and as `append` does.
   * @param options what else the append asks for
   * @param taken told in the turn in which it is acknowledged: what is read behind it takes a while
   */
  async append(
    node: SimNode,
    name: string,
    payload: Uint8Array,
    expected: Expected,
    options: AppendOptions,
    taken: (token: Appended) => void,
  ): Promise<void> {
    const space = node.node!.space(name);
    const isToken = expected.epoch !== undefined && expected.epoch >= 0;
    const what = isToken ? (expected as Appended) : expected.sequence;
    try {
      const token = await space.append(1, payload, { ...options, expected: what });
      this.counts.conditions++;
      taken(token);
      await this.#held(node, space, isToken ? expected : { sequence: expected.sequence }, token);
    } catch (error) {
      const { code, details } = error as EngramError;
      if (code !== 'SequenceConflict') throw error;
      this.counts.conflicts++;
      const of = isToken ? expected : { sequence: expected.sequence };
      await this.#conflicts(node, space, of, details as unknown as Conflict);
      throw error;
    }
  }

  /** What was taken stands behind what it expects, and nothing of a host between. */
  async #held(node: SimNode, space: Space, expected: Expected, token: Appended): Promise<void> {
    const { name, owner } = node;
    const { sequence, epoch } = expected;
    const found = await entriesOf(space, Math.max(1, sequence), token.sequence);
    const own = found?.at(-1);
    // Taken back meanwhile, or not to be read: nothing can be said.
    if (owner.isDead || own?.sequence !== token.sequence || own.epoch !== token.epoch) return;
    const what = `${name}: ${space.name} ${textOf(token)} was taken behind ${textOf(expected)}`;
    if (sequence >= token.sequence) throw new Violation(`${what}, which is none`);
    const between = found!.find((e) => e.sequence > sequence && e !== own && isHosts(e));
    if (between) throw new Violation(`${what}, and ${between.sequence} stands between`);
    const [first] = found!;
    const isOther = sequence > 0 && epoch !== undefined && first!.epoch !== epoch;
    if (isOther) throw new Violation(`${what}, and that is of epoch ${first!.epoch}`);
  }

  /** What it is refused for is an entry of a host behind what it expects, or that is not there. */
  async #conflicts(node: SimNode, space: Space, expected: Expected, conflict: Conflict) {
    const { name, owner } = node;
    const { sequence } = expected;
    const who = `${name}: ${space.name} behind ${textOf(expected)}`;
    const what = `${who} conflicts with ${conflict.last}`;
    const epoch = space.status().epoch;
    const at = conflict.last > sequence ? conflict.last : sequence;
    const found = at === 0 ? [] : await entriesOf(space, at, at);
    if (owner.isDead || !found || space.status().epoch !== epoch) return;
    const [entry] = found;
    if (conflict.last > sequence) {
      if (!entry) throw new Violation(`${what}, which is not there`);
      if (!isHosts(entry)) throw new Violation(`${what}, which is the library's`);
      if (entry.epoch !== conflict.epoch) throw new Violation(`${what} of ${conflict.epoch}`);
      return;
    }
    const isHere = sequence === 0 || (entry && entry.epoch === (expected.epoch ?? entry.epoch));
    // Without an epoch what is there now may have come since.
    if (isHere && expected.epoch !== undefined) throw new Violation(`${what}, and it is the last`);
  }

  /** On this node for what may have been appended on another one. Throws a Violation. */
  async wait(node: SimNode, name: string): Promise<void> {
    const { chance, applied } = this.#world;
    const known = this.#one(name);
    const space = node.node!.spaces.find((one) => one.name === name);
    if (!known || !space) return;
    // Of an epoch that there may be, and may not.
    const token = chance(6) === 0 ? { ...known, epoch: known.epoch + 1 } : known;
    const isApplied = chance(2) === 0 && applied(node, name) !== undefined;
    try {
      await space.waitFor(token, { applied: isApplied, timeoutMs: 1 + chance(WAIT_MS) });
    } catch (error) {
      if ((error as EngramError).code === 'Rewound') await this.#outdated(node, space, token);
      throw error;
    }
    if (node.owner.isDead) return;
    this.counts.awaited++;
    const what = `${node.name} has waited for ${name} ${textOf(token)}`;
    const { durableSequence, epoch } = space.status();
    if (durableSequence < token.sequence) throw new Violation(`${what}, has ${durableSequence}`);
    const handed = applied(node, name);
    if (isApplied && handed! < token.sequence) {
      throw new Violation(`${what}, and ${handed} is applied`);
    }
    const found = await entriesOf(space, token.sequence, token.sequence);
    if (node.owner.isDead || !found || space.status().epoch !== epoch) return;
    const [entry] = found;
    if (entry?.epoch !== token.epoch) throw new Violation(`${what}, has epoch ${entry?.epoch}`);
  }

  /** It was told that this was taken back. */
  async #outdated(node: SimNode, space: Space, token: Appended): Promise<void> {
    const { epoch, durableSequence } = space.status();
    this.counts.outdated++;
    if (durableSequence < token.sequence) return;
    const found = await entriesOf(space, token.sequence, token.sequence);
    if (node.owner.isDead || !found || space.status().epoch !== epoch) return;
    if (found[0]?.epoch !== token.epoch) return;
    throw new Violation(`${node.name}: ${space.name} ${textOf(token)} is there, told as rewound`);
  }
}

interface Conflict {
  readonly last: number;
  readonly epoch: number;
}

/** undefined: they cannot be read, or not any more. */
async function entriesOf(space: Space, from: number, to: number): Promise<Entry[] | undefined> {
  const found: Entry[] = [];
  try {
    for await (const entry of space.read({ from, to })) found.push(entry);
    return found;
  } catch (error) {
    if ((error as EngramError).code === undefined) throw error;
    return undefined;
  }
}

function isHosts({ type }: Entry): boolean {
  return isAppendableType(type);
}

function textOf({ sequence, epoch }: Expected): string {
  return epoch === undefined ? `${sequence}` : `${sequence} of epoch ${epoch}`;
}
