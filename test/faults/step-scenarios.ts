// Where the runbooks start from when every step of them fails once. A new runbook joins by being listed here.
import { startBackupLab, until, type BackupLab } from '../backup/harness.js';
import type { RunbookName } from '../../workflows/contracts/runbooks.js';
import { stepsOf, type Plan } from '../../workflows/contracts/plan.js';
import { RunReport } from '../../workflows/contracts/run.js';
import { SCALED_HOSTS, startScaledLab } from '../deploy/scaled-lab.js';
import type { Scenario } from './step-cells.js';

/** A lab, the states that it can be brought into, each kept as a snapshot from then on, and the runbooks that start from them. */
export interface Ground {
  start: () => Promise<BackupLab>;
  /** Texts of the inventory that are replaced, so that nothing takes long for the sake of it. */
  inventory: [from: string, to: string][];
  /** The first one is that of a lab that has just started; every other one is reached from another. */
  states: { name: string; from?: string; reach?: (here: BackupLab) => Promise<void> }[];
  scenarios: Scenario[];
}

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

/** Brings the lab into a state, from its snapshot or, the first time, by way of those before it; `kept`: those that have a snapshot. With a fresh worker. */
export async function bringTo(here: BackupLab, ground: Ground, name: string, kept: Set<string>): Promise<void> {
  const state = ground.states.find((one) => one.name === name);
  if (!state) throw new Error(`no state ${name}`);
  if (kept.has(name)) {
    await here.worker().kill();
    await Promise.all([here.lab.restore(name), here.startWorker()]);
    return;
  }
  if (state.from !== undefined) await bringTo(here, ground, state.from, kept);
  await state.reach?.(here);
  await here.worker().stop();
  await here.lab.snapshot(name);
  await here.startWorker();
  kept.add(name);
}

const PATIENCE: [from: string, to: string] = ['patienceSeconds: 60', 'patienceSeconds: 30'];
const QUICK: Ground['inventory'] = [
  ['bake: { minutes: 10, tolerated: 2 }', 'bake: { minutes: 0.1, tolerated: 2 }'],
  PATIENCE,
];

const AFTER_RELEASE = ['bake', 'recovery-point-after'];
const ofServer = (server: string, steps: string[]): string[] => steps.map((step) => `${step}-${server}`);

export const grounds: Ground[] = [
  {
    start: () =>
      startBackupLab({ hosts: [{ name: 'app', fixture: { name: 'proofpass', megabytes: 10, running: true } }] }),
    inventory: QUICK,
    states: [
      { name: 'by-hand' },
      { name: 'adopted', from: 'by-hand', reach: after('adopt') },
      { name: 'adopted-with-packages', from: 'adopted', reach: installPackages },
      { name: 'terminated', from: 'adopted', reach: terminatedDeploy },
      { name: 'deployed', from: 'adopted', reach: after('deploy', { ref: 'v2' }) },
    ],
    scenarios: [
      { ...on('by-hand', 'backup'), commits: 'write-manifest' },
      on('by-hand', 'adopt'),
      on('adopted', 'adopt', { back: true }, 'adopt back'),
      on('adopted', 'deploy', { ref: 'v2' }),
      {
        ...on('adopted', 'deploy', { ref: 'v4-irreversible' }, 'deploy of an irreversible release'),
        commits: 'migrate',
        steps: [
          'migrate',
          ...ofServer('app', ['stop', 'switch', 'start', 'wait', 'smoke']),
          ...AFTER_RELEASE,
          'prune-app',
        ],
      },
      // Everything behind the packages, without waiting for them each time.
      { ...on('adopted', 'provision-host', {}, 'packages after adopt'), steps: ['packages'] },
      on('adopted-with-packages', 'provision-host', {}, 'provision-host after adopt'),
      { ...on('terminated', 'repair'), again: true },
      // The smoke test of the deploy has written rows into what its migrations brought.
      { ...on('deployed', 'rollback'), commits: 'take-back-migrations' },
      {
        ...on('deployed', 'restart-service', { service: 'platform' }),
        restarts: { app: 'proofpass-platform.service' },
      },
      {
        // The holders of its key shares unseal it, whenever it is sealed.
        ...on('deployed', 'restart-service', { service: 'openbao' }, 'restart-service of OpenBao'),
        commits: 'restart-app',
        byHand: (here) => here.lab.openbao('app', '0.0.0.0'),
      },
    ],
  },
  {
    start: () => startBackupLab({ hosts: [{ name: 'app', bare: true }] }),
    inventory: QUICK,
    states: [{ name: 'bare' }, { name: 'with-packages', from: 'bare', reach: installPackages }],
    scenarios: [
      { ...on('bare', 'provision-host', {}, 'provision-host of a bare host'), bare: true, steps: ['packages'] },
      { ...on('with-packages', 'provision-host'), bare: true },
    ],
  },
  {
    // Its watch is short already.
    start: startScaledLab,
    inventory: [PATIENCE],
    states: [{ name: 'behind-haproxy' }],
    scenarios: [
      // Where all is well: a host that was set up by hand has its ports past the firewall.
      { ...on('behind-haproxy', 'health-check'), hosts: [...SCALED_HOSTS] },
      // What one host does not have. Workers and hosts are lost when the first server is on v2 already; the balancer and the database besides.
      {
        ...on('behind-haproxy', 'deploy', { ref: 'v2' }, 'deploy over two servers'),
        hosts: [...SCALED_HOSTS],
        late: true,
        steps: [
          ...['recovery-point', ...ofServer('app2', ['fetch', 'build', 'preflight']), 'migrate'],
          ...['app1', 'app2'].flatMap((server) =>
            ofServer(server, ['drain', 'stop', 'switch', 'start', 'wait', 'smoke', 'ready']),
          ),
          ...AFTER_RELEASE,
        ],
        alsoLost: [
          { step: 'recovery-point', host: 'db' },
          { step: 'migrate', host: 'db' },
          { step: 'start-app2', host: 'db' },
          { step: 'drain-app1', host: 'balancer' },
          { step: 'bake', host: 'balancer' },
        ],
      },
    ],
  },
];
