/**
 * What must hold, seen from outside: from the acknowledgements that were told, the logs at the end
 * and the quarantines. It knows nothing of how nodes agree.
 */
import type { Ack } from './cluster.js';

export class Violation extends Error {}

interface Told {
  readonly nodeId: string;
  readonly epoch: number;
  readonly payload: string;
  readonly isReplicated: boolean;
}

export interface Verdict {
  readonly acknowledged: number;
  readonly withReplicas: number;
  /** Acknowledged at level local, not in the history, and found where it belongs: see isKept. */
  readonly quarantined: number;
  readonly entries: number;
}

export class Checker {
  /** By space, then by sequence. */
  readonly #told = new Map<string, Map<number, Told[]>>();
  /** Who has acknowledged in an epoch of a space. */
  readonly #leaders = new Map<string, string>();
  #count = 0;

  ack(nodeId: string, [space, epoch, sequence, payload, replicas]: Ack): void {
    const led = `${space} in epoch ${epoch}`;
    const leader = this.#leaders.get(led);
    if (leader !== undefined && leader !== nodeId) {
      throw new Violation(`${leader} and ${nodeId} have both acknowledged in ${led}`);
    }
    this.#leaders.set(led, nodeId);
    const known = this.#told.get(space) ?? new Map<number, Told[]>();
    this.#told.set(space, known);
    const before = known.get(sequence) ?? [];
    const twin = before.find((t) => t.epoch === epoch);
    if (twin) throw new Violation(`${led}: entry ${sequence} was acknowledged twice`);
    before.push({ nodeId, epoch, payload, isReplicated: replicas > 0 });
    known.set(sequence, before);
    this.#count++;
  }

  /**
   * @param logs by node: each space's entries, as `sequence epoch type payload`
   * @param isKept whether a node has the payload in quarantine, or on a disk that it has lost
   * Throws Violation.
   */
  judge(
    logs: ReadonlyMap<string, Record<string, string[]>>,
    isKept: (nodeId: string, payload: string) => boolean,
  ): Verdict {
    const [first, ...others] = [...logs];
    const [firstId, history] = first!;
    for (const [nodeId, spaces] of others) {
      for (const [name, entries] of Object.entries(history)) {
        if (entries.join('\n') === spaces[name]?.join('\n')) continue;
        throw new Violation(`${name} is not the same on ${firstId} and ${nodeId}`);
      }
    }
    let withReplicas = 0;
    let quarantined = 0;
    for (const [space, known] of this.#told) {
      const entries = new Map<number, string>();
      for (const entry of history[space] ?? []) {
        const [sequence, , , ...payload] = entry.split(' ');
        entries.set(Number(sequence), payload.join(' '));
      }
      for (const [sequence, all] of known) {
        for (const told of all) {
          if (told.isReplicated) withReplicas++;
          if (entries.get(sequence) === told.payload) continue;
          const { epoch, nodeId } = told;
          const what = `${space} ${sequence} of epoch ${epoch}, acknowledged by ${nodeId}`;
          if (told.isReplicated) throw new Violation(`${what} on a replica too, is lost`);
          if (!isKept(nodeId, told.payload)) {
            throw new Violation(`${what}, is neither in the history nor in its quarantine`);
          }
          quarantined++;
        }
      }
    }
    const entries = Object.values(history).reduce((sum, all) => sum + all.length, 0);
    return { acknowledged: this.#count, withReplicas, quarantined, entries };
  }
}
