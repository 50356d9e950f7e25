/** What is acknowledged, and when: a coordinator's lease is looked at last of all. */
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { StaticCoordinator } from '#src/main/coordinator.js';
import { nodeDisk } from '#src/main/disk.js';
import type { EngramError, Node } from '#src/main/index.js';
import { openNodeOn } from '#src/main/open-node.js';
import { nodePlatform } from '#src/main/platform.js';
import { makeFolder, openSmall, removeFolder, SMALL } from '../support/cluster.js';

class LeasedCoordinator extends StaticCoordinator {
  override ackUntilMs = Number.POSITIVE_INFINITY;
  isClosed = false;

  override close(): Promise<void> {
    this.isClosed = true;
    return Promise.resolve();
  }
}

let folder: string;
const nodes: Node[] = [];

beforeEach(() => {
  folder = makeFolder();
});

afterEach(async () => {
  await Promise.all(nodes.splice(0).map((node) => node.close()));
  removeFolder(folder);
});

const code = (error: unknown): string => (error as EngramError).code;

describe('a node with a lease', () => {
  test('what is durable after the lease has run out is not acknowledged', async () => {
    const b = await openSmall(path.join(folder, 'b'), 'b', {
      listen: { host: '127.0.0.1', port: 0 },
    });
    nodes.push(b);
    const coordinator = new LeasedCoordinator();
    const options = { ...SMALL, nodeId: 'a', dataDir: path.join(folder, 'a') };
    const replicas = [{ nodeId: 'b', ...b.address! }];
    const platform = { ...nodePlatform, coordinator: () => coordinator };
    const a = await openNodeOn(nodeDisk, { ...options, replicas }, platform);
    nodes.push(a);
    const space = await a.openSpace('s');
    const payload = Buffer.from('x');
    await space.append(1, payload, { ack: { replicas: 1 } });

    coordinator.ackUntilMs = performance.now();
    expect(await space.append(1, payload).catch(code)).toBe('LeaseLost');
    expect(await space.appendBatch(1, [payload, payload]).catch(code)).toBe('LeaseLost');
    expect(await space.append(1, payload, { ack: { replicas: 1 } }).catch(code)).toBe('LeaseLost');
    expect(await space.flushed(1).catch(code)).toBe('LeaseLost');
    // It is on the disk all the same, and a replica says what it has.
    expect(space.status().durableSequence).toBe(5);
    await b.space('s').flushed(5);

    coordinator.ackUntilMs = performance.now() + 60_000;
    expect(await space.append(1, payload)).toEqual({ sequence: 6, epoch: 1 });
    await a.close();
    expect(coordinator.isClosed).toBe(true);
  });
});
