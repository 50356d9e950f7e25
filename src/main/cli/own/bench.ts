/**
 * `engram-wal bench`: what this machine and this disk do with the log, within seconds. A node in a
 * directory of its own, that is removed; `npm run bench` of the repository measures far more.
 */
import fs from 'node:fs/promises';
import path from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import type { Space } from '../../node/space.js';
import { say } from '../output.js';

/** Entries between two turns of the event loop. */
const BURST = 256;
/** Who waits for an acknowledgement before he appends again. */
const CALLERS = 128;
/** What it may write, so that no disk is filled by it. */
const MAX_BYTES = 4 * 1024 ** 3;

interface BenchFlags {
  readonly dir: string;
  readonly seconds: number;
  readonly payload: number;
  readonly json: boolean;
}

interface Measured {
  readonly payloadBytes: number;
  /** Durable, as fast as they are taken. */
  readonly entriesPerSecond: number;
  readonly megabytesPerSecond: number;
  /** With 128 callers, each waiting for its own. */
  readonly acknowledgedPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly fdatasyncs: number;
}

export function addBench(program: Command): void {
  program
    .command('bench')
    .description('measure appends on this disk, in a directory that is removed afterwards')
    .option('--dir <folder>', 'where to make it: on the disk that is meant', '.')
    .option('--seconds <n>', 'for how long each part runs', from1, 5)
    .option('--payload <bytes>', 'of each entry', from1, 256)
    .option('--json', 'one JSON object on stdout, nothing else', false)
    .exitOverride()
    .action(async ({ dir, json, ...flags }: BenchFlags) => {
      const dataDir = await fs.mkdtemp(path.join(path.resolve(dir), 'engram-wal-bench-'));
      try {
        say(await measure(dataDir, flags), json, measuredText);
      } finally {
        await fs.rm(dataDir, { recursive: true, force: true });
      }
    });
}

function from1(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw new InvalidArgumentError('Expected a whole number from 1. Example: 10');
}

async function measure(
  dataDir: string,
  { seconds, payload: size }: Pick<BenchFlags, 'seconds' | 'payload'>,
): Promise<Measured> {
  // Most of what the package is: no other verb waits for it.
  const { openNode } = await import('../../node/open-node.js');
  const node = await openNode({ dataDir, nodeId: 'bench', clusterId: 'bench' });
  try {
    const space = await node.openSpace('bench');
    // Bytes of chance: nothing below the file system makes less of them.
    const payload = crypto.getRandomValues(new Uint8Array(Math.min(size, 65_536)));
    const whole = new Uint8Array(size).map((_, i) => payload[i % payload.length]!);
    const most = MAX_BYTES / 2 / (64 + size);
    const perSecond = await throughput(space, whole, seconds, most);
    const { waits, acknowledged } = await latency(space, whole, seconds, most);
    return {
      payloadBytes: size,
      entriesPerSecond: Math.round(perSecond),
      megabytesPerSecond: Math.round((perSecond * (64 + size)) / 1e4) / 100,
      acknowledgedPerSecond: Math.round(acknowledged),
      p50Ms: percentile(waits, 50),
      p99Ms: percentile(waits, 99),
      fdatasyncs: node.summary().fdatasync.count,
    };
  } finally {
    await node.close();
  }
}

async function throughput(
  space: Space,
  payload: Uint8Array,
  seconds: number,
  most: number,
): Promise<number> {
  const beganMs = performance.now();
  let last = 0;
  while (performance.now() - beganMs < 1_000 * seconds && last < most) {
    for (let n = 0; n < BURST; n++) last = space.tryAppend(1, payload) ?? last;
    await new Promise((resolve) => setImmediate(resolve));
  }
  await space.flushed(last, { replicas: 0, timeoutMs: 60_000 });
  return (1_000 * last) / (performance.now() - beganMs);
}

async function latency(
  space: Space,
  payload: Uint8Array,
  seconds: number,
  most: number,
): Promise<{ waits: number[]; acknowledged: number }> {
  const beganMs = performance.now();
  const waits: number[] = [];
  const caller = async (): Promise<void> => {
    while (performance.now() - beganMs < 1_000 * seconds && waits.length < most) {
      const at = performance.now();
      await space.append(1, payload);
      waits.push(performance.now() - at);
    }
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
  return { waits, acknowledged: (1_000 * waits.length) / (performance.now() - beganMs) };
}

function percentile(waits: number[], of: number): number {
  waits.sort((a, b) => a - b);
  const at = Math.min(waits.length - 1, Math.floor((waits.length * of) / 100));
  return Math.round(100 * (waits[at] ?? 0)) / 100;
}

function measuredText(m: Measured): string {
  const count = (value: number): string => value.toLocaleString('en');
  return [
    `payload of ${count(m.payloadBytes)} bytes, every group fdatasynced, no replica`,
    `  durable: ${count(m.entriesPerSecond)} entries/s, ${m.megabytesPerSecond} MB/s`,
    `  128 callers that wait: ${count(m.acknowledgedPerSecond)} entries/s; ` +
      `acknowledged within ${m.p50Ms} ms (p50), ${m.p99Ms} ms (p99)`,
    `  ${count(m.fdatasyncs)} fdatasyncs in all`,
  ].join('\n');
}
