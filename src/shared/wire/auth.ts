/**
 * A pre-shared key: both ends of a connection prove that they have it, and neither sends it. Each
 * proof is an HMAC-SHA256 over the nonces of both ends, both node ids and the cluster id, so it is
 * good for one connection between two nodes, and never for the other side of it.
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

export const NONCE_BYTES = 32;
/** From version 2 on a nonce begins with its end's directory; without a key that is all of it. */
export const DIRECTORY_BYTES = 16;
/** The rest is chance. */
export const CHANCE_BYTES = NONCE_BYTES - DIRECTORY_BYTES;
export const PROOF_BYTES = 32;
/** A shorter key could be guessed from one proof. */
export const KEY_MIN_BYTES = 16;

/** Who talks to whom. */
export interface Parties {
  readonly clusterId: string;
  readonly dialler: string;
  readonly listener: string;
}

type Side = 'dialler' | 'listener';

/** @param directoryId 32 hex digits  @param chance CHANCE_BYTES of it */
export function nonceOf(directoryId: string, chance: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(directoryId, 'hex'), chance]);
}

function proofOf(
  key: Uint8Array,
  side: Side,
  { clusterId, dialler, listener }: Parties,
  nonces: Uint8Array,
): Buffer {
  const hmac = createHmac('sha256', key);
  for (const text of ['engram-wal 1', side, clusterId, dialler, listener]) {
    const bytes = Buffer.from(text);
    // Each behind its length: no two conversations give the same bytes.
    hmac.update(Uint8Array.of(bytes.length)).update(bytes);
  }
  return hmac.update(nonces).digest();
}

function isProof(given: Uint8Array, expected: Uint8Array): boolean {
  return given.length === expected.length && timingSafeEqual(given, expected);
}

/** The end that has dialled; without a key it proves nothing and asks for nothing. */
export class DiallerAuth {
  readonly #key: Uint8Array | undefined;
  readonly #parties: Parties;
  readonly #nonce: Uint8Array;

  constructor(key: Uint8Array | undefined, parties: Parties, nonce: Uint8Array) {
    this.#key = key;
    this.#parties = parties;
    this.#nonce = nonce;
  }

  /** What the hello carries. */
  get hello(): Uint8Array {
    return this.#key ? this.#nonce : this.#nonce.subarray(0, DIRECTORY_BYTES);
  }

  /**
   * Checks what the welcome carries. Throws AuthFailed.
   * @param version that the listener has chosen
   * @returns the proof to be sent; undefined: none
   */
  welcomed(given: Uint8Array | undefined, version: number): Uint8Array | undefined {
    const who = this.#parties.listener;
    if (!this.#key) {
      if ((given?.length ?? 0) === (version > 1 ? DIRECTORY_BYTES : 0)) return undefined;
      throw failure('AuthFailed', `${who} asks for a key, this node has none`);
    }
    if (given?.length !== NONCE_BYTES + PROOF_BYTES) {
      throw failure('AuthFailed', `${who} proves no key, this node has one`);
    }
    const nonces = Buffer.concat([this.#nonce, given.subarray(0, NONCE_BYTES)]);
    const expected = proofOf(this.#key, 'listener', this.#parties, nonces);
    if (!isProof(given.subarray(NONCE_BYTES), expected)) {
      throw failure('AuthFailed', `${who} has another key`);
    }
    return proofOf(this.#key, 'dialler', this.#parties, nonces);
  }
}

/** The end that listens. */
export class ListenerAuth {
  readonly #key: Uint8Array | undefined;
  readonly #nonce: Uint8Array;
  #expected: Uint8Array | undefined;
  #who = '';

  constructor(key: Uint8Array | undefined, nonce: Uint8Array) {
    this.#key = key;
    this.#nonce = nonce;
  }

  /**
   * Takes what the hello carries. Throws AuthFailed where a key is asked for and none is spoken of.
   * @param version that both speak
   * @returns what the welcome carries
   */
  hello(given: Uint8Array | undefined, parties: Parties, version: number): Uint8Array | undefined {
    if (!this.#key) return version > 1 ? this.#nonce.subarray(0, DIRECTORY_BYTES) : undefined;
    this.#who = parties.dialler;
    if (given?.length !== NONCE_BYTES) {
      throw failure('AuthFailed', `${this.#who} speaks of no key, this node asks for one`);
    }
    const nonces = Buffer.concat([given, this.#nonce]);
    this.#expected = proofOf(this.#key, 'dialler', parties, nonces);
    return Buffer.concat([this.#nonce, proofOf(this.#key, 'listener', parties, nonces)]);
  }

  /** A proof is to come, and nothing is taken before it. */
  get asks(): boolean {
    return this.#key !== undefined;
  }

  /** Throws AuthFailed. */
  proved(proof: Uint8Array): void {
    const expected = this.#expected;
    this.#expected = undefined;
    if (expected && isProof(proof, expected)) return;
    throw failure('AuthFailed', `${this.#who} has another key`);
  }
}
