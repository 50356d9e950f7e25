/** How this node gets into etcd: the files that say who it is, read anew for each link. */
import { failure } from '../../../shared/errors.js';
import { readOwn, readSecret } from '../../runtime/secret-file.js';
import type { EtcdTls } from '../options.js';
import type { EtcdCertificates } from './grpc.js';
import type { MakeLink } from './link.js';
import { EtcdLogin, passwordIn } from './login.js';

export interface EtcdAccessOptions {
  readonly tls?: EtcdTls | undefined;
  readonly user?: string | undefined;
  readonly passwordFile?: string | undefined;
}

/** Makes links to a real etcd. Who uses no etcd loads no client of it. */
export function linksToEtcd({ tls, user, passwordFile }: EtcdAccessOptions): MakeLink {
  const login =
    user === undefined ? undefined : new EtcdLogin({ user, passwordFile: passwordFile! });
  return async (endpoint, timeoutMs, hooks) => {
    const { EtcdLink } = await import('./link.js');
    const certificates = await readCertificates(tls ?? {});
    return new EtcdLink(endpoint, timeoutMs, hooks, { login, certificates });
  };
}

/** Looks at the files once, before anything is opened. Rejects Configuration, naming the option. */
export async function checkEtcdFiles({ tls = {}, passwordFile }: EtcdAccessOptions): Promise<void> {
  await readCertificates(tls);
  if (passwordFile !== undefined) await passwordIn(passwordFile);
}

async function readCertificates({ caFile, certFile, keyFile }: EtcdTls): Promise<EtcdCertificates> {
  const [ca, cert, key] = await Promise.all([
    caFile && readPublic('coordinator.tls.caFile', caFile),
    certFile && readPublic('coordinator.tls.certFile', certFile),
    keyFile && readSecret('coordinator.tls.keyFile', keyFile),
  ]);
  return { ca: ca || undefined, cert: cert || undefined, key: key || undefined };
}

async function readPublic(option: string, file: string): Promise<Buffer> {
  try {
    return await readOwn(file, false);
  } catch (cause) {
    throw failure('Configuration', `${option}: ${file}: ${(cause as Error).message}`, { cause });
  }
}
