import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Node } from '#src/main/index.js';
import { FRAME_HEADER_BYTES, PROTOCOL_VERSION } from '#src/shared/limits.js';
import { idOf } from '#src/shared/names.js';
import { writeFrameHeader } from '#src/shared/wire/frame.js';
import { ACK_FLUSHED, encodeFrame, FRAME_KINDS } from '#src/shared/wire/protocol.js';
import { contentOf, makeFolder, openSmall, removeFolder, until } from '../support/cluster.js';
import { batchFrame, PRIMARY, WireClient } from '../support/wire-client.js';

let folder: string;
let replica: Node;
let clients: WireClient[];

beforeEach(async () => {
  folder = makeFolder();
  clients = [];
  const listen = { host: '127.0.0.1', port: 0 };
  replica = await openSmall(path.join(folder, 'b'), 'b', { listen });
});

afterEach(async () => {
  for (const client of clients) client.socket.destroy();
  await replica.close();
  removeFolder(folder);
});

function connect(): WireClient {
  const client = new WireClient(replica.address!.port);
  clients.push(client);
  return client;
}

async function following(): Promise<{ client: WireClient; last: number }> {
  const client = connect();
  await client.hello('b');
  return { client, last: await client.follow('s') };
}

const stored = (): Promise<string[]> => contentOf(replica.space('s'));

