/**
 * Frames that no node sends: every kind with facts that fit the cluster, changed a little; most of
 * them with the right CRC, for a hostile sender has that right, too. None names an epoch that a
 * member might raise the cluster to: that is a member's right, and changes who leads.
 */
import fs from 'node:fs';
import path from 'node:path';
import { idWords } from '#src/shared/bytes.js';
import { crc32c } from '#src/shared/crc.js';
import { FRAME_HEADER_BYTES } from '#src/shared/limits.js';
import { NODE_SPACE_ID } from '#src/shared/log/node-record.js';
import { BATCHES, writeFrameHeader } from '#src/shared/wire/frame.js';
import {
  decodeFrame,
  encodeFrame,
  FRAME_KINDS,
  type PlainFrame,
} from '#src/shared/wire/protocol.js';
import type { Chance } from '../support/chance.js';
import { batchFrame, type MixedRun, mixedFrame } from '../support/wire-client.js';

const GOLDEN = path.join(import.meta.dirname, '../golden/wire/frames.json');
/** Beyond the highest epoch that is known nobody is believed. */
const EPOCH_STEP_MAX = 2 ** 20;
const ANSWERS = ['follows', 'leads', 'refused', 'installing', 'forked'] as const;
const EDGES = [0, 1, 2, 127, 255, 65_535, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1];
/** Of a batch behind its length: see shared/wire/batch.ts. */
const BATCH = { length: 4, crc: 55, epoch: 59, header: 64 } as const;

/** What fits the cluster that is attacked. */
export interface Facts {
  readonly space: string;
  readonly spaceId: string;
  readonly epoch: number;
  readonly nodeIds: readonly string[];
  readonly directoryIds: readonly string[];
  /** The last entry, as of a while ago. */
  last: number;
}

export class HostileFrames {
  readonly #facts: Facts;
  readonly #chance: Chance;
  readonly #seeds: readonly PlainFrame[];
  /** How many of each kind were made. */
  readonly made: Record<string, number> = {};

