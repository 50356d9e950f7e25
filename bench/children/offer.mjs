/**
 * A fixed offered rate. Entries are due in bursts, one each millisecond; latency counts from when an
 * entry was due, not from when it was sent, so a stalled process cannot hide what its stall did
 * (coordinated omission).
 */
import { cpuSeconds, sleep } from './child.mjs';
import { Samples } from './samples.mjs';

const TYPE = 1;
const TICK_MS = 1;
/** Of each second's entries so many are followed to the replicas. */
const LAG_SAMPLES_PER_SECOND = 1_000;

/** @param {number} replicas how many must have flushed what is followed */
export async function offer(space, payload, rate, ms, replicas) {
  const entries = Math.floor((rate * ms) / 1000);
  const perTick = (rate * TICK_MS) / 1000;
  const every = Math.max(1, Math.floor(rate / LAG_SAMPLES_PER_SECOND));
  const acks = new Samples(entries);
  const late = new Samples(entries);
  const lags = new Samples(entries);
  let failed = 0;
  let firstError;
  const pending = [];
  const onError = (error) => {
    failed++;
    firstError ??= error;
  };
  const one = async (due, follow) => {
    const { sequence } = await space.append(TYPE, payload);
    const durable = performance.now();
    acks.add(durable - due);
    if (!follow) return;
    await space.flushed(sequence, { replicas, timeoutMs: 60_000 });
    lags.add(performance.now() - durable);
  };
  const cpu = process.cpuUsage();
  const start = performance.now();
  let sent = 0;
  while (sent < entries) {
    const now = performance.now();
    const tick = Math.floor((now - start) / TICK_MS);
    const dueByNow = Math.min(entries, Math.floor((tick + 1) * perTick));
    for (; sent < dueByNow; sent++) {
      const due = start + Math.floor(sent / perTick) * TICK_MS;
      late.add(performance.now() - due);
      const follow = sent % every === 0;
      const done = one(due, follow).catch(onError);
      if (follow || sent === entries - 1) pending.push(done);
    }
    await sleep(TICK_MS);
  }
  await Promise.all(pending);
  while (acks.count + failed < entries) await sleep(TICK_MS);
  const seconds = (performance.now() - start) / 1000;
  // Before the samples are sorted: that is no work of a log.
  const used = cpuSeconds(cpu);
  if (failed > entries / 100) throw firstError;
  const [p50, p99, p999, max] = acks.percentiles([50, 99, 99.9, 100]);
  const [lag50, lag99, lag999, lagMax] = lags.percentiles([50, 99, 99.9, 100]);
  return {
    entries,
    failed,
    seconds,
    entriesPerSecond: entries / seconds,
    appendP50Ms: p50,
    appendP99Ms: p99,
    appendP999Ms: p999,
    appendMaxMs: max,
    lagP50Ms: lag50,
    lagP99Ms: lag99,
    lagP999Ms: lag999,
    lagMaxMs: lagMax,
    sendLateP99Ms: late.percentiles([99])[0],
    ...used,
  };
}
