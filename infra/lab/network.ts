import { existsSync } from 'node:fs';
import os from 'node:os';
import { command } from './command.js';
import { leaderOf } from './machine.js';
import { hostGroupOf, type HostState, type LabState } from './lab-state.js';

// One bridge per lab. Its hosts reach each other and the machine's address on the bridge, nothing else.

export const bridgeOf = (index: number): string => `glab${index}`;
export const addressOf = (index: number, last: number): string => `10.77.${index}.${last}`;
/** The machine's own address in the lab: its servers listen there. */
export const gatewayOf = (index: number): string => addressOf(index, 1);

/** True when neither a bridge nor an address of this number exists. */
export async function isIndexFree(index: number): Promise<boolean> {
  if (existsSync(`/sys/class/net/${bridgeOf(index)}`)) return false;
  const taken = Object.values(os.networkInterfaces()).flatMap((addresses) => addresses ?? []);
  if (taken.some((one) => one.address.startsWith(addressOf(index, 0).slice(0, -1)))) return false;
  const routes = await command(['ip', '-4', 'route', 'show', 'root', `${addressOf(index, 0)}/24`]);
  return routes.trim() === '';
}

/** Rules that let the lab's own traffic pass where the machine's firewall, or its Docker, drops what it does not know. */
function rules(index: number): string[][] {
  const bridge = bridgeOf(index);
  const mark = ['-m', 'comment', '--comment', `guardia-lab-${index}`, '-j', 'ACCEPT'];
  return [
    ['FORWARD', '-i', bridge, '-o', bridge, ...mark],
    ['INPUT', '-i', bridge, ...mark],
  ];
}

export async function addNetwork(index: number): Promise<void> {
  const bridge = bridgeOf(index);
  await command(['ip', 'link', 'add', bridge, 'type', 'bridge', 'forward_delay', '0']);
  await command(['ip', 'address', 'add', `${gatewayOf(index)}/24`, 'dev', bridge]);
  await command(['ip', 'link', 'set', bridge, 'up']);
  for (const rule of rules(index)) await command(['iptables', '-w', '-I', ...rule] as [string, ...string[]]);
}

/** Idempotent. */
export async function removeNetwork(index: number): Promise<void> {
  for (const rule of rules(index)) {
    for (;;) {
      try {
        await command(['iptables', '-w', '-D', ...rule] as [string, ...string[]]);
      } catch {
        break;
      }
    }
  }
  if (existsSync(`/sys/class/net/${bridgeOf(index)}`)) await command(['ip', 'link', 'delete', bridgeOf(index)]);
}

/** The host's network card as the machine sees it. */
export const cardOf = (host: HostState): string => `vb-${host.machine}`;

/** Removes the card of a host that is off, which the kernel would do in its own time; the next boot makes one of the same name. Idempotent. */
export async function removeCard(host: HostState): Promise<void> {
  const at = `/sys/class/net/${cardOf(host)}`;
  await command(['ip', 'link', 'delete', cardOf(host)]).catch((error: unknown) => {
    if (existsSync(at)) throw error;
  });
}

/** Brings a running host's network to what its state says: cut or not, limited or not. Idempotent. */
export async function applyFaults(state: LabState, host: HostState): Promise<void> {
  const card = cardOf(host);
  const leader = leaderOf(hostGroupOf(state.index, host));
  if (leader === undefined || !existsSync(`/sys/class/net/${card}`)) return;
  const inHost = ['nsenter', `--net=/proc/${leader}/ns/net`];
  const both: [string[], string][] = [
    [[], card],
    [inHost, 'host0'],
  ];
  for (const [prefix, device] of both) {
    await command([...prefix, 'tc', 'qdisc', 'del', 'dev', device, 'root'] as unknown as [string]).catch(() => '');
    if (host.rate === undefined) continue;
    const shape = ['root', 'tbf', 'rate', host.rate, 'burst', '64kb', 'latency', '200ms'];
    await command([...prefix, 'tc', 'qdisc', 'add', 'dev', device, ...shape] as unknown as [string]);
  }
  await command(['ip', 'link', 'set', card, host.cut ? 'down' : 'up']);
}
