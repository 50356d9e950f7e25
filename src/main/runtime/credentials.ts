/**
 * What a node proves itself with to others: its keys and certificates, read from their files and
 * read again when these change, by links or in place. What is wrong is refused, and what was in
 * force stays so: a slip in a file ends no link. Links that stand go on, but for those whose other
 * end could not come in by what is in force now.
 */
import { createPrivateKey, type X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import { duplexPair } from 'node:stream';
import tls from 'node:tls';
import type { Address } from '../../shared/address.js';
import { type EngramError, failure, firstLine } from '../../shared/errors.js';
import { CREDENTIALS_LOOK_MS, HANDSHAKE_DEADLINE_MS } from '../../shared/limits.js';
import { KEY_MIN_BYTES, KEYS_MAX } from '../../shared/wire/auth.js';
import {
  type Credentials,
  type CredentialsNow,
  certificatesIn,
  nameOfNode,
  namesIn,
  type TlsCredentials,
} from '../../shared/wire/tls/certificates.js';
import { tlsOptions } from '../../shared/wire/tls/late-socket.js';
import { readOwn } from './secret-file.js';

export interface TlsOptions {
  /** PEM: the cluster's own authority, and no other; two of them while one takes over. */
  readonly caFile: string;
  /** PEM: this node's certificate, and those between it and the authority, if any. */
  readonly certFile: string;
  readonly keyFile: string;
  /**
   * By node id: the name in the certificate of that node, `DNS:...` or `URI:...`, where it is not
   * `URI:engram-wal:<clusterId>/<nodeId>`.
   */
  readonly names?: Readonly<Record<string, string>>;
}

export interface CredentialOptions {
  readonly clusterId: string;
  readonly nodeId: string;
  /** Those that were given themselves. */
  readonly keys: readonly Uint8Array[];
  readonly keyFile?: string | undefined;
  readonly tls?: TlsOptions | undefined;
  /** Others dial this node; undefined: it dials only. */
  readonly listen?: Address | undefined;
}

/** How long a certificate lasts. */
export interface CertificateStatus {
  /** Days until it has expired; below 0: since then. */
  readonly daysLeft: number;
  /** For how many days it was made. */
  readonly lifetimeDays: number;
}

/** What a node proves itself with to others. */
export interface CredentialsStatus {
  /** How many keys are in force; two while one is changed for another. */
  readonly keys: number;
  /** Its own certificate, or one between it and its authority; undefined: without `tls`. */
  readonly certificate: CertificateStatus | undefined;
  /** Of the authority that has made it. */
  readonly authority: CertificateStatus | undefined;
  /** Why files that have changed are not taken; undefined: all are in force. */
  readonly refusal: string | undefined;
}

/** What was read anew, and whether it is in force. */
export interface CredentialsNews {
  readonly change: 'reloaded' | 'refused';
  readonly reason: string;
}

export interface CredentialEvents {
  /** Files of keys or certificates were read anew: they are in force, or are wrong. */
  credentials: CredentialsNews;
}

/** From and to, wall clock in ms. */
interface Life {
  readonly fromMs: number;
  readonly untilMs: number;
}

/** Of the certificate and its authority. */
type Lives = readonly [Life, Life];

interface Loaded {
  readonly now: Credentials;
  readonly lives: Lives | undefined;
}

const DAY_MS = 86_400_000;
/** Told, and no reason not to open: the next one is awaited. */
const UNTIMELY = ['CERT_HAS_EXPIRED', 'CERT_NOT_YET_VALID'];

export class CredentialStore implements CredentialsNow {
  readonly #options: CredentialOptions;
  #loaded: Loaded;
  /** Of the files as they were read last, whether they were taken or not. */
  #seen: string;
  #refusal: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;
  #reading: Promise<void> = Promise.resolve();
  #changed: (news: CredentialsNews) => void = () => undefined;

  /** Throws Configuration, naming the file and what is wrong with it. */
  static async open(options: CredentialOptions): Promise<CredentialStore> {
    const seen = await printOf(options);
    return new CredentialStore(options, await load(options), seen);
  }

  private constructor(options: CredentialOptions, loaded: Loaded, seen: string) {
    this.#options = options;
    this.#loaded = loaded;
    this.#seen = seen;
  }

  get now(): Credentials {
    return this.#loaded.now;
  }

  /** From now on the files are looked at. @param changed told of what was read anew */
  watch(changed: (news: CredentialsNews) => void): void {
    this.#changed = changed;
    if (filesOf(this.#options).length > 0) this.#lookSoon();
  }

  /** One look after the other, however long one takes. */
  #lookSoon(): void {
    this.#timer = setTimeout(async () => {
      await this.#inTurn(false).catch(() => undefined);
      if (!this.#isClosed) this.#lookSoon();
    }, CREDENTIALS_LOOK_MS);
    this.#timer.unref();
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  /** Reads all files now. Rejects Configuration: what was in force stays so. */
  async reload(): Promise<void> {
    await this.#inTurn(true);
  }

  #inTurn(isAsked: boolean): Promise<void> {
    const reading = this.#reading.then(() => this.#read(isAsked));
    this.#reading = reading.catch(() => undefined);
    return reading;
  }

  async #read(isAsked: boolean): Promise<void> {
    const seen = await printOf(this.#options);
    if (this.#isClosed || (seen === this.#seen && !isAsked)) return;
    this.#seen = seen;
    try {
      const loaded = await load(this.#options);
      refuseUntimely(loaded.lives);
      this.#loaded = loaded;
      this.#refusal = undefined;
    } catch (error) {
      this.#refusal = firstLine(error);
      this.#changed({ change: 'refused', reason: this.#refusal });
      throw error;
    }
    this.#changed({ change: 'reloaded', reason: this.#told() });
  }

  #told(): string {
    const { keys, certificate } = this.status;
    const days = certificate && Math.floor(certificate.daysLeft);
    const parts = [
      ...(keys > 0 ? [`${keys} key${keys === 1 ? '' : 's'}`] : []),
      ...(days === undefined ? [] : [`a certificate for ${days} days`]),
    ];
    return parts.join(', ');
  }

  get status(): CredentialsStatus {
    const { now, lives } = this.#loaded;
    const nowMs = Date.now();
    const [certificate, authority] = (lives ?? []).map(({ fromMs, untilMs }) => {
      const [left, whole] = [untilMs - nowMs, untilMs - fromMs];
      return { daysLeft: left / DAY_MS, lifetimeDays: whole / DAY_MS };
    });
    return { keys: now.keys.length, certificate, authority, refusal: this.#refusal };
  }
}

/** The options that name files, and the files. */
function filesOf({ keyFile, tls }: CredentialOptions): [string, string][] {
  const found: [string, string][] = keyFile === undefined ? [] : [['keyFile', keyFile]];
  if (!tls) return found;
  const { caFile, certFile, keyFile: tlsKeyFile } = tls;
  return [
    ...found,
    ['tls.caFile', caFile],
    ['tls.certFile', certFile],
    ['tls.keyFile', tlsKeyFile],
  ];
}

/** Changes with any of the files, be it that a link on the way leads elsewhere. */
async function printOf(options: CredentialOptions): Promise<string> {
  const prints = filesOf(options).map(async ([, file]) => {
    try {
      const { dev, ino, size, mtimeNs, ctimeNs } = await fs.stat(file, { bigint: true });
      return [dev, ino, size, mtimeNs, ctimeNs].join(' ');
    } catch (error) {
      return String((error as NodeJS.ErrnoException).code);
    }
  });
  return (await Promise.all(prints)).join('\n');
}

async function load(options: CredentialOptions): Promise<Loaded> {
  const { keyFile, tls } = options;
  const fromFile = keyFile === undefined ? [] : keysIn(await read('keyFile', keyFile), keyFile);
  const now = { keys: [...options.keys, ...fromFile], tls: undefined };
  if (!tls) return { now, lives: undefined };
  const { caFile, certFile, keyFile: own, names = {} } = tls;
  const material: TlsCredentials = {
    ca: await read('tls.caFile', caFile),
    cert: await read('tls.certFile', certFile),
    key: await read('tls.keyFile', own),
    names,
  };
  const lives = checked(material, options, tls);
  const refusal = await refusalOf(material, options.listen !== undefined);
  if (refusal !== undefined && !UNTIMELY.includes(refusal)) {
    throw wrong('tls.certFile', certFile, `nodes with ${caFile} do not accept it: ${refusal}`);
  }
  return { now: { ...now, tls: material }, lives };
}

/**
 * Both ends of a handshake with ourselves: what another node that has these files would find wrong.
 * @param isDialled others dial this node, too
 */
async function refusalOf(
  material: TlsCredentials,
  isDialled: boolean,
): Promise<string | undefined> {
  const options = tlsOptions(material);
  const [near, far] = duplexPair();
  const server = tls.createServer({ ...options, handshakeTimeout: HANDSHAKE_DEADLINE_MS });
  const failed = once(server, 'tlsClientError').then(([error]) => Promise.reject(error));
  const accepted = once(server, 'secureConnection') as Promise<[tls.TLSSocket]>;
  server.emit('connection', far);
  const checkServerIdentity = (): undefined => undefined;
  const dialler = tls.connect({ socket: near, ...options, checkServerIdentity });
  dialler.on('error', () => undefined);
  try {
    const both = Promise.all([accepted, once(dialler, 'secureConnect')]);
    const [[seen]] = await Promise.race([both, failed]);
    const found = [seen, ...(isDialled ? [dialler] : [])].find((one) => !one.authorized);
    return found && String(found.authorizationError);
  } catch (error) {
    return firstLine(error);
  } finally {
    near.destroy();
    far.destroy();
  }
}

function wrong(option: string, file: string, found: string, cause?: unknown): EngramError {
  const at = option.split('.', 1)[0];
  return failure('Configuration', `${option} ${file}: ${found}`, {
    cause,
    details: { option: at },
  });
}

async function read(option: string, file: string): Promise<string> {
  let bytes: Buffer;
  try {
    bytes = await readOwn(file, option.endsWith('keyFile'));
  } catch (error) {
    throw wrong(option, file, (error as Error).message, error);
  }
  const text = bytes.toString('utf8');
  if (Buffer.compare(Buffer.from(text), bytes) === 0) return text;
  throw wrong(option, file, 'it is no text; bytes of chance may be written as base64');
}

/** A key a line, the one that proves first. @param where they stand  Throws Configuration. */
export function keysIn(text: string, where: string): Uint8Array[] {
  const lines = text.replace(/\r?\n$/, '').split(/\r?\n/);
  const found =
    lines.length > KEYS_MAX
      ? `it has ${lines.length} lines, not at most ${KEYS_MAX}: a key each`
      : keysProblem(lines);
  if (found)
    throw failure('Configuration', `${where}: ${found}`, { details: { option: 'keyFile' } });
  return lines.map((line) => Buffer.from(line));
}

/** What is wrong with keys; undefined: nothing. */
export function keysProblem(keys: readonly (string | Uint8Array)[]): string | undefined {
  const short = keys.find((key) => Buffer.from(key as string).length < KEY_MIN_BYTES);
  if (short !== undefined) return `a key is shorter than ${KEY_MIN_BYTES} bytes`;
  const [first, second] = keys.map((key) => Buffer.from(key as string));
  return second && first!.equals(second) ? 'both keys are the same' : undefined;
}

/** Holds the files of one node against each other. Throws Configuration. */
function checked(
  material: TlsCredentials,
  { clusterId, nodeId }: CredentialOptions,
  files: TlsOptions,
): Lives {
  const { caFile, certFile, keyFile } = files;
  const authorities = certificatesOf('tls.caFile', caFile, material.ca);
  const odd = authorities.find((one) => !one.ca);
  if (odd) throw wrong('tls.caFile', caFile, `${oneLine(odd.subject)} is no authority`);
  const chain = certificatesOf('tls.certFile', certFile, material.cert);
  const own = chain[0]!;
  const name = nameOfNode(material, clusterId, nodeId);
  const names = namesIn(own.subjectAltName);
  if (!names.includes(name)) {
    const found = `it is of ${names.join(', ') || 'no name'}, not of this node (${name})`;
    throw wrong('tls.certFile', certFile, found);
  }
  let isPair: boolean;
  try {
    isPair = own.checkPrivateKey(createPrivateKey(material.key));
    if (isPair) tls.createSecureContext(tlsOptions(material));
  } catch (error) {
    throw wrong('tls.keyFile', keyFile, `no private key that TLS takes`, error);
  }
  if (!isPair)
    throw wrong('tls.keyFile', keyFile, `the key of another certificate than ${certFile}`);
  const last = chain.at(-1)!;
  const makers = authorities.filter((one) => last.checkIssued(one));
  const longest = livesOf(makers.length > 0 ? makers : authorities).at(-1)!;
  return [livesOf(chain)[0]!, longest];
}

/** The one that ends first stands first. */
function livesOf(certificates: readonly X509Certificate[]): Life[] {
  const lives = certificates.map(({ validFrom, validTo }) => {
    return { fromMs: Date.parse(validFrom), untilMs: Date.parse(validTo) };
  });
  return lives.sort((a, b) => a.untilMs - b.untilMs);
}

function certificatesOf(option: string, file: string, pem: string): X509Certificate[] {
  let found: X509Certificate[];
  try {
    found = certificatesIn(pem);
  } catch (error) {
    throw wrong(option, file, 'a certificate in it cannot be read', error);
  }
  if (found.length === 0) throw wrong(option, file, 'it holds no certificate in PEM');
  return found;
}

function oneLine(name: string): string {
  return name.replaceAll('\n', ', ');
}

/** One that is in force for now stays so, rather than one that nobody takes. */
function refuseUntimely([life]: Lives | [] = []): void {
  const nowMs = Date.now();
  if (!life || (life.fromMs <= nowMs && nowMs < life.untilMs)) return;
  const what = life.untilMs <= nowMs ? 'has expired' : 'is not valid yet';
  throw failure('Configuration', `the certificate that was read anew ${what}`);
}
