/**
 * TLS between nodes, as far as it can be said without a socket: what a certificate must say of its
 * node, what is wrong with the one that the other end has shown, and how bytes and errors of TLS
 * are told from frames (FAULTS rows 42, 48).
 */
import { X509Certificate } from 'node:crypto';
import { type EngramError, failure } from '../../errors.js';

/** What a node proves itself with, as of now: plain data, of which threads get a copy. */
export interface Credentials {
  /** Pre-shared keys (wire/auth.ts), at most two: the first proves, each is accepted. */
  readonly keys: readonly Uint8Array[];
  readonly tls: TlsCredentials | undefined;
}

/** PEM, and which certificates are which nodes'. */
export interface TlsCredentials {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  /** By node id, where a certificate does not carry the name that is its node's. */
  readonly names: Readonly<Record<string, string>>;
}

/** The newest credentials: they change while the node runs. */
export interface CredentialsNow {
  readonly now: Credentials;
}

/** Without any: for loopback. */
export const NO_CREDENTIALS: CredentialsNow = { now: { keys: [], tls: undefined } };

/** What the other end of a connection has proved before its first frame. */
export interface Proven {
  /** Subject alternative names of its certificate, as `URI:...`, `DNS:...`. */
  readonly names: readonly string[];
  /** The same bytes at both ends, and of this connection alone. */
  readonly channel: Uint8Array;
  /** PEM: the authorities by which it was accepted. */
  readonly ca: string;
  /** DER: its certificate, then the one that has made it, and so on. To read it takes long. */
  chain(): readonly Uint8Array[];
}

/** By what the other end of a connection has proved itself; undefined: not by that. */
export interface Proof {
  readonly proven: Proven | undefined;
  /** One of our own keys. */
  readonly key: Uint8Array | undefined;
}

/** With what a member is dialled, and who must answer. */
export interface Security {
  readonly tls: TlsCredentials;
  readonly clusterId: string;
  readonly nodeId: string;
}

/** A certificate as Node hands it over. The last one has made itself, or its maker is not there. */
interface ShownChain {
  readonly raw?: Uint8Array;
  readonly subjectaltname?: string;
  readonly issuerCertificate?: ShownChain;
}

/** What is used of a `tls.TLSSocket`. */
export interface ShownCertificate {
  readonly authorized: boolean;
  readonly authorizationError: unknown;
  isSessionReused(): boolean;
  /** Empty where there is none. */
  getPeerCertificate(isDetailed: boolean): ShownChain;
  exportKeyingMaterial(length: number, label: string, context: Buffer): Uint8Array;
}

const CHANNEL_BYTES = 32;
const CHANNEL_LABEL = 'EXPORTER-engram-wal';

/** The name that the certificate of a node carries, as a subject alternative name. */
export function certificateName(clusterId: string, nodeId: string): string {
  return `URI:engram-wal:${encodeURIComponent(clusterId)}/${encodeURIComponent(nodeId)}`;
}

/** The same, or what the option `tls.names` says instead. */
export function nameOfNode(tls: TlsCredentials, clusterId: string, nodeId: string): string {
  return Object.hasOwn(tls.names, nodeId) ? tls.names[nodeId]! : certificateName(clusterId, nodeId);
}

/**
 * Node's text of all names, divided. One that holds a comma or a quote stands in quotes there, so
 * that no name can pass for two.
 */
export function namesIn(subjectAltName: string | undefined): string[] {
  const names = subjectAltName?.match(/(?:"(?:[^"\\]|\\.)*"|[^",])+/g) ?? [];
  return names.map((name) => name.trim());
}

/**
 * What the certificate at the other end proves. Throws AuthFailed: it is not of our authority.
 * @param ca what the handshake was given for it
 */
export function provenBy(socket: ShownCertificate, ca: string): Proven {
  const { raw, subjectaltname } = socket.getPeerCertificate(false);
  // A resumed session has shown no certificate.
  if (!raw || !socket.authorized || socket.isSessionReused()) {
    const found = raw ? String(socket.authorizationError) : 'it has shown none';
    throw failure('AuthFailed', `the certificate of the other end is not accepted: ${found}`);
  }
  const channel = socket.exportKeyingMaterial(CHANNEL_BYTES, CHANNEL_LABEL, Buffer.alloc(0));
  const chain = (): Uint8Array[] => chainOf(socket.getPeerCertificate(true));
  return { names: namesIn(subjectaltname), channel, ca, chain };
}

