// seed.mjs CONFIG COUNT: what an application would have appended, as the node of CONFIG.
import { readServeConfig } from '#src/main/cli/serve-config.js';
import { openNode } from '#src/main/index.js';

const [config, count] = process.argv.slice(2);
const { options, spaces } = await readServeConfig(config);
const node = await openNode(options);
for (const { name } of spaces) {
  const space = await node.openSpace(name);
  for (let n = 1; n <= Number(count); n++) {
    const isLast = n === Number(count);
    const ack = isLast ? { ack: { replicas: 2, timeoutMs: 20_000 } } : {};
    await space.append(1, Buffer.from(`${name} ${n}`), ack);
  }
}
await node.close();
