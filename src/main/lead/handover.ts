/**
 * A planned change of primary: intake stops, the target catches up, the roles are swapped, nothing
 * is lost. Until the present primary has given its promise it may go on in its epoch, and does so
 * when the target does not get ready in time (FAULTS row 72). And what this node answers to a
 * candidate that asks for a promise, or to a primary that hands a space over.
 */
import { randomBytes } from 'node:crypto';
import { EngramError, failure, firstLine } from '../../shared/errors.js';
import { checkReach } from '../../shared/lead/heard.js';
import { DEFAULT_SWITCHOVER_MS, HANDOVERS_MAX, MEMBER_ASK_MS } from '../../shared/limits.js';
import type { Member } from '../../shared/log/node-record.js';
import { countingSets, isMember, UNKNOWN_DIRECTORY } from '../../shared/members/members.js';
import type { NodeMemory } from '../../shared/memory/slab.js';
import { type Epoch, NO_POSITION } from '../../shared/position.js';
import type { PlainFrame } from '../../shared/wire/protocol.js';
import { type Promised, promisedInFrames } from '../../shared/wire/role-frames.js';
import type { SpaceState, SpaceTable } from '../log/space-table.js';
import type { Wal } from '../log/wal.js';
import type { PeerHandlers } from '../peer/answers.js';
import type { FrameOf } from '../peer/client.js';
import { pause } from '../runtime/deadline.js';
import { asDone, MemberGates } from '../runtime/turns.js';
import type { Replication } from '../ship/replication.js';
import type { Coordinator } from './coordinator.js';
import { type Fencing, notLedHere } from './fencing.js';
import type { Electorate } from './promotion/electorate.js';
import type { Promotion } from './promotion/promotion.js';

export interface SwitchoverOptions {
  /** For how long appends may be stopped: then this node goes on in its epoch. Default: 5,000. */
  readonly timeoutMs?: number;
}

export interface SwitchoverReport {
  readonly space: string;
  readonly from: string;
  readonly to: string;
  readonly epoch: Epoch;
  /** For how long no append was taken anywhere. */
  readonly pauseMs: number;
}

export interface HandoverParts {
  readonly nodeId: string;
  readonly memory: NodeMemory;
  readonly spaces: SpaceTable;
  readonly wal: Wal;
  readonly replication: Replication;
  readonly electorate: Electorate;
  readonly coordinator: Coordinator;
  readonly promotion: Promotion;
  readonly fencing: Fencing;
  /** Aborted when the node closes. */
  readonly stop: AbortSignal;
  serially<T>(work: () => Promise<T>, space?: SpaceState): Promise<T>;
  switched(report: SwitchoverReport): void;
  /** The hand-over came to nothing; this node leads on. */
  abandoned(space: SpaceState, to: string, reason: string): void;
}

const POLL_MS = 1;
const LINK_POLL_MS = 10;
const HOLDS_POLL_MS = 100;
const LEAD_POLL_MS = 1_000;
/** Whoever was not waited for has answered by then, and been heard. */
const OUTLAST_MS = 2 * MEMBER_ASK_MS;

function handedOver({ facts }: SpaceState, to: string): EngramError {
  return failure('SwitchingOver', `${facts.name} is handed over to ${to}`);
}

type Question = Omit<FrameOf<'promise'>, 'kind'>;

export class Handover {
  readonly #parts: HandoverParts;
  /** To whom this node hands which space over, by which token. */
  readonly #open = new Map<SpaceState, { readonly to: string; readonly token: bigint }>();
  /** Of very many spaces few are without appends at a time, and no member refuses a call. */
  readonly #turns = new MemberGates(HANDOVERS_MAX);

  constructor(parts: HandoverParts) {
    this.#parts = parts;
  }

  /** See Node.switchover. Whoever asks for one space waits for its target to count. */
  async switchover(
    space: SpaceState,
    to: string,
    { timeoutMs = DEFAULT_SWITCHOVER_MS }: SwitchoverOptions = {},
  ): Promise<SwitchoverReport> {
    await this.#whenCounts(space, to, timeoutMs);
    return await this.inTurn(space, to, timeoutMs);
  }

