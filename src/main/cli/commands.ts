/**
 * The command line; its exit codes: watch/health/words.ts. What one verb alone needs is loaded when
 * that verb is typed: to load all that a node is made of takes a third of a second.
 */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { EngramError } from '../../shared/errors.js';
import { shown } from '../../shared/shown.js';
import { requirePackage } from '../runtime/packages.js';
import { nodeDisk } from '../segments/node-disk.js';
import { actAsOwner } from '../segments/owner.js';
import { AdminError } from '../watch/admin/server.js';
import { EXIT_CODES_TEXT } from '../watch/health/words.js';
import { PACKAGE_VERSION } from '../watch/package-version.js';
import { addCopyCommands } from './copies.js';
import type { DemoOptions } from './demo/demo.js';
import { DemoError } from './demo/process.js';
import { complain, say, sayLine } from './output.js';
import { addBench } from './own/bench.js';
import { addCompletion } from './own/completion.js';
import { addConfig } from './own/config-check.js';
import { addRoleCommands } from './roles.js';
import { addSmokeCommands } from './smoke/commands.js';
import { DEFAULT_URL, type StatusFlags, showStatus, TOKEN_VARIABLE } from './status.js';

const OK = 0;
const FAILED = 2;
const CORRUPT = 3;
const USAGE = 4;

function count(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw new InvalidArgumentError('Expected a whole number from 1. Example: 10');
}

type Given = 'input' | 'format' | 'repeat';
type DemoFlags = Omit<DemoOptions, Given> & Partial<Pick<DemoOptions, Given>>;

interface InspectFlags {
  readonly space?: string;
  readonly from?: number;
  readonly limit?: number;
  readonly json: boolean;
}

interface NodeCertificateFlags {
  readonly ca: string;
  readonly cluster: string;
  readonly node: string;
  readonly host?: readonly string[];
  readonly days: number;
}

const program = new Command('engram-wal')
  .description('A crash-safe, replicated write-ahead log for Node.js.')
  .version(PACKAGE_VERSION, '--version', 'say which version this is')
  // What it refuses is told with what was typed.
  .configureOutput({ writeErr: (text) => complain(text.trimEnd()) })
  .addHelpText('after', `\n${EXIT_CODES_TEXT}`)
  .exitOverride();

program
  .command('demo')
  .description('replicate real input from a primary to two replicas on this machine')
  .option('--input <file>', 'a file, a FIFO, or - (standard input) instead of the speeches')
  .addOption(
    new Option(
      '--format <format>',
      'what the input is; default: by its name or first line',
    ).choices(['lines', 'ndjson']),
  )
  .option('--repeat <n>', 'log the input so many times, and show nothing else', count)
  .option('--keep', 'leave the data directories, and the log of each node', false)
  .option('--serve', 'go on at a walking pace until Ctrl-C, to look at the page', false)
  .option('--json', 'one JSON object on stdout, nothing else', false)
  .exitOverride()
  .action(async (flags: DemoFlags) => {
    for (const name of ['pino', 'prom-client']) requirePackage(name, 'the demo');
    const { runDemo } = await import('./demo/demo.js');
    const { input, format, repeat, ...others } = flags;
    process.exitCode = (await runDemo({ input, format, repeat, ...others })) ? OK : FAILED;
  });

program
  .command('serve')
  .description('run a node until SIGTERM: a replica needs no code of its own')
  .requiredOption('--config <file>', 'JSON: the options of openNode, spaces, logLevel')
  .exitOverride()
  .action(async ({ config }: { config: string }) => {
    for (const name of ['pino', 'jsonc-parser']) requirePackage(name, 'serve');
    const { serve } = await import('./serve.js');
    // At once: lines that nobody reads would keep the process.
    process.exit(await serve(config).then((isSound) => (isSound ? OK : FAILED), exitCodeOf));
  });

program
  .command('status')
  .description('ask a running node what is to be done; the exit code says how soon')
  .option('--url <url>', 'where it answers over HTTP', DEFAULT_URL)
  .option('--space <name>', 'this space alone')
  .option('--cluster', 'all members that the node knows, and what each lacks of the others', false)
  .option('--json', 'one JSON object a report, nothing else', false)
  .option('--watch', 'again and again, until interrupted', false)
  .option('--every <seconds>', 'how often --watch looks', count, 2)
  .addHelpText('after', `\nThe token of a node that wants one is read from ${TOKEN_VARIABLE}.`)
  .addHelpText('after', `\n${EXIT_CODES_TEXT}`)
  .exitOverride()
  .action(async (flags: StatusFlags) => {
    process.exitCode = await showStatus(flags);
  });

program
  .command('inspect')
  .description('show what a data directory holds; it may be in use')
  .argument('<dir>', "a node's dataDir, or a directory of Engram itself")
  .option('--space <name>', 'list entries of this space')
  .option('--from <sequence>', 'the first of them', count)
  .option('--limit <n>', 'so many of them', count)
  .option('--json', 'one JSON object on stdout, nothing else', false)
  .exitOverride()
  .action(async (dir: string, options: InspectFlags) => {
    const { inspectLog } = await import('./inspect.js');
    const { inspectedText } = await import('./text/tools.js');
    const inspected = await inspectLog(nodeDisk, dir, options);
    say(inspected, options.json, inspectedText);
  });

