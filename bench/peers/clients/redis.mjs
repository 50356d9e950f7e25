/** XADD, so many in a pipeline, and WAIT until both replicas have them. */
import { Link } from './link.mjs';

const REPLICAS = 2;

const command = (...parts) => {
  const head = Buffer.from(`*${parts.length}\r\n`);
  const all = parts.flatMap((part) => {
    const bytes = Buffer.from(part);
    return [Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from('\r\n')];
  });
  return Buffer.concat([head, ...all]);
};

export async function connect({ port }, { payloads, inFlight }) {
  const adds = payloads.map((payload) => command('XADD', 'log', '*', 'p', payload));
  const request = Buffer.concat([...adds, command('WAIT', String(REPLICAS), '10000')]);
  // A connection that waits takes no more commands: each batch in flight has one of its own.
  const links = await Promise.all(Array.from({ length: inFlight }, () => Link.open(port, parse)));
  return {
    append: async (slot) => {
      const replicas = await links[slot].ask(request);
      if (replicas < REPLICAS) throw new Error(`${replicas} replicas have it`);
    },
    close: () => {
      for (const link of links) link.close();
    },
  };
}

/** Of all answers only that of WAIT is a number. */
function parse(heard, answer) {
  let at = 0;
  for (;;) {
    const end = heard.indexOf(10, at);
    if (end < 0) return at;
    const kind = heard[at];
    if (kind === 0x2d) throw new Error(heard.toString('latin1', at, end));
    if (kind === 0x3a) answer(Number(heard.toString('latin1', at + 1, end - 1)));
    at = end + 1;
  }
}
