/**
 * How a node becomes the primary of a space (DESIGN 9): it asks where the members stand, and burns
 * nothing where it does not qualify; then for their promises, which end every lower epoch; then it
 * has applied all that it has flushed, writes the epoch's first entry, and takes appends.
 * Each step is durable before the next: a crash leaves the node before or behind it (row 71).
 */
import {
  answersNeeded,
  type CandidacyVerdict,
  judgeCandidacy,
  type LostEntries,
} from '../shared/candidacy.js';
import { comparePositions } from '../shared/epoch.js';
import { EngramError, failure } from '../shared/errors.js';
import { judgePromise } from '../shared/heard.js';
import { PROMISE_ROUNDS } from '../shared/limits.js';
import type { Member } from '../shared/node-record.js';
import type { Epoch, Position, Sequence } from '../shared/position.js';
import type { NodeMemory } from '../shared/slab.js';
import { roleRecord } from '../shared/state.js';
import type { Applier, ApplyBlock } from './apply.js';
import type { Coordinator } from './coordinator.js';
import { Duels } from './duels.js';
import type { Electorate, Poll, PromiseAnswer, SilentMember } from './electorate.js';
import { idOf } from './names.js';
import type { Refill } from './refill.js';
import type { Replication } from './replication.js';
import type { SpaceState, SpaceTable } from './space-table.js';
import type { Wal } from './wal.js';

export interface PromoteOptions {
  /** Lead although members do not answer or are ahead. The report names what is lost. */
  readonly force?: boolean;
  /** Only say what would come of it. */
  readonly dryRun?: boolean;
  /** Keep what was acknowledged with `{ replicas: n }`. Default: 1. */
  readonly replicas?: number;
}

/** Where one other member stands. */
export interface AnsweredMember {
  readonly nodeId: string;
  readonly role: 'primary' | 'replica';
  readonly epochSeen: Epoch;
  readonly position: Position;
}

export interface PromotionReport {
  readonly space: string;
  readonly isPromoted: boolean;
  /** In which this node leads; the highest one heard where it was not promoted. */
  readonly epoch: Epoch;
  /** Of this node, before. */
  readonly position: Position;
  /** Without `force` it would have been, or was, promoted. */
  readonly isQualified: boolean;
  readonly answersNeeded: number;
  readonly answers: readonly AnsweredMember[];
  readonly silent: readonly SilentMember[];
  /** What others have and this node does not. */
  readonly lost: readonly LostEntries[];
  /**
   * This directory is a copy that has followed nobody since: its original, or whoever followed it,
   * may have acknowledged entries from this one on. It leads by `force` alone.
   */
  readonly mayLackFrom: Sequence | undefined;
  /** Entries that the host cannot apply: it leads without them. */
  readonly applyBlocked: ApplyBlock | undefined;
}

/** A hand-over that the present primary has asked for. */
export interface Handover {
  readonly from: string;
  readonly token: bigint;
}

export interface PromotionParts {
  readonly nodeId: string;
  readonly memory: NodeMemory;
  readonly spaces: SpaceTable;
  readonly wal: Wal;
  readonly replication: Replication;
  readonly electorate: Electorate;
  readonly refill: Refill;
  readonly coordinator: Coordinator;
  readonly applier: Applier | undefined;
  serially<T>(work: () => Promise<T>, space?: SpaceState): Promise<T>;
  /** Batches of lower epochs than the one that is seen are refused from now on. */
  fence(space: SpaceState): void;
  /** This node leads the space from now on, and takes appends. */
  changed(space: SpaceState): void;
  promoted(space: SpaceState, report: PromotionReport, tookMs: number): void;
}

export class Promotion {
  readonly #parts: PromotionParts;
  readonly #running = new Set<SpaceState>();
  /** What members are asked for, and may not have answered yet. */
  readonly #asked = new Map<SpaceState, Epoch>();
  readonly #duels = new Duels();

  constructor(parts: PromotionParts) {
    this.#parts = parts;
  }