  constructor(facts: Facts, chance: Chance) {
    this.#facts = facts;
    this.#chance = chance;
    const golden = JSON.parse(fs.readFileSync(GOLDEN, 'utf8')) as Record<string, string>;
    this.#seeds = Object.values(golden).map((hex) => {
      const bytes = Uint8Array.from(Buffer.from(hex, 'hex'));
      const frame = decodeFrame(bytes[4]!, bytes.subarray(FRAME_HEADER_BYTES));
      if (frame.kind === 'batches') throw new Error('batches are made, not kept');
      return frame;
    });
    const kinds = new Set(this.#seeds.map(({ kind }) => kind as string)).add('batches');
    const missing = Object.keys(FRAME_KINDS).filter((kind) => !kinds.has(kind));
    if (missing.length > 0) throw new Error(`no seed for frames ${missing.join(', ')}`);
  }

  /** One frame, header included. */
  next(): Uint8Array {
    for (;;) {
      const isBatch = this.#chance(6) === 0;
      const seed = this.#pick(this.#seeds);
      const bytes = isBatch ? this.#batch() : this.#frame(seed);
      if (!bytes || !this.#isAllowed(bytes)) continue;
      const kind = isBatch ? 'batches' : seed.kind;
      this.made[kind] = (this.made[kind] ?? 0) + 1;
      return bytes;
    }
  }

  /** What a replica answers to an introduction: where it stands, or might. */
  position(handle: number, version: number): Uint8Array {
    const { epoch, last } = this.#facts;
    const sequence = this.#pick([0, 1, last - 1, last, last + 1, 2 * last, 2 ** 53 - 2]);
    const headerCrc = this.#pick([0, 7]);
    const position = { epoch: this.#chance(4) === 0 ? 0 : epoch, sequence, headerCrc };
    const answer = this.#chance(3) === 0 ? this.#pick(ANSWERS) : ANSWERS[0];
    const row = { handle, answer, epochSeen: epoch, position, applied: 0 };
    return encodeFrame({ kind: 'positions', rows: [row] }, version);
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#chance(from.length)]!;
  }

  #frame(seed: PlainFrame): Uint8Array | undefined {
    let bytes: Uint8Array;
    try {
      bytes = encodeFrame(this.#fitted(seed) as PlainFrame, 1 + this.#chance(2));
    } catch {
      // What does not fit its field at all.
      return undefined;
    }
    return this.#changed(bytes, this.#chance(4));
  }

  /** The same frame with facts of this cluster, or of nowhere. */
  #fitted(value: unknown, key = ''): unknown {
    const { facts, chance } = { facts: this.#facts, chance: this.#chance };
    if (Array.isArray(value)) return value.map((item) => this.#fitted(item, key));
    if (value instanceof Uint8Array) return value;
    if (value !== null && typeof value === 'object') {
      const rows = Object.entries(value).map(([k, v]) => [k, this.#fitted(v, k)]);
      return Object.fromEntries(rows);
    }
    if (chance(8) === 0) return value;
    if (typeof value === 'string') {
      if (/directory|founder/i.test(key)) return this.#pick(facts.directoryIds);
      if (/^[0-9a-f]{32}$/.test(value)) return facts.spaceId;
      if (key === 'name') return facts.space;
      if (/node|primary|leader|candidate/i.test(key)) return this.#pick(facts.nodeIds);
      return value;
    }
    if (typeof value !== 'number') return value;
    if (/epoch/i.test(key)) return chance(3) === 0 ? 2 ** 32 - 1 : facts.epoch;
    if (key === 'handle') return chance(4);
    if (/sequence|flushed|applied|next|expected|from|to|first|last/i.test(key)) {
      return this.#pick([0, 1, facts.last - 1, facts.last, facts.last + 1, 2 ** 53 - 2]);
    }
    return value;
  }

  /** Entries that go on where the space ends, or did. */
  #batch(): Uint8Array {
    const { space, last, epoch } = this.#facts;
    const first = Math.max(1, last + this.#chance(4) - 2);
    const one = { name: space, first, last: first + this.#chance(5), epoch };
    const frame =
      this.#chance(2) === 0 ? this.#mixed(one) : batchFrame(space, first, one.last, epoch);
    const bytes = Uint8Array.from(frame);
    const view = new DataView(bytes.buffer);
    for (let n = this.#chance(3); n > 0; n--) this.#edit(view, FRAME_HEADER_BYTES);
    const at = FRAME_HEADER_BYTES + BATCH.length;
    if (this.#chance(3) > 0) {
      view.setUint32(at + BATCH.crc, 0, true);
      view.setUint32(at + BATCH.crc, crc32c(bytes.subarray(at)), true);
    }
    writeFrameHeader(view, 0, BATCHES, bytes.length - FRAME_HEADER_BYTES, 0);
    return bytes;
  }

  /** Beside others: of that space, of none that is here, of the node itself, of other epochs. */
  #mixed(one: MixedRun): Buffer {
    const own = idWords(NODE_SPACE_ID);
    const runs = Array.from({ length: 2 + this.#chance(5) }, (_, n): MixedRun => {
      const first = this.#pick([one.first, one.last + 1, 1, 2 ** 53 - 3]);
      const name = this.#pick([one.name, one.name, `elsewhere ${n}`, own]);
      const epoch = this.#pick([one.epoch!, one.epoch!, 0, 2 ** 32 - 1]);
      return { name, first, last: first + this.#chance(3), epoch };
    });
    runs[this.#chance(runs.length)] = one;
    return mixedFrame(runs);
  }

  #changed(from: Uint8Array, edits: number): Uint8Array {
    const kind = from[4]!;
    // Cut, or longer than it says.
    const cut = this.#chance(12);
    const length = cut === 0 ? this.#chance(from.length) : from.length + (cut === 1 ? 9 : 0);
    const bytes = new Uint8Array(Math.max(FRAME_HEADER_BYTES, length));
    bytes.set(from.subarray(0, bytes.length));
    const view = new DataView(bytes.buffer);
    if (bytes.length > FRAME_HEADER_BYTES) {
      for (let n = edits; n > 0; n--) this.#edit(view, FRAME_HEADER_BYTES);
    }
    const body = bytes.subarray(FRAME_HEADER_BYTES);
    const crc = this.#chance(10) === 0 ? 7 : crc32c(body);
    const told = this.#chance(30) === 0 ? this.#pick(EDGES) : body.length;
    const code = this.#chance(30) === 0 ? this.#chance(256) : kind;
    writeFrameHeader(view, 0, code, told, crc);
    if (this.#chance(40) === 0) this.#edit(view, 0);
    return bytes;
  }

  /** One bit, one byte, or a number at the edge of what its field takes. */
  #edit(view: DataView, from: number): void {
    const at = from + this.#chance(view.byteLength - from);
    const how = this.#chance(3);
    if (how === 0) view.setUint8(at, view.getUint8(at) ^ (1 << this.#chance(8)));
    else if (how === 1) view.setUint8(at, this.#chance(256));
    else if (at + 4 <= view.byteLength) view.setUint32(at, this.#pick(EDGES), true);
  }

  #isAllowed(bytes: Uint8Array): boolean {
    const body = bytes.subarray(FRAME_HEADER_BYTES);
    if (bytes[4] === BATCHES) {
      const at = BATCH.length + BATCH.epoch;
      const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
      return body.length < at + 4 || !this.#isRise(view.getUint32(at, true));
    }
    try {
      return !this.#names(decodeFrame(bytes[4]!, Uint8Array.from(body)));
    } catch {
      return true;
    }
  }

  #names(value: unknown, key = ''): boolean {
    if (value instanceof Uint8Array || value === null) return false;
    if (Array.isArray(value)) return value.some((item) => this.#names(item, key));
    if (typeof value === 'object') {
      return Object.entries(value).some(([k, v]) => this.#names(v, k));
    }
    return /epoch/i.test(key) && typeof value === 'number' && this.#isRise(value);
  }

  #isRise(epoch: number): boolean {
    return epoch > this.#facts.epoch && epoch <= this.#facts.epoch + EPOCH_STEP_MAX;
  }
}
