/** `engram-wal space`: all that a running node says of one space. */
import type { Command } from 'commander';
import { askAdmin } from '../../watch/admin/server.js';
import { lagText } from '../../watch/health/words.js';
import type { SpaceStatus } from '../../watch/status.js';
import { say } from '../output.js';
import { tableText } from '../text/table.js';

type Told = Omit<SpaceStatus, 'isReplicated'>;

export function addSpace(command: Command): void {
  command
    .requiredOption('--space <name>', 'which')
    .action(async (dir: string, { space, json }: { space: string; json: boolean }) => {
      const told = (await askAdmin(dir, { verb: 'space', space })) as Told;
      say(told, json, spaceText);
    });
}

function spaceText(space: Told): string {
  const { name, role, epoch, primaryNodeId, firstSequence, durableSequence } = space;
  const led = role === 'primary' ? 'led by this node' : `led by ${primaryNodeId}, followed here`;
  const { counting, learners, pending, keep } = space.members;
  const members = counting.map(({ nodeId }) => nodeId).join(', ') || 'nobody has said';
  const lines = [
    `${name}: ${led}, epoch ${epoch}`,
    `  entries ${firstSequence}..${durableSequence}, checkpoint ${space.checkpoint}`,
    `  applied ${space.isApplied ? space.appliedSequence : 'by nobody here'}`,
    `  members ${members}; acknowledgements by ${keep ?? 1} are kept`,
    ...(learners.length > 0 ? [`  learners ${learners.join(', ')}`] : []),
    ...(pending ? [`  a change of members is under way`] : []),
    ...(space.refusal ? [`  takes no appends: ${space.refusal.message}`] : []),
    ...space.damage.map(({ from, to }) => `  cannot be read: ${from} to ${to || 'the end'}`),
  ];
  if (space.replicas.length === 0) return lines.join('\n');
  const head = ['replica', 'status', 'state', 'flushed', 'lag', 'reason'];
  const rows = space.replicas.map((r) => {
    return [r.replicaId, r.status, r.state, String(r.ackedSequence), lagText(r.lagMs), r.reason];
  });
  return [...lines, tableText(head, rows)].join('\n');
}
