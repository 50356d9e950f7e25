/**
 * Hello and welcome as each end judges them. Their layout is that of version 1 for ever, so that
 * every release can read what any other says first; version 2 gave a meaning to bytes that version
 * 1 passes over: both begin what they carry for authentication with the id of their directory.
 */

import { hexOf } from '../bytes.js';
import { type ErrorCode, failure } from '../errors.js';
import { PROTOCOL_VERSION, PROTOCOL_VERSION_MIN } from '../limits.js';
import { DIRECTORY_BYTES } from './auth.js';
import { FEATURE_MIXED } from './batch.js';
import { type Compression, featureOf, takenFeatures } from './compression.js';
import { FEATURE_GLANCE, FEATURE_PEER_CALL } from './peer-frames.js';
import type { Hello, Welcome } from './protocol.js';

/** What a hello of this release says that it speaks. */
export const SPOKEN = { minVersion: PROTOCOL_VERSION_MIN, maxVersion: PROTOCOL_VERSION } as const;

/** Who dials a replica, and what it says of itself. */
export interface Dialler {
  readonly clusterId: string;
  readonly nodeId: string;
  readonly replica: { readonly nodeId: string };
  readonly incarnation: bigint;
  readonly compression: Compression;
  readonly maxEntryBytes: number;
}

/** What a shipper says first. */
export function helloOf(start: Dialler, maxFrameBytes: number, auth: Uint8Array): Hello {
  const { clusterId, nodeId, replica, incarnation, compression, maxEntryBytes } = start;
  const who = { clusterId, nodeId, peerId: replica.nodeId, incarnation };
  return {
    ...SPOKEN,
    ...who,
    features: featureOf(compression) | FEATURE_MIXED,
    maxFrameBytes,
    maxEntryBytes,
    auth,
  };
}

/**
 * What a listener thinks of a hello. @returns the version that both speak
 * Throws UnsupportedVersion, WrongCluster, WrongNode, ProtocolViolation.
 */
export function checkHello(
  hello: Hello,
  { clusterId, nodeId }: { readonly clusterId: string; readonly nodeId: string },
): number {
  if (hello.minVersion > PROTOCOL_VERSION || hello.maxVersion < PROTOCOL_VERSION_MIN) {
    const theirs = `${hello.minVersion} to ${hello.maxVersion}`;
    const ours = `${PROTOCOL_VERSION_MIN} to ${PROTOCOL_VERSION}`;
    throw failure('UnsupportedVersion', `the primary speaks ${theirs}, we ${ours}`);
  }
  if (hello.clusterId !== clusterId) {
    throw failure('WrongCluster', `the primary is of cluster ${hello.clusterId}, we ${clusterId}`);
  }
  if (hello.peerId !== nodeId) {
    throw failure('WrongNode', `the primary looks for ${hello.peerId}, this is ${nodeId}`);
  }
  if (hello.maxVersion > 1 && directoryOf(hello.maxVersion, hello.auth) === undefined) {
    throw failure('ProtocolViolation', 'a hello without the id of a directory');
  }
  return Math.min(hello.maxVersion, PROTOCOL_VERSION);
}

/** Who says so is no primary: it asks, and nothing else. */
export function isCall(hello: Hello): boolean {
  return (hello.features & FEATURE_PEER_CALL) !== 0;
}

/** Those of the hello that this end takes. */
export function featuresFor(hello: Hello): number {
  const ofCalls = FEATURE_PEER_CALL | FEATURE_GLANCE;
  if (isCall(hello)) return hello.features & ofCalls;
  return takenFeatures(hello.features) | (hello.features & FEATURE_MIXED);
}

/** Why a replica's welcome cannot be accepted; undefined where it can. All are fatal. */
export function welcomeProblem(
  welcome: Welcome,
  own: Pick<Dialler, 'clusterId' | 'replica' | 'maxEntryBytes'>,
  frameBytes: number,
): { reason: string; code: ErrorCode } | undefined {
  if (!isSpoken(welcome.version)) {
    return { reason: `it chose version ${welcome.version}`, code: 'UnsupportedVersion' };
  }
  if (welcome.clusterId !== own.clusterId) {
    return { reason: `it is of cluster ${welcome.clusterId}`, code: 'WrongCluster' };
  }
  if (welcome.nodeId !== own.replica.nodeId) {
    return { reason: `the node there is ${welcome.nodeId}`, code: 'WrongNode' };
  }
  if (welcome.maxEntryBytes < own.maxEntryBytes || welcome.maxFrameBytes < frameBytes) {
    const theirs = `${welcome.maxEntryBytes} bytes an entry, ${welcome.maxFrameBytes} a frame`;
    const ours = `${own.maxEntryBytes} and ${frameBytes}`;
    const isEntry = welcome.maxEntryBytes < own.maxEntryBytes;
    const less = 'maxEntryBytes, or segmentBytes that bounds it, is less there';
    const why = isEntry ? less : 'catchUpBatchBytes is more here';
    const reason = `it takes less than we send: ${theirs}, against ${ours} here (${why})`;
    return { reason, code: 'Configuration' };
  }
  return undefined;
}

/** A version that a listener may choose. */
export function isSpoken(version: number): boolean {
  return version >= PROTOCOL_VERSION_MIN && version <= PROTOCOL_VERSION;
}

/**
 * The directory at the other end, 32 hex digits; undefined where it speaks version 1.
 * @param version that a hello offers, that a welcome has chosen
 */
export function directoryOf(version: number, auth: Uint8Array | undefined): string | undefined {
  if (version < 2 || !auth || auth.length < DIRECTORY_BYTES) return undefined;
  return hexOf(new DataView(auth.buffer, auth.byteOffset), 0, DIRECTORY_BYTES);
}
