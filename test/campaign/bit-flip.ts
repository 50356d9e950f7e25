/**
 * The bit-flip run: a log of at least 200 entries in 3 segments, closed cleanly; every single bit
 * of its entries is flipped in turn, and the log is opened and read. Each flip is detected (opening
 * or reading says CorruptionDetected, and everything else reads as it was) or harmless (all reads
 * as it was). Never a wrong payload, never an acknowledged entry silently missing.
 *
 *   npm run bit-flip -- [--sample N] [--seed S] [--save]
 */
import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { Node } from '../../dist/main/index.js';
import { openNodeOn } from '../../dist/main/node/open-node.js';
import { FakeDisk } from '../support/fake-disk.js';

const OPTIONS = {
  dataDir: '/data',
  nodeId: 'a',
  clusterId: 'test',
  segmentBytes: 8 * 1024,
  groupBytes: 4 * 1024,
  maxEntryBytes: 2 * 1024,
  memoryBudgetBytes: 64 * 1024,
  maxSpaces: 8,
} as const;
const NAMES = ['s', 't'];

export interface Flips {
  bits: number;
  detected: number;
  harmless: number;
  /** What must never be: described, one each. */
  readonly wrong: string[];
}

interface Original {
  readonly disk: FakeDisk;
  readonly content: ReadonlyMap<string, readonly string[]>;
  /** File, first byte and end of all that was written. */
  readonly extents: readonly (readonly [string, number, number])[];
}

/** Builds the log. */
async function original(): Promise<Original> {
  const disk = new FakeDisk();
  const node = await openNodeOn(disk.mount(), OPTIONS);
  const spaces = [];
  for (const name of NAMES) spaces.push(await node.openSpace(name));
  for (let n = 0; node.status().segments < 3 || n < 101; n++) {
    for (const [i, space] of spaces.entries()) {
      await space.append(1, Buffer.alloc((n * 7 + i * 3) % 40, `${n} of ${space.name} `));
    }
  }
  const content = new Map<string, string[]>();
  for (const space of spaces) content.set(space.name, await read(node, space.name, 1));
  await node.close();
  const extents = disk
    .list('/data')
    .filter((name) => name.endsWith('.log'))
    .flatMap((name): [string, number, number][] => {
      let end = 0;
      disk.edit(`/data/${name}`, (bytes) => {
        end = bytes.findLastIndex((byte) => byte !== 0) + 1;
      });
      return end > 0 ? [[`/data/${name}`, 0, end]] : [];
    });
  return { disk, content, extents };
}

async function read(node: Node, name: string, from: number, to?: number): Promise<string[]> {
  const found: string[] = [];
  const range = to === undefined ? { from } : { from, to };
  for await (const entry of node.space(name).read(range)) {
    found.push(`${entry.sequence} ${Buffer.from(entry.payload).toString('latin1')}`);
  }
  return found;
}

/** Opens and reads a log with one wrong bit. @returns how it came out, or what is wrong */
async function look({ disk, content }: Original): Promise<'detected' | 'harmless' | string> {
  let node: Node;
  try {
    node = await openNodeOn(disk.mount(), OPTIONS);
  } catch (error) {
    const { code } = error as { code?: string };
    return code === 'CorruptionDetected' ? 'detected' : `opening: ${String(error)}`;
  }
  try {
    let isDetected = node.status().holes.length > 0;
    for (const name of NAMES) {
      const all = content.get(name)!;
      for (let next = 1; next <= all.length; ) {
        try {
          const found = await read(node, name, next);
          for (const [i, entry] of found.entries()) {
            if (entry !== all[next - 1 + i]) return `${name} ${next + i} is wrong`;
          }
          next += found.length;
          if (next > all.length) break;
          // The rest is not in the log: it must be named, for this very space.
          const { damage } = node.space(name).status();
          if (!damage.some((d) => d.from <= next && (d.to === 0 || d.to >= all.length))) {
            return `${name} ends at ${next - 1}, silently`;
          }
          isDetected = true;
          break;
        } catch (error) {
          const { code, details } = error as { code?: string; details?: { to?: number } };
          if (code !== 'CorruptionDetected') return `reading: ${String(error)}`;
          isDetected = true;
          // What stands before the hole was yielded, or is read by itself; then behind it.
          const { from = next, to = 0 } = (details ?? {}) as { from?: number; to?: number };
          if (from > next) {
            const before = await read(node, name, next, from - 1);
            if (before.some((e, i) => e !== all[next - 1 + i])) return `${name} before ${from}`;
          }
          if (to === 0) break;
          next = to + 1;
        }
      }
    }
    const wrong = await appended(node, content);
    return wrong ?? (isDetected ? 'detected' : 'harmless');
  } finally {
    await node.close().catch(() => undefined);
  }
}

