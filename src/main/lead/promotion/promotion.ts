/**
 * How a node becomes the primary of a space (DESIGN 9): it asks where the members stand, and burns
 * nothing where it does not qualify; then for their promises, which end every lower epoch; then it
 * has applied all that it has flushed, writes the epoch's first entry, and takes appends.
 * Each step is durable before the next: a crash leaves the node before or behind it (row 71).
 */

import { failure } from '../../../shared/errors.js';
import { comparePositions } from '../../../shared/lead/epoch.js';
import { checkReach, judgePromise } from '../../../shared/lead/heard.js';
import {
  judgePromotion,
  type LostEntries,
  mayLead,
} from '../../../shared/lead/promotion-verdict.js';
import type { Member } from '../../../shared/log/node-record.js';
import { roleRecord } from '../../../shared/log/state.js';
import { countingSets, type MemberId, type MemberSet } from '../../../shared/members/members.js';
import type { NodeMemory } from '../../../shared/memory/slab.js';
import { idOf } from '../../../shared/names.js';
import type { Epoch } from '../../../shared/position.js';
import type { Applier, ApplyBlock } from '../../follow/apply.js';
import type { SpaceState, SpaceTable } from '../../log/space-table.js';
import type { Wal } from '../../log/wal.js';
import type { Replication } from '../../ship/replication.js';
import type { Coordinator } from '../coordinator.js';
import { stageMembers } from '../members/entries.js';
import type { Refill } from '../refill.js';
import { Ballot, type Handover, isRegressed, type Won } from './ballot.js';
import { Duels } from './duels.js';
import type { Electorate, Poll } from './electorate.js';
import {
  notQualified,
  type PassedOver,
  type PromotionReport,
  refused,
  reportOf,
} from './report.js';

export interface PromoteOptions {
  /**
   * Lead although members do not answer or are ahead. The report names what is lost. On the node
   * that leads: settle a change of members that too few are left to agree to.
   */
  readonly force?: boolean;
  /** Only say what would come of it. */
  readonly dryRun?: boolean;
  /**
   * Keep what was acknowledged with `{ replicas: n }`. Default: what the members keep, 1. More
   * takes `force`: what was acknowledged at a lower level may be lost then.
   */
  readonly replicas?: number;
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
  /** Settles a pending change by force. @returns who counts no more */
  settle(space: SpaceState): Promise<readonly MemberId[]>;
  serially<T>(work: () => Promise<T>, space?: SpaceState): Promise<T>;
  /** Batches of lower epochs than the one that is seen are refused from now on. */
  fence(space: SpaceState): void;
  /** This node leads the space from now on, and takes appends. */
  changed(space: SpaceState): void;
  promoted(space: SpaceState, report: PromotionReport, tookMs: number): void;
}

export class Promotion {
  readonly #parts: PromotionParts;
  readonly #ballot: Ballot;
  readonly #running = new Set<SpaceState>();
  /** What members are asked for, and may not have answered yet. */
  readonly #asked = new Map<SpaceState, Epoch>();
  readonly #duels: Duels;

  constructor(parts: PromotionParts) {
    this.#parts = parts;
    const promiseOwn = (space: SpaceState, epoch: Epoch): Promise<void> =>
      this.#promiseOwn(space, epoch);
    const asks = (space: SpaceState, epoch: Epoch): void => void this.#asked.set(space, epoch);
    this.#duels = new Duels(parts.nodeId);
    const giveWay: Duels['giveWay'] = (...met) => this.#duels.giveWay(...met);
    const { quorum } = parts.replication;
    this.#ballot = new Ballot({ ...parts, quorum, asks, promiseOwn, giveWay });
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
    this.#duels.begins(space);
    try {
      return await this.#promote(space, options, handover, isInside);
    } finally {
      this.#running.delete(space);
      this.#asked.delete(space);
    }
  }

