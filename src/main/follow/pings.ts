/** Whether the node at the other end of a connection lives: it says so, or does not in time. */
import { lateAfter } from '../runtime/deadline.js';
export class Pings {
  #waiting: ((isThere: boolean) => void)[] = [];

  /** The next pong within `ms`. */
  answered(ms: number): Promise<boolean> {
    return new Promise((resolve) => {
      const callOff = lateAfter(ms, () => resolve(false));
      this.#waiting.push((isThere) => {
        callOff();
        resolve(isThere);
      });
    });
  }

  pong(): void {
    for (const answered of this.#waiting.splice(0)) answered(true);
  }
}
