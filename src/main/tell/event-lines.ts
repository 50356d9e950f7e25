/**
 * What each event says in a log and on the page: its level, whose it is, a sentence, fields. Never
 * a payload or a secret; what the host's own code threw only where the logger writes debug lines.
 */

import { EngramError } from '../../shared/errors.js';
import { messageOf, nameOf } from '../../shared/host-input.js';
import type { ReplicaStatus } from '../../shared/link/lag.js';
import { COORDINATOR_WRITERS } from './coordinator-event-lines.js';
import type { NodeEventName, NodeEvents } from './events.js';
import { type Level, type Line, line, type Writer } from './line.js';
import { ROLE_WRITERS } from './role-event-lines.js';

/** Names of a list that a sentence has room for. */
const NAMES_SHOWN = 5;

const LEVEL_OF_STATUS: Readonly<Record<ReplicaStatus, Level>> = {
  failed: 'error',
  degraded: 'warn',
  lagging: 'debug',
  healthy: 'info',
};

type Writers = { readonly [K in NodeEventName]: Writer<NodeEvents[K]> };

const WRITERS: Writers = {
  ...ROLE_WRITERS,
  ...COORDINATOR_WRITERS,
  'replica-state': (e) => {
    const { replicaId, state, reason, fatal, ...more } = e;
    const level = { failed: 'error', waiting: 'warn', connecting: 'debug', handshake: 'debug' };
    const found = (level as Partial<Record<string, Level>>)[state] ?? 'info';
    const text = `replica ${replicaId} is ${state}: ${reason}`;
    const fields = { replicaId, state, reason, ...more };
    return line(found, replicaId, text, fatal === undefined ? fields : { ...fields, fatal });
  },
  credentials: ({ change, reason }) =>
    line(
      change === 'reloaded' ? 'info' : 'error',
      change,
      change === 'reloaded'
        ? `keys and certificates were read anew: ${reason}`
        : `new keys or certificates are not taken, those before stay in force: ${reason}`,
      { change, reason },
    ),
  'replica-status': ({ replicaId, status, before, spaces, reason }) =>
    line(
      // A few milliseconds more or less are no news.
      status === 'healthy' && before === 'lagging' ? 'debug' : LEVEL_OF_STATUS[status],
      `${replicaId} ${status}`,
      `replica ${replicaId} is ${status}, was ${before}, in ${named(spaces)}: ${reason}`,
      { replicaId, status, before, reason, ...counted(spaces) },
    ),
  'lag-alert': ({ replicaId, alert, before, spaces, lagMs }) =>
    line(
      { critical: 'error', warning: 'warn', none: 'info' }[alert] as Level,
      `${replicaId} ${alert}`,
      alert === 'none'
        ? `the lag of replica ${replicaId} is no longer ${before} in ${named(spaces)}`
        : `the lag of replica ${replicaId} is ${alert}, ${said(lagMs)}, in ${named(spaces)}`,
      { replicaId, alert, before, lagMs, ...counted(spaces) },
    ),
  'replica-stalled': ({ replicaId, isStalled, stage, spaces }) =>
    line(
      isStalled ? 'error' : 'info',
      `${replicaId} ${isStalled}`,
      isStalled
        ? `replica ${replicaId} is stalled at ${stage} in ${named(spaces)}: its link lives`
        : `replica ${replicaId} moves again in ${named(spaces)}`,
      { replicaId, isStalled, stage, ...counted(spaces) },
    ),
  'primary-connection': ({ primaryId, connected, reason, directoryId }) =>
    line(
      connected ? 'info' : 'warn',
      primaryId,
      connected ? `primary ${primaryId} has connected` : `primary ${primaryId} is gone: ${reason}`,
      { primaryId, connected, reason, directoryId },
    ),
  'primary-stalled': ({ primaryId, isStalled, stalledMs }) =>
    line(
      isStalled ? 'warn' : 'info',
      primaryId,
      isStalled
        ? `primary ${primaryId} is stalled: its main thread has not moved for ${stalledMs} ms`
        : `primary ${primaryId} moves again`,
      { primaryId, isStalled, stalledMs },
    ),
  'duplicate-node': ({ nodeId, directories }) => {
    const isCopy = directories[0] === directories[1];
    const text = `two living processes call themselves ${nodeId}${isCopy ? ': one is a copy' : ''}`;
    return line('error', nodeId, text, { duplicate: nodeId, directories });
  },
  'connection-refused': ({ door, reason, addressClass, address, detail, times }) =>
    line(
      'warn',
      `${door} ${reason} ${addressClass}`,
      `${times} connections were refused (${door}, ${reason}), the last from ${address}: ${detail}`,
      { door, reason, addressClass, address, times },
    ),
  'keeps-all': ({ space, checkpoint }) =>
    line(
      'warn',
      space,
      `${space} is led here without a host: all from ${checkpoint} on is kept until somebody ` +
        'checkpoints (engram-wal checkpoint)',
      { space, checkpoint },
    ),
  'replica-refused': ({ space, replicaId, verdict }) =>
    line(
      'error',
      `${space} ${replicaId}`,
      `replica ${replicaId} gets nothing of ${space}: its position does not continue ours ` +
        `(${verdict})`,
      { space, replicaId, verdict },
    ),
  'unconfirmed-open': ({ spaces, silent }) =>
    line('warn', '', `${spaces.length} spaces were opened without the word of ${named(silent)}`, {
      spaces: spaces.slice(0, NAMES_SHOWN),
      count: spaces.length,
      silent,
    }),
  'members-changed': ({ spaces, added, removed }) =>
    line(
      'info',
      '',
      `members of ${spaces.length} spaces have changed: added ${named(added) || 'none'}, ` +
        `removed ${named(removed) || 'none'}`,
      { spaces: spaces.slice(0, NAMES_SHOWN), count: spaces.length, added, removed },
    ),
  'crash-loop': ({ crashes, restartHintMs }) =>
    line(
      'error',
      'node',
      `this directory was opened ${crashes} times in a row and never closed: start it again no ` +
        `sooner than ${restartHintMs} ms after it ends`,
      { crashes, restartHintMs },
    ),
  'directory-exposed': ({ dataDir, mode }) =>
    line('warn', '', `others can look into ${dataDir} (mode ${mode}): chmod 700 it`, {
      dataDir,
      mode,
    }),
  'torn-tail': ({ lsn, bytes, quarantine }) =>
    line('warn', '', `a torn tail of ${bytes} bytes at LSN ${lsn}, never acknowledged, was cut`, {
      lsn,
      bytes,
      quarantine,
    }),
  recovered: ({ decision, from, entries, holes }) =>
    line(
      holes.length > 0 ? 'error' : 'info',
      '',
      `the log was read from LSN ${from}: ${entries} entries, end: ${decision}`,
      { decision, from, entries, holes: holes.length },
    ),
  'state-failed': ({ error }) =>
    line('warn', '', `the state could not be written: ${messageOf(error)}`, errorFields(error)),
  'node-file-rebuilt': (told) =>
    line('warn', '', 'node.json was lost or damaged, and was made again', told),
  'node-file-raised': (told) =>
    line('info', '', `the directory of an older release is ${told.directoryId} now`, told),
  damaged: ({ holes, entries }) => {
    const first = entries[0];
    const where = first ? `, first ${first.space} from ${first.from}` : '';
    const at = holes[0]?.start;
    return line(
      'error',
      '',
      `the log is damaged in ${holes.length} places; ranges of entries lost: ` +
        `${entries.length}${where}`,
      { holes: holes.length, firstLsn: at, ranges: entries.length, first },
    );
  },
  repair: ({ space, state, reason, unreachable }) =>
    line(
      state === 'repaired' ? 'info' : state === 'repairing' ? 'warn' : 'error',
      space,
      `${space} is ${state}: ${reason}`,
      { space, state, reason, unreachable },
    ),
  'log-state': ({ state, reason }) =>
    line(
      state === 'ok' ? 'info' : state === 'slow-disk' ? 'warn' : 'error',
      '',
      `the log is ${state}${reason === '' ? '' : `: ${reason}`}`,
      { state, reason },
    ),
  'disk-room': ({ todo, freeBytes, fullInMs }) => {
    const left = `${(freeBytes / 2 ** 30).toFixed(1)} GiB are left`;
    const hours = ((fullInMs ?? 0) / 3_600_000).toFixed(1);
    const text = todo === 'nothing' ? 'the disk has room' : `the disk is full in ${hours} h`;
    const level = todo === 'nothing' ? 'info' : todo === 'soon' ? 'warn' : 'error';
    return line(level, '', `${text}: ${left}`, { todo, freeBytes, fullInMs });
  },
  'appends-lost': ({ space, from, to }) =>
    line('error', space, `appends ${from} to ${to} of ${space} were refused by the disk`, {
      space,
      from,
      to,
    }),
  'slot-lost': ({ space, replicaId, flushed, why }) =>
    line(
      'error',
      `${space} ${replicaId}`,
      `what replica ${replicaId} lacks of ${space} behind ${flushed} is kept no more ` +
        `(${why === 'bytes' ? 'too far behind' : 'away for too long'})`,
      { space, replicaId, flushed, why },
    ),
  'snapshot-started': ({ space, replicaId, sequence, chunk }) =>
    line(
      'info',
      `${space} ${replicaId}`,
      `replica ${replicaId} gets a snapshot of ${space} up to ${sequence}` +
        (chunk > 0 ? `, from chunk ${chunk} on` : ''),
      { space, replicaId, sequence, chunk },
    ),
  'snapshot-done': ({ space, replicaId, sequence, chunks, bytes }) =>
    line(
      'info',
      `${space} ${replicaId}`,
      `replica ${replicaId} stands on a snapshot of ${space} up to ${sequence}, ${bytes} bytes`,
      { space, replicaId, sequence, chunks, bytes },
    ),
  'snapshot-failed': ({ space, replicaId, code, reason, retryAfterMs }) =>
    line(
      'error',
      `${space} ${replicaId}`,
      `no snapshot of ${space} for replica ${replicaId}: ${reason}; again in ${retryAfterMs} ms`,
      { space, replicaId, code, reason, retryAfterMs },
    ),
  'replica-set': ({ replicaId, change }) =>
    line('info', replicaId, `replica ${replicaId} was ${change}`, { replicaId, change }),
  'space-role': ({ space, role, epoch, primaryId }) =>
    line('info', space, `${space}: ${role} in epoch ${epoch}, led by ${primaryId}`, {
      space,
      role,
      epoch,
      primaryId,
    }),
  'apply-failed': ({ space, from, attempts, error }, isDebug) =>
    line('warn', space, `apply has failed for ${space} at ${from}, attempt ${attempts}`, {
      space,
      from,
      attempts,
      ...hostErrorFields(error, isDebug),
    }),
  'apply-blocked': ({ space, sequence, reason, callback, error }, isDebug) =>
    line('error', space, `nothing of ${space} is applied: blocked at ${sequence} (${reason})`, {
      space,
      sequence,
      reason,
      ...(callback && { callback }),
      ...hostErrorFields(error, isDebug),
    }),
  'apply-resumed': ({ space, sequence }) =>
    line('info', space, `${space} is applied again, from ${sequence} on`, { space, sequence }),
  'entry-skipped': ({ space, sequence }) =>
    line('warn', space, `entry ${sequence} of ${space} will not be applied: somebody said so`, {
      space,
      sequence,
    }),
  'shipper-lost': ({ replicaId, reason }) =>
    line('error', replicaId, `the shipper thread of ${replicaId} has died: ${reason}`, {
      replicaId,
      reason,
    }),
  fatal: ({ error }) =>
    line('error', '', `the log has failed: ${messageOf(error)}`, errorFields(error)),
};

