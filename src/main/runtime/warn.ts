/** What a node has to say where its host has given it no logger, or the logger is what fails. */
import { shown } from '../../shared/shown.js';

/** A warning of the process, one line. */
export function warn(text: string): void {
  process.emitWarning(shown(text), 'EngramWalWarning');
}
