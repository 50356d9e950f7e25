/** The whole cluster as one node sees it: for programs, for `status --cluster` and for the page. */
import type { Address } from '../../../shared/address.js';
import type { HealthWord, Todo } from '../health/words.js';

/**
 * `self`: the node that was asked. `answers`: as said by itself. `older`: it is there, and of a
 * release that tells nothing of itself. `away`: it gave no answer, and `reason` says why.
 */
export type MemberState = 'self' | 'answers' | 'older' | 'away';

export interface MemberJson {
  readonly nodeId: string;
  readonly state: MemberState;
  /** For how long it has been there, or away, as far as this node knows; null: never there. */
  readonly forMs: number | null;
  /** Why it is away; else ''. */
  readonly reason: string;
  /** Members that have a link to it, while this node gets no answer. */
  readonly heardBy: readonly string[];
  /** Where members dial it; null: nobody has said. */
  readonly address: Address | null;
  /** null, as all below: it does not say. */
  readonly health: HealthWord | null;
  readonly todo: Todo | null;
  readonly problems: number | null;
  /** The kind of the worst of them; null: there is none. */
  readonly worst: string | null;
  readonly version: string | null;
  readonly spaces: number | null;
  /** Of one that does not say: of those that the asked node has. */
  readonly led: number;
  readonly uptimeMs: number | null;
  /** Its page; null: it has none, or none that can be reached from here. */
  readonly url: string | null;
}

/** What a member lacks of what another one leads: the worst of those spaces, each for itself. */
export interface LagJson {
  readonly leader: string;
  readonly member: string;
  readonly spaces: number;
  /** Of the link. */
  readonly state: string;
  readonly lagMs: number | 'unknown';
  readonly lagEntries: number;
  readonly lagBytes: number;
}

/** One space on one member. */
export interface CopyJson {
  readonly nodeId: string;
  /** `none`: it does not have the space; `unknown`: it gave no answer. */
  readonly role: 'primary' | 'replica' | 'none' | 'unknown';
  readonly epoch: number;
  /** Durable there. */
  readonly flushed: number;
  /** null: nobody applies it there. */
  readonly applied: number | null;
  readonly first: number;
  /** What it lacks of what the leader has; null: nobody knows. */
  readonly lagEntries: number | null;
  /** All that it has can be read. */
  readonly isWhole: boolean;
  readonly reason: string;
}

export interface WhereJson {
  readonly name: string;
  /** null: nobody that answers knows. */
  readonly leader: string | null;
  /** It says so itself. */
  readonly isSure: boolean;
  readonly copies: readonly CopyJson[];
}

export interface ClusterJson {
  readonly clusterId: string;
  /** Which node sees it so. */
  readonly nodeId: string;
  /** Wall clock, ms since 1970. */
  readonly at: number;
  /** The worst of the members; one that is away makes it `degraded` at least. */
  readonly health: HealthWord;
  readonly todo: Todo;
  readonly members: readonly MemberJson[];
  /** Members that were not asked, for they are too many. */
  readonly more: number;
  readonly lag: readonly LagJson[];
  /** Where the space is that was asked for. */
  readonly space?: WhereJson;
}
