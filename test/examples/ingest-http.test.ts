/** An example as a process of its own: killed in the middle, run again, its promise checked. */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { EachTest } from '../support/cluster.js';
import { Example } from '../support/example.js';

const each = new EachTest();

describe('ingest-http.ts', () => {
  async function serve(): Promise<{ server: Example; url: string }> {
    const server = new Example(
      each,
      'ingest-http.ts',
      path.join(each.folder, 'data'),
      '0',
      'tenant-a',
      'b',
    );
    const [, url] = await server.line(/^listens on (\S+)$/);
    return { server, url: url! };
  }

  const post = (url: string, key: string, body: string): Promise<Response> =>
    fetch(url, { method: 'POST', headers: { 'idempotency-key': key }, body });

  async function keptAt(url: string): Promise<{ key: string; event: { n: number } }[]> {
    const lines = (await (await fetch(url)).text()).split('\n').slice(0, -1);
    return lines.map((line) => JSON.parse(line));
  }

  test('each event is kept once, however often it is sent, and over kill -9', async () => {
    const EVENTS = 450;
    const sequences = new Map<string, number>();
    let life = await serve();
    let kills = 0;
    // Ten clients, each sends until it gets an answer; twice, as clients do that have timed out.
    const send = async (n: number): Promise<void> => {
      const key = `event-${n}`;
      for (;;) {
        const { url } = life;
        try {
          const answers = [1, 2].map(() => post(`${url}/tenant-a`, key, `{"n":${n}}`));
          for (const answer of await Promise.all(answers)) {
            expect(answer.status).toBe(200);
            const { sequence } = (await answer.json()) as { sequence: number };
            // An answer that was given is the answer for ever.
            expect(sequences.get(key) ?? sequence).toBe(sequence);
            sequences.set(key, sequence);
          }
          return;
        } catch (error) {
          if (!(error instanceof TypeError)) throw error;
          await sleep(20);
        }
      }
    };
    let next = 0;
    const client = async (): Promise<void> => {
      while (next < EVENTS) await send(next++);
    };
    const clients = Promise.all(Array.from({ length: 10 }, client));
    for (const at of [150, 300]) {
      await life.server.until(`${at} answers`, () => sequences.size > at);
      await life.server.kill();
      kills++;
      life = await serve();
    }
    await clients;
    expect({ kills, answered: sequences.size }).toEqual({ kills: 2, answered: EVENTS });
    // Sent again to a server that has read its keys from the log.
    await life.server.kill();
    life = await serve();
    for (const n of [0, 200, EVENTS - 1]) await send(n);
    const kept = await keptAt(`${life.url}/tenant-a`);
    expect(kept.map(({ key }) => key).toSorted()).toEqual([...sequences.keys()].toSorted());
    expect(kept.every(({ key, event }) => key === `event-${event.n}`)).toBe(true);
    expect(await keptAt(`${life.url}/b`)).toEqual([]);
    expect(await life.server.signal('SIGTERM')).toBe(0);
    expect(life.server.stderr).toBe('');
  });

  test('what cannot be kept is refused, and says why', async () => {
    const { server, url } = await serve();
    const status = async (answer: Promise<Response>): Promise<number> => (await answer).status;
    expect(await status(post(`${url}/nobody`, 'k', '{}'))).toBe(404);
    expect(await status(post(`${url}//b`, 'k', '{}'))).toBe(404);
    expect(await status(post(`${url}/b`, '', '{}'))).toBe(400);
    expect(await status(post(`${url}/b`, 'k', '{'))).toBe(400);
    expect(await status(post(`${url}/b`, 'k', `"${'x'.repeat(300_000)}"`))).toBe(413);
    expect(await status(fetch(`${url}/b?from=0`))).toBe(400);
    expect(await status(fetch(`${url}/b`, { method: 'PUT' }))).toBe(405);
    expect(await keptAt(`${url}/b`)).toEqual([]);
    // A key that was refused is free.
    expect(await status(post(`${url}/b`, 'k', '{"n":1}'))).toBe(200);
    expect(await keptAt(`${url}/b?from=1`)).toEqual([{ sequence: 1, key: 'k', event: { n: 1 } }]);
    expect(await keptAt(`${url}/b?from=2`)).toEqual([]);
    expect(await server.signal('SIGTERM')).toBe(0);
  });
});
