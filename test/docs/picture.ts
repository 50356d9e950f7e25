/**
 * `npm run docs:picture`: docs/page.png, the page of a node as people see it: spaces under
 * some load, one replica that keeps up, and one whose link is too slow for it.
 */
import path from 'node:path';
import { openNode } from '#src/main/index.js';
import { openBrowser, openPage } from '../support/browser.js';
import { makeFolder, removeFolder } from '../support/cluster.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { ROOT } from './blocks.js';

const SECONDS = 50;
const EVERY_MS = 20;
const SLOW_BYTES_PER_SECOND = 1_200_000;

async function main(): Promise<void> {
  const folder = makeFolder();
  const ANY = { host: '127.0.0.1', port: 0 };
  const place = (nodeId: string) => ({
    dataDir: path.join(folder, nodeId),
    nodeId,
    clusterId: 'shop',
  });
  const near = await openNode({ ...place('node-b'), listen: ANY });
  const far = await openNode({ ...place('node-c'), listen: ANY });
  const proxy = new TcpProxy(far.address!.port);
  await proxy.listen();
  proxy.limit(SLOW_BYTES_PER_SECOND);
  const node = await openNode({
    ...place('node-a'),
    replicas: [
      { nodeId: 'node-b', ...near.address! },
      { nodeId: 'node-c', host: '127.0.0.1', port: proxy.port },
    ],
    http: ANY,
  });
  const names = ['orders', 'payments', 'stock', 'customers', 'sessions', 'mail', 'search', 'audit'];
  const spaces = await Promise.all(names.map((name) => node.openSpace(name)));
  const payload = Buffer.alloc(256, 'x');
  let load = 1;
  const write = (): void => {
    for (const [i, space] of spaces.entries()) {
      const wave = 1 + Math.sin(performance.now() / 4_000 + i) / 3;
      const count = Math.round((load * 20 * wave) / (i + 1));
      for (let n = 0; n < count; n++) space.tryAppend(1000, payload);
    }
  };
  const writing = setInterval(write, EVERY_MS);
  const browser = await openBrowser();
  if (!browser) throw new Error('docs/page.png is made with Chromium');
  const { page } = await openPage(browser, `http://127.0.0.1:${node.httpAddress!.port}/`);
  await page.getByRole('heading', { level: 1, name: 'node-a' }).waitFor();
  await new Promise((resolve) => setTimeout(resolve, (SECONDS * 1_000) / 2));
  // More is written than passes: what the node says of a replica that falls behind.
  load = 2;
  await new Promise((resolve) => setTimeout(resolve, (SECONDS * 1_000) / 2));
  await page.setViewportSize({ width: 1120, height: 980 });
  await page.screenshot({ path: path.join(ROOT, 'docs/page.png') });
  clearInterval(writing);
  await browser.close();
  await Promise.all([node, near, far].map((one) => one.close()));
  await proxy.close();
  removeFolder(folder);
}

await main();
