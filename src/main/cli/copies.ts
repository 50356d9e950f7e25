/** The verbs about copies of a data directory: `backup`, `adopt`. */
import path from 'node:path';
import type { Command } from 'commander';
import { EngramError } from '../../shared/errors.js';
import type { BackupReport } from '../node/backup.js';
import { nodeDisk } from '../segments/node-disk.js';
import { actAsOwner } from '../segments/owner.js';
import { askAdmin } from '../watch/admin/server.js';
import { folderSeen } from '../watch/admin/socket.js';
import { say, sayLine } from './output.js';

/** Adds them to the program. */
export function addCopyCommands(program: Command): void {
  program
    .command('backup')
    .description('copy a data directory, verified; its node may run')
    .argument('<dir>', "a node's dataDir")
    .argument('<target>', 'the directory to make')
    .option('--node <nodeId>', 'whose it is to be (default: of the same node)')
    .option('--json', 'one JSON object on stdout, nothing else', false)
    .exitOverride()
    .action(async (dir: string, target: string, flags: { node?: string; json: boolean }) => {
      const nodeId = flags.node === undefined ? {} : { nodeId: flags.node };
      const report = await backup(dir, path.resolve(target), nodeId);
      say(report, flags.json, backupText);
    });

  program
    .command('adopt')
    .description('make a hand-made copy a directory of its own; its node must be closed')
    .argument('<dir>', 'the copy')
    .exitOverride()
    .action(async (dir: string) => {
      actAsOwner(dir);
      const { adoptCopy } = await import('./closed-node.js');
      sayLine(`${dir}: directory id ${await adoptCopy(nodeDisk, dir)}; it leads by force alone`);
    });
}

/** Of the node that runs there; where none does, file by file. */
async function backup(
  dir: string,
  target: string,
  options: { nodeId?: string },
): Promise<BackupReport> {
  try {
    const seen = await folderSeen(target);
    return (await askAdmin(dir, { verb: 'backup', target, seen, ...options })) as BackupReport;
  } catch (error) {
    if (!(error instanceof EngramError) || error.code !== 'NotRunning') throw error;
    // It may be about to start again: a copy of the closed directory would keep it out.
    if (error.details.wasAsked) throw error;
  }
  actAsOwner(dir);
  const { backupClosed } = await import('../node/backup.js');
  return await backupClosed(nodeDisk, dir, target, options);
}

function backupText(report: BackupReport): string {
  const { target, nodeId, directoryId, spaces, entries, segments, bytes, damagedPlaces } = report;
  const what = `${spaces} spaces, ${entries} entries, ${segments} segments, ${bytes} bytes`;
  const known = damagedPlaces > 0 ? `; ${damagedPlaces} damaged places, known before` : '';
  return [
    `${target}: ${what}; verified${known}`,
    `${target}: of node ${nodeId}, directory id ${directoryId}; it leads by force alone`,
  ].join('\n');
}
