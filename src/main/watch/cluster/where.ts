/** Where a space is: who leads it, who has it, and how far each of them has come. */
import { shown } from '../../../shared/shown.js';
import type { StandingRow } from '../../../shared/wire/peer-frames.js';
import type { SpaceStatus } from '../status.js';
import type { CopyJson, WhereJson } from './cluster-json.js';

/** What one member has, before it is held against what the leader has. */
export interface Copy extends Omit<CopyJson, 'lagEntries'> {
  /** Whom it takes for the leader; '': nobody. */
  readonly primary: string;
}

const NOTHING = { primary: '', epoch: 0, flushed: 0, applied: null, first: 0, isWhole: true };

export function ownCopy(nodeId: string, status: SpaceStatus | undefined): Copy {
  if (!status) return { ...NOTHING, nodeId, role: 'none', reason: '' };
  return {
    nodeId,
    role: status.role,
    primary: status.primaryNodeId,
    epoch: status.epoch,
    flushed: status.durableSequence,
    applied: status.isApplied ? status.appliedSequence : null,
    first: status.firstSequence,
    isWhole: status.damage.length === 0,
    reason: status.refusal?.message ?? '',
  };
}

/** @param told what it has said; a text: why it has said nothing */
export function toldCopy(nodeId: string, told: StandingRow | string): Copy {
  if (typeof told === 'string') return { ...NOTHING, nodeId, role: 'unknown', reason: told };
  if (!told.isKnown) return { ...NOTHING, nodeId, role: 'none', reason: '' };
  const { role, epoch, flushed, first, isWhole } = told;
  // Who has no host says 0: what nobody applies is not behind.
  const applied = told.applied > 0 ? told.applied : null;
  const primary = shown(told.primary);
  return { nodeId, role, primary, epoch, flushed, applied, first, isWhole, reason: '' };
}

export function whereOf(name: string, copies: readonly Copy[]): WhereJson {
  const held = copies.filter(({ role }) => role === 'primary' || role === 'replica');
  const newest = Math.max(0, ...held.map(({ epoch }) => epoch));
  const leads = held.find(({ role, epoch }) => role === 'primary' && epoch === newest);
  const named = held.find(({ primary, epoch }) => epoch === newest && primary !== '');
  const end = leads?.flushed;
  return {
    name,
    leader: leads?.nodeId ?? named?.primary ?? null,
    isSure: leads !== undefined,
    copies: copies.map(({ primary: _, ...copy }) => {
      const isHeld = copy.role === 'primary' || copy.role === 'replica';
      const lagEntries = isHeld && end !== undefined ? Math.max(0, end - copy.flushed) : null;
      return { ...copy, lagEntries };
    }),
  };
}
