/** The host of a node that may lead: now and then slow, or stuck in a callback. */
import type { Entry, NodeOptions } from '#src/main/index.js';
import type { Chance } from '../support/fake-disk.js';
import type { VirtualClock } from './clock.js';
import { Violation } from './cluster.js';
import { Handed, type Histories } from './histories.js';

const STUCK_POLL_MS = 20;

export interface RoleHostWorld {
  readonly clock: VirtualClock;
  readonly chance: Chance;
  readonly histories: Histories;
  isHealing(): boolean;
  /** A node that is still being opened may lead, and nobody has heard it say so. */
  isBeingOpened(nodeId: string): boolean;
  failed(error: Error): void;
}

export class RoleHost {
  readonly name: string;
  readonly isWhenLeading: boolean;
  readonly #world: RoleHostWorld;
  readonly #handed = new Map<string, Handed>();
  /** It has led the space since it was given an entry last: what it led it wrote itself. */
  readonly #hasLed = new Set<string>();
  /** It says itself up to where it has applied a space. */
  readonly #keepsPosition: boolean;
  /** No callback returns until then, virtual time. */
  stuckUntilMs = 0;

  /** @param isWhenLeading it is handed what its node leads, too */
  constructor(name: string, world: RoleHostWorld, isWhenLeading: boolean) {
    this.name = name;
    this.#world = world;
    this.#keepsPosition = world.chance(2) === 0;
    this.isWhenLeading = isWhenLeading;
  }

  /** Of its node. */
  get callbacks(): Pick<NodeOptions, 'apply' | 'rewound' | 'appliedUpTo' | 'applyWhenLeading'> {
    const appliedUpTo = async (space: string): Promise<number> => {
      await this.#turn();
      return this.handed(space).next - 1;
    };
    return {
      ...(this.#keepsPosition ? { appliedUpTo } : {}),
      ...(this.isWhenLeading ? { applyWhenLeading: true } : {}),
      apply: async (entries: Entry[], { space }: { space: string }) => {
        await this.#turn();
        this.#guard(() => this.#apply(space, entries));
      },
      rewound: async (space: string, { from }: { from: number }) => {
        await this.#turn();
        this.handed(space).rewound(from);
        const { isHealing, chance } = this.#world;
        if (!isHealing() && chance(3) === 0) throw new Error('the host cannot, now');
      },
    };
  }

  handed(space: string): Handed {
    const known = this.#handed.get(space);
    const who = `host of ${this.name}`;
    const handed = known ?? new Handed(this.#world.histories, space, who, 1);
    this.#handed.set(space, handed);
    return handed;
  }

  /** Its node leads the space. */
  leads(space: string): void {
    this.#hasLed.add(space);
  }

  /** Its data are gone with its node's directory. */
  wiped(): void {
    this.#handed.clear();
    this.#hasLed.clear();
  }

  /** It has appended this itself, and it was acknowledged. */
  appended(space: string, sequence: number): void {
    if (this.#keepsPosition && !this.isWhenLeading) this.handed(space).skipTo(sequence + 1);
  }

  /**
   * Entries may come again after a crash, none is skipped; where the position is the host's own and
   * it is handed all, each comes once.
   */
  #apply(space: string, entries: readonly Entry[]): void {
    const handed = this.handed(space);
    if (this.isWhenLeading) {
      const [{ sequence }] = entries as [Entry];
      if (this.#keepsPosition && sequence < handed.next) {
        throw new Violation(`${handed.who}: ${space} ${sequence} again, has ${handed.next - 1}`);
      }
      for (const entry of entries) handed.take(entry);
      return;
    }
    const mayHaveLed = this.#hasLed.delete(space) || this.#world.isBeingOpened(this.name);
    if (mayHaveLed) handed.skipTo(entries[0]!.sequence);
    for (const entry of entries) handed.take(entry);
  }

  async #turn(): Promise<void> {
    const { clock, chance } = this.#world;
    const sleep = (ms: number): Promise<void> =>
      new Promise((resolve) => clock.after(ms, clock.owner, resolve));
    await sleep(chance(4));
    while (clock.nowMs < this.stuckUntilMs) await sleep(STUCK_POLL_MS);
  }

  /** What breaks a promise must not be swallowed in the node. */
  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#world.failed(error as Error);
      throw error;
    }
  }
}
