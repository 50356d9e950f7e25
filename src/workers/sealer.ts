/** The pool's task: seals one staged group. Synchronous, as a piscina task must be. */
import { workerData } from 'node:worker_threads';
import { Sealer, type SealJob } from '../shared/log/seal.js';
import { NodeMemory, type SharedMemory } from '../shared/memory/slab.js';

// piscina wraps a pool's own workerData in the second place of an array.
const data: unknown = Array.isArray(workerData) ? workerData[1] : workerData;
const sealer = new Sealer(new NodeMemory((data as { memory: SharedMemory }).memory));

export default function seal(job: SealJob): number {
  return sealer.seal(job);
}
