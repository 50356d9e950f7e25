/** What happens to the nodes of the soak and to the network between them. */
import type { TcpProxy } from '../support/tcp-proxy.js';
import type { SoakProcess } from './soak-process.js';

/** Silence that is longer than the 10 s after which a peer counts as dead. */
const LONG_MS = 12_000;

export class Faults {
  readonly #chance: (below: number) => number;
  readonly #processes: ReadonlyMap<string, SoakProcess>;
  readonly #proxies: ReadonlyMap<string, TcpProxy>;
  readonly #start: (name: string) => Promise<void>;
  /** What has been done to a node or a link, and is not over. */
  readonly #underway = new Map<string, Promise<void>>();
  readonly counts: Record<string, number> = {};

  constructor(
    chance: (below: number) => number,
    processes: ReadonlyMap<string, SoakProcess>,
    proxies: ReadonlyMap<string, TcpProxy>,
    start: (name: string) => Promise<void>,
  ) {
    this.#chance = chance;
    this.#processes = processes;
    this.#proxies = proxies;
    this.#start = start;
  }

  get total(): number {
    return Object.values(this.counts).reduce((sum, n) => sum + n, 0);
  }

  /** One more fault, some time later. */
  async one(mayKillPrimary: boolean): Promise<void> {
    await sleep(200 + this.#chance(2_500));
    if (this.#chance(2) === 0) {
      const names = [...this.#processes.keys()];
      this.#ofNode(names[this.#chance(names.length)]!, mayKillPrimary);
    } else {
      const names = [...this.#proxies.keys()];
      this.#ofLink(names[this.#chance(names.length)]!);
    }
  }

  #ofNode(name: string, mayKillPrimary: boolean): void {
    const node = this.#processes.get(name)!;
    const isStop = this.#chance(2) === 0 || (name === 'a' && !mayKillPrimary);
    const ms = this.#chance(8) === 0 ? LONG_MS : this.#chance(3_000);
    this.#during(`node ${name}`, isStop ? 'SIGSTOP' : 'SIGKILL', async () => {
      if (isStop) {
        node.stop();
        await sleep(ms);
        node.goOn();
      } else {
        await node.kill();
        await sleep(ms / 2);
        await this.#start(name);
      }
    });
  }

  #ofLink(name: string): void {
    const proxy = this.#proxies.get(name)!;
    const ms = this.#chance(6) === 0 ? LONG_MS : this.#chance(4_000);
    const link = `link ${name}`;
    switch (this.#chance(7)) {
      case 0:
        this.#during(link, 'cut', async () => proxy.cut());
        return;
      case 1:
        this.#during(link, 'no data', () => this.#whileStalled(proxy, ms, 'forth'));
        return;
      case 2:
        this.#during(link, 'no acks', () => this.#whileStalled(proxy, ms, 'back'));
        return;
      case 3:
        this.#during(link, 'half-open', () => this.#whileStalled(proxy, ms, 'forth', 'back'));
        return;
      case 4:
        this.#during(link, 'black hole', async () => {
          proxy.blackHole(true);
          await sleep(ms);
          proxy.blackHole(false);
        });
        return;
      case 5:
        this.#during(link, 'slow', async () => {
          proxy.limit(100_000 + this.#chance(2_000_000));
          proxy.delay(this.#chance(30));
          await sleep(ms);
          proxy.limit(Number.POSITIVE_INFINITY);
          proxy.delay(0);
        });
        return;
      case 6:
        this.#during(link, 'corrupted', async () => {
          proxy.corrupt(this.#chance(3) === 0 ? 'back' : 'forth');
        });
        return;
    }
  }

  async #whileStalled(proxy: TcpProxy, ms: number, ...ways: ('forth' | 'back')[]): Promise<void> {
    proxy.stall(...ways);
    await sleep(ms);
    proxy.flow();
  }

  /** Nothing is done to what still suffers. */
  #during(where: string, what: string, work: () => Promise<void>): void {
    if (this.#underway.has(where)) return;
    this.counts[what] = (this.counts[what] ?? 0) + 1;
    const done = work().finally(() => this.#underway.delete(where));
    this.#underway.set(where, done);
  }

  /** Everything that was begun comes to its end. */
  async heal(): Promise<void> {
    await Promise.all(this.#underway.values());
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
