/**
 * The procedures of docs/OPERATIONS.md, Keys and certificates, on three nodes that all lead under
 * load: a new key, new certificates, a new authority. After each step every link is cut once, so
 * that what was read is what it comes back with.
 */
import fs from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Node, NodeOptions, Space } from '#src/main/index.js';
import { nodePlatform } from '#src/main/node/machine.js';
import { PeerClient } from '#src/main/peer/client.js';
import { CredentialStore } from '#src/main/runtime/credentials.js';
import { Authority } from '../support/certificates.js';
import { contentOf, until } from '../support/cluster.js';
import { Trio } from '../support/trio.js';

const IDS = ['a', 'b', 'c'] as const;
const [OLD, NEW] = ['the old key of all three nodes', 'the new key of all three nodes'];
/** What links and appends may lack. */
const LOST_MAX_MS = 1_000;
const AT_ONCE = 50;

type Tls = NonNullable<NodeOptions['tls']>;

let trio: Trio;
const files: Record<string, Tls & { readonly keyOfAll: string }> = {};

beforeEach(async () => {
  trio = await Trio.make(IDS, true);
});

afterEach(() => trio.close());

/** Appends without a pause, and remembers whatever is refused. */
class Load {
  readonly refused: string[] = [];
  acknowledged = 0;
  #isOver = false;
  readonly #done: Promise<void>;

  constructor(space: Space) {
    this.#done = this.#run(space);
  }

