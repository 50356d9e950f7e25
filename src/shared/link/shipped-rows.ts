/**
 * The spaces that a shipper introduces, as main hands them to it: columns. Of objects each would be
 * copied with the names of all its fields, a hundred thousand times for each replica.
 */
import type { Member } from '../log/node-record.js';
import type { Voided } from '../log/rewind.js';
import type { MembersRow } from '../members/members.js';
import type { Epoch, Slot } from '../position.js';

export interface ShippedSpace {
  readonly slot: Slot;
  readonly id: string;
  readonly name: string;
  readonly epoch: Epoch;
  readonly members: readonly Member[];
  /** Who counts: as many rows as a frame holds. */
  readonly sets: readonly MembersRow[];
  /** What rewinds of this node have made void in its log. */
  readonly voided: readonly Voided[];
}

/** What thousands of spaces have alike. */
type Alike = Pick<ShippedSpace, 'members' | 'sets' | 'voided'>;

const FIELDS = 3;
/** Of an id. */
const DIGITS = 32;

export interface ShippedRows {
  /** Of each space its slot, its epoch, and which of `alike` it has. */
  readonly numbers: Float64Array;
  /** Behind each other. */
  readonly ids: string;
  readonly names: readonly string[];
  readonly alike: readonly Alike[];
}

export function packShipped(spaces: readonly ShippedSpace[]): ShippedRows {
  const numbers = new Float64Array(FIELDS * spaces.length);
  const names: string[] = [];
  const alike: Alike[] = [];
  let ids = '';
  let at = 0;
  for (const { slot, id, name, epoch, members, sets, voided } of spaces) {
    const last = alike.at(-1);
    if (last?.members !== members || last.sets !== sets || last.voided !== voided) {
      alike.push({ members, sets, voided });
    }
    numbers[at] = slot;
    numbers[at + 1] = epoch;
    numbers[at + 2] = alike.length - 1;
    names.push(name);
    ids += id;
    at += FIELDS;
  }
  return { numbers, ids, names, alike };
}

export function unpackShipped({ numbers, ids, names, alike }: ShippedRows): ShippedSpace[] {
  return names.map((name, row) => {
    const at = FIELDS * row;
    const { members, sets, voided } = alike[numbers[at + 2]!]!;
    const id = ids.slice(DIGITS * row, DIGITS * (row + 1));
    return { slot: numbers[at]!, id, name, epoch: numbers[at + 1]!, members, sets, voided };
  });
}
