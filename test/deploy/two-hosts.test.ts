import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { setTimeout as delay } from 'node:timers/promises';
import { stepsOf } from '../../workflows/contracts/plan.js';
import type { RunReport } from '../../workflows/contracts/run.js';
import { until, type BackupLab } from '../backup/harness.js';
import { badProbes } from '../provision/bad-probes.js';
import { OBSERVED, startScaledLab } from './scaled-lab.js';
import { arrive, failed, startTraffic, underWay, type Site, type Visitor } from './traffic.js';

jest.setTimeout(600_000);

/** Hosts that guardia has set up and brought v1 to: scaled-lab.ts. */
describe('over two servers behind HAProxy, with requests flowing', () => {
  let here: BackupLab;
  let site: Site;
  let visitor: Visitor;
  const observed = async () => ({ app1: await here.shell(OBSERVED, 'app1'), app2: await here.shell(OBSERVED, 'app2') });
  const traffic = () => startTraffic({ ...site, path: '/health', everyMs: 50, clients: 3 });
  const deploy = (ref: string) => here.run({ ref }, 'deploy');
  const servers = async () =>
    (await here.shell(`echo 'show servers state' | socat - /run/haproxy/admin.sock`, 'balancer'))
      .split('\n')
      .flatMap((line) => / (\w+_backend) \d+ (\w+) \S+ (\d) (\d+) /.exec(line)?.slice(1).join(' ') ?? []);

  beforeAll(async () => {
    here = await startScaledLab();
    here.changeInventory('patienceSeconds: 60', 'patienceSeconds: 12');
    site = { address: here.lab.hosts['balancer']?.address ?? '', name: 'api.proofpass.test', ca: here.lab.ca };
    const up = async () => (await servers()).filter((server) => / 2 0$/.test(server)).length === 4;
    await until('HAProxy finds both servers', up, { seconds: 120 });
    visitor = await arrive(here, site, ['app1', 'app2']);
  }, 900_000);
  afterAll(() => here?.down());

  test('everything that the manual looks at is as it should be, seen from every host and from outside', async () => {
    expect(await badProbes(here)).toEqual([]);
  });

  test('v1 to v2: no request fails, both releases answer meanwhile; session and uploads stay', async () => {
    const flowing = traffic();
    const done = await deploy('v2');
    const answers = await flowing.stop();
    expect(`${done.end}: ${done.message}`).toMatch(/^succeeded:/);
    expect((done.report as RunReport).plan?.downtime).toEqual([]);
    expect(failed(answers)).toEqual([]);
    expect(new Set(answers.map(({ version }) => version))).toEqual(new Set(['1.0.0', '2.0.0']));
    expect(new Set(answers.slice(-10).map(({ version }) => version))).toEqual(new Set(['2.0.0']));
    expect([await visitor.isLoggedIn(), await visitor.hasUploads()]).toEqual([true, true]);
    expect(await servers()).toHaveLength(4);
  });

  test('v3 that is not healthy: both are back on v2, and no request fails', async () => {
    const before = { ...(await observed()), servers: await servers() };
    const flowing = traffic();
    const ended = await deploy('v3-bad-health');
    const answers = await flowing.stop();
    expect(`${ended.end}: ${ended.message}`).toMatch(/^rolled back: .*are healthy on app1" on app1 failed/);
    expect(failed(answers)).toEqual([]);
    expect({ ...(await observed()), servers: await servers() }).toEqual(before);
  });

  test('a server that serves is lost in the middle: at most what was under way on it fails, and both are on v2 once it is back', async () => {
    const before = await observed();
    // The build lasts long enough to be lost in its middle.
    const prune = '      - { run: [npm, prune, --omit=dev], timeoutSeconds: 300 }\n';
    here.changeInventory(prune, `${prune}      - { run: [sleep, '20'], timeoutSeconds: 60 }\n`);
    const flowing = traffic();
    const handle = await here.start({ ref: 'v4-irreversible' }, 'deploy');
    await here.untilStep(handle, 'build-app2', 'running');
    // A job whose command had not begun would simply be begun after the reboot.
    await here.shell(`until compgen -G '/var/lib/guardia/jobs/*-build-app2-*/started'; do sleep 0.1; done`, 'app2');
    const lost = Date.now();
    await here.lab.poweroff('app2');
    const gone = Date.now();
    await delay(12_000);
    await here.lab.poweron('app2');
    const ended = await here.ended(handle);
    const answers = await flowing.stop();
    expect(`${ended.end}: ${ended.message}`).toMatch(/^rolled back: .*(vanished|lost|went down)/);
    const inFlight = new Set(underWay(answers, lost, gone));
    expect(failed(answers).filter((answer) => !inFlight.has(answer))).toEqual([]);
    await until('app2 answers', async () => (await observed()).app2 === before.app2, { seconds: 180 });
    expect(await observed()).toEqual(before);
    expect([await visitor.isLoggedIn(), await visitor.hasUploads()]).toEqual([true, true]);
  });

  test('restart-service walks the servers without a failed request', async () => {
    const flowing = traffic();
    const ended = await here.run({ service: 'api' }, 'restart-service');
    expect(`${ended.end}: ${ended.message}`).toMatch(/^succeeded:/);
    expect(failed(await flowing.stop())).toEqual([]);
  });

  test('a server that signs with another secret than the other one is named, and not overwritten', async () => {
    const file = '/opt/proofpass/shared/.env';
    await here.shell(
      `cp -p ${file} /root/env; sed -i 's/^JWT_SECRET=.*/JWT_SECRET=${'0'.repeat(64)}/' ${file}`,
      'app2',
    );
    try {
      const refused = await here.run({ host: 'app2', plan: true }, 'provision-host');
      expect(refused.message).toMatch(
        /app2 holds another value of jwt-secret than the one that the inventory names for all its hosts/,
      );
    } finally {
      await here.shell(`mv /root/env ${file}`, 'app2');
    }
    // And none of the four hosts needs anything, whatever was deployed since.
    const { report } = await here.run({ plan: true }, 'provision-host');
    const { plan } = report as RunReport;
    expect(plan && stepsOf(plan).map(({ lane, step }) => [lane.on, step.title, step.diff])).toEqual([]);
    expect(plan?.notes.filter((note) => /stays as it is|not written|first form/.test(note))).toEqual([]);
  });
});
