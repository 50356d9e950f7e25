/**
 * A container without an engine: what an image promises, held to as an engine would. Namespaces of
 * processes, mounts and network of its own; the root of this machine below, read-only; the user,
 * the entry point and the command of the Dockerfile; a limit of memory, where a cgroup can be made.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';

const ROOT = path.join(import.meta.dirname, '../..');
const DOCKERFILE = path.join(ROOT, 'deploy/docker/Dockerfile');
const PLACES = ['/usr/lib/engram-wal', '/var/lib/engram-wal', '/etc/engram-wal'];
const CGROUPS = ['/sys/fs/cgroup/memory', '/sys/fs/cgroup'];

export interface Image {
  readonly user: string;
  readonly entrypoint: readonly string[];
  readonly command: readonly string[];
  readonly healthcheck: readonly string[];
}

/** What the last stage of the Dockerfile says. */
export function imageOf(text = fs.readFileSync(DOCKERFILE, 'utf8')): Image {
  const last = text.slice(text.lastIndexOf('\nFROM ')).replace(/\\\n/g, ' ');
  const said = (word: string): string => {
    const found = new RegExp(`^${word}\\s(.*)$`, 'm').exec(last)?.[1];
    if (found === undefined) throw new Error(`the Dockerfile says no ${word}`);
    return found.trim();
  };
  const list = (text: string): string[] => JSON.parse(text.slice(text.indexOf('['))) as string[];
  return {
    user: said('USER'),
    entrypoint: list(said('ENTRYPOINT')),
    command: list(said('CMD')),
    healthcheck: list(said('HEALTHCHECK')),
  };
}

export interface ContainerOptions {
  /** The text of its wal.json. */
  readonly config: string;
  /** Files that are mounted read-only, by their place inside. */
  readonly files?: Readonly<Record<string, string>>;
  readonly memoryBytes?: number;
  /** Shares the network of this process. */
  readonly hostNetwork?: boolean;
}

export class Container {
  readonly image = imageOf();
  readonly #folder: string;
  readonly #child: ChildProcess;
  readonly ended: Promise<number | null>;
  #cgroup: string | undefined;
  output = '';

  /** @param folder that is its own; below it are its root and its volume */
  constructor(folder: string, { config, files = {}, memoryBytes, hostNetwork }: ContainerOptions) {
    this.#folder = folder;
    const { user, entrypoint, command } = this.image;
    const [uid, gid] = user.split(':').map(Number);
    for (const name of ['upper', 'work', 'root', 'volume', 'etc']) {
      fs.mkdirSync(path.join(folder, name), { recursive: true });
    }
    fs.chownSync(path.join(folder, 'volume'), uid!, gid!);
    fs.writeFileSync(path.join(folder, 'etc/wal.json'), config);
    const inRoot = (there: string): string => path.join(folder, 'root', there);
    const own = (name: string): string => path.join(folder, name);
    const layers = `lowerdir=/,upperdir=${own('upper')},workdir=${own('work')}`;
    const script = [
      'set -e',
      'mount --make-rprivate /',
      `mount -t overlay overlay -o ${layers} ${inRoot('')}`,
      `mkdir -p ${PLACES.map(inRoot).join(' ')}`,
      `mount --bind ${ROOT} ${inRoot('/usr/lib/engram-wal')}`,
      `mount --bind ${own('volume')} ${inRoot('/var/lib/engram-wal')}`,
      `mount --bind ${own('etc')} ${inRoot('/etc/engram-wal')}`,
      ...Object.entries(files).map(([there, text], n) => {
        // As a secret: for the group of the image's user.
        fs.writeFileSync(own(`file${n}`), text);
        fs.chmodSync(own(`file${n}`), 0o440);
        fs.chownSync(own(`file${n}`), 0, gid!);
        const place = inRoot(there);
        const mount = `mount --bind ${own(`file${n}`)} ${place}`;
        return `mkdir -p ${path.dirname(place)}; touch ${place}; ${mount}`;
      }),
      `mount -t proc proc ${inRoot('/proc')}`,
      `mount --bind /dev ${inRoot('/dev')}`,
      `mount -o remount,ro ${inRoot('')}`,
      hostNetwork ? '' : 'ip link set lo up',
      `exec chroot --userspec=${user} ${inRoot('')} "$@"`,
    ].join('\n');
    const namespaces = ['--pid', '--fork', '--mount', '--ipc', ...(hostNetwork ? [] : ['--net'])];
    const inside = [process.execPath, ...entrypoint, ...command].slice(1);
    const within = this.#limited(memoryBytes);
    const args = [...namespaces, '--kill-child', 'sh', '-c', script, 'sh', ...inside];
    const env = { PATH: process.env.PATH, NODE_ENV: 'production' };
    this.#child = spawn('sh', ['-c', `${within} exec unshare "$@"`, 'sh', ...args], {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.#child.stdout!, this.#child.stderr!]) {
      stream.on('data', (chunk) => {
        this.output += chunk;
      });
    }
    this.ended = new Promise((resolve) => this.#child.once('close', resolve));
  }

  /** A shell's words that put it into a cgroup with that limit; '' where there can be none. */
  #limited(bytes: number | undefined): string {
    if (bytes === undefined) return '';
    for (const parent of CGROUPS) {
      const group = path.join(
        parent,
        `engram-wal-test-${process.pid}-${path.basename(this.#folder)}`,
      );
      try {
        fs.mkdirSync(group);
      } catch {
        continue;
      }
      this.#cgroup = group;
      for (const limit of ['memory.limit_in_bytes', 'memory.max']) {
        if (fs.existsSync(path.join(group, limit))) {
          fs.writeFileSync(path.join(group, limit), String(bytes));
          return `echo $$ > ${group}/cgroup.procs;`;
        }
      }
      fs.rmdirSync(group);
      this.#cgroup = undefined;
    }
    return '';
  }

  /** Process 1 of the container, by the number that it has here; undefined before it is there. */
  get pid(): number | undefined {
    const children = `/proc/${this.#child.pid}/task/${this.#child.pid}/children`;
    if (!fs.existsSync(children)) return undefined;
    const [first] = fs.readFileSync(children, 'utf8').trim().split(' ');
    return first ? Number(first) : undefined;
  }

  /** Runs a command in it, as its user, as an engine does for probes. */
  exec(...command: string[]): { code: number | null; output: string } {
    const { status, stdout, stderr } = spawnSync(
      'nsenter',
      [
        '-t',
        String(this.pid),
        '-m',
        '-p',
        '-n',
        '-r',
        '--',
        'setpriv',
        ...this.#asUser,
        ...command,
      ],
      { encoding: 'utf8', env: { PATH: process.env.PATH } },
    );
    return { code: status, output: `${stdout}${stderr}` };
  }

  get #asUser(): string[] {
    const [uid, gid] = this.image.user.split(':');
    return [`--reuid=${uid}`, `--regid=${gid}`, '--clear-groups'];
  }

  /** As the engine stops it: to process 1. */
  signal(signal: NodeJS.Signals): void {
    process.kill(this.pid!, signal);
  }

  async close(): Promise<void> {
    // All of its processes end with process 1; what has made it ends with that.
    const { pid } = this;
    if (pid !== undefined) process.kill(pid, 'SIGKILL');
    else this.#child.kill('SIGKILL');
    await this.ended;
    if (this.#cgroup) {
      for (let n = 0; n < 50 && fs.existsSync(this.#cgroup); n++) {
        try {
          fs.rmdirSync(this.#cgroup);
        } catch {
          await new Promise((resolve) => setTimeout(resolve, 100));
        }
      }
    }
  }
}
