/**
 * What systemd is told by a unit with Type=notify: that the node serves, that it closes, and, with
 * WatchdogSec, that its event loop turns. `systemd-notify` sends it. One shell, started while the
 * disk of the system still answers, starts that again and again: the event loop writes a line into
 * a pipe, and waits for nothing. A loop that is blocked says nothing, and systemd starts the
 * node again; a slow disk blocks threads, not the loop.
 */
import { spawn } from 'node:child_process';

/** A line in, a message out. What fails once is missing, or refused: it ends. */
const SENDER = 'while read -r line; do systemd-notify "$line" || exit 1; done';
/** Told so often in the time that systemd waits for it. */
const TOLD_PER_PATIENCE = 3;

export interface Systemd {
  /** Since the first call READY=1 is told: the unit has started. */
  serves(status: string): void;
  closes(): void;
  /** Nothing is told any more. */
  end(): void;
}

const NOBODY: Systemd = {
  serves: () => undefined,
  closes: () => undefined,
  end: () => undefined,
};

/**
 * Tells systemd where it has started this process and wants to be told, else nobody.
 * @param failed it cannot be told: a unit that waits for it will not start
 */
export function systemdOf(env: NodeJS.ProcessEnv, failed: (reason: string) => void): Systemd {
  if (!env.NOTIFY_SOCKET) return NOBODY;
  const sender = spawn('/bin/sh', ['-c', SENDER], { stdio: ['pipe', 'ignore', 'ignore'] });
  let isOver = false;
  const over = (reason: string): void => {
    clearInterval(timer);
    if (!isOver) failed(reason);
    isOver = true;
  };
  sender.on('error', (error) => over(error.message));
  sender.on('exit', (code) => over(`systemd-notify ends with ${code}`));
  sender.stdin.on('error', (error) => over(error.message));
  sender.unref();
  const tell = (line: string): void => {
    if (!isOver) sender.stdin.write(`${line}\n`);
  };
  const patienceMs = Number(env.WATCHDOG_USEC) / 1_000;
  const isMeant = env.WATCHDOG_PID === undefined || Number(env.WATCHDOG_PID) === process.pid;
  const timer =
    patienceMs > 0 && isMeant
      ? setInterval(() => tell('WATCHDOG=1'), patienceMs / TOLD_PER_PATIENCE)
      : undefined;
  timer?.unref();
  return {
    serves: (status) => {
      tell(`STATUS=${status}`);
      tell('READY=1');
    },
    closes: () => tell('STOPPING=1'),
    end: () => {
      isOver = true;
      clearInterval(timer);
      sender.stdin.end();
    },
  };
}
