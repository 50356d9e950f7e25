/** Packages that only some hosts need: `npm install --omit=optional` leaves them out. */
import { failure } from '../../shared/errors.js';

/**
 * Before it is loaded, where it is asked for: that it is there. Throws PackageMissing.
 * @param use what needs it, as whoever reads the error has asked for it
 */
export function requirePackage(name: string, use: string): void {
  try {
    import.meta.resolve(name);
  } catch (cause) {
    const found = `${use} needs the package ${name}, which is not here: npm install ${name}`;
    throw failure('PackageMissing', found, { cause, details: { package: name } });
  }
}
