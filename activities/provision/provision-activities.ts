import { cancellationSignal } from '@temporalio/activity';
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import type { CallInput } from '../../workflows/contracts/calls.js';
import { failure, isFailure } from '../../workflows/contracts/errors.js';
import { AccountName, FileQuestion, type SeenFile } from '../../workflows/contracts/files.js';
import { AbsolutePath } from '../../workflows/contracts/names.js';
import type { SeenHost } from '../../workflows/contracts/provision-observation.js';
import { alternativesOf, ConfigurationCheck, isInstalled, PackageSpec } from '../../workflows/contracts/provision.js';
import { UnitName, type SeenUnit } from '../../workflows/contracts/units.js';
import { observeAccounts } from '../accounts/account-activities.js';
import { targetOf } from '../activity-context.js';
import { ComposeProject, observeCompose } from '../compose/compose-activities.js';
import { observeFiles } from '../files/file-activities.js';
import { observeFirewall } from '../firewall/firewall-activities.js';
import type { Hosts } from '../hosts/hosts.js';
import { observePackages, unavailablePackages } from '../packages/package-activities.js';
import { ClusterQuestion, observeCluster } from '../postgres/cluster-activities.js';
import { observeSecretFile, SecretFileArgument } from '../secret-files/secret-file-activities.js';
import type { Fingerprints } from '../secrets/fingerprint.js';
import type { Secrets } from '../secrets/resolve.js';
import { observeSshd, SshdQuestion } from '../sshd/sshd-activities.js';
import { observeKernel } from '../sysctl/sysctl-activities.js';
import { observeUnits } from '../systemd/systemd-activities.js';

const checkScript = readFileSync(new URL('./check.sh', import.meta.url), 'utf8');

/** One line: CONTAINER MEMORY-BYTES. The memory is what the machine has, or what its control group allows. */
const HOST_FACTS = `
virtual=no; systemd-detect-virt -c -q && virtual=yes
# Not in awk: Debian's counts to 2 GiB only.
memory=$(($(awk '/^MemTotal:/ { print $2 }' /proc/meminfo) * 1024))
limit=$(cat /sys/fs/cgroup/memory.max 2>/dev/null || echo max)
[ "$limit" != max ] && [ "$limit" -lt "$memory" ] && memory=$limit
echo "$virtual $memory"`;

const ObserveProvision = z.strictObject({
  packages: z.array(PackageSpec),
  accounts: z.array(AccountName),
  files: z.array(FileQuestion),
  units: z.array(UnitName),
  firewall: z.boolean(),
  sshd: SshdQuestion.optional(),
  secretFiles: z.array(SecretFileArgument),
  postgresql: ClusterQuestion.optional(),
  compose: z.array(ComposeProject),
  kernel: z
    .array(z.string().regex(/^[A-Za-z0-9_./-]+$/))
    .default([])
    .describe('Keys of kernel settings'),
});
export type ObserveProvision = z.input<typeof ObserveProvision>;

const CheckConfiguration = z.strictObject({ kind: ConfigurationCheck, paths: z.array(AbsolutePath) });

