// A process that only consumes: nothing but what it waits for keeps it alive. argv: data directory,
// what it waits for. Prints what came of it.
import { openNode } from '../../dist/main/index.js';

const [dataDir, what] = process.argv.slice(2);

const node = await openNode({ clusterId: 'test', nodeId: 'a', dataDir });
const space = await node.openSpace('s');

/** The entry that is waited for; the timer keeps nothing alive. */
function appendLater(text) {
  setTimeout(() => void space.append(1, Buffer.from(text)), 400).unref();
}

const waits = {
  async subscribe() {
    appendLater('late');
    for await (const { payload } of space.subscribe()) return Buffer.from(payload).toString();
  },
  async 'subscribe, called by hand'() {
    appendLater('late');
    const entries = space.subscribe();
    const { value } = await entries.next();
    return Buffer.from(value.payload).toString();
  },
  async 'subscribe, aborted'() {
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 400).unref();
    for await (const _ of space.subscribe({ signal: stop.signal }));
    return 'aborted';
  },
  async flushed() {
    appendLater('late');
    await space.flushed(1);
    return 'flushed';
  },
  async 'flushed too late'() {
    const { code } = await space.flushed(1, { timeoutMs: 300 }).catch((error) => error);
    return code;
  },
  async 'append and read'() {
    await Promise.all(Array.from({ length: 30_000 }, () => space.append(1, Buffer.alloc(1_000))));
    let count = 0;
    for await (const _ of space.read()) count++;
    return `${count}`;
  },
  async 'calls of a node'() {
    await space.append(1, Buffer.from('x'));
    await node.addReplica({ nodeId: 'b', host: '127.0.0.1', port: 9 });
    await node.removeReplica('b');
    await node.promote('s', { force: true });
    await space.checkpoint(1);
    await node.metrics();
    return 'done';
  },
  // Nothing waits any more: the process ends, though nobody has closed the node.
  async 'a loop that was left'() {
    await space.append(1, Buffer.from('x'));
    for await (const _ of space.subscribe()) break;
    setTimeout(() => console.log('still alive'), 60_000).unref();
    return 'left';
  },
};

console.log(await waits[what]());
if (what !== 'a loop that was left') await node.close();
