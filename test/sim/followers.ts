/**
 * Those who read along: a subscriber follows a space of one node from some sequence on, through
 * promotions, rewinds and the node's end, now and then too slow to be handed what is live. What it
 * is handed is a part of one history, until it is told that it was taken back.
 */
import type { Chance } from '../support/fake-disk.js';
import type { VirtualClock } from './clock.js';
import { type SimNode, Violation } from './cluster.js';
import { Handed, type Histories } from './histories.js';

const AGAIN_MS = 100;
const SLOW_MS = 12_000;

export interface FollowerWorld {
  readonly clock: VirtualClock;
  readonly chance: Chance;
  readonly histories: Histories;
  isHealing(): boolean;
  note(line: string): void;
  failed(error: Error): void;
}

export class Followers {
  readonly #world: FollowerWorld;
  readonly #all = new Map<Handed, { readonly node: string; readonly owner: SimNode['owner'] }>();
  /** By node: nobody who reads along there takes anything until then, virtual time. */
  readonly #stillUntilMs = new Map<string, number>();
  #count = 0;
  /** How often one was told that what it had was taken back. */
  rewinds = 0;

  constructor(world: FollowerWorld) {
    this.#world = world;
  }

  /** For the life of its process. */
  start(node: SimNode, space: string): void {
    const { clock, chance, histories, failed } = this.#world;
    const durable = node.node!.spaces.find((s) => s.name === space)?.status().durableSequence ?? 0;
    const from = chance(2) === 0 ? 1 : Math.max(1, durable - chance(20));
    const who = `subscriber ${++this.#count} of ${node.name}`;
    const handed = new Handed(histories, space, who, from);
    this.#all.set(handed, { node: node.name, owner: node.owner });
    clock.as(node.owner, () => this.#follow(node, handed).catch(failed));
  }

  /** Who reads along on a node takes one more entry, and then none for so long. */
  stand(node: SimNode, ms: number): void {
    this.#stillUntilMs.set(node.name, this.#world.clock.nowMs + ms);
  }

  async #follow(node: SimNode, handed: Handed): Promise<void> {
    const { owner } = node;
    while (!owner.isDead && node.node) {
      try {
        const stream = node.node.space(handed.space).subscribe({ from: handed.next });
        for await (const entry of stream) {
          if (owner.isDead) return;
          if (entry.sequence < handed.next) {
            throw new Violation(`${handed.who}: ${handed.space} ${entry.sequence} once more`);
          }
          handed.take(entry);
          await this.#dawdle(node);
        }
        // The node is closed.
        return;
      } catch (error) {
        if (owner.isDead) return;
        this.#ended(handed, error as Error & { code?: string });
      }
      await this.#sleep(AGAIN_MS);
    }
  }

  /** Of what it may end by, `Rewound` alone says anything of what it has. */
  #ended(handed: Handed, error: Error & { code?: string; details?: { from?: number } }): void {
    if (error instanceof Violation || error.code === undefined) throw error;
    if (error.code !== 'Rewound') return;
    const { from = 0 } = error.details ?? {};
    if (!(from >= 1 && from < handed.next)) {
      throw new Violation(`${handed.who} has ${handed.next - 1}: ${error.message}`);
    }
    this.#world.note(`${handed.who}: ${handed.space} was taken back from ${from} on`);
    this.rewinds++;
    handed.rewound(from);
  }

  async #dawdle({ name }: SimNode): Promise<void> {
    const { chance, isHealing, clock } = this.#world;
    const untilMs = this.#stillUntilMs.get(name) ?? 0;
    while (!isHealing() && clock.nowMs < untilMs) await this.#sleep(AGAIN_MS);
    if (isHealing()) return;
    const is = chance(200);
    if (is === 0) await this.#sleep(chance(SLOW_MS));
    else if (is < 10) await this.#sleep(chance(40));
  }

  #sleep(ms: number): Promise<void> {
    const { clock } = this.#world;
    return new Promise((resolve) => clock.after(ms, clock.owner, resolve));
  }

  /** Those that still follow a space, on one of these nodes. */
  of(space: string, nodes: readonly string[]): Handed[] {
    return [...this.#all].flatMap(([handed, { node, owner }]) =>
      handed.space === space && nodes.includes(node) && !owner.isDead ? [handed] : [],
    );
  }
}
