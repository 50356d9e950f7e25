/** What `npm start` shows: the text, what the machine can do, a replica that is killed. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { DemoFlushed, DemoMessage } from '#src/main/cli/demo/node.js';
import { show } from '#src/main/cli/demo/show.js';
import { startCommand } from '../../support/command-line.js';

/** The paragraphs of the speeches. */
const TEXT_ENTRIES = 12_817;

let dir: string;

beforeAll(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'engram-wal-show-test-'));
});
afterAll(() => fs.rmSync(dir, { recursive: true, force: true }));

const number = (text: string): number => Number(text.replaceAll(',', ''));

test('before the eyes of whoever looks', async () => {
  const { code, stdout, stderr } = await startCommand(dir, ['demo']).ended;
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const of = (pattern: RegExp): string[] => pattern.exec(stdout)?.slice(1) ?? [];
  expect(
    of(/1\. The text:[\s\S]*? ([\d,]+) entries are on the disks of all three/).map(number),
  ).toEqual([TEXT_ENTRIES]);
  const rates = [...stdout.matchAll(/(\S+) +([\d,]+) entries flushed +([\d,]+)\/s +(\d+) MB\/s/g)];
  expect(rates.map(([, id]) => id)).toEqual(['primary', 'replica-1', 'replica-2']);
  for (const [, , entries, perSecond, megabytes] of rates) {
    // More than the text, several times: on the slowest of machines.
    expect(number(entries!)).toBeGreaterThan(2 * TEXT_ENTRIES);
    expect(number(perSecond!)).toBeGreaterThan(0);
    expect(number(megabytes!)).toBeGreaterThan(0);
  }
  const [behind] = of(/3\. kill -9 replica-2[\s\S]*it is started again, ([\d,]+) entries behind/);
  expect(number(behind!)).toBeGreaterThan(0);
  const [found] = of(/it has read its log: all ([\d,]+) entries that it had flushed are there/);
  const [all] = of(/it has caught up: ([\d,]+) on all three/);
  expect(number(all!)).toBeGreaterThan(number(found!));
  expect(number(found!)).toBeGreaterThan(TEXT_ENTRIES);
  // The proof is of all of it, the one that was away included.
  const proof = stdout.slice(stdout.indexOf('4. The proof:'));
  expect(proof).toMatch(new RegExp(` replica-2 .* ${all} .* yes`));
  expect(stdout).toContain('Every entry of every space is identical on all three');
  expect(fs.readdirSync(dir)).toEqual([]);
}, 180_000);

test('--json tells the same in one object', async () => {
  const { code, stdout, stderr } = await startCommand(dir, ['demo', '--json']).ended;
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  const { entries, spaces, replicas, load, comeback } = JSON.parse(stdout);
  expect(spaces).toBe(43);
  const replica = (id: string) => ({ id, entries, identical: true, lagMs: 0 });
  expect(replicas).toEqual([replica('replica-1'), replica('replica-2')]);
  const ids = ['primary', 'replica-1', 'replica-2'];
  expect(load).toEqual(
    ids.map((id) => ({
      id,
      entries: expect.any(Number),
      entriesPerSecond: expect.any(Number),
      megabytesPerSecond: expect.any(Number),
    })),
  );
  expect(comeback.id).toBe('replica-2');
  expect(comeback.found).toBeGreaterThanOrEqual(comeback.flushed);
  expect(comeback.found + comeback.behind).toBeLessThanOrEqual(entries);
  expect(comeback.behind).toBeGreaterThan(0);
  expect(comeback.caughtUpMs).toBeGreaterThan(comeback.openMs);
}, 180_000);

/** A process of the demo that says what it is asked for at once. */
function actor(nodeId: string, said: Partial<Record<DemoMessage['kind'], object>>) {
  return {
    nodeId,
    until: <K extends DemoMessage['kind']>(kind: K) =>
      Promise.resolve({ kind, ...said[kind] } as unknown as DemoMessage & { kind: K }),
    tell: () => undefined,
    kill: () => Promise.resolve(),
  };
}

test('a replica that comes back with less than it had flushed ends the show', async () => {
  const stands = (entries: number): DemoFlushed => ({ atMs: 1, entries, logBytes: entries });
  const ids = ['primary', 'replica-1', 'replica-2'];
  const shown = (found: number) =>
    show({
      primary: actor('primary', {
        logged: { figures: { entries: 100, seconds: 1 } },
        done: { figures: { entries: 100 } },
      }),
      replicas: [actor('replica-1', {}), actor('replica-2', {})],
      flushed: new Map(ids.map((id) => [id, stands(100)])),
      restart: (id) => actor(id, { listening: { flushed: stands(found) } }),
      most: 0,
      report: undefined,
      stopped: new AbortController().signal,
    });
  await expect(shown(99)).rejects.toThrow('replica-2 had flushed 100 entries, and found 99');
  expect((await shown(100)).comeback).toMatchObject({ flushed: 100, found: 100, behind: 0 });
});
