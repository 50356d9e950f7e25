/**
 * Rot: bits of entries change on the disk of one node, or pages of it cannot be read any more,
 * where the others have them still. Somebody
 * reads, and the node brings back what was lost by itself (FAULTS row 5).
 */
import type { SpaceStatus } from '#src/main/index.js';
import { ENTRY_HEADER_BYTES } from '#src/shared/limits.js';
import { readPayloadSize, readSequence, readSpaceId } from '#src/shared/log/entry.js';
import { look, segmentStart } from '#src/shared/log/segment.js';
import { idOf } from '#src/shared/names.js';
import type { Chance } from '../support/fake-disk.js';
import type { SimNode } from './cluster.js';

/** Entries that a bit is changed of. */
export const ROTTEN_MAX = 4;
const DIR = '/data';
/** What is lost where the disk has a bad sector. */
const PAGE = 4096;

interface Place {
  readonly file: string;
  readonly at: number;
  readonly bytes: number;
}

/**
 * @returns how many bits were changed, or pages spoiled; 0 where the nodes have no sealed entry in
 * common
 */
export function rot(victim: SimNode, nodes: readonly SimNode[], chance: Chance): number {
  const firsts = new Map<string, number>();
  for (const node of nodes) {
    for (const space of node.node!.status().spaces) {
      const id = idOf(space.name);
      firsts.set(id, Math.max(firsts.get(id) ?? 1, first(space)));
    }
  }
  const places = sealedEntries(victim, firsts);
  if (places.length === 0) return 0;
  const count = 1 + chance(ROTTEN_MAX);
  for (let i = 0; i < count; i++) {
    const { file, at, bytes } = places[chance(places.length)]!;
    const page = at + bytes - 1 - ((at + bytes - 1) % PAGE);
    if (isAllIn(places, file, page) && chance(2) === 0) {
      victim.disk.spoil(file, page, page + PAGE);
      continue;
    }
    victim.disk.edit(file, (content) => {
      content[at + chance(bytes)]! ^= 1 << chance(8);
    });
  }
  return count;
}

/** Nothing else stands in this page. */
function isAllIn(places: readonly Place[], file: string, page: number): boolean {
  let covered = 0;
  for (const place of places) {
    if (place.file !== file) continue;
    const end = Math.min(place.at + place.bytes, page + PAGE);
    covered += Math.max(0, end - Math.max(place.at, page));
  }
  return covered === PAGE;
}

/** What a node without an entry has of a space is nothing that others could ask it for. */
function first(space: SpaceStatus): number {
  return space.durableSequence === 0 ? Number.POSITIVE_INFINITY : space.firstSequence;
}

/** Good entries in segments that are written no more, of sequences that everybody has. */
function sealedEntries(node: SimNode, firsts: ReadonlyMap<string, number>): Place[] {
  const { durableLsn } = node.node!.status();
  const salt = JSON.parse(textOf(node, `${DIR}/node.json`)).logSalt as number;
  const found: Place[] = [];
  for (const name of node.disk.list(DIR)) {
    const start = segmentStart(name);
    if (start === undefined) continue;
    const file = `${DIR}/${name}`;
    node.disk.edit(file, (content) => {
      const end = start + content.length;
      if (end > durableLsn) return;
      const view = new DataView(content.buffer, content.byteOffset, content.length);
      for (let at = 0; look(content, view, at, start + at, end, salt) === 'entry'; ) {
        const bytes = ENTRY_HEADER_BYTES + readPayloadSize(view, at);
        const least = firsts.get(readSpaceId(view, at));
        if (least !== undefined && readSequence(view, at) >= least) found.push({ file, at, bytes });
        at += bytes;
      }
    });
  }
  return found;
}

function textOf(node: SimNode, file: string): string {
  let text = '';
  node.disk.edit(file, (bytes) => {
    text = Buffer.from(bytes).toString();
  });
  return text;
}
