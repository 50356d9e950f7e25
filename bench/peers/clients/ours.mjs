/** A client of children/server.mjs: batches over a socket, or over HTTP with kept connections. */
import http from 'node:http';
import { Link } from './link.mjs';

const ANSWER_BYTES = 8;

export async function connect({ port, httpPort, how }, { payloads, inFlight }) {
  const body = Buffer.concat(
    payloads.flatMap((payload) => {
      const length = Buffer.alloc(4);
      length.writeUInt32LE(payload.length);
      return [length, payload];
    }),
  );
  if (how === 'http') return overHttp(httpPort, body, inFlight);
  const size = Buffer.alloc(4);
  size.writeUInt32LE(body.length);
  const request = Buffer.concat([size, body]);
  const link = await Link.open(port, (heard, answer) => {
    let at = 0;
    for (; heard.length - at >= ANSWER_BYTES; at += ANSWER_BYTES) {
      answer(Number(heard.readBigUInt64LE(at)));
    }
    return at;
  });
  return {
    append: async () => {
      if ((await link.ask(request)) === 0) throw new Error('the append was refused');
    },
    close: () => link.close(),
  };
}

function overHttp(port, body, inFlight) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: inFlight });
  const headers = { 'content-length': body.length };
  return {
    append: () =>
      new Promise((resolve, reject) => {
        const to = { host: '127.0.0.1', port, method: 'POST', path: '/append', agent, headers };
        const request = http.request(to, (response) => {
          response.resume();
          response.on('end', () => {
            if (response.statusCode === 200) resolve();
            else reject(new Error(`HTTP ${response.statusCode}`));
          });
        });
        request.on('error', reject);
        request.end(body);
      }),
    close: () => agent.destroy(),
  };
}
