/**
 * A user of etcd's: the token that stands for it, asked for where there is none, and anew where
 * etcd knows it no more (it expires; a change of users ends it). Links share it: a new link needs
 * no new one.
 */
import { readSecret } from '../../runtime/secret-file.js';
import { EtcdRefusal } from './grpc.js';

export interface EtcdUser {
  readonly user: string;
  /** Its password, read each time it is needed. */
  readonly passwordFile: string;
}

/** Asks etcd for a token. */
export type Authenticate = (user: string, password: string) => Promise<string>;

const UNAUTHENTICATED = 16;

export class EtcdLogin {
  readonly #user: EtcdUser;
  #token: string | undefined;
  #asking: Promise<string> | undefined;

  constructor(user: EtcdUser) {
    this.#user = user;
  }

  /** Calls `work` with a token; once more where etcd says that this one is of no use. */
  async with<T>(ask: Authenticate, work: (token: string) => Promise<T>): Promise<T> {
    const token = this.#token ?? (await this.#renew(ask));
    try {
      return await work(token);
    } catch (error) {
      // Nothing was carried out: who asks is looked at first.
      if (!isOfNoUse(error)) throw error;
      if (this.#token === token) this.#token = undefined;
      return await work(this.#token ?? (await this.#renew(ask)));
    }
  }

  /** For a stream; the calls before it have renewed it where that was needed. */
  get token(): string | undefined {
    return this.#token;
  }

  #renew(ask: Authenticate): Promise<string> {
    this.#asking ??= this.#ask(ask).finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  async #ask(ask: Authenticate): Promise<string> {
    const { user, passwordFile } = this.#user;
    this.#token = await ask(user, await passwordIn(passwordFile));
    return this.#token;
  }
}

/** Without the newline at its end. Rejects Configuration. */
export async function passwordIn(file: string): Promise<string> {
  const password = await readSecret('coordinator.passwordFile', file);
  return password.toString('utf8').replace(/\r?\n$/, '');
}

function isOfNoUse(error: unknown): boolean {
  if (!(error instanceof EtcdRefusal)) return false;
  return error.status === UNAUTHENTICATED || /auth store is old/.test(error.message);
}
