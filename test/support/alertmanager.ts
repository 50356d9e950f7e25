/** A real Alertmanager on loopback with the deployed configuration, and who is told by it. */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { freePort } from './etcd.js';
import { NEEDS, requireHere } from './needs.js';

const DEPLOY = path.join(import.meta.dirname, '../../deploy');
/** So much faster than deployed all waits are, and no longer than this. */
const SCALE = 6;
const LONGEST_MS = 10_000;

/** Waits and ranges of rules and routes, but impatient. */
export function scaled(text: string): string {
  const ms = { s: 1_000, m: 60_000, h: 3_600_000 } as const;
  const faster = (n: string, unit: string): string =>
    `${Math.min(LONGEST_MS, Math.ceil((Number(n) * ms[unit as keyof typeof ms]) / SCALE))}ms`;
  return text
    .replace(/(for|group_wait|group_interval): (\d+)([smh])/g, (_, key, n, unit) => {
      return n === '0' ? `${key}: 0s` : `${key}: ${faster(n, unit)}`;
    })
    .replace(/\[\d+m\]/g, '[20s]');
}

/** The deployed rules, scaled. */
export function scaledRules(): string {
  return scaled(fs.readFileSync(path.join(DEPLOY, 'prometheus/alerts.yml'), 'utf8'));
}

/** One message to a person. */
export interface Told {
  readonly to: 'page' | 'ticket';
  readonly status: 'firing' | 'resolved';
  readonly alerts: readonly {
    readonly status: 'firing' | 'resolved';
    readonly labels: Readonly<Record<string, string>>;
    readonly annotations: Readonly<Record<string, string>>;
  }[];
}

/** An alert as Alertmanager has it. */
export interface HeldAlert {
  readonly labels: Readonly<Record<string, string>>;
  readonly status: { readonly state: 'active' | 'suppressed' | 'unprocessed' };
}

export class Alertmanager {
  readonly told: Told[] = [];
  readonly address: string;
  readonly #child: ChildProcess;
  readonly #hook: http.Server;
  #output = '';

  private constructor(child: ChildProcess, hook: http.Server, address: string) {
    this.#child = child;
    this.#hook = hook;
    this.address = address;
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.on('data', (chunk) => {
        this.#output = `${this.#output}${chunk}`.slice(-4_000);
      });
    }
  }

  static async start(folder: string): Promise<Alertmanager> {
    requireHere(NEEDS.prometheus);
    let manager: Alertmanager | undefined;
    const hook = http.createServer((request, answer) => {
      let body = '';
      request.on('data', (chunk) => (body += chunk));
      request.on('end', () => {
        const to = request.url === '/page' ? 'page' : 'ticket';
        manager?.told.push({ ...(JSON.parse(body) as Omit<Told, 'to'>), to });
        answer.end();
      });
    });
    await new Promise<void>((resolve) => hook.listen(0, '127.0.0.1', resolve));
    const { port } = hook.address() as AddressInfo;
    const deployed = fs.readFileSync(path.join(DEPLOY, 'alertmanager/alertmanager.yml'), 'utf8');
    const file = path.join(folder, 'alertmanager.yml');
    fs.writeFileSync(file, scaled(deployed).replaceAll('127.0.0.1:9099', `127.0.0.1:${port}`));
    const address = `127.0.0.1:${await freePort()}`;
    const args = [
      `--config.file=${file}`,
      `--storage.path=${path.join(folder, 'alertmanager')}`,
      `--web.listen-address=${address}`,
      '--cluster.listen-address=',
      '--log.level=warn',
    ];
    const child = spawn('prometheus-alertmanager', args, { stdio: ['ignore', 'pipe', 'pipe'] });
    manager = new Alertmanager(child, hook, address);
    const deadline = performance.now() + 30_000;
    for (;;) {
      const ready = await fetch(`http://${address}/-/ready`).catch(() => undefined);
      if (ready?.ok) return manager;
      if (child.exitCode !== null || performance.now() > deadline) {
        await manager.stop();
        throw new Error(`Alertmanager did not come up: ${manager.#output}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** What it holds now, told or not. */
  async held(): Promise<HeldAlert[]> {
    return (await (await fetch(`http://${this.address}/api/v2/alerts`)).json()) as HeldAlert[];
  }

  async stop(): Promise<void> {
    this.#hook.close();
    if (this.#child.exitCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGTERM');
    await ended;
  }
}
