/** What does TLS 1.3 between nodes cost: entries a second, processor time of an entry? */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { makeAuthority, makeNodeCertificate, validFor } from '#src/main/cli/certificates.js';
import type { NodeOptions } from '#src/main/index.js';
import { DataDirs, logBytes } from './data-dir.js';
import { inTurn } from './in-turn.js';
import type { Plan } from './plan.js';
import { runCluster } from './processes.js';
import { REPLICAS, withReplicas } from './replicate.js';
import { type Figures, type Result, summarise } from './result.js';

const DEFAULT_SECONDS = 4;
const PAYLOAD_BYTES = 256;
/** A third of it is written while all warms up. */
const MAX_BYTES = 1.5 * 1024 ** 3;
const CLUSTER = 'bench';

type More = (nodeId: string) => Partial<NodeOptions>;

export async function tls(plan: Plan): Promise<Result[]> {
  const dirs = new DataDirs();
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'engram-wal-bench-tls-'));
  const maxBytes = plan.maxBytes ?? logBytes(MAX_BYTES, 1 + REPLICAS);
  const { burst, leadBytes } = plan;
  const seconds = plan.seconds ?? DEFAULT_SECONDS;
  const job = { payloadBytes: PAYLOAD_BYTES, maxBytes, burst, leadBytes, seconds };
  const run = (what: string, more: More) => async (n: number) => {
    plan.progress(`tls: ${what}, run ${n} of ${plan.runs}`);
    const nodes = dirs.prepare(1 + REPLICAS, 'warm', maxBytes);
    const ran = await runCluster<Figures>('replicate', nodes, job, plan, undefined, more);
    return withReplicas(ran);
  };
  try {
    const secured = await certificatesIn(folder);
    const pairs = await inTurn(
      plan.runs,
      run('TLS', secured),
      run('plain', () => ({})),
    );
    const { isTmpfs: tmpfs } = dirs;
    const labels = { name: 'tls', payloadBytes: PAYLOAD_BYTES, replicas: REPLICAS, spaces: 1 };
    return [
      summarise(
        { ...labels, case: 'plain', tmpfs },
        pairs.map(([, plain]) => plain),
      ),
      summarise({ ...labels, case: 'tls', tmpfs }, pairs.map(besidePlain)),
    ];
  } finally {
    dirs.remove();
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

function besidePlain([secured, plain]: readonly [Figures, Figures]): Figures {
  const ratio = (key: string): number => secured[key]! / plain[key]!;
  return {
    ...secured,
    ratioToPlain: ratio('entriesPerSecond'),
    primaryCpuRatio: ratio('primaryCpuMicrosPerEntry'),
    replicaCpuRatio: ratio('replicaCpuMicrosPerEntry'),
  };
}

/** @returns the option `tls` of each node */
async function certificatesIn(folder: string): Promise<More> {
  const authority = await makeAuthority(CLUSTER, validFor(1));
  const all: Record<string, NonNullable<NodeOptions['tls']>> = {};
  const names = Array.from({ length: REPLICAS }, (_, i) => `replica-${i + 1}`);
  for (const nodeId of ['primary', ...names]) {
    const { cert, key } = await makeNodeCertificate(
      authority,
      { clusterId: CLUSTER, nodeId },
      validFor(1),
    );
    const written = (part: string, text: string): string => {
      const file = path.join(folder, `${nodeId}-${part}.pem`);
      fs.writeFileSync(file, text, { mode: 0o600 });
      return file;
    };
    const [caFile, certFile] = [written('ca', authority.cert), written('cert', cert)];
    all[nodeId] = { caFile, certFile, keyFile: written('key', key) };
  }
  return (nodeId) => ({ tls: all[nodeId]! });
}
