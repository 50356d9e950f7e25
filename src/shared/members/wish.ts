/**
 * Which set of members comes next (DESIGN 14), by the nodes that a space is to be on and what is
 * known of them. Pure: asked again and again until what is wished is what counts.
 */
import {
  isMember,
  type MemberId,
  type MemberSet,
  type Members,
  UNKNOWN_DIRECTORY,
} from './members.js';

/** A node that the space is to be on, besides the primary. */
export interface WishedNode {
  readonly nodeId: string;
  /** At the other end of its link, 32 hex digits; undefined: there is none, or of version 1. */
  readonly directoryId: string | undefined;
  /** It gets what it lacks, or may begin to soon: it is about to be ready. */
  readonly isComing: boolean;
  /** It has what the primary had a moment ago, so it may count. */
  readonly isReady: boolean;
}

/** The set of a space whose log knows of none: every directory of these nodes fits. */
export function carriedSet(nodeIds: readonly string[], keep: number): MemberSet {
  return { members: nodeIds.map((nodeId) => ({ nodeId, directoryId: UNKNOWN_DIRECTORY })), keep };
}

/**
 * The set to go to now; the same as `current` where nothing can be done yet. A directory that is
 * new comes in once it is ready, in exchange for the one before under its name; a node that is no
 * longer wished goes out, but not while another one is about to come in.
 */
export function nextSet(
  current: MemberSet,
  own: MemberId,
  wished: readonly WishedNode[],
): MemberSet {
  const members: MemberId[] = [own];
  let isComing = false;
  for (const node of wished) {
    const member = current.members.find((m) => m.nodeId === node.nodeId);
    const { nodeId, directoryId } = node;
    const isKnown = directoryId === undefined || directoryId === member?.directoryId;
    if (member && isKnown) members.push(member);
    else if (directoryId !== undefined && node.isReady) members.push({ nodeId, directoryId });
    else {
      if (member) members.push(member);
      isComing ||= node.isComing;
    }
  }
  const isIn = (id: string): boolean => members.some((m) => m.nodeId === id);
  if (isComing) members.push(...current.members.filter((m) => !isIn(m.nodeId)));
  return { members, keep: current.keep };
}

/** Wished nodes whose directory does not count: what they have flushed is nobody's business. */
export function learners(current: MemberSet, wished: readonly WishedNode[]): string[] {
  return wished
    .filter(({ nodeId, directoryId }) => {
      const member = current.members.find((m) => m.nodeId === nodeId);
      if (!member) return true;
      const isBound = member.directoryId !== UNKNOWN_DIRECTORY && directoryId !== undefined;
      return isBound && member.directoryId !== directoryId;
    })
    .map(({ nodeId }) => nodeId);
}

/** Whom a pending change takes in: until it is settled those before have to agree without them. */
export function comers({ old, next }: Members): string[] {
  if (!old) return [];
  return next.members.filter((m) => !isMember(old, m)).map((m) => m.nodeId);
}
