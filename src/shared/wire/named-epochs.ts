/**
 * The epochs that an answer or a question of a peer call names, whoever has asked: each is heard
 * (DESIGN 14, FAULTS row 111). Frames of a primary's link name a handle in place of a space: the
 * two ends of the link look at those themselves.
 *
 *   frame        | names
 *   -------------+---------------------------------------------------------------------------
 *   standing     | the epoch of its role and who leads in it, the highest epoch it has seen
 *   tips         | the epoch of the last entry of who leads
 *   promised,    |
 *   promises-    |
 *   given        | the highest epoch it has seen
 *   entries      | the epoch in which the one that answers leads or follows
 *   take-over    | the epoch of the last entry of who hands over
 *   took-over    | the epoch that it leads in
 *   appended     | the epoch of the entry, in which the one that answers leads
 *   append-      |
 *   refused      | the epoch of the entry that it conflicts with; 0: none
 *   promise(s)   | none: a candidate proposes an epoch; what is granted is recorded as promised
 */

import { NODE_SPACE_ID } from '../log/node-record.js';
import type { Epoch } from '../position.js';
import { decodeBatch } from './batch.js';
import type { Frame } from './protocol.js';

export interface NamedEpoch {
  /** The id of the space. */
  readonly id: string;
  readonly epoch: Epoch;
  /** The node that leads in it; undefined: nobody, as far as was said. */
  readonly leader: string | undefined;
}

/** @param nodeId who has sent it. Throws as decodeBatch does. */
export function epochsNamed(frame: Frame, nodeId: string): NamedEpoch[] {
  switch (frame.kind) {
    case 'standing':
      return frame.rows.flatMap((row): NamedEpoch[] => {
        const { id, epoch, epochSeen, role, primary } = row;
        if (!row.isKnown) return [];
        // With a higher epoch seen, whom it follows may be of that one, or of an older one.
        const known = epoch >= epochSeen && primary !== '' ? primary : undefined;
        const leader = role === 'primary' ? nodeId : known;
        // No entry is of an epoch that its node has not seen.
        const seen = { id, epoch: Math.max(epochSeen, row.position.epoch), leader: undefined };
        return [{ id, epoch, leader }, seen];
      });
    case 'tips':
      return frame.rows
        .filter((row) => row.leads && row.epoch > 0)
        .map(({ id, epoch }) => ({ id, epoch, leader: nodeId }));
    case 'promised':
      return [{ id: frame.id, epoch: frame.epochSeen, leader: undefined }];
    case 'promises-given':
      return frame.rows.map(({ id, epochSeen: epoch }) => ({ id, epoch, leader: undefined }));
    case 'took-over':
      return [{ id: frame.id, epoch: frame.epoch, leader: frame.epoch > 0 ? nodeId : undefined }];
    case 'appended':
      return [{ id: frame.id, epoch: frame.epoch, leader: nodeId }];
    case 'append-refused':
      return [{ id: frame.id, epoch: frame.epoch, leader: undefined }];
    case 'take-over':
      return [{ id: frame.id, epoch: frame.position.epoch, leader: undefined }];
    case 'entries': {
      const { batch } = frame;
      const view = new DataView(batch.buffer, batch.byteOffset, batch.byteLength);
      const { spaceId, epoch } = decodeBatch(batch, view, 0, batch.length);
      return spaceId === NODE_SPACE_ID ? [] : [{ id: spaceId, epoch, leader: undefined }];
    }
    default:
      return [];
  }
}
