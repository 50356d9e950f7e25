/**
 * A replica that nobody's `apply` reads takes the checkpoints of its primaries for its own (DESIGN
 * 15): durable, never going back, never beyond what it has flushed itself. What it is told and has
 * not come up to yet waits here; who is told again by each new link needs no memory of it on disk.
 */
import { HEARTBEAT_MS } from '../../shared/limits.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import type { Epoch, Sequence } from '../../shared/position.js';
import type { Retention } from '../log/retention/retention.js';
import type { SpaceState } from '../log/space-table.js';
import type { FollowOptions } from './options.js';

/**
 * Who says what is not needed here any more: the host, the primary that is followed, or nobody, so
 * that all since the checkpoint is kept (`follow`).
 */
export interface Keeps {
  readonly by: 'host' | 'primary' | 'nobody';
  readonly reason: string;
}

/** Who says what a node needs no more of a space; for `status()`. @param versionOf a primary */
export function keepsOf(
  { facts }: SpaceState,
  follow: FollowOptions['follow'],
  versionOf: (primaryId: string) => number | undefined,
): Keeps {
  if (follow !== 'checkpoint') return { by: 'host', reason: '' };
  if (facts.role === 'primary') {
    const reason = 'led without a host: all is kept until somebody checkpoints';
    return { by: 'nobody', reason: `${reason} (engram-wal checkpoint)` };
  }
  if (versionOf(facts.primary) !== 1) return { by: 'primary', reason: '' };
  return { by: 'nobody', reason: `${facts.primary} tells no checkpoints: protocol version 1` };
}

/** Spaces whose checkpoints are written at once, and then other work is let in. */
const AT_ONCE = 256;

/** What the primary of a space needs nothing below, and in which epoch it said so. */
interface Told {
  readonly sequence: Sequence;
  readonly epoch: Epoch;
}

export class CheckpointFollower {
  readonly #memory: NodeMemory;
  readonly #retention: Pick<Retention, 'checkpoint'>;
  readonly #told = new Map<SpaceState, Told>();
  readonly #timer: NodeJS.Timeout;
  #running: Promise<void> | undefined;
  #isClosed = false;

  /** Where this node follows checkpoints. */
  static of(
    { follow }: FollowOptions,
    memory: NodeMemory,
    retention: Retention,
  ): CheckpointFollower | undefined {
    return follow === 'checkpoint' ? new CheckpointFollower(memory, retention) : undefined;
  }

  private constructor(memory: NodeMemory, retention: Pick<Retention, 'checkpoint'>) {
    this.#memory = memory;
    this.#retention = retention;
    this.#timer = setInterval(() => this.#run(), HEARTBEAT_MS);
    this.#timer.unref();
  }

  /** The primary that the space follows now needs nothing below `sequence`. */
  told(space: SpaceState, sequence: Sequence): void {
    this.#told.set(space, { sequence, epoch: space.facts.epoch });
  }

  #run(): void {
    if (this.#told.size === 0 || this.#isClosed) return;
    this.#running ??= this.#follow().finally(() => {
      this.#running = undefined;
    });
  }

  async #follow(): Promise<void> {
    let moved: Promise<void>[] = [];
    for (const [space, told] of this.#told) {
      const { facts, slot } = space;
      // Another leads since, with another history: its own word counts.
      const isOver = facts.role === 'primary' || facts.epoch !== told.epoch;
      const own = Math.min(told.sequence, this.#memory.durable(slot) + 1);
      if (isOver || facts.checkpoint >= told.sequence) this.#told.delete(space);
      // While it goes back, or is replaced, nobody knows how far it will have come.
      if (isOver || own <= facts.checkpoint || space.isRewinding || space.isInstalling) continue;
      // A log that fails or is full says so itself; it is tried again.
      moved.push(this.#retention.checkpoint(space, own).catch(() => undefined));
      if (moved.length < AT_ONCE) continue;
      await Promise.all(moved);
      moved = [];
      if (this.#isClosed) return;
    }
    await Promise.all(moved);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearInterval(this.#timer);
    await this.#running;
  }
}
