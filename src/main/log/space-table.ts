/** The spaces of one node: their durable facts, their slots, what is pending on each. */

import { idWords, type SpaceIdWords } from '../../shared/bytes.js';
import { type EngramError, failure } from '../../shared/errors.js';
import { IdTable } from '../../shared/id-table.js';
import { DurableTimes } from '../../shared/link/durable-times.js';
import { type Member, NODE_SPACE_ID } from '../../shared/log/node-record.js';
import {
  keepEndIn,
  type LogEnd,
  newSpaceFacts,
  type SpaceFacts,
  seeEpoch,
} from '../../shared/log/space-facts.js';
import { LogTruth } from '../../shared/log/truth.js';
import type { MembersRow } from '../../shared/members/members.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import { idOf } from '../../shared/names.js';
import { wrong } from '../../shared/option-checks.js';
import type { Epoch, EpochStart, Lsn, Position, Sequence, Slot } from '../../shared/position.js';
import { Turns } from '../runtime/turns.js';
import { type SequenceWait, SequenceWaits } from './sequence-waits.js';
import { SpaceRows } from './space-rows.js';

/** Gets each run of a space as it becomes durable. */
export interface RunConsumer {
  /** `bytes` of the run in a slab: only valid during the call; undefined: only in the log. */
  run(bytes: Uint8Array | undefined, first: Sequence, count: number): void;
}

export interface HostWait {
  /** So many replicas, besides this node. */
  readonly replicas: number;
  /** What it waits for does not come, or would not be what was meant. */
  reject(error: Error): void;
}

export interface DurableWait extends SequenceWait {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** What is being done about the damaged entries of a space. */
export interface RepairStatus {
  /** `repairing`: a member may have them. `corrupt`: every member has answered that it has not. */
  readonly state: 'repairing' | 'corrupt';
  readonly reason: string;
  /** Members that could not be asked. */
  readonly unreachable: readonly string[];
  /** Monotonic ms. */
  readonly sinceMs: number;
}

const NO_CONSUMERS: readonly RunConsumer[] = [];
const NOTHING_TOLD: readonly never[] = [];

export class SpaceState implements LogEnd {
  // First what every append looks at, side by side.
  readonly slot: Slot;
  readonly facts: SpaceFacts;
  /** Why it takes no appends, although this node leads it. */
  refusal: EngramError | undefined;
  /** Why it takes none for a moment: a promotion or a hand-over is under way. */
  pause: EngramError | undefined;
  /** This node led it and another one does: nothing is acknowledged, whatever becomes durable. */
  isFenced = false;
  readonly #rows: SpaceRows;
  #consumers = NO_CONSUMERS;
  #replicas: readonly string[] = [];
  /** The last sequence when the node was opened; 0 for a space made since. */
  readonly openedAt: Sequence;
  /** Its epoch then. One above it that this node leads in was begun by this very process. */
  readonly openedIn: Epoch;
  /** When the entries that its replicas may lack became durable here. */
  readonly times: DurableTimes;
  /** Entries of the library (types 5 and 7) that are staged and not durable yet. */
  readonly stagedOwn: Sequence[] = [];
  readonly durableWaits = new SequenceWaits<DurableWait>();
  /** What its host waits for: each belongs to the history that it was begun in (row 109). */
  readonly hostWaits = new Set<HostWait>();
  /** The host knows that this node leads it, or led it: what it wrote it has applied itself. */
  hasLed = true;
  /** Who leads it instead, while this is not durable here yet. */
  heardOf: { readonly epoch: Epoch; readonly leader: Member | undefined } | undefined;
  /** What is being done about its damage; undefined where there is none. */
  repair: RepairStatus | undefined;
  /** 16 bytes, hex: the id of `facts.primary`. */
  primaryId: string;
  /** The epochs of the space as its primary has told them last. */
  toldHistory: readonly EpochStart[] = NOTHING_TOLD;
  /** Its sets of members as of its primary's last introduction. */
  toldSets: readonly MembersRow[] = NOTHING_TOLD;
  /** Its log goes back to what it shares with its primary: not to be promoted meanwhile. */
  isRewinding = false;
  /** Its host is being given a snapshot: it takes nothing else, and leads nothing. */
  isInstalling: boolean;
  /** When all that its leader had was here, monotonic ms: as of the last time it was asked. */
  freshAtMs: number | undefined;
  /** What of its log was taken back since anybody looked. */
  readonly truth = new LogTruth();
  /** Where the newest epoch that this node has begun, in this life, begins in the log. */
  turn: EpochTurn | undefined;

