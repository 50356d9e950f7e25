/**
 * What a primary asks the nodes that it ships to before it leads a space: whether they know a new
 * one, where they stand in one that it has led. Only an answer is one: a connection that is refused
 * or lost is dialled again, for as long as there is time (row 85).
 */
import type { AnswerRow } from '../../shared/link/control.js';
import type { Epoch } from '../../shared/position.js';
import type { SpaceState } from '../log/space-table.js';
import { pause, within } from '../runtime/deadline.js';
import { JudgedSpaces } from './judged-spaces.js';
import type { ShipperHandle } from './shipper-handle.js';

/** What another node says of a space. */
export interface SpaceAnswer {
  readonly replicaId: string;
  readonly epoch: Epoch;
  readonly primary: string;
}

/** A node that has answered. */
export interface MetNode {
  readonly nodeId: string;
  /** 32 hex digits; undefined where it speaks version 1. */
  readonly directoryId: string | undefined;
}

/** Between two attempts to reach a member whose answer somebody waits for. */
const REDIAL_MS = 100;

interface Asked {
  readonly judged: JudgedSpaces;
  /** Who waits for an answer, by the id of the space; undefined: there was no link to ask over. */
  readonly asked: Map<string, (answer: SpaceAnswer | 'unknown' | undefined) => void>;
}

export class MemberQuestions {
  readonly #shippers: () => readonly ShipperHandle[];
  readonly #all = new WeakMap<ShipperHandle, Asked>();

  constructor(shippers: () => readonly ShipperHandle[]) {
    this.#shippers = shippers;
  }

  #of(shipper: ShipperHandle): Asked {
    let asked = this.#all.get(shipper);
    if (!asked) {
      asked = { judged: new JudgedSpaces(), asked: new Map() };
      this.#all.set(shipper, asked);
    }
    return asked;
  }

  /** The spaces on which a verdict has been given since the last connection. */
  judgedBy(shipper: ShipperHandle): JudgedSpaces {
    return this.#of(shipper).judged;
  }

  /** Nobody ships there any more: whoever waits is woken. */
  forget(shipper: ShipperHandle): void {
    this.judgedBy(shipper).clear();
    this.#all.delete(shipper);
  }

  /** Its thread has died, and with it the link and what was asked over it: that is asked again. */
  lost(shipper: ShipperHandle): void {
    const { judged, asked } = this.#of(shipper);
    judged.clear();
    for (const answered of asked.values()) answered(undefined);
  }

  answered(shipper: ShipperHandle, id: string, answer: AnswerRow['answer']): void {
    const known = answer?.known && { replicaId: shipper.replica.nodeId, ...answer };
    this.#of(shipper).asked.get(id)?.(known || (answer && 'unknown'));
  }

  /**
   * Asks every member whether it knows a space. A connection that is refused or lost is no answer:
   * it is dialled and asked again and again, for `timeoutMs`; one from which nothing has come since
   * it was waited for in vain is not waited for again.
   * @returns who knows it, who stayed silent, and which directories have answered that they do not
   */
  async ask(
    id: string,
    name: string,
    replicas: readonly string[],
    timeoutMs: number,
  ): Promise<{ known: SpaceAnswer[]; silent: string[]; met: MetNode[] }> {
    const known: SpaceAnswer[] = [];
    const silent: string[] = [];
    const met: MetNode[] = [];
    const asked = this.#shippers().filter((s) => replicas.includes(s.replica.nodeId));
    await Promise.all(
      asked.map(async (shipper) => {
        const answer = shipper.isSilent ? 'late' : await this.#ask(shipper, id, name, timeoutMs);
        const { nodeId } = shipper.replica;
        if (answer === 'late') silent.push(nodeId);
        else if (answer === 'unknown') met.push({ nodeId, directoryId: shipper.link.directoryId });
        else known.push(answer);
      }),
    );
    return { known, silent, met };
  }

  async #ask(
    shipper: ShipperHandle,
    id: string,
    name: string,
    timeoutMs: number,
  ): Promise<SpaceAnswer | 'unknown' | 'late'> {
    const askedMs = performance.now();
    let isLate = false;
    const asking = async (): Promise<SpaceAnswer | 'unknown' | 'late'> => {
      shipper.wake();
      await shipper.firstWord;
      for (;;) {
        while (!shipper.isConnected) {
          if (isLate || !(await shipper.dialAgain(REDIAL_MS))) return 'late';
        }
        const answer = await new Promise<SpaceAnswer | 'unknown' | undefined>((resolve) => {
          this.#of(shipper).asked.set(id, resolve);
          shipper.ask(id, name);
        });
        if (answer) return answer;
        // The link was lost before main has heard of it.
        await pause(REDIAL_MS);
      }
    };
    const answer = await within(asking(), timeoutMs);
    isLate = true;
    this.#of(shipper).asked.delete(id);
    if (answer === 'late') shipper.unanswered(askedMs);
    return answer;
  }

  /**
   * Resolves when every replica of these spaces has told its positions, so that a replica ahead of
   * us is known before the first ack. Who is not there is dialled as `ask` does.
   * @returns who stayed silent for `timeoutMs`
   */
  async confirm(spaces: readonly SpaceState[], timeoutMs: number): Promise<string[]> {
    const silent: string[] = [];
    await Promise.all(
      this.#shippers().map(async (shipper) => {
        const { nodeId } = shipper.replica;
        const own = spaces.filter((s) => s.replicas.includes(nodeId));
        if (own.length === 0) return;
        if (shipper.isSilent || !(await this.#confirmed(shipper, own, timeoutMs))) {
          silent.push(nodeId);
        }
      }),
    );
    return silent;
  }

  /** @returns whether the replica has told */
  async #confirmed(
    shipper: ShipperHandle,
    spaces: readonly SpaceState[],
    timeoutMs: number,
  ): Promise<boolean> {
    const askedMs = performance.now();
    const judged = this.judgedBy(shipper);
    let isLate = false;
    const told = async (): Promise<'told' | 'late'> => {
      await shipper.firstWord;
      for (const space of spaces) {
        while (!isLate && !judged.has(space)) {
          if (shipper.isConnected) await judged.next(space);
          else if (!(await shipper.dialAgain(REDIAL_MS))) return 'late';
        }
      }
      return 'told';
    };
    const answer = await within(told(), timeoutMs);
    isLate = true;
    if (answer === 'late') shipper.unanswered(askedMs);
    return answer === 'told';
  }
}
