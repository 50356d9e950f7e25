/** What is acknowledged, and when: a coordinator's lease is looked at last of all. */
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { EngramError, Node } from '#src/main/index.js';
import { type CoordinatedNode, StaticCoordinator } from '#src/main/lead/coordinator.js';
import { nodePlatform } from '#src/main/node/machine.js';
import { openNodeOn } from '#src/main/node/open-node.js';
import { nodeDisk } from '#src/main/segments/node-disk.js';
import {
  contentOf,
  makeFolder,
  openSmall,
  removeFolder,
  SMALL,
  until,
} from '../../support/cluster.js';
import { TcpProxy } from '../../support/tcp-proxy.js';

class LeasedCoordinator extends StaticCoordinator {
  override ackUntilMs = Number.POSITIVE_INFINITY;
  isClosed = false;
  node: CoordinatedNode | undefined;

  override start(node?: CoordinatedNode): Promise<void> {
    this.node = node;
    return super.start();
  }

  override close(): Promise<void> {
    this.isClosed = true;
    return Promise.resolve();
  }
}

let folder: string;
let proxy: TcpProxy;
const nodes: Node[] = [];

beforeEach(() => {
  folder = makeFolder();
});

afterEach(async () => {
  await Promise.all(nodes.splice(0).map((node) => node.close()));
  await proxy.close();
  removeFolder(folder);
});

const code = (error: unknown): string => (error as EngramError).code;

/** A primary with a lease, and its replica behind a proxy. */
async function pair(): Promise<{ a: Node; b: Node; coordinator: LeasedCoordinator }> {
  const listen = { host: '127.0.0.1', port: 0 };
  const b = await openSmall(path.join(folder, 'b'), 'b', { listen });
  nodes.push(b);
  proxy = new TcpProxy(b.address!.port);
  const address = { host: '127.0.0.1', port: await proxy.listen() };
  const coordinator = new LeasedCoordinator();
  const options = { ...SMALL, nodeId: 'a', dataDir: path.join(folder, 'a'), listen };
  const replicas = [{ nodeId: 'b', ...address }];
  const platform = { ...nodePlatform, coordinator: () => coordinator };
  const a = await openNodeOn(nodeDisk, { ...options, replicas }, platform);
  nodes.push(a);
  return { a, b, coordinator };
}

describe('a node with a lease', () => {
  test('what is durable after the lease has run out is not acknowledged', async () => {
    const { a, b, coordinator } = await pair();
    const space = await a.openSpace('s', { lead: true });
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

  test('who leads again after its lease was lost ships on, in the new epoch alone', async () => {
    const { a, b, coordinator } = await pair();
    const space = await a.openSpace('s', { lead: true });
    const payload = Buffer.alloc(200);
    const fill = (): Promise<unknown> =>
      Promise.all(Array.from({ length: 200 }, () => space.append(1, payload)));
    await fill();
    await until('it is replicated', () => b.status().spaces.length > 0);
    await b.openSpace('s');
    // What is open stays so, and is shipped on while nobody leads; the replica cannot be asked for
    // a promise, so that it hears of each epoch by its introduction alone.
    proxy.refuse();
    for (let epoch = 2; epoch <= 12; epoch++) {
      coordinator.node!.stepDown('s', 'its lease is lost');
      const report = await a.promote('s', { force: true });
      expect(report).toMatchObject({ isPromoted: true, epoch, silent: [{ nodeId: 'b' }] });
      await fill();
    }
    // Nothing has come in a batch of an epoch that it is not of: the link is what it was.
    expect(b.status().primaries).toMatchObject([{ isConnected: true }]);
    const last = space.status().durableSequence;
    expect(last).toBe(12 * 200 + 11);
    await until('the replica has all', () => b.space('s').status().durableSequence >= last);
    expect(await contentOf(b.space('s'))).toEqual(await contentOf(space));
  });
});
