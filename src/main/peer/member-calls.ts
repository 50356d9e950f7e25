/**
 * What is asked of members about spaces, on its way: questions of one moment to one member go
 * together, many spaces in one call, and so many calls at once and no more; what comes meanwhile
 * waits for the next one. So thousands of spaces that lose their leader in one moment cost a
 * member a few connections, and no more groups of its log than those.
 */
import { failure } from '../../shared/errors.js';
import {
  ASK_SPACES_MAX,
  MEMBER_ASK_MS,
  MEMBER_CALL_MAX_MS,
  MEMBER_CALLS_MAX,
} from '../../shared/limits.js';
import type { Member } from '../../shared/log/node-record.js';
import type { Epoch } from '../../shared/position.js';
import type { StandingRow, TipRow } from '../../shared/wire/peer-frames.js';
import type { Promised } from '../../shared/wire/role-frames.js';
import type { PeerCall, PeerClient } from './client.js';

/** A question about one space, and who waits for the answer. */
interface Ask<A> {
  readonly id: string;
  /** Monotonic ms. */
  readonly sinceMs: number;
  resolve(answer: A): void;
  reject(error: Error): void;
}

interface PromiseAsk extends Ask<Promised> {
  readonly epoch: Epoch;
}

/**
 * Puts questions about different spaces in one call; each answer goes to who waits for it.
 * `next`: something was heard; how long the next answer may take, in ms.
 */
type Put<Q> = (call: PeerCall, asks: readonly Q[], next: () => number) => Promise<void>;

/** What is asked of one member in one way. */
class Line<Q extends Ask<never>> {
  readonly #put: Put<Q>;
  readonly #open: () => Promise<PeerCall>;
  #waiting: Q[] = [];
  #calls = 0;
  #isScheduled = false;
  #late: NodeJS.Timeout | undefined;
  /** When the member has answered last, monotonic ms. */
  #heardMs = 0;

  constructor(open: () => Promise<PeerCall>, put: Put<Q>) {
    this.#open = open;
    this.#put = put;
  }

  get isIdle(): boolean {
    return this.#calls === 0 && this.#waiting.length === 0;
  }

  add(ask: Q): void {
    this.#waiting.push(ask);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    // What others ask in this turn goes with it.
    setImmediate(() => {
      this.#isScheduled = false;
      this.#pump();
    });
  }

  #pump(): void {
    while (this.#waiting.length > 0 && this.#calls < MEMBER_CALLS_MAX) void this.#call();
    clearTimeout(this.#late);
    const [first] = this.#waiting;
    if (!first) return;
    const sinceMs = Math.max(first.sinceMs, this.#heardMs);
    this.#late = setTimeout(() => this.#expire(), sinceMs + MEMBER_ASK_MS - performance.now());
  }

  /** Who waits at a member that answers others goes on waiting; else it is as silent to it. */
  #expire(): void {
    const sinceMs = performance.now() - MEMBER_ASK_MS;
    while (this.#heardMs <= sinceMs && this.#waiting[0] && this.#waiting[0].sinceMs <= sinceMs) {
      this.#waiting.shift()!.reject(failure('ConnectionTimeout', 'no answer to those before'));
    }
    this.#pump();
  }

  /** One space stands in a call once. */
  #take(): Q[] {
    const taken = new Map<string, Q>();
    const left: Q[] = [];
    for (const ask of this.#waiting) {
      if (taken.size < ASK_SPACES_MAX && !taken.has(ask.id)) taken.set(ask.id, ask);
      else left.push(ask);
    }
    this.#waiting = left;
    return [...taken.values()];
  }

  async #call(): Promise<void> {
    this.#calls++;
    const sinceMs = performance.now();
    let asks = this.#take();
    try {
      const call = await this.#open();
      try {
        while (asks.length > 0) {
          await this.#ask(call, asks);
          // What has come meanwhile goes on the same connection: a greeting costs more than it.
          asks = performance.now() - sinceMs < MEMBER_CALL_MAX_MS ? this.#take() : [];
        }
      } finally {
        call.close();
      }
    } catch (error) {
      for (const ask of asks) ask.reject(error as Error);
    }
    this.#calls--;
    this.#pump();
  }

  async #ask(call: PeerCall, asks: readonly Q[]): Promise<void> {
    const untilMs = performance.now() + MEMBER_CALL_MAX_MS;
    await this.#put(call, asks, () => {
      this.#heardMs = performance.now();
      return Math.max(1, Math.min(MEMBER_ASK_MS, untilMs - this.#heardMs));
    });
    // As a rule all have been answered: one error for whoever has not.
    const none = failure('ProtocolViolation', 'it gave no answer');
    for (const ask of asks) ask.reject(none);
  }
}

