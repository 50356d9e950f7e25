/** Reserves the memory that the threads of a node share. */
import { failure } from '../../shared/errors.js';
import { allocateMemory, NodeMemory } from '../../shared/memory/slab.js';
import type { NodeConfig } from '../options/options.js';

/** Throws Configuration where the process cannot have as much. */
export function reserveMemory(config: NodeConfig): NodeMemory {
  const { groupBytes, memoryBudgetBytes, maxSpaces } = config;
  try {
    return new NodeMemory(allocateMemory(groupBytes, memoryBudgetBytes, maxSpaces));
  } catch (cause) {
    const wanted = `memoryBudgetBytes ${memoryBudgetBytes} and maxSpaces ${maxSpaces}`;
    const found = `${wanted} are more than this process can have: ${(cause as Error).message}`;
    throw failure('Configuration', found, { cause, details: { option: 'memoryBudgetBytes' } });
  }
}
