/** Nodes that listen on every address of their machine: what others are told (row 94). */
import { expect, test } from 'vitest';
import type { Node, NodeOptions } from '#src/main/index.js';
import { readOptions } from '#src/main/options/config.js';
import { isWildcard } from '#src/shared/address.js';
import { ByteReader, ByteWriter } from '#src/shared/bytes.js';
import { readMembers } from '#src/shared/log/node-record.js';
import { EachTest } from '../../support/cluster.js';

const key = 'a key of sixteen bytes';
const each = new EachTest();

/** A primary that listens there, and its replica, which has heard of a space. */
async function pair(host: string, more: Partial<NodeOptions> = {}): Promise<[Node, Node]> {
  const b = await each.start('b', { key, listen: { host: '127.0.0.1', port: 0 } });
  const a = await each.start('a', {
    key,
    lead: true,
    listen: { host, port: 0 },
    replicas: [{ nodeId: 'b', ...b.address! }],
    ...more,
  });
  const space = await a.openSpace('s');
  await space.append(1, new Uint8Array(1), { ack: { replicas: 1 } });
  return [a, b];
}

/** The addresses of `a` that anybody is told: by itself, by its replica, in an error. */
async function told([a, b]: readonly Node[]): Promise<unknown[]> {
  const refused = await b!
    .space('s')
    .append(1, new Uint8Array(1))
    .catch((error) => error);
  expect(refused).toMatchObject({ code: 'NotPrimary', details: { primaryNodeId: 'a' } });
  expect(refused.message).not.toMatch(/ at (0|:|\[)/);
  const located = [await a!.locate('s'), await b!.locate('s')];
  expect(located).toMatchObject([{ nodeId: 'a' }, { nodeId: 'a' }]);
  return [refused.details.address, ...located.map(({ address }) => address)];
}

test.each([
  '0.0.0.0',
  '::',
  '0',
  '0x0',
  '::ffff:0.0.0.0',
  '0:0:0:0:0:0:0:0',
  '0.0',
])('FAULT-94 %s is told to nobody', async (host) => {
  const nodes = await pair(host);
  expect(nodes[0].address).toMatchObject({ host });
  expect(await told(nodes)).toEqual([undefined, undefined, undefined]);
});

test('FAULT-94 what is advertised is told, and a promoted node is found by it', async () => {
  const advertise = { host: '127.0.0.1', port: 7_409 };
  const nodes = await pair('0.0.0.0', { advertise });
  expect(await told(nodes)).toEqual([advertise, advertise, advertise]);
});

test('FAULT-94 what an older release has told or kept is nobody’s address either', () => {
  const w = new ByteWriter();
  w.u16(2).text('a').text('0.0.0.0').u16(7_401).text('b').text('10.0.0.2').u16(7_402);
  expect(readMembers(new ByteReader(w.bytes(), 'ProtocolViolation'))).toEqual([
    { nodeId: 'a', host: '', port: 0 },
    { nodeId: 'b', host: '10.0.0.2', port: 7_402 },
  ]);
});

test('FAULT-94 nobody is to dial a wildcard: replicas, advertise, addReplica', async () => {
  const base = { dataDir: 'd', nodeId: 'a', clusterId: 'c', key };
  const anywhere = { host: '0.0.0.0', port: 7_401 };
  const listen = anywhere;
  for (const more of [
    { replicas: [{ nodeId: 'b', ...anywhere }] },
    { listen, advertise: anywhere },
    { listen, advertise: { host: '[::]', port: 1 } },
  ]) {
    expect(() => readOptions({ ...base, ...more })).toThrow(/a host that can be dialled/);
  }
  expect(() => readOptions({ ...base, advertise: { host: 'x', port: 1 } })).toThrow(/listen/);
  const etcd = { kind: 'etcd', endpoints: ['http://127.0.0.1:2379'] } as const;
  for (const host of ['0.0.0.0', '::', '0', '::ffff:0.0.0.0']) {
    const given = { ...base, coordinator: etcd, listen: { host, port: 1 } };
    expect(() => readOptions(given)).toThrow(/advertise/);
    const advertise = { host: '10.0.0.1', port: 1 };
    expect(readOptions({ ...given, advertise })).toMatchObject({ advertise });
    const older = { ...given, coordinator: { ...etcd, advertise } };
    expect(readOptions(older)).toMatchObject({ advertise });
    const two = { ...older, advertise: { host: '10.0.0.2', port: 1 } };
    expect(() => readOptions(two)).toThrow(/coordinator.advertise/);
  }
  const node = await each.start('a', { key });
  await expect(node.addReplica({ nodeId: 'b', ...anywhere })).rejects.toThrow(/can be dialled/);
});

test('hosts that only look like a wildcard', () => {
  for (const host of ['10.0.0.0', '0.0.0.1', '::1', 'f', 'x', '::ffff:127.0.0.1', 'fe00::']) {
    expect([host, isWildcard(host)]).toEqual([host, false]);
  }
});
