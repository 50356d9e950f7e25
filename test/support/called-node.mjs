// One node in a process of its own. Argument: its options as JSON; it says `open` with its address.
// Its parent calls it: { id, call, args }, answered by { id, done } or { id, code }. Payloads are
// text.
import { openNode } from '../../dist/main/index.js';

process.on('disconnect', () => process.exit(0));
const node = await openNode(JSON.parse(process.argv[2]));

const CALLS = {
  open: async (name) => void (await node.openSpace(name)),
  append: (name, payload, ack) => node.space(name).append(1, Buffer.from(payload), { ack }),
  promote: (name, options) => node.promote(name, options),
  directory: () => node.status().directoryId,
  status: (name) => node.spaces.find((s) => s.name === name)?.status(),
  read: async (name) => {
    const found = [];
    for await (const { sequence, epoch, payload } of node.space(name).read()) {
      found.push({ sequence, epoch, payload: Buffer.from(payload).toString() });
    }
    return found;
  },
};

function plain(value) {
  const text = JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? String(v) : v));
  return text && JSON.parse(text);
}

process.on('message', async ({ id, call, args }) => {
  try {
    process.send({ id, done: plain(await CALLS[call](...args)) });
  } catch (error) {
    process.send({ id, code: error.code ?? 'none', message: error.message });
  }
});
process.send({ open: node.address });
