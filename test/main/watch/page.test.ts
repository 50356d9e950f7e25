/** The page for people, in a real Chromium: looked at, clicked through, left alone by its node. */
import path from 'node:path';
import type { Browser, Locator, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Node, NodeOptions } from '#src/main/index.js';
import { openNodeOn } from '#src/main/node/open-node.js';
import { openBrowser, openPage, photograph, type Seen } from '../../support/browser.js';
import { makeFolder, openSmall, removeFolder } from '../../support/cluster.js';
import { TINY } from '../../support/fake-cluster.js';
import { FakeDisk } from '../../support/fake-disk.js';
import { TcpProxy } from '../../support/tcp-proxy.js';

const ANY = { host: '127.0.0.1', port: 0 };
const QUICK = { lagPollMs: 200, lagAlertThresholdMs: 400, lagDegradedThresholdMs: 1_000 };
const PATIENT = { timeout: 40_000 };

let browser: Browser;
let dir: string;
let nodes: Node[];
let proxies: TcpProxy[];
let seen: Seen | undefined;

beforeAll(async () => {
  browser = await openBrowser();
});
afterAll(async () => {
  await browser?.close();
});
beforeEach(() => {
  dir = makeFolder();
  nodes = [];
  proxies = [];
});
afterEach(async () => {
  await seen?.page.context().close();
  seen = undefined;
  await Promise.all(nodes.map((node) => node.close()));
  await Promise.all(proxies.map((proxy) => proxy.close()));
  removeFolder(dir);
});

async function open(nodeId: string, more: Partial<NodeOptions> = {}): Promise<Node> {
  const node = await openSmall(path.join(dir, nodeId), nodeId, { http: ANY, ...QUICK, ...more });
  nodes.push(node);
  return node;
}

function urlOf({ httpAddress }: Node): string {
  return `http://127.0.0.1:${httpAddress!.port}/`;
}

/** A primary, a replica, and one behind a proxy that can misbehave. */
async function three(): Promise<{ a: Node; proxy: TcpProxy }> {
  const b = await open('node-b', { listen: ANY });
  const c = await open('node-c', { listen: ANY });
  const proxy = new TcpProxy(c.address!.port);
  proxies.push(proxy);
  await proxy.listen();
  const replicas = [
    { nodeId: 'node-b', ...b.address! },
    { nodeId: 'node-c', host: '127.0.0.1', port: proxy.port },
  ];
  return { a: await open('node-a', { replicas }), proxy };
}

async function fill(a: Node, spaces: number): Promise<void> {
  for (let i = 0; i < spaces; i++) {
    const space = await a.openSpace(`tenant-${String(i).padStart(4, '0')}`);
    for (let n = 0; n <= i % 40; n++) space.tryAppend(1, Buffer.from('x'));
  }
}

async function look(node: Node, hash = ''): Promise<Page> {
  seen = await openPage(browser, `${urlOf(node)}${hash}`);
  await seen.page.getByRole('heading', { level: 1, name: node.nodeId }).waitFor(PATIENT);
  return seen.page;
}

/** Rows of the list of spaces. */
function rows(page: Page): Locator {
  return page.locator('.spaces > table > tbody');
}

async function untilText(where: Locator, text: string | RegExp): Promise<void> {
  await where.filter({ hasText: text }).first().waitFor(PATIENT);
}

async function untilAttribute(where: Locator, name: string, value: string): Promise<void> {
  await expect.poll(() => where.getAttribute(name), PATIENT).toBe(value);
}

/** The page writes its address after it has drawn. */
async function untilUrl(page: Page, part: string): Promise<void> {
  await expect.poll(() => page.url(), PATIENT).toContain(part);
}

function soundly(): void {
  expect(seen!.complaints).toEqual([]);
  expect([...seen!.hosts]).toEqual([new URL(seen!.page.url()).host]);
}

