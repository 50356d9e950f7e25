/** The three nodes of the runbook, and what is asked of them after each chapter. */
import { expect } from 'vitest';
import { inspectLog } from '#src/main/cli/inspect.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import { follow } from './document.js';
import type { Machines } from './machines.js';

const SPACES = ['tenant-a', 'tenant-b', 'tenant-c'];
export const THREE = ['node-a', 'node-b', 'node-c'];
export const DIR = '/var/lib/engram-wal';
/** In each space, named by their numbers. */
export const ENTRIES = 50;

/**
 * Starts them, with entries that both replicas have.
 * @param own lines of node-a's file beside those of the runbook
 */
export async function threeNodes(machines: Machines, own?: string): Promise<void> {
  for (const name of THREE) key(machines, name);
  await follow(machines, 'Three nodes', own === undefined ? {} : { 'node-a': own });
  const lines = (space: string): string => `for n in $(seq ${ENTRIES}); do echo ${space} $n; done`;
  const append = (space: string): string => `engram-wal append ${DIR} --space ${space} --ack 2`;
  await Promise.all(
    SPACES.map((space) => machines.must('node-a', `${lines(space)} | ${append(space)}`)),
  );
}

export function key(machines: Machines, name: string): void {
  machines.write(name, '/etc/engram-wal/key', `${'k'.repeat(40)}\n`);
}

/** What a node has of a space, as `inspect` shows it; read from here, again and again. */
async function entriesOf(
  machines: Machines,
  name: string,
  space: string,
  from: number,
): Promise<string[]> {
  const dir = machines.seenFromHere(name, DIR);
  const { entries } = await inspectLog(nodeDisk, dir, { space, from, limit: 10_000 });
  return entries!.map(({ sequence, epoch, preview }) => `${sequence} ${epoch} ${preview}`);
}

/**
 * All of these nodes have the same of each space, and all that was ever acknowledged.
 * @param lost the numbers that were given up in tenant-a
 * @param keptFrom what they keep of tenant-a, at least
 */
export async function sameOn(
  machines: Machines,
  names: readonly string[],
  {
    lost = [],
    keptFrom = 1,
  }: { readonly lost?: readonly number[]; readonly keptFrom?: number } = {},
): Promise<void> {
  const until = performance.now() + 30_000;
  for (const space of SPACES) {
    const from = space === 'tenant-a' ? keptFrom : 1;
    for (;;) {
      const [first, ...others] = await Promise.all(
        names.map((name) => entriesOf(machines, name, space, from)),
      );
      const isSame = others.every((other) => other.join() === first!.join());
      if (isSame || performance.now() > until) {
        for (const other of others) expect(other).toEqual(first);
        for (let n = from; n <= ENTRIES; n++) {
          const isLost = space === 'tenant-a' && lost.includes(n);
          const found = first!.filter((e) => e.endsWith(` ${space} ${n}`));
          expect([space, n, found.length]).toEqual([space, n, isLost ? 0 : 1]);
        }
        break;
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}
