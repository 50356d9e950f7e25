/** JetStream's own protocol: a batch is so many messages, acknowledged one by one. */
import { sleep } from '../../children/child.mjs';
import { Link } from './link.mjs';

const STREAM = { name: 'LOG', subjects: ['log'], storage: 'file', num_replicas: 3 };
const DEADLINE_MS = 30_000;

export async function connect({ ports }, { payloads, inFlight }) {
  const leader = await createStream(ports);
  /** By slot: how many messages are not acknowledged yet, and whom to tell. */
  const open = Array.from({ length: inFlight }, () => ({ left: 0, done: undefined }));
  const link = await greet(ports[leader], ({ subject, body }) => {
    const slot = open[Number(subject.slice('ack.'.length))];
    if (body.includes('"error"')) throw new Error(body);
    if (--slot.left === 0) slot.done();
  });
  link.write('SUB ack.* 1\r\n');
  const requests = open.map((_, slot) =>
    Buffer.concat(
      payloads.flatMap((payload) => [
        Buffer.from(`PUB log ack.${slot} ${payload.length}\r\n`),
        payload,
        Buffer.from('\r\n'),
      ]),
    ),
  );
  return {
    append: (slot) =>
      new Promise((done) => {
        open[slot].left = payloads.length;
        open[slot].done = done;
        link.write(requests[slot]);
      }),
    close: () => link.close(),
  };
}

/** @returns the index of the server that leads the stream */
async function createStream(ports) {
  const deadline = performance.now() + DEADLINE_MS;
  for (;;) {
    const found = await tryCreate(ports[0]).catch((error) => ({ error }));
    if (found.cluster?.leader) return Number(found.cluster.leader.slice(1));
    if (performance.now() > deadline) throw new Error(`no stream: ${JSON.stringify(found)}`);
    await sleep(300);
  }
}

async function tryCreate(port) {
  let link;
  try {
    return await new Promise((resolve, reject) => {
      setTimeout(() => reject(new Error('no answer')), 3_000).unref();
      const ask = async () => {
        link = await greet(port, ({ body }) => resolve(JSON.parse(body)));
        const body = JSON.stringify(STREAM);
        link.write('SUB made 1\r\n');
        link.write(`PUB $JS.API.STREAM.CREATE.LOG made ${body.length}\r\n${body}\r\n`);
      };
      ask().catch(reject);
    });
  } finally {
    link?.close();
  }
}

async function greet(port, heard) {
  const link = await Link.open(port, (bytes) => parse(bytes, heard, link));
  link.write('CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n');
  return link;
}

function parse(bytes, heard, link) {
  let at = 0;
  for (;;) {
    const end = bytes.indexOf(10, at);
    if (end < 0) return at;
    const line = bytes.toString('latin1', at, end - 1);
    let next = end + 1;
    if (line.startsWith('MSG ') || line.startsWith('HMSG ')) {
      const words = line.split(' ');
      const size = Number(words.at(-1));
      if (bytes.length < next + size + 2) return at;
      heard({ subject: words[1], body: bytes.toString('latin1', next, next + size) });
      next += size + 2;
    } else if (line.startsWith('PING')) link?.write('PONG\r\n');
    else if (line.startsWith('-ERR')) throw new Error(line);
    at = next;
  }
}
