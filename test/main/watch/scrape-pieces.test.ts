/** A scrape whose text is made in pieces: all of it comes, as of now, and to whoever asks. */
import { expect, test } from 'vitest';
import { at, EachTest } from '../../support/cluster.js';

const SPACES = 1_200;
const each = new EachTest();

/** What the text says that there is. */
const helps = (body: string): string[] => body.match(/^# HELP \S+/gm) ?? [];
const spacesIn = (body: string): Set<string> => {
  return new Set([...body.matchAll(/memory_space="([^"]*)"/g)].map(([, name]) => name!));
};

test('of many spaces all metrics come, with a row of each space that is there by now', async () => {
  const maxSpaces = 2 * SPACES;
  const b = await each.start('b', { maxSpaces, listen: { host: '127.0.0.1', port: 0 } });
  const replicas = [at('b', b.address!.port)];
  const node = await each.start('a', { maxSpaces, replicas, http: { port: 0 } });
  await node.openSpace('s0');
  const few = await node.metrics();
  const names = Array.from({ length: SPACES }, (_, n) => `s${n}`);
  await Promise.all(names.map((name) => node.openSpace(name)));
  const fetched = async (): Promise<string> =>
    (await fetch(`http://127.0.0.1:${node.httpAddress!.port}/metrics`)).text();
  // Who comes while it is made gets the same one, whole.
  const [many, ...same] = await Promise.all([node.metrics(), fetched(), fetched()]);
  for (const text of same) expect(helps(text)).toEqual(helps(many.body));
  // More than one piece, of 1 MiB.
  expect(many.body.length).toBeGreaterThan(2 ** 20);
  expect(helps(many.body)).toEqual(helps(few.body));
  expect([...spacesIn(many.body)].sort()).toEqual([...names].sort());
  expect(many.body.endsWith('\n')).toBe(true);
  await node.openSpace('one more');
  expect(spacesIn((await node.metrics()).body)).toContain('one more');
  await node.close();
  await expect(node.metrics()).rejects.toMatchObject({ code: 'Closed' });
});
