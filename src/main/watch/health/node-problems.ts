/** What is wrong with a node itself and with its links. */
import type { CertificateStatus, CredentialsStatus } from '../../runtime/credentials.js';
import type { ReplicaLinkStatus } from '../../ship/status.js';
import type { NodeSummary } from '../status.js';
import { todoOfRoom } from './disk-room.js';
import { type Problem, problem } from './problems.js';
import { lagText } from './words.js';

/** A certificate has not long to last: fewer days than this, and this part of its life. */
const CERTIFICATE_SHORT_DAYS = 14;
const CERTIFICATE_SHORT_PART = 0.2;

/** For so long after the last one people are told of those that were not let in. */
const STRANGERS_MS = 300_000;

/** @param spaces how many are here */
export function nodeProblems(node: NodeSummary, spaces: number): Problem[] {
  const { credentials } = node;
  const found = [
    ...logProblems(node),
    ...coordinatorProblems(node),
    ...credentialProblems(credentials),
    ...strangers(node),
  ];
  for (const { primaryId: subject, isStalled, isConnected } of node.primaries) {
    if (!isConnected || !isStalled) continue;
    const text = `Primary ${subject} is stalled: its main thread does not move`;
    found.push(problem('primary-stalled', text, { subject }));
  }
  if (spaces > 0) return found;
  // Links that no space speaks of yet.
  found.push(...node.replicas.flatMap(linkProblems));
  const isAlone = !node.primaries.some((primary) => primary.isConnected);
  if (node.address && isAlone && node.replicas.length === 0) {
    const text = 'No space is here, and no primary is connected: nothing is copied';
    found.push(problem('unused', text));
  }
  return found;
}

function logProblems({ log, retention, diskRoom }: NodeSummary): Problem[] {
  const found: Problem[] = [];
  const { state, reason } = log;
  const isUnready = true;
  if (state === 'failed') {
    const text = `The log has failed, no append is taken: ${reason}`;
    found.push(problem('log-failed', text, { isUnready }));
  } else if (state === 'read-only') {
    found.push(problem('log-read-only', `The log takes no appends: ${reason}`, { isUnready }));
  } else if (state === 'slow-disk') {
    found.push(problem('slow-disk', `The disk is slow: ${reason}`));
  }
  if (retention.refusal !== undefined) {
    const text = `No append is taken: ${retention.refusal}`;
    found.push(problem('retention-full', text, { isUnready }));
  }
  const todo = todoOfRoom(diskRoom?.fullInMs);
  if (state !== 'read-only' && todo !== 'nothing') {
    const left = `${(diskRoom!.freeBytes / 2 ** 30).toFixed(1)} GiB are left`;
    const text = `The disk is full in ${lagText(diskRoom!.fullInMs!)} at the pace of late: ${left}`;
    found.push(problem('disk-full-soon', text, todo === 'now' ? { health: 'failed' } : {}));
  }
  return found;
}

/** A lease that is lost because etcd is out of reach is one problem, not two. */
function coordinatorProblems({ coordinator }: NodeSummary): Problem[] {
  if (!coordinator) return [];
  const { connected, reason, lease } = coordinator;
  const away = connected ? '' : `etcd cannot be reached (${reason})`;
  if (!lease.held) {
    const why = connected ? lease.reason : away;
    const text = `No lease of etcd is held, nothing is acknowledged here: ${why}`;
    return [problem('lease-lost', text, { isUnready: true })];
  }
  if (connected) return [];
  const text = `${away}: appends go on for ${lagText(lease.leftMs)}, then nothing is acknowledged`;
  return [problem('coordinator-away', text)];
}

function credentialProblems(given: CredentialsStatus): Problem[] {
  const found: Problem[] = [];
  for (const [subject, lasting] of [
    ['its certificate', given.certificate],
    ['the authority of its certificate', given.authority],
  ] as const) {
    if (!lasting || !isShort(lasting)) continue;
    const days = Math.abs(lasting.daysLeft).toFixed(1);
    const isOver = lasting.daysLeft <= 0;
    const text = isOver
      ? `The node is refused by others: ${subject} expired ${days} days ago`
      : `The node will be refused by others: ${subject} expires in ${days} days`;
    const health = isOver ? ({ health: 'failed' } as const) : {};
    found.push(problem('certificate-expires', text, { subject, ...health }));
  }
  if (given.refusal !== undefined) {
    const text = `New keys or certificates are not taken, those before stay: ${given.refusal}`;
    found.push(problem('credentials-refused', text));
  }
  return found;
}

/** Whoever renews certificates has done so before: at two thirds of their life, most of them. */
function isShort({ daysLeft, lifetimeDays }: CertificateStatus): boolean {
  return daysLeft < CERTIFICATE_SHORT_DAYS && daysLeft < CERTIFICATE_SHORT_PART * lifetimeDays;
}

/** Whoever was turned away within the last minutes. */
function strangers({ refused }: NodeSummary): Problem[] {
  const lately = refused.filter(({ agoMs }) => agoMs < STRANGERS_MS);
  if (lately.length === 0) return [];
  const each = lately.map(({ door, reason, addressClass, times }) => {
    return `${times.toLocaleString('en')} ${reason} (${door}, ${addressClass})`;
  });
  const text = `Connections were refused lately; since this node was opened: ${each.join(', ')}`;
  return [problem('strangers', text)];
}

function linkProblems(link: ReplicaLinkStatus): Problem[] {
  const { replicaId: subject, state, reason, consecutiveFailures } = link;
  if (state !== 'failed' && consecutiveFailures === 0) return [];
  const text = `Replica ${subject} is not connected (${state}: ${reason})`;
  return [problem(state === 'failed' ? 'replica-failed' : 'never-connected', text, { subject })];
}
