/**
 * Pre-shared keys: both ends of a connection prove that they have one, and neither sends it. Each
 * proof is an HMAC-SHA256 over the nonces of both ends, both node ids, the cluster id, the versions
 * of the protocol and, with TLS, the connection itself: it is good for one connection between two
 * nodes, and never for the other side of it. A node may have two keys while they are changed: the
 * first proves, each of them is accepted.
 *
 *   hello   dialler -> listener   the dialler's nonce
 *   welcome listener -> dialler   the listener's nonce, its proof
 *   proof   dialler -> listener   the dialler's proof; nothing else is taken before it
 *
 * What follows is neither encrypted nor signed: a key keeps strangers out, no more. Chance comes in
 * as an argument.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { failure } from '../errors.js';
import { PROTOCOL_VERSION, PROTOCOL_VERSION_MIN } from '../limits.js';

export const NONCE_BYTES = 32;
/** From version 2 on a nonce begins with its end's directory; without a key that is all of it. */
export const DIRECTORY_BYTES = 16;
/** The rest is chance. */
export const CHANCE_BYTES = NONCE_BYTES - DIRECTORY_BYTES;
export const PROOF_BYTES = 32;
/** A shorter key could be guessed from one proof. */
export const KEY_MIN_BYTES = 16;

/** More than two would never be needed to change one for another. */
export const KEYS_MAX = 2;
/**
 * What the nonce of a listener begins with that speaks version 2 and was offered version 1 alone:
 * a dialler that has offered more knows that its words were changed on the way.
 */
const ONLY_1_OFFERED = Buffer.from('only 1 offered!!');
const NO_CHANNEL = new Uint8Array(0);

/** Who talks to whom. */
export interface Parties {
  readonly clusterId: string;
  readonly dialler: string;
  readonly listener: string;
}

/** The versions that a hello offers, and the one that the listener has chosen. */
interface Versions {
  readonly minVersion: number;
  readonly maxVersion: number;
  readonly version: number;
}

type Side = 'dialler' | 'listener';

/** @param directoryId 32 hex digits  @param chance CHANCE_BYTES of it */
export function nonceOf(directoryId: string, chance: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(directoryId, 'hex'), chance]);
}

/** What both ends prove that they know, but for the key. */
interface Talk {
  readonly parties: Parties;
  readonly versions: Versions;
  /** The dialler's, then the listener's. */
  readonly nonces: Uint8Array;
  /** Of this TLS connection alone; empty: there is no TLS. */
  readonly channel: Uint8Array;
}

function proofOf(key: Uint8Array, side: Side, talk: Talk): Buffer {
  const { clusterId, dialler, listener } = talk.parties;
  const { version, minVersion, maxVersion } = talk.versions;
  const hmac = createHmac('sha256', key);
  const isFirst = version === 1;
  const label = `engram-wal ${isFirst ? 1 : 2}`;
  // Each behind its length: no two conversations give the same bytes.
  for (const text of [label, side, clusterId, dialler, listener]) {
    const bytes = Buffer.from(text);
    hmac.update(Uint8Array.of(bytes.length)).update(bytes);
  }
  // Version 1 has bound neither.
  if (!isFirst) {
    const said = Buffer.alloc(6);
    for (const [i, n] of [version, minVersion, maxVersion].entries()) said.writeUInt16LE(n, 2 * i);
    hmac.update(said);
    hmac.update(Uint8Array.of(talk.channel.length)).update(talk.channel);
  }
  return hmac.update(talk.nonces).digest();
}

/**
 * Each key is tried, whichever it is: how long that takes tells nothing.
 * @returns the one that is proved; undefined: none
 */
function provedKey(
  given: Uint8Array,
  keys: readonly Uint8Array[],
  side: Side,
  talk: Talk,
): Uint8Array | undefined {
  let right: Uint8Array | undefined;
  for (const key of keys) {
    const expected = proofOf(key, side, talk);
    if (given.length === expected.length && timingSafeEqual(given, expected)) right = key;
  }
  return right;
}

/** The end that has dialled; without a key it proves nothing and asks for nothing. */
export class DiallerAuth {
  readonly #keys: readonly Uint8Array[];
  readonly #parties: Parties;
  readonly #nonce: Uint8Array;
  readonly #channel: Uint8Array;
  #key: Uint8Array | undefined;

