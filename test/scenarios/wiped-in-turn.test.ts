/** Disks are lost one after the other, each is replaced by an empty one, and nothing is forced. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { expect, test } from 'vitest';
import type { PromotionReport, SpaceStatus } from '#src/main/index.js';
import { EachTest, removeFolder, SMALL, until } from '../support/cluster.js';
import { freePort } from '../support/etcd.js';

const PROGRAM = path.join(import.meta.dirname, '../support/called-node.mjs');
const IDS = ['a', 'b', 'c'];
const life = new EachTest();

interface Answer {
  readonly id?: number;
  readonly done?: unknown;
  readonly code?: string;
  readonly message?: string;
}

/** A member in a process of its own, which is killed, and may come back with an empty disk. */
class Member {
  readonly nodeId: string;
  readonly #ports: ReadonlyMap<string, number>;
  #child: ChildProcess | undefined;
  #calls = 0;

  constructor(nodeId: string, ports: ReadonlyMap<string, number>) {
    this.nodeId = nodeId;
    this.#ports = ports;
    life.finally(() => this.kill());
  }

  get #dir(): string {
    return path.join(life.folder, this.nodeId);
  }

  async start(): Promise<void> {
    const at = (nodeId: string) => ({ host: '127.0.0.1', port: this.#ports.get(nodeId)! });
    const replicas = IDS.filter((id) => id !== this.nodeId).map((nodeId) => ({
      nodeId,
      ...at(nodeId),
    }));
    const own = { nodeId: this.nodeId, dataDir: this.#dir, lead: this.nodeId === 'a' };
    const options = { ...SMALL, ...own, listen: at(this.nodeId), replicas };
    this.#child = fork(PROGRAM, [JSON.stringify(options)], { execArgv: [] });
    await once(this.#child, 'message');
  }

  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }

  signal(signal: NodeJS.Signals): void {
    this.#child!.kill(signal);
  }

  /** Its disk is gone with all that it had flushed and promised. */
  async lose(): Promise<void> {
    await this.kill();
    removeFolder(this.#dir);
  }

  /** Rejects with the code of the error, or `gone` where the process ends before it answers. */
  async call<T>(call: string, ...args: unknown[]): Promise<T> {
    const child = this.#child;
    if (!child) throw Object.assign(new Error(`${this.nodeId} is down`), { code: 'gone' });
    const id = ++this.#calls;
    const answer = new Promise<Answer>((resolve) => {
      const ended = (): void => done({ code: 'gone' });
      const heard = (message: Answer): void => {
        if (message.id === id) done(message);
      };
      const done = (found: Answer): void => {
        child.off('message', heard);
        child.off('exit', ended);
        resolve(found);
      };
      child.on('message', heard);
      child.on('exit', ended);
    });
    child.send({ id, call, args }, () => undefined);
    const { done, code, message } = await answer;
    if (code !== undefined) throw Object.assign(new Error(message ?? code), { code });
    return done as T;
  }

  status(): Promise<SpaceStatus | undefined> {
    return this.call('status', 's');
  }
}

/** Appends until it is told to stop. @returns by sequence, what was acknowledged by a replica */
function load(leader: Member) {
  const acked = new Map<number, string>();
  let isOver = false;
  const done = (async () => {
    for (let n = 1; !isOver; n++) {
      const payload = `${leader.nodeId} ${n}`;
      const ack = { replicas: 1, timeoutMs: 10_000 };
      try {
        const { sequence } = await leader.call<{ sequence: number }>('append', 's', payload, ack);
        acked.set(sequence, payload);
      } catch (error) {
        const { code } = error as { code: string };
        if (code === 'gone') return;
        expect(['NotEnoughReplicas', 'AckTimeout']).toContain(code);
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })();
  const stop = async (): Promise<void> => {
    isOver = true;
    await done;
  };
  return { acked, stop };
}

async function when(
  what: string,
  member: Member,
  holds: (status: SpaceStatus) => boolean,
): Promise<void> {
  const deadlineMs = performance.now() + 30_000;
  for (;;) {
    const status = await member.status();
    if (status && holds(status)) return;
    const late = `not within 30 s: ${what}; ${JSON.stringify(status)}`;
    expect(performance.now(), late).toBeLessThan(deadlineMs);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** The directory that the node has by now counts, and nobody else's under its name. */
async function isTakenIn(leader: Member, member: Member): Promise<void> {
  const directoryId = await member.call<string>('directory');
  await when(`${member.nodeId} is taken in`, leader, ({ members }) => {
    const { counting, pending, learners } = members;
    const isSettled = pending === undefined && learners.length === 0 && counting.length === 3;
    return isSettled && counting.some((m) => m.directoryId === directoryId);
  });
}

test('FAULT-108 two of three are wiped in turn: all acknowledged is there, one leads', async () => {
  const ports = new Map<string, number>();
  for (const id of IDS) ports.set(id, await freePort());
  const [a, b, c] = IDS.map((id) => new Member(id, ports)) as [Member, Member, Member];
  for (const member of [b, c, a]) await member.start();
  await a.call('open', 's');
  const first = load(a);
  const hasMore = (than: number): Promise<void> =>
    until('more is acknowledged', () => first.acked.size >= than + 20);
  await hasMore(0);

  // One is wiped under load, comes back empty, and learns; what is appended goes on meanwhile.
  await b.lose();
  await hasMore(first.acked.size);
  await b.start();
  await isTakenIn(a, b);
  await hasMore(first.acked.size);

  // The next one. Before it is taken in, for the other one stands still, who leads dies: so one of
  // those that count is here, and who was wiped is no witness of what it had.
  await c.lose();
  await hasMore(first.acked.size);
  b.signal('SIGSTOP');
  await c.start();
  await when('c learns', c, ({ durableSequence }) => durableSequence > 0);
  await a.kill();
  await first.stop();
  b.signal('SIGCONT');
  await expect(b.call('promote', 's')).rejects.toMatchObject({ code: 'PromotionRefused' });
  await a.start();
  const led = await b.call<PromotionReport>('promote', 's');
  expect(led).toMatchObject({ isPromoted: true, lost: [], passedOver: [] });
  await isTakenIn(b, c);

  // The two that were wiped are all there is: one of them leads, and nothing is missing.
  await a.lose();
  const second = load(b);
  await until('it takes entries', () => second.acked.size >= 20);
  await second.stop();
  const acked = [...first.acked, ...second.acked];
  for (const member of [b, c]) {
    const log = await member.call<{ sequence: number; payload: string }[]>('read', 's');
    const found = new Map(log.map(({ sequence, payload }) => [sequence, payload]));
    const gone = acked.filter(([sequence, payload]) => found.get(sequence) !== payload);
    expect(gone, member.nodeId).toEqual([]);
  }
}, 180_000);
