/** An authority and one certificate of it, of a day, as files: X.509 without openssl. */
import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

/** DER: a tag, the length, what is in it. */
function der(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(parts);
  const { length } = body;
  const size = length < 128 ? [length] : [0x82, length >> 8, length & 255];
  return Buffer.concat([Buffer.from([tag, ...size]), body]);
}

const sequence = (...parts: readonly Uint8Array[]): Buffer => der(0x30, ...parts);
const oid = (hex: string): Buffer => der(0x06, Buffer.from(hex, 'hex'));
const bits = (bytes: Uint8Array): Buffer => der(0x03, Buffer.from([0]), bytes);
const text = (tag: number, value: string): Buffer => der(tag, Buffer.from(value));

const ECDSA_WITH_SHA256 = sequence(oid('2a8648ce3d040302'));
const COMMON_NAME = oid('550403');
const IS_CRITICAL = der(0x01, Buffer.from([255]));
/** basicConstraints: an authority. */
const IS_AUTHORITY = [oid('551d13'), IS_CRITICAL, der(0x04, sequence(IS_CRITICAL))];
/** subjectAltName: localhost and 127.0.0.1. */
const OF_LOCALHOST = [
  oid('551d11'),
  der(0x04, sequence(text(0x82, 'localhost'), der(0x87, Buffer.from([127, 0, 0, 1])))),
];

const nameOf = (name: string): Buffer =>
  sequence(der(0x31, sequence(COMMON_NAME, text(0x0c, name))));

function timeAt(ms: number): Buffer {
  const digits = new Date(ms).toISOString().replace(/\D/g, '');
  return text(0x17, `${digits.slice(2, 14)}Z`);
}

function certificate(
  issuer: { name: string; key: KeyObject },
  subject: { name: string; key: KeyObject },
  extension: readonly Uint8Array[],
): string {
  const DAY_MS = 86_400_000;
  const body = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.from([1]), randomBytes(8)),
    ECDSA_WITH_SHA256,
    nameOf(issuer.name),
    sequence(timeAt(Date.now() - DAY_MS), timeAt(Date.now() + DAY_MS)),
    nameOf(subject.name),
    subject.key.export({ type: 'spki', format: 'der' }),
    der(0xa3, sequence(sequence(...extension))),
  );
  const whole = sequence(body, ECDSA_WITH_SHA256, bits(sign('sha256', body, issuer.key)));
  const lines = whole.toString('base64').replace(/.{64}/g, '$&\n');
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
}

/** Files in a folder: the authority's certificate, and one for localhost with its key. */
export function makeCertificates(into: string): { ca: string; cert: string; key: string } {
  const [authority, own] = [1, 2].map(() => generateKeyPairSync('ec', { namedCurve: 'P-256' }));
  const issuer = { name: 'test', key: authority!.privateKey };
  const write = (name: string, content: string | Buffer): string => {
    fs.writeFileSync(path.join(into, name), content);
    return path.join(into, name);
  };
  const ca = certificate(issuer, { name: 'test', key: authority!.publicKey }, IS_AUTHORITY);
  const cert = certificate(issuer, { name: 'localhost', key: own!.publicKey }, OF_LOCALHOST);
  return {
    ca: write('ca.pem', ca),
    cert: write('own.pem', cert),
    key: write('own.key', own!.privateKey.export({ type: 'pkcs8', format: 'pem' })),
  };
}
