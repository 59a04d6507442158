import { describe, expect, test } from '@jest/globals';
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
import { bake, before, passes, wait } from '../../../workflows/steps/health.js';
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

/** Activities over hosts whose unit is as the looks say, one after the other; the last one stays. */
function looking(...states: string[]) {
  const asked: string[] = [];
  const hosts = {
    run: ({ name }: { name: string }, { argv }: { argv: string[] }) => {
      asked.push(`${name} ${argv.at(-1)}`);
      const state = states[Math.min(asked.length, states.length) - 1];
      return Promise.resolve({ exitCode: 0, stderr: '', stdout: `0 LoadState=loaded\n0 ActiveState=${state}\nend\n` });
    },
  } as unknown as Hosts;
  const activities = createHealthActivities({
    hosts,
    secrets: createSecrets({ directory: '/nonexistent', environment: {} }),
  });
  const context = { step: 'wait-app' } as CallInput['context'];
  const run = (argument: CallInput['with'], name: 'probeHost' | 'checkHealth' | 'watchHealth'): Promise<unknown> =>
    new MockActivityEnvironment().run((input: CallInput) => activities[name](input) as Promise<unknown>, {
      with: argument,
      context,
    });
  return { asked, run };
}

test('the activities take what the steps give them', async () => {
  const { asked, run } = looking('active');
  await expect(run(passes(system, probes, { intervalSeconds: 0.01 }).with, 'checkHealth')).resolves.toMatchObject({
    looks: 2,
  });
  await expect(
    run(bake(system, probes, { seconds: 0.1, intervalSeconds: 0.02 }).do.with, 'watchHealth'),
  ).resolves.toMatchObject({ failures: 0 });
  expect(asked).toContain('app systemd\x1fapi.service');
});

describe('a watch that knows what failed before', () => {
  const watched = async (...states: string[]) => {
    const { run } = looking(...states);
    const { failing } = (await run(before(system, probes).do.with, 'probeHost')) as { failing: string[] };
    // What the frame makes of the reference.
    const step = bake(system, probes, { seconds: 0.2, intervalSeconds: 0.02, before: 'health-before' });
    expect(step.do.with['failingBefore']).toEqual({ from: 'health-before', path: 'failing' });
    return run({ ...step.do.with, failingBefore: failing }, 'watchHealth');
  };

  test('does not fail for it, and says so', async () => {
    await expect(watched('failed')).resolves.toMatchObject({
      failures: 0,
      summary: expect.stringMatching(/, 0 failures; failing before and still: .*api/),
    });
  });
  test('fails for what was fine before', async () => {
    await expect(watched('active', 'active', 'active', 'failed')).rejects.toMatchObject({ type: 'VerificationFailed' });
  });
  test('fails for what was mended and breaks again', async () => {
    await expect(watched('failed', 'failed', 'active', 'active', 'failed')).rejects.toMatchObject({
      type: 'VerificationFailed',
    });
  });
});
