/** All spaces of a lost node, or of a restored backup, promoted at one question. */
import { EngramError, failure, firstLine } from '../../../shared/errors.js';
import type { LostEntries } from '../../../shared/lead/promotion-verdict.js';
import type { PromoteOptions } from '../../lead/promotion/promotion.js';
import { inParts } from '../../runtime/turns.js';
import type { OperatedNode } from '../seen-node.js';

/** What came of it; with `dryRun` what would come of it. */
export interface ManyPromoted {
  readonly spaces: number;
  /** So many of them this node leads now. */
  readonly led: number;
  /** The first of the others, and why. */
  readonly refused: readonly { readonly space: string; readonly reason: string }[];
  /** Entries that are lost, and the first spaces of which some are. */
  readonly lostEntries: number;
  readonly lost: readonly (LostEntries & { readonly space: string })[];
  /** Members that it was made without, and that may have more. */
  readonly passedOver: readonly string[];
}

/** So many are named. */
const NAMED_MAX = 20;

/**
 * Promotes, each by its own rules, the spaces here that follow a node.
 * @param of its id; '': those that follow nobody, as in a restored backup
 * Rejects SpaceUnknown where there is none.
 */
export async function promoteMany(
  node: OperatedNode,
  of: string,
  options: PromoteOptions,
): Promise<ManyPromoted> {
  const names = node.spaces
    .map((space) => space.status())
    .filter(({ role, primaryNodeId }) => role === 'replica' && primaryNodeId === of)
    .map(({ name }) => name);
  if (names.length === 0) {
    throw failure('SpaceUnknown', `no space here follows ${of === '' ? 'nobody' : of}`);
  }
  const refused: { space: string; reason: string }[] = [];
  const lost: (LostEntries & { space: string })[] = [];
  const passedOver = new Set<string>();
  let [led, lostEntries] = [0, 0];
  const one = async (space: string): Promise<void> => {
    try {
      const report = await node.promote(space, options);
      if (options.dryRun && !report.isQualified)
        throw failure('PromotionRefused', 'look at it alone to see why');
      led++;
      for (const tail of report.lost) {
        lostEntries += tail.entries;
        if (lost.length < NAMED_MAX) lost.push({ space, ...tail });
      }
      for (const { nodeId } of report.passedOver) passedOver.add(nodeId);
    } catch (error) {
      if (!(error instanceof EngramError)) throw error;
      if (refused.length < NAMED_MAX) refused.push({ space, reason: firstLine(error) });
    }
  };
  await inParts(names, one);
  return { spaces: names.length, led, refused, lostEntries, lost, passedOver: [...passedOver] };
}