/** @param shown null: the socket is gone */
function chainOf(shown: ShownChain | null): Uint8Array[] {
  const chain: Uint8Array[] = [];
  let last: ShownChain | undefined;
  for (let one = shown ?? undefined; one?.raw && one !== last; ) {
    chain.push(one.raw);
    last = one;
    one = one.issuerCertificate;
  }
  return chain;
}

/** Whether what was proved when a connection was made would be accepted by these, too. */
export function isStillProved({ proven, key }: Proof, { keys, tls }: Credentials): boolean {
  if (key && !keys.some((one) => Buffer.compare(one, key) === 0)) return false;
  // As a rule the authorities are those that have let it in.
  return !proven || !tls || proven.ca === tls.ca || isVouchedFor(proven.chain(), tls.ca);
}

/**
 * Whether an authority in `ca` stands behind the first certificate of the chain. That each is good
 * for what it is used for was looked at when the connection was made; how long it lasts was, too.
 */
function isVouchedFor(chain: readonly Uint8Array[], ca: string): boolean {
  const authorities = certificatesIn(ca);
  const madeBy = (one: X509Certificate, maker: X509Certificate): boolean =>
    one.checkIssued(maker) && one.verify(maker.publicKey);
  let last: X509Certificate | undefined;
  for (const raw of chain) {
    const one = new X509Certificate(raw);
    if (last && !(one.ca && madeBy(last, one))) return false;
    if (authorities.some((authority) => madeBy(one, authority))) return true;
    last = one;
  }
  return false;
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** All that stand in a PEM text. Throws where one cannot be read. */
export function certificatesIn(pem: string): X509Certificate[] {
  return (pem.match(CERTIFICATE) ?? []).map((block) => new X509Certificate(block));
}

/** Throws AuthFailed where the certificate at the other end is not this node's. */
export function checkCertificate(proven: Proven | undefined, security: Security): void {
  const { tls, clusterId, nodeId } = security;
  const name = nameOfNode(tls, clusterId, nodeId);
  if (proven?.names.includes(name)) return;
  const shown = proven?.names.join(', ') || 'no name';
  const found = `the certificate of the other end is of ${shown}, not of ${nodeId} (${name})`;
  throw failure('AuthFailed', found);
}

const RECORD_TYPES = [0x14, 0x15, 0x16, 0x17];

/**
 * Whether a stream of bytes begins as one of TLS does. No first frame does: it is shorter than
 * 64 KiB, so that its third byte is 0. @param bytes at least 3
 */
export function isTls(bytes: Uint8Array): boolean {
  const [type, major, minor] = bytes;
  return RECORD_TYPES.includes(type!) && major === 3 && minor! >= 1 && minor! <= 4;
}

/** Bytes of TLS where frames were expected. */
export function unexpectedTls(): EngramError {
  return failure('TlsMismatch', 'the other end speaks TLS, and this one does not');
}

/** Bytes that are no TLS where it was expected. */
export function missingTls(): EngramError {
  return failure('TlsMismatch', 'this end speaks TLS, and the other one does not');
}

/** What the other end sends that speaks no TLS. */
const NO_TLS =
  /^ERR_SSL_(WRONG_VERSION_NUMBER|HTTP_REQUEST|PACKET_LENGTH_TOO_LONG|BAD_RECORD_TYPE)/;
/** How its refusal of our certificate, or of what we offer, is told by TLS itself. */
const REFUSED = /^ERR_SSL_.*(ALERT|CERT|VERIFY|UNSUPPORTED_PROTOCOL|SHARED)/;

/** An error of a TLS socket as one of ours, where it is about who talks to whom. */
export function tlsFailure(error: Error): Error {
  const { code = '' } = error as NodeJS.ErrnoException;
  if (NO_TLS.test(code)) return missingTls();
  if (!REFUSED.test(code)) return error;
  return failure('AuthFailed', `TLS is refused: ${code}`, { cause: error });
}
