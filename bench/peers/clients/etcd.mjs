/**
 * A transaction of so many puts, each of a key of its own, to the member that leads: gRPC by hand,
 * the puts encoded before the clock starts, their keys counted up in place.
 */
import http2 from 'node:http2';

const KEY_DIGITS = 12;
/** Requests of one connection go over one socket: several sockets are several readers. */
const SESSIONS = 4;

export async function connect({ endpoints }, { payloads, inFlight }) {
  const leader = await leaderOf(endpoints);
  const sessions = Array.from({ length: SESSIONS }, () => http2.connect(leader));
  const bodies = Array.from({ length: inFlight }, () => bodyOf(payloads));
  let next = 1;
  return {
    append: async (slot) => {
      const { bytes, keysAt } = bodies[slot];
      for (const at of keysAt) {
        bytes.latin1Write(String(next++).padStart(KEY_DIGITS, '0'), at, KEY_DIGITS);
      }
      await call(sessions[slot % SESSIONS], bytes);
    },
    close: () => {
      for (const session of sessions) session.destroy();
    },
  };
}

/** TxnRequest: success (2) lists RequestOps; request_put (2) of each has key (1) and value (2). */
function bodyOf(payloads) {
  const key = Buffer.from(`log/${'0'.repeat(KEY_DIGITS)}`);
  const ops = payloads.map((payload) => {
    const put = Buffer.concat([field(1, key), field(2, Buffer.from(payload))]);
    return field(2, field(2, put));
  });
  const message = Buffer.concat(ops);
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  const bytes = Buffer.concat([head, message]);
  const keysAt = [];
  for (let at = bytes.indexOf(key); at >= 0; at = bytes.indexOf(key, at + 1)) {
    keysAt.push(at + key.length - KEY_DIGITS);
  }
  return { bytes, keysAt };
}

/** A field of bytes, as protocol buffers have it. */
function field(number, value) {
  const head = [(number << 3) | 2];
  let length = value.length;
  for (; length > 127; length = Math.floor(length / 128)) head.push((length % 128) | 128);
  head.push(length);
  return Buffer.concat([Buffer.from(head), value]);
}

function call(session, body) {
  return new Promise((resolve, reject) => {
    const stream = session.request({
      ':method': 'POST',
      ':path': '/etcdserverpb.KV/Txn',
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    let status;
    const heard = (headers) => {
      if (headers['grpc-status'] === undefined) return;
      status = headers['grpc-status'];
      if (status !== '0') reject(new Error(`etcd: ${headers['grpc-message']}`));
    };
    stream.on('response', heard);
    stream.on('trailers', heard);
    stream.on('error', reject);
    stream.on('close', () => (status === '0' ? resolve() : reject(new Error('etcd: no answer'))));
    stream.resume();
    stream.end(body);
  });
}

async function leaderOf(endpoints) {
  for (const endpoint of endpoints) {
    const answer = await fetch(`${endpoint}/v3/maintenance/status`, { method: 'POST', body: '{}' });
    const { leader, header } = await answer.json();
    if (leader === header.member_id) return endpoint;
  }
  throw new Error('no member leads');
}
