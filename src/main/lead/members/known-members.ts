/**
 * Every other node that this one knows of: configured or added, named by its coordinator, a member
 * of a space that is here, or the one that leads it.
 */
import { type Address, dialable } from '../../../shared/address.js';
import type { Member } from '../../../shared/log/node-record.js';
import { countingSets } from '../../../shared/members/members.js';
import type { SpaceState } from '../../log/space-table.js';
import { Turns } from '../../runtime/turns.js';

export interface KnownMember {
  readonly nodeId: string;
  /** Where it listens; undefined: nobody has said, or it does not. */
  readonly address: Address | undefined;
  /** Of the spaces that are here, how many it leads. */
  readonly led: number;
}

/**
 * @param nodeId of this node, which is none of them
 * @param named configured, added, or named by the coordinator: where those listen counts
 */
export async function knownMembers(
  nodeId: string,
  named: readonly Member[],
  spaces: readonly SpaceState[],
): Promise<KnownMember[]> {
  const found = new Map<string, { address: Address | undefined; led: number }>();
  const meet = (id: string, at?: Member): { led: number } => {
    let known = found.get(id);
    if (!known) {
      known = { address: undefined, led: 0 };
      found.set(id, known);
    }
    known.address ??= dialable(at);
    return known;
  };
  for (const member of named) meet(member.nodeId, member);
  const turns = new Turns();
  for (const { facts } of spaces) {
    if (turns.isOver) await turns.next();
    turns.spaces--;
    for (const member of facts.members) meet(member.nodeId, member);
    for (const set of countingSets(facts.sets)) {
      for (const member of set.members) meet(member.nodeId);
    }
    if (facts.primary !== '') meet(facts.primary).led++;
  }
  found.delete(nodeId);
  return [...found].map(([id, known]) => ({ nodeId: id, ...known }));
}
