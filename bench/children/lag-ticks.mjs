// CPU of one tick of the lag monitor, back to back: `spaces` x `replicas` pairs, no load beside it.
// The real monitor over the real shared memory; only the threads that would fill it are left out.

import { SpaceTable } from '../../dist/main/log/space-table.js';
import { LagMonitor } from '../../dist/main/ship/lag-monitor.js';
import { ShipperHandle } from '../../dist/main/ship/shipper-handle.js';
import { PairWatch } from '../../dist/shared/link/pair-watch.js';
import { newSpaceFacts } from '../../dist/shared/log/space-facts.js';
import { allocateShipperCounters } from '../../dist/shared/memory/metric-words.js';
import { allocateProgress } from '../../dist/shared/memory/progress.js';
import { allocateMemory, NodeMemory } from '../../dist/shared/memory/slab.js';
import { idOf } from '../../dist/shared/names.js';

import { runJob } from './child.mjs';

const LIMITS = {
  lagAlertThresholdMs: 1_000,
  lagDegradedThresholdMs: 5_000,
  lagPollMs: 2 ** 30,
  stalledAfterMs: 10_000,
};
const GROUPS = 32;

await runJob(async ({ spaces, replicas, ticks, behind }) => {
  const memory = new NodeMemory(allocateMemory(64 * 1024, 1024 * 1024, spaces));
  const table = new SpaceTable(memory);
  for (let n = 0; n < spaces; n++) {
    const name = `space-${n}`;
    const space = table.add({ ...newSpaceFacts(idOf(name), name), role: 'primary', epoch: 1 });
    const now = performance.now();
    for (let group = 1; group <= GROUPS; group++) space.times.add(group, group, 1, now, GROUPS);
    memory.setDurable(space.slot, GROUPS);
  }
  const platform = { startShipper: () => ({ post: () => undefined, terminate: () => undefined }) };
  const shippers = [];
  for (let n = 0; n < replicas; n++) {
    const start = {
      progress: allocateProgress(spaces),
      counters: allocateShipperCounters(),
      replica: { nodeId: `replica-${n}`, host: '127.0.0.1', port: 1 },
    };
    const watch = new PairWatch(LIMITS, spaces, performance.now());
    const shipper = new ShipperHandle(platform, start, true, watch, {});
    const open = { state: 'streaming', reason: '', failures: 0, fatal: undefined, lastSuccess: 1 };
    Object.assign(shipper.link, open);
    shipper.progress.setHeard(performance.now());
    shipper.addSpaces(table.spaces.map(({ slot, facts }) => ({ slot, ...facts, members: [] })));
    for (const { slot, facts } of table.spaces) {
      watch.judged(slot, 'continue');
      facts.slots.set(start.replica.nodeId, { flushed: 0, lost: false, idleMs: 0 });
      // Half of the groups that are told apart: the search goes half way.
      shipper.progress.begin(slot, facts.epoch, behind ? GROUPS / 2 : GROUPS, 0);
    }
    shippers.push(shipper);
  }
  let told = 0;
  const hook = () => told++;
  const reader = { lookUp: async () => new Map(), bytesOf: async () => 0 };
  const hooks = { lagAlert: hook, replicaStatus: hook, stalled: hook };
  const monitor = new LagMonitor(LIMITS, memory, table, () => shippers, reader, hooks);
  for (let n = 0; n < 200; n++) await monitor.tick();
  const before = process.cpuUsage();
  const beganMs = performance.now();
  for (let n = 0; n < ticks; n++) {
    for (const { progress } of shippers) progress.setHeard(performance.now());
    await monitor.tick();
  }
  const { user, system } = process.cpuUsage(before);
  const wallMs = performance.now() - beganMs;
  monitor.close();
  return { cpuMicrosPerTick: (user + system) / ticks, wallMicrosPerTick: (1_000 * wallMs) / ticks };
});
