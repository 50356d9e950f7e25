/** An example as a process of its own: killed in the middle, run again, its promise checked. */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { EachTest } from '../support/cluster.js';
import { Example } from '../support/example.js';

const each = new EachTest();

describe('queue.ts', () => {
  test('what was told as queued is done, and only what was under way is done again', async () => {
    const data = path.join(each.folder, 'data');
    const queued = new Set<string>();
    const done = new Map<string, number>();
    let jobs = 0;
    const told = (queue: Example): void => {
      for (const line of queue.lines) {
        const [, how, number, job] = /^(queued|done) (\d+) (.*)$/.exec(line)!;
        if (how === 'queued') queued.add(job!);
        else done.set(job!, (done.get(job!) ?? 0) + 1);
        expect(Number(number)).toBeGreaterThan(0);
      }
    };
    for (let life = 0; life < 3; life++) {
      const queue = new Example(each, 'queue.ts', data);
      queue.say(...Array.from({ length: 1_000 }, () => `job-${jobs++}`));
      const worked = (): number => queue.lines.filter((line) => line.startsWith('done')).length;
      await queue.until('some are done', () => worked() > 300);
      await queue.kill();
      told(queue);
    }
    const last = new Example(each, 'queue.ts', data);
    expect(await last.end()).toBe(0);
    told(last);
    expect(queued.size).toBeGreaterThan(300);
    expect([...queued].filter((job) => !done.has(job))).toEqual([]);
    // What was done since the last checkpoint: jobs under way, and those of one fdatasync.
    const again = [...done.values()].filter((times) => times > 1).length;
    expect(again).toBeLessThan(600);
    // All of it is given up: another run has nothing to do.
    const idle = new Example(each, 'queue.ts', data);
    expect(await idle.end()).toBe(0);
    expect(idle.lines).toEqual([]);
  });

  test('a job that never works is put aside, and holds nothing up', async () => {
    const data = path.join(each.folder, 'data');
    const queue = new Example(each, 'queue.ts', data);
    queue.say('fail always', 'one', 'two');
    expect(await queue.end()).toBe(0);
    expect(fs.readFileSync(`${data}.dead`, 'utf8')).toBe('1 fail always\n');
    expect(queue.lines.filter((line) => line.startsWith('done')).toSorted()).toEqual([
      'done 2 one',
      'done 3 two',
    ]);
    expect(queue.stderr.match(/attempt \d/g)).toEqual(['attempt 1', 'attempt 2', 'attempt 3']);
  });

  test('SIGTERM ends it while input is open: the rest is done the next time', async () => {
    const data = path.join(each.folder, 'data');
    const queue = new Example(each, 'queue.ts', data);
    queue.say(...Array.from({ length: 3_000 }, (_, i) => `job-${i}`));
    await queue.until('some are done', () => queue.lines.some((line) => line.startsWith('done')));
    expect(await queue.signal('SIGTERM')).toBe(0);
    expect(queue.stderr).toBe('');
    const next = new Example(each, 'queue.ts', data);
    expect(await next.end()).toBe(0);
    const lines = [...queue.lines, ...next.lines];
    const of = (how: string): string[] =>
      lines
        .filter((line) => line.startsWith(how))
        .map((line) => line.slice(how.length))
        .toSorted();
    // An orderly end: none twice.
    expect(of('done')).toEqual(of('queued'));
  });
});
