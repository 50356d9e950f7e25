/** What the receiving side of a node needs of the node. */
import type { SpaceIdWords } from '../../shared/bytes.js';
import type { History } from '../../shared/lead/epoch.js';
import type { RefusalReason } from '../../shared/link/refusal.js';
import type { Member } from '../../shared/log/node-record.js';
import type { Epoch, EpochStart, Sequence, Slot } from '../../shared/position.js';
import type { Frame, PositionRow, SpaceRow } from '../../shared/wire/protocol.js';
import type { CredentialsNow } from '../../shared/wire/tls/certificates.js';
import type { SpaceState } from '../log/space-table.js';
import type { Wal } from '../log/wal.js';
import type { PeerHandlers } from '../peer/answers.js';
import type { SnapshotIntake } from '../snapshot/intake.js';
import type { PrimaryLinks } from './primary-links.js';

/** Who comes in at the listening socket, and what is told of those that do not. */
export interface Doors {
  /** A member of a space that is here, or configured. */
  knows(nodeId: string): boolean;
  /** A member is at this address, or was lately. */
  isMembers(address: string): boolean;
  /** Wrong proofs have come from there lately. */
  isSuspect(address: string): boolean;
  /** Throws NotMember for who has proved itself and is not to be let in. */
  admit(nodeId: string, address: string): void;
  refused(reason: RefusalReason, address: string, detail: string): void;
}

export interface ReceiverHost {
  readonly doors: Doors;
  readonly clusterId: string;
  readonly nodeId: string;
  readonly incarnation: bigint;
  readonly directoryId: string;
  readonly maxEntryBytes: number;
  readonly maxFrameBytes: number;
  /** What frames that are not whole may take together, unless two of them are longer. */
  readonly frameMemoryBytes: number;
  readonly readTimeoutMs: number;
  readonly keepAliveMs: number;
  readonly credentials: CredentialsNow;
  readonly wal: Wal;
  readonly snapshots: SnapshotIntake;
  spaceById(id: string): SpaceState | undefined;
  spaceByWords(words: SpaceIdWords): SpaceState | undefined;
  /** Of the space whose id stands at `at`; -1: it is not here. */
  slotAt(view: DataView, at: number): Slot;
  /** The highest epoch that is known of the space. */
  epochSeen(slot: Slot): Epoch;
  spaceAt(slot: Slot): SpaceState;
  appliedTo(space: SpaceState): Sequence;
  /** Makes the introduced spaces known here, durably, and says where they stand. */
  register(primary: Introducer, rows: readonly SpaceRow[]): Promise<PositionRow[]>;
  /** By its primary's word this directory has less of the space than it has acknowledged. */
  regressed(primaryId: string, space: SpaceState | undefined, flushed: Sequence): void;
  readonly primaries: PrimaryLinks;
  /** Who leads the space, as far as is known here; undefined: nobody, yet. */
  leaderOf(space: SpaceState): Member | undefined;
  /** A primary's frame names this epoch of the space. */
  heard(space: SpaceState, epoch: Epoch): void;
  /** What a peer's question names of epochs. Throws NotMember, EpochOutOfReach. */
  heardIn(frame: Frame, peerId: string): void;
  /** Whether the node may replicate the space with this one. @param id of the space */
  mayReplicate(nodeId: string, id: string): boolean;
  /** The primary has told the epochs of a space. */
  told(space: SpaceState, history: readonly EpochStart[]): void;
  /** Goes back to what is shared with a primary whose history this is, and says where that is. */
  rejoin(
    space: SpaceState,
    epoch: Epoch,
    primary: History,
    unjudged: number,
  ): Promise<Omit<PositionRow, 'handle'>>;
  connection(
    primaryId: string,
    connected: boolean,
    reason: string,
    peer: { readonly directoryId: string | undefined; readonly version: number },
  ): void;
  /** The primary's main thread has not moved for so long; 0: it moves again. */
  stalled(primaryId: string, stalledMs: number): void;
  /** Its host needs nothing of the space below `sequence`. */
  checkpointed(space: SpaceState, sequence: Sequence): void;
  /** Of a node that this one ships to, over a link that lives. */
  livingDirectory(nodeId: string): string | undefined;
  /** This node has dialled us, in this life: what is shipped to it is dialled again at once. */
  met(nodeId: string, incarnation: bigint): void;
  /** A second living process calls itself so. `directories`: of the first and of this one. */
  duplicate(nodeId: string, directories: Directories): void;
  /** What this node answers to peers that ask. */
  readonly peers: PeerHandlers;
}

/** undefined: of a node that speaks version 1. */
export type Directories = readonly (string | undefined)[];

/** The node, and the directory of it, that introduces its spaces. */
export interface Introducer {
  readonly nodeId: string;
  /** 32 hex digits; undefined where it speaks version 1. */
  readonly directoryId: string | undefined;
}
