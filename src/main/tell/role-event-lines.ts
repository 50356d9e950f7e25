/** What the events of tell/role-events.ts say in a log and on the page. */

import type { RoleEvents } from '../lead/events.js';
import { type Line, line, type Writer } from './line.js';

/** Members that one line names. */
const NAMED = 5;

export const ROLE_WRITERS: { readonly [K in keyof RoleEvents]: Writer<RoleEvents[K]> } = {
  fenced: ({ space, epoch, leader }) =>
    line(
      'warn',
      space,
      `${space} is led elsewhere in epoch ${epoch}` +
        `${leader ? `, by ${leader.nodeId}` : ''}: nothing is acknowledged here any more`,
      { space, epoch, leader: leader?.nodeId },
    ),
  'member-regressed': ({ space, replicaId, directoryId, flushed, sequence }) =>
    line(
      'error',
      `${space} ${replicaId}`,
      `replica ${replicaId} has ${space} up to ${sequence}, and had acknowledged ${flushed}: its ` +
        'directory went back, and counts for nothing until it is taken in as another one',
      { space, replicaId, directoryId, flushed, sequence },
    ),
  'directory-renewed': ({ directoryId, before }) =>
    line(
      'error',
      '',
      `this directory has less than it has acknowledged: it was ${before}, and is ${directoryId}`,
      { directoryId, before },
    ),
  'leader-conflict': ({ space, epoch, otherId }) =>
    line('error', space, `${space} has two leaders in epoch ${epoch}, ${otherId} is one`, {
      space,
      epoch,
      otherId,
    }),
  rewound: ({ space, from, to, entries, quarantine, primaryId, epoch }): Line =>
    line(
      'error',
      space,
      `${entries} entries of ${space} (${from} to ${to}) that ${primaryId} does not have were ` +
        'taken back and are in quarantine',
      { space, from, to, entries, quarantine, primaryId, epoch },
    ),
  'replica-rewinds': ({ space, replicaId }) =>
    line('warn', `${space} ${replicaId}`, `replica ${replicaId} takes back entries of ${space}`, {
      space,
      replicaId,
    }),
  promoted: ({ space, epoch, position, lost, silent, tookMs }) =>
    line(
      lost.length > 0 ? 'error' : 'info',
      space,
      `${space} is led from here in epoch ${epoch}, from entry ${position.sequence} on` +
        lost
          .slice(0, NAMED)
          .map((l) => `; ${l.entries} entries of ${l.nodeId} are lost to it`)
          .join(''),
      {
        space,
        epoch,
        sequence: position.sequence,
        lost: lost.slice(0, NAMED),
        silent: silent.slice(0, NAMED).map(({ nodeId }) => nodeId),
        tookMs: Math.round(tookMs),
      },
    ),
  'switched-over': ({ space, to, epoch, pauseMs }) =>
    line('info', space, `${space} was handed over to ${to} in epoch ${epoch}`, {
      space,
      to,
      epoch,
      pauseMs: Math.round(pauseMs),
    }),
  'switchover-abandoned': ({ space, to, reason }) =>
    line('warn', space, `${space} was not handed over to ${to}: ${reason}`, { space, to, reason }),
  regressed: ({ space, waiting }) =>
    line(
      'error',
      space,
      `replicas have more of ${space} than this node, whose disk went back: ` +
        (waiting === undefined ? 'it fills itself up' : `it waits, for ${waiting}`),
      { space, waiting },
    ),
};
