/** `engram-wal config check`: whether `serve` would take a file, and what it says. */
import type { Command } from 'commander';
import { say } from '../output.js';

export function addConfig(program: Command): void {
  program
    .command('config')
    .description('about the file of `serve`')
    .command('check')
    .description('read it as `serve` does, start nothing; an error names file, line and column')
    .argument('<file>', 'JSON: the options of openNode, spaces, logLevel')
    .option('--json', 'one JSON object on stdout, nothing else', false)
    .exitOverride()
    .action(async (file: string, { json }: { json: boolean }) => {
      const { readServeConfig } = await import('../serve-config.js');
      const { options, spaces, logLevel } = await readServeConfig(file);
      const { nodeId, clusterId, dataDir, listen, http, replicas, coordinator } = options;
      const told = {
        file,
        nodeId,
        clusterId,
        dataDir,
        listens: listen ? `${listen.host}:${listen.port}` : null,
        http: http ? `${http.host ?? '127.0.0.1'}:${http.port ?? 'its own port'}` : null,
        replicas: (replicas ?? []).map((replica) => replica.nodeId),
        coordinator: coordinator?.kind ?? 'static',
        spaces: spaces.map(({ name }) => name),
        logLevel,
      };
      say(told, json, (t) =>
        [
          `${t.file}: serve takes it`,
          `  node ${t.nodeId} of cluster ${t.clusterId}, in ${t.dataDir}`,
          `  ${t.listens ? `listens at ${t.listens}` : 'listens nowhere: a primary alone'}`,
          `  ${t.http ? `page and metrics at ${t.http}` : 'no page, no metrics over HTTP'}`,
          `  replicas ${t.replicas.join(', ') || 'none'}; coordinator ${t.coordinator}`,
          `  spaces ${t.spaces.join(', ') || 'none of its own'}; log level ${t.logLevel}`,
        ].join('\n'),
      );
    });
}