describe('the wire, seen by a replica', () => {
  test('FAULT-29 a batch cut off is discarded, and resumed behind what is flushed', async () => {
    const { client, last } = await following();
    expect(last).toBe(0);
    client.socket.write(batchFrame('s', 1, 3));
    expect((await client.next('acks')).rows.slice(0, 3)).toEqual(Float64Array.of(1, 1, 3));
    const frame = batchFrame('s', 4, 9);
    client.socket.write(frame.subarray(0, frame.length - 20));
    client.socket.end();
    await client.closed;
    expect(await stored()).toHaveLength(3);
    const again = await following();
    expect(again.last).toBe(3);
    again.client.socket.write(frame);
    expect((await again.client.next('acks')).rows[ACK_FLUSHED]).toBe(9);
    expect(await stored()).toHaveLength(9);
  });

  test('what came before the end is heard, though work was under way when it ended', async () => {
    const reasons: string[] = [];
    replica.on('primary-connection', ({ reason }) => reasons.push(reason));
    const client = connect();
    await client.hello('b');
    const row = { handle: 1, id: idOf('s'), epoch: 1, name: 's', members: [], sets: [] };
    const spaces = encodeFrame({ kind: 'spaces', rows: [row] });
    const bye = { kind: 'bye', fatal: true, code: 'DuplicateNode', message: 'two of us' } as const;
    client.socket.end(Buffer.concat([spaces, encodeFrame(bye)]));
    await until('it is gone', () => reasons.length === 2);
    expect(reasons[1]).toBe('two of us');
  });

  test('asked three times and told three times to go back, it goes once: no fork', async () => {
    const first = await following();
    first.client.socket.write(batchFrame('s', 1, 9));
    await first.client.next('acks');
    first.client.socket.end();
    await first.client.closed;
    // Another one has led since the fifth.
    const client = connect();
    await client.hello('b', { nodeId: 'other' });
    const space = { handle: 1, id: idOf('s'), epoch: 2, name: 's', members: [], sets: [] };
    const history = [
      { handle: 1, epoch: 1, startSequence: 1, primaryNodeId: idOf(PRIMARY) },
      { handle: 1, epoch: 2, startSequence: 5, primaryNodeId: idOf('other') },
    ];
    const rewind = {
      kind: 'verdicts',
      rows: [{ handle: 1, verdict: 'rewind', next: 20 }],
    } as const;
    const position = async (): Promise<unknown> => {
      const [row] = (await client.next('positions')).rows;
      return [row!.answer, row!.position.sequence];
    };
    for (let n = 0; n < 3; n++) client.send({ kind: 'spaces', rows: [space] });
    for (let n = 0; n < 3; n++) expect(await position()).toEqual(['follows', 9]);
    for (let n = 0; n < 3; n++) {
      client.send({ kind: 'history', rows: history });
      client.send(rewind);
      expect(await position()).toEqual(['follows', 4]);
    }
    expect(await stored()).toHaveLength(4);
    // Once more, though it has gone already and has told so: nobody can say who is right.
    client.send({ kind: 'history', rows: history });
    client.send(rewind);
    expect(await position()).toEqual(['forked', 4]);
  });

  test('a primary that dials again, its old link still open, counts as connected', async () => {
    const told: boolean[] = [];
    replica.on('primary-connection', ({ connected }) => told.push(connected));
    const first = await following();
    const second = await following();
    // The first is given up for the second: that is no loss.
    await first.client.closed;
    await until('both were told', () => told.length >= 2);
    expect(told).toEqual([true, true]);
    expect(replica.status().primaries).toMatchObject([{ isConnected: true }]);
    second.client.socket.end();
    await until('it is gone', () => told.length === 3);
    expect(told).toEqual([true, true, false]);
    expect(replica.status().primaries).toMatchObject([{ isConnected: false }]);
  });

  test('FAULT-30 a batch changed on its way is not stored, the reason is named', async () => {
    const { client } = await following();
    const frame = batchFrame('s', 1, 3);
    frame[frame.length - 1]! ^= 1;
    client.socket.write(frame);
    expect(await client.next('bye')).toMatchObject({ code: 'ChecksumMismatch' });
    await client.closed;
    expect(await stored()).toEqual([]);
  });

  test('FAULT-31 a duplicate is acknowledged again and not written', async () => {
    const { client } = await following();
    client.socket.write(batchFrame('s', 1, 3));
    await client.next('acks');
    const lsn = replica.status().durableLsn;
    client.socket.write(batchFrame('s', 1, 3));
    expect((await client.next('acks')).rows[ACK_FLUSHED]).toBe(3);
    client.socket.write(batchFrame('s', 2, 5));
    expect((await client.next('acks')).rows[ACK_FLUSHED]).toBe(5);
    expect(await stored()).toHaveLength(5);
    // Of five entries two were new: 64 bytes and a short payload each, and at most marks besides.
    expect(replica.status().durableLsn - lsn).toBeLessThan(2 * 80 + 4 * 65);
  });

  test('FAULT-32 a gap is answered with the sequence expected; nothing is stored', async () => {
    const { client } = await following();
    client.socket.write(batchFrame('s', 1, 2));
    await client.next('acks');
    client.socket.write(batchFrame('s', 5, 6));
    expect(await client.next('nack')).toMatchObject({ handle: 1, epoch: 1, expected: 3 });
    client.socket.write(batchFrame('s', 3, 6));
    expect((await client.next('acks')).rows[ACK_FLUSHED]).toBe(6);
    expect(await stored()).toHaveLength(6);
  });

  test('FAULT-41 a frame length beyond the cap ends the connection at any time', async () => {
    const huge = new Uint8Array(FRAME_HEADER_BYTES);
    const head = (kind: number): void =>
      writeFrameHeader(new DataView(huge.buffer), 0, kind, 0xffffffff, 0);
    const early = connect();
    head(FRAME_KINDS.hello);
    early.socket.write(huge);
    expect(await early.next('bye')).toMatchObject({ code: 'ProtocolViolation' });
    await early.closed;
    const late = connect();
    await late.hello('b');
    head(FRAME_KINDS.batches);
    late.socket.write(huge);
    expect(await late.next('bye')).toMatchObject({ code: 'ProtocolViolation' });
    await late.closed;
  });

  test('FAULT-43 the highest common version is spoken; with none both ends are named', async () => {
    const newer = connect();
    const auth = Buffer.alloc(16, 7);
    expect(await newer.hello('b', { minVersion: 1, maxVersion: 9, auth })).toMatchObject({
      version: PROTOCOL_VERSION,
    });
    const foreign = connect();
    foreign.hello('b', { minVersion: 7, maxVersion: 9 }).catch(() => undefined);
    const bye = await foreign.next('bye');
    expect(bye).toMatchObject({ code: 'UnsupportedVersion', fatal: true });
    expect(bye.message).toContain('7 to 9');
    expect(bye.message).toContain(`1 to ${PROTOCOL_VERSION}`);
  });

  test('FAULT-44 another cluster, or another node, is refused for good', async () => {
    for (const [change, code] of [
      [{ clusterId: 'other' }, 'WrongCluster'],
      [{ peerId: 'c' }, 'WrongNode'],
      [{ minVersion: 7, maxVersion: 9 }, 'UnsupportedVersion'],
    ] as const) {
      const client = connect();
      client.hello('b', change).catch(() => undefined);
      expect(await client.next('bye')).toMatchObject({ fatal: true, code });
      await client.closed;
    }
  });

  test('a batch of another epoch than the one introduced is refused', async () => {
    const { client } = await following();
    client.socket.write(batchFrame('s', 1, 1, 2));
    expect(await client.next('bye')).toMatchObject({ code: 'Fenced' });
    expect(await stored()).toEqual([]);
  });

  test('a late batch of the epoch before does not end what is introduced since', async () => {
    const { client } = await following();
    client.socket.write(batchFrame('s', 1, 3));
    await client.next('acks');
    expect(await client.follow('s', 1, 2)).toBe(3);
    client.socket.write(batchFrame('s', 4, 5));
    expect(await client.next('bye')).toMatchObject({ code: 'Fenced' });
    await client.closed;
    const again = connect();
    await again.hello('b');
    expect(await again.follow('s', 1, 2)).toBe(3);
    again.socket.write(batchFrame('s', 4, 5, 2));
    expect((await again.next('acks')).rows.slice(1, 3)).toEqual(Float64Array.of(2, 5));
    expect(await stored()).toHaveLength(5);
  });

  test('a batch of a space that was not introduced is refused', async () => {
    const { client } = await following();
    client.socket.write(batchFrame('other', 1, 1));
    expect(await client.next('bye')).toMatchObject({ code: 'ProtocolViolation' });
  });

  test('garbage, and a frame before hello, end the connection and harm nobody', async () => {
    const garbage = connect();
    garbage.socket.write('GET / HTTP/1.1\r\n\r\n');
    await garbage.closed;
    const early = connect();
    early.send({ kind: 'heartbeat', stalledMs: 0, rows: [] });
    expect(await early.next('bye')).toMatchObject({ code: 'ProtocolViolation' });
    await early.closed;
    const { client } = await following();
    client.socket.write(batchFrame('s', 1, 1));
    expect((await client.next('acks')).rows[ACK_FLUSHED]).toBe(1);
  });

  test('a primary that dials again replaces its old connection', async () => {
    const first = await following();
    const second = await following();
    await first.client.closed;
    second.client.socket.write(batchFrame('s', 1, 1));
    expect((await second.client.next('acks')).rows[ACK_FLUSHED]).toBe(1);
    await until('one entry', () => replica.space('s').status().durableSequence >= 1);
  });
});
