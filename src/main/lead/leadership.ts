/**
 * Everything about who leads the spaces of a node: puts together roles, fencing, promotion,
 * hand-over and rejoin, and says what the node's host, its peers and its coordinator may ask.
 */
import path from 'node:path';
import type { Address } from '../../shared/address.js';
import { dialable } from '../../shared/address.js';
import { EngramError, failure } from '../../shared/errors.js';
import { readGiven } from '../../shared/host-input.js';
import { comparePositions, nameOwners } from '../../shared/lead/epoch.js';
import type { Member } from '../../shared/log/node-record.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import { checkName } from '../../shared/names.js';
import {
  checkGiven,
  checkTimeout,
  flag,
  isText,
  texts,
  whole,
  wrong,
} from '../../shared/option-checks.js';
import type { Epoch, EpochStart, Sequence } from '../../shared/position.js';
import { epochsNamed } from '../../shared/wire/named-epochs.js';
import type { StandingRow } from '../../shared/wire/peer-frames.js';
import type { Frame } from '../../shared/wire/protocol.js';
import type { Applier } from '../follow/apply.js';
import type { LogEvents } from '../log/events.js';
import type { SpaceState, SpaceTable } from '../log/space-table.js';
import type { Wal } from '../log/wal.js';
import type { PeerHandlers } from '../peer/answers.js';
import type { PeerClient } from '../peer/client.js';
import type { LogReader } from '../read/reader.js';
import { pause } from '../runtime/deadline.js';
import type { Emit } from '../runtime/emit.js';
import { inParts } from '../runtime/turns.js';
import type { Disk } from '../segments/disk.js';
import { QUARANTINE } from '../segments/folders.js';
import type { Segments } from '../segments/segments.js';
import type { Replication } from '../ship/replication.js';
import { Coordinated } from './coordinated.js';
import type { Coordinator } from './coordinator.js';
import type { LeadEvents } from './events.js';
import { Fencing } from './fencing.js';
import { Handover, type SwitchoverOptions, type SwitchoverReport } from './handover.js';
import { keepKnocking } from './knocking.js';
import { MemberChanges } from './members/changes.js';
import { ReplicaSets } from './members/replica-sets.js';
import type { LeadConfig, OpenSpaceOptions, RemoveOptions } from './options.js';
import { isRegressed } from './promotion/ballot.js';
import { Electorate } from './promotion/electorate.js';
import { Founders } from './promotion/founders.js';
import { type PromoteOptions, Promotion } from './promotion/promotion.js';
import type { PromotionReport } from './promotion/report.js';
import { Refill } from './refill.js';
import { Rejoin } from './rejoin.js';
import { Roles } from './roles.js';
import { Sharing } from './sharing.js';

/** Between attempts of a regressed space to lead again. */
const RECOVER_POLL_MS = 1_000;

/** Who leads a space, and where to reach it. */
export interface Located {
  readonly space: string;
  readonly nodeId: string;
  readonly epoch: Epoch;
  /** undefined: it does not listen, or nobody has said where. */
  readonly address: Address | undefined;
}

export interface LeadershipParts {
  readonly config: LeadConfig;
  readonly disk: Disk;
  readonly dir: string;
  readonly memory: NodeMemory;
  readonly spaces: SpaceTable;
  readonly segments: Segments;
  readonly reader: LogReader;
  readonly wal: Wal;
  readonly replication: Replication;
  readonly peers: PeerClient;
  readonly coordinator: Coordinator;
  readonly applier: Applier | undefined;
  readonly stop: AbortSignal;
  /** The node ships to this one. */
  readonly isLinked: (nodeId: string) => boolean;
  readonly emit: Emit<LeadEvents & LogEvents>;
  address(): Address | undefined;
  /** Nothing of the space is taken from whoever was its primary. */
  fence(space: SpaceState): void;
  appliedTo(space: SpaceState): Sequence;
  isInstalling(space: SpaceState): boolean;
  /** What the host needs of a space may reach farther back than before. */
  floorMoved(space: SpaceState): void;
}

type Serially = Roles['serially'];

