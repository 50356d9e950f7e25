// A node of the model test (tokens.ts) in a process of its own, which is killed now and then. Its
// host has what it has applied in a file, a line an entry: data and position are one. Messages
// { id, what, given } are answered by { id, value } or { id, error }.
import fs from 'node:fs';
import { openNode } from '../../dist/main/index.js';

process.on('disconnect', () => process.exit(0));

const lineOf = (e) =>
  `${e.sequence} ${e.epoch} ${e.type} ${e.timestamp} ${Buffer.from(e.payload).toString('hex')}`;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

class Host {
  constructor(file) {
    this.file = file;
    const text = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
    // Killed in the middle of a line it has not applied that entry.
    this.#replace(text.split('\n').slice(0, -1));
  }

  #replace(lines) {
    this.lines = lines;
    fs.writeFileSync(`${this.file}.tmp`, lines.map((line) => `${line}\n`).join(''));
    fs.renameSync(`${this.file}.tmp`, this.file);
  }

  /** It takes a while, so that who tells of it too early is seen. */
  async apply(entries) {
    await pause(Math.random() * 4);
    for (const [i, e] of entries.entries()) {
      if (e.sequence === this.lines.length + 1 + i) continue;
      const violation = `apply: ${e.sequence} after ${this.lines.length + i}`;
      process.send({ violation });
      throw new Error(violation);
    }
    const lines = entries.map(lineOf);
    fs.appendFileSync(this.file, lines.map((line) => `${line}\n`).join(''));
    this.lines.push(...lines);
    await pause(Math.random() * 4);
  }

  rewound(from) {
    this.#replace(this.lines.slice(0, from - 1));
  }
}

let node;
let host;
const NAME = 's';
const space = () => node.space(NAME);

async function readAll(range) {
  const lines = [];
  for await (const e of space().read(range)) lines.push(lineOf(e));
  return lines;
}

const ANSWERS = {
  async open({ file, ...options }) {
    host = new Host(file);
    node = await openNode({
      ...options,
      applyWhenLeading: true,
      apply: (entries) => host.apply(entries),
      appliedUpTo: () => host.lines.length,
      rewound: (_, { from }) => host.rewound(from),
    });
  },
  async close() {
    await node.close();
    node = undefined;
  },
  async create() {
    await node.openSpace(NAME);
  },
  /** By the space where this node leads, or led to who does. */
  async append({ text, isLed, ...options }) {
    const payload = Buffer.from(text);
    const token = isLed
      ? await node.append(NAME, 1, payload, options)
      : await space().append(1, payload, options);
    return { token, applied: host.lines.length };
  },
  /** What stands there, and in its host, in the very moment in which the wait is over. */
  async waitFor({ token, ...options }) {
    await space().waitFor(token, options);
    const applied = host.lines[token.sequence - 1];
    const [line] = await readAll({ from: token.sequence, to: token.sequence });
    return { line, applied };
  },
  async catchUp(options) {
    return await space().catchUp(options);
  },
  read: readAll,
  async readTime({ ns, ...range }) {
    const lines = await readAll({ ...range, fromTime: BigInt(ns) });
    return { lines, at: await space().seek(BigInt(ns)) };
  },
  async applied() {
    return host.lines;
  },
  async switchover({ to, ...options }) {
    await node.switchover(NAME, to, options);
  },
  async promote(options) {
    await node.promote(NAME, options);
  },
  async status() {
    if (!node.spaces.some((s) => s.name === NAME)) return { role: 'unknown' };
    const { role, epoch, primaryNodeId, lastSequence, lastHostSequence, ...all } = space().status();
    const { durableSequence, refusal, replicas } = all;
    const links = replicas.map((r) => [r.replicaId, r.state, r.reason, r.ackedSequence]);
    const isReplicated = [0, 1, 2].map((n) => all.isReplicated(n));
    const told = { role, epoch, primaryNodeId, lastSequence, lastHostSequence, durableSequence };
    return { ...told, isReplicated, refusal: refusal?.message, links };
  },
};

const plain = (value) =>
  value && JSON.parse(JSON.stringify(value, (_, v) => (typeof v === 'bigint' ? `${v}` : v)));

process.on('message', ({ id, what, given }) => {
  ANSWERS[what](given).then(
    (value) => process.send({ id, value: plain(value) }),
    ({ code = 'none', message, details }) =>
      process.send({ id, error: { code, message, details: plain(details) } }),
  );
});
