/** What a node tells its host: all that its rooms tell. */
import type { FollowEvents } from '../follow/events.js';
import type { LeadEvents } from '../lead/events.js';
import type { LogEvents } from '../log/events.js';
import type { DamageEvents } from '../read/events.js';
import type { RecoveryEvents } from '../recovery/events.js';
import type { CredentialEvents } from '../runtime/credentials.js';
import type { ShipEvents } from '../ship/events.js';
import type { SnapshotEvents } from '../snapshot/events.js';

/** All that the rooms of a node tell. */
export interface NodeEvents
  extends RecoveryEvents,
    LogEvents,
    CredentialEvents,
    DamageEvents,
    SnapshotEvents,
    ShipEvents,
    FollowEvents,
    LeadEvents {}

export type NodeEventName = keyof NodeEvents;
