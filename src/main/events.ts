/** What a node tells its host, typed; a listener that throws harms nobody but itself. */
import { EventEmitter } from 'node:events';
import type { LinkState } from '../shared/control.js';
import { failure } from '../shared/errors.js';
import type { Epoch, Lsn, Sequence } from '../shared/position.js';
import type { Verdict } from '../shared/protocol.js';
import type { Hole } from '../shared/state.js';
import type { ApplyBlock } from './apply.js';
import type { CoordinatorEvents } from './coordinator-events.js';
import type { DamagedEntries } from './damage.js';
import { EVENT_NAMES, line, lineOf } from './event-lines.js';
import { nameOf, textOf } from './host-input.js';
import type { LagAlertChange, ReplicaStatusChange, StalledChange } from './lag-changes.js';
import type { LogStatus } from './log-health.js';
import { EventLog, harmless, type Logger, type RecentEvent } from './logger.js';
import type { LostAppends } from './lost-appends.js';
import { describe, wrong } from './option-checks.js';
import type { RecoveryReport } from './recovery.js';
import type { RoleEvents } from './role-events.js';
import type { SnapshotNews } from './snapshot-supply.js';

/** Of which space, for which replica. */
export interface SnapshotOf {
  readonly space: string;
  readonly replicaId: string;
}

export interface NodeEvents extends RoleEvents, CoordinatorEvents {
  /** The link to a replica has another state (DESIGN 7). */
  'replica-state': {
    readonly replicaId: string;
    readonly state: LinkState;
    readonly reason: string;
    readonly consecutiveFailures: number;
    /** The code of an error that only a person can mend. */
    readonly fatal: string | undefined;
    /** Links that have ended because bytes were changed on the way. */
    readonly checksumFailures: number;
    /** Its data directory, as it said last; undefined where it speaks version 1, or never spoke. */
    readonly directoryId: string | undefined;
  };
  /** Replicas have another status (healthy, lagging, degraded, failed) in these spaces. */
  'replica-status': ReplicaStatusChange;
  /** The lag of a replica has passed a threshold in these spaces, or has come back from it. */
  'lag-alert': LagAlertChange;
  /** A replica whose link lives does not move in these spaces, or moves again. */
  'replica-stalled': StalledChange;
  /** A primary has connected to this node, or is gone. */
  'primary-connection': {
    readonly primaryId: string;
    readonly connected: boolean;
    readonly reason: string;
    /** Its data directory; undefined where it speaks version 1 of the protocol. */
    readonly directoryId: string | undefined;
  };
  /** The main thread of a primary does not move, though its shipper does; or moves again. */
  'primary-stalled': {
    readonly primaryId: string;
    readonly isStalled: boolean;
    readonly stalledMs: number;
  };
  /**
   * Two living processes call themselves `nodeId`: the second was refused (row 26). `directories`:
   * of the first and of the second; where they are the same, one is a copy.
   */
  'duplicate-node': {
    readonly nodeId: string;
    readonly directories: readonly (string | undefined)[];
  };
  /**
   * This node leads the space without a host (`follow`): all since its checkpoint is kept until
   * somebody checkpoints, as `engram-wal checkpoint` does.
   */
  'keeps-all': { readonly space: string; readonly checkpoint: Sequence };
  /** A replica's position in a space does not continue ours: it gets nothing of that space. */
  'replica-refused': {
    readonly space: string;
    readonly replicaId: string;
    readonly verdict: Verdict;
  };
  /** Spaces were opened for appends without the word of replicas that stay silent. */
  'unconfirmed-open': { readonly spaces: readonly string[]; readonly silent: readonly string[] };
  /** This directory was opened over and over without being closed (row 61). */
  'crash-loop': {
    readonly crashes: number;
    /** So long to wait before the next start, if this one ends soon as well. */
    readonly restartHintMs: number;
  };
  /** Recovery cut off an unacknowledged tail. */
  'torn-tail': {
    readonly lsn: Lsn;
    readonly bytes: number;
    readonly quarantine: string | undefined;
  };
  /** The log was opened: what was decided about its end, and on what evidence. */
  recovered: RecoveryReport;
  /** State, an index or a freed segment's file could not be written; the log itself goes on. */
  'state-failed': { readonly error: unknown };
  /** node.json was lost or damaged, and was made again from the log and the state. */
  'node-file-rebuilt': { readonly dataDir: string; readonly directoryId: string };
  /** An older release made the directory: from now on it has an id, and that release refuses it. */
  'node-file-raised': { readonly dataDir: string; readonly directoryId: string };
  /** Acknowledged bytes of the log are not what was written; `entries` are lost to their spaces. */
  damaged: { readonly holes: readonly Hole[]; readonly entries: readonly DamagedEntries[] };
  /**
   * Damaged entries of a space: members are asked for them (`repairing`), they are back
   * (`repaired`), or no member has them (`corrupt`: no appends). `refused`: what a member gave is
   * not the entry that was written, an incident.
   */
  repair: {
    readonly space: string;
    readonly state: 'repairing' | 'repaired' | 'corrupt' | 'refused';
    readonly reason: string;
    /** Members that could not be asked. */
    readonly unreachable: readonly string[];
  };
  /** The log takes entries, or does not: slow-disk, read-only (by itself again), failed. */
  'log-state': LogStatus;
  /** A group was refused: these sequences, handed out by tryAppend, are void and come again. */
  'appends-lost': LostAppends;
  /**
   * What a replica lacks is not kept for it any more: it was farther behind than maxSlotBytes
   * (`bytes`), or away for longer than slotIdleTimeoutMs (`idle`).
   */
  'slot-lost': {
    readonly space: string;
    readonly replicaId: string;
    readonly flushed: Sequence;
    readonly why: 'bytes' | 'idle';
  };
  /**
   * A replica whose entries are freed gets a snapshot of the space: it begins, at its first chunk
   * or where it was interrupted. Told on both nodes, as the two below.
   */
  'snapshot-started': SnapshotOf & SnapshotNews['started'];
  /** The replica's host has it, and the space goes on behind it. */
  'snapshot-done': SnapshotOf & SnapshotNews['done'];
  /** Nothing came of it; what the replica had is untouched. It is tried again by itself. */
  'snapshot-failed': SnapshotOf & SnapshotNews['failed'];
  /** A replica was added, or removed with its slots, while the node runs. */
  'replica-set': { readonly replicaId: string; readonly change: 'added' | 'removed' };
  /** This node has become, or is, the replica or primary of a space. */
  'space-role': {
    readonly space: string;
    readonly role: 'primary' | 'replica';
    readonly epoch: Epoch;
    readonly primaryId: string;
  };
  /** The host's apply callback has failed; it is called again with the same entries. */
  'apply-failed': {
    readonly space: string;
    readonly from: Sequence;
    readonly attempts: number;
    readonly error: unknown;
  };
  /**
   * Nothing of the space is applied: the host throws at this entry however often it is offered
   * (`poison`), says that it has applied it and the log does not hold it (`beyond-log`), or that it
   * has applied no more and the next one is not retained (`before-log`), or has applied what was
   * taken back and gives no `rewound` to undo it (`rewound`), or does not return from a callback
   * for `hostTimeoutMs` (`silent`; `callback` says which).
   */
  'apply-blocked': { readonly space: string } & ApplyBlock;
  /** The entry at which applying was blocked is applied, or skipped. */
  'apply-resumed': { readonly space: string; readonly sequence: Sequence };
  /** Somebody has said that the host does without this entry. */
  'entry-skipped': { readonly space: string; readonly sequence: Sequence };
  /** A shipper thread has died; it is started again. */
  'shipper-lost': { readonly replicaId: string; readonly reason: string };
  /** The log has failed: no append is taken until the node is opened again. */
  fatal: { readonly error: Error };
}

