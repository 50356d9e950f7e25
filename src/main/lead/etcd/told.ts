/** What the node has been told of spaces: each leader once, each reason to wait for one once. */
import type { SpaceRow } from '../../../shared/lead/placement.js';
import type { Epoch } from '../../../shared/position.js';

export class EtcdTold {
  /** Why spaces wait for a leader. */
  readonly #waiting = new Map<string, string>();
  readonly #leaders = new Map<string, { readonly nodeId: string; readonly epoch: Epoch }>();

  /** @returns whether another node leads the space than was told last, or none does any more */
  leader({ name, leader, epoch }: SpaceRow, isLed: boolean): boolean {
    const before = this.#leaders.get(name);
    const isSame = isLed
      ? before?.nodeId === leader!.nodeId && before.epoch === epoch
      : before === undefined;
    if (isSame) return false;
    if (isLed) {
      this.#leaders.set(name, { nodeId: leader!.nodeId, epoch });
      this.#waiting.delete(name);
    } else {
      this.#leaders.delete(name);
    }
    return true;
  }

  /** @returns whether that is another reason than was told last */
  waiting(space: string, reason: string): boolean {
    if (this.#waiting.get(space) === reason) return false;
    this.#waiting.set(space, reason);
    return true;
  }
}
