import { z } from 'zod';
import { runProbes } from '../../activities/health/run-probes.js';
import { createHosts } from '../../activities/hosts/hosts.js';
import { createSshPool } from '../../activities/hosts/ssh-pool.js';
import { loadSystem } from '../../activities/inventory/load.js';
import { inventoryLocations } from '../../activities/inventory/locations.js';
import { createSecrets, secretsDirectory } from '../../activities/secrets/resolve.js';
import { stateDirectory } from '../../activities/temporal/dev-server-state.js';
import { HealthCheckResult } from '../../workflows/contracts/health-check.js';
import { hostTarget } from '../../workflows/contracts/host-target.js';
import { WORKER_HOST } from '../../workflows/contracts/names.js';
import { isFailing, tally, tallyText, type ProbeResult } from '../../workflows/contracts/probe-result.js';
import { commandExitCodes, endStates } from '../../workflows/contracts/run.js';
import { runbooks } from '../../workflows/contracts/runbooks.js';
import { probeNeeds, probesOf } from '../../workflows/contracts/system-probes.js';
import { refuseUnset } from '../../workflows/contracts/unset.js';
import { CommandFailure } from '../command-failure.js';
import { command } from '../command.js';
import { requesterHere } from '../requester.js';
import { composeInput } from '../run-input.js';
import { watchRun } from '../run-observer.js';
import { newRunSuffix, startRun } from '../runs.js';
import { runPage, withTemporal } from '../temporal-access.js';
import type { Terminal } from '../terminal.js';
import { sitesOf } from './run.js';
import { textTable } from '../text-table.js';
import { withoutWorker, workersSeen } from '../workers-seen.js';

/** `guardia health SYSTEM`. Exit code 1 when something is critical. */
export const health = command({
  options: z.object({
    system: z.string(),
    direct: z.boolean().default(false),
    bad: z.boolean().default(false),
  }),
  async execute({ system, direct, bad }, terminal) {
    return direct ? lookFromHere(system, bad, terminal) : runHealthCheck(system, bad, terminal);
  },
});

async function runHealthCheck(system: string, bad: boolean, terminal: Terminal): Promise<number> {
  const runbook = runbooks['health-check'];
  const input = composeInput(runbook, [
    {
      values: { system, requester: requesterHere(terminal.env) },
      place: (field) => (field === 'system' ? 'SYSTEM' : field),
    },
  ]);
  const sites = sitesOf(system, terminal);
  return withTemporal(terminal.env, async (access) => {
    const nobody = withoutWorker(await workersSeen(access, sites));
    if (nobody !== undefined)
      throw new CommandFailure('unreachable', {
        message: nobody.split(': ')[0] ?? nobody,
        remedy: `${nobody.split(': ')[1] ?? ''}. Or look from this machine: guardia health ${system} --direct`,
      });
    const started = await startRun(access, { runbook, input, suffix: newRunSuffix() });
    terminal.say(`${started.workflowId} ${runPage(access, started) ?? ''}`.trim());
    for await (const view of watchRun(access, started, { signal: terminal.interruption() })) {
      if (view.end === undefined) continue;
      const result = HealthCheckResult.safeParse(view.report?.result).data;
      if (result === undefined) {
        terminal.document(view.report ?? view);
        terminal.say(`guardia: ${view.message ?? view.end}`);
      } else {
        terminal.document({ system, run: started.workflowId, healthy: view.exitCode === 0, ...result });
        show(result.probes, bad, terminal);
      }
      return view.exitCode ?? 0;
    }
    terminal.say(`\nIt still looks: guardia watch ${started.workflowId}`);
    return commandExitCodes['still running'].exitCode;
  });
}

async function lookFromHere(name: string, bad: boolean, terminal: Terminal): Promise<number> {
  const { system } = loadSystem(name, inventoryLocations(terminal.env));
  refuseUnset(system, probeNeeds, 'a health check');
  const secrets = createSecrets({ directory: secretsDirectory(terminal.env), environment: terminal.env });
  const ssh = createSshPool({ readIdentity: async (reference) => (await secrets.resolve(reference)).reveal() });
  const hosts = createHosts({
    ssh,
    workerStateDirectory: stateDirectory(terminal.env),
    scrub: (text) => secrets.scrubber.scrub(text),
  });
  const targets = Object.fromEntries(Object.keys(system.hosts).map((host) => [host, hostTarget(system, host)]));
  terminal.say('looking ...');
  try {
    const probes = await runProbes(probesOf(system), { hosts, secrets, targets }, terminal.interruption());
    const healthy = !probes.some(isFailing);
    terminal.document({ system: name, healthy, ...tally(probes), probes });
    show(probes, bad, terminal);
    return healthy ? 0 : endStates.failed.exitCode;
  } finally {
    ssh.close();
  }
}

/** The results by the place that was looked from; below each problem what helps. */
function show(probes: readonly ProbeResult[], bad: boolean, terminal: Terminal): void {
  const { colors } = terminal;
  const sign = {
    ok: colors.green('ok'),
    warning: colors.yellow('warning'),
    critical: colors.red('critical'),
    unknown: colors.red('unknown'),
  };
  const shown = probes.filter(({ state }) => !bad || state !== 'ok');
  for (const on of [...new Set(shown.map((probe) => probe.on))]) {
    const here = shown.filter((probe) => probe.on === on);
    terminal.print(colors.bold(on === WORKER_HOST ? 'from outside, as the worker sees it' : on));
    terminal.print(
      textTable(
        here.map(({ state, title, measured, message }) => [
          sign[state],
          title,
          state === 'ok' ? measured : (message ?? measured),
        ]),
        { indent: '  ' },
      ),
    );
    for (const { title, remedy } of here) if (remedy !== undefined) terminal.print(`  -> ${title}: ${remedy}`);
    terminal.print('');
  }
  terminal.print(`${probes.length} probes: ${tallyText(tally(probes))}`);
}