/** A space goes on behind all that it had, or, damaged, takes nothing. @returns what is wrong */
async function appended(node: Node, content: Original['content']): Promise<string | undefined> {
  for (const name of NAMES) {
    const space = node.space(name);
    const isDamaged = space.status().damage.length > 0;
    const next = content.get(name)!.length + 1;
    try {
      const { sequence } = await space.append(1, Buffer.from('on'));
      if (isDamaged) return `${name} is damaged, and takes ${sequence}`;
      if (sequence !== next) return `${name} goes on at ${sequence}, not at ${next}`;
    } catch (error) {
      const { code } = error as { code?: string };
      if (!isDamaged || code !== 'CorruptionDetected') return `appending: ${String(error)}`;
    }
  }
  return undefined;
}

/** Flips every `sample`-th bit, from bit `first` on. */
export async function flipBits(
  sample: number,
  first: number,
  progress: (bits: number, of: number) => void = () => undefined,
): Promise<Flips> {
  const log = await original();
  const image = log.disk.image();
  const flips: Flips = { bits: 0, detected: 0, harmless: 0, wrong: [] };
  const total = log.extents.reduce((sum, [, from, to]) => sum + 8 * (to - from), 0);
  let bit = first % sample;
  for (const [file, from, to] of log.extents) {
    for (; bit < 8 * (to - from); bit += sample) {
      log.disk.restore(image);
      log.disk.calls = [];
      log.disk.edit(file, (bytes) => {
        bytes[from + (bit >> 3)]! ^= 1 << (bit & 7);
      });
      const outcome = await look(log);
      log.disk.kill();
      flips.bits++;
      if (outcome === 'detected') flips.detected++;
      else if (outcome === 'harmless') flips.harmless++;
      else flips.wrong.push(`bit ${bit & 7} of byte ${from + (bit >> 3)} in ${file}: ${outcome}`);
      if (flips.bits % 500 === 0) progress(flips.bits, Math.floor(total / sample));
    }
    bit -= 8 * (to - from);
  }
  return flips;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      sample: { type: 'string', default: '1' },
      seed: { type: 'string', default: '0' },
      save: { type: 'boolean', default: false },
    },
  });
  const before = performance.now();
  const flips = await flipBits(Number(values.sample), Number(values.seed), (bits, of) => {
    console.error(`${bits} of ${of} bits`);
  });
  const seconds = (performance.now() - before) / 1_000;
  const { wrong, ...counts } = flips;
  console.log(JSON.stringify({ sample: Number(values.sample), ...counts, wrong, seconds }));
  if (values.save) {
    const file = path.join(import.meta.dirname, '../../bench/results/bit-flip.json');
    const result = { name: 'bit-flip', sample: Number(values.sample), ...counts, wrong, seconds };
    fs.writeFileSync(file, `${JSON.stringify({ ...result, node: process.version }, null, 2)}\n`);
  }
  if (wrong.length > 0) process.exitCode = 1;
}

if (process.argv[1] === import.meta.filename) await main();
