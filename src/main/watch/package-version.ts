/** Which version of the package this is. */
import { createRequire } from 'node:module';

const found = createRequire(import.meta.url)('../../../package.json') as { version: string };

export const PACKAGE_VERSION = found.version;
