/**
 * Which entries of a log count no more, for who walks it as it stands: what the state says, and
 * what node records behind it say. A record stands behind the entries that it voids: where one
 * was met that was not known, the log is walked once more.
 */
import type { EngramError } from '../../shared/errors.js';
import { decodeNodeRecord, type NodeRecord } from '../../shared/log/node-record.js';
import { addVoided, isVoided, type Voided } from '../../shared/log/rewind.js';
import type { State } from '../../shared/log/state.js';
import type { Lsn, Sequence } from '../../shared/position.js';

export class KnownRewinds {
  readonly #voided = new Map<string, Voided[]>();
  /** Met since the log's entries were walked with what was known. */
  isMore = false;

  /** What the state knows is known; the rest is kept. */
  take(state: State | undefined): void {
    for (const { facts } of state?.spaces ?? []) {
      const behind = (this.#voided.get(facts.id) ?? []).filter(
        (v) => v.lsn > (facts.voided.at(-1)?.lsn ?? 0),
      );
      const known = [...facts.voided];
      for (const { lsn, first } of behind) addVoided(known, lsn, first);
      this.#voided.set(facts.id, known);
    }
    this.isMore = false;
  }

  /** @returns what a node record says; undefined where that cannot be told */
  record(payload: Uint8Array, lsn: Lsn): NodeRecord | undefined {
    const record = decoded(payload);
    if (record?.kind !== 'rewind') return record;
    const voided = this.#voided.get(record.id) ?? [];
    this.#voided.set(record.id, voided);
    if (lsn > (voided.at(-1)?.lsn ?? 0)) {
      addVoided(voided, lsn, record.position.sequence + 1);
      this.isMore = true;
    }
    return record;
  }

  isVoided(id: string, sequence: Sequence, lsn: Lsn): boolean {
    const voided = this.#voided.get(id);
    return voided !== undefined && isVoided(voided, sequence, lsn);
  }
}

function decoded(payload: Uint8Array): NodeRecord | undefined {
  try {
    return decodeNodeRecord(payload);
  } catch (error) {
    // Opening refuses it; who only looks goes on.
    const { code } = error as EngramError;
    if (code !== 'UnsupportedVersion' && code !== 'CorruptionDetected') throw error;
    return undefined;
  }
}
