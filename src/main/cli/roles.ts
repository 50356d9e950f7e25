/** The verbs about who leads: `promote`, `switchover`, `locate`, replicas; and `quarantine`. */
import { type Command, InvalidArgumentError } from 'commander';
import { failure } from '../../shared/errors.js';
import type { SwitchoverReport } from '../lead/handover.js';
import type { Located } from '../lead/leadership.js';
import type { PromotionReport } from '../lead/promotion/report.js';
import type { SharingReport } from '../lead/sharing.js';
import { nodeDisk } from '../segments/node-disk.js';
import { listQuarantine, readQuarantine } from '../snapshot/quarantine.js';
import { LEVELS } from '../tell/line.js';
import type { ManyPromoted } from '../watch/admin/promote-many.js';
import { askAdmin } from '../watch/admin/server.js';
import { say, sayLine, sayMore } from './output.js';

const DEGRADED = 1;

function whole(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new InvalidArgumentError('Expected a whole number from 0. Example: 1');
}

interface PromoteFlags {
  readonly space?: string;
  readonly of?: string;
  readonly orphans: boolean;
  readonly force: boolean;
  readonly dryRun: boolean;
  readonly replicas?: number;
  readonly json: boolean;
}

interface CheckpointFlags {
  readonly space: string;
  readonly sequence: number;
  readonly json: boolean;
}

/** Adds them to the program. */
export function addRoleCommands(program: Command): void {
  const onNode = (name: string, what: string): Command =>
    program
      .command(name)
      .description(what)
      .argument('<dir>', 'the dataDir of a node that runs on this machine')
      .option('--json', 'one JSON object on stdout, nothing else', false)
      .exitOverride();

  onNode('promote', 'make this node the primary of a space, or of all that a lost node led')
    .option('--space <name>', 'which')
    .option('--of <nodeId>', 'all that follow this node')
    .option('--orphans', 'all that follow nobody, as in a restored backup', false)
    .option('--force', 'although members are ahead of it or do not answer', false)
    .option('--dry-run', 'say what would be lost, against whom; change nothing', false)
    .option('--replicas <n>', 'keep what was acknowledged by so many replicas (default: 1)', whole)
    .action(promote);

  onNode('switchover', 'hand a space that this node leads to one of its replicas; loses nothing')
    .requiredOption('--space <name>', 'which')
    .requiredOption('--to <nodeId>', 'to whom')
    .option('--timeout-ms <ms>', 'for how long appends may be stopped (default: 5,000)', whole)
    .action(
      async (
        dir: string,
        { json, ...options }: { space: string; to: string; timeoutMs?: number; json: boolean },
      ) => {
        const asked = { verb: 'switchover' as const, ...options };
        const report = (await askAdmin(dir, asked)) as SwitchoverReport;
        say(report, json, ({ space, to, epoch, pauseMs }) => {
          const pause = `no append for ${pauseMs.toFixed(1)} ms`;
          return `${space}: ${to} leads, epoch ${epoch}; ${pause}`;
        });
      },
    );

  addSharingCommands(onNode);

  onNode('log-level', 'change what a node of `serve` writes, until it is started again')
    .argument('<level>', LEVELS.join(', '))
    .action(async (dir: string, level: string, { json }: { json: boolean }) => {
      await askAdmin(dir, { verb: 'log-level', level });
      const told = `lines of level ${level} and above are written, until it is started again`;
      say({ level }, json, () => told);
    });

  onNode('locate', 'say who leads a space, and where')
    .requiredOption('--space <name>', 'which')
    .action(async (dir: string, { space, json }: { space: string; json: boolean }) => {
      const found = (await askAdmin(dir, { verb: 'locate', space })) as Located;
      say(found, json, ({ space, nodeId, epoch, address }) => {
        const where = address ? `${address.host}:${address.port}` : 'an address that nobody told';
        return `${space}: ${nodeId} at ${where}, epoch ${epoch}`;
      });
    });

  onNode('add-replica', 'ship the spaces of this node to one more')
    .requiredOption('--node <nodeId>', 'to which')
    .requiredOption('--host <host>', 'where it listens')
    .requiredOption('--port <port>', 'where it listens', whole)
    .action(
      async (
        dir: string,
        { node: nodeId, host, port }: { node: string; host: string; port: number },
      ) => {
        await askAdmin(dir, { verb: 'add-replica', nodeId, host, port });
        sayLine(`${nodeId} gets what this node leads`);
      },
    );

  onNode('remove-replica', 'ship nothing to a replica any more, and keep nothing for it')
    .requiredOption('--node <nodeId>', 'to which')
    .option('--force', 'also where too few members are there to agree: what it alone has is lost')
    .action(async (dir: string, { node: nodeId, force }: { node: string; force?: true }) => {
      await askAdmin(dir, { verb: 'remove-replica', nodeId, ...(force && { force }) });
      sayLine(`${nodeId} gets nothing from this node any more`);
    });

  onNode('checkpoint', 'say that nothing of a space below an entry is needed here any more')
    .requiredOption('--space <name>', 'which')
    .requiredOption('--sequence <n>', 'the first entry that is still needed', whole)
    .action(async (dir: string, { space, sequence, json }: CheckpointFlags) => {
      await askAdmin(dir, { verb: 'checkpoint', space, sequence });
      say({ space, checkpoint: sequence }, json, ({ space, checkpoint }) => {
        return `${space}: nothing below ${checkpoint} is kept any more for who reads it here`;
      });
    });

  addQuarantineCommands(program);
}

