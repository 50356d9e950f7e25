/** One process of the demo: a replica, or the primary that logs the input. Told by IPC. */
import { EngramError } from '../shared/errors.js';
import { demoInput } from './demo-input.js';
import { openNode } from './node.js';
import type { Space } from './space.js';

/** What the demo asks of a process when it starts it. */
export interface DemoStart {
  readonly nodeId: string;
  readonly dataDir: string;
  /** Empty for a replica. */
  readonly replicas: readonly { nodeId: string; host: string; port: number }[];
  readonly input: string | undefined;
  readonly repeat: number;
}

export interface DemoFigures {
  readonly entries: number;
  readonly bytes: number;
  readonly spaces: number;
  readonly seconds: number;
  /** The largest lag of a replica over all spaces. */
  readonly replicas: readonly { readonly id: string; readonly lagMs: number | 'unknown' }[];
}

/** What a process tells the demo. */
export type DemoMessage =
  | { readonly kind: 'listening'; readonly host: string; readonly port: number }
  | { readonly kind: 'progress'; readonly figures: DemoFigures }
  | { readonly kind: 'done'; readonly figures: DemoFigures }
  | { readonly kind: 'failed'; readonly code: string; readonly message: string };

const PROGRESS_MS = 200;
/** Entries appended before the event loop has its turn. */
const ENTRIES_PER_TURN = 256;
const FLUSH_TIMEOUT_MS = 60_000;
const CLUSTER = 'demo';

function tell(message: DemoMessage): void {
  process.send?.(message);
}

async function runReplica(start: DemoStart): Promise<void> {
  const listen = { host: '127.0.0.1', port: 0 };
  const { nodeId, dataDir } = start;
  const node = await openNode({ nodeId, dataDir, clusterId: CLUSTER, listen });
  tell({ kind: 'listening', ...node.address! });
  await toldToEnd();
  await node.close();
}

async function runPrimary(start: DemoStart): Promise<void> {
  const { nodeId, dataDir, replicas } = start;
  const node = await openNode({ nodeId, dataDir, clusterId: CLUSTER, replicas });
  const spaces = new Map<string, Space>();
  // From the first entry on: starting the processes and loading the input do not count.
  let began = performance.now();
  let entries = 0;
  let bytes = 0;
  const figures = (): DemoFigures => ({
    entries,
    bytes,
    spaces: spaces.size,
    seconds: (performance.now() - began) / 1_000,
    replicas: replicas.map((r) => ({ id: r.nodeId, lagMs: worstLag(spaces, r.nodeId) })),
  });
  const timer = setInterval(() => tell({ kind: 'progress', figures: figures() }), PROGRESS_MS);
  for await (const { space: name, payload } of demoInput(start.input, start.repeat)) {
    if (entries === 0) began = performance.now();
    let space = spaces.get(name);
    if (!space) {
      space = await node.openSpace(name);
      spaces.set(name, space);
    }
    while (space.tryAppend(1, payload) === undefined) await turn();
    entries++;
    bytes += payload.length;
    if (entries % ENTRIES_PER_TURN === 0) await turn();
  }
  for (const space of spaces.values()) {
    const last = space.status().lastSequence;
    await space.flushed(last, { replicas: replicas.length, timeoutMs: FLUSH_TIMEOUT_MS });
  }
  clearInterval(timer);
  tell({ kind: 'done', figures: figures() });
  await toldToEnd();
  await node.close();
}

function worstLag(spaces: ReadonlyMap<string, Space>, replicaId: string): number | 'unknown' {
  let worst = 0;
  for (const space of spaces.values()) {
    const replica = space.status().replicas.find((r) => r.replicaId === replicaId);
    if (replica === undefined || replica.lagMs === 'unknown') return 'unknown';
    worst = Math.max(worst, replica.lagMs);
  }
  return worst;
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function toldToEnd(): Promise<void> {
  return new Promise((resolve) => process.once('message', () => resolve()));
}

// Without its parent a process has nothing to do and nobody to tell.
process.on('disconnect', () => process.exit(2));
// The parent hears an interrupt itself and ends its processes in order.
process.on('SIGINT', () => undefined);

process.once('message', (start: DemoStart) => {
  const run = start.replicas.length > 0 ? runPrimary(start) : runReplica(start);
  run.then(
    () => process.exit(0),
    (error: unknown) => {
      const code = error instanceof EngramError ? error.code : 'Io';
      const message = error instanceof EngramError ? error.message : String(error);
      process.send?.({ kind: 'failed', code, message } satisfies DemoMessage, () =>
        process.exit(2),
      );
    },
  );
});
