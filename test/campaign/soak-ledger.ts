/** What is known of the soak's entries from outside, and what the nodes' logs say against it. */
import fs from 'node:fs';
import path from 'node:path';
import { readNodeFile } from '#src/main/recovery/node-file.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { walkSegment } from '#src/main/segments/walk.js';
import { readPayloadSize, readSequence, readSpaceId, readType } from '#src/shared/log/entry.js';
import { segmentStart } from '#src/shared/log/segment.js';
import { isReplicated, MEMBERS_ENTRY, offerOf, PER_BATCH } from './soak-facts.mjs';

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
  /** Of the newest life that is there, by whether they wait for a replica: the offers to come. */
  #life = 0;
  #next = new Map<boolean, number>();

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
      const twin = this.#meet(run);
      if (twin) return twin;
      const isNext = last && last[1] + last[3] === first && last[2] + last[3] === count;
      if (isNext && last[0] === life) last[3] += n;
      else this.#held.push([...run]);
    }
    this.verified = to;
    const isDone = ([, first, , n]: Row): boolean => first + n - 1 <= to;
    const wrong = this.#open.filter(isDone).find((row) => !this.#isHeld(row));
    this.#open = this.#open.filter((row) => !isDone(row));
    return wrong && `${this.name} ${wrong[1]} was acknowledged, and is another entry`;
  }

  /**
   * Lives follow each other; offers of one life go into one space in their order. Those that ask
   * for a replica wait for a link to one, and are overtaken then by those that do not.
   */
  #meet([life, first, count, n]: Row): string | undefined {
    if (life > this.#life) this.#next.clear();
    for (let at = count; at < count + n; ) {
      const kind = isReplicated(this.name, at);
      const isAhead = life >= this.#life && at >= (this.#next.get(kind) ?? 0);
      if (!isAhead)
        return `${this.name} ${first + at - count}: offer ${life}/${at} was there before`;
      at = Math.min(count + n, (Math.floor(at / PER_BATCH) + 1) * PER_BATCH);
      this.#next.set(kind, at);
    }
    this.#life = life;
    return undefined;
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
    const entry = entries.get(sequence) ?? Buffer.alloc(0);
    const offer = offerOf(entry.subarray(56));
    if (!offer && !isOfMembers(entry)) return undefined;
    if (offer) rows.push([offer.life, sequence, offer.count, 1]);
  }
  return rows;
}

/** The library's own: nobody offered it. */
function isOfMembers(entry: Buffer): boolean {
  const view = new DataView(entry.buffer, entry.byteOffset, entry.length);
  return entry.length >= 56 && readType(view, 0) === MEMBERS_ENTRY;
}
