/**
 * How many spaces each node leads: a node that is about to be worked on hands all of its own over
 * (drain), one that leads more than others hands some over (rebalance). With etcd each node does
 * the latter by itself, unless told not to: slowly, once the nodes have been the same for a while.
 * Each hand-over is a switchover: nothing is lost, and what cannot be handed over stays.
 */
import { EngramError, firstLine } from '../../shared/errors.js';
import { surplus } from '../../shared/lead/placement.js';
import { REBALANCE_CALM_MS, REBALANCE_EVERY_MS, REBALANCE_STEP_MAX } from '../../shared/limits.js';
import type { SpaceState, SpaceTable } from '../log/space-table.js';
import { pause } from '../runtime/deadline.js';
import { inParts } from '../runtime/turns.js';
import type { Replication } from '../ship/replication.js';
import type { Coordinator } from './coordinator.js';
import type { SwitchoverReport } from './handover.js';
import type { LeadConfig } from './options.js';

/** What came of handing spaces over. */
export interface SharingReport {
  /** How many spaces are led by which node now that were led by this one. */
  readonly handed: Readonly<Record<string, number>>;
  /** How many this node leads still. */
  readonly led: number;
  /** The first of those that were to be handed over and are led here still, and why. */
  readonly kept: readonly { readonly space: string; readonly reason: string }[];
}

export interface SharingParts {
  readonly config: Pick<LeadConfig, 'nodeId' | 'coordinator'>;
  readonly spaces: SpaceTable;
  readonly replication: Replication;
  readonly coordinator: Coordinator;
  /** Aborted when the node closes. */
  readonly stop: AbortSignal;
  switchover(space: SpaceState, to: string): Promise<SwitchoverReport>;
}

/** So many are named. */
const KEPT_MAX = 20;
/** Who was started a moment ago, or has just got something to ship, has its links soon. */
const LINKS_WAIT_MS = 2_000;
const LINKS_POLL_MS = 50;

export class Sharing {
  readonly #parts: SharingParts;
  #timer: NodeJS.Timeout | undefined;
  /** The nodes as they were looked at last, and since when they have been so, monotonic ms. */
  #nodes = { ids: '', sinceMs: 0 };

  constructor(parts: SharingParts) {
    this.#parts = parts;
  }

  /** The log is open: where it shares by itself, looks from now on, until the node closes. */
  start(): void {
    const { config, stop } = this.#parts;
    const isAutomatic = config.coordinator.kind === 'etcd' && config.coordinator.autoRebalance;
    if (!isAutomatic || stop.aborted) return;
    this.#arm();
    stop.addEventListener('abort', () => clearTimeout(this.#timer), { once: true });
  }

  #arm(): void {
    // Nodes that were started together do not look together.
    const ms = REBALANCE_EVERY_MS * (0.5 + Math.random());
    this.#timer = setTimeout(() => {
      void this.#look().finally(() => {
        if (!this.#parts.stop.aborted) this.#arm();
      });
    }, ms);
    this.#timer.unref();
  }

  async #look(): Promise<void> {
    const led = this.#parts.coordinator.led();
    const ids = led ? [...led.keys()].sort().join() : '';
    const nowMs = performance.now();
    if (ids !== this.#nodes.ids) this.#nodes = { ids, sinceMs: nowMs };
    if (!led || nowMs - this.#nodes.sinceMs < REBALANCE_CALM_MS) return;
    // Others may give to the same node meanwhile: together no more than is too much.
    const step = Math.ceil(surplus(this.#parts.config.nodeId, led) / led.size);
    await this.#handOver(led, Math.min(step, REBALANCE_STEP_MAX));
  }

  /** See Node.drain. */
  async drain(): Promise<SharingReport> {
    await this.#parts.coordinator.drain(true);
    await this.#linked();
    return await this.#handOver(this.#led(), Number.POSITIVE_INFINITY);
  }

  /** See Node.rebalance. */
  async rebalance(): Promise<SharingReport> {
    await this.#parts.coordinator.drain(false);
    await this.#linked();
    const led = this.#led();
    return await this.#handOver(led, surplus(this.#parts.config.nodeId, led));
  }

  /** Whoever asks does not find less because others come up, or take spaces, only now. */
  async #linked(): Promise<void> {
    const { config, replication, stop } = this.#parts;
    const untilMs = performance.now() + LINKS_WAIT_MS;
    const isComing = (): boolean => {
      const others = [...this.#led().keys()].filter((id) => id !== config.nodeId);
      return others.length === 0 || others.some((id) => replication.mayConnect(id));
    };
    while (this.#own.length > 0 && isComing()) {
      if (stop.aborted || performance.now() >= untilMs) return;
      await pause(LINKS_POLL_MS, stop);
    }
  }

  get #own(): SpaceState[] {
    const { spaces } = this.#parts;
    return spaces.spaces.filter(({ facts, isFenced }) => facts.role === 'primary' && !isFenced);
  }

  /** By node: as the coordinator knows it, else as far as this node has the spaces. */
  #led(): ReadonlyMap<string, number> {
    const { coordinator, spaces, config, replication } = this.#parts;
    const known = coordinator.led();
    if (known) return known;
    const ids = [config.nodeId, ...replication.members.map((m) => m.nodeId)];
    const led = new Map(ids.map((id) => [id, 0]));
    for (const { facts } of spaces.spaces) {
      led.set(facts.primary, (led.get(facts.primary) ?? 0) + 1);
    }
    return led;
  }

  /** Hands so many of the spaces that are led here to whoever of their nodes leads least. */
  async #handOver(led: ReadonlyMap<string, number>, most: number): Promise<SharingReport> {
    const { replication, switchover } = this.#parts;
    const counts = new Map(led);
    const handed: Record<string, number> = {};
    const kept: { space: string; reason: string }[] = [];
    const keep = ({ facts }: SpaceState, reason: string): void => {
      if (kept.length < KEPT_MAX) kept.push({ space: facts.name, reason });
    };
    const chosen: [SpaceState, string][] = [];
    for (const space of most > 0 ? this.#own : []) {
      if (chosen.length >= most) break;
      const ready = space.replicas.filter((id) => led.has(id) && replication.isConnected(id));
      const [to] = ready.sort((a, b) => counts.get(a)! - counts.get(b)!);
      if (to === undefined) keep(space, 'none of its other nodes is connected and takes spaces');
      else {
        chosen.push([space, to]);
        counts.set(to, counts.get(to)! + 1);
      }
    }
    await inParts(chosen, async ([space, to]) => {
      try {
        await switchover(space, to);
        handed[to] = (handed[to] ?? 0) + 1;
      } catch (error) {
        if (!(error instanceof EngramError)) throw error;
        keep(space, firstLine(error));
      }
    });
    return { handed, led: this.#own.length, kept };
  }
}
