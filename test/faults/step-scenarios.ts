// Where the runbooks start from when every step of them fails once. A new runbook joins by being listed here.
import { startBackupLab, until, type BackupLab } from '../backup/harness.js';
import type { RunbookName } from '../../workflows/contracts/runbooks.js';
import { stepsOf, type Plan } from '../../workflows/contracts/plan.js';
import { RunReport } from '../../workflows/contracts/run.js';
import { SCALED_HOSTS, startScaledLab } from '../deploy/scaled-lab.js';
import type { Scenario } from './step-cells.js';

/** A lab, the states it is brought into one after the other, each kept as a snapshot, and the runbooks that start from them. */
export interface Ground {
  start: () => Promise<BackupLab>;
  /** Texts of the inventory that are replaced, so that nothing takes long for the sake of it. */
  inventory: [from: string, to: string][];
  states: { name: string; reach: (here: BackupLab) => Promise<void> }[];
  scenarios: Scenario[];
}

const nothing = (): Promise<void> => Promise.resolve();
const after =
  (runbook: RunbookName, input: Record<string, unknown> = {}) =>
  async (here: BackupLab): Promise<void> => {
    const { end, message } = await here.run(input, runbook);
    if (end !== 'succeeded') throw new Error(`${runbook}: ${end}: ${message}`);
  };
const on = (
  from: string,
  runbook: RunbookName,
  input: Record<string, unknown> = {},
  name: string = runbook,
): Scenario => ({
  ...{ name, from, runbook, input, hosts: ['app'] },
});

/** A deploy that was terminated between its switch and its start: nothing of it was undone. */
export async function terminatedDeploy(here: BackupLab): Promise<void> {
  const handle = await here.start({ ref: 'v2' }, 'deploy');
  const switched = async (): Promise<boolean> =>
    (await here.status(handle)).steps.some(({ id, state }) => id === 'switch-app' && state === 'done');
  await until('the release is switched', switched, { seconds: 300 });
  await handle.terminate('nobody undoes anything');
  await here.worker().kill();
  await here.startWorker();
}

/** Somebody has installed by hand what provision-host would install. */
async function installPackages(here: BackupLab): Promise<void> {
  const { report } = await here.run({ plan: true }, 'provision-host');
  const packages = stepsOf(RunReport.parse(report).plan as Plan).find(({ step }) => step.id === 'packages')?.step.do;
  const names = packages?.with['packages'] as string[];
  await here.shell(
    `export DEBIAN_FRONTEND=noninteractive; apt-get -q update >&2 && apt-get -q -y --no-install-recommends install ${names.join(' ')} >&2`,
  );
}

/** The lab as it was in this state, with a fresh worker. */
export async function backTo(here: BackupLab, state: string): Promise<void> {
  await here.worker().kill();
  await Promise.all([here.lab.restore(state), here.startWorker()]);
}

const PATIENCE: [from: string, to: string] = ['patienceSeconds: 60', 'patienceSeconds: 30'];
const QUICK: Ground['inventory'] = [
  ['bake: { minutes: 10, tolerated: 2 }', 'bake: { minutes: 0.1, tolerated: 2 }'],
  PATIENCE,
];

export const grounds: Ground[] = [
  {
    start: () =>
      startBackupLab({ hosts: [{ name: 'app', fixture: { name: 'proofpass', megabytes: 10, running: true } }] }),
    inventory: QUICK,
    states: [
      { name: 'by-hand', reach: nothing },
      { name: 'adopted', reach: after('adopt') },
      { name: 'adopted-with-packages', reach: installPackages },
      {
        name: 'terminated',
        reach: async (here) => {
          await backTo(here, 'adopted');
          await terminatedDeploy(here);
        },
      },
      {
        name: 'deployed',
        reach: async (here) => {
          await backTo(here, 'adopted');
          await after('deploy', { ref: 'v2' })(here);
        },
      },
    ],
    scenarios: [
      on('by-hand', 'backup'),
      // By hand Docker publishes its ports past the firewall: the check says so, and fails.
      { ...on('by-hand', 'health-check'), ends: 'failed' },
      on('by-hand', 'adopt'),
      on('adopted', 'adopt', { back: true }, 'adopt back'),
      on('adopted', 'deploy', { ref: 'v2' }),
      // Everything behind the packages, without waiting for them each time.
      { ...on('adopted', 'provision-host', {}, 'packages after adopt'), steps: ['packages'] },
      on('adopted-with-packages', 'provision-host', {}, 'provision-host after adopt'),
      { ...on('terminated', 'repair'), again: true },
      on('deployed', 'rollback'),
      on('deployed', 'restart-service', { service: 'platform' }),
    ],
  },
  {
    start: () => startBackupLab({ hosts: [{ name: 'app', bare: true }] }),
    inventory: QUICK,
    states: [
      { name: 'bare', reach: nothing },
      { name: 'with-packages', reach: installPackages },
    ],
    scenarios: [
      { ...on('bare', 'provision-host', {}, 'provision-host of a bare host'), steps: ['packages'] },
      on('with-packages', 'provision-host'),
    ],
  },
  {
    // Its watch is short already.
    start: startScaledLab,
    inventory: [PATIENCE],
    states: [{ name: 'behind-haproxy', reach: nothing }],
    scenarios: [
      // What one host does not have: the first server is on v2 by then, and the second one is taken out and comes back.
      {
        ...on('behind-haproxy', 'deploy', { ref: 'v2' }, 'deploy over two servers'),
        hosts: [...SCALED_HOSTS],
        steps: ['drain-app2', 'start-app2', 'ready-app2'],
      },
    ],
  },
];
