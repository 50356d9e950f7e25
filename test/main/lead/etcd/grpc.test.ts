/** What the client of etcd makes of bytes: messages, frames, and what no etcd would send. */
import { once } from 'node:events';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { GrpcConnection } from '#src/main/lead/etcd/grpc.js';
import { EtcdLink } from '#src/main/lead/etcd/link.js';
import { Fields, Message } from '#src/main/lead/etcd/messages.js';
import { EachTest } from '../../../support/cluster.js';

const life = new EachTest();

const hex = (message: Message): string => Buffer.from(message.encoded()).toString('hex');

describe('messages', () => {
  test('are what protobufjs makes of the same, by the .proto files of etcd', () => {
    // RangeRequest, LeaseKeepAliveRequest, Compare of a revision 0, TxnRequest, WatchRequest.
    expect(hex(new Message().bytes(1, 'a/').bytes(2, 'a0'))).toBe('0a02612f12026130');
    expect(hex(new Message().int(1, 7_587_869_134_510_073_877n))).toBe('0895d0fee4e8d8e1a669');
    expect(hex(new Message().int(1, 0).int(2, 2).bytes(3, 'k').int(6, 0))).toBe(
      '080010021a016b3000',
    );
    const put = new Message().bytes(1, 'k').bytes(2, 'v').int(3, 5);
    const txn = new Message().bytes(2, new Message().bytes(2, put));
    expect(hex(txn)).toBe('120a12080a016b1201761805');
    const watch = new Message().bytes(1, 'a/').bytes(2, 'a0').int(3, 300);
    expect(hex(new Message().bytes(1, watch))).toBe('0a0b0a02612f1202613018ac02');
  });

  test('say what was put in, whatever else is in them', () => {
    fc.assert(
      fc.property(fc.bigInt(0n, 2n ** 63n - 1n), fc.string(), (number, text) => {
        const inner = new Message().int(3, number).bytes(5, text);
        const odd = Buffer.concat([
          new Message().int(1, 1).bytes(2, inner).bytes(2, inner).encoded(),
          Buffer.from([9 * 8 + 1, 1, 2, 3, 4, 5, 6, 7, 8, 10 * 8 + 5, 1, 2, 3, 4]),
        ]);
        const fields = new Fields(odd);
        expect(fields.int(1)).toBe(1);
        expect(fields.all(2).map((one) => one.big(3))).toEqual([number, number]);
        expect(fields.message(2).text(5)).toBe(text);
        expect([fields.int(7), fields.text(7), fields.all(7)]).toEqual([0, '', []]);
      }),
    );
  });

  test('that are none are refused, and nothing is read beyond their end', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        try {
          new Fields(bytes);
        } catch (error) {
          expect(String(error)).toContain('no message of etcd');
        }
      }),
      { numRuns: 5_000 },
    );
    expect(() => new Fields(Buffer.from('0aff', 'hex'))).toThrow('within a number');
    expect(() => new Fields(Buffer.from('0a05aa', 'hex'))).toThrow('5 bytes are announced');
    expect(() => new Fields(Buffer.alloc(11, 0xff))).toThrow('within a number');
  });
});

type Serve = (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void;

async function server(serve: Serve): Promise<string> {
  const made = http2.createServer();
  made.on('stream', serve);
  const sessions = new Set<http2.ServerHttp2Session>();
  made.on('session', (session) => sessions.add(session));
  made.listen(0, '127.0.0.1');
  await once(made, 'listening');
  life.finally(() => {
    for (const session of sessions) session.destroy();
    made.close();
  });
  return `http://127.0.0.1:${(made.address() as AddressInfo).port}`;
}

function connect(endpoint: string): GrpcConnection {
  const connection = new GrpcConnection(endpoint);
  life.finally(() => connection.close());
  return connection;
}

const NOTHING = new Uint8Array();

/** Answers with these bytes in pieces of `size`, then with the status. */
function answering(bytes: Buffer, size: number, status: string): Serve {
  return (stream) => {
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc' },
      { waitForTrailers: true },
    );
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': status }));
    for (let at = 0; at < bytes.length; at += size) stream.write(bytes.subarray(at, at + size));
    stream.end();
  };
}

describe('calls', () => {
  test('take an answer in whatever pieces it comes', async () => {
    const frame = Buffer.concat([Buffer.from([0, 0, 0, 0, 5]), Buffer.from('hello')]);
    for (const size of [1, 3, 100]) {
      const connection = connect(await server(answering(frame, size, '0')));
      const answer = await connection.call('/x', NOTHING, undefined);
      expect(Buffer.from(answer).toString()).toBe('hello');
    }
  });

  test('show a token, and say what etcd refuses with', async () => {
    const seen: unknown[] = [];
    const endpoint = await server((stream, headers) => {
      seen.push(headers.token, headers['content-type'], headers[':path']);
      const message = 'etcdserver%3A permission denied';
      stream.respond({ ':status': 200, 'grpc-status': '7', 'grpc-message': message });
      stream.end();
    });
    const call = connect(endpoint).call('/etcdserverpb.KV/Range', NOTHING, 'a token');
    await expect(call).rejects.toMatchObject({
      status: 7,
      message: 'etcdserver: permission denied',
    });
    expect(seen).toEqual(['a token', 'application/grpc', '/etcdserverpb.KV/Range']);
  });

  test.each<[string, Serve, string]>([
    [
      'a length beyond all bounds',
      answering(Buffer.from([0, 255, 255, 255, 255]), 5, '0'),
      'bytes',
    ],
    ['a compressed answer', answering(Buffer.from([1, 0, 0, 0, 0]), 5, '0'), 'compressed'],
    ['half an answer', answering(Buffer.from([0, 0, 0, 0, 9, 1]), 6, '0'), 'status 0'],
    ['another status', answering(NOTHING as Buffer, 1, '14'), 'status 14'],
    [
      'a web server',
      (stream) => {
        stream.respond({ ':status': 404 });
        stream.end('no');
      },
      'is no etcd: HTTP status 404',
    ],
    ['an end in the middle', (stream) => stream.session!.destroy(), 'close'],
  ])('refuse %s, at once', async (_, serve, why) => {
    const call = connect(await server(serve)).call('/x', NOTHING, undefined);
    await expect(call).rejects.toThrow(why);
  });

  test('that get no answer end in time, and the link can be closed', async () => {
    const hooks = { kept: () => undefined, expired: () => undefined, failed: () => undefined };
    const link = new EtcdLink(await server(() => undefined), 100, hooks);
    await expect(link.get('k')).rejects.toThrow('no answer from etcd in 100 ms');
    const pending = expect(link.get('k')).rejects.toThrow('closed');
    link.close();
    await pending;
  });
});
