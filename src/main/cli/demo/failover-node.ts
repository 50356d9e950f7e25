/** One node of the failover demo, in a process of its own, with a load on what it leads. */
import { EngramError } from '../../../shared/errors.js';
import type { Node } from '../../node/node.js';
import { openNode } from '../../node/open-node.js';
import type { Space } from '../../node/space.js';
import { pause } from '../../runtime/deadline.js';
import { complain } from '../output.js';

/** What the demo starts it with, as JSON in its only argument. */
export interface FailoverStart {
  readonly nodeId: string;
  readonly dataDir: string;
  readonly endpoint: string;
  readonly ttlMs: number;
}

export type ToFailoverNode =
  | { readonly kind: 'open'; readonly spaces: readonly string[] }
  | { readonly kind: 'load'; readonly on: boolean }
  | { readonly kind: 'read' };

/** Times: the machine's monotonic clock, in ms. */
export type FromFailoverNode =
  | { readonly kind: 'ready'; readonly host: string; readonly port: number }
  | { readonly kind: 'opened' }
  | { readonly kind: 'leader'; readonly atMs: number; readonly space: string; readonly by: string }
  | {
      readonly kind: 'promoted';
      readonly atMs: number;
      readonly space: string;
      readonly epoch: number;
      readonly tookMs: number;
    }
  | {
      readonly kind: 'rewound';
      readonly space: string;
      readonly entries: number;
      readonly quarantine: string;
    }
  | {
      readonly kind: 'acked';
      readonly atMs: number;
      readonly space: string;
      readonly epoch: number;
      readonly sequence: number;
      readonly payload: string;
      readonly isReplicated: boolean;
    }
  | { readonly kind: 'settled' }
  | { readonly kind: 'content'; readonly spaces: Readonly<Record<string, readonly string[]>> };

const APPEND_EVERY_MS = 10;
/** A leader whose replicas are not there yet, or that hands over, is asked again. */
const PASSING = ['NotEnoughReplicas', 'AckTimeout', 'SwitchingOver'];

const start = JSON.parse(process.argv[2]!) as FailoverStart;
const loads = new Set<string>();
let isLoaded = false;
let count = 0;

function now(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

function tell(message: FromFailoverNode): void {
  if (process.connected) process.send!(message, () => undefined);
}

/** Every second entry is acknowledged by a replica too, the others by this disk alone. */
async function appendOne(space: Space): Promise<void> {
  const isReplicated = ++count % 2 === 0;
  const payload = `${start.nodeId} ${process.pid} ${count}`;
  const ack = isReplicated ? { ack: { replicas: 1 } } : undefined;
  const { sequence, epoch } = await space.append(1, Buffer.from(payload), ack);
  const { name } = space;
  tell({ kind: 'acked', atMs: now(), space: name, epoch, sequence, payload, isReplicated });
}

/** For as long as this node leads the space. */
async function load(node: Node, name: string): Promise<void> {
  if (loads.has(name)) return;
  loads.add(name);
  try {
    while (isLoaded) {
      await appendOne(node.space(name));
      await pause(APPEND_EVERY_MS);
    }
  } catch (error) {
    if (error instanceof EngramError && PASSING.includes(error.code)) {
      setTimeout(() => void load(node, name), 1);
    }
  } finally {
    loads.delete(name);
  }
}

function loadAll(node: Node): void {
  if (!isLoaded) return;
  for (const { name, role } of node.status().spaces) if (role === 'primary') void load(node, name);
}

async function contentOf(space: Space): Promise<string[]> {
  const entries: string[] = [];
  if (space.status().durableSequence === 0) return entries;
  for await (const { sequence, epoch, type, payload } of space.read()) {
    const text = Buffer.from(payload).toString(type === 1 ? 'utf8' : 'hex');
    entries.push(`${sequence} ${epoch} ${type} ${text}`);
  }
  return entries;
}

async function answer(node: Node, message: ToFailoverNode): Promise<void> {
  if (message.kind === 'open') {
    for (const name of message.spaces) await node.openSpace(name);
    tell({ kind: 'opened' });
  } else if (message.kind === 'load') {
    isLoaded = message.on;
    loadAll(node);
    while (!isLoaded && loads.size > 0) await pause(5);
    tell({ kind: 'settled' });
  } else {
    const spaces: Record<string, string[]> = {};
    for (const { name } of node.status().spaces) spaces[name] = await contentOf(node.space(name));
    tell({ kind: 'content', spaces });
  }
}

async function run(): Promise<void> {
  const { nodeId, dataDir, endpoint, ttlMs } = start;
  const node = await openNode({
    clusterId: 'demo-failover',
    nodeId,
    dataDir,
    listen: { host: '127.0.0.1', port: 0 },
    coordinator: { kind: 'etcd', endpoints: [endpoint], ttlMs },
    apply: () => undefined,
    rewound: () => undefined,
  });
  node.on('leader', ({ space, leader }) => {
    tell({ kind: 'leader', atMs: now(), space, by: leader?.nodeId ?? '' });
  });
  node.on('promoted', ({ space, epoch, tookMs }) => {
    tell({ kind: 'promoted', atMs: now(), space, epoch, tookMs });
  });
  node.on('rewound', ({ space, entries, quarantine }) => {
    tell({ kind: 'rewound', space, entries, quarantine });
  });
  node.on('space-role', ({ space, role }) => {
    if (isLoaded && role === 'primary') void load(node, space);
  });
  setInterval(() => loadAll(node), 50);
  process.on('message', (message: ToFailoverNode) => {
    answer(node, message).catch(fail);
  });
  tell({ kind: 'ready', host: node.address!.host, port: node.address!.port });
}

function fail(error: unknown): void {
  complain(error instanceof Error ? error.message : String(error));
  process.exit(1);
}

process.on('disconnect', () => process.exit(0));
run().catch(fail);