export const EVENT_NAMES = Object.keys(WRITERS) as readonly NodeEventName[];

/** The line of one event. @param isDebug whether it may carry what the host's own errors say */
export function lineOf<K extends NodeEventName>(
  name: K,
  event: NodeEvents[K],
  isDebug: boolean,
): Line {
  return WRITERS[name](event, isDebug);
}

function named(names: readonly string[]): string {
  const rest = names.length - NAMES_SHOWN;
  const shown = names.slice(0, NAMES_SHOWN).join(', ');
  return rest > 0 ? `${shown} and ${rest} more` : shown;
}

/** The first few spaces of many, and how many there are. */
function counted(spaces: readonly string[]): Record<string, unknown> {
  return { spaces: spaces.slice(0, NAMES_SHOWN), count: spaces.length };
}

function said(lagMs: number | 'unknown'): string {
  return lagMs === 'unknown' ? 'unknown' : `${Math.round(lagMs)} ms`;
}

function errorFields(error: unknown): Record<string, unknown> {
  try {
    if (!(error instanceof Error)) return {};
    const { code } = error as NodeJS.ErrnoException;
    return { errorName: nameOf(error), errorCode: code, errorMessage: messageOf(error) };
  } catch {
    return { errorName: nameOf(error) };
  }
}

/** What the host threw may hold anything, the payload too. */
function hostErrorFields(error: unknown, isDebug: boolean): Record<string, unknown> {
  if (isDebug || error instanceof EngramError) return errorFields(error);
  const { errorName, errorCode } = errorFields(error);
  const code = typeof errorCode === 'string' || typeof errorCode === 'number' ? errorCode : '';
  return { errorName: typeof errorName === 'string' ? errorName : typeof error, errorCode: code };
}