  constructor(slot: Slot, facts: SpaceFacts, rows: SpaceRows, primaryId: string) {
    this.slot = slot;
    this.facts = facts;
    this.#rows = rows;
    this.primaryId = primaryId;
    this.openedAt = facts.position.sequence;
    this.openedIn = facts.epoch;
    this.times = new DurableTimes(this.openedAt);
    this.isInstalling = facts.begun !== undefined;
    this.replicas = replicasIn(facts);
    keepEndIn(facts, this);
  }

  /** As `facts.position`. */
  get position(): Position {
    return this.#rows.position(this.slot);
  }
  set position(position: Position) {
    this.#rows.setPosition(this.slot, position);
  }

  /** As `facts.timestamp`. */
  get timestamp(): bigint {
    return this.#rows.timestamp(this.slot);
  }
  set timestamp(timestamp: bigint) {
    this.#rows.setTimestamp(this.slot, timestamp);
  }

  /** As `facts.epochSeen`. */
  get epochSeen(): Epoch {
    return this.#rows.epochSeen(this.slot);
  }
  set epochSeen(epoch: Epoch) {
    this.#rows.setEpochSeen(this.slot, epoch);
  }

  /** Who is given its runs. */
  get consumers(): readonly RunConsumer[] {
    return this.#consumers;
  }
  set consumers(consumers: readonly RunConsumer[]) {
    this.#consumers = consumers;
    this.lookAt();
  }

  /** The node ids of the replicas that follow it, where this node leads. */
  get replicas(): readonly string[] {
    return this.#replicas;
  }
  set replicas(replicas: readonly string[]) {
    this.#replicas = replicas;
    this.#rows.setShipped(this.slot, replicas.length > 0);
    // Of what became durable meanwhile nothing was noted.
    const { sequence } = this.facts.position;
    if (replicas.length > 0 && this.times.last !== sequence) this.times.startAt(sequence);
  }

  /** Waits for an entry that is not durable yet. */
  addWait(wait: DurableWait): void {
    this.durableWaits.add(wait);
    this.lookAt();
  }

  /** The next run that becomes durable has something to do here. */
  lookAt(): void {
    this.#rows.unquiet(this.slot);
  }
}

/** The first entry of an epoch, and what stands before it: every replica is asked for that. */
export interface EpochTurn {
  readonly before: Position;
  readonly lsn: Lsn;
  readonly timestamp: bigint;
  /** Of the space's truth then: since another one it may be void. */
  readonly mark: number;
}

export class SpaceTable {
  readonly #memory: NodeMemory;
  readonly #slots = new IdTable();
  readonly #byName = new Map<string, SpaceState>();
  /** Of the primary that was met last: most spaces have the same one. */
  #lastPrimary = { name: '', id: idOf('') };
  /** Ids of spaces that are on their way to the disk. */
  readonly #reserved = new Set<string>();
  /** By slot; slot 0 is the node's own space. */
  readonly bySlot: SpaceState[] = [];
  /** The same, as `SpaceState.times`. */
  readonly times: DurableTimes[] = [];
  readonly rows: SpaceRows;

  constructor(memory: NodeMemory) {
    this.#memory = memory;
    this.rows = new SpaceRows(memory.memory.maxSpaces);
    this.add(newSpaceFacts(NODE_SPACE_ID, ''));
  }

  get node(): SpaceState {
    return this.bySlot[0]!;
  }

  /** All spaces but the node's own. */
  get spaces(): readonly SpaceState[] {
    return this.bySlot.slice(1);
  }

  /** By its words: a table of texts costs more than all else of a space that is opened. */
  byId(id: string): SpaceState | undefined {
    const space = this.byWords(idWords(id));
    // What is no id has words, too.
    return space?.facts.id === id ? space : undefined;
  }

