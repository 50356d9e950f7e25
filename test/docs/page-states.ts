/**
 * `npm run docs:states [FOLDER] [STATE...]`: the page of a node in each state that people meet, as
 * pictures: light, dark, and as wide as a phone. Real nodes on real disks, but for what only a disk
 * in memory can be made to do: rot, and be full. They are there to be looked at.
 */
import fs from 'node:fs';
import path from 'node:path';
import type { Page } from 'playwright-core';
import { type Node, type NodeOptions, openNode, type Space } from '#src/main/index.js';
import { openNodeOn } from '#src/main/node/open-node.js';
import { openBrowser, openPage, photograph } from '../support/browser.js';
import { at, makeFolder, removeFolder } from '../support/cluster.js';
import { TINY } from '../support/fake-cluster.js';
import { FakeDisk } from '../support/fake-disk.js';

const ANY = { host: '127.0.0.1', port: 0 };
const NAMES = ['orders', 'payments', 'stock', 'customers', 'sessions', 'mail', 'search', 'audit'];
const MANY = Array.from({ length: 500 }, (_, i) => `tenant-${i + 1}`);
const LOAD_MS = Number(process.env.PAGE_LOAD_MS ?? 20_000);
const EVERY_MS = 20;
const PATIENT_MS = 30_000;

/** What a state is made in; whatever was opened ends with it. */
class Stage {
  readonly folder = makeFolder();
  readonly nodes: Node[] = [];

  async open(nodeId: string, more: Partial<NodeOptions> = {}): Promise<Node> {
    const dataDir = path.join(this.folder, nodeId);
    const given = { dataDir, nodeId, clusterId: 'shop', listen: ANY, http: ANY };
    const node = await openNode({ ...given, ...more });
    this.nodes.push(node);
    return node;
  }

  /** node-a ships to node-b and node-c. */
  async three(): Promise<{ a: Node; b: Node; c: Node }> {
    const b = await this.open('node-b');
    const c = await this.open('node-c');
    const replicas = [at('node-b', b.address!.port), at('node-c', c.address!.port)];
    return { a: await this.open('node-a', { replicas, lead: true }), b, c };
  }

  async fake(disk: FakeDisk): Promise<Node> {
    const node = await openNodeOn(disk.mount(), { ...TINY, ...FAKE });
    this.nodes.push(node);
    return node;
  }

  async end(): Promise<void> {
    for (const node of this.nodes.toReversed()) await node.close();
    removeFolder(this.folder);
  }
}

const FAKE = { dataDir: '/data', nodeId: 'node-a', clusterId: 'shop', http: ANY };

async function open(node: Node, names: readonly string[]): Promise<Space[]> {
  return await Promise.all(names.map((name) => node.openSpace(name)));
}

/** Every space its own wave, as people write. */
async function load(spaces: readonly Space[], ms: number): Promise<void> {
  const payload = Buffer.alloc(256, 'x');
  const beganMs = performance.now();
  while (performance.now() - beganMs < ms) {
    for (const [i, space] of spaces.entries()) {
      const wave = 1 + Math.sin(performance.now() / 4_000 + i) / 3;
      const count = Math.round((20 * wave) / (i + 1));
      for (let n = 0; n < count; n++) space.tryAppend(1_000, payload);
    }
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}

interface State {
  /** @returns whose page is looked at */
  readonly make: (stage: Stage) => Promise<Node>;
  /** What the page says when the state is there. */
  readonly says: string;
}

const STATES: Readonly<Record<string, State>> = {
  healthy: {
    says: 'Nothing is wrong',
    make: async (stage) => {
      const { a } = await stage.three();
      await load(await open(a, NAMES), LOAD_MS);
      return a;
    },
  },
  'replica-down': {
    says: 'node-c has failed',
    make: async (stage) => {
      const { a, c } = await stage.three();
      const spaces = await open(a, NAMES);
      await load(spaces, LOAD_MS / 2);
      await c.close();
      await load(spaces, LOAD_MS / 2);
      return a;
    },
  },
  'leader-lost': {
    says: 'Primary node-a is gone',
    make: async (stage) => {
      const { a, b } = await stage.three();
      const spaces = await open(a, NAMES);
      await load(spaces, LOAD_MS / 2);
      await a.close();
      return b;
    },
  },
  corrupt: {
    says: 'Acknowledged entries cannot be read',
    make: async (stage) => {
      const disk = new FakeDisk();
      const first = await openNodeOn(disk.mount(), { ...TINY, ...FAKE });
      const spaces = await open(first, NAMES.slice(0, 3));
      for (let n = 0; n < 40; n++) await spaces[0]!.append(1, Buffer.alloc(500, n));
      for (const space of spaces) await space.append(1, Buffer.alloc(100));
      await first.close();
      const segment = disk.list('/data').find((name) => /^wal-.*[.]log$/.test(name))!;
      disk.edit(`/data/${segment}`, (bytes) => {
        bytes[5_000]! ^= 1;
      });
      const node = await stage.fake(disk);
      for (const space of node.spaces) await readAll(space).catch(() => undefined);
      return node;
    },
  },
  'disk-full': {
    says: 'The log takes no appends',
    make: async (stage) => {
      const disk = new FakeDisk();
      const node = await stage.fake(disk);
      const [space] = await open(node, NAMES.slice(0, 3));
      await space!.append(1, Buffer.alloc(100));
      disk.capacityBytes = disk.usedBytes + 4_096;
      for (let n = 0; n < 200; n++) await space!.append(1, Buffer.alloc(500, n)).catch(() => n);
      return node;
    },
  },
  '500-spaces': {
    says: '500 spaces',
    make: async (stage) => {
      const { a, c } = await stage.three();
      const spaces = await open(a, MANY);
      await load(spaces.slice(0, 40), LOAD_MS / 4);
      for (const space of spaces) space.tryAppend(1_000, Buffer.from('x'));
      await c.close();
      await load(spaces.slice(0, 40), LOAD_MS / 4);
      return a;
    },
  },
};

async function readAll(space: Space): Promise<void> {
  for await (const _ of space.read());
}

/** @returns what is wrong with the pictures, as lines */
async function picture(name: string, { make, says }: State): Promise<string[]> {
  const stage = new Stage();
  const browser = await openBrowser();
  try {
    const node = await make(stage);
    const { page } = await openPage(browser, `http://127.0.0.1:${node.httpAddress!.port}/`);
    const said = page.locator('.problems').filter({ hasText: says });
    await said.first().waitFor({ timeout: PATIENT_MS });
    await settled(page);
    return (await photograph(page, name)).map((line) => `${name}: ${line}`);
  } finally {
    await browser.close();
    await stage.end();
  }
}

/** Every chart has something to show. */
async function settled(page: Page): Promise<void> {
  await page
    .locator('.day .chart-box path.line-1')
    .first()
    .waitFor({ state: 'attached', timeout: PATIENT_MS });
  await page.waitForTimeout(4_000);
}

const [folder = path.join(process.cwd(), 'page-states'), ...only] = process.argv.slice(2);
process.env.PAGE_SHOTS = path.resolve(folder);
const wrong: string[] = [];
for (const [name, state] of Object.entries(STATES)) {
  if (only.length === 0 || only.includes(name)) wrong.push(...(await picture(name, state)));
}
const made = fs.readdirSync(process.env.PAGE_SHOTS).length;
process.stdout.write(`${[...wrong, `${made} pictures in ${process.env.PAGE_SHOTS}`].join('\n')}\n`);
process.exitCode = wrong.length === 0 ? 0 : 1;
