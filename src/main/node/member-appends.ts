/** Appends from any member of a space: made here where this node leads it, else led to who does. */
import { type EngramError, failure } from '../../shared/errors.js';
import { readGiven, viewOf } from '../../shared/host-input.js';
import {
  DEFAULT_ACK_TIMEOUT_MS,
  LED_APPENDS_MAX,
  LED_APPENDS_MAX_BYTES,
} from '../../shared/limits.js';
import type { Member } from '../../shared/log/node-record.js';
import { checkName, idOf } from '../../shared/names.js';
import { checkTimeout, wrong } from '../../shared/option-checks.js';
import type { AppendAsk } from '../../shared/wire/append-frames.js';
import type { SpaceTable } from '../log/space-table.js';
import type { AppendCalls } from '../peer/append-calls.js';
import { abortable } from '../runtime/abort.js';
import { stayAlive } from '../runtime/alive.js';
import { within } from '../runtime/deadline.js';
import type { LeadPart } from './lead-part.js';
import { checkPayload } from './space/appends.js';
import {
  type Appended,
  type AppendOptions,
  readAck,
  readExpected,
  readUntil,
} from './space/options.js';
import type { Space } from './space.js';
import type { SpaceHandles } from './space-handles.js';

export interface MemberAppendOptions extends AppendOptions {
  /** For all of it: finding who leads, the way there, the append, `here`. Default 5,000. */
  readonly timeoutMs?: number;
  /** true: resolve when this member has flushed the entry too. It needs a copy of the space. */
  readonly here?: boolean;
}

const KNOWN = ['ack', 'wait', 'until', 'expected', 'signal', 'timeoutMs', 'here'] as const;

/** The node led once, or could not be reached; what is lost behind the question is told apart. */
const NOT_TAKEN: readonly string[] = ['NotPrimary', 'ConnectionRefused', 'ConnectionLost'];

interface AppendParts {
  readonly nodeId: string;
  readonly maxEntryBytes: number;
  readonly applyWhenLeading: boolean;
  readonly spaces: SpaceTable;
  readonly lead: LeadPart;
  readonly handles: SpaceHandles;
  readonly calls: AppendCalls;
}

/** One append as the host has asked for it. */
interface Asked {
  readonly ask: Omit<AppendAsk, 'leftMs'>;
  readonly name: string;
  readonly here: boolean;
  readonly isApplied: boolean;
  /** Monotonic ms. */
  readonly untilMs: number;
  /** Of `ack`; undefined: as long as there is. */
  readonly ackMs: number | undefined;
}

export class MemberAppends {
  readonly #parts: AppendParts;
  /** Who led a space when it was asked last. */
  readonly #leaders = new Map<string, Member>();
  /** On their way. */
  #count = 0;
  #bytes = 0;

  constructor(parts: AppendParts) {
    this.#parts = parts;
  }

