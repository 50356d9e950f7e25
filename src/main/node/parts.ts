/**
 * The parts that a node is made of, each finished before the next one gets it, and their end in the
 * order in which one needs the other.
 */
import { failure } from '../../shared/errors.js';
import type { Coordinator } from '../lead/coordinator.js';
import type { NodeConfig } from '../options/options.js';
import type { Openings } from '../recovery/openings.js';
import type { Repairer } from '../repair/repairer.js';
import type { CredentialStore } from '../runtime/credentials.js';
import { inTurn } from '../runtime/in-order.js';
import type { Refusals } from '../runtime/refusals.js';
import type { NodeEmitter } from '../tell/emitter.js';
import type { FollowPart } from './follow-part.js';
import type { LeadPart } from './lead-part.js';
import type { LogPart } from './log-part.js';
import type { ShipPart } from './ship-part.js';
import type { SpaceHandles } from './space-handles.js';
import type { WatchPart } from './watch-part.js';

/** What is there before any part is. */
export interface Ground {
  readonly config: NodeConfig;
  readonly emitter: NodeEmitter;
  readonly coordinator: Coordinator;
  readonly credentials: CredentialStore;
  /** How often this directory was opened and not closed. */
  readonly openings: Openings;
  /** Counts whoever is not let in. */
  readonly refusals: Refusals;
  /** Aborted when the node closes. */
  readonly stop: AbortController;
}

export interface Parts {
  readonly log: LogPart;
  readonly ship: ShipPart;
  readonly follow: FollowPart;
  readonly lead: LeadPart;
  readonly repairer: Repairer;
  readonly watch: WatchPart;
  readonly handles: SpaceHandles;
}

/** @param parts those that there are: a node that could not be opened lacks the last ones */
export async function endAll(ground: Ground, parts: Partial<Parts>): Promise<void> {
  const { config, emitter, coordinator, openings, credentials, refusals, stop } = ground;
  const { log, ship, follow, lead, repairer, watch } = parts;
  stop.abort();
  credentials.close();
  const reading = log?.reader.streams.close(failure('Closed', `node ${config.nodeId} has closed`));
  lead?.peers.close();
  await inTurn([
    () => watch?.rest(),
    // First of all: what primaries send would never let the log come to rest.
    () => follow?.rest(),
    () => lead?.close(),
    () => repairer?.close(),
    () => log?.rest(),
    () => ship?.close(),
    // What could be shipped has been: whoever leads next has it.
    () => coordinator.close(),
    () => follow?.close(),
    () => log?.close(reading),
    () => watch?.close(),
    () => openings.closed(log?.state.generation),
  ]).finally(() => {
    refusals.close();
    emitter.close();
  });
}
