// `npm run lab -- COMMAND`: labs by hand. README.md.
import { Command } from 'commander';
import { spawnSync } from 'node:child_process';
import { say } from '../packaging/toolbox-cache.js';
import { ToolboxError } from '../packaging/toolbox.js';
import { removeUnusedTrees } from './base-tree.js';
import { populated } from './control-group.js';
import { openLab, removeStaleLabs, resumeLab, startLab, type HostSpec, type Lab } from './lab.js';
import { execArguments, sshArguments } from './host-access.js';
import { noticeLine } from './notices-server.js';
import { allLabs, hostGroupOf, hostState, isStale, readState, type LabState } from './lab-state.js';
import { isRunning } from '../../activities/temporal/process-identity.js';

interface UpOptions {
  hosts?: string;
  system: string;
  megabytes: string;
  running?: true;
  bare?: true;
  layout?: string;
}

/** The hosts that the options ask for. */
function hostsOf({ hosts, system, megabytes, running, bare, layout }: UpOptions): HostSpec[] {
  const names = hosts?.split(',') ?? (layout === 'scaled' ? ['balancer', 'app1', 'app2', 'db'] : ['app']);
  const empty = bare === true || layout !== undefined;
  if (empty && running === true)
    throw new ToolboxError(
      '--running is the host `app` as it was set up by hand; --bare and --layout have nothing on their hosts',
    );
  return names.map((name) => {
    if (empty) return { name, bare: true };
    if (system !== 'proofpass' || name !== 'app') return { name };
    const fixture = {
      name: 'proofpass',
      megabytes: Number(megabytes),
      ...(running === true ? { running } : {}),
    } as const;
    return { name, fixture };
  });
}

const program = new Command('npm run lab --')
  .description(
    'Test hosts on this machine: real Debian 12 systems with systemd, sshd, PostgreSQL, nginx, Redis and Docker, and an S3 server beside them.',
  )
  .option('--lab <name>', 'which lab', 'main')
  .showHelpAfterError();
const chosen = (): string => program.opts<{ lab: string }>().lab;
const lab = (): Lab => openLab(chosen());

program
  .command('up')
  .description('make a lab and start it; it stays until `down`')
  .option('--hosts <names>', 'hosts, separated by commas; by default app')
  .option('--system <name>', 'system that the hosts belong to', 'proofpass')
  .option('--megabytes <number>', 'size of the database on the host `app`', '50')
  .option('--running', 'on the host `app` the application, OpenBao and the monitoring stack run, set up by hand')
  .option('--bare', 'nothing but Debian is on the hosts')
  .option(
    '--layout <name>',
    "the inventory's layout of that name: with `scaled` the hosts balancer, app1, app2 and db, bare",
  )
  .action(async (options: UpOptions) => {
    const name = chosen();
    const existing = readState(name);
    if (existing !== undefined && !isStale(existing)) {
      say(`there is a lab ${name} already; starting what is off`);
      await resumeLab(name);
    } else {
      const layout = options.layout === undefined ? {} : { layout: options.layout };
      await startLab({ name, hosts: hostsOf(options), systems: [options.system], ...layout, owner: false });
    }
    describe(name);
  });

program
  .command('down')
  .description('remove the lab and everything in it')
  .option('--all', 'all labs that no running process owns')
  .action(async (options: { all?: true }) => {
    const names = options.all === true ? allLabs().filter((one) => one.owner === undefined || isStale(one)) : [];
    if (options.all === undefined) await lab().down();
    for (const one of names) await openLab(one.name).down();
  });

program
  .command('status')
  .description('hosts, servers and settings of the lab')
  .action(() => describe(chosen()));

program
  .command('env')
  .description('settings for guardia, as shell commands: eval "$(npm run -s lab -- env)"')
  .action(() => {
    for (const [key, value] of Object.entries(lab().environment)) console.log(`export ${key}='${value}'`);
  });

program
  .command('notices')
  .description('what people were told: Slack, e-mail, pager and webhooks, oldest first')
  .option('--json', 'whole, one JSON object on a line')
  .action((options: { json?: true }) => {
    const received = lab().notices.received();
    if (received.length === 0) say('nobody was told anything yet');
    for (const one of received) console.log(options.json === true ? JSON.stringify(one) : noticeLine(one));
  });

program
  .command('list')
  .description('all labs of this machine')
  .action(() => {
    const labs = allLabs();
    if (labs.length === 0) say('there is no lab. Make one with: npm run lab -- up');
    for (const one of labs) {
      const owner =
        one.owner === undefined
          ? 'stays until down'
          : isStale(one)
            ? 'left by a dead process'
            : `ends with process ${one.owner.pid}`;
      console.log(
        `${one.name.padEnd(20)} 10.77.${one.index}.0/24  ${one.hosts.map((host) => host.name).join(', ')}  (${owner})`,
      );
    }
  });