  /** One of many. Its time begins with its turn. */
  async inTurn(
    space: SpaceState,
    to: string,
    timeoutMs = DEFAULT_SWITCHOVER_MS,
  ): Promise<SwitchoverReport> {
    return await this.#turns.through(to, () => this.#switchover(space, to, timeoutMs));
  }

  /**
   * Who has just been added learns first, and may lead once it counts: before a hand-over to it,
   * while appends go on. Rejects PromotionRefused where it does not in time, and as `switchover`.
   */
  async #whenCounts(space: SpaceState, to: string, timeoutMs: number): Promise<void> {
    const { replication, stop } = this.#parts;
    const { facts } = space;
    const deadlineMs = performance.now() + timeoutMs;
    for (;;) {
      this.#check(space, to);
      const set = countingSets(facts.sets).at(-1);
      const directoryId = replication.livingDirectory(to) ?? UNKNOWN_DIRECTORY;
      if (!set || isMember(set, { nodeId: to, directoryId })) return;
      if (performance.now() > deadlineMs) {
        throw failure('PromotionRefused', `${to} learns ${facts.name}, and does not count yet`);
      }
      await pause(LINK_POLL_MS, stop);
    }
  }

  async #switchover(space: SpaceState, to: string, timeoutMs: number): Promise<SwitchoverReport> {
    const { replication, stop } = this.#parts;
    const deadlineMs = performance.now() + timeoutMs;
    // A link that is about to come is waited for (row 117), for as long as this node leads.
    while (space.replicas.includes(to) && replication.mayConnect(to)) {
      if (performance.now() >= deadlineMs || stop.aborted) break;
      await pause(LINK_POLL_MS, stop);
    }
    this.#check(space, to);
    if (space.pause) throw space.pause;
    const other = this.#open.get(space);
    if (other) throw handedOver(space, other.to);
    if (!replication.isConnected(to)) {
      throw failure('NotEnoughReplicas', `${to} is not connected: nothing can be handed to it`);
    }
    const token = randomBytes(8).readBigUInt64LE() | 1n;
    // From now on: while it is waited for, nobody hands the space to anybody else.
    this.#open.set(space, { to, token });
    try {
      // The most of it while appends go on.
      await this.#flushedOn(space, to, this.#parts.memory.durable(space.slot), deadlineMs);
      return await this.#stopped(space, to, token, deadlineMs);
    } finally {
      this.#ended(space, token);
    }
  }

  /** Of this hand-over: who is told that it has come to nothing may have begun the next one. */
  #ended(space: SpaceState, token: bigint): void {
    if (this.#open.get(space)?.token === token) this.#open.delete(space);
  }

  /** Throws where the space is not, or is not any more, this node's to hand to `to`. */
  #check(space: SpaceState, to: string): void {
    const { facts } = space;
    if (this.#parts.stop.aborted) throw failure('Closed', 'handing over on a node that closes');
    if (facts.role !== 'primary' || space.isFenced) throw notLedHere('NotPrimary', space);
    if (space.refusal) throw space.refusal;
    if (space.replicas.includes(to)) return;
    const known = space.replicas.join(', ') || 'none';
    throw failure('ReplicaNotFound', `${to} is no replica of ${facts.name}: ${known}`);
  }

  /** With appends stopped. */
  async #stopped(
    space: SpaceState,
    to: string,
    token: bigint,
    deadlineMs: number,
  ): Promise<SwitchoverReport> {
    this.#check(space, to);
    if (space.pause) throw space.pause;
    const startMs = performance.now();
    space.pause = handedOver(space, to);
    try {
      const epoch = await this.#handOver(space, to, token, deadlineMs);
      const pauseMs = performance.now() - startMs;
      const { name } = space.facts;
      const report = { space: name, from: this.#parts.nodeId, to, epoch, pauseMs };
      this.#parts.switched(report);
      return report;
    } catch (error) {
      this.#ended(space, token);
      await this.#goOn(space, to, error as Error);
      throw error;
    }
  }

  async #handOver(
    space: SpaceState,
    to: string,
    token: bigint,
    deadlineMs: number,
  ): Promise<Epoch> {
    const { wal, memory, electorate } = this.#parts;
    await wal.whenDurable(space, memory.allocated(space.slot));
    await this.#flushedOn(space, to, memory.durable(space.slot), deadlineMs);
    const leftMs = Math.max(1, deadlineMs - performance.now());
    return await electorate.takeOver(space, to, token, leftMs);
  }

  async #flushedOn(
    space: SpaceState,
    to: string,
    sequence: number,
    deadlineMs: number,
  ): Promise<void> {
    const { replication } = this.#parts;
    while (replication.flushedOn(space, to) < sequence) {
      this.#check(space, to);
      if (performance.now() > deadlineMs) {
        const has = replication.flushedOn(space, to);
        throw failure('AckTimeout', `${to} has ${space.facts.name} up to ${has} of ${sequence}`);
      }
      await pause(POLL_MS, this.#parts.stop);
    }
  }

  /** The target does not lead. Without our promise nobody does: this node goes on. */
  async #goOn(space: SpaceState, to: string, error: Error): Promise<void> {
    const { promotion, fencing, serially, abandoned } = this.#parts;
    const { facts } = space;
    const reason = error.message.split('\n', 1)[0]!;
    // A promise that is on its way to the disk comes first.
    await serially(async () => undefined, space);
    if (facts.role === 'primary' && facts.epoch === facts.epochSeen && !space.heardOf) {
      if (await this.#holds(space)) fencing.resume(space, facts.epoch);
    } else if (facts.epoch < facts.epochSeen && facts.promisedTo === to) {
      // Its epoch is burned: the next one is ours, if the members say so.
      const took = await promotion.promote(space).catch(() => undefined);
      if (!took) {
        const leads = (): void => abandoned(space, to, reason);
        return void this.#leadAgain(space, [to, this.#parts.nodeId], leads);
      }
    }
    abandoned(space, to, reason);
  }

  /**
   * Neither this node nor the other one of a hand-over leads, and nobody else has been asked to:
   * tried until somebody does, for a link that was cut in the moment of the promise comes back
   * (row 72).
   * @param promised who may have this node's promise
   * @param took called once this node leads
   */
  async #leadAgain(
    space: SpaceState,
    promised: readonly string[],
    took: () => void,
  ): Promise<void> {
    const { promotion, electorate, stop } = this.#parts;
    const { facts } = space;
    for (;;) {
      await pause(LEAD_POLL_MS * (0.5 + Math.random()), stop);
      const isLed = facts.role === 'primary' || facts.primary !== '';
      if (isLed || !promised.includes(facts.promisedTo) || stop.aborted) return;
      const { answers } = await electorate.poll(space);
      // It leads, and has not been heard of by its link yet.
      if (answers.some((a) => a.role === 'primary' && a.epoch >= facts.epochSeen)) continue;
      if (await promotion.promote(space).catch(() => undefined)) return took();
    }
  }

  /**
   * A member that was not waited for may know of a higher epoch, in which nobody leads: by that it
   * ends the one that this node has just taken over. Then the next one is this node's.
   */
  async #outlast(space: SpaceState): Promise<void> {
    const { nodeId, stop } = this.#parts;
    const untilMs = performance.now() + OUTLAST_MS;
    while (space.facts.role === 'primary') {
      // What it has heard of may not have ended its leadership yet.
      if ((performance.now() > untilMs && !space.heardOf) || stop.aborted) return;
      await pause(LEAD_POLL_MS, stop);
    }
    await this.#leadAgain(space, ['', nodeId], () => undefined);
  }

  /**
   * Asked until the coordinator says yes, or has stopped the space itself: nobody else lets go on
   * what this hand-over has stopped. A lease ends the waiting for one that cannot be heard.
   */
  async #holds(space: SpaceState): Promise<boolean> {
    const { coordinator, stop } = this.#parts;
    const { pause: own, facts } = space;
    const { name, epoch } = facts;
    const isOurs = (): boolean => space.pause === own && !space.isFenced && !stop.aborted;
    while (isOurs()) {
      if (await coordinator.holds(name, epoch).catch(() => false)) return isOurs();
      await pause(HOLDS_POLL_MS, stop);
    }
    return false;
  }

  // --- what others ask of this node --------------------------------------------------------

  get handlers(): PeerHandlers {
    const promise = (question: Question, from: string, isOfMany = false): Promise<Promised> => {
      const { nodeId } = question.candidate;
      // Nobody gets it for somebody else.
      if (nodeId === from) return this.#promise(question, isOfMany);
      throw failure('ProtocolViolation', `${from} asks for a promise to ${nodeId}`);
    };
    const takeOver = (q: FrameOf<'take-over'>, from: string): Promise<PlainFrame> =>
      this.#takeOver(q, from);
    return {
      promise: async function* (question, peer) {
        yield { kind: 'promised', ...(await promise(question, peer.nodeId)) };
      },
      promises: async function* ({ candidate, rows }, { nodeId }) {
        const asked = rows.map((row) => promise({ ...row, candidate, handover: 0n }, nodeId, true));
        for await (const given of asDone(asked)) {
          for (const part of promisedInFrames(given)) yield { kind: 'promises-given', rows: part };
        }
      },
      'take-over': async function* (question, peer) {
        yield await takeOver(question, peer.nodeId);
      },
    };
  }

  async #promise(question: Question, isOfMany: boolean): Promise<Promised> {
    const { id, epoch, candidate, handover } = question;
    const space = this.#parts.spaces.byId(id);
    if (!space || space.slot === 0) {
      const unknown = failure('SpaceUnknown', `${id} is not here`);
      if (!isOfMany) throw unknown;
      // The others are answered.
      const reason = firstLine(unknown);
      return { id, isGranted: false, epochSeen: 0, position: NO_POSITION, reason };
    }
    let isGranted = true;
    let reason = '';
    try {
      await this.#parts.serially(() => this.#give(space, epoch, candidate, handover), space);
    } catch (error) {
      if (!(error instanceof EngramError)) throw error;
      isGranted = false;
      reason = error.message.split('\n', 1)[0]!;
    }
    const { epochSeen, position } = space.facts;
    const { directoryId } = this.#parts.replication;
    return { id, isGranted, epochSeen, position, reason, directoryId };
  }

  /** In the queue of roles. A primary that promises leads no more. */
  async #give(space: SpaceState, epoch: Epoch, candidate: Member, handover: bigint): Promise<void> {
    const { promotion, fencing } = this.#parts;
    // Before this node stops anything for it.
    checkReach(space.facts.epochSeen, epoch, `${candidate.nodeId} would lead ${space.facts.name}`);
    const open = this.#open.get(space);
    const isPlanned = handover !== 0n;
    if (isPlanned && (open?.token !== handover || open.to !== candidate.nodeId)) {
      throw failure('PromotionRefused', 'the hand-over is over: this node leads on');
    }
    const isPrimary = space.facts.role === 'primary';
    if (isPrimary && epoch > space.facts.epochSeen) {
      if (isPlanned) fencing.halt(space);
      else fencing.stop(space, epoch, undefined);
    }
    await promotion.promise(space, epoch, candidate.nodeId);
    if (isPrimary) await fencing.stepAside(space, epoch, undefined, isPlanned);
  }

  async #takeOver(question: FrameOf<'take-over'>, from: string): Promise<PlainFrame> {
    const { id, handover, position } = question;
    const took = { kind: 'took-over' as const, id };
    try {
      const space = this.#parts.spaces.byId(id);
      if (!space || space.slot === 0) throw failure('SpaceUnknown', `${id} is not here`);
      const { facts } = space;
      if (facts.primary !== from) {
        throw failure('PromotionRefused', `${facts.name} is led by ${facts.primary}, not ${from}`);
      }
      if (facts.position.headerCrc !== position.headerCrc) {
        throw failure('PromotionRefused', `this node ends at ${facts.position.sequence}`);
      }
      const { promotion } = this.#parts;
      const { epoch } = await promotion.promote(space, {}, { from, token: handover });
      void this.#outlast(space);
      return { ...took, epoch, code: '', reason: '' };
    } catch (error) {
      if (!(error instanceof EngramError)) throw error;
      return { ...took, epoch: 0, code: error.code, reason: error.message.split('\n', 1)[0]! };
    }
  }
}
