/** An example as a process of its own: killed in the middle, run again, its promise checked. */
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { EachTest } from '../support/cluster.js';
import { freePort } from '../support/etcd.js';
import { Example } from '../support/example.js';

const each = new EachTest();

describe('kv-store.ts', () => {
  const VALUE = 'v'.repeat(16_000);

  async function countOf(store: Example): Promise<string> {
    const counts = (): string[] => store.lines.filter((line) => /^\d+ keys, /.test(line));
    const before = counts().length;
    store.say('count');
    await store.until('count', () => counts().length > before);
    return counts().at(-1)!;
  }

  test('survives kill -9; an empty follower gets the state, and what comes after it', async () => {
    const port = String(await freePort());
    const [a, b] = [path.join(each.folder, 'a'), path.join(each.folder, 'b')];
    let lead = new Example(each, 'kv-store.ts', 'lead', a, port);
    for (let i = 0; i < 1_500; i++) lead.say(`put key-${i} ${VALUE}${i}`);
    const acked = (): number => lead.lines.filter((line) => line.startsWith('ok')).length;
    await lead.until('most answers', () => acked() > 1_000);
    await lead.kill();
    const last = acked() - 1;
    lead = new Example(each, 'kv-store.ts', 'lead', a, port);
    lead.say('get key-0', `get key-${last}`, 'del key-0');
    await lead.until('answers', () => acked() === 1);
    expect(lead.lines.slice(1, 3)).toEqual([`${VALUE}0`, `${VALUE}${last}`]);
    // What is saved is not kept in the log as well, nor for one that is away, beyond a bound.
    lead.say('save');
    for (let i = 0; i < 1_500; i++) lead.say(`put more-${i} ${VALUE}`);
    lead.say('save');
    const wanted = Number(/^\d+/.exec(await countOf(lead))![0]);
    expect(wanted).toBeGreaterThanOrEqual(last + 1_500);
    await lead.until('the beginning is freed', () => {
      const names = fs.readdirSync(path.join(a, 'log'));
      return !names.includes('wal-0000000000000000.log');
    });

    let follow = new Example(each, 'kv-store.ts', 'follow', b, port);
    await expect.poll(() => countOf(follow), { timeout: 40_000 }).toContain(`${wanted} keys`);
    expect(fs.readdirSync(path.join(b, 'state'))).toEqual([expect.stringMatching(/^state-\d+$/)]);
    // Killed under load; what it lacks comes to it from the log.
    for (let i = 0; i < 500; i++) lead.say(`put late-${i} ${VALUE}`);
    await lead.until('some answers', () => acked() > 1_600);
    await follow.kill();
    lead.say('put last one', 'del late-0');
    const all = await countOf(lead);
    expect(all).toContain(`${wanted + 500} keys`);
    follow = new Example(each, 'kv-store.ts', 'follow', b, port);
    await expect.poll(() => countOf(follow), { timeout: 40_000 }).toContain(`${wanted + 500} keys`);
    const told = follow.lines.length;
    follow.say('get last', 'get late-0', 'put not here');
    await follow.until('three answers', () => follow.lines.length === told + 3);
    const answers = follow.lines.slice(told).toSorted();
    expect(answers).toEqual(['(none)', expect.stringMatching(/^no \(NotPrimary\)/), 'one']);
    expect(await follow.signal('SIGTERM')).toBe(0);
    expect(await lead.signal('SIGTERM')).toBe(0);
    expect([lead.stderr, follow.stderr]).toEqual(['', '']);
  }, 180_000);
});
