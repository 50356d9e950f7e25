/** What a life is opened with: options that differ from one to the next. */
import type { NodeOptions } from '#src/main/index.js';
import type { Chance } from '../support/chance.js';
import type { Life } from './world.js';

export const MODES = ['per-batch', 'per-write', 'timer', 'none'] as const;
export type Mode = (typeof MODES)[number];

/**
 * @param modes the fsync modes to choose from
 * @param longestBytes of any entry so far
 */
export function nextLife(chance: Chance, modes: readonly Mode[] = MODES, longestBytes = 0): Life {
  const mode = modes[chance(modes.length)]!;
  const fsync: NodeOptions['fsync'] = mode === 'timer' ? { timerMs: 1 + chance(30) } : mode;
  const promise = mode === 'timer' || mode === 'none' ? 'written' : 'durable';
  const strictTail = chance(2) === 0;
  return { options: { fsync, strictTail, ...anySizes(chance, longestBytes) }, promise };
}

/** Each of them other than in the life before, all of them fitting what there is. */
function anySizes(chance: Chance, longestBytes: number): Partial<NodeOptions> {
  const leastBytes = Math.max(2 * 1024, longestBytes);
  const groupBytes = Math.max(1024 * (4 + chance(5)), leastBytes + 64);
  return {
    groupBytes,
    segmentBytes: 64 * Math.ceil((groupBytes * (2 + chance(4))) / 64),
    maxEntryBytes: leastBytes + chance(2) * (groupBytes - 64 - leastBytes),
    memoryBudgetBytes: groupBytes * (6 + chance(12)),
    maxSpaces: [4, 16, 300][chance(3)]!,
    sealerThreads: 1 + chance(2),
  };
}
