/** examples/agent-memory.ts as a process of its own: killed in the middle, and asked again. */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { EachTest } from '../support/cluster.js';
import { Example } from '../support/example.js';

const each = new EachTest();
const AGENTS = Array.from({ length: 20 }, (_, n) => `agent-${n}`);

const start = (): Example => new Example(each, 'agent-memory.ts', path.join(each.folder, 'data'));

/** What one command has recalled: the lines in front of its end. */
async function recalled(memory: Example, agent: string, how: string): Promise<string[]> {
  const told = memory.lines.length;
  memory.say(`recall ${agent} ${how}`);
  const end = (): number =>
    memory.lines.findIndex((line, i) => i >= told && /^(recalled|no) /.test(line));
  await memory.until(`recall ${agent} ${how}`, () => end() >= 0);
  const found = memory.lines.slice(told, end());
  expect(memory.lines[end()]).toBe(`recalled ${agent} ${found.length}`);
  return found;
}

const textOf = (line: string): string => line.split(' ').slice(2).join(' ');

describe('agent-memory.ts', () => {
  test('what was answered with ok is recalled by its own agent, over kill -9', async () => {
    const answered = new Map(AGENTS.map((agent) => [agent, 0]));
    let asked = 0;
    for (let round = 0; round < 3; round++) {
      const memory = start();
      for (let n = 0; n < 200; n++) {
        memory.say(...AGENTS.map((agent) => `remember ${agent} episode ${asked} of ${agent}`));
        asked++;
      }
      await memory.until('some answers', () => memory.lines.length > 2_000);
      await memory.kill();
      for (const line of memory.lines) {
        const [ok, agent, sequence] = line.split(' ') as [string, string, string];
        expect(ok).toBe('ok');
        answered.set(agent, Math.max(answered.get(agent)!, Number(sequence)));
      }
    }
    const memory = start();
    for (const agent of AGENTS) {
      const all = await recalled(memory, agent, `last ${10 * asked}`);
      expect(all.length).toBeGreaterThanOrEqual(answered.get(agent)!);
      expect(answered.get(agent)).toBeGreaterThan(100);
      // Newest first, in the order in which they came, and of nobody else.
      const numbers = all.map((line) => {
        expect(textOf(line)).toMatch(new RegExp(`^episode \\d+ of ${agent}$`));
        return Number(/episode (\d+)/.exec(line)![1]);
      });
      expect(numbers).toEqual([...numbers].sort((a, b) => b - a));
      expect((await recalled(memory, agent, 'last 3')).join()).toBe(all.slice(0, 3).join());
    }
    expect(await memory.end()).toBe(0);
    expect(memory.stderr).toBe('');
  }, 120_000);

  test('by time: since then, and before then', async () => {
    const memory = start();
    const remember = async (text: string): Promise<void> => {
      const told = memory.lines.length;
      memory.say(`remember anna ${text}`);
      await memory.until(text, () => memory.lines.length > told);
    };
    for (const text of ['one', 'two', 'three']) await remember(text);
    await sleep(5);
    const noon = new Date().toISOString();
    await sleep(5);
    for (const text of ['four', 'five']) await remember(text);
    const texts = async (how: string): Promise<string[]> =>
      (await recalled(memory, 'anna', how)).map(textOf);
    expect(await texts(`since ${noon}`)).toEqual(['five', 'four']);
    expect(await texts(`before ${noon} 2`)).toEqual(['three', 'two']);
    expect(await texts(`before ${noon} 9`)).toEqual(['three', 'two', 'one']);
    expect(await texts('before 2001-01-01T00:00:00Z 9')).toEqual([]);
    expect(await texts(`since ${new Date(Date.now() + 60_000).toISOString()}`)).toEqual([]);
    expect(await recalled(memory, 'nobody', 'last 5')).toEqual([]);
    memory.say('recall anna when', 'recall anna since noon', 'forget anna');
    await memory.until('three refusals', () => {
      return memory.lines.filter((line) => line.startsWith('no ')).length === 3;
    });
    expect(await memory.signal('SIGTERM')).toBe(0);
    expect(memory.stderr).toBe('');
  });
});