  /** @param channel of the TLS connection (`Proven`) */
  constructor(
    keys: readonly Uint8Array[],
    parties: Parties,
    nonce: Uint8Array,
    channel: Uint8Array = NO_CHANNEL,
  ) {
    this.#keys = keys;
    this.#parties = parties;
    this.#nonce = nonce;
    this.#channel = channel;
  }

  /** By which of ours the other end has proved itself. */
  get key(): Uint8Array | undefined {
    return this.#key;
  }

  /** What the hello carries. */
  get hello(): Uint8Array {
    return this.#keys.length > 0 ? this.#nonce : this.#nonce.subarray(0, DIRECTORY_BYTES);
  }

  /**
   * Checks what the welcome carries. Throws AuthFailed.
   * @param version that the listener has chosen
   * @returns the proof to be sent; undefined: none
   */
  welcomed(given: Uint8Array | undefined, version: number): Uint8Array | undefined {
    const who = this.#parties.listener;
    const [first] = this.#keys;
    if (!first) {
      if ((given?.length ?? 0) === (version > 1 ? DIRECTORY_BYTES : 0)) return undefined;
      throw failure('AuthFailed', `${who} asks for a key, this node has none`);
    }
    if (given?.length !== NONCE_BYTES + PROOF_BYTES) {
      throw failure('AuthFailed', `${who} proves no key, this node has one`);
    }
    const theirs = given.subarray(0, NONCE_BYTES);
    const talk: Talk = {
      parties: this.#parties,
      versions: { minVersion: PROTOCOL_VERSION_MIN, maxVersion: PROTOCOL_VERSION, version },
      nonces: Buffer.concat([this.#nonce, theirs]),
      channel: this.#channel,
    };
    this.#key = provedKey(given.subarray(NONCE_BYTES), this.#keys, 'listener', talk);
    if (!this.#key) throw failure('AuthFailed', `${who} has another key`);
    if (version === 1 && ONLY_1_OFFERED.equals(theirs.subarray(0, DIRECTORY_BYTES))) {
      throw failure('AuthFailed', `the versions that ${who} was offered were changed on the way`);
    }
    return proofOf(first, 'dialler', talk);
  }
}

/** The end that listens. */
export class ListenerAuth {
  readonly #keys: readonly Uint8Array[];
  readonly #nonce: Uint8Array;
  readonly #channel: Uint8Array;
  #talk: Talk | undefined;
  #key: Uint8Array | undefined;

  /** @param channel of the TLS connection (`Proven`) */
  constructor(keys: readonly Uint8Array[], nonce: Uint8Array, channel: Uint8Array = NO_CHANNEL) {
    this.#keys = keys;
    this.#nonce = nonce;
    this.#channel = channel;
  }

  /**
   * Takes what the hello carries. Throws AuthFailed where a key is asked for and none is spoken of.
   * @returns what the welcome carries
   */
  hello(
    given: Uint8Array | undefined,
    parties: Parties,
    versions: Versions,
  ): Uint8Array | undefined {
    const { version } = versions;
    const [first] = this.#keys;
    if (!first) return version > 1 ? this.#nonce.subarray(0, DIRECTORY_BYTES) : undefined;
    if (given?.length !== NONCE_BYTES) {
      throw failure('AuthFailed', `${parties.dialler} speaks of no key, this node asks for one`);
    }
    const chance = this.#nonce.subarray(DIRECTORY_BYTES);
    const nonce = version > 1 ? this.#nonce : Buffer.concat([ONLY_1_OFFERED, chance]);
    const nonces = Buffer.concat([given, nonce]);
    this.#talk = { parties, versions, nonces, channel: this.#channel };
    return Buffer.concat([nonce, proofOf(first, 'listener', this.#talk)]);
  }

  /** By which of ours the other end has proved itself. */
  get key(): Uint8Array | undefined {
    return this.#key;
  }

  /** A proof is to come, and nothing is taken before it. */
  get asks(): boolean {
    return this.#keys.length > 0;
  }

  /** Throws AuthFailed. */
  proved(proof: Uint8Array): void {
    const talk = this.#talk;
    this.#talk = undefined;
    this.#key = talk && provedKey(proof, this.#keys, 'dialler', talk);
    if (this.#key) return;
    throw failure('AuthFailed', `${talk?.parties.dialler ?? 'the other end'} has another key`);
  }
}
