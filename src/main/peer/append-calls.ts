/**
 * Appends on their way to members that lead: a few connections to each, one append at a time on
 * every one, what comes meanwhile waits. None is sent twice: where its connection ends before the
 * answer is here, nobody knows what has become of it, and that is said.
 */
import { type EngramError, failure } from '../../shared/errors.js';
import { APPEND_CALL_LIFE_MS, APPEND_CALLS_MAX } from '../../shared/limits.js';
import type { Member } from '../../shared/log/node-record.js';
import type { Epoch, Sequence } from '../../shared/position.js';
import type { AppendAsk } from '../../shared/wire/append-frames.js';
import { declined, type PeerCall, type PeerClient } from './client.js';

/** An open connection that nothing is asked on. */
interface Idle {
  readonly call: PeerCall;
  readonly openedMs: number;
  readonly timer: NodeJS.Timeout;
}

/** The connections to one member. */
interface Line {
  readonly idle: Idle[];
  busy: number;
  /** Whoever waits for one, in order. */
  readonly waiting: (() => void)[];
}

export class AppendCalls {
  readonly #peers: PeerClient;
  readonly #idleMs: number;
  readonly #lines = new Map<string, Line>();

  /** @param idleMs for how long a connection is kept that nothing is asked on */
  constructor(peers: PeerClient, idleMs: number) {
    this.#peers = peers;
    this.#idleMs = idleMs;
  }

  /**
   * What the append comes to at the member, sent once. Rejects OutcomeUnknown where it was sent and
   * no answer came; as `PeerClient.open` does where it was not sent; and as the member refuses it.
   * @param untilMs the caller's deadline, monotonic
   */
  async append(
    member: Member,
    ask: Omit<AppendAsk, 'leftMs'>,
    untilMs: number,
  ): Promise<{ sequence: Sequence; epoch: Epoch }> {
    const line = this.#line(member);
    await this.#turn(line, member, untilMs);
    let idle: Idle | undefined;
    try {
      idle = await this.#connection(line, member, untilMs);
      const { call } = idle;
      const leftMs = Math.max(1, Math.floor(untilMs - performance.now()));
      const question = { kind: 'append-ask', ...ask, leftMs } as const;
      const asked = call.ask(question, ['appended', 'append-refused'], leftMs);
      const answers = await asked.catch((error: Error) => {
        // A call that goes on was answered: with a refusal.
        throw call.isOver ? unknownOutcome(member, error) : error;
      });
      return resultOf(answers[0], member);
    } finally {
      line.busy--;
      if (idle && !idle.call.isOver) this.#keep(line, idle);
      line.waiting.shift()?.();
    }
  }

  #line({ nodeId, host, port }: Member): Line {
    const key = `${nodeId} ${host}:${port}`;
    let line = this.#lines.get(key);
    if (!line) {
      for (const [other, { busy, idle }] of this.#lines) {
        if (busy === 0 && idle.length === 0) this.#lines.delete(other);
      }
      line = { idle: [], busy: 0, waiting: [] };
      this.#lines.set(key, line);
    }
    return line;
  }

  /** Resolves when one of the connections may be used. */
  async #turn(line: Line, { nodeId }: Member, untilMs: number): Promise<void> {
    while (line.busy >= APPEND_CALLS_MAX) {
      let timer: NodeJS.Timeout | undefined;
      const isLate = await new Promise<boolean>((resolve) => {
        const go = (): void => resolve(false);
        line.waiting.push(go);
        timer = setTimeout(() => {
          const at = line.waiting.indexOf(go);
          if (at >= 0) line.waiting.splice(at, 1);
          resolve(at >= 0);
        }, untilMs - performance.now());
      });
      clearTimeout(timer);
      if (isLate) {
        throw failure('ConnectionTimeout', `appends before this one wait for ${nodeId}; not sent`);
      }
    }
    line.busy++;
  }

  async #connection(line: Line, member: Member, untilMs: number): Promise<Idle> {
    for (let kept = line.idle.pop(); kept; kept = line.idle.pop()) {
      clearTimeout(kept.timer);
      const isYoung = performance.now() - kept.openedMs < APPEND_CALL_LIFE_MS;
      if (isYoung && !kept.call.isOver) return kept;
      kept.call.close();
    }
    const leftMs = Math.max(1, untilMs - performance.now());
    const call = await this.#peers.open(member, leftMs);
    return { call, openedMs: performance.now(), timer: setTimeout(() => undefined, 0) };
  }

  #keep(line: Line, { call, openedMs }: Idle): void {
    const timer = setTimeout(() => {
      line.idle.splice(line.idle.indexOf(idle), 1);
      call.close();
    }, this.#idleMs);
    timer.unref();
    const idle = { call, openedMs, timer };
    line.idle.push(idle);
  }
}

function unknownOutcome({ nodeId }: Member, cause: Error): EngramError {
  const why = cause.message.split('\n', 1)[0];
  return failure('OutcomeUnknown', `an append was led to ${nodeId}, and then: ${why}`, { cause });
}

type Answer = Awaited<ReturnType<typeof PeerCall.prototype.ask<'appended' | 'append-refused'>>>[0];

function resultOf(answer: Answer | undefined, member: Member): { sequence: number; epoch: number } {
  if (answer?.kind === 'appended') return { sequence: answer.sequence, epoch: answer.epoch };
  if (!answer) throw unknownOutcome(member, new Error('it answered with nothing'));
  const { code, message, last, epoch } = answer;
  throw declined(code, message, code === 'SequenceConflict' ? { details: { last, epoch } } : {});
}
