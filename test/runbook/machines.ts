/**
 * Machines for the runbook: each a network namespace with an address of its own, and a file system
 * in which /etc, /var/lib and /run are its own; /mnt is one for all. What stands in the runbook
 * runs there as it stands. There is no systemd in a test: `systemctl` and `journalctl` are the few
 * lines below, which start what the unit files of deploy/ name, as they name it.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { makeFolder, removeFolder } from '../support/cluster.js';
import { NEEDS, requireHere } from '../support/needs.js';

const ROOT = path.join(import.meta.dirname, '../..');
/** On each machine: where the package is that its units and its engram-wal are of. */
const PACKAGE = '/etc/engram-wal.package';
/** As the runbook has them. */
const ADDRESSES: Readonly<Record<string, string>> = {
  'node-a': '10.0.0.1',
  'node-b': '10.0.0.2',
  'node-c': '10.0.0.3',
  'node-d': '10.0.0.4',
  etcd: '10.0.0.9',
};
const OWN_FOLDERS = { etc: '/etc', lib: '/var/lib', run: '/run', log: '/var/log' } as const;
const COMMAND_MS = 60_000;
/** Nobody changes it: who waits for it sleeps. */
const NOBODY = new Int32Array(new SharedArrayBuffer(4));

/**
 * What a release that speaks version 1 alone has in these files of dist/shared: it knows of no
 * newer one, nor of the mark by which nodes of newer ones see that their offer was changed.
 */
const OLDER = [
  ['limits.js', 'PROTOCOL_VERSION = 2;', 'PROTOCOL_VERSION = 1;'],
  ['wire/auth.js', 'if (version === 1 && ONLY_1_OFFERED', 'if (false && ONLY_1_OFFERED'],
  ['wire/auth.js', 'version > 1 ? this.#nonce : ', 'true ? this.#nonce : '],
] as const;

const SYSTEMCTL = `#!/bin/sh
# systemctl, as far as the runbook needs it.
verb=$1; shift
[ "$verb" = kill ] && { shift; shift; }
[ "$1" = --now ] && shift
unit=\${1%.service}
file=/etc/systemd/system/$unit.service
pid=/run/$unit.pid
started() {
  command=$(sed -n 's/^ExecStart=//p' $file)
  mkdir -p /run/$unit
  : >/run/$unit.begun
  setsid sh -c '
    RUNTIME_DIRECTORY=/run/'$unit' '"$command"' >>/var/log/'$unit' 2>&1 &
    echo $! >'$pid'; wait $!; echo $? >/run/'$unit'.code; rm '$pid'
  ' >/dev/null 2>&1 &
  [ "$(sed -n 's/^Type=//p' $file)" = oneshot ] && { wait $!; exit $(cat /run/$unit.code); }
  for n in $(seq 600); do
    grep -q '"event":"serving"' /var/log/$unit && return 0
    [ -s /run/$unit.code ] && { cat /var/log/$unit >&2; exit 1; }
    sleep 0.05
  done
  exit 1
}
stopped() {
  [ -f $pid ] || return 0
  kill -s TERM $(cat $pid)
  while [ -f $pid ]; do sleep 0.02; done
}
case $verb in
  start) rm -f /run/$unit.code /var/log/$unit; started ;;
  stop) stopped ;;
  restart) stopped; rm -f /run/$unit.code /var/log/$unit; started ;;
  kill) kill -s KILL $(cat $pid); while [ -f $pid ]; do sleep 0.02; done ;;
  is-active) [ -f $pid ] && echo active || { echo inactive; exit 3; } ;;
  enable | daemon-reload) ;;
  *) echo "no $verb here" >&2; exit 1 ;;
esac
`;

const JOURNALCTL = `#!/bin/sh
# journalctl -u UNIT -o cat [-g PATTERN]
[ "$5" = -g ] && exec grep -E -e "$6" /var/log/$2
exec cat /var/log/$2
`;

export interface Ran {
  readonly code: number | null;
  readonly output: string;
}

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

let made = 0;

