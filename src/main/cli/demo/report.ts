/** What the demo says to people. */
import Table from 'cli-table3';
import { sayInPlace, sayLine, sayLines } from '../output.js';
import type { DemoFigures, DemoFlushed } from './node.js';
import type { Proof } from './verify.js';

/** The object of `--json`. */
export interface DemoResult {
  readonly entries: number;
  /** Bytes of payload. */
  readonly bytes: number;
  readonly spaces: number;
  readonly seconds: number;
  readonly entriesPerSecond: number;
  readonly replicas: readonly {
    readonly id: string;
    readonly entries: number;
    readonly identical: boolean;
    readonly lagMs: number | 'unknown';
  }[];
  /** What each node flushed while the text was repeated with all three there. */
  readonly load?: readonly NodeRate[];
  readonly comeback?: Comeback;
  /** The primary's first. They are gone when the demo ends, unless --keep was given. */
  readonly dataDirs: readonly string[];
}

export interface NodeRate {
  readonly id: string;
  readonly entries: number;
  readonly entriesPerSecond: number;
  /** Of its log, headers included; 10^6 bytes. */
  readonly megabytesPerSecond: number;
}

/** A replica that was killed, and is back. */
export interface Comeback {
  readonly id: string;
  /** Entries that it had told of as flushed, and those that its log held when it was opened. */
  readonly flushed: number;
  readonly found: number;
  /** Entries that it lacked then, and how long it took to get them, from its start on. */
  readonly behind: number;
  readonly openMs: number;
  readonly caughtUpMs: number;
}

const LINE_EVERY_MS = 1_000;

/** What a node has flushed since `from`. */
export function rateOf(id: string, from: DemoFlushed, to: DemoFlushed): NodeRate {
  const seconds = Math.max(1e-3, (to.atMs - from.atMs) / 1_000);
  const entries = to.entries - from.entries;
  const bytes = to.logBytes - from.logBytes;
  return {
    id,
    entries,
    entriesPerSecond: Math.round(entries / seconds),
    megabytesPerSecond: Math.round(bytes / seconds / 1e5) / 10,
  };
}

function count(value: number): string {
  return value.toLocaleString('en');
}

export function entriesText(entries: number): string {
  return `${count(entries)} ${entries === 1 ? 'entry' : 'entries'}`;
}

export function rateText({ id, entriesPerSecond, megabytesPerSecond }: NodeRate): string {
  return `${id} ${count(entriesPerSecond)}/s ${megabytesPerSecond.toFixed(0)} MB/s`;
}

function lagText(lagMs: number | 'unknown'): string {
  return lagMs === 'unknown' ? lagMs : lagMs.toFixed(1);
}

/** Lines for people: on a terminal one that changes, elsewhere one a second. */
export class Report {
  readonly #isTerminal = process.stdout.isTTY;
  #printedMs = performance.now();
  #before = { entries: 0, seconds: 0 };
  /** The terminal's line has no end yet. */
  #isOpen = false;

  /** A line that stays. */
  say(line: string): void {
    this.end();
    sayLine(line);
    this.#printedMs = performance.now();
  }

  /** A line that the next one replaces. */
  now(line: string, isLast = false): void {
    const now = performance.now();
    if (!this.#isTerminal && !isLast && now - this.#printedMs < LINE_EVERY_MS) return;
    this.#printedMs = now;
    if (!this.#isTerminal) {
      sayLine(line);
      return;
    }
    // A line that wraps could not be taken back.
    sayInPlace(line);
    this.#isOpen = true;
    if (isLast) this.end();
  }

  progress(figures: DemoFigures, isLast = false): void {
    const { entries, seconds } = figures;
    const passed = seconds - this.#before.seconds;
    const rate = passed > 0 ? Math.round((entries - this.#before.entries) / passed) : 0;
    this.#before = { entries, seconds };
    const lags = figures.replicas.map(({ id, lagMs }) => `${id} ${lagText(lagMs)}`);
    const parts = [
      `${seconds.toFixed(1)} s`,
      entriesText(entries),
      `${count(rate)}/s`,
      `lag ms: ${lags.join(', ')}`,
    ];
    this.now(parts.join('  '), isLast);
  }

  /** What comes next begins on a line of its own. */
  end(): void {
    if (this.#isOpen) sayLine('');
    this.#isOpen = false;
  }

  rates(rates: readonly NodeRate[]): void {
    for (const { id, entries, entriesPerSecond, megabytesPerSecond } of rates) {
      const parts = [
        id.padEnd(9),
        `${count(entries).padStart(10)} entries flushed`,
        `${count(entriesPerSecond).padStart(9)}/s`,
        `${megabytesPerSecond.toFixed(0).padStart(4)} MB/s`,
      ];
      this.say(`   ${parts.join('  ')}`);
    }
  }

  result(result: DemoResult, proofs: readonly Proof[], ids: readonly string[]): void {
    this.end();
    sayLines(tableOf(result, proofs, ids));
    if (!result.load) {
      const rate = `${count(result.entriesPerSecond)} a second`;
      const took = `in ${result.seconds.toFixed(2)} s`;
      sayLine(`${entriesText(result.entries)} ${took}, flushed on all three: ${rate}.`);
    }
    if (proofs.every((p) => p.identical)) {
      const what = 'Every entry of every space is identical on all three';
      sayLine(`${what}: SHA-256 over what is on disk.`);
      return;
    }
    sayLine('THE LOGS DIFFER. Run again with --keep and compare the data directories.');
    for (const [i, { difference }] of proofs.entries()) {
      if (difference) sayLine(`  ${ids[i]}: ${difference}`);
    }
  }
}

function tableOf(result: DemoResult, proofs: readonly Proof[], ids: readonly string[]): string {
  const table = new Table({
    head: ['node', 'spaces', 'entries', 'bytes', 'lag ms', 'identical'],
    colAligns: ['left', 'right', 'right', 'right', 'right', 'left'],
    style: { head: [], border: [] },
  });
  for (const [i, proof] of proofs.entries()) {
    const replica = result.replicas[i - 1];
    const whole = replica ? 'yes' : 'is the original';
    table.push([
      ids[i]!,
      String(proof.spaces),
      count(proof.entries),
      count(proof.bytes),
      replica ? lagText(replica.lagMs) : '-',
      proof.identical ? whole : 'NO',
    ]);
  }
  return table.toString();
}
