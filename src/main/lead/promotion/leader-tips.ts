/**
 * What the leader of a space has durable: told to members that ask, and asked for who wants to read
 * all that was acknowledged before. With a lease it answers only while that holds: then nobody else
 * has acknowledged anything. Without one it is that node's own view: two may lead for a moment.
 */
import { failure } from '../../../shared/errors.js';
import type { NodeMemory } from '../../../shared/memory/slab.js';
import type { Epoch, Sequence } from '../../../shared/position.js';
import type { TipRow } from '../../../shared/wire/peer-frames.js';
import type { SpaceState, SpaceTable } from '../../log/space-table.js';
import type { PeerHandlers } from '../../peer/answers.js';
import { type Coordinator, leaseRefusal } from '../coordinator.js';
import { notLedHere } from '../fencing.js';
import type { Electorate } from './electorate.js';

/** The last durable entry of a leader; sequence 0: it has none. */
export interface Tip {
  readonly sequence: Sequence;
  readonly epoch: Epoch;
}

interface TipsGiven {
  readonly nodeId: string;
  readonly memory: NodeMemory;
  readonly spaces: SpaceTable;
  readonly coordinator: Coordinator;
  readonly electorate: Electorate;
}

/** A question that is under way, and the one for who has come since. */
interface UnderWay {
  readonly done: Promise<unknown>;
  next: Promise<Tip> | undefined;
}

export class LeaderTips {
  readonly #given: TipsGiven;
  readonly #underWay = new Map<SpaceState, UnderWay>();

  constructor(given: TipsGiven) {
    this.#given = given;
  }

  /** What this node answers. */
  get handlers(): PeerHandlers {
    const { spaces } = this.#given;
    return {
      'tip-ask': ({ ids }) => {
        const rows = ids.map((id): TipRow => {
          const space = spaces.byId(id);
          const isKnown = space !== undefined && space.slot > 0;
          return isKnown ? this.#own(space) : { id, leads: false, epoch: 0, sequence: 0 };
        });
        return [{ kind: 'tips', rows }];
      },
    };
  }

  #own(space: SpaceState): TipRow {
    const { memory, coordinator } = this.#given;
    const { facts, isFenced, pause, slot } = space;
    const isPrimary = facts.role === 'primary' && !isFenced && !pause;
    const leads = isPrimary && leaseRefusal(coordinator) === undefined;
    return { id: facts.id, leads, epoch: facts.position.epoch, sequence: memory.durable(slot) };
  }

  /**
   * As of a moment behind this call. However many ask at once, one question is under way, and those
   * that come meanwhile share the next one.
   * Rejects NotPrimary (nobody leads it, as far as this node knows), or as `PeerClient.ask` does.
   */
  of(space: SpaceState): Promise<Tip> {
    const before = this.#underWay.get(space);
    if (!before) return this.#begin(space);
    before.next ??= before.done.then(() => this.#begin(space));
    return before.next;
  }

  #begin(space: SpaceState): Promise<Tip> {
    const asked = this.#ask(space);
    const over = (): unknown => this.#underWay.delete(space);
    this.#underWay.set(space, { done: asked.then(over, over), next: undefined });
    return asked;
  }

  async #ask(space: SpaceState): Promise<Tip> {
    const { nodeId, coordinator, electorate } = this.#given;
    const { name, primary } = space.facts;
    const leader = coordinator.leaderOf(name)?.nodeId ?? primary;
    if (leader === '') throw notLedHere('NotPrimary', space);
    const row = leader === nodeId ? this.#own(space) : await electorate.tipOf(space, leader);
    if (!row.leads) {
      throw failure('NotPrimary', `${name}: ${leader} does not lead it in this moment`);
    }
    return { sequence: row.sequence, epoch: row.epoch };
  }
}
