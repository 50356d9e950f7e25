/**
 * Leaders are killed and cut off under load, over and over; planned switchovers in between. Some
 * that were killed come back with an empty disk, or another node comes in their place. An external
 * checker has the last word; times are the machine's monotonic clock.
 */

import { Checker, type Verdict, Violation } from './checker.js';
import {
  type Ack,
  Cluster,
  eventually,
  type NodeEvent,
  type NodeProcess,
  nowMs,
  type SpaceFacts,
} from './cluster.js';

/** `wipe`: killed, and its disk is lost; `swap`: killed, removed, another node is added. */
export type Way = 'kill' | 'cut' | 'etcd' | 'stop' | 'wipe' | 'swap';
const WAYS: readonly Way[] = ['kill', 'cut', 'wipe', 'cut', 'kill', 'stop', 'swap', 'etcd'];

export interface CampaignOptions {
  readonly folder: string;
  readonly rounds: number;
  readonly random: (below: number) => number;
  readonly ttlMs?: number;
  readonly say?: (line: string) => void;
}

/** One space that went from a leader that failed to another. */
export interface Failover {
  readonly way: Way;
  /** From the failure to the first acknowledged append elsewhere. */
  readonly wholeMs: number;
  /** From the deletion of the leader's key in etcd, as a watch of our own has heard. */
  readonly electedMs: number;
}

export interface CampaignResult extends Verdict {
  readonly kind: string;
  readonly ttlMs: number;
  readonly rounds: Readonly<Record<Way, number>>;
  readonly failovers: readonly Failover[];
  /** Of appends, as the leader that hands over reports it, and as its clients see it. */
  readonly switchoverMs: readonly number[];
  readonly switchoverGapMs: readonly number[];
}

export const SPACES = Array.from({ length: 8 }, (_, n) => `space-${n}`);
/** From etcd's word on; what takes longer is explained. */
const SLOW_MS = 500;
/** A replica that lacks fewer follows: some are always on their way. */
const CLOSE_ENTRIES = 100;
/** What must never be told: nothing is a fork, no epoch has two leaders, no disk went back. */
const NEVER = (e: NodeEvent): boolean =>
  ['leader-conflict', 'fatal', 'member-regressed'].includes(e.name) ||
  (e.name === 'replica-refused' && e.event.verdict === 'fork');
/** Switchovers that are refused before anything has happened are asked for again. */
const PASSING = ['NotEnoughReplicas', 'AckTimeout', 'SwitchingOver'];
/** A failover that takes longer has failed. */
const FAILOVER_MS = 30_000;

interface Watched {
  epoch: number;
  nodeId: string;
  /** When the first append of the epoch, and the last one so far, were acknowledged. */
  firstMs: number;
  lastMs: number;
}

export class Campaign {
  readonly #options: CampaignOptions;
  readonly #checker = new Checker();
  readonly #cluster: Cluster;
  /** The newest epoch of each space in which something was acknowledged, and the one before. */
  readonly #newest = new Map<string, Watched>();
  readonly #before = new Map<string, Watched>();
  readonly #gone = new Map<string, number>();
  readonly #failovers: Failover[] = [];
  readonly #switchoverMs: number[] = [];
  readonly #gapMs: number[] = [];
  readonly #rounds: Record<Way, number> = { kill: 0, cut: 0, etcd: 0, stop: 0, wipe: 0, swap: 0 };
  #violation: unknown;

  private constructor(options: CampaignOptions, cluster: Cluster) {
    this.#options = options;
    this.#cluster = cluster;
    cluster.onAck = (node, ack) => this.#acked(node, ack);
    cluster.onGone = (nodeId, atMs) => this.#gone.set(nodeId, atMs);
  }

  static async run(options: CampaignOptions): Promise<CampaignResult> {
    const { folder, ttlMs = 2_000 } = options;
    const cluster = await Cluster.start(folder, { ttlMs });
    try {
      return await new Campaign(options, cluster).#run();
    } catch (error) {
      for (const node of cluster.nodes) {
        const events = node.events.slice(-12).map((e) => `${e.name} ${JSON.stringify(e.event)}`);
        options.say?.(`${node.nodeId}: ${events.join('\n   ')}\n${node.errors.slice(-1_000)}`);
      }
      throw error;
    } finally {
      await cluster.close();
    }
  }

