/** A lease ends when the machine has slept: the monotonic clock counts nothing of it (row 84). */
import { afterEach, expect, test } from 'vitest';
import { leaseRefusal, StaticCoordinator } from '#src/main/lead/coordinator.js';
import type { Link, LinkHooks } from '#src/main/lead/etcd/link.js';
import { EtcdSession } from '#src/main/lead/etcd/session.js';
import { haveParted, type Moment, twoClocks } from '#src/main/runtime/two-clocks.js';
import { until } from '../../support/cluster.js';

const TTL_MS = 2_000;

/** Both clocks of a machine, which sleeps for as long as it is told to. */
class Machine {
  sleptMs = 0;
  readonly now = (): Moment => {
    const { monotonicMs, uptimeMs } = twoClocks();
    return { monotonicMs, uptimeMs: uptimeMs + this.sleptMs };
  };
}

/** An etcd of one lease, that answers when it is let. */
class OneLease {
  readonly #hooks: LinkHooks;
  readonly #clocks: () => Moment;
  /** Keepalives that have no answer yet. */
  readonly sent: Moment[] = [];
  isSilent = false;
  grants = 0;
  sleepsInGrant: (() => void) | undefined;

  constructor(hooks: LinkHooks, clocks: () => Moment) {
    this.#hooks = hooks;
    this.#clocks = clocks;
  }

  answer(): void {
    for (const sent of this.sent.splice(0)) this.#hooks.kept(sent, TTL_MS);
  }

  get link(): Link {
    return {
      list: async () => ({ pairs: [], revision: 1 }),
      get: async () => undefined,
      write: async () => [1],
      grant: async () => {
        this.grants++;
        const sent = this.#clocks();
        this.sleepsInGrant?.();
        return { lease: 'l', sent, ttlMs: TTL_MS };
      },
      revoke: async () => undefined,
      openKeepAlive: async () => undefined,
      keep: () => {
        this.sent.push(this.#clocks());
        if (!this.isSilent) setImmediate(() => this.answer());
      },
      silentMs: 0,
      openWatch: async () => undefined,
      close: () => undefined,
    };
  }
}

const open: EtcdSession[] = [];

afterEach(async () => {
  await Promise.all(open.splice(0).map((session) => session.close()));
});

interface Held {
  machine: Machine;
  etcd: OneLease;
  session: EtcdSession;
  told: string[];
  /** What a group is told that has become durable at this moment. */
  refusal(): string | undefined;
}

function start(prepare: (etcd: OneLease, machine: Machine) => void = () => undefined): Held {
  const machine = new Machine();
  const told: string[] = [];
  let etcd: OneLease | undefined;
  const session = new EtcdSession(
    { endpoints: ['one'], ttlMs: TTL_MS, prefix: 'p/' },
    {
      up: (isNew) => told.push(`up ${isNew}`),
      changed: () => undefined,
      lapsed: (reason) => told.push(`lapsed: ${reason}`),
      lost: (reason) => told.push(`lost: ${reason}`),
      link: () => undefined,
    },
    (_endpoint, _timeoutMs, hooks) => {
      etcd = new OneLease(hooks, machine.now);
      prepare(etcd, machine);
      return Promise.resolve(etcd.link);
    },
    machine.now,
  );
  open.push(session);
  session.start();
  const coordinator = new StaticCoordinator();
  Object.defineProperty(coordinator, 'ackUntilMs', { get: () => session.ackUntilMs });
  const refusal = (): string | undefined => leaseRefusal(coordinator)?.code;
  return {
    machine,
    get etcd() {
      return etcd!;
    },
    session,
    told,
    refusal,
  };
}

async function held(): Promise<Held> {
  const all = start();
  await until('the lease is held', () => all.told.includes('up true') && !all.refusal());
  return all;
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('FAULT-84 what becomes durable after a sleep is not acknowledged', async () => {
  const { machine, etcd, refusal, told } = await held();
  etcd.isSilent = true;
  machine.sleptMs += 10 * TTL_MS;
  await turn();
  expect(refusal()).toBe('LeaseLost');
  // The spaces hear of it at once, and not when a timer says so.
  await turn();
  expect(told.at(-1)).toBe('lapsed: the machine has slept');
  // It may have run out, or not: a word of etcd that was asked for since says which.
  etcd.isSilent = false;
  await until('it is held again', () => refusal() === undefined);
  expect(told.at(-1)).toBe('up false');
  expect(etcd.grants).toBe(1);
});

test('FAULT-84 a tenth of the lease is the most that the clocks may differ by', async () => {
  const { machine, etcd, refusal } = await held();
  etcd.isSilent = true;
  machine.sleptMs += TTL_MS / 20;
  await turn();
  expect(refusal()).toBeUndefined();
  machine.sleptMs += TTL_MS / 10;
  await turn();
  expect(refusal()).toBe('LeaseLost');
});

test('FAULT-84 a leader that has nothing to acknowledge steps down by itself', async () => {
  const { machine, etcd, told } = await held();
  etcd.isSilent = true;
  machine.sleptMs += 10 * TTL_MS;
  await until('it has', () => told.at(-1) === 'lapsed: the machine has slept', TTL_MS / 2);
});

test('FAULT-84 an answer to what was sent before the sleep holds nothing', async () => {
  const { machine, etcd, refusal, session } = await held();
  etcd.isSilent = true;
  await until('a keepalive is under way', () => etcd.sent.length > 0);
  machine.sleptMs += 10 * TTL_MS;
  etcd.answer();
  await turn();
  expect(refusal()).toBe('LeaseLost');
  expect(session.knownUntilMs).toBeLessThanOrEqual(performance.now());
});

test('FAULT-84 nor does a lease that was granted before it', async () => {
  const all = start((etcd, machine) => {
    etcd.isSilent = true;
    etcd.sleepsInGrant = () => {
      machine.sleptMs += 10 * TTL_MS;
    };
  });
  await until('it is granted', () => all.told.includes('up true'));
  expect(all.refusal()).toBe('LeaseLost');
  all.etcd.isSilent = false;
  await until('it is held once it was asked for again', () => all.refusal() === undefined);
});

test('the clocks of this machine agree, also where uptime comes in whole seconds', () => {
  const since = twoClocks();
  const end = performance.now() + 300;
  let worst = false;
  while (performance.now() < end) worst ||= haveParted(since, twoClocks(), 100);
  expect(worst).toBe(false);
  const at = (monotonicMs: number, uptimeMs: number): Moment => ({ monotonicMs, uptimeMs });
  expect(haveParted(at(0, 5_000), at(1_900, 6_000), 200)).toBe(false);
  expect(haveParted(at(0, 5_000), at(100, 7_000), 200)).toBe(true);
  expect(haveParted(at(0, 5_010), at(100, 5_410), 200)).toBe(true);
});
