/** What is known of the soak's entries from outside, and what the nodes' logs say against it. */
import fs from 'node:fs';
import path from 'node:path';
import { nodeDisk } from '#src/main/disk.js';
import { readNodeFile } from '#src/main/node-file.js';
import { walkSegment } from '#src/main/segment-walk.js';
import { readPayloadSize, readSequence, readSpaceId } from '#src/shared/entry.js';
import { segmentStart } from '#src/shared/segment.js';
import { offerOf } from './soak-facts.mjs';

/** Consecutive entries that one life of the primary offered: [life, first sequence, count, n]. */
export type Row = [life: number, first: number, count: number, n: number];

/** One space: which offer was acknowledged under which sequence, and what the logs hold there. */
export class SpaceLedger {
  readonly name: string;
  /** Everything up to here has been compared on all nodes, and given up by their hosts. */
  verified = 0;
  /** The highest acknowledged sequence, and how many are. */
  acked = 0;
  ackedEntries = 0;
  /** Acknowledged, and not looked at in the logs yet. */
  #open: Row[] = [];
  /** What the logs hold from 1 to `verified`, in runs that are as long as can be. */
  readonly #held: Row[] = [];

  constructor(name: string) {
    this.name = name;
  }

  ack(row: Row): void {
    this.#open.push(row);
    this.ackedEntries += row[3];
    this.acked = Math.max(this.acked, row[1] + row[3] - 1);
  }

  /**
   * The entries behind `verified`, as all logs have them, up to `to`. @returns what is wrong: an
   * acknowledged entry that is another, or one offer that is there twice
   */
  hold(runs: readonly Row[], to: number): string | undefined {
    for (const run of runs) {
      const [life, first, count, n] = run;
      const last = this.#held.at(-1);
      // Offers of one life go into one space in their order, and lives follow each other.
      const isAhead = !last || life > last[0] || (life === last[0] && count >= last[2] + last[3]);
      if (!isAhead) return `${this.name} ${first}: offer ${life}/${count} was there before`;
      if (last?.[0] === life && last[2] + last[3] === count) last[3] += n;
      else this.#held.push([...run]);
    }
    this.verified = to;
    const isDone = ([, first, , n]: Row): boolean => first + n - 1 <= to;
    const wrong = this.#open.filter(isDone).find((row) => !this.#isHeld(row));
    this.#open = this.#open.filter((row) => !isDone(row));
    return wrong && `${this.name} ${wrong[1]} was acknowledged, and is another entry`;
  }

  #isHeld([life, first, count, n]: Row): boolean {
    let low = 0;
    let high = this.#held.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#held[middle]![1] <= first) low = middle;
      else high = middle - 1;
    }
    const [heldLife, heldFirst, heldCount, heldN] = this.#held[low]!;
    const ahead = first - heldFirst;
    return heldLife === life && heldCount + ahead === count && ahead + n <= heldN;
  }
}

/** One closed node's log, out of its files: what each space holds, in the order of the log. */
export async function readFiles(dir: string): Promise<Map<string, Map<number, Buffer>>> {
  const { logSalt } = await readNodeFile(nodeDisk, dir);
  const spaces = new Map<string, Map<number, Buffer>>();
  for (const name of fs.readdirSync(dir).sort()) {
    const start = segmentStart(name);
    if (start === undefined) continue;
    const file = await nodeDisk.open(path.join(dir, name), 'read');
    const segment = { start, size: await file.size() };
    await walkSegment(file, segment, start, logSalt, (bytes, view, at) => {
      const id = readSpaceId(view, at);
      const entries = spaces.get(id) ?? new Map<number, Buffer>();
      spaces.set(id, entries);
      const end = at + 64 + readPayloadSize(view, at);
      const whole = Buffer.concat([bytes.subarray(at, at + 56), bytes.subarray(at + 64, end)]);
      entries.set(readSequence(view, at), whole);
    });
    await file.close();
  }
  return spaces;
}

/** Who offered entries `from` to `to`, out of the files. @returns undefined where one is lacking */
export function rowsOf(
  entries: ReadonlyMap<number, Buffer>,
  from: number,
  to: number,
): Row[] | undefined {
  const rows: Row[] = [];
  for (let sequence = from; sequence <= to; sequence++) {
    const offer = offerOf(entries.get(sequence)?.subarray(56) ?? Buffer.alloc(0));
    if (!offer) return undefined;
    rows.push([offer.life, sequence, offer.count, 1]);
  }
  return rows;
}
