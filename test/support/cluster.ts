/** Nodes in this process, with sizes so small that boundaries come soon. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type Node, type NodeOptions, openNode, type Space } from '#src/main/index.js';

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
