/** `engram-wal append`: one entry, or one a line, through the socket of a running node. */
import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import { failure } from '../../../shared/errors.js';
import { askAdmin } from '../../watch/admin/server.js';
import { say } from '../output.js';

interface AppendFlags {
  readonly space: string;
  readonly type: number;
  readonly payload?: string;
  readonly ack?: number;
  readonly create: boolean;
  readonly json: boolean;
}

interface Appended {
  readonly sequence: number;
  readonly epoch: number;
}

export function addAppend(command: Command, whole: (text: string) => number): void {
  command
    .requiredOption('--space <name>', 'to which')
    .option('--payload <text>', 'one entry of this text; without it each line of standard input')
    .option('--type <n>', '1 to 4, 6, or 1000 and up', whole, 1)
    .option('--ack <n>', 'wait until so many replicas have it on disk, too', whole)
    .option('--create', 'make the space, where nobody has it; this node leads it', false)
    .action(async (dir: string, flags: AppendFlags) => {
      if (flags.payload !== undefined) return await append(dir, flags, flags.payload);
      if (process.stdin.isTTY) {
        const found = 'neither --payload, nor lines on standard input';
        throw failure('Configuration', `append: ${found}`);
      }
      for await (const line of createInterface({ input: process.stdin })) {
        await append(dir, flags, line);
      }
    });
}

async function append(dir: string, flags: AppendFlags, text: string): Promise<void> {
  const { space, type, ack, create, json } = flags;
  const payload = Buffer.from(text).toString('base64');
  const wanted = { ...(ack !== undefined && { ack }), ...(create && { create }) };
  const question = { verb: 'append', space, type, payload, ...wanted } as const;
  const appended = (await askAdmin(dir, question)) as Appended;
  say({ space, ...appended }, json, ({ space, sequence, epoch }) => {
    const where = ack === undefined ? 'on this disk' : `on this disk and of ${ack} replicas`;
    return `${space}: entry ${sequence} of epoch ${epoch} is ${where}`;
  });
}
