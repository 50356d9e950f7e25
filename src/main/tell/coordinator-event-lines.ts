/** What the events about a coordinator say in a log and on the page. */
import type { CoordinatorEvents } from '../lead/events.js';
import { line, type Writer } from './line.js';

export const COORDINATOR_WRITERS: {
  readonly [K in keyof CoordinatorEvents]: Writer<CoordinatorEvents[K]>;
} = {
  coordinator: ({ connected, reason }) => {
    const text = connected ? `etcd is reached at ${reason}` : `etcd cannot be reached: ${reason}`;
    return line(connected ? 'info' : 'error', 'etcd', text, { connected, reason });
  },
  lease: ({ held, reason }) => {
    const lost = `the lease may have run out, nothing is acknowledged: ${reason}`;
    const text = held ? `the lease is held (${reason})` : lost;
    return line(held ? 'info' : 'error', 'lease', text, { held, reason });
  },
  leader: ({ space, leader }) => {
    if (!leader) return line('warn', space, `${space} has no leader`, { space });
    const { nodeId, epoch } = leader;
    const text = `${space} is led by ${nodeId} in epoch ${epoch}`;
    return line('info', space, text, { space, leaderId: nodeId, epoch });
  },
  'leader-waiting': ({ space, reason }) => {
    const who = space === '' ? 'this node' : space;
    return line('warn', space, `${who} waits: ${reason}`, { space, reason });
  },
};