  /** The epoch that this node asks its members for; undefined: none, at present. */
  asksFor(space: SpaceState): Epoch | undefined {
    return this.#asked.get(space);
  }

  /** See Node.promote. */
  async promote(
    space: SpaceState,
    options: PromoteOptions = {},
    handover?: Handover,
  ): Promise<PromotionReport> {
    if (this.#running.has(space)) throw refused(space, 'a promotion is under way');
    // Before anything is waited for: who calls from inside would wait for himself.
    const isInside = this.#parts.applier?.isInside(space) === true && !options.dryRun;
    if (isInside && !options.force) {
      throw refused(space, 'the host asks for it inside a callback that it waits for');
    }
    this.#running.add(space);
    try {
      return await this.#promote(space, options, handover, isInside);
    } finally {
      this.#running.delete(space);
      this.#asked.delete(space);
    }
  }

  async #promote(
    space: SpaceState,
    { force = false, dryRun = false, replicas: keep = 1 }: PromoteOptions,
    handover: Handover | undefined,
    isInside: boolean,
  ): Promise<PromotionReport> {
    const startMs = performance.now();
    const { electorate } = this.#parts;
    const { facts } = space;
    this.#checkFit(space);
    // With etcd there is one candidate at a time, and it says who.
    const isAlone = force || dryRun || handover || this.#parts.coordinator.kind === 'etcd';
    const leads = isAlone ? undefined : await this.#duels.led(space);
    if (leads) throw refused(space, leads);
    let poll = await electorate.poll(space);
    // What the answers have told of higher epochs is durable before anything is made of it.
    await this.#parts.serially(async () => undefined, space);
    if (isRegressed(space) && !dryRun && (await this.#fillUp(space, poll))) {
      poll = await electorate.poll(space);
    }
    const verdict = this.#judge(space, poll, keep);
    const report = reportOf(space, poll, verdict);
    if (this.#isLed(space)) return { ...report, isPromoted: true, epoch: facts.epoch };
    if (dryRun) return report;
    if (!verdict.isQualified && !force) throw notQualified(space, report);
    // Before anything is burned: however long the host takes, the space is not without a leader.
    if (!isInside) await this.#whenApplied(space, force);
    const epoch = await this.#win(space, poll, { keep, force, handover });
    // Who has promised may have been asked for what it had.
    const { position } = facts;
    const lost = verdict.lost.filter(({ epoch: of, to }) => {
      return comparePositions({ epoch: of, sequence: to, headerCrc: 0 }, position) > 0;
    });
    const applyBlocked = await this.#lead(space, epoch, force).catch(async (error) => {
      await this.#parts.coordinator.release(facts.name, epoch);
      throw error;
    });
    const done = { ...report, isPromoted: true, epoch, lost, applyBlocked };
    this.#parts.promoted(space, done, performance.now() - startMs);
    return done;
  }

