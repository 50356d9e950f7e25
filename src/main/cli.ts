#!/usr/bin/env node
/** The command line. Exit codes: 0 ok, 2 failed, 4 usage. */
import { Command, CommanderError, InvalidArgumentError } from 'commander';
import { EngramError } from '../shared/errors.js';
import { DemoError, runDemo } from './demo.js';

const OK = 0;
const FAILED = 2;
const USAGE = 4;

function count(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw new InvalidArgumentError('Expected a whole number from 1. Example: --repeat 10');
}

const program = new Command('engram-wal')
  .description('A crash-safe, replicated write-ahead log for Node.js.')
  .exitOverride();

program
  .command('demo')
  .description('replicate real input from a primary to two replicas on this machine')
  .option('--input <file>', 'lines or NDJSON instead of the State of the Union speeches')
  .option('--repeat <n>', 'log the input so many times', count, 1)
  .option('--keep', 'leave the data directories', false)
  .option('--json', 'one JSON object on stdout, nothing else', false)
  .exitOverride()
  .action(async (options: { input?: string; repeat: number; keep: boolean; json: boolean }) => {
    process.exitCode = (await runDemo({ ...options, input: options.input })) ? OK : FAILED;
  });

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = exitCodeOf(error);
}

function exitCodeOf(error: unknown): number {
  // commander has printed its own; help and version are no errors.
  if (error instanceof CommanderError) return error.exitCode === 0 ? OK : USAGE;
  console.error(`engram-wal: ${error instanceof Error ? error.message : String(error)}`);
  // In a child's report the error's class is lost, its code is not.
  const known = error instanceof EngramError || error instanceof DemoError;
  return known && error.code === 'Configuration' ? USAGE : FAILED;
}
