/** `engram-wal spaces`: which spaces a running node has, and who leads them. */
import type { Command } from 'commander';
import { askAdmin } from '../../watch/admin/server.js';
import type { ToldSpace, ToldSpaces } from '../../watch/admin/smoke.js';
import { say } from '../output.js';
import { tableText } from '../text/table.js';

interface SpacesFlags {
  readonly search?: string;
  readonly json: boolean;
}

export function addSpaces(command: Command): void {
  command
    .option('--search <text>', 'those alone whose name has this in it')
    .action(async (dir: string, { search, json }: SpacesFlags) => {
      const all: ToldSpace[] = [];
      let after: string | undefined;
      do {
        const wanted = { ...(search !== undefined && { search }), ...(after && { after }) };
        const told = (await askAdmin(dir, { verb: 'spaces', ...wanted })) as ToldSpaces;
        all.push(...told.spaces);
        after = told.after;
      } while (after !== undefined);
      say({ spaces: all }, json, ({ spaces }) => spacesText(spaces));
    });
}

function spacesText(spaces: readonly ToldSpace[]): string {
  if (spaces.length === 0) return 'no space is here';
  const head = ['space', 'led by', 'epoch', 'entries'];
  const rows = spaces.map(
    ({ name, role, primaryNodeId, epoch, firstSequence, durableSequence }) => {
      const who = role === 'primary' ? 'this node' : primaryNodeId;
      const range = durableSequence === 0 ? 'none' : `${firstSequence}..${durableSequence}`;
      return [name, who, String(epoch), range];
    },
  );
  return tableText(head, rows);
}
