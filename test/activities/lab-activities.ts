import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger } from '@temporalio/worker';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { createHosts, type Hosts } from '../../activities/hosts/hosts.js';
import { createSshPool, type SshPool } from '../../activities/hosts/ssh-pool.js';
import { openFingerprints, type Fingerprints } from '../../activities/secrets/fingerprint.js';
import { createSecrets, type Secrets } from '../../activities/secrets/resolve.js';
import { startLab, type HostSpec, type Lab } from '../../infra/lab/lab.js';
import type { CallContext, CallInput } from '../../workflows/contracts/calls.js';
import type { HostTarget } from '../../workflows/contracts/host-target.js';

type Activity = (input: CallInput) => Promise<unknown>;

export type LabActivities = Awaited<ReturnType<typeof startLabActivities>>;

/** A lab and what activities take to work on its hosts; each call is one activity with a context, as a plan would make it. */
export async function startLabActivities(specs: HostSpec[] = [{ name: 'app' }]) {
  const lab: Lab = await startLab({ hosts: specs, systems: [], owner: true });
  const secrets: Secrets = createSecrets({ directory: lab.secretsDirectory, environment: {} });
  const ssh: SshPool = createSshPool({
    readIdentity: (reference) => Promise.resolve(readFileSync(reference.replace('file:', ''), 'utf8')),
  });
  const hosts: Hosts = createHosts({
    ssh,
    workerStateDirectory: path.join(lab.directory, 'worker'),
    scrub: (text) => secrets.scrubber.scrub(text),
  });
  const fingerprints: Fingerprints = await openFingerprints(path.join(lab.directory, 'fingerprint-key'));

  const target = (name = 'app'): HostTarget => {
    const host = lab.hosts[name];
    if (!host) throw new Error(`no host ${name}`);
    const { address, port, user, hostKeys, identityFile } = host;
    return {
      name,
      site: 'main',
      become: 'sudo',
      stateDirectory: '/var/lib/guardia',
      connection: { address, port, user, hostKeys, identity: `file:${identityFile}` },
    };
  };

  return {
    lab,
    hosts,
    secrets,
    fingerprints,
    target,
    /**
     * Calls activities by name, for a step of a run on a host, as a plan would. Do and undo of one step are two calls with the same run and
     * step.
     */
    calls(activities: Record<string, Activity>) {
      return async (
        name: string,
        argument: Record<string, unknown>,
        { step = 'step', run = 'run', on = 'app' }: { step?: string; run?: string; on?: string } = {},
      ): Promise<Record<string, unknown>> => {
        const context: CallContext = {
          system: 'test',
          runbook: 'test',
          workflowId: `test/${run}`,
          runId: run,
          step,
          generation: 1,
          runAgainIfLost: false,
          target: target(on),
        };
        const activity = activities[name];
        if (!activity) throw new Error(`no activity ${name}`);
        const environment = new MockActivityEnvironment({}, { logger: new DefaultLogger('ERROR') });
        const answer = async (input: CallInput) => ((await activity(input)) ?? {}) as Record<string, unknown>;
        return environment.run(answer, { with: argument, context });
      };
    },
    /** Shell as root on a host. Throws with what it said when it fails. */
    async shell(script: string, on = 'app'): Promise<string> {
      const { exitCode, stdout, stderr } = await lab.exec(on, ['/bin/bash', '-c', script]);
      if (exitCode !== 0) throw new Error(`exit code ${exitCode} of ${script}: ${stderr}${stdout}`);
      return stdout;
    },
    async down(): Promise<void> {
      ssh.close();
      await lab.down();
    },
  };
}