/** How this node asks members, whoever of it asks. */
export class MemberCalls {
  readonly #peers: PeerClient;
  readonly #lines = new Map<string, Line<never>>();

  constructor(peers: PeerClient) {
    this.#peers = peers;
  }

  /** Where a member stands in a space. Rejects as `PeerClient.ask` does. */
  standing(member: Member, id: string): Promise<StandingRow> {
    const line = this.#line(member, 'standing', putStanding);
    return asked((answer) => line.add({ id, ...answer }));
  }

  /** What the member has durable of a space that it leads. Rejects as `PeerClient.ask` does. */
  tip(member: Member, id: string): Promise<TipRow> {
    const line = this.#line(member, 'tip', putTips);
    return asked((answer) => line.add({ id, ...answer }));
  }

  /**
   * A member's word on an epoch of a space, for this candidate. Rejects as `PeerClient.ask` does.
   */
  promise(member: Member, id: string, epoch: Epoch, candidate: Member): Promise<Promised> {
    const from = `${candidate.host}:${candidate.port}`;
    const line = this.#line(member, `promise ${from}`, putPromises(candidate));
    return asked((answer) => line.add({ id, epoch, ...answer }));
  }

  #line<Q extends Ask<never>>(member: Member, kind: string, put: Put<Q>): Line<Q> {
    const key = `${kind} ${member.nodeId} ${member.host}:${member.port}`;
    let line = this.#lines.get(key) as Line<Q> | undefined;
    if (!line) {
      // Members move: what is asked nowhere any more is forgotten.
      for (const [other, { isIdle }] of this.#lines) if (isIdle) this.#lines.delete(other);
      line = new Line(() => this.#peers.open(member, MEMBER_ASK_MS), put);
      this.#lines.set(key, line as unknown as Line<never>);
    }
    return line;
  }
}

function byId<Q extends Ask<never>>(asks: readonly Q[]): ReadonlyMap<string, Q> {
  return new Map(asks.map((ask) => [ask.id, ask]));
}

function asked<A>(add: (ask: Omit<Ask<A>, 'id'>) => void): Promise<A> {
  const sinceMs = performance.now();
  return new Promise((resolve, reject) => add({ sinceMs, resolve, reject }));
}

const putStanding: Put<Ask<StandingRow>> = async (call, asks, next) => {
  const question = { kind: 'standing-ask', ids: asks.map((ask) => ask.id) } as const;
  const waiting = byId(asks);
  await call.ask(question, ['standing'], MEMBER_ASK_MS, ({ rows }) => {
    for (const row of rows) waiting.get(row.id)?.resolve(row);
    return next();
  });
};

const putTips: Put<Ask<TipRow>> = async (call, asks, next) => {
  const question = { kind: 'tip-ask', ids: asks.map((ask) => ask.id) } as const;
  const waiting = byId(asks);
  await call.ask(question, ['tips'], MEMBER_ASK_MS, ({ rows }) => {
    for (const row of rows) waiting.get(row.id)?.resolve(row);
    return next();
  });
};

function putPromises(candidate: Member): Put<PromiseAsk> {
  return async (call, asks, next) => {
    // Who speaks version 1 is asked for one after the other.
    if (call.version < 2) return await putEach(call, candidate, asks, next);
    const waiting = byId(asks);
    const rows = asks.map(({ id, epoch }) => ({ id, epoch }));
    // As they come: who waits for one space waits for no other.
    const question = { kind: 'promises', candidate, rows } as const;
    await call.ask(question, ['promises-given'], MEMBER_ASK_MS, (given) => {
      for (const row of given.rows) waiting.get(row.id)?.resolve(row);
      return next();
    });
  };
}

async function putEach(
  call: PeerCall,
  candidate: Member,
  asks: readonly PromiseAsk[],
  next: () => number,
): Promise<void> {
  let ms = MEMBER_ASK_MS;

  for (const { id, epoch, resolve, reject } of asks) {
    const question = { kind: 'promise', id, epoch, candidate, handover: 0n } as const;
    const answer = call.ask(question, ['promised'], ms);
    // It has declined this one alone, where the call goes on.
    await answer.then(([given]) => {
      ms = next();
      if (given) resolve(given);
    }, reject);
  }
}
