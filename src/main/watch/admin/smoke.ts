/**
 * What a person tries on a running node to see that it works: append an entry, read some, look at
 * the spaces. Answers are bounded, whatever is asked for.
 */
import { failure } from '../../../shared/errors.js';
import { byName } from '../../../shared/natural-order.js';
import type { Sequence } from '../../../shared/position.js';
import type { OperatedNode, OperatedSpace } from '../seen-node.js';
import type { SpaceStatus } from '../status.js';

/** Entries, and bytes of them, of one answer. */
const ENTRIES_MAX = 1_000;
const ANSWER_MAX_BYTES = 1024 * 1024;
/** Spaces of one answer. */
const SPACES_MAX = 1_000;

export type SmokeQuestion =
  | {
      readonly verb: 'append';
      readonly space: string;
      readonly type: number;
      /** base64. */
      readonly payload: string;
      /** Durable on so many replicas, too. */
      readonly ack?: number;
      /** Makes the space here, where nobody has it. */
      readonly create?: boolean;
    }
  | {
      readonly verb: 'read';
      readonly space: string;
      /** The first that is wanted; else the last `limit`. */
      readonly from?: Sequence;
      readonly limit: number;
    }
  | { readonly verb: 'spaces'; readonly search?: string; readonly after?: string }
  | { readonly verb: 'space'; readonly space: string };

/** An entry as it is told through the socket. */
export interface ToldEntry {
  readonly sequence: Sequence;
  readonly epoch: number;
  readonly type: number;
  readonly timestampNs: string;
  /** base64. */
  readonly payload: string;
}

/** One space of a list. */
export interface ToldSpace {
  readonly name: string;
  readonly role: 'primary' | 'replica';
  readonly primaryNodeId: string;
  readonly epoch: number;
  readonly firstSequence: Sequence;
  readonly durableSequence: Sequence;
}

export interface ToldSpaces {
  readonly spaces: readonly ToldSpace[];
  /** Where the next question goes on; undefined: these are all. */
  readonly after: string | undefined;
}

export async function tried(node: OperatedNode, question: SmokeQuestion): Promise<unknown> {
  switch (question.verb) {
    case 'append': {
      const { type, payload, ack } = question;
      const space = await spaceFor(node, question);
      const options = ack === undefined ? {} : { ack: { replicas: ack } };
      return await space.append(type, Buffer.from(payload, 'base64'), options);
    }
    case 'read':
      return await read(node.space(question.space), question);
    case 'spaces':
      return spacesOf(node, question);
    case 'space': {
      const { isReplicated: _, ...told } = node.space(question.space).status();
      return told satisfies Omit<SpaceStatus, 'isReplicated'>;
    }
  }
}

async function spaceFor(
  node: OperatedNode,
  { space, create }: { readonly space: string; readonly create?: boolean },
): Promise<OperatedSpace> {
  return create ? await node.openSpace(space, { lead: true }) : node.space(space);
}

async function read(
  space: OperatedSpace,
  { from, limit }: { readonly from?: Sequence; readonly limit: number },
): Promise<{ entries: readonly ToldEntry[] }> {
  if (!Number.isSafeInteger(limit) || limit < 1) {
    throw failure('Configuration', `read: limit ${String(limit)} is no whole number from 1`);
  }
  const most = Math.min(limit, ENTRIES_MAX);
  const { durableSequence } = space.status();
  const entries: ToldEntry[] = [];
  if (durableSequence === 0 || (from !== undefined && from > durableSequence)) return { entries };
  let bytes = 0;
  for await (const entry of space.read(from === undefined ? { last: most } : { from })) {
    const { sequence, epoch, type, timestamp } = entry;
    const payload = Buffer.from(entry.payload).toString('base64');
    entries.push({ sequence, epoch, type, timestampNs: String(timestamp), payload });
    bytes += payload.length;
    if (entries.length >= most || bytes >= ANSWER_MAX_BYTES) break;
  }
  return { entries };
}

function spacesOf(
  node: OperatedNode,
  { search = '', after = '' }: { readonly search?: string; readonly after?: string },
): ToldSpaces {
  const found = node.spaces
    .filter(({ name }) => name.includes(search) && byName(name, after) > 0)
    .sort((a, b) => byName(a.name, b.name));
  const shown = found.slice(0, SPACES_MAX).map((space): ToldSpace => {
    const { name, role, primaryNodeId, epoch, firstSequence, durableSequence } = space.status();
    return { name, role, primaryNodeId, epoch, firstSequence, durableSequence };
  });
  return { spaces: shown, after: found.length > shown.length ? shown.at(-1)?.name : undefined };
}
