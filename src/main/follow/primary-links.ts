/** The primaries that this node has followed since it was opened, for metrics and status. */

import { PRIMARIES_KEPT } from '../../shared/limits.js';
import type { ByteSocket } from '../../shared/wire/byte-socket.js';
import { countedSocket } from '../../shared/wire/counted-socket.js';

export interface PrimaryLink {
  readonly primaryId: string;
  /** Its data directory; undefined where it speaks version 1 of the protocol. */
  directoryId: string | undefined;
  /** Of the protocol, as agreed on last. */
  version: number;
  isConnected: boolean;
  /** Its main thread does not move, though its shipper does. */
  isStalled: boolean;
  bytesReceived: number;
  bytesSent: number;
  /** Monotonic ms of the last change of isConnected. */
  sinceMs: number;
  reason: string;
}

/** A primary as `status()` tells of it. */
export interface PrimaryStatus extends Readonly<Omit<PrimaryLink, 'sinceMs'>> {
  /** For how long it has been connected, or has not, ms. */
  readonly since: number;
}

export class PrimaryLinks {
  readonly #links = new Map<string, PrimaryLink>();

  get all(): readonly PrimaryLink[] {
    return [...this.#links.values()];
  }

  status(): PrimaryStatus[] {
    const nowMs = performance.now();
    return this.all.map(({ sinceMs, ...link }) => ({ ...link, since: nowMs - sinceMs }));
  }

  connection(
    primaryId: string,
    isConnected: boolean,
    reason: string,
    peer: { readonly directoryId: string | undefined; readonly version: number },
  ): void {
    const link = this.#link(primaryId);
    const { directoryId, version } = peer;
    const told = { isConnected, reason, directoryId, version };
    Object.assign(link, told, { sinceMs: performance.now(), isStalled: false });
    // Named last: the one that is forgotten first is the one that is away for longest.
    this.#links.delete(primaryId);
    this.#links.set(primaryId, link);
    for (const [id, old] of this.#links) {
      if (this.#links.size <= PRIMARIES_KEPT) break;
      if (!old.isConnected) this.#links.delete(id);
    }
  }

  /** That a connected primary speaks; undefined where it is not connected. */
  versionOf(primaryId: string): number | undefined {
    const link = this.#links.get(primaryId);
    return link?.isConnected ? link.version : undefined;
  }

  stalled(primaryId: string, isStalled: boolean): void {
    this.#link(primaryId).isStalled = isStalled;
  }

  /** @param primaryId who is at the other end; undefined before it has said so */
  counted(socket: ByteSocket, primaryId: () => string | undefined): ByteSocket {
    const linkOf = (): PrimaryLink | undefined => this.#links.get(primaryId() ?? '');
    return countedSocket(
      socket,
      (bytes) => {
        const link = linkOf();
        if (link) link.bytesReceived += bytes;
      },
      (bytes) => {
        const link = linkOf();
        if (link) link.bytesSent += bytes;
      },
    );
  }

  #link(primaryId: string): PrimaryLink {
    let link = this.#links.get(primaryId);
    if (!link) {
      link = {
        primaryId,
        directoryId: undefined,
        version: 0,
        isConnected: false,
        isStalled: false,
        bytesReceived: 0,
        bytesSent: 0,
        sinceMs: performance.now(),
        reason: '',
      };
      this.#links.set(primaryId, link);
    }
    return link;
  }
}
