/**
 * PostgreSQL's own protocol: COPY in binary form, a transaction for each batch, or one INSERT of
 * all rows of a batch, prepared, with binary parameters. Each batch in flight has a connection.
 */
import { Link } from './link.mjs';

const PROTOCOL = 196_608;
const COPY_SIGNATURE = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1');

const int16 = (value) => {
  const bytes = Buffer.alloc(2);
  bytes.writeInt16BE(value);
  return bytes;
};
const int32 = (value) => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
};
const text = (value) => Buffer.from(`${value}\0`);
const message = (kind, ...parts) => {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from(kind), int32(body.length + 4), body]);
};

export async function connect({ port, how }, { payloads, inFlight }) {
  const links = await Promise.all(Array.from({ length: inFlight }, () => login(port)));
  const count = payloads.length;
  if (how === 'insert') {
    const values = payloads.map((_, n) => `($${n + 1})`).join(',');
    const parse = message('P', text('add'), text(`INSERT INTO log VALUES ${values}`), int16(0));
    for (const link of links) await link.ask(Buffer.concat([parse, message('S')]));
  }
  const table = how === 'copy keyed' ? 'keyed' : 'log';
  const request = how === 'insert' ? insertOf(payloads, count) : copyOf(table, payloads);
  return {
    append: (slot) => links[slot].ask(request),
    close: () => {
      for (const link of links) link.close();
    },
  };
}

function copyOf(table, payloads) {
  const rows = payloads.map((payload) => Buffer.concat([int16(1), int32(payload.length), payload]));
  return Buffer.concat([
    message('Q', text(`COPY ${table} (payload) FROM STDIN (FORMAT binary)`)),
    message('d', COPY_SIGNATURE, ...rows, int16(-1)),
    message('c'),
  ]);
}

function insertOf(payloads, count) {
  const values = payloads.map((payload) => Buffer.concat([int32(payload.length), payload]));
  const formats = [int16(1), int16(1)];
  return Buffer.concat([
    message('B', text(''), text('add'), ...formats, int16(count), ...values, int16(0)),
    message('E', text(''), int32(0)),
    message('S'),
  ]);
}

async function login(port) {
  const link = await Link.open(port, parse);
  const body = [int32(PROTOCOL), text('user'), text('postgres'), text('database')];
  const all = Buffer.concat([...body, text('postgres'), Buffer.from([0])]);
  await link.ask(Buffer.concat([int32(all.length + 4), all]));
  return link;
}

/** An answer is whole where the server is ready for the next query. */
function parse(heard, answer) {
  let at = 0;
  while (heard.length - at >= 5) {
    const size = heard.readInt32BE(at + 1) + 1;
    if (heard.length - at < size) break;
    const kind = heard[at];
    if (kind === 0x45) throw new Error(heard.toString('latin1', at + 5, at + size));
    if (kind === 0x5a) answer();
    at += size;
  }
  return at;
}
