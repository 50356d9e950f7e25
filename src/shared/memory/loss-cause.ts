/**
 * Why a link to a replica ended, in few words: the closed set that the metric of reconnects is
 * labelled with. The full reason is in the event, the log and the status.
 */

export const LOSS_CAUSES = [
  'refused',
  'timeout',
  'unreachable',
  'reset',
  'closed',
  'silent',
  'unacknowledged',
  'write-stalled',
  'checksum',
  'disk',
  'refused-by-replica',
  'protocol',
  'thread-lost',
  'other',
] as const;
export type LossCause = (typeof LOSS_CAUSES)[number];

/** What the sender itself says of a link that it gives up. */
export const GIVEN_UP = {
  timeout: 'no connection within the connect timeout',
  handshake: 'no welcome within 5 s',
  silent: 'nothing received within the read timeout',
  unacknowledged: 'nothing acknowledged for 15 s',
  writeStalled: 'a write made no progress within the write timeout',
  closed: 'the replica closed the connection',
  withdrawn: 'what the replica has proved itself by counts no more',
  replaced: 'the replica lives on in another process',
} as const;

const BY_REASON: Readonly<Record<string, LossCause>> = {
  [GIVEN_UP.timeout]: 'timeout',
  [GIVEN_UP.handshake]: 'timeout',
  [GIVEN_UP.silent]: 'silent',
  [GIVEN_UP.unacknowledged]: 'unacknowledged',
  [GIVEN_UP.writeStalled]: 'write-stalled',
  [GIVEN_UP.closed]: 'closed',
  [GIVEN_UP.replaced]: 'silent',
};

const BY_ERRNO: Readonly<Record<string, LossCause>> = {
  ECONNREFUSED: 'refused',
  ETIMEDOUT: 'timeout',
  EHOSTUNREACH: 'unreachable',
  ENETUNREACH: 'unreachable',
  ENOTFOUND: 'unreachable',
  EAI_AGAIN: 'unreachable',
  ECONNRESET: 'reset',
  EPIPE: 'reset',
};

const BY_CODE: Readonly<Record<string, LossCause>> = {
  ChecksumMismatch: 'checksum',
  DiskFull: 'disk',
  ReadOnly: 'disk',
  WalFailed: 'disk',
  Io: 'disk',
  ProtocolViolation: 'protocol',
  TruncatedBatch: 'protocol',
  TruncatedEntry: 'protocol',
  UnsupportedVersion: 'protocol',
};

/** @param code of the error that ended the link, where there is one */
export function lossCauseOf(reason: string, code: string | undefined): LossCause {
  if (code !== undefined) return BY_CODE[code] ?? 'refused-by-replica';
  const errno = /\bE[A-Z_]{3,}\b/.exec(reason)?.[0] ?? '';
  return BY_REASON[reason] ?? BY_ERRNO[errno] ?? 'other';
}
