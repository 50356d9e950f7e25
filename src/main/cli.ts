#!/usr/bin/env node
/** What `engram-wal` runs: the command line, where the packages that it needs are installed. */
import { complain } from './cli/output.js';
import { requirePackage } from './runtime/packages.js';

try {
  for (const name of ['commander', 'cli-table3']) requirePackage(name, 'the command line');
  await import('./cli/commands.js');
} catch (error) {
  complain(`engram-wal: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 2;
}