  async #run(space: Space): Promise<void> {
    const payload = Buffer.alloc(256, 7);
    const ack = { replicas: 2, timeoutMs: 20_000 };
    while (!this.#isOver) {
      const appends = Array.from({ length: AT_ONCE }, () => space.append(1, payload, { ack }));
      for (const ended of await Promise.allSettled(appends)) {
        if (ended.status === 'fulfilled') this.acknowledged++;
        else this.refused.push(String(ended.reason.message).split('\n')[0]!);
      }
      // Others want the processor as well.
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async end(): Promise<void> {
    this.#isOver = true;
    await this.#done;
  }
}

/** How long each link of a node was not there, ms, each time. */
function watchLosses(node: Node): number[] {
  const losses: number[] = [];
  const since = new Map<string, number>();
  node.on('replica-state', ({ replicaId, state }) => {
    const isOpen = state === 'streaming' || state === 'catching-up';
    const lostMs = since.get(replicaId);
    if (isOpen && lostMs !== undefined) {
      losses.push(performance.now() - lostMs);
      since.delete(replicaId);
    } else if (!isOpen && lostMs === undefined) {
      since.set(replicaId, performance.now());
    }
  });
  return losses;
}

/** Puts a text where a file is, as a whole. */
function put(file: string, text: string): void {
  fs.writeFileSync(`${file}.new`, text, { mode: 0o600 });
  fs.renameSync(`${file}.new`, file);
}

const text = (file: string): string => fs.readFileSync(file, 'utf8');

/** What a node would be told that has these files. */
async function outcome(tls: Tls, key: string, port: number): Promise<string> {
  const keys = [Buffer.from(key)];
  const credentials = await CredentialStore.open({ clusterId: 'test', nodeId: 'c', keys, tls });
  const caps = { maxEntryBytes: 1_024, maxFrameBytes: 1_048_576 };
  const times = { readTimeoutMs: 10_000, keepAliveMs: 10_000 };
  const own = { clusterId: 'test', nodeId: 'c', incarnation: 1n, directoryId: 'c'.repeat(32) };
  const client = new PeerClient(nodePlatform, { ...own, ...caps, ...times, credentials });
  const member = { nodeId: 'a', host: '127.0.0.1', port };
  const question = { kind: 'standing-ask', ids: ['0'.repeat(32)] } as const;
  const asked = client.ask(member, question, ['standing'], 10_000);
  return await asked.then(
    () => 'answered',
    (error) => String(error.message).split('\n')[0]!,
  );
}

describe('FAULT-48: on three loaded nodes', () => {
  test('key, certificates and authority change; no link is lost, no append refused', async () => {
    const first = await Authority.make(trio.folder);
    const second = await Authority.make(trio.folder);
    for (const id of IDS) {
      const keyOfAll = path.join(trio.folder, `key-${id}`);
      put(keyOfAll, OLD);
      files[id] = { ...(await first.tlsOf(id)), keyOfAll };
    }
    const kept = { ...files.c! };
    for (const part of ['caFile', 'certFile', 'keyFile'] as const) {
      fs.copyFileSync(kept[part], `${kept[part]}.kept`);
      kept[part] = `${kept[part]}.kept`;
    }
    const nodes: Node[] = [];
    for (const id of IDS) {
      const { keyOfAll: keyFile, ...tls } = files[id]!;
      // It cuts links more often than real ones break: none is to be given up for that.
      const links = { backoffStepsMs: [20, 20], maxRetries: 100 };
      nodes.push(await trio.start(id, { lead: true, keyFile, tls, ...links }));
    }
    const spaces: Space[] = [];
    for (const node of nodes) spaces.push(await node.openSpace(`of-${node.nodeId}`));
    const loads = spaces.map((space) => new Load(space));
    await until('all append', () => loads.every((load) => load.acknowledged > AT_ONCE), 60_000);
    const losses = nodes.map(watchLosses);

    /** One step of a procedure, on one node after the other, then each link is cut. */
    const step = async (change: (id: (typeof IDS)[number]) => Promise<void> | void) => {
      for (const [i, id] of IDS.entries()) {
        await change(id);
        await nodes[i]!.reloadCredentials();
      }
      for (const from of IDS) {
        for (const to of IDS.filter((id) => id !== from)) {
          const before = loads.map((load) => load.acknowledged);
          trio.linkOf(from, to).cut();
          // Appends that wait for both replicas are acknowledged again.
          await until(`${from} to ${to} is back`, () =>
            loads.every((load, n) => load.acknowledged > before[n]! + 2 * AT_ONCE),
          );
        }
      }
    };
    // A new key.
    await step((id) => put(files[id]!.keyOfAll, `${OLD}\n${NEW}\n`));
    expect(nodes.map((node) => node.status().credentials.keys)).toEqual([2, 2, 2]);
    await step((id) => put(files[id]!.keyOfAll, `${NEW}\n${OLD}\n`));
    await step((id) => put(files[id]!.keyOfAll, `${NEW}\n`));
    const { port } = trio.members[0]!;
    expect(await outcome(kept, OLD, port)).toContain('AuthFailed');
    expect(await outcome(kept, NEW, port)).toBe('answered');
    // New certificates of the same authority.
    const renew = (authority: Authority) => async (id: (typeof IDS)[number]) => {
      const made = await authority.tlsOf(id);
      for (const part of ['certFile', 'keyFile'] as const) put(files[id]![part], text(made[part]));
    };
    await step(renew(first));
    // A new authority: both are accepted, then it gives certificates, then it is the only one.
    await step((id) => put(files[id]!.caFile, `${first.ca}${second.ca}`));
    await step(renew(second));
    await step((id) => put(files[id]!.caFile, second.ca));
    expect(await outcome(kept, NEW, port)).toContain('AuthFailed');
    expect(await outcome(files.c!, NEW, port)).toBe('answered');

    for (const load of loads) await load.end();
    expect(loads.flatMap((load) => load.refused)).toEqual([]);
    // Each link was cut once a step, and by nothing else.
    expect(losses.map((all) => all.length)).toEqual([14, 14, 14]);
    const longest = Math.max(...losses.flat());
    expect(longest).toBeLessThan(LOST_MAX_MS);
    for (const [i, space] of spaces.entries()) {
      const content = await contentOf(space);
      expect(content.length).toBeGreaterThanOrEqual(loads[i]!.acknowledged);
      for (const node of nodes) expect(await contentOf(node.space(space.name))).toEqual(content);
    }
  }, 120_000);
});