  #acked(node: NodeProcess, ack: Ack): void {
    try {
      this.#checker.ack(node.nodeId, ack);
    } catch (error) {
      this.#violation ??= error;
    }
    const [space, epoch, , , , , atMs] = ack;
    const newest = this.#newest.get(space);
    if (newest?.epoch === epoch) {
      newest.firstMs = Math.min(newest.firstMs, atMs);
      newest.lastMs = Math.max(newest.lastMs, atMs);
    } else if (!newest || newest.epoch < epoch) {
      if (newest) this.#before.set(space, newest);
      const { nodeId } = node;
      this.#newest.set(space, { epoch, nodeId, firstMs: atMs, lastMs: atMs });
    }
  }

  async #run(): Promise<CampaignResult> {
    const { nodes, hosts, ttlMs } = this.#cluster;
    const { rounds, say } = this.#options;
    await this.#cluster.observe();
    for (const [n, name] of SPACES.entries()) {
      await answered(nodes[n % nodes.length]!.ask({ open: [name] }));
    }
    for (const node of nodes) await answered(node.ask({ open: SPACES }));
    for (const node of nodes) await answered(node.ask({ load: true }));
    await this.#whole();
    for (let round = 1; round <= rounds; round++) {
      const way = WAYS[(round - 1) % WAYS.length]!;
      const line = await this.#fail(way);
      this.#rounds[way]++;
      await this.#whole();
      await this.#switchOver();
      await this.#whole();
      say?.(`${round}/${rounds} ${line}`);
      if (this.#violation) throw this.#violation;
    }
    const verdict = await this.#judge();
    return {
      ...verdict,
      kind: hosts.kind,
      ttlMs,
      rounds: this.#rounds,
      failovers: this.#failovers,
      switchoverMs: this.#switchoverMs,
      switchoverGapMs: this.#gapMs,
    };
  }

  /** Every space is led and appended to, the two others follow, and all three count. */
  async #whole(): Promise<void> {
    await eventually('all spaces are led, and followed by two that count', async () => {
      const { nodes } = this.#cluster;
      if (!nodes.every((node) => node.hasLease)) return false;
      const ids = nodes.map((node) => node.nodeId);
      const all = await Promise.all(nodes.map((node) => node.status()));
      const led = all.flat().filter((s) => s.role === 'primary');
      return SPACES.every((name) => {
        const found = led.filter((s) => s.name === name);
        const [leader] = found;
        const isAppended = this.#newest.get(name)?.epoch === leader?.epoch;
        return found.length === 1 && isAppended && isFollowed(leader!) && isOf(leader!, ids);
      });
    });
  }

  async #fail(way: Way): Promise<string> {
    const { nodes } = this.#cluster;
    const leaders = await this.#cluster.leaders(SPACES);
    const loads = nodes.map((n) => [...leaders.values()].filter((id) => id === n.nodeId).length);
    // Who leads most of them; but each has its turn.
    const most = loads.indexOf(Math.max(...loads));
    const victim = nodes[most]!;
    const spaces = SPACES.filter((name) => leaders.get(name) === victim.nodeId);
    const epochs = new Map(spaces.map((name) => [name, this.#newest.get(name)!.epoch]));
    this.#gone.delete(victim.nodeId);
    const beganMs = nowMs();
    await this.#do(way, most);
    await eventually(
      `${spaces.length} spaces of ${victim.nodeId} are led elsewhere (${way})`,
      async () =>
        this.#violation !== undefined ||
        spaces.every((name) => {
          const { epoch, nodeId } = this.#newest.get(name)!;
          return epoch > epochs.get(name)! && nodeId !== victim.nodeId;
        }),
      FAILOVER_MS,
    );
    if (this.#violation) throw this.#violation;
    const goneMs = this.#gone.get(victim.nodeId);
    if (goneMs === undefined) throw new Violation(`${victim.nodeId} never left etcd`);
    const whole: number[] = [];
    for (const name of spaces) {
      const { firstMs } = this.#newest.get(name)!;
      const wholeMs = Math.round(firstMs - beganMs);
      this.#failovers.push({ way, wholeMs, electedMs: Math.round(firstMs - goneMs) });
      whole.push(firstMs - beganMs);
    }
    if (Math.max(...whole) - (goneMs - beganMs) > SLOW_MS) this.#explain(beganMs);
    await this.#undo(way, most);
    const worst = Math.max(...whole).toFixed(0);
    const elected = (Math.max(...whole) - (goneMs - beganMs)).toFixed(0);
    const what = `${way} of ${victim.nodeId}, ${spaces.length} spaces`;
    return `${what}: ${worst} ms, ${elected} of them from etcd's word`;
  }

  /** What the nodes have told since: why did it take so long? */
  #explain(sinceMs: number): void {
    const told = this.#cluster.nodes.flatMap(({ nodeId, events }) =>
      events.filter((e) => e.atMs > sinceMs).map((e) => ({ nodeId, ...e })),
    );
    for (const { nodeId, name, atMs, event } of told.sort((a, b) => a.atMs - b.atMs)) {
      const { space, reason, tookMs, held } = event;
      const facts = JSON.stringify({ space, reason, tookMs, held });
      this.#options.say?.(`   +${(atMs - sinceMs).toFixed(0)} ms ${nodeId} ${name} ${facts}`);
    }
  }

  async #do(way: Way, index: number): Promise<void> {
    const victim = this.#cluster.nodes[index]!;
    if (way === 'cut') this.#cluster.hosts.cut(index);
    else if (way === 'etcd') this.#cluster.hosts.cutEtcd(index);
    else if (way === 'stop') victim.signal('SIGSTOP');
    else await victim.end('SIGKILL');
  }

  async #undo(way: Way, index: number): Promise<void> {
    const { nodes, hosts } = this.#cluster;
    if (way === 'cut') hosts.heal(index);
    else if (way === 'etcd') hosts.healEtcd(index);
    else if (way === 'stop') nodes[index]!.signal('SIGCONT');
    else {
      if (way === 'wipe') this.#cluster.wipe(index);
      if (way === 'swap') {
        const other = nodes[(index + 1) % nodes.length]!;
        await answered(other.ask({ remove: nodes[index]!.nodeId }));
        this.#cluster.swap(index);
      }
      await nodes[index]!.start();
      await answered(nodes[index]!.ask({ load: true }));
    }
  }

  /** One space is handed to a replica, planned. */
  async #switchOver(): Promise<void> {
    const { random } = this.#options;
    const space = SPACES[random(SPACES.length)]!;
    const from = (await this.#cluster.leaders([space])).get(space);
    const others = this.#cluster.nodes.filter((n) => n.nodeId !== from);
    const to = others[random(others.length)]!.nodeId;
    const leader = this.#cluster.nodes.find((n) => n.nodeId === from)!;
    const { epoch } = this.#newest.get(space)!;
    const report = await eventually(`switchover of ${space} to ${to}`, async () => {
      const answer = await leader.ask({ switchover: { space, to } });
      if (answer.error && !PASSING.includes(answer.error.code)) {
        throw new Violation(`switchover of ${space} to ${to}: ${answer.error.message}`);
      }
      return answer.report;
    });
    this.#switchoverMs.push(Math.round(report.pauseMs as number));
    await eventually('it is appended to again', async () => this.#newest.get(space)!.epoch > epoch);
    const { firstMs } = this.#newest.get(space)!;
    this.#gapMs.push(Math.round(firstMs - this.#before.get(space)!.lastMs));
  }

  async #judge(): Promise<Verdict> {
    const { nodes } = this.#cluster;
    for (const node of nodes) await answered(node.ask({ load: false }));
    await eventually('all have all', async () => {
      const all = await Promise.all(nodes.map((node) => node.status()));
      return SPACES.every((name) => {
        const found = all.map((spaces) => spaces.find((s) => s.name === name)!.durable);
        return found.every((durable) => durable === found[0]);
      });
    });
    const logs = new Map<string, Record<string, string[]>>();
    for (const node of nodes) {
      logs.set(node.nodeId, (await answered(node.ask({ read: true }))).spaces!);
    }
    if (this.#violation) throw this.#violation;
    for (const node of [...nodes, ...this.#cluster.removed]) {
      const [never] = node.events.filter(NEVER);
      if (never)
        throw new Violation(`${node.nodeId}: ${never.name} ${JSON.stringify(never.event)}`);
    }
    return this.#checker.judge(logs, (id, payload) => this.#cluster.isKept(id, payload));
  }
}

function isFollowed({ replicas, durable }: SpaceFacts): boolean {
  const isClose = (acked: number): boolean => durable - acked < CLOSE_ENTRIES;
  return (
    replicas.length === 2 && replicas.every(([, s, acked]) => s === 'streaming' && isClose(acked))
  );
}

/** These nodes count, with the disks that they have now, and nobody else. */
function isOf({ members }: SpaceFacts, ids: readonly string[]): boolean {
  const counting = members.counting.map((m) => m.nodeId).sort();
  const isOver = !members.pending && members.learners.length === 0;
  return isOver && counting.join() === [...ids].sort().join();
}

async function answered<T extends { error?: { message: string } }>(answer: Promise<T>): Promise<T> {
  const given = await answer;
  if (given.error) throw new Error(given.error.message);
  return given;
}
