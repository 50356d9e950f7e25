/** The verbs about who leads: `promote`, `switchover`, `locate`, replicas; and `quarantine`. */
import { type Command, InvalidArgumentError } from 'commander';
import type { SwitchoverReport } from '../lead/handover.js';
import type { Located } from '../lead/leadership.js';
import type { PromotionReport } from '../lead/promotion/report.js';
import { nodeDisk } from '../segments/node-disk.js';
import { listQuarantine, readQuarantine } from '../snapshot/quarantine.js';
import { askAdmin } from '../watch/admin-server.js';

const DEGRADED = 1;

function whole(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new InvalidArgumentError('Expected a whole number from 0. Example: 1');
}

interface PromoteFlags {
  readonly space: string;
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

  onNode('promote', 'make this node the primary of a space')
    .requiredOption('--space <name>', 'which')
    .option('--force', 'although members are ahead of it or do not answer', false)
    .option('--dry-run', 'say what would be lost, against whom; change nothing', false)
    .option('--replicas <n>', 'keep what was acknowledged by so many replicas (default: 1)', whole)
    .action(async (dir: string, { json, ...options }: PromoteFlags) => {
      const report = (await askAdmin(dir, { verb: 'promote', ...options })) as PromotionReport;
      console.log(json ? JSON.stringify(report) : promotionText(report));
      if (options.dryRun && !report.isQualified) process.exitCode = DEGRADED;
    });

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
        const { space, to, epoch, pauseMs } = report;
        const pause = `no append for ${pauseMs.toFixed(1)} ms`;
        console.log(
          json ? JSON.stringify(report) : `${space}: ${to} leads, epoch ${epoch}; ${pause}`,
        );
      },
    );

  onNode('locate', 'say who leads a space, and where')
    .requiredOption('--space <name>', 'which')
    .action(async (dir: string, { space, json }: { space: string; json: boolean }) => {
      const found = (await askAdmin(dir, { verb: 'locate', space })) as Located;
      const { nodeId, epoch, address } = found;
      const where = address ? `${address.host}:${address.port}` : 'an address that nobody told';
      console.log(json ? JSON.stringify(found) : `${space}: ${nodeId} at ${where}, epoch ${epoch}`);
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
        console.log(`${nodeId} gets what this node leads`);
      },
    );

  onNode('remove-replica', 'ship nothing to a replica any more, and keep nothing for it')
    .requiredOption('--node <nodeId>', 'to which')
    .option('--force', 'also where too few members are there to agree: what it alone has is lost')
    .action(async (dir: string, { node: nodeId, force }: { node: string; force?: true }) => {
      await askAdmin(dir, { verb: 'remove-replica', nodeId, ...(force && { force }) });
      console.log(`${nodeId} gets nothing from this node any more`);
    });

  onNode('checkpoint', 'say that nothing of a space below an entry is needed here any more')
    .requiredOption('--space <name>', 'which')
    .requiredOption('--sequence <n>', 'the first entry that is still needed', whole)
    .action(async (dir: string, { space, sequence, json }: CheckpointFlags) => {
      await askAdmin(dir, { verb: 'checkpoint', space, sequence });
      const told = `${space}: nothing below ${sequence} is kept any more for who reads it here`;
      console.log(json ? JSON.stringify({ space, checkpoint: sequence }) : told);
    });

  addQuarantineCommands(program);
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
      const list = await listQuarantine(nodeDisk, dir);
      if (json) return console.log(JSON.stringify(list));
      for (const r of list.rewinds) {
        const who = `${r.primary} leads since epoch ${r.primaryEpoch}`;
        console.log(`${r.file}  ${r.space} ${r.from} to ${r.to}, ${r.entries} entries; ${who}`);
      }
      for (const { file, bytes } of list.others) console.log(`${file}  ${bytes} bytes`);
      if (list.rewinds.length + list.others.length === 0) console.log('nothing is in quarantine');
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
        const row = { sequence, epoch, type, timestampNs: String(timestamp), payload };
        const isTaken = process.stdout.write(`${JSON.stringify(row)}\n`);
        if (!isTaken) await new Promise((resolve) => process.stdout.once('drain', resolve));
      }
    });
}
