/**
 * Addresses, and which of them others may be told. A wildcard is a place to listen at, none to
 * dial: whoever is told 0.0.0.0 dials itself (FAULTS row 94).
 */

export interface Address {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
}

/** Only such characters make a wildcard, however it is written: 0, 0x0, ::, ::ffff:0.0.0.0. */
const MAY_BE_WILDCARD = /^[0x.:f[\]]+$/i;
const WILDCARDS = ['0.0.0.0', '[::]', '[::ffff:0:0]'];

/** Whether the host stands for every address of its machine. */
export function isWildcard(host: string): boolean {
  if (host === '') return true;
  if (!MAY_BE_WILDCARD.test(host)) return false;
  const url = `http://${host.includes(':') ? `[${host.replace(/[[\]]/g, '')}]` : host}/`;
  return URL.canParse(url) && WILDCARDS.includes(new URL(url).hostname);
}

/** Where it can be dialled; undefined where nobody can know that from this. */
export function dialable(at: Address | undefined): Address | undefined {
  if (!at || at.port === 0 || isWildcard(at.host)) return undefined;
  return { host: at.host, port: at.port };
}

/** Whether a host name is this machine's own, which nobody else can reach or be reached by. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host);
}

/** What kind of address a peer has; one of IPv4 that is written as IPv6 is what it is in IPv4. */
export function addressClassOf(address: string): 'loopback' | 'private' | 'public' {
  const plain = address.toLowerCase().replace(/^::ffff:(?=\d)/, '');
  // A socket of this machine's file system has none.
  if (plain === '' || isLoopback(plain)) return 'loopback';
  const isPrivate =
    /^(10|192\.168|169\.254|172\.(1[6-9]|2\d|3[01]))\./.test(plain) ||
    /^(f[cd]|fe[89ab])/.test(plain);
  return isPrivate ? 'private' : 'public';
}
