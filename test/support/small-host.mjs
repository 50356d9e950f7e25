// A host that appends and replicates, nothing else. It prints what it cost, or ends with the error.
import path from 'node:path';

const rss = () => process.memoryUsage.rss();
const before = rss();
const began = performance.now();
const { openNode } = await import('engram-wal');
const importMs = performance.now() - began;
const importedBytes = rss() - before;

const [dir] = process.argv.slice(2);
const listen = { host: '127.0.0.1', port: 0 };
const of = (nodeId) => ({ nodeId, clusterId: 'c', dataDir: path.join(dir, nodeId) });
const compression = process.env.COMPRESSION ?? 'none';
const b = await openNode({ ...of('b'), listen });
const a = await openNode({ ...of('a'), compression, replicas: [{ nodeId: 'b', ...b.address }] });
const space = await a.openSpace('s');
const payloads = Array.from({ length: 100 }, (_, i) => Buffer.alloc(i * 100, 'what was said '));
const { lastSequence } = await space.appendBatch(1000, payloads);
await space.flushed(lastSequence, { replicas: 1, timeoutMs: 20_000 });
let same = 0;
for await (const { payload } of b.space('s').read()) if (payload.length === same * 100) same++;
const openBytes = rss() - before;
await a.close();
await b.close();
const { version } = process;
console.log(JSON.stringify({ version, entries: same, importMs, importedBytes, openBytes }));
