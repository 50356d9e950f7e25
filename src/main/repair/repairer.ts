/**
 * Brings damaged entries back from other members (DESIGN 8, FAULTS rows 5-7, 20), round by round:
 * it asks, and says of each space how it stands. One segment: repair/segment.ts.
 */
import { type EngramError, failure } from '../../shared/errors.js';
import type { Member } from '../../shared/log/node-record.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import type { Retention } from '../log/retention/retention.js';
import type { StateKeeper } from '../log/retention/state-keeper.js';
import type { RepairStatus, SpaceState, SpaceTable } from '../log/space-table.js';
import type { Wal } from '../log/wal.js';
import type { PeerClient } from '../peer/client.js';
import type { Damage } from '../read/damage.js';
import type { DamageEvents } from '../read/events.js';
import type { LogReader } from '../read/reader.js';
import { within } from '../runtime/deadline.js';
import type { Emit } from '../runtime/emit.js';
import type { Disk } from '../segments/disk.js';
import type { Segment, Segments } from '../segments/segments.js';
import type { Replication } from '../ship/replication.js';
import { EntrySource } from './entry-source.js';
import { damagedExtents, type RepairNode, type Round, repairSegment } from './segment.js';

/** The links to other members. */
export interface RepairLinks {
  readonly peers: PeerClient;
  readonly replication: Replication;
  /** Whoever leads the space is to dial this node anew. */
  dialAgain(space: SpaceState): void;
}

/** Why members are not asked, though they may have what a space lacks. */
const NO_RECORD = 'a record of the node itself is lost: no other member has it';

/** What repairing goes by in a node. */
export interface RepairConfig {
  readonly nodeId: string;
  readonly segmentBytes: number;
  readonly maxEntryBytes: number;
  readonly connectTimeoutMs: number;
  readonly backoffStepsMs: readonly number[];
}

export class Repairer {
  readonly #config: RepairConfig;
  readonly #node: RepairNode;
  readonly #wal: Wal;
  readonly #links: RepairLinks;
  readonly #emit: Emit<DamageEvents>;
  #running: Promise<void> | undefined;
  #isAgain = false;
  #isClosed = false;
  #timer: NodeJS.Timeout | undefined;
  #rounds = 0;

  constructor(
    disk: Disk,
    dir: string,
    memory: NodeMemory,
    spaces: SpaceTable,
    segments: Segments,
    salt: number,
    config: RepairConfig,
    reader: LogReader,
    damage: Damage,
    retention: Retention,
    state: StateKeeper,
    wal: Wal,
    links: RepairLinks,
    emit: Emit<DamageEvents>,
  ) {
    this.#config = config;
    this.#wal = wal;
    this.#links = links;
    this.#emit = emit;
    const { nodeId, segmentBytes } = config;
    const parts = { disk, dir, salt, segmentBytes, memory, spaces, segments };
    const membersOf = (space: SpaceState): readonly Member[] =>
      askable(space, nodeId, links.replication.members);
    this.#node = { ...parts, reader, damage, retention, state, membersOf };
  }

