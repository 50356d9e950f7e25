/** A real Prometheus on loopback, scraping nodes; and its promtool. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { freePort } from './etcd.js';
import { NEEDS, requireHere } from './needs.js';

/** What promtool says, and its exit code: 1 is unreadable, 3 are remarks on style. */
export function promtool(args: string[], input = ''): { code: number; output: string } {
  const { status, stdout, stderr } = spawnSync('promtool', args, { input, encoding: 'utf8' });
  return { code: status ?? -1, output: `${stdout}${stderr}` };
}

export interface FiringAlert {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

interface AlertsAnswer {
  readonly data: { alerts: { labels: Record<string, string>; state: string }[] };
}

export class PrometheusServer {
  readonly #child: ChildProcess;
  readonly #url: string;
  #output = '';

  private constructor(child: ChildProcess, url: string) {
    this.#child = child;
    this.#url = url;
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.on('data', (chunk) => {
        this.#output = `${this.#output}${chunk}`.slice(-4_000);
      });
    }
  }

  /**
   * @param targets host:port by the name that becomes the label `instance`
   * @param alertmanager host:port
   */
  static async start(
    folder: string,
    rules: string,
    targets: Readonly<Record<string, string>>,
    alertmanager: string,
  ): Promise<PrometheusServer> {
    requireHere(NEEDS.prometheus);
    const rulesFile = path.join(folder, 'rules.yml');
    fs.writeFileSync(rulesFile, rules);
    const config = {
      global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '500ms' },
      rule_files: [rulesFile],
      alerting: { alertmanagers: [{ static_configs: [{ targets: [alertmanager] }] }] },
      scrape_configs: [
        {
          job_name: 'engram-wal',
          static_configs: Object.entries(targets).map(([instance, target]) => ({
            targets: [target],
            labels: { instance },
          })),
        },
      ],
    };
    // JSON is YAML.
    const configFile = path.join(folder, 'prometheus.yml');
    fs.writeFileSync(configFile, JSON.stringify(config));
    const port = await freePort();
    const child = spawn(
      'prometheus',
      [
        `--config.file=${configFile}`,
        `--storage.tsdb.path=${path.join(folder, 'prometheus')}`,
        `--web.listen-address=127.0.0.1:${port}`,
        '--log.level=warn',
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    const server = new PrometheusServer(child, `http://127.0.0.1:${port}`);
    const deadline = performance.now() + 30_000;
    for (;;) {
      const ready = await fetch(`${server.#url}/-/ready`).catch(() => undefined);
      if (ready?.ok) return server;
      if (child.exitCode !== null || performance.now() > deadline) {
        child.kill('SIGKILL');
        throw new Error(`prometheus did not come up: ${server.#output}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** The alerts that fire now. */
  async firing(): Promise<FiringAlert[]> {
    const answer = (await (await fetch(`${this.#url}/api/v1/alerts`)).json()) as AlertsAnswer;
    return answer.data.alerts
      .filter((alert) => alert.state === 'firing')
      .map(({ labels }) => ({ name: labels.alertname!, labels }));
  }

  /** The rows that an expression gives now. Throws where Prometheus cannot evaluate it. */
  async query(expression: string): Promise<unknown[]> {
    const url = `${this.#url}/api/v1/query?query=${encodeURIComponent(expression)}`;
    const answer = (await (await fetch(url)).json()) as {
      status: string;
      error?: string;
      data?: { result: unknown[] };
    };
    if (answer.status !== 'success') throw new Error(`${expression}: ${answer.error}`);
    return answer.data!.result;
  }

  /** Until a target has said who it is, or Prometheus has ended. */
  async met(instance: string): Promise<void> {
    const asked = `engram_node_info{instance="${instance}"}`;
    while ((await this.query(asked).catch(() => [])).length === 0) {
      if (this.#child.exitCode !== null) return;
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGTERM');
    await ended;
  }
}
