/** What a node ships, and to whom: the primary's side of replication. */
import type { CredentialsNow } from '../../shared/wire/tls/certificates.js';
import type { NodeConfig } from '../options/options.js';
import type { PeerIdentity } from '../peer/client.js';
import type { Emit } from '../runtime/emit.js';
import type { ShipperThreads } from '../runtime/machine.js';
import { Replication } from '../ship/replication.js';
import type { NodeEvents } from '../tell/events.js';
import { type LinkNews, replicationEvents } from '../tell/part-events.js';
import type { LogPart } from './log-part.js';

export class ShipPart {
  readonly replication: Replication;
  /** What parts that come later do about links. Until they are there: nothing. */
  readonly later: LinkNews = {
    connected: () => undefined,
    twin: () => Promise.resolve(undefined),
    unreadable: () => undefined,
    fenced: () => undefined,
    met: () => undefined,
    stale: () => undefined,
  };

  constructor(
    threads: ShipperThreads,
    config: NodeConfig,
    own: Pick<PeerIdentity, 'incarnation' | 'directoryId' | 'credentials'>,
    log: LogPart,
    emit: Emit<NodeEvents>,
  ) {
    const { dir, salt, memory, spaces, segments, reader, wal } = log;
    const { incarnation, directoryId, credentials } = own;
    const facts = { incarnation, directoryId, dataDir: dir, salt };
    const hooks = replicationEvents(emit, this.later);
    const parts = [memory, spaces, segments, reader, wal] as const;
    const replication = new Replication(
      threads,
      { ...config, credentials },
      facts,
      ...parts,
      hooks,
    );
    this.replication = replication;
    Object.assign(log.later, {
      members: () => replication.members,
      flushed: (space, replicaId) => replication.flushedOn(space, replicaId),
      directoryOf: (replicaId) => replication.directoryOf(replicaId),
      isConnected: (replicaId) => replication.isConnected(replicaId),
      cut: (space, replicaId) => replication.cut(space, replicaId),
    } satisfies Partial<LogPart['later']>);
  }

  /** Other members are dialled with these from now on. */
  renew({ now }: CredentialsNow): void {
    for (const shipper of this.replication.shippers) shipper.renew(now);
  }

  close(): Promise<void> {
    return this.replication.close();
  }
}
