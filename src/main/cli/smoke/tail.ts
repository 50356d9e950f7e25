/** `engram-wal tail`: the last entries of a space of a running node, and those that come. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { askAdmin } from '../../watch/admin/server.js';
import type { ToldEntry } from '../../watch/admin/smoke.js';
import { sayLine, sayMore } from '../output.js';

/** Between two looks at what has come, ms. */
const LOOK_MS = 300;
/** Bytes of a payload that people are shown. */
const SHOWN_BYTES = 120;
/** Entries of one question. */
const AT_ONCE = 1_000;

interface TailFlags {
  readonly space: string;
  readonly lines: number;
  readonly from?: number;
  readonly follow: boolean;
  readonly json: boolean;
}

export function addTail(command: Command, whole: (text: string) => number): void {
  command
    .requiredOption('--space <name>', 'of which')
    .option('-n, --lines <n>', 'so many of the last', whole, 10)
    .option('--from <sequence>', 'in their place: all from this one on', whole)
    .option('-f, --follow', 'go on with those that come, until interrupted', false)
    .action(tail);
}

async function tail(dir: string, flags: TailFlags): Promise<void> {
  const { space, lines, from, follow } = flags;
  const stop = new AbortController();
  if (follow)
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => stop.abort());
    }
  let next = from;
  while (!stop.signal.aborted) {
    const limit = next === undefined ? Math.max(1, lines) : AT_ONCE;
    const question = {
      verb: 'read',
      space,
      limit,
      ...(next !== undefined && { from: next }),
    } as const;
    const { entries } = (await askAdmin(dir, question)) as { entries: ToldEntry[] };
    for (const entry of entries) await show(entry, flags);
    const last = entries.at(-1);
    if (last) next = last.sequence + 1;
    // A whole answer may not be all.
    if (last && from !== undefined) continue;
    if (!follow) return;
    next ??= 1;
    await sleep(LOOK_MS, undefined, { signal: stop.signal }).catch(() => undefined);
  }
}

async function show(entry: ToldEntry, { json }: TailFlags): Promise<void> {
  if (json) return await sayMore(entry);
  const { sequence, epoch, type, timestampNs } = entry;
  const payload = Buffer.from(entry.payload, 'base64');
  const at = new Date(Number(BigInt(timestampNs) / 1_000_000n)).toISOString();
  const text = payload.subarray(0, SHOWN_BYTES).toString();
  const more = payload.length > SHOWN_BYTES ? `… (${payload.length} bytes)` : '';
  sayLine(`${sequence}  epoch ${epoch}  type ${type}  ${at}  ${text}${more}`);
}
