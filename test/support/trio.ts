/** Three nodes in this process, each of which may lead: they list each other, and listen. */
import net from 'node:net';
import path from 'node:path';
import type { Member, Node, NodeEventName, NodeEvents, NodeOptions } from '#src/main/index.js';
import { makeFolder, openSmall, removeFolder, until } from './cluster.js';

/** A port that nobody listens on at this moment. */
async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export class Trio {
  readonly folder = makeFolder();
  readonly members: Member[] = [];
  readonly open = new Map<string, Node>();
  readonly events: { nodeId: string; name: NodeEventName; event: unknown }[] = [];

  static async make(ids: readonly string[] = ['a', 'b', 'c']): Promise<Trio> {
    const trio = new Trio();
    for (const nodeId of ids) {
      trio.members.push({ nodeId, host: '127.0.0.1', port: await freePort() });
    }
    return trio;
  }

  /** Opens one of them; only `a` creates spaces. */
  async start(nodeId: string, more: Partial<NodeOptions> = {}): Promise<Node> {
    const { host, port } = this.members.find((m) => m.nodeId === nodeId)!;
    const node = await openSmall(path.join(this.folder, nodeId), nodeId, {
      listen: { host, port },
      replicas: this.members.filter((m) => m.nodeId !== nodeId),
      lead: nodeId === 'a',
      openConfirmMs: 500,
      ...more,
    });
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
    removeFolder(this.folder);
  }
}
