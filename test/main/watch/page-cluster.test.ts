/** The cluster on the page of any node, in a real Chromium. */
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { FEATURE_GLANCE, FEATURE_PEER_CALL } from '#src/shared/wire/peer-frames.js';
import { openBrowser, openPage, photograph } from '../../support/browser.js';
import { at, EachTest } from '../../support/cluster.js';
import { WireReplica } from '../../support/wire-replica.js';

const each = new EachTest();
const ANY = { host: '127.0.0.1', port: 0 };
const PATIENT = { timeout: 40_000 };

let browser: Browser;
beforeAll(async () => {
  browser = await openBrowser();
});
afterAll(async () => {
  await browser?.close();
});

test('all members, who can be gone to, who is away and since when, what each lacks', async () => {
  const b = await each.start('node-b', { listen: ANY, http: ANY });
  const c = await each.start('node-c', { listen: ANY, http: ANY });
  const old = new WireReplica('node-d');
  await old.listen();
  each.finally(() => old.close());
  const replicas = [b, c].map(({ nodeId, address }) => at(nodeId, address!.port));
  replicas.push(at('node-d', old.port));
  const a = await each.start('node-a', { listen: ANY, http: ANY, replicas, openConfirmMs: 0 });
  const space = await a.openSpace('tenant-a', { lead: true });
  await space.append(1, Buffer.from('x'));

  const { page, hosts, complaints } = await openPage(
    browser,
    `http://127.0.0.1:${b.httpAddress!.port}/`,
  );
  each.finally(() => page.context().close());
  const row = (nodeId: string) =>
    page.locator('.cluster .member').filter({ has: page.getByRole('rowheader', { name: nodeId }) });
  const says = (nodeId: string, text: RegExp): Promise<void> =>
    row(nodeId).filter({ hasText: text }).waitFor(PATIENT);
  await says('node-a', /Soon|Now|Nothing/);
  await says('node-b', /Nothing.*this node/);
  await says('node-c', /Nothing.*for /);
  const link = row('node-a').getByRole('link', { name: 'node-a' });
  expect(await link.getAttribute('href')).toBe(`http://127.0.0.1:${a.httpAddress!.port}/`);
  // Itself it need not go to; and who does not say where its page is has no link.
  expect(await row('node-b').getByRole('link').count()).toBe(0);
  const matrix = page.locator('.matrix tbody tr').filter({ hasText: 'node-a' });
  await matrix.filter({ hasText: /0 ms.*0 entries, 0 B/ }).waitFor(PATIENT);
  // Of a space that it has nobody has told node-b but node-a: the older one is a member, too.
  await says('node-d', /Not told.*an older version: it says no more/);
  expect(await photograph(page, 'cluster', ['light', 'phone-dark'])).toEqual([]);

  await c.close();
  await says('node-c', /Away.*no, for .*ConnectionRefused/);
  expect(await photograph(page, 'cluster-away', ['dark', 'phone-light'])).toEqual([]);
  expect(complaints).toEqual([]);
  expect([...hosts]).toEqual([new URL(page.url()).host]);
});

test('names and reasons of members act on nobody, and a link leads to a page alone', async () => {
  const member = new WireReplica('node-b');
  member.callFeatures = FEATURE_PEER_CALL | FEATURE_GLANCE;
  const glance = {
    kind: 'glance' as const,
    ...{ version: '\u202Eevil', health: 'failed', problems: 3, worst: '<b>x</b>', uptimeMs: 5 },
    ...{ spaces: 1, led: 0, url: 'javascript:alert(1)', links: [] },
  };
  member.answer = ({ kind }) => (kind === 'glance-ask' ? glance : undefined);
  await member.listen();
  each.finally(() => member.close());
  const a = await each.start('node-a', {
    http: ANY,
    replicas: [at('node-b', member.port)],
    openConfirmMs: 0,
  });
  const { page, complaints } = await openPage(browser, `http://127.0.0.1:${a.httpAddress!.port}/`);
  each.finally(() => page.context().close());
  const row = page.locator('.cluster .member').filter({ hasText: 'node-b' });
  await row.filter({ hasText: /Now<b>x<\/b> and 2 more.*\\u\{202e\}evil/ }).waitFor(PATIENT);
  expect(await row.getByRole('link').count()).toBe(0);
  expect(await row.locator('b').count()).toBe(0);
  expect(complaints).toEqual([]);
});
