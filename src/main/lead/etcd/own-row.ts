/** This node's own row in etcd: where it listens, for as long as its lease lives. */
import type { Address } from '../../../shared/address.js';
import { encodeNodeRow } from '../../../shared/lead/placement.js';
import type { EtcdRecords } from './records.js';
import type { EtcdSession } from './session.js';

export class EtcdOwnRow {
  readonly #nodeId: string;
  readonly #place: string;
  readonly #records: EtcdRecords;
  readonly #session: EtcdSession;
  #isDrained = false;
  /** Resolves when no change of that is under way. */
  #changes: Promise<void> = Promise.resolve();

  /** @param place names where this node's directory is locked, see NodeRow */
  constructor(nodeId: string, place: string, records: EtcdRecords, session: EtcdSession) {
    this.#nodeId = nodeId;
    this.#place = place;
    this.#records = records;
    this.#session = session;
  }

  /** Another living process that calls itself as this node does, and is none of its own lives. */
  foreign(lease: string): string | undefined {
    const others = this.#records.sessionsOf(this.#nodeId).filter((n) => n.session !== lease);
    const other = others.find((n) => n.place !== this.#place);
    return other && `${other.host}:${other.port}`;
  }

  #row(session: string, { host, port }: Address): { key: string; value: string } {
    const [nodeId, place, isDrained] = [this.#nodeId, this.#place, this.#isDrained];
    const key = this.#records.nodeKey(nodeId, session);
    return { key, value: encodeNodeRow({ nodeId, session, host, port, place, isDrained }) };
  }

  /** It stands there as it should: whoever has access may take it away, or write over it. */
  isShown(lease: string, address: Address): boolean {
    const { key, value } = this.#row(lease, address);
    return this.#session.view.get(key)?.value === value;
  }

  async write(lease: string, address: Address): Promise<void> {
    const { key, value } = this.#row(lease, address);
    const exists = this.#session.view.has(key);
    await this.#session.write([{ key, exists }], [{ key, value, lease }]);
  }

  /**
   * Where it rejects, nothing has changed: a row that etcd may have taken is written over. One
   * after the other: what is put back is what stood before the call that has failed.
   */
  async drain(isDrained: boolean, lease: string, address: Address): Promise<void> {
    const change = this.#changes.then(() => this.#change(isDrained, lease, address));
    this.#changes = change.catch(() => undefined);
    await change;
  }

  async #change(isDrained: boolean, lease: string, address: Address): Promise<void> {
    const before = this.#isDrained;
    this.#isDrained = isDrained;
    try {
      await this.write(lease, address);
    } catch (error) {
      this.#isDrained = before;
      throw error;
    }
  }
}