  /**
   * The host has applied all that is here, or says that it cannot. Rejects PromotionRefused where
   * it does not return, or does not come further.
   */
  async #whenApplied(space: SpaceState, force: boolean): Promise<ApplyBlock | undefined> {
    const { applier } = this.#parts;
    const { role, position } = space.facts;
    if (!applier || role !== 'replica') return undefined;
    const block = await applier.whenApplied(space, position.sequence);
    if (block?.reason === 'silent' && !force) throw refused(space, applier.textOf(block));
    return block;
  }

  #isLed(space: SpaceState): boolean {
    return space.facts.role === 'primary' && !space.isFenced && !isRegressed(space);
  }

  #checkFit(space: SpaceState): void {
    const { refusal } = space;
    if (refusal && !isRegressed(space)) throw refusal;
    if (space.isRewinding) throw refused(space, 'it goes back to what it shares with its primary');
    if (space.isInstalling) throw refused(space, 'its host is being given a snapshot');
  }

  #judge(space: SpaceState, poll: Poll, keep: number): CandidacyVerdict {
    const { position: own, copied } = space.facts;
    const replicas = this.#parts.electorate.idsOf(space).length;
    const isOwnCounted = !isRegressed(space) && !copied;
    const { answers } = poll;
    const verdict = judgeCandidacy({ own, answers, replicas, keep, isOwnCounted });
    return copied ? { ...verdict, isQualified: false } : verdict;
  }

  /** What this node's disk has lost comes back from the farthest member of its own epoch. */
  async #fillUp(space: SpaceState, { answers }: Poll): Promise<boolean> {
    const { facts } = space;
    const ours = answers.filter((a) => a.position.epoch === facts.position.epoch);
    const best = farthest(ours);
    if (!best || comparePositions(best.position, facts.position) <= 0) return false;
    const member = this.#parts.electorate.memberOf(space, best.nodeId)!;
    await this.#parts.refill.from(space, member, best.position.sequence);
    return true;
  }

  // --- promises ----------------------------------------------------------------------------

  /** @returns an epoch that is this node's own */
  async #win(space: SpaceState, poll: Poll, how: HowToWin): Promise<Epoch> {
    const { coordinator, nodeId } = this.#parts;
    const { name, epochSeen } = space.facts;
    let above = Math.max(epochSeen, ...poll.answers.map((a) => a.epochSeen));
    for (let round = 1; ; round++) {
      const epoch = await coordinator.claim(name, above, how.handover?.from);
      this.#asked.set(space, epoch);
      try {
        const higher = await this.#askAll(space, poll, epoch, how);
        if (higher === undefined) return epoch;
        if (round === PROMISE_ROUNDS) throw refused(space, `epoch ${higher} was seen elsewhere`);
        above = higher;
      } catch (error) {
        await coordinator.release(name, epoch);
        throw error;
      }
      await coordinator.release(name, epoch);
      const why = await this.#duels.giveWay(space, nodeId, poll.answers, epoch, round);
      if (why) throw refused(space, why);
    }
  }

  /** @returns a higher epoch where one was heard of; undefined: the promises suffice */
  async #askAll(
    space: SpaceState,
    poll: Poll,
    epoch: Epoch,
    { keep, force, handover }: HowToWin,
  ): Promise<Epoch | undefined> {
    const { electorate } = this.#parts;
    const ids = poll.answers.map((a) => a.nodeId);
    const promises: PromiseAnswer[] = [];
    if (handover) {
      // Before anybody else: while it has not agreed, it may go on in its epoch (row 72).
      const { from, token } = handover;
      promises.push(...(await electorate.promises(space, [from], epoch, token)));
      const [first] = promises;
      if (!first?.isGranted) throw refused(space, `${handover.from}: ${first?.reason}`);
    }
    const others = ids.filter((id) => id !== handover?.from);
    // Nobody else knows of the hand-over.
    const asked = electorate.promises(space, others, epoch, 0n);
    const [given] = await Promise.all([asked, this.#promiseOwn(space, epoch)]);
    promises.push(...given);
    const higher = Math.max(0, ...promises.filter((p) => !p.isGranted).map((p) => p.epochSeen));
    if (higher >= epoch) return higher;
    const granted = promises.filter((p) => p.isGranted);
    const needed = answersNeeded(electorate.idsOf(space).length, keep);
    const got = granted.length + (isRegressed(space) || space.facts.copied ? 0 : 1);
    if (got < needed && !force) {
      const why = promises.filter((p) => !p.isGranted).map((p) => `${p.nodeId}: ${p.reason}`);
      throw refused(space, `${got} promises of ${needed}; ${why.join('; ')}`);
    }
    await this.#keepUp(space, granted, force);
    return undefined;
  }

  /** Between the two questions entries may have come to somebody, and stop there now. */
  async #keepUp(
    space: SpaceState,
    granted: readonly PromiseAnswer[],
    force: boolean,
  ): Promise<void> {
    const { position } = space.facts;
    const best = farthest(granted);
    if (!best || comparePositions(best.position, position) <= 0) return;
    const member = this.#parts.electorate.memberOf(space, best.nodeId)!;
    try {
      await this.#parts.refill.from(space, member, best.position.sequence);
    } catch (error) {
      if (force) return;
      const why = error instanceof EngramError ? error.message.split('\n', 1)[0] : String(error);
      const have = `${best.nodeId} has entry ${best.position.sequence} by now`;
      throw refused(space, `${have}, this node ${position.sequence}: ${why}`);
    }
  }

  /** This node is a member itself. */
  #promiseOwn(space: SpaceState, epoch: Epoch): Promise<void> {
    const { nodeId, serially } = this.#parts;
    return serially(() => this.promise(space, epoch, nodeId), space);
  }

  /**
   * Durably: batches of lower epochs are refused, and nobody else gets this epoch from here. In the
   * queue of roles. Rejects PromotionRefused.
   */
  async promise(space: SpaceState, epoch: Epoch, candidate: string): Promise<void> {
    const { wal, memory, fence } = this.#parts;
    const { facts } = space;
    const judged = judgePromise({ ...facts, nodeId: this.#parts.nodeId }, epoch, candidate);
    if (judged === 'refuse') {
      throw refused(space, `epoch ${facts.epochSeen} is seen, of ${facts.promisedTo || 'another'}`);
    }
    if (judged === 'grant') {
      await wal.record({ kind: 'promise', id: facts.id, epoch, candidate }, () => {
        facts.epochSeen = epoch;
        facts.promisedTo = candidate;
      });
    }
    if (candidate !== this.#parts.nodeId) this.#duels.promised(space, epoch);
    fence(space);
    // What had come before may still be on its way to the disk: then it counts.
    await wal.whenDurable(space, memory.allocated(space.slot));
  }

  // --- leading -----------------------------------------------------------------------------

  #lead(space: SpaceState, epoch: Epoch, force: boolean): Promise<ApplyBlock | undefined> {
    return this.#parts.serially(async () => {
      const { nodeId, applier, wal, memory } = this.#parts;
      const { facts } = space;
      const isOurs = facts.epochSeen === epoch && facts.promisedTo === nodeId;
      if (!isOurs || facts.epoch >= epoch) {
        throw refused(space, `epoch ${facts.epochSeen} is seen meanwhile`);
      }
      this.#checkFit(space);
      await wal.whenDurable(space, memory.allocated(space.slot));
      const blocked = await this.#whenApplied(space, force);
      const silent = await applier?.stop(space);
      try {
        if (silent && !force) throw refused(space, applier!.textOf(silent));
        await this.#becomePrimary(space, epoch);
      } catch (error) {
        if (facts.role === 'replica') applier?.start(space);
        throw error;
      }
      const { heardOf } = space;
      if (heardOf) throw refused(space, `epoch ${heardOf.epoch} is seen meanwhile`);
      return blocked ?? silent;
    }, space);
  }

  async #becomePrimary(space: SpaceState, epoch: Epoch): Promise<void> {
    const { nodeId, wal, spaces, applier, replication } = this.#parts;
    const { facts } = space;
    const members = this.#membersOf(space);
    const { directoryId } = replication;
    const own = { role: 'primary' as const, epoch, primary: nodeId, directoryId };
    const next = { ...facts, ...own, members };
    space.pause = failure('SwitchingOver', `${facts.name} is being promoted here`);
    try {
      await wal.record(roleRecord(next), () => {
        // What is shipped is of the epoch before; every replica says anew where it stands.
        replication.drop(space);
        facts.role = 'primary';
        // What was heard of since the promises came ends this epoch, too.
        const isOver = (space.heardOf?.epoch ?? 0) > epoch;
        space.isFenced = isOver;
        if (!isOver) space.heardOf = undefined;
        space.hasLed = false;
        facts.primary = nodeId;
        facts.directoryId = directoryId;
        facts.copied = false;
        facts.members = members;
        space.primaryId = idOf(nodeId);
        spaces.setEpoch(space, epoch);
        applier?.forget(space);
      });
    } catch (error) {
      space.pause = undefined;
      throw error;
    }
    await this.begin(space);
  }

  /**
   * Writes the first entry of the space's epoch, where it has none yet, and takes appends from then
   * on. Also after a crash between the two (row 71), and when a full disk has room again.
   */
  async begin(space: SpaceState): Promise<void> {
    const { wal, memory, nodeId, replication, changed } = this.#parts;
    const { facts, slot } = space;
    if (facts.epoch > 1 && (facts.history.at(-1)?.epoch ?? 0) < facts.epoch) {
      const before = new Uint8Array(8);
      new DataView(before.buffer).setBigUint64(0, BigInt(facts.position.sequence), true);
      await wal.whenRoom(() => wal.stage(space, EPOCH_BEGINS, before, before.length) > 0);
      await wal.whenDurable(space, memory.allocated(slot));
    }
    // A higher epoch was heard of meanwhile: its role is given up next.
    if (space.isFenced) return;
    space.pause = undefined;
    space.hasLed = true;
    if (isRegressed(space)) space.refusal = undefined;
    this.#ship(
      space,
      facts.members.filter((m) => m.nodeId !== nodeId),
    );
    replication.lead([space]);
    changed(space);
  }

  #ship(space: SpaceState, members: readonly Member[]): void {
    const { replication } = this.#parts;
    const known = replication.members.map((m) => m.nodeId);
    for (const member of members) if (!known.includes(member.nodeId)) replication.add(member);
    space.replicas = members.map((m) => m.nodeId);
  }

  /** This node, where it can be dialled, and the others whose address is known. */
  #membersOf(space: SpaceState): Member[] {
    const { electorate } = this.#parts;
    const own = electorate.self.port > 0 ? [electorate.self] : [];
    return [...own, ...electorate.reachable(space)];
  }
}

