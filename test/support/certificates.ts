/** An authority, and what it gives to nodes, as files: made by what `engram-wal cert` runs. */
import 'reflect-metadata';
import { webcrypto } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import * as x509 from '@peculiar/x509';
import {
  makeAuthority,
  makeNodeCertificate,
  type Pair,
  type Validity,
  validFor,
} from '#src/main/cli/certificates.js';
import type { NodeOptions } from '#src/main/index.js';
import { certificateName } from '#src/shared/wire/tls/certificates.js';

type Tls = NonNullable<NodeOptions['tls']>;

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

/** A certificate that is over, and was good for a day. */
export const EXPIRED: Validity = {
  from: new Date(Date.now() - 2 * 86_400_000),
  until: new Date(Date.now() - 86_400_000),
};

export class Authority {
  readonly #pair: Pair;
  readonly #folder: string;
  #made = 0;

  static async make(folder: string, clusterId = 'test', days = 1): Promise<Authority> {
    return new Authority(await makeAuthority(clusterId, validFor(days)), folder);
  }

  private constructor(pair: Pair, folder: string) {
    this.#pair = pair;
    this.#folder = folder;
  }

  /** PEM. */
  get ca(): string {
    return this.#pair.cert;
  }

  /** What the option `tls` of this node is, in files of its own. */
  async tlsOf(
    nodeId: string,
    more: { clusterId?: string; validity?: Validity; ca?: string; hosts?: string[] } = {},
  ): Promise<Tls> {
    const { clusterId = 'test', validity = validFor(1), ca = this.ca, hosts = [] } = more;
    const names = { clusterId, nodeId, hosts };
    return this.#write(nodeId, ca, await makeNodeCertificate(this.#pair, names, validity));
  }

  /** Under the right name, and nobody else vouches for it. */
  async signedByItself(nodeId: string): Promise<Tls> {
    const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
    const url = certificateName('test', nodeId).slice('URI:'.length);
    const made = await x509.X509CertificateGenerator.createSelfSigned({
      keys: keys as webcrypto.CryptoKeyPair,
      signingAlgorithm: ALGORITHM,
      extensions: [new x509.SubjectAlternativeNameExtension([{ type: 'url', value: url }])],
    });
    const key = await webcrypto.subtle.exportKey('pkcs8', keys.privateKey);
    const pem = x509.PemConverter.encode(key, 'PRIVATE KEY');
    return this.#write(nodeId, this.ca, { cert: made.toString('pem'), key: pem });
  }

  #write(nodeId: string, ca: string, { cert, key }: Pair): Tls {
    const dir = path.join(this.#folder, `tls-${nodeId}-${process.hrtime.bigint()}-${this.#made++}`);
    fs.mkdirSync(dir, { recursive: true });
    const write = (name: string, text: string): string => {
      fs.writeFileSync(path.join(dir, name), text, { mode: 0o600 });
      return path.join(dir, name);
    };
    return {
      caFile: write('ca.pem', ca),
      certFile: write('cert.pem', cert),
      keyFile: write('key.pem', key),
    };
  }
}

/** Files in a folder: the authority's certificate, and one for localhost with its key. */
export async function makeCertificates(
  into: string,
): Promise<{ ca: string; cert: string; key: string }> {
  const authority = await Authority.make(into);
  const hosts = ['localhost', '127.0.0.1'];
  const { caFile, certFile, keyFile } = await authority.tlsOf('localhost', { hosts });
  return { ca: caFile, cert: certFile, key: keyFile };
}