export class Machines {
  readonly folder = makeFolder();
  readonly #id = `er${process.pid}x${made++}`;
  readonly #holders = new Map<string, ChildProcess>();

  /** Starts machines of these names, which the runbook gives addresses. */
  static async start(names: readonly string[]): Promise<Machines> {
    requireHere(NEEDS.namespaces);
    const machines = new Machines();
    try {
      machines.#tools();
      ip('netns', 'add', machines.#netOf('hub'));
      ip('-n', machines.#netOf('hub'), 'link', 'add', 'br0', 'type', 'bridge');
      ip('-n', machines.#netOf('hub'), 'link', 'set', 'br0', 'up');
      for (const name of names) await machines.add(name);
      return machines;
    } catch (error) {
      machines.close();
      throw error;
    }
  }

  #netOf(name: string): string {
    return `${this.#id}${name}`;
  }

  #tools(): void {
    const bin = path.join(this.folder, 'bin');
    fs.mkdirSync(bin);
    const tool = (name: string, text: string): void =>
      fs.writeFileSync(path.join(bin, name), text, { mode: 0o755 });
    const cli = `"$(cat ${PACKAGE})/dist/main/cli.js"`;
    tool('engram-wal', `#!/bin/sh\nexec '${process.execPath}' ${cli} "$@"\n`);
    tool('systemctl', SYSTEMCTL);
    tool('journalctl', JOURNALCTL);
    fs.mkdirSync(path.join(this.folder, 'mnt'));
  }

  /** One more machine, with the package installed and nothing configured. */
  async add(name: string): Promise<void> {
    const net = this.#netOf(name);
    ip('netns', 'add', net);
    ip('-n', net, 'link', 'set', 'lo', 'up');
    const peer = ['type', 'veth', 'peer', 'name', name, 'netns', this.#netOf('hub')];
    ip('link', 'add', 'eth0', 'netns', net, ...peer);
    ip('-n', this.#netOf('hub'), 'link', 'set', name, 'master', 'br0', 'up');
    ip('-n', net, 'addr', 'add', `${ADDRESSES[name]}/24`, 'dev', 'eth0');
    ip('-n', net, 'link', 'set', 'eth0', 'up');
    const mounts = Object.entries(OWN_FOLDERS).map(([own, there]) => {
      fs.mkdirSync(this.#own(name, own), { recursive: true });
      return `mount --bind ${this.#own(name, own)} ${there}`;
    });
    for (const file of ['passwd', 'group', 'nsswitch.conf', 'localtime']) {
      if (fs.existsSync(`/etc/${file}`)) {
        fs.copyFileSync(`/etc/${file}`, path.join(this.#own(name, 'etc'), file));
      }
    }
    this.install(name, ROOT);
    mounts.push(`mount --bind ${path.join(this.folder, 'mnt')} /mnt`);
    const script = `set -e; ${mounts.join('; ')}; echo ready; exec sleep infinity`;
    const args = ['netns', 'exec', net, 'unshare', '-m', 'sh', '-c', script];
    const holder = spawn('ip', args, { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#holders.set(name, holder);
    await new Promise<void>((resolve, reject) => {
      holder.stdout!.once('data', () => resolve());
      holder.once('exit', () => reject(new Error(`machine ${name} has ended`)));
    });
  }

  /**
   * As a package is installed in the place of the one before: the unit files name it.
   * @param place where its files are: this repository, or a release made of it
   */
  install(name: string, place: string): void {
    this.write(name, PACKAGE, place);
    const there = path.join(this.#own(name, 'etc'), 'systemd/system');
    fs.mkdirSync(there, { recursive: true });
    const from = path.join(ROOT, 'deploy/systemd');
    for (const file of fs.readdirSync(from)) {
      const text = fs.readFileSync(path.join(from, file), 'utf8');
      const own = text
        .replaceAll('/usr/lib/engram-wal', place)
        .replaceAll('/usr/bin/node', process.execPath);
      fs.writeFileSync(path.join(there, file), own);
    }
  }

  /** This release. */
  get current(): string {
    return ROOT;
  }

  /**
   * A release of which no node speaks the newest version of the protocol.
   * @returns where its files are
   */
  older(): string {
    const place = path.join(this.folder, 'older');
    if (fs.existsSync(place)) return place;
    fs.cpSync(path.join(ROOT, 'dist'), path.join(place, 'dist'), { recursive: true });
    for (const same of ['package.json', 'node_modules', 'deploy', 'docs']) {
      fs.symlinkSync(path.join(ROOT, same), path.join(place, same));
    }
    for (const [name, now, before] of OLDER) {
      const file = path.join(place, 'dist/shared', name);
      const text = fs.readFileSync(file, 'utf8');
      if (!text.includes(now)) throw new Error(`${name} has no ${now}: what is older of it?`);
      fs.writeFileSync(file, text.replace(now, before));
    }
    return place;
  }

  #own(name: string, folder: string): string {
    return path.join(this.folder, name, folder);
  }

  /** Where a path of a machine is on this one. */
  placeOf(name: string, there: string): string {
    for (const [own, folder] of Object.entries(OWN_FOLDERS)) {
      if (there.startsWith(`${folder}/`)) {
        return path.join(this.#own(name, own), there.slice(folder.length));
      }
    }
    throw new Error(`${there} is no path that a machine has of its own`);
  }

  /** The same, with what was mounted there since; of a machine that is there. */
  seenFromHere(name: string, there: string): string {
    return `/proc/${this.#holders.get(name)!.pid}/root${there}`;
  }

  write(name: string, there: string, text: string): void {
    const file = this.placeOf(name, there);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, text, { mode: 0o600 });
  }

  /** In front of a command: runs it on that machine. */
  inside(name: string): string[] {
    return ['nsenter', '-t', String(this.#holders.get(name)!.pid), '-m', '-n'];
  }

  /** Runs one line of shell there, to its end. */
  async run(name: string, line: string): Promise<Ran> {
    const [command, ...args] = [...this.inside(name), 'sh', '-ec', line];
    // What it names is not in the machine's own /etc.
    const { NODE_EXTRA_CA_CERTS: _, ...env } = process.env;
    const child = spawn(command!, args, {
      env: { ...env, PATH: `${path.join(this.folder, 'bin')}:${env.PATH}` },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: COMMAND_MS,
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk) => {
        output += chunk;
      });
    }
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    return { code, output };
  }

  /** The same; throws with what it said where it ends otherwise than with 0. */
  async must(name: string, line: string): Promise<string> {
    const { code, output } = await this.run(name, line);
    if (code !== 0) throw new Error(`on ${name}: ${line}\nends with ${code}:\n${output}`);
    return output;
  }

  /** The machine is gone, as if its power had been cut for good: nothing of it is left. */
  remove(name: string): void {
    this.#kill(name);
    spawnSync('ip', ['netns', 'del', this.#netOf(name)], { stdio: 'ignore' });
    removeFolder(path.join(this.folder, name));
  }

  #kill(name: string): void {
    const run = this.#own(name, 'run');
    for (const file of fs.existsSync(run) ? fs.readdirSync(run) : []) {
      if (!file.endsWith('.pid')) continue;
      const pid = Number(fs.readFileSync(path.join(run, file), 'utf8'));
      if (pid > 0 && fs.existsSync(`/proc/${pid}`)) process.kill(pid, 'SIGKILL');
      // Who watched over it writes down how it ended, and takes the file away.
      for (let n = 0; n < 100 && fs.existsSync(path.join(run, file)); n++) {
        Atomics.wait(NOBODY, 0, 0, 20);
      }
    }
    this.#holders.get(name)?.kill('SIGKILL');
    this.#holders.delete(name);
  }

  close(): void {
    const names = [...this.#holders.keys()];
    for (const name of names) this.#kill(name);
    for (const name of [...names, 'hub']) {
      spawnSync('ip', ['netns', 'del', this.#netOf(name)], { stdio: 'ignore' });
    }
    removeFolder(this.folder);
  }
}
