/** One node on a fake disk, with sizes that bring a boundary every few entries. */
import type { Node, NodeOptions } from '#src/main/index.js';
import { openNodeOn } from '#src/main/node/open-node.js';
import { SMALL } from './cluster.js';
import type { FakeDisk } from './fake-disk.js';

/** So small that a roll comes every few groups. */
export const TINY = {
  ...SMALL,
  segmentBytes: 16 * 1024,
  groupBytes: 4 * 1024,
  maxEntryBytes: 2 * 1024,
  memoryBudgetBytes: 64 * 1024,
  maxSpaces: 16,
} as const;

export function openFake(disk: FakeDisk, more: Partial<NodeOptions> = {}): Promise<Node> {
  return openNodeOn(disk.mount(), { ...TINY, dataDir: '/data', nodeId: 'a', ...more });
}