program
  .command('verify')
  .description('check every entry and index of a data directory; it may be in use')
  .argument('<dir>', "a node's dataDir, or a directory of Engram itself")
  .option('--json', 'one JSON object on stdout, nothing else', false)
  .exitOverride()
  .action(async (dir: string, options: { json: boolean }) => {
    const { verifyLog } = await import('../repair/verify.js');
    const { verifiedText } = await import('./text/tools.js');
    const verified = await verifyLog(nodeDisk, dir);
    say(verified, options.json, (clean) => verifiedText(shown(dir), clean));
    if (verified.rot > 0) process.exitCode = CORRUPT;
  });

program
  .command('accept-loss')
  .description('let a damaged space take entries again; what is lost stays lost')
  .argument('<dir>', 'the dataDir of a node that is closed')
  .requiredOption('--space <name>', 'whose damaged entries')
  .option(
    '--from <sequence>',
    'the first damaged entry; left out: nothing is changed, the ranges are told',
    count,
  )
  .option('--to <sequence>', 'the last one; left out where nobody knows it', count)
  .exitOverride()
  .action(async (dir: string, options: { space: string; from?: number; to?: number }) => {
    const { space, from, to } = options;
    actAsOwner(dir);
    const { acceptLoss, proposedLoss } = await import('./closed-node.js');
    if (from === undefined) {
      for (const line of await proposedLoss(nodeDisk, dir, space)) sayLine(line);
      return;
    }
    await acceptLoss(nodeDisk, dir, space, from, to);
    sayLine(`${space}: the loss of ${to ? `${from} to ${to}` : `${from} and on`} is accepted`);
  });

program
  .command('skip')
  .description('the host’s apply callback is never given this entry again; it stays in the log')
  .argument('<dir>', 'the dataDir of a node that is closed')
  .requiredOption('--space <name>', 'whose entry')
  .requiredOption('--sequence <n>', 'which, as apply-blocked and status name it', count)
  .exitOverride()
  .action(async (dir: string, { space, sequence }: { space: string; sequence: number }) => {
    actAsOwner(dir);
    const { skipEntry } = await import('./closed-node.js');
    await skipEntry(nodeDisk, dir, space, sequence);
    sayLine(`${space}: entry ${sequence} will not be applied`);
  });

const cert = program
  .command('cert')
  .description('make an authority, and certificates of nodes for the option tls');

cert
  .command('ca')
  .description('make the authority of a cluster: ca.pem for every node, ca.key for nobody')
  .argument('<dir>', 'the directory to put them in')
  .requiredOption('--cluster <clusterId>', 'whose it is')
  .option('--days <n>', 'for how long it is valid', count, 3_650)
  .exitOverride()
  .action(async (dir: string, { cluster, days }: { cluster: string; days: number }) => {
    const { writeAuthority } = await certificates();
    for (const file of await writeAuthority(dir, cluster, days)) sayLine(file);
  });

cert
  .command('node')
  .description('make the certificate of one node: ca.pem, cert.pem and key.pem')
  .argument('<dir>', 'the directory to put them in')
  .requiredOption('--ca <dir>', 'where cert ca has put the authority')
  .requiredOption('--cluster <clusterId>', 'as in the options of the node')
  .requiredOption('--node <nodeId>', 'as in the options of the node')
  .option('--host <name...>', 'names or addresses besides, so that http.tls may use it, too')
  .option('--days <n>', 'for how long it is valid', count, 365)
  .exitOverride()
  .action(async (dir: string, flags: NodeCertificateFlags) => {
    const { ca, cluster, node, host, days } = flags;
    const names = { clusterId: cluster, nodeId: node, hosts: host ?? [] };
    const { writeNodeCertificate } = await certificates();
    for (const file of await writeNodeCertificate(ca, dir, names, days)) sayLine(file);
  });

/** Loaded here alone: most people never make one. */
async function certificates(): Promise<typeof import('./certificates.js')> {
  for (const name of ['@peculiar/x509', 'reflect-metadata']) requirePackage(name, 'cert');
  return await import('./certificates.js');
}

addRoleCommands(program);
addCopyCommands(program);
addSmokeCommands(program);
addConfig(program);
addBench(program);
addCompletion(program);

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = exitCodeOf(error);
}

function exitCodeOf(error: unknown): number {
  // commander has printed its own; help and version are no errors.
  if (error instanceof CommanderError) return error.exitCode === 0 ? OK : USAGE;
  // In a child's report the error's class is lost, its code is not.
  const isTold = error instanceof DemoError || error instanceof AdminError;
  const known = error instanceof EngramError || isTold;
  const found = error instanceof Error ? error.message : String(error);
  // Ours has lines of advice; the system's may have those of whoever named a file.
  complain(`engram-wal: ${known ? found : shown(found)}`);
  if (known && error.code === 'CorruptionDetected') return CORRUPT;
  return known && isUsage(error.code) ? USAGE : FAILED;
}

function isUsage(code: string | undefined): boolean {
  return code === 'Configuration' || code === 'SpaceUnknown' || code === 'EntryTooLarge';
}
