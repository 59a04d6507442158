import { z } from 'zod';
import { isHealthy, type Examination, type Finding } from '../../activities/doctor/findings.js';
import { examineHost, hostNeeds } from '../../activities/doctor/host-examination.js';
import { examineNotices } from '../../activities/doctor/notice-examination.js';
import { examineStore } from '../../activities/doctor/store-examination.js';
import { examineSecrets, examineWorkerMachine } from '../../activities/doctor/worker-examination.js';
import { createSshPool, type SshPool } from '../../activities/hosts/ssh-pool.js';
import { loadSystem, readInventory } from '../../activities/inventory/load.js';
import { inventoryLocations } from '../../activities/inventory/locations.js';
import { createSecrets, secretsDirectory, type Secrets } from '../../activities/secrets/resolve.js';
import { stateDirectory } from '../../activities/temporal/dev-server-state.js';
import { hostTarget, type HostTarget } from '../../workflows/contracts/host-target.js';
import { endStates } from '../../workflows/contracts/run.js';
import type { System } from '../../workflows/contracts/system.js';
import { unsetNeeded } from '../../workflows/contracts/unset.js';
import { command } from '../command.js';
import { explain } from '../exit-codes.js';
import { examineTemporal } from '../temporal-examination.js';
import { requesterHere } from '../requester.js';
import type { Terminal } from '../terminal.js';
import { textTable } from '../text-table.js';

/** `guardia doctor [SYSTEM]`. Exit code 1 when something required is missing. */
export const doctor = command({
  options: z.object({ system: z.string().optional(), tryNotices: z.boolean().default(false) }),
  async execute({ system: only, tryNotices }, terminal) {
    const { systems, inventory } = readSystems(terminal, only);
    terminal.say('looking ...');
    const sites = systems.flatMap((system) => Object.values(system.hosts).map(({ site }) => site));
    const secrets = createSecrets({ directory: secretsDirectory(terminal.env), environment: terminal.env });
    const ssh = createSshPool({ readIdentity: async (reference) => (await secrets.resolve(reference)).reveal() });
    const examinations = await Promise.all([
      examineWorkerMachine({ systems, stateDirectory: stateDirectory(terminal.env) }),
      examineTemporal(terminal.env, sites),
      ...systems.flatMap((system) => [
        examineSystem(system, secrets),
        ...Object.keys(system.hosts).map((host) => lookAtHost(system, host, ssh)),
        ...(tryNotices ? [examineNotices(system, requesterHere(terminal.env), secrets)] : []),
      ]),
    ]).finally(() => ssh.close());
    examinations.splice(2, 0, inventory);
    const found = examinations.filter((examination) => examination.findings.length > 0);
    const ok = isHealthy(found);
    terminal.document({ ok, examinations: found });
    for (const [i, examination] of found.entries())
      terminal.print(`${i === 0 ? '' : '\n'}${examinationText(examination, terminal)}`);
    terminal.say(
      ok
        ? '\nNothing that is required is missing.'
        : '\nSomething that is required is missing; each line says what helps.',
    );
    return ok ? 0 : endStates.failed.exitCode;
  },
});

/**
 * The systems to look at. One that was asked for has to be right and filled in; otherwise those that nobody has filled in yet
 * are only named.
 */
function readSystems(terminal: Terminal, only: string | undefined): { systems: System[]; inventory: Examination } {
  const locations = inventoryLocations(terminal.env);
  if (only !== undefined)
    return { systems: [loadSystem(only, locations).system], inventory: { about: 'inventory', findings: [] } };
  const systems: System[] = [];
  const findings: Finding[] = [];
  const wrong = (id: string, error: unknown, remedy: string): void => {
    const found = explain(error).message.split('\n')[0] ?? '';
    findings.push({ id, title: id.replace('-', ' '), state: 'missing', found, remedy });
  };
  try {
    const { names, load } = readInventory(locations);
    for (const name of names) {
      try {
        const { system } = load(name);
        const open = unsetNeeded(system, BACKUP_VALUES).length;
        if (open === 0) systems.push(system);
        else
          findings.push({
            id: `system-${name}`,
            title: `system ${name}`,
            state: 'skipped',
            found: `${open} value${open === 1 ? '' : 's'} for a backup not filled in: guardia doctor ${name}`,
          });
      } catch (error) {
        wrong(`system-${name}`, error, `guardia systems check ${name}`);
      }
    }
  } catch (error) {
    wrong('inventory', error, 'Set GUARDIA_SYSTEMS to the directory that holds NAME.yaml files');
  }
  return { systems, inventory: { about: 'inventory', findings } };
}

/** What of a system a backup needs. */
const BACKUP_VALUES = ['hosts.*.connection', 'objectStore', 'backup.recipients', 'backup.identity', 'databases'];

/** What a backup of the system needs besides its hosts: values, secrets, the bucket. */
async function examineSystem(system: System, secrets: Secrets): Promise<Examination> {
  const values = unsetNeeded(system, BACKUP_VALUES).map(({ path, text }): Finding => ({
    id: `value-${path}`,
    title: path,
    state: 'missing',
    found: `not filled in: ${text}`,
  }));
  const [first] = values;
  if (first !== undefined)
    first.remedy = `Fill it in, and those below, in ${system.system}.yaml or an overlay (GUARDIA_OVERLAY); guardia systems check ${system.system} has the lines`;
  const filled: Finding = { id: 'values', title: 'values for a backup', state: 'ok', found: 'all filled in' };
  return {
    about: `system ${system.system}`,
    findings: [
      ...(values.length === 0 ? [filled] : values),
      ...(await examineSecrets(system, secrets)),
      ...(await examineStore(system, secrets)),
    ],
  };
}

async function lookAtHost(system: System, host: string, ssh: SshPool): Promise<Examination> {
  const about = `host ${host} of ${system.system}`;
  let target: HostTarget;
  try {
    target = hostTarget(system, host);
  } catch {
    return {
      about,
      findings: [{ id: 'connection', title: 'connection', state: 'skipped', found: 'its values are not filled in' }],
    };
  }
  return examineHost(hostNeeds(system, host, target), ssh, about);
}

/** One machine as a table. What is as it should be stands there as well, so that a person sees what was looked at. */
function examinationText({ about, findings, install }: Examination, { colors }: Terminal): string {
  const signs = {
    ok: colors.green('ok'),
    missing: colors.red('missing'),
    warning: colors.yellow('warning'),
    skipped: colors.dim('skipped'),
  };
  const lines = [
    colors.bold(about),
    textTable(
      findings.map(({ title, state, found }) => [signs[state], title, found]),
      { indent: '  ' },
    ),
  ];
  for (const { state, title, remedy } of findings)
    if (remedy !== undefined && state !== 'ok') lines.push(`  -> ${title}: ${remedy}`);
  if (install !== undefined) lines.push(`  -> ${install}`);
  return lines.join('\n');
}
