/**
 * `engram-wal serve`: one node as a process of its own. What a primary appends is up to a host that
 * imports the library; a replica needs none, it keeps a copy and serves its page.
 */
import pino from 'pino';
import { isWildcard } from '../../shared/address.js';
import { openServed } from '../node/open-node.js';
import type { NodeOptions } from '../options/options.js';
import type { Level } from '../tell/line.js';
import { LineOutput } from '../tell/line-output.js';
import { readServeConfig } from './serve-config.js';
import { systemdOf } from './systemd.js';

/** 128 + 15: as a shell says that a signal has ended a process. */
const KILLED = 143;

/**
 * Runs until a signal: then takes nothing more, flushes, ships up to the deadline and closes. A
 * second one ends at once, which no acknowledged entry minds.
 * @returns whether the log was sound to the end
 * Throws what openNode and openSpace throw.
 */
export async function serve(file: string): Promise<boolean> {
  const config = await readServeConfig(file);
  const lines = new LineOutput();
  const written = pino({ level: config.logLevel }, lines);
  const logger = Object.defineProperty(written, 'dropped', { get: () => lines.dropped });
  const told = signalled();
  const systemd = systemdOf(process.env, (reason) => {
    logger.error({ event: 'systemd-not-told', reason }, `systemd cannot be told: ${reason}`);
  });
  try {
    const options: NodeOptions = { ...config.options, logger };
    const setLogLevel = (level: Level): void => {
      written.level = level;
    };
    const node = await openServed(options, { setLogLevel });
    const { nodeId, address, httpAddress } = node;
    for (const { name, options } of config.spaces) await node.openSpace(name, options);
    const scheme = options.http?.tls ? 'https' : 'http';
    const page = httpAddress && `${scheme}://${hostOf(httpAddress.host)}:${httpAddress.port}/`;
    const spaces = node.spaces.length;
    logger.info({ event: 'serving', nodeId, address, page, spaces }, `${nodeId} serves`);
    systemd.serves(`${nodeId} serves ${page ?? ''}`);
    // Waiting for a signal keeps no process alive by itself, nor does a node that nobody dials.
    const waits = setInterval(() => undefined, 60_000);
    const signal = await told;
    clearInterval(waits);
    systemd.closes();
    logger.info({ event: 'closing', nodeId, signal }, `${nodeId} closes: ${signal}`);
    await node.close();
    const isSound = node.summary().failure === undefined;
    logger.info({ event: 'closed', nodeId, isSound }, `${nodeId} is closed`);
    return isSound;
  } finally {
    systemd.end();
    await lines.end();
  }
}

function hostOf(host: string): string {
  if (isWildcard(host)) return 'localhost';
  return host.includes(':') ? `[${host}]` : host;
}

/** Resolves with the first signal; the second ends the process. */
function signalled(): Promise<string> {
  return new Promise((resolve) => {
    let isTold = false;
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) {
      process.on(signal, () => {
        if (isTold) process.exit(KILLED);
        isTold = true;
        resolve(signal);
      });
    }
  });
}