describe('the page', () => {
  test('of a sound node with one space: all there is, from this server alone', async () => {
    const { a } = await three();
    const space = await a.openSpace('episodes');
    const timer = setInterval(() => {
      for (let i = 0; i < 20; i++) space.tryAppend(1, Buffer.alloc(100));
    }, 50);
    try {
      const page = await look(a);
      await page.getByRole('heading', { name: 'Nothing is wrong' }).waitFor(PATIENT);
      await untilText(page.locator('.card'), /node-b.*streaming/);
      await untilText(page.locator('.card'), /node-c.*streaming/);
      // The one space is shown in full, unasked.
      await untilText(rows(page), /episodes.*led here.*Replica.*node-b.*node-c/);
      // Lines come as time goes by, and move.
      const line = page.locator('.charts .panel:last-child path.line-1').last();
      await expect.poll(() => line.getAttribute('d'), PATIENT).toMatch(/^M.*L/);
      const before = await line.getAttribute('d');
      await expect.poll(() => line.getAttribute('d'), PATIENT).not.toBe(before);
      await expect.poll(() => page.title(), PATIENT).toBe('Healthy: node-a');
      // The figures of one moment, by the keyboard.
      await page.getByRole('img', { name: /^Entries a second: here now [\d,]+\/s/ }).focus();
      await page.keyboard.press('ArrowLeft');
      await untilText(page.locator('.moment'), /node-b/);
      await page.keyboard.press('Escape');
      await expect.poll(() => page.locator('.moment').count(), PATIENT).toBe(0);
      // The node over time: first its minutes, the day on demand.
      const day = page.locator('.day');
      await untilText(day, /Entries a second.*Bytes a second.*Worst lag.*fdatasync.*Room/s);
      const bytes = day.getByRole('img', { name: /^Bytes a second: this node now [\d.]+ KiB\/s/ });
      await bytes.waitFor(PATIENT);
      // The answer is listened for before the click: it may be there before the click is over.
      for (const [button, stepMs] of [
        ['24 hours', 60_000],
        ['5 minutes', 1_000],
      ] as const) {
        const asked = page.waitForResponse((r) =>
          r.url().endsWith(`/replication/day?stepMs=${stepMs}`),
        );
        await Promise.all([asked, day.getByRole('button', { name: button }).click()]);
        if (stepMs === 60_000) await untilUrl(page, 'over=day');
      }
      expect(await photograph(page, 'healthy')).toEqual([]);
      soundly();
    } finally {
      clearInterval(timer);
    }
  });

  test('finds one of many spaces: by name, by page, sorted, opened, by keyboard', async () => {
    const { a } = await three();
    await fill(a, 60);
    const page = await look(a);
    await expect.poll(() => rows(page).count(), PATIENT).toBe(25);
    await page.getByRole('button', { name: 'Next' }).click();
    await untilText(page.locator('.pager'), '26–50 of 60');
    await page.getByRole('button', { name: 'Previous' }).click();
    await untilText(page.locator('.pager'), '1–25 of 60');
    await page.getByRole('button', { name: 'Entries' }).click();
    await untilText(rows(page).first(), 'tenant-0039');
    expect(await page.locator('th[aria-sort="descending"]').innerText()).toContain('Entries');
    await page.getByLabel('Search by name').fill('NT-001');
    await expect.poll(() => rows(page).count(), PATIENT).toBe(10);
    await page.getByRole('button', { name: 'tenant-0017' }).focus();
    await page.keyboard.press('Enter');
    await untilText(rows(page), /tenant-0017.*18.*Flushed.*node-c/);
    // What is typed, opened and focused stays through the next figures.
    await page.waitForResponse((response) => response.url().includes('/replication/status'));
    const opener = page.getByRole('button', { name: 'tenant-0017' });
    expect(await opener.getAttribute('aria-expanded')).toBe('true');
    expect(await page.locator(':focus').innerText()).toBe(await opener.innerText());
    // The rows are walked by the arrow keys; a click anywhere on one closes and opens it.
    await page.keyboard.press('ArrowDown');
    expect(await page.locator(':focus').innerText()).toBe('tenant-0016');
    const row = rows(page).filter({ hasText: 'tenant-0017' });
    await row.getByRole('cell', { name: '18', exact: true }).first().click();
    await untilAttribute(opener, 'aria-expanded', 'false');
    await row.getByRole('cell', { name: 'led here' }).click();
    await untilAttribute(opener, 'aria-expanded', 'true');
    // The address holds the choice.
    await page.reload();
    await expect.poll(() => rows(page).count(), PATIENT).toBe(10);
    await untilText(rows(page), /tenant-0017.*Flushed/);
    await page.getByLabel('Search by name').fill('nobody');
    await page.getByRole('button', { name: 'Show all' }).click();
    await expect.poll(() => rows(page).count(), PATIENT).toBe(25);
    soundly();
  });

  test('a replica that lags, fails, comes back: in words, on top, with since when', async () => {
    const { a, proxy } = await three();
    await fill(a, 12);
    const page = await look(a);
    await page.getByRole('heading', { name: 'Nothing is wrong' }).waitFor(PATIENT);
    proxy.stall('forth');
    const space = a.space('tenant-0003');
    await space.append(1, Buffer.from('x'));
    const problem = page.locator('.problem');
    await untilText(problem, /Soon.*Replica node-c is .* behind.*tenant-0003/s);
    await untilText(problem, /for .*, since \d\d:\d\d:\d\d/);
    await untilText(page.locator('.top'), /Degraded.*something to do soon/s);
    await page.getByRole('button', { name: /^Degraded/ }).click();
    await expect.poll(() => rows(page).count(), PATIENT).toBe(1);
    await untilText(rows(page), /tenant-0003.*Degraded.*1 of 2 caught up/s);
    expect(await photograph(page, 'lagging')).toEqual([]);
    await proxy.close();
    await untilText(problem, /Soon.*Replica node-c has failed.*12 spaces/s);
    await expect.poll(() => page.title(), PATIENT).toBe('Degraded: node-a');
    await page.locator('.spaces').getByRole('button', { name: /^All/ }).click();
    await untilText(page.locator('.event'), /Error: replica node-c is failed/);
    // Narrowed to a level, a kind, a text; and all of them again.
    const happened = page.locator('.event');
    await page.getByRole('button', { name: 'Errors' }).click();
    await expect.poll(() => page.locator('.event:not(.error)').count(), PATIENT).toBe(0);
    await page.getByLabel('Kind of event').selectOption('replica-status');
    await untilText(happened, /replica node-c is failed/);
    await page.getByLabel('Search events').fill('node-b');
    await untilText(page.locator('.events'), /None of the last \d+ events is like that/);
    await untilUrl(page, 'level=error&event=replica-status&events=node-b');
    await page.getByLabel('Search events').fill('');
    await page.getByLabel('Kind of event').selectOption('');
    await page.locator('.events').getByRole('button', { name: 'All' }).click();
    await page
      .locator('.event.info')
      .first()
      .waitFor({ state: 'attached', ...PATIENT });
    expect(await photograph(page, 'failed')).toEqual([]);
    // The first five spaces are named; all of them are listed on demand, and the cause with them.
    await untilText(problem, /tenant-0000, .*tenant-0004 and 7 more/);
    await page.getByRole('button', { name: 'and 7 more' }).click();
    const cause = page.locator('.chip-cause');
    await untilText(cause, /Replica node-c has failed/);
    await expect.poll(() => rows(page).count(), PATIENT).toBe(12);
    await untilUrl(page, 'cause=replica-failed%3Anode-c');
    await cause.click();
    await cause.waitFor({ state: 'detached', ...PATIENT });
    // What to type, where, and the chapter that says more, from this node.
    await untilText(problem, /start node-c again.*systemctl restart engram-wal on node-c/s);
    const handbook = page.getByRole('link', { name: 'The handbook' });
    expect(await handbook.getAttribute('href')).toBe('/runbook#a-replica-lags');
    proxy.flow();
    await proxy.listen();
    await page.getByRole('heading', { name: 'Nothing is wrong' }).waitFor(PATIENT);
    soundly();
  });

  test('of a node with 5,000 spaces: small answers, few elements, each within reach', async () => {
    const b = await open('node-b', { listen: ANY });
    const a = await open('node-a', { replicas: [{ nodeId: 'node-b', ...b.address! }] });
    const names = Array.from({ length: 5_000 }, (_, i) => `tenant-${i + 1}`);
    for (let from = 0; from < names.length; from += 500) {
      const some = names.slice(from, from + 500);
      await Promise.all(some.map((name) => a.openSpace(name)));
    }
    const page = await look(a);
    const answer = await page.waitForResponse((r) => r.url().includes('/replication/status'));
    expect((await answer.body()).length).toBeLessThan(100_000);
    await untilText(page.locator('.pager'), '1–25 of 5,000');
    await page.getByLabel('Search by name').fill('tenant-4777');
    await expect.poll(() => rows(page).count(), PATIENT).toBe(1);
    await page.getByLabel('Search by name').fill('');
    await expect.poll(() => rows(page).count(), PATIENT).toBe(25);
    // All of them are in one trouble: one problem, and no more elements than before.
    await b.close();
    const problem = page.locator('.problem');
    await untilText(problem, /tenant-1, tenant-2, tenant-3, tenant-4, tenant-5 and 4,995 more/);
    expect(await problem.count()).toBe(1);
    await page.getByRole('button', { name: 'and 4,995 more' }).click();
    await untilText(page.locator('.pager'), '1–25 of 5,000');
    expect(await page.locator('*').count()).toBeLessThan(2_000);
    expect(await photograph(page, '5000-spaces', ['light', 'phone-dark'])).toEqual([]);
    soundly();
  }, 120_000);

  test('of a node whose every space is corrupt: nothing that sounds well', async () => {
    const disk = new FakeDisk();
    const options = { ...TINY, dataDir: '/data', nodeId: 'rotten', http: ANY };
    const first = await openNodeOn(disk.mount(), options);
    const space = await first.openSpace('s');
    for (let n = 0; n < 40; n++) await space.append(1, Buffer.alloc(500, n));
    await first.close();
    const segment = disk.list('/data').find((name) => /^wal-.*[.]log$/.test(name))!;
    disk.edit(`/data/${segment}`, (bytes) => {
      bytes[3_000]! ^= 1;
    });
    const node = await openNodeOn(disk.mount(), options);
    nodes.push(node);
    const read = async (): Promise<void> => {
      for await (const _ of node.space('s').read());
    };
    await read().catch(() => undefined);
    const page = await look(node);
    await untilText(page.locator('.problem'), /Corrupt.*Acknowledged entries cannot be read/s);
    await untilText(page.locator('.top'), /Corrupt.*something to do now/s);
    await untilText(page.locator('.node'), /takes none: every space is corrupt/);
    await untilText(page.locator('.node'), /damaged ranges met so far/);
    const text = await page.locator('body').innerText();
    expect(text).not.toMatch(/takes entries|of \d whole|Nothing is wrong/);
    soundly();
  });

  test('of a replica: whom it follows, and that its primary is gone', async () => {
    const { a } = await three();
    await fill(a, 3);
    const page = await look(nodes[0]!);
    await untilText(page.locator('.card'), /node-a.*Healthy.*ships to node-b/s);
    await untilText(rows(page).first(), 'from node-a');
    await a.close();
    await untilText(page.locator('.problem'), /Now.*Primary node-a is gone.*3 spaces/s);
    expect(await photograph(page, 'replica', ['light', 'phone-dark'])).toEqual([]);
    soundly();
  });

  test('a node that is gone: what is seen says how old it is; and the node is back', async () => {
    const { a } = await three();
    await fill(a, 3);
    const { port } = a.httpAddress!;
    const page = await look(a);
    await page.getByRole('heading', { name: 'Nothing is wrong' }).waitFor(PATIENT);
    await a.close();
    const alert = page.getByRole('alert');
    await untilText(alert, /The node does not answer. What you see is \d+(\.\d)? s old/);
    await expect.poll(() => page.title(), PATIENT).toBe('No answer: node-a');
    await untilText(page.locator('.top'), /Unknown.*as of/s);
    await untilText(page.locator('.problems'), /^Nothing was wrong at \d\d:\d\d:\d\d/);
    expect(await photograph(page, 'gone', ['light', 'phone-dark'])).toEqual([]);
    const http = { host: '127.0.0.1', port };
    await open('node-a', { http, replicas: [] });
    await alert.waitFor({ state: 'detached', ...PATIENT });
    expect([...seen!.hosts]).toEqual([`127.0.0.1:${port}`]);
  });

  test('the handbook: from this node, each chapter at its place', async () => {
    const page = await look(await open('node-a'));
    await page.getByRole('link', { name: 'Handbook' }).click();
    await page.getByRole('heading', { name: 'A replica lags' }).waitFor(PATIENT);
    expect(await page.locator('#a-replica-lags').innerText()).toBe('A replica lags');
    expect(await photograph(page, 'handbook', ['light', 'phone-dark'])).toEqual([]);
    soundly();
  });

  test('names are text, however long or wild', async () => {
    const { a } = await three();
    const wild = `<img src=x onerror="document.title='taken'"><script>1</script>&amp;`;
    await (await a.openSpace(wild)).append(1, Buffer.from('x'));
    await a.openSpace('x'.repeat(255));
    await a.openSpace('日本語のスペース עברית abc');
    const page = await look(a);
    await rows(page).getByRole('button', { name: wild }).click();
    await untilText(rows(page), 'Flushed');
    expect(await page.locator('main img, main script').count()).toBe(0);
    expect(await photograph(page, 'names', ['light', 'phone-dark'])).toEqual([]);
    await expect.poll(() => page.title(), PATIENT).toBe('Healthy: node-a');
    soundly();
  });
});