export type NodeEventName = keyof NodeEvents;

export class NodeEmitter {
  readonly #emitter = new EventEmitter();
  readonly #log: EventLog;
  /** How often each event was emitted. */
  readonly #counts = new Map<NodeEventName, number>(EVENT_NAMES.map((name) => [name, 0]));
  /** What happened before the host could listen; undefined once it can. */
  #held: (() => void)[] | undefined = [];

  constructor(nodeId: string, logger: Logger | undefined) {
    this.#log = new EventLog(nodeId, logger);
    // However many a host has: they are its own affair.
    this.#emitter.setMaxListeners(0);
  }

  /** Throws Configuration for an event that there is not, or a listener that is no function. */
  on<K extends NodeEventName>(name: K, listener: (event: NodeEvents[K]) => void): this {
    checkListener(name, listener);
    this.#emitter.on(name, listener);
    return this;
  }

  off<K extends NodeEventName>(name: K, listener: (event: NodeEvents[K]) => void): this {
    checkListener(name, listener);
    this.#emitter.off(name, listener);
    return this;
  }

  /** The last events, oldest first, as people are told of them. */
  get recentEvents(): readonly RecentEvent[] {
    return this.#log.recent;
  }

  /** Logs the event, and soon calls every listener; what one throws stops nobody (row 79). */
  protected emit<K extends NodeEventName>(name: K, event: NodeEvents[K]): void {
    this.#counts.set(name, this.#counts.get(name)! + 1);
    // Never in the middle of what has led to it: a listener or a logger may call the node.
    queueMicrotask(() => {
      this.#log.line(name, lineOf(name, event, this.#log.isDebug));
      if (this.#held) this.#held.push(() => this.#deliver(name, event));
      else this.#deliver(name, event);
    });
  }

  #deliver<K extends NodeEventName>(name: K, event: NodeEvents[K]): void {
    for (const listener of this.#emitter.listeners(name)) {
      const threw = (error: unknown): void => this.#listenerThrew(name, error);
      try {
        harmless((listener as (event: NodeEvents[K]) => unknown)(event), threw);
      } catch (error) {
        threw(error);
      }
    }
  }

  #listenerThrew(name: NodeEventName, error: unknown): void {
    const kind = nameOf(error);
    const fields = { listenerOf: name, errorName: kind };
    this.#log.line('listener-threw', line('error', name, `a listener of ${name} threw`, fields));
    if (!this.#log.isSilent) return;
    process.emitWarning(`a listener of '${name}' threw: ${textOf(error)}`, 'EngramWalWarning');
  }

  /** No event comes any more. */
  protected endLog(): void {
    this.#log.close();
  }

  /** How often each event was emitted, and how many lines of the log are lost. */
  protected get told(): {
    events: ReadonlyMap<NodeEventName, number>;
    lines: { readonly dropped: number };
  } {
    return { events: this.#counts, lines: this.#log };
  }

  /**
   * Once, by `openNode`: opening is over. In the next turn of the event loop the host has added
   * its listeners.
   */
  release(): void {
    setImmediate(() => {
      const held = this.#held ?? [];
      this.#held = undefined;
      for (const deliver of held) deliver();
    });
  }
}

function checkListener(name: unknown, listener: unknown): void {
  if (!EVENT_NAMES.includes(name as NodeEventName)) {
    const found = `there is no event ${describe(name)}; known: ${EVENT_NAMES.join(', ')}`;
    throw failure('Configuration', found, { details: { event: name } });
  }
  if (typeof listener === 'function') return;
  throw wrong(`the listener of ${name}`, listener, 'a function');
}
