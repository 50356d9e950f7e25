/**
 * Snapshots of simulated hosts: bytes that follow from the space and the sequence, so that whoever
 * restores them can tell whether they are the right ones. Pieces come late, calls fail.
 */
import type { HostSnapshot, ReceivedSnapshot } from '#src/main/index.js';
import type { Chance } from '../support/fake-disk.js';
import { Violation } from './cluster.js';

export interface SnapshotWorld {
  readonly chance: Chance;
  /** No host fails any more. */
  isHealing(): boolean;
  sleep(ms: number): Promise<void>;
}

const PIECE_BYTES = 900;

function contentOf(space: string, sequence: number): Buffer {
  const line = `${space} up to ${sequence}. `;
  return Buffer.from(line.repeat(20 + ((sequence * 37) % 700)));
}

/** @param durable the last entry of the space that is durable on its primary */
export async function makeSnapshot(
  world: SnapshotWorld,
  space: string,
  durable: number,
): Promise<HostSnapshot> {
  const { chance } = world;
  await world.sleep(chance(40));
  if (!world.isHealing() && chance(10) === 0) throw new Error('no snapshot, now');
  // Some are older than what is retained: they must be refused, not sent.
  const sequence = Math.max(1, durable - chance(world.isHealing() ? 3 : 60));
  async function* chunks(): AsyncGenerator<Uint8Array> {
    const content = contentOf(space, sequence);
    for (let at = 0; at < content.length; at += PIECE_BYTES) {
      if (chance(6) === 0) await world.sleep(chance(200));
      if (!world.isHealing() && chance(100) === 0) throw new Error('the rest of it is lost');
      yield content.subarray(at, at + PIECE_BYTES);
    }
  }
  return { sequence, chunks: chunks() };
}

/** Takes it in, or throws as a host may; a Violation for bytes that are not the right ones. */
export async function takeSnapshot(
  world: SnapshotWorld,
  space: string,
  { sequence, chunks }: ReceivedSnapshot,
): Promise<void> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  if (!Buffer.concat(parts).equals(contentOf(space, sequence))) {
    throw new Violation(`the snapshot of ${space} up to ${sequence} is not what was given`);
  }
  await world.sleep(world.chance(100));
  if (!world.isHealing() && world.chance(6) === 0) throw new Error('the host cannot restore, now');
}