/** The type of the first entry of an epoch after the first (DESIGN 4). */
const EPOCH_BEGINS = 5;

interface HowToWin {
  readonly keep: number;
  readonly force: boolean;
  readonly handover: Handover | undefined;
}

/** This node leads the space, and its disk has lost what replicas of its epoch have. */
export function isRegressed(space: SpaceState): boolean {
  return space.facts.role === 'primary' && space.refusal?.code === 'StalePrimary';
}

function farthest<T extends { readonly position: Position }>(all: readonly T[]): T | undefined {
  return [...all].sort((a, b) => comparePositions(b.position, a.position))[0];
}

function refused(space: SpaceState, why: string): EngramError {
  return failure('PromotionRefused', `${space.facts.name} is not led from here: ${why}`);
}

function reportOf(space: SpaceState, poll: Poll, verdict: CandidacyVerdict): PromotionReport {
  const { name, position, epochSeen, copied } = space.facts;
  return {
    space: name,
    isPromoted: false,
    epoch: Math.max(epochSeen, ...poll.answers.map((a) => a.epochSeen)),
    position,
    isQualified: verdict.isQualified,
    answersNeeded: verdict.needed,
    answers: poll.answers.map(({ nodeId, row, epochSeen: seen, position: at }) => ({
      nodeId,
      role: row.role,
      epochSeen: seen,
      position: at,
    })),
    silent: poll.silent,
    lost: verdict.lost,
    mayLackFrom: copied ? position.sequence + 1 : undefined,
    applyBlocked: undefined,
  };
}

/** Says what would be lost, against whom, and who is not heard of. */
function notQualified(space: SpaceState, report: PromotionReport): EngramError {
  const parts = report.lost.map(
    ({ nodeId, entries, from, to }) => `${entries} entries of ${nodeId} (${from} to ${to})`,
  );
  const lost = parts.length > 0 ? `it would lose ${parts.join(', ')}` : 'nobody is ahead of it';
  const { mayLackFrom: from } = report;
  const copy = from === undefined ? [] : [`a copied directory: entries from ${from} on may lack`];
  const silent = report.silent.map(({ nodeId, reason }) => `${nodeId} is silent (${reason})`);
  const { answers, answersNeeded: needed } = report;
  const got = `${answers.length} other members answer, ${needed} answers are needed`;
  const why = [...copy, lost, got, ...silent].join('; ');
  const found = `${space.facts.name} is not led from here: ${why}`;
  return failure('PromotionRefused', found, { details: { report } });
}