  async #promote(
    space: SpaceState,
    { force = false, dryRun = false, replicas: keep }: PromoteOptions,
    handover: Handover | undefined,
    isInside: boolean,
  ): Promise<PromotionReport> {
    const startMs = performance.now();
    const { electorate } = this.#parts;
    const { facts } = space;
    this.#checkFit(space);
    // With dryRun and with force, too: there must be an epoch left to lead in.
    if (!this.#isLed(space))
      checkReach(undefined, facts.epochSeen + 1, `a promotion in ${facts.name}`);
    // With etcd there is one candidate at a time, and it says who.
    const isAlone = force || dryRun || handover || this.#parts.coordinator.kind === 'etcd';
    const leads = isAlone ? undefined : await this.#duels.led(space);
    if (leads) throw refused(space, leads);
    let poll = await electorate.poll(space, handover && this.#suffices(space, handover));
    // What the answers have told of higher epochs is durable before anything is made of it.
    await this.#parts.serially(async () => undefined, space);
    let question = this.#ballot.question(space, poll, keep);
    if (isRegressed(space) && !dryRun && (await this.#ballot.fillUp(space, question))) {
      poll = await electorate.poll(space);
      question = this.#ballot.question(space, poll, keep);
    }
    const verdict = judgePromotion(question);
    const report = reportOf(space, poll, verdict);
    if (this.#isLed(space)) {
      const passedOver = force && !dryRun ? await this.#settle(space) : [];
      return { ...report, isPromoted: true, epoch: facts.epoch, passedOver };
    }
    if (dryRun) return report;
    if (!force) checkKeeps(space, keep);
    // A farther log whose holder may not lead with it is taken over once it has promised.
    const mayTry = verdict.fetch !== undefined && !mayLead(verdict.fetch);
    if (!report.isQualified && !force && !mayTry) throw notQualified(space, report, verdict);
    // Before anything is burned: however long the host takes, the space is not without a leader.
    if (!isInside) await this.#whenApplied(space, force);
    const won = await this.#ballot.win(space, { question, verdict, force, handover });
    const { epoch, passedOver } = won;
    // Who has promised may have been asked for what it had.
    const lost = lostFor(space, [...verdict.lost, ...won.lost]);
    const applyBlocked = await this.#lead(space, won, force).catch(async (error) => {
      await this.#parts.coordinator.release(facts.name, epoch);
      throw error;
    });
    const done = { ...report, isPromoted: true, epoch, lost, passedOver, applyBlocked };
    this.#parts.promoted(space, done, performance.now() - startMs);
    return done;
  }

  /**
   * Appends are stopped everywhere meanwhile: who has all of them has answered, and so many others
   * as are needed. Whoever is silent could not add to that.
   */
  #suffices(space: SpaceState, { from }: Handover): (answers: Poll['answers']) => boolean {
    return (answers) =>
      answers.some((a) => a.nodeId === from) &&
      judgePromotion(this.#ballot.question(space, { answers, silent: [] }, undefined)).isQualified;
  }

  /** A change of members that too few are left to agree to is over. */
  async #settle(space: SpaceState): Promise<PassedOver[]> {
    const mayHaveFrom = (space.facts.sets.at(-1)?.sequence ?? 0) + 1;
    const gone = await this.#parts.serially(() => this.#parts.settle(space), space);
    const reason = 'the change that lets it go was settled without it';
    return gone.map((member) => ({ ...member, reason, mayHaveFrom }));
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
    if (candidate !== this.#parts.nodeId) this.#duels.asked(space, candidate);
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

  #lead(space: SpaceState, won: Won, force: boolean): Promise<ApplyBlock | undefined> {
    const { epoch } = won;
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
      const silent = applier?.isWhenLeading ? undefined : await applier?.stop(space);
      try {
        if (silent && !force) throw refused(space, applier!.textOf(silent));
        await this.#becomePrimary(space, won);
      } catch (error) {
        if (facts.role === 'replica') applier?.start(space);
        throw error;
      }
      const { heardOf } = space;
      if (heardOf) throw refused(space, `epoch ${heardOf.epoch} is seen meanwhile`);
      return blocked ?? silent;
    }, space);
  }

  async #becomePrimary(space: SpaceState, { epoch, settled }: Won): Promise<void> {
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
        facts.slots.clear();
        facts.members = members;
        space.primaryId = idOf(nodeId);
        spaces.setEpoch(space, epoch);
        if (!applier?.isWhenLeading) applier?.forget(space);
      });
    } catch (error) {
      space.pause = undefined;
      throw error;
    }
    await this.begin(space, settled);
  }

  /**
   * Writes the first entry of the space's epoch, where it has none yet, and takes appends from then
   * on. Also after a crash between the two (row 71), and when a full disk has room again.
   * @param settled who counts from now on: somebody has forced it
   */
  async begin(space: SpaceState, settled?: MemberSet): Promise<void> {
    const { wal, memory, nodeId, replication, changed } = this.#parts;
    const { facts, slot } = space;
    if (facts.epoch > 1 && (facts.history.at(-1)?.epoch ?? 0) < facts.epoch) {
      const before = new Uint8Array(8);
      new DataView(before.buffer).setBigUint64(0, BigInt(facts.position.sequence), true);
      await wal.whenRoom(() => wal.stage(space, EPOCH_BEGINS, before, before.length) > 0);
      await wal.whenDurable(space, memory.allocated(slot));
    }
    if (settled) await stageMembers(wal, space, { next: settled, old: undefined });
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

/** Throws PromotionRefused where so few answers would do that lower levels may lose entries. */
function checkKeeps(space: SpaceState, keep = 0): void {
  const kept = Math.min(...countingSets(space.facts.sets).map((set) => set.keep));
  if (keep <= kept) return;
  const asked = `replicas: ${keep} gives up what was acknowledged at level ${kept}`;
  throw refused(space, `${asked}: that takes force`);
}

/** What of it this node still has not. */
function lostFor({ facts }: SpaceState, lost: readonly LostEntries[]): LostEntries[] {
  const left = lost.filter(({ epoch, to }) => {
    return comparePositions({ epoch, sequence: to, headerCrc: 0 }, facts.position) > 0;
  });
  return left.filter((l, i) => left.findLastIndex((o) => o.nodeId === l.nodeId) === i);
}
