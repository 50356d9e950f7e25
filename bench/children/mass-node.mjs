/**
 * One node of mass-failover: opens spaces when told, promotes them when told, and appends once to
 * each space that it comes to lead. Times are the machine's monotonic clock, in ms.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { openNode } from '#src/main/index.js';
import { sleep } from './child.mjs';

/** Spaces that are opened beside each other. */
const BESIDE = 250;
const RETRY_MS = 20;
const payload = new Uint8Array(32);
const now = () => Number(process.hrtime.bigint()) / 1e6;
const options = JSON.parse(process.argv[2]);
const node = await openNode({ ...options, apply: () => undefined, rewound: () => undefined });
process.on('disconnect', () => process.exit(0));

/** When each space took its first append here. */
const acked = new Map();
const led = new Set();
let refusals = 0;
const turns = monitorEventLoopDelay({ resolution: 1 });

/** Until one is acknowledged, or another node leads: on a busy machine a lease may be lost. */
async function append(name) {
  const space = node.space(name);
  while (!acked.has(name) && led.has(name)) {
    try {
      await space.append(1, payload);
      acked.set(name, now());
    } catch {
      refusals++;
      await sleep(RETRY_MS);
    }
  }
}

node.on('space-role', ({ space, role }) => {
  if (role !== 'primary') led.delete(space);
  else if (!acked.has(space)) {
    led.add(space);
    void append(space);
  }
});

async function openAll(names) {
  for (let i = 0; i < names.length; i += BESIDE) {
    const some = names.slice(i, i + BESIDE);
    await Promise.all(some.map((name) => node.openSpace(name, { lead: true })));
  }
}

/** All at once, as an operator's script does. */
async function promoteAll(names) {
  const begunMs = now();
  const reports = await Promise.allSettled(names.map((name) => node.promote(name)));
  const failed = reports.filter((r) => r.status === 'rejected');
  return { begunMs, endedMs: now(), failed: failed.length, why: String(failed[0]?.reason ?? '') };
}

/** What this node has come to lead although another one was meant to. */
async function handOver(to) {
  const led = node.status().spaces.filter((s) => s.role === 'primary');
  await Promise.allSettled(led.map(({ name }) => node.switchover(name, to)));
}

function standing() {
  const { spaces } = node.status();
  const led = spaces.filter((s) => s.role === 'primary');
  const whole = led.filter(
    (s) => s.replicas.length > 0 && s.replicas.every((r) => r.state === 'streaming'),
  );
  return { here: spaces.length, led: led.length, whole: whole.length };
}

async function answer(message) {
  if (message.open) await openAll(message.open);
  else if (message.promote) return await promoteAll(message.promote);
  else if (message.handOverTo) await handOver(message.handOverTo);
  else if (message.mark) {
    acked.clear();
    refusals = 0;
    turns.enable();
  } else if (message.close) await node.close();
  // While others measure, nothing is looked at that costs.
  if (message.count) return { acked: acked.size };
  const figures = { acked: message.take ? [...acked] : acked.size, longestTurnMs: turns.max / 1e6 };
  return { ...standing(), ...figures, refusals, cpuMs: cpuMs() };
}

function cpuMs() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

process.on('message', (message) => {
  answer(message).then(
    (done) => process.send({ kind: 'answer', id: message.id, ...done }),
    (error) => process.send({ kind: 'failed', message: String(error?.stack ?? error) }),
  );
});
process.send({ kind: 'listening', port: node.address.port });