  /** The same by the words of the id: for who looks with every batch. */
  byWords(words: SpaceIdWords): SpaceState | undefined {
    return this.bySlot[this.#slots.get(words)];
  }

  /** Its number alone, by the id that stands there; -1: it is not here. */
  slotAt(view: DataView, at: number): Slot {
    return this.#slots.getAt(view, at);
  }

  /** Throws Configuration for a name that is no string. */
  byName(name: string): SpaceState | undefined {
    if (typeof name !== 'string') throw wrong('the name of a space', name, 'a string');
    return this.#byName.get(name);
  }

  /**
   * Keeps a place for a space that is made durable now: what is in the log must have one here.
   * Throws Configuration when the table is full or the id stands for another name.
   */
  reserve(facts: SpaceFacts): void {
    this.#checkRoom(facts);
    this.#reserved.add(facts.id);
  }

  /** It has not become durable. */
  unreserve(facts: SpaceFacts): void {
    this.#reserved.delete(facts.id);
  }

  #checkRoom(facts: SpaceFacts): void {
    const slot = this.bySlot.length + this.#reserved.size;
    if (this.#reserved.has(facts.id)) {
      throw failure(
        'Configuration',
        `the space ${JSON.stringify(facts.name)} is made twice at once`,
      );
    }
    if (slot > this.#memory.memory.maxSpaces) {
      throw failure('Configuration', `more than maxSpaces = ${slot - 1} spaces`);
    }
    const known = this.byId(facts.id);
    if (known) {
      const names = `${JSON.stringify(known.facts.name)} and ${JSON.stringify(facts.name)}`;
      throw failure('Configuration', `the spaces ${names} share the id ${facts.id}`);
    }
  }

  /** Gives a slot to spaces that were here before, a few in a turn. */
  async addAll(all: readonly SpaceFacts[], added: (space: SpaceState) => void): Promise<void> {
    const turns = new Turns();
    for (const facts of all) {
      if (turns.isOver) await turns.next();
      turns.spaces--;
      added(this.add(facts));
    }
  }

  /** Gives the space a slot. Throws as `reserve`. */
  add(facts: SpaceFacts): SpaceState {
    this.unreserve(facts);
    this.#checkRoom(facts);
    const slot = this.bySlot.length;
    const space = new SpaceState(slot, facts, this.rows, this.#primaryId(facts.primary));
    this.bySlot.push(space);
    this.times.push(space.times);
    if (slot > 0) this.#byName.set(facts.name, space);
    const words = idWords(facts.id);
    this.#slots.add(words, slot);
    this.#memory.setSpace(slot, words, facts.epoch, facts.position.sequence);
    return space;
  }

  #primaryId(name: string): string {
    if (this.#lastPrimary.name !== name) this.#lastPrimary = { name, id: idOf(name) };
    return this.#lastPrimary.id;
  }

  setEpoch(space: SpaceState, epoch: number): void {
    if (epoch !== space.facts.epoch) endWaits(space, () => overtakenError(space, epoch));
    space.facts.epoch = epoch;
    seeEpoch(space.facts, epoch);
    this.#memory.setEpoch(space.slot, epoch);
  }
}

/** Its members but this node, which leads it. */
function replicasIn({ role, members, primary }: SpaceFacts): string[] {
  if (role !== 'primary') return [];
  return members.map((m) => m.nodeId).filter((id) => id !== primary);
}

/**
 * Whatever its host waits for is rejected.
 * @param why made only where somebody waits: thousands of spaces change hands in one moment
 * @param replicas those alone that ask for so many
 */
export function endWaits({ hostWaits }: SpaceState, why: () => Error, replicas = 0): void {
  if (hostWaits.size === 0) return;
  const error = why();
  for (const wait of hostWaits) if (wait.replicas >= replicas) wait.reject(error);
}

function overtakenError({ facts }: SpaceState, epoch: Epoch): EngramError {
  const found = `${facts.name} was waited for in epoch ${facts.epoch}, and ${epoch} has begun`;
  return failure('Fenced', found, { details: { epoch } });
}

export function rewoundError({ facts }: SpaceState, first: Sequence): EngramError {
  const found = `entries of ${facts.name} from ${first} on were taken back`;
  return failure('Rewound', found, { details: { from: first } });
}

/**
 * Entries from `first` on are void, in this very turn; Infinity: none is, but its log stands
 * elsewhere. The one place that says so: who reads or follows looks again, who waits is told.
 */
export function takeBack(space: SpaceState, first: Sequence): void {
  space.truth.takeBack(first);
  space.times.takeBack(first);
  for (const consumer of space.consumers) consumer.run(undefined, 0, 0);
  if (first === Number.POSITIVE_INFINITY) return;
  space.freshAtMs = undefined;
  endWaits(space, () => rewoundError(space, first));
}

/** The space has become durable up to `sequence`. */
export function wakeDurableWaits({ durableWaits }: SpaceState, sequence: Sequence): void {
  let wait = durableWaits.take(sequence);
  while (wait) {
    wait.resolve();
    wait = durableWaits.take(sequence);
  }
}

/** What they wait for does not come. */
export function rejectWaits({ durableWaits }: SpaceState, error: Error): void {
  let wait = durableWaits.take(Number.POSITIVE_INFINITY);
  while (wait) {
    wait.reject(error);
    wait = durableWaits.take(Number.POSITIVE_INFINITY);
  }
}