  /** Asks now, or once more when it is asking. */
  wake(): void {
    if (this.#isClosed || this.#concerned().size === 0) return;
    clearTimeout(this.#timer);
    this.#isAgain = true;
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
  }

  /** This node is there: what it could not be asked is asked now. */
  heard(nodeId: string): void {
    const isWanted = [...this.#concerned().values()].some((s) =>
      s.repair?.unreachable.includes(nodeId),
    );
    if (isWanted) this.wake();
  }

  /** What a shipper has met: told to the space, who then asks for it. */
  unreadable(segment: Segment): void {
    // A disk that fails here fails the reader, too.
    this.#node.damage.examine(segment).catch(() => undefined);
  }

  /** At opening: resolves when everybody who answers has been asked, or after `timeoutMs`. */
  async first(timeoutMs: number): Promise<void> {
    this.wake();
    if (this.#running) await within(this.#running, timeoutMs);
  }

  /** The client is closed already: what waits for a member ends at once. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  #concerned(): Map<string, SpaceState> {
    const found = new Map<string, SpaceState>();
    for (const space of this.#node.spaces.spaces) {
      if (space.facts.damage.some((d) => !d.accepted)) found.set(space.facts.id, space);
    }
    return found;
  }

  async #run(): Promise<void> {
    while (this.#isAgain && !this.#isClosed) {
      this.#isAgain = false;
      await this.#round();
    }
    const left = [...this.#concerned().values()];
    if (this.#isClosed || left.length === 0) return;
    const steps = this.#config.backoffStepsMs;
    const isHope = left.some((s) => s.repair?.state === 'repairing');
    // A member may have been repaired itself meanwhile: asked again, at the slowest pace.
    const step = isHope ? steps[Math.min(this.#rounds++, steps.length - 1)]! : steps.at(-1)!;
    this.#timer = setTimeout(() => this.wake(), step * (0.5 + Math.random() / 2));
    this.#timer.unref();
  }

  async #round(): Promise<void> {
    const concerned = this.#concerned();
    const { connectTimeoutMs, maxEntryBytes } = this.#config;
    const source = new EntrySource(this.#links.peers, connectTimeoutMs, maxEntryBytes, {
      refused: (space, { nodeId }, error) => {
        const reason = `${nodeId} gave what cannot be: ${firstLine(error)}`;
        this.#emit('repair', { space, state: 'refused', reason, unreachable: [] });
      },
    });
    const round: Round = { concerned, source, stuck: new Map() };
    let problem: string | undefined;
    try {
      const members = [...concerned.values()].flatMap((s) => this.#node.membersOf(s));
      if (members.length > 0) problem = await this.#repairAll(round);
    } finally {
      source.close();
    }
    if (this.#isClosed) return;
    for (const space of concerned.values()) {
      this.#conclude(space, round, problem);
    }
  }

  /** @returns what of our own stood in the way */
  async #repairAll(round: Round): Promise<string | undefined> {
    let problem: string | undefined;
    try {
      const { segments } = this.#node;
      const { current } = segments;
      // Only what is written no more can be replaced.
      const isOpen = this.#node.damage.holes.some((h) => h.end > current.start && h.end > h.start);
      if (isOpen) await this.#wal.roll();
    } catch (error) {
      problem = firstLine(error);
    }
    for (const extent of damagedExtents(this.#node)) {
      if (this.#isClosed) return undefined;
      try {
        await repairSegment(this.#node, extent, round);
      } catch (error) {
        problem = firstLine(error);
      }
    }
    return problem;
  }

  /** How a space stands behind a round. */
  #conclude(space: SpaceState, { stuck, source }: Round, problem: string | undefined): void {
    this.#node.damage.refuse(space);
    const { name, damage } = space.facts;
    const left = damage.filter((d) => !d.accepted);
    if (left.length === 0) {
      const reason = 'all its entries are here again';
      this.#emit('repair', { space: name, state: 'repaired', reason, unreachable: [] });
      this.#restored(space);
      this.#rounds = 0;
      return;
    }
    const members = this.#node.membersOf(space);
    const silent = members.filter((m) => source.unreachable.has(m.nodeId)).map((m) => m.nodeId);
    const isNode = left.every((d) => d.doubt === 'record');
    const isHope = !isNode && (silent.length > 0 || problem !== undefined);
    const why = members.length === 0 ? 'it has no other member' : 'no member gave what is lost';
    const found = isNode ? NO_RECORD : (stuck.get(space) ?? problem ?? why);
    const first = silent[0];
    const reason = first === undefined ? found : `${found}; ${source.unreachable.get(first)}`;
    this.#become(space, isHope ? 'repairing' : 'corrupt', reason, silent);
  }

  /** What was said of it before no longer holds. */
  #restored(space: SpaceState): void {
    const { replication } = this.#links;
    replication.retry();
    const { role } = space.facts;
    // One that is fenced, or waits for its coordinator, is shipped to nobody.
    if (role === 'primary' && !space.isFenced) replication.lead([space]);
    else if (role === 'replica') this.#links.dialAgain(space);
  }

  #become(
    space: SpaceState,
    state: RepairStatus['state'],
    reason: string,
    unreachable: readonly string[],
  ): void {
    const before = space.repair;
    const isSame = before?.state === state;
    const sinceMs = isSame ? before.sinceMs : performance.now();
    space.repair = { state, reason, unreachable, sinceMs };
    this.#node.damage.refuse(space);
    if (isSame && before.unreachable.join() === unreachable.join()) return;
    this.#emit('repair', { space: space.facts.name, state, reason, unreachable });
  }
}

/** Whom a node may ask for entries of a space: everybody who takes part in it. */
export function askable(
  space: SpaceState,
  ownId: string,
  configured: readonly Member[],
): readonly Member[] {
  const { members, primary, role } = space.facts;
  const found = new Map<string, Member>();
  // Its primary first: it has most.
  if (role === 'replica' && primary !== '') {
    found.set(primary, { nodeId: primary, host: '', port: 0 });
  }
  for (const member of members) found.set(member.nodeId, member);
  for (const member of configured) if (found.has(member.nodeId)) found.set(member.nodeId, member);
  found.delete(ownId);
  return [...found.values()];
}

function firstLine(error: unknown): string {
  if (!(error instanceof Error)) throw failure('Io', String(error));
  return (error as EngramError).message.split('\n', 1)[0]!;
}
