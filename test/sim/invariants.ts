/**
 * What must hold of every node at every moment, seen from outside: through its status, its events
 * and what its host has. What is checked once at the end stands in run.ts.
 */
import type { Node } from '#src/main/index.js';
import { assertDurable } from '../support/durable-log.js';
import { type SimNode, Violation } from './cluster.js';
import type { HostStore, Ledger } from './host.js';

/** What a node has said of itself in events, to be held against its status (I8). */
interface Heard {
  readonly node: Node;
  readonly links: Map<string, string>;
  log: string;
}

export class Invariants {
  readonly #ledgers: ReadonlyMap<string, Ledger>;
  readonly #stores: ReadonlyMap<string, HostStore>;
  readonly #heard = new Map<string, Heard>();
  /** The highest epoch of each "node space" (I5), over all its lives. */
  readonly #epochs = new Map<string, number>();

  constructor(ledgers: ReadonlyMap<string, Ledger>, stores: ReadonlyMap<string, HostStore>) {
    this.#ledgers = ledgers;
    this.#stores = stores;
  }

  opened(name: string, node: Node): void {
    const heard: Heard = { node, links: new Map(), log: 'ok' };
    this.#heard.set(name, heard);
    node.on('replica-state', ({ replicaId, state }) => heard.links.set(replicaId, state));
    // The event of its own says it: the link's state follows from it.
    node.on('shipper-lost', ({ replicaId }) => heard.links.delete(replicaId));
    node.on('log-state', ({ state }) => {
      heard.log = state;
    });
  }

  /** Throws a Violation. */
  check({ name, disk }: SimNode, node: Node): void {
    const status = node.status();
    // What is acknowledged, shipped or told is no more than that (I3).
    assertDurable(disk, '/data', status.durableLsn);
    if (status.memory.inUse > status.memory.slabs) {
      throw new Violation(`${name} uses ${status.memory.inUse} slabs (I7)`);
    }
    this.#checkEvents(name, node);
    for (const space of status.spaces) {
      const key = `${name} ${space.name}`;
      const epoch = this.#epochs.get(key) ?? 0;
      if (space.epoch < epoch) {
        throw new Violation(`${key}: epoch ${space.epoch} after ${epoch} (I5)`);
      }
      this.#epochs.set(key, space.epoch);
      // What its host has not given up is there; a replica's log may begin behind a snapshot.
      const { checkpoint } = this.#ledgers.get(space.name)!;
      if (space.role === 'primary' && space.firstSequence > Math.max(1, checkpoint)) {
        throw new Violation(
          `${key} begins at ${space.firstSequence}, checkpoint ${checkpoint} (I4)`,
        );
      }
      for (const replica of space.replicas) {
        const { replicaId, ackedSequence, appliedSequence, slot } = replica;
        // 0: not heard of since this node was opened.
        if (slot !== 'lost' && replica.state === 'streaming' && ackedSequence > 0) {
          // A slot keeps what its replica lacks.
          if (space.firstSequence > ackedSequence + 1) {
            throw new Violation(`${key} begins at ${space.firstSequence} (I4)`);
          }
        }
        const committed = this.#stores.get(replicaId)?.appliedUpTo(space.name) ?? 0;
        if (appliedSequence > committed) {
          throw new Violation(`${replicaId} ${space.name}: applied ${appliedSequence} (I3)`);
        }
      }
    }
  }

  #checkEvents(name: string, node: Node): void {
    const heard = this.#heard.get(name);
    if (heard?.node !== node) return;
    const { replicas, log } = node.status();
    for (const { replicaId, state } of replicas) {
      const told = heard.links.get(replicaId);
      if (told === undefined || told === state) continue;
      throw new Violation(`${name}: ${replicaId} is ${state}, the last event said ${told} (I8)`);
    }
    if (heard.log !== log.state) {
      throw new Violation(
        `${name}: its log is ${log.state}, the last event said ${heard.log} (I8)`,
      );
    }
  }
}