program
  .command('clean')
  .description('remove labs whose process is dead, and builds that nobody is at any more')
  .option('--cache', 'also the cached trees that no lab uses')
  .action(async (options: { cache?: true }) => {
    const removed = await removeStaleLabs();
    if (options.cache === true)
      removed.push(...removeUnusedTrees(allLabs().flatMap((one) => one.hosts.flatMap((host) => host.layers))));
    say(removed.length === 0 ? 'nothing to clean' : `removed: ${removed.join(', ')}`);
  });

program
  .command('ssh <host> [argv...]')
  .description('log in as guardia, or run a command: ssh HOST -- CMD')
  .action((host: string, argv: string[]) => {
    const state = stateOf();
    const terminal = argv.length === 0 && process.stdin.isTTY ? ['-t'] : [];
    enter(['ssh', ...terminal, ...sshArguments(state, hostState(state, host)), ...argv]);
  });

program
  .command('exec <host> [argv...]')
  .description('a shell or a command as root on the host, past its network')
  .action((host: string, argv: string[]) => {
    const state = stateOf();
    enter(execArguments(state, hostState(state, host), argv.length > 0 ? argv : ['bash', '-l']));
  });

program
  .command('openbao <host>')
  .description('start OpenBao on a host that has Docker, initialised, unsealed and seeded')
  .option('--listen <address>', "address on the host that it listens on, such as the host's own", '127.0.0.1')
  .action((host: string, options: { listen: string }) => lab().openbao(host, options.listen));

program
  .command('certificates <host>')
  .description("put the lab's certificates where nginx and HAProxy on the host read them")
  .action((host: string) => lab().certificates(host));

const acts: [string, string, (host: string) => Promise<void>][] = [
  ['cut', 'take the host off the network', (host) => lab().cut(host)],
  ['heal', 'undo cut and slow', (host) => lab().heal(host)],
  ['poweroff', 'a power cut', (host) => lab().poweroff(host)],
  ['poweron', 'boot the host', (host) => lab().poweron(host)],
  ['reboot', 'an orderly reboot', (host) => lab().reboot(host)],
];
for (const [name, description, act] of acts) program.command(`${name} <host>`).description(description).action(act);

program
  .command('slow <host> <rate>')
  .description("limit the host's network, such as 10mbit")
  .action((host: string, rate: string) => lab().slow(host, rate));
program
  .command('snapshot <name>')
  .description('save hosts and servers (they are stopped for it)')
  .action((name: string) => lab().snapshot(name));
program
  .command('restore <name>')
  .description('put hosts and servers back to a snapshot')
  .action((name: string) => lab().restore(name));

function stateOf(): LabState {
  const state = readState(openLab(chosen()).name);
  if (state === undefined) throw new ToolboxError(`there is no lab ${chosen()}`);
  return state;
}

function describe(name: string): void {
  const one = openLab(name);
  const state = stateOf();
  for (const host of state.hosts) {
    const on = populated(hostGroupOf(state.index, host)) ? 'on' : 'off';
    const faults = [...(host.cut ? ['cut off'] : []), ...(host.rate === undefined ? [] : [`limited to ${host.rate}`])];
    console.log(`host ${host.name.padEnd(12)} ${host.address.padEnd(14)} ${[on, ...faults].join(', ')}`);
  }
  for (const [service, recorded] of Object.entries(state.services)) {
    const where =
      service === 's3' ? `${one.s3.endpoint}/${one.s3.bucket}` : service === 'notices' ? one.notices.url : '';
    console.log(`${service.padEnd(17)} ${where} ${isRunning(recorded) ? 'on' : 'off'}`);
  }
  if (one.git !== undefined) console.log(`repository        ${one.git.url}`);
  console.log(`directory         ${one.directory}`);
  for (const [key, value] of Object.entries(one.environment)) console.log(`${key.padEnd(17)} ${value}`);
  const flag = name === 'main' ? '' : ` --lab ${name}`;
  console.log(`log in with       npm run lab --${flag} ssh ${state.hosts[0]?.name ?? 'HOST'}`);
}

function enter([command, ...argv]: string[]): void {
  const result = spawnSync(command ?? '', argv, { stdio: 'inherit' });
  process.exitCode = result.status ?? 1;
}

try {
  await program.parseAsync();
} catch (error) {
  if (!(error instanceof Error)) throw error;
  say(error instanceof ToolboxError ? `lab: ${error.message}` : `lab: ${error.stack ?? error.message}`);
  process.exitCode = 1;
}
