/** The options of a replica: where it listens, and what becomes of what it gets. */
import type { Address } from '../../shared/address.js';
import type { Entry } from '../../shared/log/entry.js';
import type { Role } from '../../shared/log/node-record.js';
import type { Epoch, Sequence } from '../../shared/position.js';

export interface FollowOptions {
  /** Where primaries may dial this node. Loopback only, unless there is a key or `tls`. */
  readonly listen?: Address;
  /**
   * Replica: gets entries in order within a space; resolves = applied. What it throws is an
   * event, and the same entries come again. `position` is that of the last of them: a host that
   * commits it with its own data, and tells it by `appliedUpTo`, applies each entry exactly once.
   */
  readonly apply?: (
    entries: Entry[],
    context: {
      space: string;
      position: { epoch: Epoch; sequence: Sequence };
      /** What this node is in the space at the call; a `replica` without `applyWhenLeading`. */
      role: Role;
    },
  ) => Promise<void> | void;
  /**
   * true: `apply` gets what this node appends as the leader as well, once it is durable here: one
   * way into the host's state for both roles, in order, and each entry once through every change
   * of roles (with `appliedUpTo`, through crashes as well). Default false: what a node wrote as the
   * leader its host has applied itself. Who turns it on for a directory that has led gives
   * `appliedUpTo`, or may get again what it wrote.
   */
  readonly applyWhenLeading?: boolean;
  /** How often an entry is offered that the host throws at, before it blocks its space. */
  readonly applyRetries?: number;
  /**
   * For how long a promotion, a hand-over or a snapshot that comes waits for a callback of the host
   * that does not return, or does not come further. Then it says which one (`apply-blocked`, with
   * `silent`), and only `force` leads without it. Default 10,000.
   */
  readonly hostTimeoutMs?: number;
  /** Where the host's own commit stands; without it the node keeps the applied sequence. */
  readonly appliedUpTo?: (space: string) => Promise<Sequence> | Sequence;
  /** Called when entries are taken back after a promotion elsewhere. */
  readonly rewound?: (
    space: string,
    range: { from: Sequence; to: Sequence; quarantine: string },
  ) => Promise<void> | void;
  /**
   * Replica without `apply`: `checkpoint` takes its primary's checkpoints for its own: its log is
   * freed as the primary's is; `nothing` keeps all until this node checkpoints. Default:
   * `nothing`; of `engram-wal serve`, for directories that this release has made, `checkpoint`.
   */
  readonly follow?: 'checkpoint' | 'nothing';
}

/** What applying goes by in a node. */
export interface ApplyOptions extends Pick<FollowOptions, 'apply' | 'appliedUpTo' | 'rewound'> {
  readonly applyWhenLeading: boolean;
  readonly applyRetries: number;
  readonly hostTimeoutMs: number;
  readonly backoffStepsMs: readonly number[];
}
