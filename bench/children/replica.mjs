/** A replica: listens, says where, answers what it has used, closes when told. */
import { openNode } from '#src/main/index.js';
import { cpuSeconds } from './child.mjs';

const options = JSON.parse(process.argv[2]);
const node = await openNode({ ...options, listen: { host: '127.0.0.1', port: 0 } });
node.on('fatal', ({ error }) => {
  process.send({ kind: 'failed', message: String(error) });
});
process.send({ kind: 'listening', port: node.address.port });

let before = process.cpuUsage();
process.on('message', (message) => {
  if (message.kind === 'mark') {
    before = process.cpuUsage();
    globalThis.benchThreads?.mark();
  }
  if (message.kind === 'used') {
    const { durableSequence } = node.space('bench').status();
    const used = { ...cpuSeconds(before), maxRssBytes: maxRssBytes(), durableSequence };
    // Only where bench/where.ts has preloaded threads.cjs.
    const threads = globalThis.benchThreads?.read();
    globalThis.benchThreads?.endProfiles();
    process.send({ kind: 'used', used: { ...used, threads } });
  }
  if (message.kind === 'close') void node.close().then(() => process.disconnect());
});
// The parent is gone: nobody wants the figures.
process.on('disconnect', () => void node.close());

function maxRssBytes() {
  return process.resourceUsage().maxRSS * 1024;
}
