/** Nodes in this process, with sizes so small that boundaries come soon. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import {
  type Node,
  type NodeEvents,
  type NodeOptions,
  openNode,
  type Space,
} from '#src/main/index.js';

export const SMALL = {
  clusterId: 'test',
  segmentBytes: 256 * 1024,
  groupBytes: 64 * 1024,
  maxEntryBytes: 16 * 1024,
  memoryBudgetBytes: 1024 * 1024,
  backoffStepsMs: [20, 50],
} as const;

/** A folder for one test, removed with `[Symbol.dispose]` or `remove`. */
export function makeFolder(): string {
  return fs.mkdtempSync(path.join(os.tmpdir(), 'engram-wal-test-'));
}

export function removeFolder(dir: string): void {
  fs.rmSync(dir, { recursive: true, force: true });
}

export function openSmall(
  dataDir: string,
  nodeId: string,
  more: Partial<NodeOptions> = {},
): Promise<Node> {
  return openNode({ ...SMALL, dataDir, nodeId, ...more });
}

/** Where a node on this machine listens, as an entry of `replicas`. */
export function at(nodeId: string, port: number): { nodeId: string; host: string; port: number } {
  return { nodeId, host: '127.0.0.1', port };
}

/** The events of one kind that a node tells from now on. */
export function heard<K extends keyof NodeEvents>(node: Node, name: K): NodeEvents[K][] {
  const events: NodeEvents[K][] = [];
  node.on(name, (event) => events.push(event));
  return events;
}

/** For each test of a file a folder of its own; what it opens ends with it, the last one first. */
export class EachTest {
  folder = '';
  #ends: (() => unknown)[] = [];

  constructor() {
    beforeEach(() => {
      this.folder = makeFolder();
    });
    afterEach(async () => {
      for (const end of this.#ends.splice(0).reverse()) await end();
      removeFolder(this.folder);
    });
  }

  /** Called when the test is over. */
  finally(end: () => unknown): void {
    this.#ends.push(end);
  }

  async start(nodeId: string, more: Partial<NodeOptions> = {}): Promise<Node> {
    const node = await openSmall(path.join(this.folder, nodeId), nodeId, more);
    this.finally(() => node.close());
    return node;
  }
}

/** Durable entries of a space (default: all), as text that two nodes must have in common. */
export async function contentOf(
  space: Space,
  range: { from?: number; to?: number } = {},
): Promise<string[]> {
  const found: string[] = [];
  for await (const e of space.read(range)) {
    const payload = Buffer.from(e.payload).toString('base64');
    found.push(`${e.sequence} ${e.epoch} ${e.type} ${e.timestamp} ${payload}`);
  }
  return found;
}

/** Polls until `check` holds; throws with `what` after `ms`. */
export async function until(what: string, check: () => boolean, ms = 20_000): Promise<void> {
  const deadline = performance.now() + ms;
  while (!check()) {
    if (performance.now() > deadline) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
