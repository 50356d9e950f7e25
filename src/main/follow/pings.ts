/** Whether the node at the other end of a connection lives: it says so, or does not in time. */
export class Pings {
  #waiting: ((isThere: boolean) => void)[] = [];

  /** The next pong within `ms`. */
  answered(ms: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), ms);
      this.#waiting.push((isThere) => {
        clearTimeout(timer);
        resolve(isThere);
      });
    });
  }

  pong(): void {
    for (const answered of this.#waiting.splice(0)) answered(true);
  }
}
