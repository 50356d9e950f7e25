/**
 * An authority and certificates of nodes, for a cluster that has none. ECDSA, P-256. What makes
 * them is loaded here alone, when it is asked for.
 */
import 'reflect-metadata';
import { randomBytes, webcrypto, X509Certificate } from 'node:crypto';
import fs from 'node:fs/promises';
import net from 'node:net';
import path from 'node:path';
import * as x509 from '@peculiar/x509';
import { failure } from '../../shared/errors.js';
import { checkName } from '../../shared/names.js';
import { certificateName } from '../../shared/wire/tls/certificates.js';
import { readOwn, readSecret } from '../runtime/secret-file.js';
import { makeDirDurably } from '../segments/disk.js';
import { nodeDisk } from '../segments/node-disk.js';

const { subtle } = webcrypto;
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const DAY_MS = 86_400_000;
/** Clocks of other machines may be behind by so much. */
const EARLIER_MS = 3_600_000;
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';

/** PEM. */
export interface Pair {
  readonly cert: string;
  readonly key: string;
}

/** When a certificate begins and ends to count. */
export interface Validity {
  readonly from: Date;
  readonly until: Date;
}

export interface NodeNames {
  readonly clusterId: string;
  readonly nodeId: string;
  /** Host names and addresses besides: for the option `http.tls`. */
  readonly hosts?: readonly string[];
}

export function validFor(days: number): Validity {
  const from = new Date(Date.now() - EARLIER_MS);
  return { from, until: new Date(Date.now() + days * DAY_MS) };
}

async function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return (await subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])) as webcrypto.CryptoKeyPair;
}

async function keyPem({ privateKey }: webcrypto.CryptoKeyPair): Promise<string> {
  return x509.PemConverter.encode(await subtle.exportKey('pkcs8', privateKey), 'PRIVATE KEY');
}

async function pairOf(
  keys: webcrypto.CryptoKeyPair,
  made: Promise<x509.X509Certificate>,
): Promise<Pair> {
  const cert = `${(await made).toString('pem')}\n`;
  return { cert, key: `${await keyPem(keys)}\n` };
}

function common(keys: webcrypto.CryptoKeyPair, { from, until }: Validity) {
  // Positive, and by chance: no two certificates of one authority have the same.
  const serialNumber = `01${randomBytes(15).toString('hex')}`;
  const dates = { notBefore: from, notAfter: until };
  return { serialNumber, ...dates, signingAlgorithm: ALGORITHM, publicKey: keys.publicKey };
}

/** A name as it stands in a certificate's subject. */
function subject(text: string): string {
  return new x509.Name([{ CN: [text] }]).toString();
}

/** An authority that signs certificates of nodes, and no other authority. */
export async function makeAuthority(clusterId: string, validity: Validity): Promise<Pair> {
  checkName('the cluster', clusterId);
  const keys = await newKeys();
  const { KeyUsageFlags } = x509;
  const made = x509.X509CertificateGenerator.createSelfSigned({
    ...common(keys, validity),
    name: subject(`engram-wal ${clusterId}`.slice(0, 64)),
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return await pairOf(keys, made);
}

/** A certificate of one node, for both ends of a connection. Throws Configuration. */
export async function makeNodeCertificate(
  authority: Pair,
  { clusterId, nodeId, hosts = [] }: NodeNames,
  validity: Validity,
): Promise<Pair> {
  checkName('the cluster', clusterId);
  checkName('the node', nodeId);
  const ca = new x509.X509Certificate(authority.cert);
  const pkcs8 = x509.PemConverter.decodeFirst(authority.key);
  const signingKey = await subtle.importKey('pkcs8', pkcs8, ALGORITHM, false, ['sign']);
  const keys = await newKeys();
  const uri = certificateName(clusterId, nodeId).slice('URI:'.length);
  const names = hosts.map((host) => {
    return { type: net.isIP(host) ? ('ip' as const) : ('dns' as const), value: host };
  });
  const made = x509.X509CertificateGenerator.create({
    ...common(keys, validity),
    subject: subject(nodeId.slice(0, 64)),
    issuer: ca.subject,
    signingKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([SERVER_AUTH, CLIENT_AUTH]),
      new x509.SubjectAlternativeNameExtension([{ type: 'url', value: uri }, ...names]),
      await x509.AuthorityKeyIdentifierExtension.create(ca),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return await pairOf(keys, made);
}

/** `engram-wal cert ca`: @returns the files that were made */
export async function writeAuthority(
  dir: string,
  cluster: string,
  days: number,
): Promise<string[]> {
  const { cert, key } = await makeAuthority(cluster, validFor(days));
  return await writeAll(dir, { 'ca.pem': cert, 'ca.key': key });
}

/**
 * `engram-wal cert node`: what `tls` of one node names, in a folder of its own.
 * @param caDir as `writeAuthority` has made it
 */
export async function writeNodeCertificate(
  caDir: string,
  dir: string,
  names: NodeNames,
  days: number,
): Promise<string[]> {
  const read = async (name: string): Promise<string> => {
    const file = path.join(caDir, name);
    try {
      return (await readOwn(file, false)).toString('utf8');
    } catch (error) {
      throw failure('Configuration', `${file}: ${(error as Error).message}`, { cause: error });
    }
  };
  const ca = await read('ca.pem');
  const keyFile = path.join(caDir, 'ca.key');
  const made = await makeNodeCertificate(
    { cert: ca, key: (await readSecret('the key of the authority', keyFile)).toString('utf8') },
    names,
    validFor(days),
  );
  if (!new X509Certificate(made.cert).verify(new X509Certificate(ca).publicKey)) {
    throw failure('Configuration', `${keyFile} is the key of another authority than ca.pem there`);
  }
  return await writeAll(dir, { 'ca.pem': ca, 'cert.pem': made.cert, 'key.pem': made.key });
}

/** Keys for the owner alone. Nothing that is there is written over. */
async function writeAll(dir: string, files: Record<string, string>): Promise<string[]> {
  await makeDirDurably(nodeDisk, dir);
  const all = Object.entries(files).map(([name, text]) => {
    const isSecret = text.includes('PRIVATE KEY');
    return { file: path.join(dir, name), text, mode: isSecret ? 0o600 : 0o644 };
  });
  for (const { file } of all) {
    if (
      await fs.access(file).then(
        () => true,
        () => false,
      )
    ) {
      throw failure('Configuration', `${file} is there already, and is left as it is`);
    }
  }
  for (const { file, text, mode } of all) await fs.writeFile(file, text, { flag: 'wx', mode });
  return all.map(({ file }) => file);
}
