/**
 * The show of a demo without an input of the user's: what the machine can do, and a replica that is
 * killed and comes back.
 */
import { statfs } from 'node:fs/promises';
import { pause } from '../../runtime/deadline.js';
import type { DemoFlushed } from './node.js';
import { DemoError, type DemoProcess } from './process.js';
import { type Comeback, type NodeRate, type Report, rateOf, rateText } from './report.js';

/** For so long the text is repeated with all three nodes there, and then with one of them down. */
const LOAD_MS = 4_000;
const AWAY_MS = 1_000;
const LOOK_MS = 50;
/** Of the load: what is left for the time in which a replica is down. */
const SHARE_BEFORE_KILL = 0.75;

const MOST_ENTRIES = 4_000_000;
/** A sentence and its header, on each of three nodes; and what of the free disk they may take. */
const NODES = 3;
const LOG_BYTES_PER_ENTRY = 256;
const SHARE_OF_DISK = 0.25;

/** How many entries the load may have, so that the disk under `dir` does not become full. */
export async function loadFor(dir: string): Promise<number> {
  const { bavail, bsize } = await statfs(dir);
  const fit = (bavail * bsize * SHARE_OF_DISK) / (NODES * LOG_BYTES_PER_ENTRY);
  return Math.max(1, Math.min(MOST_ENTRIES, Math.floor(fit)));
}

type Actor = Pick<DemoProcess, 'nodeId' | 'until' | 'tell' | 'kill'>;

/** What is shown with. */
export interface Stage {
  readonly primary: Actor;
  readonly replicas: readonly Actor[];
  /** What each node has told last of its disk, by its id. */
  readonly flushed: ReadonlyMap<string, DemoFlushed>;
  /** Starts a replica again, where it was. */
  restart(nodeId: string): Actor;
  /** How many entries the load may have. */
  readonly most: number;
  readonly report: Report | undefined;
  readonly stopped: AbortSignal;
}

export interface Shown {
  readonly load: readonly NodeRate[];
  readonly comeback: Comeback;
}

function nowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** Resolves when `isReached`. Throws when the demo ends. */
async function until(stopped: AbortSignal, isReached: () => boolean): Promise<void> {
  while (!isReached()) {
    await pause(LOOK_MS, stopped);
    stopped.throwIfAborted();
  }
}

/** Begins when the text is on all three. Throws DemoError where the replica has lost something. */
export async function show(stage: Stage): Promise<Shown> {
  const { primary, replicas, flushed, report, stopped } = stage;
  const { figures } = await primary.until('logged');
  const { entries, seconds } = figures;
  const all = [primary, ...replicas].map((p) => p.nodeId);
  await until(stopped, () => all.every((id) => flushed.get(id)?.entries === entries));
  const text = `${entries.toLocaleString('en')} entries`;
  report?.say(`   ${text} are on the disks of all three after ${seconds.toFixed(2)} s.`);
  report?.say('2. The load: the same text over and over, an entry a sentence.');
  const load = await showLoad(stage, all);
  report?.rates(load);
  const comeback = await showComeback(stage, all);
  return { load, comeback };
}

async function showLoad(stage: Stage, all: readonly string[]): Promise<NodeRate[]> {
  const { primary, flushed, report, stopped, most } = stage;
  const before = new Map(flushed);
  const sinceMs = nowMs();
  primary.tell('go');
  const rates = (from: ReadonlyMap<string, DemoFlushed>): NodeRate[] =>
    all.map((id) => rateOf(id, { ...from.get(id)!, atMs: sinceMs }, flushed.get(id)!));
  const enough = before.get(primary.nodeId)!.entries + most * SHARE_BEFORE_KILL;
  await until(stopped, () => {
    const now = rates(before);
    report?.now(`   ${now.map(rateText).join('  ')}`);
    return nowMs() - sinceMs >= LOAD_MS || flushed.get(primary.nodeId)!.entries >= enough;
  });
  return rates(before);
}

async function showComeback(stage: Stage, all: readonly string[]): Promise<Comeback> {
  const { primary, flushed, report, stopped } = stage;
  const victim = stage.replicas.at(-1)!;
  const id = victim.nodeId;
  report?.say(`3. kill -9 ${id}, in the middle of it.`);
  const killedMs = nowMs();
  const since = (): string => `+${((nowMs() - killedMs) / 1_000).toFixed(1)} s`;
  await victim.kill();
  const had = flushed.get(id)!.entries;
  const behind = (): number => flushed.get(primary.nodeId)!.entries - flushed.get(id)!.entries;
  await until(stopped, () => {
    report?.now(`   ${since()}  it is down, and ${behind().toLocaleString('en')} entries behind`);
    return nowMs() - killedMs >= AWAY_MS;
  });
  report?.say(
    `   ${since()}  it is started again, ${behind().toLocaleString('en')} entries behind`,
  );
  // What comes back has the machine for itself, and an end that it can reach.
  primary.tell('rest');
  const startedMs = nowMs();
  const back = stage.restart(id);
  const { flushed: found } = await back.until('listening');
  const openMs = nowMs() - startedMs;
  if (found.entries < had) {
    throw new DemoError(`${id} had flushed ${had} entries, and found ${found.entries}`);
  }
  const lacked = flushed.get(primary.nodeId)!.entries - found.entries;
  const kept = `all ${found.entries.toLocaleString('en')} entries that it had flushed`;
  report?.say(`   ${since()}  it has read its log: ${kept} are there`);
  primary.tell('enough');
  let entries = 0;
  primary.until('done').then(
    (done) => {
      entries = done.figures.entries;
    },
    // The demo hears of it, and ends.
    () => undefined,
  );
  await until(stopped, () => {
    const now = all.map((node) => `${node} ${flushed.get(node)!.entries.toLocaleString('en')}`);
    report?.now(`   ${since()}  ${now.join('  ')}`);
    return entries > 0;
  });
  const caughtUpMs = nowMs() - startedMs;
  report?.say(`   ${since()}  it has caught up: ${entries.toLocaleString('en')} on all three.`);
  const rounded = { openMs: Math.round(openMs), caughtUpMs: Math.round(caughtUpMs) };
  return { id, flushed: had, found: found.entries, behind: lacked, ...rounded };
}
