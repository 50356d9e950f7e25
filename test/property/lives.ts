/** What a life is opened with: options that differ from one to the next. */
import type { NodeOptions } from '#src/main/index.js';
import type { Chance } from '../support/chance.js';
import type { Life } from './world.js';

export const MODES = ['per-batch', 'per-write', 'timer', 'none'] as const;
export type Mode = (typeof MODES)[number];

/** @param modes the fsync modes to choose from */
export function nextLife(chance: Chance, modes: readonly Mode[] = MODES): Life {
  const mode = modes[chance(modes.length)]!;
  const fsync: NodeOptions['fsync'] = mode === 'timer' ? { timerMs: 1 + chance(30) } : mode;
  const promise = mode === 'timer' || mode === 'none' ? 'written' : 'durable';
  return { options: { fsync }, promise };
}
