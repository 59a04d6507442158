// The ways into a host of a lab: as its user over SSH, and as root past its network.
import { execa } from 'execa';
import path from 'node:path';
import { ToolboxError } from '../packaging/toolbox.js';
import { identityFile } from './inventory-overlay.js';
import { directoryOf, hostGroupOf, type HostState, type LabState } from './lab-state.js';
import { leaderOf } from './machine.js';

/** What a command on a host printed, and how it ended. */
export interface Output {
  exitCode: number;
  stdout: string;
  stderr: string;
}

export const hostDirectory = (state: LabState, host: HostState): string =>
  path.join(directoryOf(state.name), 'hosts', host.name);

/** The root directory of a host that is on. */
export const rootOf = (state: LabState, host: HostState): string => path.join(hostDirectory(state, host), 'root');

/** Arguments of `ssh` that reach the host with the lab's key, and no other settings of this machine. */
export function sshArguments(state: LabState, host: HostState): string[] {
  return [
    ...[
      '-F',
      'none',
      '-i',
      identityFile(state),
      '-o',
      'IdentitiesOnly=yes',
      '-o',
      'BatchMode=yes',
      '-o',
      'ConnectTimeout=10',
      '-o',
      'LogLevel=ERROR',
    ],
    ...[
      '-o',
      `UserKnownHostsFile=${path.join(directoryOf(state.name), 'known_hosts')}`,
      '-o',
      'GlobalKnownHostsFile=/dev/null',
    ],
    ...['-o', 'StrictHostKeyChecking=yes', `guardia@${host.address}`],
  ];
}

/** One argument for a POSIX shell. */
const quoted = (argument: string): string => `'${argument.replaceAll("'", `'\\''`)}'`;

export function ssh(
  state: LabState,
  host: HostState,
  argv: readonly string[],
  stdin?: string | Buffer,
): Promise<Output> {
  return captured('ssh', [...sshArguments(state, host), argv.map(quoted).join(' ')], stdin);
}

export async function captured(program: string, argv: string[], stdin?: string | Buffer): Promise<Output> {
  const result = await execa(program, argv, {
    reject: false,
    stripFinalNewline: false,
    ...(stdin === undefined ? { stdin: 'ignore' as const } : { input: stdin }),
  });
  return { exitCode: result.exitCode ?? 255, stdout: result.stdout, stderr: result.stderr };
}

/** The command line that runs a program as root inside the host, past its network. */
export function execArguments(state: LabState, host: HostState, argv: readonly string[]): [string, ...string[]] {
  const leader = leaderOf(hostGroupOf(state.index, host));
  if (leader === undefined)
    throw new ToolboxError(
      `the host ${host.name} of the lab ${state.name} is off. Boot it with: npm run lab -- poweron ${host.name}`,
    );
  const environment = [
    'env',
    '-i',
    'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    'HOME=/root',
    'LANG=C.UTF-8',
    'TERM=xterm',
  ];
  return ['nsenter', '--target', String(leader), '--all', ...environment, ...argv];
}

export const split = ([program, ...argv]: [string, ...string[]]): [string, string[]] => [program, argv];
