// A node that is attacked. argv: JSON of { options, load }. It answers { ask } messages: `figures`,
// `stop` (the load ends), `content` (what each host's entry counts, checked).
import { createHash } from 'node:crypto';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { openNode } from '../../dist/main/index.js';

const SPACE = 's';
const PER_BATCH = 64;
const IN_FLIGHT = 8;
const PAYLOAD_BYTES = 256;
const ACK = { ack: { replicas: 1, timeoutMs: 20_000 } };
/** So many of what was refused are kept, and of what was told of roles. */
const KEPT = 20;
const ROLES = ['fenced', 'regressed', 'leader-conflict', 'promoted', 'rewound', 'replica-refused'];

const { options, load } = JSON.parse(process.argv[2]);
process.on('disconnect', () => process.exit(0));
process.on('unhandledRejection', (error) => {
  console.error(error);
  process.exit(70);
});

const node = await openNode(options);
const warnings = {};
process.on('warning', ({ name }) => {
  warnings[name] = (warnings[name] ?? 0) + 1;
});

const turns = monitorEventLoopDelay({ resolution: 10 });
turns.enable();
const told = [];
(async () => {
  for await (const { name, event } of node.events(ROLES)) {
    if (told.length < KEPT) told.push({ ms: Math.round(performance.now()), name, event });
  }
})();

let offered = 0;
let acked = 0;
const refused = {};
const refusals = [];
let isLoaded = load;

function payloadOf(n) {
  const bytes = Buffer.alloc(PAYLOAD_BYTES, n & 255);
  bytes.writeDoubleLE(n);
  return bytes;
}

/** Entries are numbered in the order of their calls; of what is refused the numbers are left out. */
async function offer(space) {
  const first = offered;
  offered += PER_BATCH;
  const payloads = Array.from({ length: PER_BATCH }, (_, i) => payloadOf(first + i));
  try {
    await space.appendBatch(1, payloads, ACK);
    acked += PER_BATCH;
  } catch (error) {
    refused[error.code] = (refused[error.code] ?? 0) + 1;
    const [message] = error.message.split('\n');
    const isNew = refusals.every((known) => known.message !== message);
    const ms = Math.round(performance.now());
    if (isNew && refusals.length < KEPT) refusals.push({ ms, message });
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

if (load) {
  const space = await node.openSpace(SPACE, { lead: true });
  for (let n = 0; n < IN_FLIGHT; n++) {
    (async () => {
      while (isLoaded) await offer(space);
    })();
  }
}

function figures() {
  const { role, epoch, durableSequence } = node.space(SPACE).status();
  const links = node.status().replicas.map(({ replicaId, state, reason }) => {
    return { replicaId, state, reason };
  });
  const longestTurnMs = Math.round(turns.max / 1e6);
  const { user, system } = process.cpuUsage();
  const cpuMs = (user + system) / 1_000;
  const why = { refusals, told };
  return {
    acked,
    refused,
    why,
    warnings,
    role,
    epoch,
    durableSequence,
    longestTurnMs,
    cpuMs,
    links,
  };
}

/** The host's numbers, ascending; each payload is what it was. */
async function content() {
  const hash = createHash('sha256');
  let count = 0;
  let next = 0;
  for await (const { sequence, type, epoch, payload } of node.space(SPACE).read()) {
    hash.update(`${sequence} ${type} ${epoch} `).update(payload);
    if (type !== 1) continue;
    const n = Buffer.from(payload).readDoubleLE();
    if (n < next) throw new Error(`number ${n} behind ${next - 1}`);
    next = n + 1;
    if (!payloadOf(n).equals(payload)) throw new Error(`entry ${sequence} was changed`);
    count++;
  }
  if (load && count < acked) throw new Error(`${acked} acknowledged, ${count} are there`);
  return { count, digest: hash.digest('hex') };
}

process.on('message', async ({ id, ask, last }) => {
  try {
    if (ask === 'stop') isLoaded = false;
    if (ask === 'flushed') await node.space(SPACE).flushed(last, ACK.ack);
    const result = ask === 'content' ? await content() : figures();
    process.send({ id, result });
  } catch (error) {
    process.send({ id, error: String(error.stack) });
  }
});
process.send({ port: node.address?.port, http: node.httpAddress?.port });
