/**
 * The crash campaign: real processes, killed with SIGKILL at random moments (also while they open)
 * under appends, rolls, recycling and checkpoints. This process records every acknowledgement as it
 * comes, and checks what the next life finds.
 *
 *   npm run campaign -- [--kills N] [--seed S] [--save]
 */
import { type ChildProcess, fork } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { NAMES, random } from './campaign-facts.mjs';

type Message =
  | {
      kind: 'found';
      index: number;
      firstSequence: number;
      durableSequence: number;
      damage: unknown[];
      digests: string[];
    }
  | { kind: 'open'; holes: number }
  | { kind: 'try'; index: number; digests: string[] }
  | { kind: 'ack'; index: number; first: number; digests: string[] }
  | { kind: 'checkpointing'; index: number; sequence: number }
  | { kind: 'status'; recycled: number; segments: number };

export interface Campaign {
  kills: number;
  killsWhileOpening: number;
  acknowledged: number;
  checked: number;
  checkpoints: number;
  recycled: number;
}

/** What is known of one space from outside. */
class Ledger {
  readonly tried = new Set<string>();
  readonly acked = new Map<number, string>();
  checkpoint = 1;

  /** Everything acknowledged and not given up is there; nothing else than what was tried. */
  check(found: Message & { kind: 'found' }): void {
    const { firstSequence, durableSequence, damage, digests } = found;
    const first = Math.max(1, firstSequence);
    const demand = (is: boolean, what: string): void => {
      if (!is) throw new Error(`${NAMES[found.index]}: ${what}`);
    };
    demand(damage.length === 0, `damage ${JSON.stringify(damage)}`);
    demand(first <= this.checkpoint, `first is ${first}, checkpoint was ${this.checkpoint}`);
    demand(digests.length === (durableSequence ? durableSequence - first + 1 : 0), 'a gap');
    for (const [i, digest] of digests.entries()) {
      const sequence = first + i;
      const acked = this.acked.get(sequence);
      demand(acked === undefined || acked === digest, `entry ${sequence} is another`);
      demand(this.tried.has(digest), `entry ${sequence} was never sent`);
      // It was found, so it is durable: from now on it must stay.
      this.acked.set(sequence, digest);
    }
    for (const sequence of this.acked.keys()) {
      demand(sequence <= durableSequence, `acknowledged entry ${sequence} is lost`);
      if (sequence < first) this.acked.delete(sequence);
    }
    demand(new Set(digests).size === digests.length, 'an entry is there twice');
  }
}

/** Throws with what is wrong. */
export async function campaign(
  kills: number,
  seed: number,
  progress: (done: Campaign) => void = () => undefined,
): Promise<Campaign> {
  const chance = random(seed);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'engram-wal-campaign-'));
  const ledgers = NAMES.map(() => new Ledger());
  const done: Campaign = {
    kills: 0,
    killsWhileOpening: 0,
    acknowledged: 0,
    checked: 0,
    checkpoints: 0,
    recycled: 0,
  };
  try {
    for (let attempt = 0; attempt <= kills; attempt++) {
      const isEarly = chance(5) === 0;
      const ms = isEarly ? 40 + chance(120) : 20 + chance(250);
      await life(folder, seed, attempt, isEarly, ms, ledgers, done);
      if (attempt < kills) done.kills++;
      if (done.kills % 10 === 0) progress(done);
    }
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
  return done;
}

/** One process, from its start to its death. */
async function life(
  dir: string,
  seed: number,
  attempt: number,
  isEarly: boolean,
  ms: number,
  ledgers: readonly Ledger[],
  done: Campaign,
): Promise<void> {
  const node = path.join(import.meta.dirname, 'campaign-node.mjs');
  const child = fork(node, [dir, String(seed), String(attempt)], {
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    execArgv: [],
  });
  let errors = '';
  child.stderr!.on('data', (chunk) => {
    errors += String(chunk);
  });
  let wrong: unknown;
  let recycled = 0;
  let isOpen = false;
  const opened = new Promise<void>((resolve) => {
    child.on('message', (message: Message) => {
      try {
        if (message.kind === 'open') {
          if (message.holes > 0) throw new Error(`${message.holes} holes in the log`);
          isOpen = true;
          resolve();
        } else if (message.kind === 'status') recycled = message.recycled;
        else take(message, ledgers[message.index]!, done);
      } catch (error) {
        wrong ??= error;
        resolve();
      }
    });
    child.on('exit', () => resolve());
  });
  // All that it has sent is read: 'close' alone does not wait for messages.
  const told = new Promise((resolve) => child.on('disconnect', resolve));
  const exited = Promise.all([told, new Promise((resolve) => child.on('close', resolve))]);
  if (!isEarly) await opened;
  const isSelf = await pauseOrExit(child, ms);
  child.kill('SIGKILL');
  await exited;
  done.recycled += recycled;
  if (!isOpen) done.killsWhileOpening++;
  if (wrong) throw wrong;
  if (isSelf) throw new Error(`the node ended by itself: ${errors.slice(-2_000)}`);
}

function take(
  message: Exclude<Message, { kind: 'open' | 'status' }>,
  ledger: Ledger,
  done: Campaign,
): void {
  switch (message.kind) {
    case 'found':
      ledger.check(message);
      done.checked += message.digests.length;
      return;
    case 'try':
      for (const digest of message.digests) ledger.tried.add(digest);
      return;
    case 'ack':
      for (const [i, digest] of message.digests.entries()) {
        ledger.acked.set(message.first + i, digest);
      }
      done.acknowledged += message.digests.length;
      return;
    case 'checkpointing':
      ledger.checkpoint = Math.max(ledger.checkpoint, message.sequence);
      done.checkpoints++;
      return;
  }
}

/** @returns whether the child ended by itself meanwhile */
async function pauseOrExit(child: ChildProcess, ms: number): Promise<boolean> {
  await new Promise((resolve) => setTimeout(resolve, ms));
  return child.exitCode !== null;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      kills: { type: 'string', default: '200' },
      seed: { type: 'string' },
      save: { type: 'boolean', default: false },
    },
  });
  const seed = Number(values.seed ?? Math.floor(Math.random() * 1_000_000));
  const before = performance.now();
  try {
    const done = await campaign(Number(values.kills), seed, ({ kills, acknowledged }) => {
      console.error(`${kills} kills, ${acknowledged} entries acknowledged`);
    });
    const seconds = (performance.now() - before) / 1_000;
    const result = { name: 'campaign', seed, ...done, seconds, node: process.version };
    console.log(JSON.stringify(result));
    if (values.save) {
      const file = path.join(import.meta.dirname, '../../bench/results/campaign.json');
      fs.writeFileSync(file, `${JSON.stringify(result, null, 2)}\n`);
    }
    console.log(`${done.kills} kills passed`);
  } catch (error) {
    console.error(`seed ${seed}: ${String(error)}`);
    console.error(`again: npm run campaign -- --kills ${values.kills} --seed ${seed}`);
    process.exitCode = 1;
  }
}

if (process.argv[1] === import.meta.filename) await main();