  /** See Node.append. */
  async append(
    name: string,
    type: number,
    payload: Uint8Array,
    options: MemberAppendOptions | undefined,
  ): Promise<Appended> {
    checkName('append: space', name);
    const given = readGiven<MemberAppendOptions>('append', options, KNOWN);
    const { wait = true, here = false, timeoutMs = DEFAULT_ACK_TIMEOUT_MS } = given;
    for (const [key, value] of Object.entries({ wait, here })) {
      if (typeof value !== 'boolean') throw wrong(`append: ${key}`, value, 'true or false');
    }
    checkTimeout('append: timeoutMs', timeoutMs);
    const ack = given.ack === undefined ? undefined : readAck('ack', given.ack);
    const expected = given.expected === undefined ? undefined : readExpected(given.expected);
    const isApplied = readUntil('append', given.until, this.#parts.applyWhenLeading);
    checkPayload(type, payload, this.#parts.maxEntryBytes);
    // The host may change its own as soon as this has returned.
    const copy = Uint8Array.from(viewOf(payload));
    const ask = { id: idOf(name), type, replicas: ack?.replicas, wait, expected, payload: copy };
    const untilMs = performance.now() + timeoutMs;
    const ackMs = ack?.timeoutMs;
    const asked = { ask, name, here: here || isApplied, isApplied, untilMs, ackMs };
    return await stayAlive(abortable('append', given.signal, () => this.#append(asked)));
  }

  async #append(asked: Asked): Promise<Appended> {
    const { name, here } = asked;
    const space = this.#spaceOf(name);
    if (space?.isLed) return await this.#own(space.handle, asked);
    if (here && !space) {
      throw failure('SpaceUnknown', `${name} is not on this node, and is to be waited for here`);
    }
    const end = this.#begin(asked.ask.payload.length);
    try {
      const appended = await this.#led(asked);
      if (here && space) await this.#whenHere(space.handle, appended, asked);
      return appended;
    } finally {
      end();
    }
  }

  /** Throws Backpressure. @returns to be called when the append is over */
  #begin(bytes: number): () => void {
    if (this.#count >= LED_APPENDS_MAX || this.#bytes + bytes > LED_APPENDS_MAX_BYTES) {
      const found = `${this.#count} appends of ${this.#bytes} bytes are on their way to who leads`;
      throw failure('Backpressure', found);
    }
    this.#count++;
    this.#bytes += bytes;
    return () => {
      this.#count--;
      this.#bytes -= bytes;
    };
  }

  #spaceOf(name: string): { readonly handle: Space; readonly isLed: boolean } | undefined {
    const state = this.#parts.spaces.byName(name);
    if (!state) return undefined;
    const isLed = state.facts.role === 'primary' && !state.isFenced;
    return { handle: this.#parts.handles.of(state), isLed };
  }

  async #own(space: Space, asked: Asked): Promise<Appended> {
    const { ask, untilMs, ackMs, isApplied } = asked;
    const leftMs = Math.max(1, Math.floor(untilMs - performance.now()));
    const options = optionsOf({ ...ask, leftMs }, ackMs);
    const appended = await space.append(ask.type, ask.payload, options);
    if (isApplied) await this.#whenHere(space, appended, asked);
    return appended;
  }

  /** Sent once; who says that it does not lead has taken nothing, and the one who does is found. */
  async #led(asked: Asked): Promise<Appended> {
    const { name, ask, untilMs } = asked;
    for (let isAgain = false; ; isAgain = true) {
      const known = this.#leaders.get(name);
      const leader = known ?? (await this.#leaderOf(asked));
      if (leader.nodeId === this.#parts.nodeId) return await this.#own(this.#handleOf(name), asked);
      try {
        const appended = await this.#parts.calls.append(leader, ask, untilMs);
        this.#leaders.set(name, leader);
        return appended;
      } catch (error) {
        this.#leaders.delete(name);
        const { code } = error as EngramError;
        if (isAgain || !NOT_TAKEN.includes(code) || performance.now() >= untilMs) throw error;
      }
    }
  }

  #handleOf(name: string): Space {
    const space = this.#spaceOf(name);
    if (!space) throw failure('SpaceUnknown', `${name} is not on this node`);
    return space.handle;
  }

  async #leaderOf({ name, untilMs }: Asked): Promise<Member> {
    const { lead } = this.#parts;
    const located = lead.leadership.locate(name);
    const found = await within(located, Math.max(1, untilMs - performance.now()));
    if (found === 'late') {
      throw failure(
        'ConnectionTimeout',
        `who leads ${name} was not found in time; nothing is sent`,
      );
    }
    const { nodeId, address } = found;
    if (address || nodeId === this.#parts.nodeId) return { nodeId, host: '', port: 0, ...address };
    throw failure('NotPrimary', `${name} is led by ${nodeId}, and nobody knows where it listens`);
  }

  /** The entry is the leader's already; that it is not here in time does not change that. */
  async #whenHere(space: Space, appended: Appended, asked: Asked): Promise<void> {
    const { untilMs, name, isApplied } = asked;
    const { sequence, epoch } = appended;
    const timeoutMs = Math.max(1, Math.floor(untilMs - performance.now()));
    try {
      await space.waitFor(appended, { timeoutMs, applied: isApplied });
    } catch (cause) {
      // It was the leader's, and another history has taken its place.
      if ((cause as EngramError).code === 'Rewound') throw cause;
      const why = (cause as Error).message.split('\n', 1)[0];
      const state = isApplied ? 'applied' : 'flushed';
      const found = `entry ${sequence} of ${name} is appended, and not ${state} here: ${why}`;
      throw failure('AckTimeout', found, { cause, details: { sequence, epoch } });
    }
  }
}

/** Appends for a member that has asked. Rejects as `Space.append` does, and SpaceUnknown. */
export async function takeAppend(
  spaces: SpaceTable,
  handles: SpaceHandles,
  ask: AppendAsk,
): Promise<Appended> {
  const state = spaces.byId(ask.id);
  if (!state || state.slot === 0) throw failure('SpaceUnknown', 'it is not on this node');
  return await handles.of(state).append(ask.type, ask.payload, optionsOf(ask));
}

/** With no more time than the caller still has. */
function optionsOf(ask: AppendAsk, ackMs = ask.leftMs): AppendOptions {
  const { replicas, wait, expected, leftMs } = ask;
  const timeoutMs = Math.max(1, Math.min(leftMs, ackMs));
  const known = expected && (expected.epoch === undefined ? expected.sequence : expected);
  return {
    wait,
    ...(replicas !== undefined && { ack: { replicas, timeoutMs } }),
    ...(known !== undefined && { expected: known as Appended }),
  };
}
