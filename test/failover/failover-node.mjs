// A node with the etcd coordinator, under load of its own on every space that it leads. Argument:
// its options as JSON (nodeId, dataDir, listen, advertise, endpoint, key, ttlMs, perSecond). It tells its
// parent what it has acknowledged; times are the machine's monotonic clock, in ms.
// Messages, each answered: { open: names } { load: on } { read: true } { switchover } { append }
// { locate } { remove: nodeId } { close: true } { status: true } { sleeps: true }
import { openNode } from '../../dist/main/index.js';

const options = JSON.parse(process.argv[2]);
const { nodeId, dataDir, listen, advertise, endpoint, ttlMs, key, perSecond } = options;
const life = `${nodeId}${process.hrtime.bigint() % 1_000_000_000n}`;
process.on('disconnect', () => process.exit(0));
const now = () => Number(process.hrtime.bigint()) / 1e6;
const send = (message) => process.connected && process.send(message, () => undefined);

const node = await openNode({
  clusterId: 'failover',
  nodeId,
  dataDir,
  listen,
  ...(key && { key }),
  coordinator: {
    kind: 'etcd',
    endpoints: [endpoint],
    ttlMs,
    prefix: 'test',
    ...(advertise && { advertise }),
  },
  apply: () => undefined,
  rewound: () => undefined,
  segmentBytes: 4 * 1024 * 1024,
  groupBytes: 256 * 1024,
  maxEntryBytes: 16 * 1024,
  memoryBudgetBytes: 4 * 1024 * 1024,
  connectTimeoutMs: 1_000,
  backoffStepsMs: [20, 50, 100, 200],
});
for (const name of [
  'leader-waiting',
  'lease',
  'coordinator',
  'fenced',
  'rewound',
  'promoted',
  'replica-refused',
  'leader-conflict',
  'members-changed',
  'member-regressed',
  'directory-renewed',
  'fatal',
]) {
  node.on(name, (event) => send({ kind: 'event', name, atMs: now(), event: plain(event) }));
}

let isLoaded = false;
let count = 0;
/** What has been acknowledged and not told yet. */
let acks = [];
const loops = new Set();

function flush() {
  if (acks.length === 0) return;
  send({ kind: 'acks', acks });
  acks = [];
}
setInterval(flush, 20);

/** Appends to a space for as long as this node leads it. */
async function load(name) {
  if (loops.has(name)) return;
  loops.add(name);
  const space = node.space(name);
  let isFirst = true;
  try {
    while (isLoaded) {
      const n = ++count;
      const isKept = n % 2 === 0;
      const payload = `${life} ${name} ${n} ${isKept ? 'replicas' : 'local'}`;
      const sentMs = now();
      const given = isKept ? { ack: { replicas: 1, timeoutMs: 5_000 } } : undefined;
      try {
        const { sequence, epoch } = await space.append(1, Buffer.from(payload), given);
        const atMs = now();
        acks.push([name, epoch, sequence, payload, isKept ? 1 : 0, sentMs, atMs]);
        if (isFirst) flush();
        isFirst = false;
      } catch (error) {
        if (!['NotEnoughReplicas', 'AckTimeout', 'SwitchingOver'].includes(error.code)) return;
        isFirst = true;
      }
      await new Promise((resolve) => setTimeout(resolve, isFirst ? 1 : 1_000 / perSecond));
    }
  } finally {
    loops.delete(name);
  }
}

function plain(value) {
  return JSON.parse(
    JSON.stringify(value, (_, v) =>
      typeof v === 'bigint' ? String(v) : v instanceof Error ? v.message : v,
    ),
  );
}

function leads(space) {
  const { role, name } = space.status();
  return role === 'primary' ? [name] : [];
}

node.on('space-role', (event) => {
  send({ kind: 'role', atMs: now(), ...event });
  if (event.role === 'primary') void load(event.space);
});
node.on('leader', ({ space, leader }) => {
  send({ kind: 'leader', atMs: now(), space, leader });
  if (leader?.nodeId === nodeId && node.status().spaces.some((s) => s.name === space))
    void load(space);
});
setInterval(() => {
  if (!isLoaded) return;
  for (const { name } of node.status().spaces)
    if (leads(node.space(name)).length > 0) void load(name);
}, 100);

async function contentOf(name) {
  const entries = [];
  const space = node.space(name);
  if (space.status().durableSequence === 0) return entries;
  for await (const e of space.read()) {
    entries.push(
      `${e.sequence} ${e.epoch} ${e.type} ${Buffer.from(e.payload).toString(e.type === 5 ? 'hex' : 'utf8')}`,
    );
  }
  return entries;
}

/** From now on the process' monotonic clock stands still while it is stopped, as in a suspend. */
function sleepsWhenStopped() {
  const real = performance.now.bind(performance);
  let last = real();
  let ms = last;
  performance.now = () => {
    const next = real();
    if (next - last < 500) ms += next - last;
    last = next;
    return ms;
  };
  setInterval(performance.now, 20);
}

async function answer(message) {
  if (message.sleeps) {
    sleepsWhenStopped();
    return {};
  }
  if (message.open) {
    for (const name of message.open) await node.openSpace(name);
    return {};
  }
  if (message.load !== undefined) {
    isLoaded = message.load;
    for (const { name } of node.status().spaces) if (isLoaded) void load(name);
    while (!isLoaded && loops.size > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    flush();
    return {};
  }
  if (message.read) {
    const spaces = {};
    for (const { name } of node.status().spaces) spaces[name] = await contentOf(name);
    return { spaces };
  }
  if (message.switchover) {
    const { space, to } = message.switchover;
    const begunMs = now();
    const report = plain(await node.switchover(space, to));
    return { report, begunMs, endedMs: now() };
  }
  if (message.append) {
    const { space, payload, ack } = message.append;
    return { appended: await node.space(space).append(1, Buffer.from(payload), ack && { ack }) };
  }
  if (message.locate) return { located: plain(await node.locate(message.locate)) };
  if (message.remove) {
    await node.removeReplica(message.remove);
    return {};
  }
  if (message.close) {
    isLoaded = false;
    await node.close();
    return {};
  }
  const spaces = node.status().spaces.map((s) => ({
    name: s.name,
    role: s.role,
    epoch: s.epoch,
    primary: s.primaryNodeId,
    durable: s.durableSequence,
    applied: s.appliedSequence,
    replicas: s.replicas.map((r) => [r.replicaId, r.state, r.ackedSequence]),
    members: s.members,
  }));
  return { status: spaces };
}

process.on('message', (message) => {
  answer(message).then(
    (done) => send({ kind: 'answer', id: message.id, ...done }),
    (error) =>
      send({
        kind: 'answer',
        id: message.id,
        error: { code: error.code, message: error.message, details: plain(error.details ?? {}) },
      }),
  );
});
process.on('SIGTERM', () => {
  // What a host does: intake ends, then the node is closed, and hands over what it leads.
  isLoaded = false;
  void node.close().then(() => process.exit(0));
});
send({ kind: 'open', address: node.address, atMs: now() });
