// A node of the soak. argv: JSON of { nodeId, dataDir, port, replicas, life, rate }; a primary has
// replicas, and offers entries at the rate, whatever becomes of those before.
import { createHash } from 'node:crypto';
import { openNode } from '../../dist/main/index.js';
import {
  isReplicated,
  MEMBERS_ENTRY,
  OPTIONS,
  offerOf,
  PER_BATCH,
  payloadOf,
  SPACES,
} from './soak-facts.mjs';

const TICK_MS = 2;
/** What was due while the process was stopped is not offered: its host was stopped as well. */
const LATE_MAX_MS = 100;
const TELL_MS = 20;
/** Events that tell of nothing good where disks are whole. */
const BAD_EVENTS = ['damaged', 'fatal', 'slot-lost', 'replica-refused', 'apply-blocked'];
BAD_EVENTS.push('appends-lost', 'state-failed', 'shipper-lost', 'duplicate-node');

const { nodeId, dataDir, port, replicas, life, rate } = JSON.parse(process.argv[2]);
process.on('disconnect', () => process.exit(0));

const applied = new Map();
function apply(entries, { space }) {
  for (const { sequence } of entries) {
    const before = applied.get(space);
    if (before !== undefined && sequence !== before + 1) {
      process.send({ kind: 'bad', what: `${space} ${sequence} applied after ${before}` });
    }
    applied.set(space, sequence);
  }
}

const role = replicas ? { replicas } : { listen: { host: '127.0.0.1', port }, apply };
const node = await openNode({ ...OPTIONS, nodeId, dataDir, ...role });
for (const name of BAD_EVENTS) {
  node.on(name, (event) => process.send({ kind: 'bad', what: `${name} ${JSON.stringify(event)}` }));
}

// --- load ----------------------------------------------------------------------------------------

let isOffering = false;
let offered = 0;
let offeringMs = 0;
let outstanding = 0;
let acks = [];
const refused = {};
const counts = new Map(SPACES.map((name) => [name, 0]));

async function batch(space, name) {
  const count = counts.get(name);
  const ack = isReplicated(name, count) ? { ack: { replicas: 1, timeoutMs: 2_000 } } : {};
  counts.set(name, count + PER_BATCH);
  outstanding++;
  const payloads = Array.from({ length: PER_BATCH }, (_, i) => payloadOf(life, name, count + i));
  try {
    const { firstSequence } = await space.appendBatch(1, payloads, ack);
    acks.push([SPACES.indexOf(name), firstSequence, count, PER_BATCH]);
  } catch (error) {
    refused[error.code] = (refused[error.code] ?? 0) + 1;
    if (!error.retryable) process.send({ kind: 'bad', what: `an append: ${error.message}` });
  } finally {
    outstanding--;
  }
}

function offer(spaces) {
  let lastMs = performance.now();
  let batches = 0;
  let due = 0;
  isOffering = true;
  const timer = setInterval(() => {
    const now = performance.now();
    const ms = Math.min(now - lastMs, LATE_MAX_MS);
    lastMs = now;
    offeringMs += ms;
    due += (ms / 1_000) * (rate / PER_BATCH);
    for (; batches < due; batches++) {
      const name = SPACES[batches % SPACES.length];
      void batch(spaces.get(name), name);
      offered += PER_BATCH;
    }
    if (!isOffering) clearInterval(timer);
  }, TICK_MS);
  setInterval(() => {
    if (acks.length > 0) process.send({ kind: 'acks', life, rows: acks, offered, offeringMs });
    acks = [];
  }, TELL_MS);
}

// --- what it has -----------------------------------------------------------------------------------

/** All fields and bytes that nodes have in common, and who offered them. */
async function readRange(name, from, to) {
  const hash = createHash('sha256');
  const head = Buffer.alloc(32);
  const runs = [];
  let next = from;
  for await (const e of node.space(name).read({ from, to })) {
    const offer = offerOf(e.payload);
    const isOurs = offer?.space === name || e.type === MEMBERS_ENTRY;
    if (e.sequence !== next || !isOurs) {
      return { wrong: `${name} ${e.sequence} where ${next} stands, of ${JSON.stringify(offer)}` };
    }
    head.writeBigUInt64LE(BigInt(e.sequence), 0);
    head.writeUInt32LE(e.epoch, 8);
    head.writeUInt32LE(e.type, 12);
    head.writeBigUInt64LE(e.timestamp, 16);
    hash.update(head).update(e.payload);
    next++;
    if (!offer) continue;
    const run = runs.at(-1);
    const isNext = run && run[1] + run[3] === e.sequence && run[2] + run[3] === offer.count;
    const continues = isNext && run[0] === offer.life;
    if (continues) run[3]++;
    else runs.push([offer.life, e.sequence, offer.count, 1]);
  }
  if (next !== to + 1) return { wrong: `${name} ends at ${next - 1}, not ${to}` };
  return { digest: hash.digest('hex'), runs };
}

function figures() {
  const { spaces, segments, retention, memory, replicas: links } = node.status();
  return {
    spaces: spaces.map((s) => ({
      name: s.name,
      first: s.firstSequence,
      durable: s.durableSequence,
      checkpoint: s.checkpoint,
      applied: s.appliedSequence,
      replicas: s.replicas.map((r) => ({
        id: r.replicaId,
        state: r.state,
        acked: r.ackedSequence,
      })),
    })),
    links: links.map((l) => ({ id: l.replicaId, state: l.state, reason: l.reason })),
    segments,
    recycled: retention.recycledSegments,
    slabsInUse: memory.inUse,
    heapBytes: process.memoryUsage().heapUsed,
    buffersBytes: process.memoryUsage().arrayBuffers,
    refused,
    untold: outstanding + acks.length,
  };
}

async function answer({ kind, space, from, to, sequence }) {
  switch (kind) {
    case 'read':
      return await readRange(space, from, to);
    case 'checkpoint':
      await node.space(space).checkpoint(sequence);
      return {};
    case 'figures':
      return figures();
    case 'rest':
      isOffering = false;
      return {};
    case 'close':
      await node.close();
      return {};
  }
}

process.on('message', (request) => {
  answer(request).then(
    (result) => process.send({ kind: 'answer', id: request.id, result }),
    (error) => process.send({ kind: 'answer', id: request.id, error: error.code ?? String(error) }),
  );
});

if (replicas) {
  const spaces = new Map();
  for (const name of SPACES) spaces.set(name, await node.openSpace(name));
  offer(spaces);
}
process.send({ kind: 'open', port: node.address?.port, figures: figures() });
