/**
 * A memory for agents: episodes, kept as they come, recalled by time.
 *
 *     npx tsx examples/agent-memory.ts ./data
 *     remember anna the kettle is hot
 *     recall anna last 5
 *     recall anna since 2026-11-27T10:00:00Z
 *     recall anna before 2026-11-27T10:00:00Z 5
 *
 * One command a line on standard input. `recall` tells the newest episode first, one a line, and
 * then how many they were.
 *
 * What it promises: what was answered with `ok` is on the disk, and recalled from then on, by its
 * own agent alone. What recalling costs follows what is recalled, not how much there is.
 */
import readline from 'node:readline';
import { Readable } from 'node:stream';
import { EntryType, jsonCodec, openNode, type ReadRange } from 'engram-wal';

interface Episode {
  readonly text: string;
}

const codec = jsonCodec<Episode>();
/** Commands under way: the more, the more share one fdatasync. */
const concurrency = 1_000;

const [dataDir] = process.argv.slice(2);
if (dataDir === undefined) throw new Error('usage: agent-memory.ts DATA_DIR');
await using node = await openNode({ dataDir, nodeId: 'memory', clusterId: 'example' });
// A write or an fdatasync has failed for good: end, and let whoever started this start it again.
node.on('fatal', ({ error }) => {
  console.error(error);
  process.exit(1);
});

async function remember(agent: string, text: string): Promise<string> {
  const space = await node.openSpace(agent, { codec });
  const { sequence } = await space.append(EntryType.EpisodeStore, { text });
  return `ok ${agent} ${sequence}`;
}

/** Which of an agent's episodes, in the words of a command. */
async function rangeOf(agent: string, how: string, what = '', count = ''): Promise<ReadRange> {
  if (how === 'last') return { last: Number(what) };
  if (how === 'since') return { fromTime: new Date(what) };
  if (how !== 'before') throw new Error('recall AGENT last N, since TIME, or before TIME N');
  return { to: (await node.space(agent).seek(new Date(what))) - 1, last: Number(count) };
}

async function recall(agent: string, words: readonly string[]): Promise<string> {
  const [how = '', what, count] = words;
  const space = await node.openSpace(agent, { codec });
  const range = await rangeOf(agent, how, what, count);
  const found: string[] = [];
  for await (const { timestamp, value } of space.read({ ...range, reverse: true })) {
    const at = new Date(Number(timestamp / 1_000_000n)).toISOString();
    found.push(`${agent} ${at} ${value.text}`);
  }
  return [...found, `recalled ${agent} ${found.length}`].join('\n');
}

async function answer(line: string): Promise<void> {
  const [command, agent = '', ...words] = line.trim().split(/\s+/);
  try {
    if (command === 'remember') console.log(await remember(agent, words.join(' ')));
    else if (command === 'recall') console.log(await recall(agent, words));
    else throw new Error('commands are remember and recall');
  } catch (error) {
    console.log(`no ${line.trim()}: ${(error as Error).message.split('\n', 1)[0]}`);
  }
}

const lines = readline.createInterface({ input: process.stdin });
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => lines.close());
await Readable.from(lines).forEach(answer, { concurrency });
// At a signal it is not at its end, and would keep the process.
process.stdin.destroy();
