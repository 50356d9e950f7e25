/** The records in etcd's keys, decoded once for each change, and the questions asked of them. */

import {
  decodeNodeRow,
  decodeSpaceRow,
  Loads,
  type NodeRow,
  type SpaceRow,
} from '../../../shared/lead/placement.js';
import type { Member } from '../../../shared/log/node-record.js';
import { spaceIdOf } from '../../../shared/names.js';
import type { Pair } from './link.js';

/** A space's record, and the revision that a compare-and-swap names. */
export interface Known {
  readonly id: string;
  readonly row: SpaceRow;
  /** 0: it is not there yet. */
  readonly revision: number;
}

export class EtcdRecords {
  readonly #nodes: string;
  readonly #spacesAt: string;
  readonly #view: ReadonlyMap<string, Pair>;
  readonly #rows = new Map<string, NodeRow>();
  readonly #spaces = new Map<string, Known & { readonly value: string }>();
  readonly #ids = new Map<string, string>();
  #living = new Map<string, NodeRow>();
  #sessions = new Set<string>();
  #isNodesChanged = false;
  /** Of all records, and of those that are about to be written. */
  readonly loads = new Loads();

  /** @param prefix that ends with a slash */
  constructor(prefix: string, view: ReadonlyMap<string, Pair>) {
    this.#nodes = `${prefix}nodes/`;
    this.#spacesAt = `${prefix}spaces/`;
    this.#view = view;
  }

  nodeKey(nodeId: string, session: string): string {
    return `${this.#nodes}${nodeId}/${session}`;
  }

  spaceKey(id: string): string {
    return this.#spacesAt + id;
  }

  keyOf(space: string): string {
    return this.spaceKey(this.idOf(space));
  }

  /** The id of a space by its name, hashed once. */
  idOf(name: string): string {
    let id = this.#ids.get(name);
    if (id === undefined) {
      id = spaceIdOf(name);
      this.#ids.set(name, id);
    }
    return id;
  }

  /** These keys are other than before. */
  changed(keys: readonly string[]): void {
    for (const key of keys) {
      const pair = this.#view.get(key);
      if (key.startsWith(this.#spacesAt)) this.#space(key.slice(this.#spacesAt.length), pair);
      else if (key.startsWith(this.#nodes)) this.#node(key, pair);
    }
  }

  #space(id: string, pair: Pair | undefined): void {
    const before = this.#spaces.get(id);
    // What this node has written itself comes by the watch once more.
    if (before && before.revision === pair?.revision && before.value === pair.value) return;
    if (before) this.loads.remove(before.row);
    const row = pair && decodeSpaceRow(pair.value);
    // A record that is none of ours, or of another name, is nobody's to lead.
    if (!row || this.idOf(row.name) !== id) this.#spaces.delete(id);
    else {
      this.#spaces.set(id, { id, row, revision: pair.revision, value: pair.value });
      this.loads.add(row);
    }
  }

  #node(key: string, pair: Pair | undefined): void {
    const at = key.lastIndexOf('/');
    const nodeId = key.slice(this.#nodes.length, at);
    const row = pair && decodeNodeRow(nodeId, key.slice(at + 1), pair.value);
    if (row) this.#rows.set(key, row);
    else this.#rows.delete(key);
    this.refresh();
    this.#isNodesChanged = true;
  }

  /** Who lives, by the rows of now. */
  refresh(): void {
    this.#sessions = new Set([...this.#rows.values()].map((row) => row.session));
    this.#living = new Map();
    const revision = (row: NodeRow): number =>
      this.#view.get(this.nodeKey(row.nodeId, row.session))?.revision ?? 0;
    for (const row of this.#rows.values()) {
      const other = this.#living.get(row.nodeId);
      if (!other || revision(row) > revision(other)) this.#living.set(row.nodeId, row);
    }
  }

  /** @returns whether nodes have come, gone or moved since the last call */
  takeNodesChanged(): boolean {
    const is = this.#isNodesChanged;
    this.#isNodesChanged = false;
    return is;
  }

  get living(): ReadonlyMap<string, NodeRow> {
    return this.#living;
  }

  get sessions(): ReadonlySet<string> {
    return this.#sessions;
  }

  sessionsOf(nodeId: string): NodeRow[] {
    return [...this.#rows.values()].filter((row) => row.nodeId === nodeId);
  }

  /** How many spaces each living node leads, or led last; without those that are drained. */
  led(): Map<string, number> {
    const rows = [...this.#living.values()].filter((row) => !row.isDrained);
    return new Map(rows.map(({ nodeId }) => [nodeId, this.loads.led.get(nodeId) ?? 0]));
  }

  members(): Member[] {
    return [...this.#living.values()].map(({ nodeId, host, port }) => ({ nodeId, host, port }));
  }

  /** The node that a record names, where it lives and listens. */
  leaderOf({ leader }: SpaceRow): Member | undefined {
    return this.members().find((m) => m.nodeId === leader?.nodeId);
  }

  space(id: string): Known | undefined {
    return this.#spaces.get(id);
  }

  spaceIds(): string[] {
    return [...this.#spaces.keys()];
  }

  /** The ids of the spaces whose records these keys are. */
  spacesOf(keys: readonly string[]): string[] {
    return keys
      .filter((key) => key.startsWith(this.#spacesAt))
      .map((key) => key.slice(this.#spacesAt.length));
  }
}
