/** Some nodes in this process, each of which may lead: they list each other, and listen. */
import path from 'node:path';
import type { Member, Node, NodeEventName, NodeEvents, NodeOptions } from '#src/main/index.js';
import { openNodeOn } from '#src/main/node/open-node.js';
import type { Disk } from '#src/main/segments/disk.js';
import { makeFolder, openSmall, removeFolder, SMALL, until } from './cluster.js';
import { freePort } from './etcd.js';
import { TcpProxy } from './tcp-proxy.js';

export class Trio {
  readonly folder = makeFolder();
  readonly members: Member[] = [];
  readonly open = new Map<string, Node>();
  readonly events: { nodeId: string; name: NodeEventName; event: unknown }[] = [];

  /** By "from to": how each reaches each other one, where their links can be cut. */
  readonly #links = new Map<string, TcpProxy>();

  /** @param isCuttable each dials each other one by a proxy of its own */
  static async make(ids: readonly string[] = ['a', 'b', 'c'], isCuttable = false): Promise<Trio> {
    const trio = new Trio();
    for (const nodeId of ids) {
      trio.members.push({ nodeId, host: '127.0.0.1', port: await freePort() });
    }
    for (const from of isCuttable ? ids : []) {
      for (const { nodeId, port } of trio.members) {
        if (nodeId === from) continue;
        const proxy = new TcpProxy(port);
        await proxy.listen();
        trio.#links.set(`${from} ${nodeId}`, proxy);
      }
    }
    return trio;
  }

  /** How `from` reaches the others. */
  othersOf(from: string): Member[] {
    return this.members
      .filter((m) => m.nodeId !== from)
      .map((m) => ({ ...m, port: this.#links.get(`${from} ${m.nodeId}`)?.port ?? m.port }));
  }

  /** Nothing reaches the node, and it reaches nobody: connections are refused. */
  async isolate(nodeId: string): Promise<void> {
    for (const [link, proxy] of this.#links) {
      if (link.split(' ').includes(nodeId)) await proxy.close();
    }
  }

  /** What `from` dials `to` by, where links can be cut. */
  linkOf(from: string, to: string): TcpProxy {
    return this.#links.get(`${from} ${to}`)!;
  }

  /** `from` cannot dial `to` any more, and what it had open there is cut. */
  async cut(from: string, to: string): Promise<void> {
    await this.#links.get(`${from} ${to}`)!.close();
  }

  async heal(): Promise<void> {
    for (const proxy of this.#links.values()) if (!proxy.isListening) await proxy.listen();
  }

  /**
   * Opens one of them; only `a` creates spaces.
   * @param disk where it is not to be on this machine's own
   */
  async start(nodeId: string, more: Partial<NodeOptions> = {}, disk?: Disk): Promise<Node> {
    const { host, port } = this.members.find((m) => m.nodeId === nodeId)!;
    const dir = path.join(this.folder, nodeId);
    const options = {
      listen: { host, port },
      replicas: this.othersOf(nodeId),
      lead: nodeId === 'a',
      openConfirmMs: 5_000,
      ...more,
    };
    const node = disk
      ? await openNodeOn(disk, { ...SMALL, nodeId, dataDir: dir, ...options })
      : await openSmall(dir, nodeId, options);
    this.open.set(nodeId, node);
    const heard: NodeEventName[] = [
      'fenced',
      'rewound',
      'promoted',
      'leader-conflict',
      'regressed',
      'space-role',
      'apply-blocked',
      'switchover-abandoned',
      'replica-refused',
    ];
    for (const name of heard) {
      node.on(name, (event) => this.events.push({ nodeId, name, event }));
    }
    return node;
  }

  heard<K extends NodeEventName>(nodeId: string, name: K): NodeEvents[K][] {
    return this.events
      .filter((e) => e.nodeId === nodeId && e.name === name)
      .map((e) => e.event as NodeEvents[K]);
  }

  async stop(nodeId: string): Promise<void> {
    await this.open.get(nodeId)?.close();
    this.open.delete(nodeId);
  }

  /** Every replica of the space that is open has all that its primary has, and says so. */
  async settled(leader: string, space: string, replicas: number): Promise<void> {
    const node = this.open.get(leader)!;
    await until(`${space} is whole on ${replicas} replicas`, () => {
      const status = node.space(space).status();
      return status.role === 'primary' && status.isReplicated(replicas);
    });
  }

  async close(): Promise<void> {
    await Promise.all([...this.open.values()].map((node) => node.close()));
    for (const proxy of this.#links.values()) await proxy.close();
    removeFolder(this.folder);
  }
}
