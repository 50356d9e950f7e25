/** Appends in bursts, each awaited, plain and with what an append may be asked for besides. */
import { Packr } from 'msgpackr';
import { Bench } from 'tinybench';
import { jsonCodec, msgpackCodec, openNode } from '#src/main/index.js';
import { randomPayload, runJob, whenStreaming } from './child.mjs';

const TYPE = 1000;
/** Less than may be on their way from a member to who leads. */
const BURST = 200;
const PLAIN = 'plain';
const PLAIN_REPLICATED = 'plain, with a replica';
const CLUSTER = { clusterId: 'bench' };
const LONG = { timeoutMs: 30_000 };

await runJob(async (job) => {
  const host = { applyWhenLeading: true, apply: () => undefined };
  const [alone, leader, member] = await openAll(job, host);
  // A burst is many calls by itself: of a slow disk few will do.
  const times = { iterations: 10, warmupTime: 50, warmupIterations: 5 };
  const bench = new Bench({ time: job.seconds * 1000, ...times });
  /** By name: what a case is held against. */
  const against = new Map();
  const piece = (name, plain, append) => {
    against.set(name, plain);
    bench.add(name, async () => {
      const calls = [];
      for (let n = 0; n < BURST; n++) calls.push(append());
      await Promise.all(calls);
    });
  };
  const payload = randomPayload(job.payloadBytes);
  const plain = await alone.openSpace('plain');
  piece(PLAIN, PLAIN, () => plain.append(TYPE, payload));
  await onOne(piece, alone, plain, payload);
  await values(piece, alone, job.payloadBytes);
  await onTwo(piece, leader, member, payload);
  // What noise is: the very same case again, behind all others.
  piece('plain, again', PLAIN, () => plain.append(TYPE, payload));
  await bench.run();
  for (const node of [leader, member, alone]) await node.close();
  return bench.tasks.map(({ name, result }) => {
    if (!result.latency) throw result.error ?? new Error(`${name}: ${result.state}`);
    const nsPerEntry = (result.latency.mean / BURST) * 1e6;
    return { piece: name, against: against.get(name), nsPerEntry };
  });
});

/** One without replicas, and two of which one leads. */
async function openAll({ alone, leader, member }, host) {
  const here = { host: '127.0.0.1', port: 0 };
  const follows = await openNode({
    ...CLUSTER,
    ...host,
    dataDir: member,
    nodeId: 'm',
    listen: here,
  });
  const leads = await openNode({
    ...CLUSTER,
    ...host,
    dataDir: leader,
    nodeId: 'l',
    listen: here,
    lead: true,
    replicas: [{ nodeId: 'm', ...follows.address }],
  });
  return [await openNode({ ...CLUSTER, dataDir: alone, nodeId: 'a' }), leads, follows];
}

async function onOne(piece, node, plain, payload) {
  const versioned = await node.openSpace('versioned');
  let last = 0;
  piece('expected', PLAIN, () => versioned.append(TYPE, payload, { expected: last++ }));
  const never = new AbortController();
  piece('signal', PLAIN, () => plain.append(TYPE, payload, { signal: never.signal }));
  piece('waitFor behind it', PLAIN, async () => {
    await plain.waitFor(await plain.append(TYPE, payload), LONG);
  });
  piece('node.append, on who leads', PLAIN, () => node.append('plain', TYPE, payload));
}

/** The same bytes as a value of the host's: what its codec costs is in it. */
async function values(piece, node, payloadBytes) {
  const value = { text: 'x'.repeat(payloadBytes - '{"text":""}'.length) };
  const json = await node.openSpace('json', { codec: jsonCodec() });
  piece('a value, by jsonCodec', PLAIN, () => json.append(TYPE, value));
  const packed = await node.openSpace('packed', { codec: msgpackCodec(new Packr()) });
  piece('a value, by msgpackCodec', PLAIN, () => packed.append(TYPE, value));
}

async function onTwo(piece, leader, member, payload) {
  const space = await leader.openSpace('led');
  await whenStreaming(space, 1);
  // Its replica has the space then.
  await space.append(TYPE, payload, { ack: { replicas: 1 } });
  piece(PLAIN_REPLICATED, PLAIN_REPLICATED, () => space.append(TYPE, payload));
  piece("until: 'applied'", PLAIN_REPLICATED, () =>
    space.append(TYPE, payload, { until: 'applied' }),
  );
  piece('node.append, from a member', PLAIN_REPLICATED, () =>
    member.append('led', TYPE, payload, LONG),
  );
  const copy = member.space('led');
  piece('waitFor on the replica, applied', PLAIN_REPLICATED, async () => {
    await copy.waitFor(await space.append(TYPE, payload), { ...LONG, applied: true });
  });
  piece('catchUp on the replica behind it', PLAIN_REPLICATED, async () => {
    await space.append(TYPE, payload);
    await copy.catchUp(LONG);
  });
}