export class Leadership {
  readonly roles: Roles;
  /** Where led spaces go. */
  readonly replicas: ReplicaSets;
  /** Who counts there. */
  readonly changes: MemberChanges;
  /** How many of them this node leads, and others. */
  readonly sharing: Sharing;
  /** As its coordinator sees this node. */
  readonly coordinated: Coordinated;
  readonly fencing: Fencing;
  /** Who else has made the spaces that this node has made. */
  readonly founders: Founders;
  readonly #parts: LeadershipParts;
  readonly electorate: Electorate;
  readonly #promotion: Promotion;
  readonly #handover: Handover;
  readonly #rejoin: Rejoin;
  readonly #recovering = new Map<SpaceState, Promise<void>>();

  constructor(parts: LeadershipParts) {
    this.#parts = parts;
    const { config, memory, spaces, wal, replication, peers, coordinator, applier } = parts;
    const { nodeId } = config;
    const serially: Serially = (work, space) => this.roles.serially(work, space);
    this.fencing = this.#makeFencing(serially);
    this.coordinated = new Coordinated({ ...parts, leadership: this });
    this.#rejoin = this.#makeRejoin();
    this.changes = this.#makeChanges();
    this.replicas = this.#makeReplicas(serially);
    this.roles = this.#makeRoles();
    // Where the coordinator has seen them last; else as configured, or as a primary has said.
    const known = (): readonly Member[] => this.known();
    const address = (): Address | undefined => this.coordinated.address;
    const lives = (id: string): boolean => coordinator.lives(id);
    this.electorate = new Electorate(nodeId, peers, known, address, lives);
    const electorate = this.electorate;
    const shared = { nodeId, memory, spaces, wal, replication, electorate, coordinator, serially };
    this.founders = new Founders({
      ...shared,
      quorum: replication.quorum,
      fencing: this.fencing,
      stop: parts.stop,
      undo: (space) => this.#rejoin.undo(space),
      failed: (error) => parts.emit('state-failed', { error }),
    });
    this.#promotion = new Promotion({
      ...shared,
      applier,
      refill: new Refill(memory, wal, peers, config.maxEntryBytes),
      fence: (space) => parts.fence(space),
      settle: (space) => this.changes.settle(space),
      changed: (space) => this.#changed(space),
      promoted: (_, report, tookMs) => parts.emit('promoted', { ...report, tookMs }),
    });
    this.sharing = new Sharing({
      ...parts,
      switchover: (space, to) => this.#handover.inTurn(space, to),
    });
    this.#handover = new Handover({
      ...shared,
      stop: parts.stop,
      promotion: this.#promotion,
      fencing: this.fencing,
      switched: (report) => parts.emit('switched-over', report),
      abandoned: ({ facts }, to, reason) =>
        parts.emit('switchover-abandoned', { space: facts.name, to, reason }),
    });
  }

  #makeFencing(serially: Serially): Fencing {
    const { config, memory, wal, replication, emit } = this.#parts;
    return new Fencing(config.nodeId, memory, wal, replication, {
      serially,
      changed: (space) => this.#changed(space),
      fenced: ({ facts }, epoch, leader) => emit('fenced', { space: facts.name, epoch, leader }),
      incident: (space, epoch, otherId) => this.#incident(space, epoch, otherId),
      isMet: (space) => this.founders.met(space),
      asksFor: (space) => this.#promotion.asksFor(space),
      seen: (space) => this.#parts.fence(space),
      failed: (error) => emit('state-failed', { error }),
    });
  }

  #makeRejoin(): Rejoin {
    const { disk, dir, memory, segments, reader, wal, applier, emit } = this.#parts;
    return new Rejoin(disk, dir, memory, segments, reader, wal, {
      stopApplying: (space) => void applier?.stop(space).catch(() => undefined),
      rewound: (space, { position, to, quarantine }) => {
        this.#parts.floorMoved(space);
        const { name, primary, epoch } = space.facts;
        const from = position.sequence + 1;
        const file = path.join(dir, QUARANTINE, quarantine);
        const what = { from, to, entries: to - from + 1, quarantine: file };
        emit('rewound', { space: name, ...what, primaryId: primary, epoch });
        applier?.start(space);
      },
    });
  }

  #makeRoles(): Roles {
    const { config, memory, spaces, wal, replication, applier } = this.#parts;
    const sets = [this.replicas, this.changes] as const;
    return new Roles(config, memory, spaces, wal, replication, ...sets, {
      changed: (space) => this.#changed(space),
      followed: (space) => applier?.start(space),
      appliedTo: (space) => this.#parts.appliedTo(space),
      isInstalling: (space) => this.#parts.isInstalling(space),
      unconfirmed: (names, silent) =>
        this.#parts.emit('unconfirmed-open', { spaces: names, silent }),
      stop: (space, epoch, leader) => this.fencing.stop(space, epoch, leader),
      heard: (space, epoch, leader) => this.fencing.heard(space, epoch, leader),
      incident: (space, epoch, otherId) => this.#incident(space, epoch, otherId),
      undo: (space) => this.#rejoin.undo(space),
      mayLeave: (space) => this.founders.mayLeave(space),
      back: (...asked) => this.#rejoin.back(...asked),
    });
  }

  #makeChanges(): MemberChanges {
    const { config, memory, spaces, wal, replication, coordinator, emit } = this.#parts;
    const { nodeId } = config;
    const { writeFloor } = coordinator;
    return new MemberChanges({
      nodeId,
      memory,
      spaces,
      wal,
      replication,
      shipTo: (space, ids) =>
        this.roles.serially(async () => {
          if (space.facts.role === 'primary') await this.replicas.shipTo(space, ids);
        }, space),
      floorOf: ({ facts }) => coordinator.floorOf(facts.name),
      writeFloor:
        writeFloor && (({ facts }, floor) => writeFloor.call(coordinator, facts.name, floor)),
      settled: (told) => emit('members-changed', told),
      failed: (error) => emit('state-failed', { error }),
    });
  }

  #makeReplicas(serially: Serially): ReplicaSets {
    const { config, spaces, wal, replication } = this.#parts;
    return new ReplicaSets({
      nodeId: config.nodeId,
      mayReplicate: config.mayReplicate,
      spaces,
      wal,
      replication,
      serially,
      changes: this.changes,
      address: () => this.coordinated.address,
      confirm: (led) => this.roles.confirm(led),
    });
  }

  #changed(space: SpaceState): void {
    this.#parts.floorMoved(space);
    const { name, role, epoch, primary } = space.facts;
    const isPending = space.facts.sets.at(-1)?.old !== undefined;
    if (role === 'primary' && (isPending || space.replicas.length > 0)) this.changes.led(space);
    this.#parts.emit('space-role', { space: name, role, epoch, primaryId: primary });
    const { config, emit } = this.#parts;
    this.#parts.applier?.roleChanged(space);
    if (role === 'primary' && config.follow === 'checkpoint') {
      emit('keeps-all', { space: name, checkpoint: space.facts.checkpoint });
    }
    this.coordinated.roleChanged(space);
  }

  #incident(space: SpaceState, epoch: Epoch, otherId: string): void {
    this.#parts.emit('leader-conflict', { space: space.facts.name, epoch, otherId });
  }

  /** Looks at nothing any more; resolves when what was under way has settled. */
  async close(): Promise<void> {
    this.changes.close();
    await this.roles.settled;
  }

  /** The log is open, the node listens: what it led it leads on, where nobody says otherwise. */
  async start(): Promise<void> {
    const { config, replication, spaces } = this.#parts;
    if (config.listen) this.#knock();
    const led = spaces.spaces.filter((s) => s.facts.role === 'primary');
    // It has promised an epoch to somebody and was stopped before it gave its own up.
    const promised = led.filter((s) => s.facts.epochSeen > s.facts.epoch);
    await inParts(promised, (space) => {
      const { epochSeen } = space.facts;
      return this.roles.serially(() => this.fencing.stepAside(space, epochSeen, undefined), space);
    });
    // An answer to what was asked since may have ended the others.
    const left = led.filter((s) => s.facts.role === 'primary' && !s.heardOf);
    const { coordinator } = this.#parts;
    // Whatever it led when it was last open: it leads nothing until etcd has said so.
    for (const space of coordinator.kind === 'etcd' ? left : []) {
      this.fencing.stepDown(space, 'etcd has not been heard yet');
    }
    this.replicas.restore(left);
    replication.lead(left);
    await this.roles.confirm(left);
    await inParts(left, (space) => this.#begin(space));
    await coordinator.start(this.coordinated);
    this.sharing.start();
  }

  /** Where other nodes listen, as far as was configured or said. */
  known(): readonly Member[] {
    return [...this.coordinated.members, ...this.#parts.replication.members];
  }

  /** Whoever can be dialled lets the primaries know, for as long as they do not come. */
  #knock(): void {
    const { peers, stop, isLinked, spaces } = this.#parts;
    const reachable = (space: SpaceState): readonly Member[] => this.electorate.reachable(space);
    const all = { known: () => this.known(), spaces: () => spaces.spaces };
    void keepKnocking({ peers, stop, isLinked, reachable, ...all });
  }

  /** A crash may have come between a promotion and the first entry of its epoch (row 71). */
  async #begin(space: SpaceState): Promise<void> {
    if (!isToBegin(space)) return;
    // Asked once more when it is its turn: what was before it in the queue may have done it.
    await this.roles.serially(async () => {
      if (isToBegin(space)) await this.#promotion.begin(space);
    }, space);
  }

  /** The log takes entries again: what a full disk has kept from being done is done now. */
  writable(): void {
    for (const space of this.#parts.spaces.spaces) {
      this.fencing.leaveAtLast(space);
      this.#begin(space).catch((error) => this.#parts.emit('state-failed', { error }));
    }
  }

  /** The coordinator has it that this node leads the space still. */
  resume(space: SpaceState, epoch: Epoch): void {
    this.fencing.resume(space, epoch);
    this.#begin(space).catch((error) => this.#parts.emit('state-failed', { error }));
  }

  // --- what others say ---------------------------------------------------------------------

  /** What this node answers to members that ask about roles. */
  get handlers(): PeerHandlers {
    return this.#handover.handlers;
  }

  /** What a frame of a peer call names of epochs, be it a question or an answer (row 111). */
  heardIn(frame: Frame, peerId: string): void {
    for (const { id, epoch, leader } of epochsNamed(frame, peerId)) {
      const space = this.#parts.spaces.byId(id);
      if (!space || space.slot === 0) continue;
      const unknown = { nodeId: leader ?? '', host: '', port: 0 };
      const member = leader && (this.electorate.memberOf(space, leader) ?? unknown);
      this.fencing.heard(space, epoch, member || undefined);
    }
  }

  /** Who leads the space, as far as is known here; undefined: nobody, yet. */
  leaderOf(space: SpaceState): Member | undefined {
    const { nodeId } = this.#parts.config;
    const { primary, epoch, epochSeen, members } = space.facts;
    if (primary === '' || epoch < epochSeen || space.isFenced) return undefined;
    if (primary === nodeId) return this.electorate.self;
    const member = members.find((m) => m.nodeId === primary);
    return member ?? { nodeId: primary, host: '', port: 0 };
  }

  /** A primary has told the epochs of a space. */
  told(space: SpaceState, history: readonly EpochStart[]): void {
    this.fencing.heard(space, Math.max(0, ...history.map((row) => row.epoch)), undefined);
    space.toldHistory = history;
    nameOwners(space.facts.history, history);
  }

  rejoin: Roles['rejoin'] = (...asked) => this.roles.rejoin(...asked);

  /** Replicas have more of our own epoch than we do: filled up, led on in a new one. */
  stale(space: SpaceState): void {
    if (this.#recovering.has(space)) return;
    const done = this.#recover(space).finally(() => this.#recovering.delete(space));
    this.#recovering.set(space, done);
  }

  async #recover(space: SpaceState): Promise<void> {
    const { emit, stop } = this.#parts;
    const { name } = space.facts;
    let said: string | undefined;
    emit('regressed', { space: name, waiting: undefined });
    while (isRegressed(space) && !space.isFenced && !stop.aborted) {
      try {
        await this.#promotion.promote(space);
        return;
      } catch (error) {
        if (!(error instanceof EngramError)) throw error;
        const waiting = error.message.split('\n', 1)[0]!;
        if (waiting !== said) emit('regressed', { space: name, waiting });
        said = waiting;
      }
      // Two that recover at once do not meet for ever.
      await pause(RECOVER_POLL_MS * (0.5 + Math.random() / 2), stop);
    }
  }

  /** Resolves when the space leads again, or has not for a while. */
  async #whenRecovered(name: string): Promise<void> {
    const { config, spaces, stop } = this.#parts;
    const space = spaces.byName(name);
    const recovering = space && this.#recovering.get(space);
    if (recovering) await Promise.race([recovering, pause(config.openConfirmMs, stop)]);
  }

  // --- what the host asks ------------------------------------------------------------------

  #spaceOf(name: string): SpaceState {
    const space = this.#parts.spaces.byName(name);
    if (space) return space;
    throw failure('SpaceUnknown', `${name} is not on node ${this.#parts.config.nodeId}`);
  }

  /** A space whose disk went back may be about to lead again: it is waited for. */
  async openSpace(name: string, asked?: OpenSpaceOptions): Promise<SpaceState> {
    const options = readGiven<OpenSpaceOptions>('openSpace', asked, ['lead', 'replicas']);
    checkGiven('openSpace', options, { lead: flag, replicas: texts });
    if (this.#parts.coordinator.kind === 'etcd') return await this.coordinated.open(name, options);
    try {
      return await this.roles.open(name, options);
    } catch (error) {
      if (!(error instanceof EngramError) || error.code !== 'StalePrimary') throw error;
      await this.#whenRecovered(name);
      return await this.roles.open(name, options);
    }
  }

  async removeReplica(replicaId: string, asked?: RemoveOptions): Promise<void> {
    checkNodeId('removeReplica', replicaId);
    const options = readGiven<RemoveOptions>('removeReplica', asked, ['force']);
    checkGiven('removeReplica', options, { force: flag });
    const { coordinator } = this.#parts;
    if (coordinator.kind !== 'etcd') {
      return this.replicas.remove(replicaId, options.force ?? false);
    }
    if (options.force) throw failure('Configuration', 'removeReplica: etcd is asked, by force too');
    return coordinator.removeNode(replicaId);
  }

  async promote(name: string, asked?: PromoteOptions): Promise<PromotionReport> {
    const known = ['force', 'dryRun', 'replicas'] as const;
    const options = readGiven<PromoteOptions>('promote', asked, known);
    checkGiven('promote', options, { force: flag, dryRun: flag, replicas: whole(0) });
    return await this.#promotion.promote(this.#spaceOf(name), options);
  }

  async switchover(name: string, to: string, asked?: SwitchoverOptions): Promise<SwitchoverReport> {
    const options = readGiven<SwitchoverOptions>('switchover', asked, ['timeoutMs']);
    checkNodeId('switchover', to);
    if (options.timeoutMs !== undefined) checkTimeout('switchover: timeoutMs', options.timeoutMs);
    return await this.#handover.switchover(this.#spaceOf(name), to, options);
  }

  /** Asks the members who leads a space that this node does not lead itself. */
  async locate(name: string): Promise<Located> {
    checkName('the name of a space', name);
    const known = this.#parts.coordinator.leaderOf(name);
    if (known) return { space: name, ...known };
    const space = this.#spaceOf(name);
    const { nodeId } = this.#parts.config;
    const { role, epoch } = space.facts;
    if (role === 'primary' && !space.isFenced) {
      return { space: name, nodeId, epoch, address: this.coordinated.address };
    }
    const { answers } = await this.electorate.poll(space);
    const leaders = answers.filter(({ role }) => role === 'primary');
    const [leader] = leaders.sort((a, b) => b.epoch - a.epoch || later(b, a));
    const { primary } = space.facts;
    const isNewer = leader !== undefined && leader.epoch >= epoch;
    const found = isNewer ? leader.nodeId : primary;
    if (found === '') throw failure('NotPrimary', `${name} is led by nobody that can be reached`);
    const member = this.electorate.memberOf(space, found);
    const address = dialable(member);
    return { space: name, nodeId: found, epoch: isNewer ? leader.epoch : epoch, address };
  }
}

/** It leads in an epoch that has no entry yet. */
function isToBegin(space: SpaceState): boolean {
  const { history, epoch, role } = space.facts;
  const isBegun = epoch <= 1 || (history.at(-1)?.epoch ?? 0) >= epoch;
  return !isBegun && !space.isFenced && !space.refusal && role === 'primary';
}

function later(a: StandingRow, b: StandingRow): number {
  return comparePositions(a.position, b.position);
}

function checkNodeId(what: string, given: unknown): void {
  if (!isText(given))
    throw wrong(`the node id that ${what} was given`, given, 'a non-empty string');
}