async function promote(dir: string, flags: PromoteFlags): Promise<void> {
  const { json, space, of, orphans, ...options } = flags;
  if ([space !== undefined, of !== undefined, orphans].filter(Boolean).length !== 1) {
    throw failure('Configuration', 'promote takes one of --space, --of and --orphans');
  }
  if (space === undefined) {
    const asked = { verb: 'promote-many' as const, of: of ?? '', ...options };
    const report = (await askAdmin(dir, asked)) as ManyPromoted;
    say(report, json, (told) => manyText(told, options.dryRun));
    if (report.led < report.spaces) process.exitCode = DEGRADED;
    return;
  }
  const asked = { verb: 'promote' as const, space, ...options };
  const report = (await askAdmin(dir, asked)) as PromotionReport;
  say(report, json, promotionText);
  if (options.dryRun && !report.isQualified) process.exitCode = DEGRADED;
}

function manyText(report: ManyPromoted, isDryRun: boolean): string {
  const { spaces, led, refused, lostEntries, lost, passedOver } = report;
  const lines = [`this node ${isDryRun ? 'may lead' : 'leads'} ${led} of ${spaces} spaces`];
  for (const { space, reason } of refused) lines.push(`  ${space} not: ${reason}`);
  if (lostEntries > 0) lines.push(`  lost: ${lostEntries} entries`);
  for (const { space, nodeId, from, to } of lost) {
    lines.push(`  lost of ${space}: what ${nodeId} has, ${from} to ${to}`);
  }
  if (passedOver.length > 0) lines.push(`  passed over: ${passedOver.join(', ')}`);
  return lines.join('\n');
}

function addSharingCommands(onNode: (name: string, what: string) => Command): void {
  const share = async (verb: 'drain' | 'rebalance', dir: string, json: boolean): Promise<void> => {
    const report = (await askAdmin(dir, { verb })) as SharingReport;
    say(report, json, sharingText);
    if (report.kept.length > 0) process.exitCode = DEGRADED;
  };
  onNode('drain', 'hand all spaces that this node leads to its replicas, before work on it').action(
    (dir: string, { json }: { json: boolean }) => share('drain', dir, json),
  );
  onNode('rebalance', 'hand over what this node leads more than others').action(
    (dir: string, { json }: { json: boolean }) => share('rebalance', dir, json),
  );
}

function sharingText({ handed, led, kept }: SharingReport): string {
  const by = Object.entries(handed).map(([id, n]) => `${id} leads ${n} more`);
  return [
    [...(by.length > 0 ? by : ['nothing was handed over']), `this node leads ${led}`].join('; '),
    ...kept.map(({ space, reason }) => `  ${space} stays: ${reason}`),
  ].join('\n');
}

function promotionText(report: PromotionReport): string {
  const { space, isPromoted, isQualified, epoch, position, answers, silent, lost } = report;
  const lines = [
    isPromoted
      ? `${space}: this node leads, in epoch ${epoch}, behind entry ${position.sequence}`
      : `${space}: this node ${isQualified ? 'may lead' : 'may not lead'}; it ends at entry ` +
        `${position.sequence} of epoch ${position.epoch}`,
  ];
  if (!report.isMember) lines.push('  it is no member by its log: it learns, or was let go');
  for (const { nodeId, role, position: at } of answers) {
    lines.push(`  ${nodeId} (${role}) ends at entry ${at.sequence} of epoch ${at.epoch}`);
  }
  for (const { nodeId, reason } of silent) lines.push(`  ${nodeId} is silent: ${reason}`);
  for (const { nodeId, entries, from, to } of lost) {
    lines.push(`  lost: ${entries} entries of ${nodeId} (${from} to ${to})`);
  }
  for (const { nodeId, reason, mayHaveFrom } of report.passedOver) {
    lines.push(`  passed over: ${nodeId} (${reason}); it may have entries from ${mayHaveFrom} on`);
  }
  if (report.mayLackFrom !== undefined) {
    lines.push(`  a copied directory: it may lack entries from ${report.mayLackFrom} on`);
  }
  return lines.join('\n');
}

function addQuarantineCommands(program: Command): void {
  const quarantine = program
    .command('quarantine')
    .description('what was taken back on this node and is kept aside')
    .exitOverride();

  quarantine
    .command('ls')
    .description('list it; the directory may be in use')
    .argument('<dir>', "a node's dataDir")
    .option('--json', 'one JSON object on stdout, nothing else', false)
    .exitOverride()
    .action(async (dir: string, { json }: { json: boolean }) => {
      say(await listQuarantine(nodeDisk, dir), json, ({ rewinds, others }) => {
        if (rewinds.length + others.length === 0) return 'nothing is in quarantine';
        const rewound = rewinds.map((r) => {
          const who = `${r.primary} leads since epoch ${r.primaryEpoch}`;
          return `${r.file}  ${r.space} ${r.from} to ${r.to}, ${r.entries} entries; ${who}`;
        });
        return [...rewound, ...others.map(({ file, bytes }) => `${file}  ${bytes} bytes`)].join(
          '\n',
        );
      });
    });

  quarantine
    .command('export')
    .description('write the entries of one file, one JSON object a line, payloads as base64')
    .argument('<dir>', "a node's dataDir")
    .argument('<file>', 'as `quarantine ls` names it')
    .exitOverride()
    .action(async (dir: string, file: string) => {
      for await (const entry of readQuarantine(nodeDisk, dir, file)) {
        const { sequence, epoch, type, timestamp } = entry;
        const payload = Buffer.from(entry.payload).toString('base64');
        await sayMore({ sequence, epoch, type, timestampNs: String(timestamp), payload });
      }
    });
}
