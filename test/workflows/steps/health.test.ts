import { expect, test } from '@jest/globals';
import { MockActivityEnvironment } from '@temporalio/testing';
import { parse } from 'yaml';
import { createHealthActivities } from '../../../activities/health/health-activities.js';
import type { Hosts } from '../../../activities/hosts/hosts.js';
import { createSecrets } from '../../../activities/secrets/resolve.js';
import type { CallInput } from '../../../workflows/contracts/calls.js';
import { probesAbout } from '../../../workflows/contracts/system-probes.js';
import { System } from '../../../workflows/contracts/system.js';
import { activityOptions } from '../../../workflows/lib/activity-options.js';
import { checkPlan } from '../../../workflows/lib/check-plan.js';
import { bake, passes, wait } from '../../../workflows/steps/health.js';
import { smallSystem } from '../small-system.js';
import { lane, step, toyPlan } from '../toy-plan.js';

const system = System.parse({
  ...(parse(smallSystem('shop')) as object),
  services: { api: { kind: 'systemd', on: 'app', unit: 'api.service' } },
});
const probes = probesAbout(system, { services: ['api'] });

test('the steps fit a plan, in the lane of a host and of none, and as a verification', () => {
  const plan = checkPlan(
    toyPlan('shop', [
      lane('app', { ...step('restart'), verify: passes(system, probes) }, wait(system, 'app', probes)),
      lane('system', bake(system, probes, { seconds: 600, tolerated: 2 })),
    ]),
  );
  const [waiting, baking] = [plan.stages[0]?.lanes[0]?.steps[1], plan.stages[1]?.lanes[0]?.steps[0]];
  expect(waiting).toMatchObject({ id: 'wait-app', do: { with: { patienceSeconds: 60, consecutive: 2 } } });
  expect(baking).toMatchObject({ id: 'bake', expectedSeconds: 600, do: { with: { seconds: 600, tolerated: 2 } } });
  // The way to the host is in the call: a lane of no host has none of its own.
  expect(baking?.do.with['targets']).toMatchObject({ app: { connection: { address: 'app.shop.example' } } });
  // The activity has the time that the watch takes, and a last look.
  expect(activityOptions('watch', { timeoutSeconds: baking?.do.with['timeoutSeconds'] as number })).toMatchObject({
    startToCloseTimeout: '900 seconds',
  });
});

test('a health check of nothing is refused', () => {
  expect(() => wait(system, 'app', [])).toThrow('a health check of nothing would always pass');
});

test('the activities take what the steps give them', async () => {
  const asked: string[] = [];
  // A host whose unit runs: what the script would say.
  const hosts = {
    run: ({ name }: { name: string }, { argv }: { argv: string[] }) => {
      asked.push(`${name} ${argv.at(-1)}`);
      return Promise.resolve({ exitCode: 0, stderr: '', stdout: '0 LoadState=loaded\n0 ActiveState=active\nend\n' });
    },
  } as unknown as Hosts;
  const secrets = createSecrets({ directory: '/nonexistent', environment: {} });
  const activities = createHealthActivities({ hosts, secrets });
  const context = { step: 'wait-app' } as CallInput['context'];
  const run = (argument: CallInput['with'], name: 'checkHealth' | 'watchHealth'): Promise<unknown> =>
    new MockActivityEnvironment().run((input: CallInput) => activities[name](input) as Promise<unknown>, {
      with: argument,
      context,
    });
  await expect(run(passes(system, probes, { intervalSeconds: 0.01 }).with, 'checkHealth')).resolves.toMatchObject({
    looks: 2,
  });
  await expect(
    run(bake(system, probes, { seconds: 0.1, intervalSeconds: 0.02 }).do.with, 'watchHealth'),
  ).resolves.toMatchObject({ failures: 0 });
  expect(asked).toContain('app systemd\x1fapi.service');
});
