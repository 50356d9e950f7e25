/** What those who look at a node, or operate it, ask of it. */
import type { Entry } from '../../shared/log/entry.js';
import type { Member } from '../../shared/log/node-record.js';
import type { Sample } from '../../shared/metrics/rings.js';
import type { Epoch, Sequence } from '../../shared/position.js';
import type { SwitchoverOptions } from '../lead/handover.js';
import type { RemoveOptions } from '../lead/options.js';
import type { PromoteOptions } from '../lead/promotion/promotion.js';
import type { PromotionReport } from '../lead/promotion/report.js';
import type { PairGlance } from '../ship/lag-monitor.js';
import type { NodeEventName, NodeEvents } from '../tell/events.js';
import type { Level } from '../tell/line.js';
import type { RecentEvent } from '../tell/logger.js';
import type { ScrapePieces } from './metrics.js';
import type { NodeSummary, SpaceGlance, SpaceStatus } from './status.js';

export interface SeenSpace {
  readonly name: string;
  status(): SpaceStatus;
}

/** What a node has done so far, and how much room its disk has. */
export type Pulse = Omit<Sample, 'atMs' | 'worstLagMs'>;

export interface SeenNode {
  readonly isClosing: boolean;
  readonly spaces: readonly SeenSpace[];
  readonly recentEvents: readonly RecentEvent[];
  summary(): NodeSummary;
  /** Counts since the node was opened, from shared words: cheap enough for every second. */
  pulse(): Pulse;
  /** Asks the file system of the directory how much room it has. */
  lookAtDisk(): Promise<void>;
  scrape(): Promise<ScrapePieces>;
  /**
   * A glance for lists of very many spaces: `status()` makes twenty times as much of it.
   * @param pair holds the figures of one replica during each call of `each`
   */
  glance(space: string, pair: PairGlance, each: () => void): SpaceGlance;
  on<K extends NodeEventName>(name: K, listener: (event: NodeEvents[K]) => void): unknown;
}

/** What an operator may change in the process of a node that is nothing of the node itself. */
export interface OperatedProcess {
  /** From now on it writes lines of this level and above. */
  setLogLevel(level: Level): void;
}

export interface OperatedSpace extends SeenSpace {
  checkpoint(sequence: Sequence): Promise<void>;
  append(
    type: number,
    payload: Uint8Array,
    options: { ack?: { replicas: number; timeoutMs?: number } },
  ): Promise<{ readonly sequence: Sequence; readonly epoch: Epoch }>;
  read(range: { from?: Sequence; to?: Sequence; last?: number }): AsyncIterable<Entry>;
}

export interface OperatedNode {
  promote(space: string, options: PromoteOptions): Promise<PromotionReport>;
  switchover(space: string, to: string, options: SwitchoverOptions): Promise<unknown>;
  drain(): Promise<unknown>;
  rebalance(): Promise<unknown>;
  locate(space: string): Promise<unknown>;
  addReplica(replica: Member): Promise<void>;
  removeReplica(replicaId: string, options: RemoveOptions): Promise<void>;
  backup(target: string, options: object): Promise<unknown>;
  openSpace(name: string, options: { lead: true }): Promise<OperatedSpace>;
  space(name: string): OperatedSpace;
  readonly spaces: readonly OperatedSpace[];
}
