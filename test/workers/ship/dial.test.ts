/** Names are asked for at each attempt, and all that they stand for is tried: both who dial. */
import dns from 'node:dns';
import net from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Node } from '#src/main/index.js';
import { nodePlatform } from '#src/main/node/machine.js';
import { CredentialStore } from '#src/main/runtime/credentials.js';
import type { ByteSocket } from '#src/shared/wire/byte-socket.js';
import type { Security } from '#src/shared/wire/tls/certificates.js';
import { dial } from '#src/workers/ship/dial.js';
import { Authority } from '../../support/certificates.js';
import { EachTest } from '../../support/cluster.js';

const life = new EachTest();
const NAME = 'node-b.example';
const lookup = dns.lookup;
/** What the name stands for now; undefined: nobody knows it. */
let addresses: string[] | undefined;
let asked = 0;

beforeEach(() => {
  addresses = undefined;
  asked = 0;
  // Node asks its own module at each connect, and remembers nothing.
  dns.lookup = ((
    name: string,
    options: dns.LookupOptions,
    answer: (...args: unknown[]) => void,
  ) => {
    if (name !== NAME) return lookup(name, options as never, answer as never);
    asked++;
    const found = addresses?.map((address) => ({ address, family: 4 }));
    setImmediate(() => {
      if (!found)
        answer(Object.assign(new Error(`getaddrinfo ENOTFOUND ${name}`), { code: 'ENOTFOUND' }));
      else if (options.all) answer(null, found);
      else answer(null, found[0]!.address, 4);
    });
  }) as typeof dns.lookup;
});

afterEach(() => {
  dns.lookup = lookup;
});

/** Who it is, or why not. */
function outcome(socket: ByteSocket): Promise<string> {
  return new Promise((resolve) => {
    let reason = 'closed';
    socket.on('error', (error) => {
      reason = error.message;
    });
    socket.on('close', () => resolve(reason));
    socket.on('connect', () => {
      resolve(socket.proven?.names[0] ?? `connected to ${socket.remoteAddress}`);
      socket.destroy();
    });
  });
}

const WAYS: Record<string, (to: { host: string; port: number }, s?: Security) => ByteSocket> = {
  'a shipper': (to, security) => dial(to, 10_000, security),
  'a peer call': (to, security) => nodePlatform.connect(to, 10_000, security),
};

describe.each(Object.keys(WAYS))('FAULT-49: %s', (who) => {
  const from = WAYS[who]!;

  test.each([true, false])('asks each time, and tries all addresses (TLS: %s)', async (isTls) => {
    const ours = await Authority.make(life.folder);
    const tlsB = isTls ? { tls: await ours.tlsOf('b') } : {};
    const listen = { host: '127.0.0.2', port: 0 };
    const b: Node = await life.start('b', { listen, ...tlsB });
    const { port } = b.address!;
    const own = { clusterId: 'test', nodeId: 'a', keys: [], tls: await ours.tlsOf('a') };
    const { tls } = (await CredentialStore.open(own)).now;
    const security = isTls ? { tls: tls!, clusterId: 'test', nodeId: 'b' } : undefined;
    const tried = () => outcome(from({ host: NAME, port }, security));
    const there = isTls ? 'URI:engram-wal:test/b' : 'connected to 127.0.0.2';

    expect(await tried()).toContain('ENOTFOUND');
    // Nobody listens at the first of them.
    addresses = ['127.0.0.3', '127.0.0.2'];
    expect(await tried()).toBe(there);
    addresses = ['127.0.0.3'];
    expect(await tried()).toContain('ECONNREFUSED');
    addresses = ['127.0.0.2'];
    expect(await tried()).toBe(there);
    expect(asked).toBe(4);
  });
});

test('FAULT-49: a link follows its replica to another address of its name', async () => {
  // A name of every machine; which of its addresses is listened on changes.
  const names = await new Promise<dns.LookupAddress[]>((resolve, reject) =>
    lookup('localhost', { all: true }, (error, found) => (error ? reject(error) : resolve(found))),
  );
  const ours = await Authority.make(life.folder);
  const tlsB = await ours.tlsOf('b');
  const port = await freePort(names.at(-1)!.address);
  const replicas = [{ nodeId: 'b', host: 'localhost', port }];
  const a = await life.start('a', { replicas, tls: await ours.tlsOf('a') });
  const space = await a.openSpace('s');
  for (const { address } of names) {
    const b = await life.start('b', { listen: { host: address, port }, tls: tlsB });
    const { sequence } = await space.append(1, Buffer.from(address));
    await space.flushed(sequence, { replicas: 1, timeoutMs: 20_000 });
    await b.close();
  }
});

async function freePort(host: string): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
