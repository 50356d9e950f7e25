/** The parts of a node that a space works with. */
import type { EngramError } from '../../../shared/errors.js';
import type { NodeMemory } from '../../../shared/memory/slab.js';
import type { Sequence } from '../../../shared/position.js';
import type { Applier } from '../../follow/apply.js';
import type { AppliedWaits, ApplyGate } from '../../follow/apply-gate.js';
import type { LeaderWord } from '../../lead/coordinator-state.js';
import type { MembersStatus } from '../../lead/members/changes.js';
import type { Tip } from '../../lead/promotion/leader-tips.js';
import type { Retention } from '../../log/retention/retention.js';
import type { SpaceState } from '../../log/space-table.js';
import type { Wal } from '../../log/wal.js';
import type { NodeConfig } from '../../options/options.js';
import type { LogReader } from '../../read/reader.js';
import type { Replication } from '../../ship/replication.js';
import type { SnapshotIntake } from '../../snapshot/intake.js';

export interface SpaceParts {
  readonly config: NodeConfig;
  readonly memory: NodeMemory;
  readonly wal: Wal;
  readonly reader: LogReader;
  readonly replication: Replication;
  readonly retention: Retention;
  /** Why nothing may be acknowledged at this moment, whatever has been flushed. */
  ackRefusal(): EngramError | undefined;
  readonly stop: AbortSignal;
  /** Those that take entries from threads of the host. */
  readonly producers: Set<object>;
  appliedTo(space: SpaceState): Sequence;
  /** That the connected primary speaks; undefined: none is. */
  versionOf(primaryId: string): number | undefined;
  /** What the host has applied, where it has; on a node that leads, what its host wrote, too. */
  hostAppliedTo(space: SpaceState): Sequence;
  readonly applied: AppliedWaits;
  /** undefined: nothing is applied where this node leads. */
  readonly gate: ApplyGate | undefined;
  /** What its leader has durable, asked now. */
  readonly tipOf: (space: SpaceState) => Promise<Tip>;
  readonly applier: Applier | undefined;
  readonly snapshots: SnapshotIntake;
  membersOf(space: SpaceState): MembersStatus;
  leaderOf(space: SpaceState): LeaderWord;
}