export function createProvisionActivities(dependencies: {
  hosts: Hosts;
  secrets: Secrets;
  fingerprints: Fingerprints;
}) {
  const { hosts, fingerprints } = dependencies;
  return {
    /** Everything that provisioning a host rests on, in one activity. Reads only; no secret is in the answer. */
    async observeProvision({ with: raw, context }: CallInput): Promise<SeenHost> {
      const asked = ObserveProvision.parse(raw);
      const target = targetOf(context);
      const facts = await hosts.run(
        target,
        { argv: ['/bin/bash', '-c', HOST_FACTS] },
        { signal: cancellationSignal() },
      );
      const [container, memory] = facts.stdout.trim().split(' ');
      const [packages, accounts, files, units, firewall, sshd, kernel] = await Promise.all([
        observePackages(
          hosts,
          context,
          asked.packages.flatMap((spec) => alternativesOf(spec).map(({ name }) => name)),
        ),
        observeAccounts(hosts, context, asked.accounts),
        observeFiles(hosts, fingerprints, context, asked.files),
        observeUnits(hosts, context, asked.units),
        asked.firewall ? observeFirewall(hosts, context) : undefined,
        asked.sshd ? observeSshd(hosts, context, asked.sshd) : undefined,
        container !== 'yes' && asked.kernel.length > 0 ? observeKernel(hosts, context, asked.kernel) : undefined,
      ]);
      const missing = asked.packages.filter((spec) => !isInstalled(spec, packages));
      const unavailable = missing.length === 0 ? [] : await unavailablePackages(hosts, context, missing);
      const secretFiles: SeenHost['secretFiles'] = {};
      for (const file of asked.secretFiles)
        secretFiles[file.path] = await observeSecretFile(dependencies, context, file);
      const cluster = asked.postgresql;
      const postgresql =
        cluster && packages[`postgresql-${cluster.version}`] !== undefined
          ? await observeCluster(dependencies, context, cluster)
          : undefined;
      const compose: SeenHost['compose'] = {};
      for (const project of asked.compose) compose[project.project] = await observeCompose(hosts, context, project);
      return {
        container: container === 'yes',
        memoryBytes: Number(memory),
        packages,
        ...(unavailable.length === 0 ? {} : { unavailable }),
        accounts,
        files: files satisfies Record<string, SeenFile>,
        units: units satisfies Record<string, SeenUnit>,
        ...(firewall ? { firewall } : {}),
        ...(sshd ? { sshd } : {}),
        secretFiles,
        ...(postgresql ? { postgresql } : {}),
        compose,
        ...(kernel ? { kernel } : {}),
      };
    },

    /**
     * Lets the program that reads them judge configuration files, before it reads them. Throws `VerificationFailed` with the program's own
     * words. Reads only.
     */
    async checkConfiguration({ with: raw, context }: CallInput) {
      const { kind, paths } = CheckConfiguration.parse(raw);
      const target = targetOf(context);
      try {
        const { stdout } = await hosts.run(
          target,
          { argv: ['/bin/bash', '-c', checkScript, 'check', kind, ...paths] },
          { fence: context.fence, signal: cancellationSignal() },
        );
        const said = stdout.trim().split('\n')[0] ?? '';
        return said === '' ? undefined : { summary: said };
      } catch (error) {
        if (!isFailure(error, 'CommandFailed')) throw error;
        const details = (error.details?.[0] ?? {}) as { output?: string };
        throw failure('VerificationFailed', `${kind} on ${target.name} refuses its configuration: ${error.message}`, {
          host: target.name,
          step: context.step,
          ...(details.output === undefined ? {} : { output: details.output }),
          remedy: 'Correct the files beside the inventory',
        });
      }
    },

    /** Proves that fail2ban guards these jails. Throws `VerificationFailed`. Reads only. */
    async checkJails({ with: raw, context }: CallInput) {
      const { jails } = z.strictObject({ jails: z.array(z.string()) }).parse(raw);
      const target = targetOf(context);
      const { stdout } = await hosts.run(
        target,
        {
          argv: [
            '/bin/bash',
            '-c',
            'for i in 1 2 3 4 5 6 7 8; do fail2ban-client status && exit; sleep 0.5; done; exit 1',
          ],
        },
        { signal: cancellationSignal() },
      );
      const list = /Jail list:\s*(.*)/.exec(stdout)?.[1]?.split(/,\s*/) ?? [];
      const missing = jails.filter((jail) => !list.includes(jail));
      if (missing.length > 0)
        throw failure('VerificationFailed', `fail2ban on ${target.name} does not guard ${missing.join(', ')}`, {
          host: target.name,
          step: context.step,
          remedy: 'Look at fail2ban-client -d',
        });
      return { summary: `jails: ${list.join(', ')}` };
    },
  };
}
