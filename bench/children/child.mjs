/** What every measured process does: one job in, one answer out, then a clean end. */
import { randomFillSync } from 'node:crypto';

/**
 * Runs the job that the parent named on the command line and answers with its result. Whatever
 * goes wrong is told to the parent and ends this process.
 * @param {(job: any) => Promise<unknown>} work
 */
export async function runJob(work) {
  // The channel is closed behind the last message, however long that takes.
  const tell = (message) => process.send(message, () => process.disconnect());
  try {
    const result = await work(JSON.parse(process.argv[2]));
    tell({ kind: 'result', result });
  } catch (error) {
    const cause = error?.cause ? `\ncause: ${error.cause}` : '';
    tell({ kind: 'failed', message: `${error?.stack ?? error}${cause}` });
    process.exitCode = 1;
  }
}

/** Bytes that no layer can compress. */
export function randomPayload(bytes) {
  return randomFillSync(new Uint8Array(bytes));
}

/** Lines as a service logs them: words that repeat, figures that do not. */
export function textPayloads(bytes, count) {
  const words = ['request', 'accepted', 'tenant', 'episode', 'stored', 'latency', 'ms', 'user'];
  return Array.from({ length: count }, () => {
    let line = '';
    while (line.length < bytes) {
      const figure = Math.floor(Math.random() * 1e6);
      line += `${words[figure % words.length]}=${figure.toString(36)} `;
    }
    return Buffer.from(line.slice(0, bytes));
  });
}

export function turn() {
  return new Promise((resolve) => setImmediate(resolve));
}

export function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** CPU seconds of this process, all threads, since `before` (of process.cpuUsage). */
export function cpuSeconds(before) {
  const { user, system } = process.cpuUsage(before);
  return { cpuSeconds: (user + system) / 1e6, systemSeconds: system / 1e6 };
}

/** Resolves when every replica of the space is connected and has all that is here. */
export async function whenStreaming(space, replicas) {
  const deadline = performance.now() + 20_000;
  for (;;) {
    const { replicas: rows } = space.status();
    if (rows.filter((r) => r.state === 'streaming').length === replicas) return;
    if (performance.now() > deadline) throw new Error('the replicas did not connect within 20 s');
    await sleep(10);
  }
}
