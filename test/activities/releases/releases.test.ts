import { afterAll, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { createReleaseActivities } from '../../../activities/releases/release-activities.js';
import { createServiceActivities } from '../../../activities/services/service-activities.js';
import type { ReleaseObservation, ResolvedRef } from '../../../workflows/contracts/release.js';
import { startLabActivities, type LabActivities } from '../lab-activities.js';

jest.setTimeout(240_000);

/** A small application in a git repository on the host itself: what it serves, keeps and builds shows which release runs. */
const REPOSITORY = `set -e
  apt-get -qq update >/dev/null; DEBIAN_FRONTEND=noninteractive apt-get -qq install -y git >/dev/null 2>&1
  useradd --system --create-home --shell /bin/bash shop
  install -d -o shop -g shop /srv/shop /srv/shop/shared /srv/shop/shared/uploads
  printf '# the environment\\nGREETING="hello there"\\nPORT=8080\\n' >/srv/shop/shared/.env
  mkdir /srv/source; cd /srv/source; git init -q -b main .
  git config user.name Lab; git config user.email lab@example.test
  mkdir -p uploads migrations app
  echo keep >uploads/.gitkeep
  echo '#!/bin/bash
    set -e; mkdir -p built; echo "$(cat version) $GREETING $STAGE $SECRET $USER $HOME" >built/result; pwd >built/where; umask >>built/where' >build; chmod 755 build
  echo v1 >version; touch migrations/001_users.up.sql migrations/001_users.down.sql migrations/README
  git add .; git commit -qm 'the first'; git tag v1
  echo v2 >version; touch migrations/002_drop.up.sql
  git add .; git commit -qm 'the second, "quoted"'; git tag -a v2 -m 'version two'
  git branch side v1
  chown -R shop:shop /srv/source
  cat >/etc/systemd/system/shop.service <<'END'
[Service]
User=shop
WorkingDirectory=/srv/shop/current
ExecStart=/bin/sh -c 'test -f version && exec sleep 100000'
Restart=always
RestartSec=100ms
StartLimitIntervalSec=0
END
  cp /etc/systemd/system/shop.service /etc/systemd/system/shop-worker.service
  systemctl daemon-reload`;

const URL = 'file:///srv/source';
const place = { directory: '/srv/shop/current', releases: '/srv/shop/releases', user: 'shop' };
const shared = [
  { path: '.env', target: '/srv/shop/shared/.env' },
  { path: 'uploads', target: '/srv/shop/shared/uploads' },
  { path: 'var/log', target: '/srv/shop/shared' },
];
const services = [{ kind: 'systemd', name: 'shop', unit: 'shop.service' }];
const environment = { files: ['/srv/shop/shared/.env'], values: { STAGE: 'test' }, secrets: {} };
const build = { commands: [{ run: ['./build'], timeoutSeconds: 60 }], environment, timeoutSeconds: 120 };

let here: LabActivities;
let release: ReturnType<LabActivities['calls']>;
let service: ReturnType<LabActivities['calls']>;
let number = 0;
const step = (run = 'run') => ({ run, step: `step-${(number += 1)}` });
const look = async (): Promise<ReleaseObservation> =>
  (await release('observeRelease', { ...place, shared, services })) as ReleaseObservation;
const resolve = async (ref: string, migrations = true): Promise<ResolvedRef> =>
  (await release('resolveRef', {
    url: URL,
    ref,
    user: 'shop',
    releases: place.releases,
    ...(migrations ? { migrations: { directory: 'migrations', up: '.up.sql', down: '.down.sql' } } : {}),
  })) as ResolvedRef;
const fetchArgument = (id: string, commit: string) => ({
  ...place,
  id,
  commit,
  shared,
  source: { kind: 'git', url: URL },
  timeoutSeconds: 60,
});
/** A finished release of a ref. */
async function install(id: string, ref: string): Promise<void> {
  const { commit } = await resolve(ref, false);
  await release('fetchRelease', fetchArgument(id, commit), step());
  await release('buildRelease', { ...place, ...build, id, commit }, step());
}

beforeAll(async () => {
  here = await startLabActivities();
  release = here.calls(createReleaseActivities(here));
  service = here.calls(createServiceActivities(here));
  await here.shell(REPOSITORY);
}, 600_000);
afterAll(() => here?.down());
beforeEach(async () => {
  await here.shell('systemctl stop shop shop-worker; rm -rf /srv/shop/releases /srv/shop/current');
});

describe('a ref', () => {
  test('is resolved to its commit, a tag to what it points to, with the migrations that it brings', async () => {
    const head = (await here.shell('git -c safe.directory=/srv/source -C /srv/source rev-parse main^{commit}')).trim();
    expect(await resolve('main')).toEqual({
      commit: head,
      subject: 'the second, "quoted"',
      migrations: [
        { name: '001_users', reversible: true },
        { name: '002_drop', reversible: false },
      ],
    });
    expect((await resolve('v2')).commit).toBe(head);
    const v1 = await resolve('v1');
    expect(v1.migrations).toEqual([{ name: '001_users', reversible: true }]);
    expect((await resolve(v1.commit)).commit).toBe(v1.commit);
    expect(await here.shell('ls /srv/shop')).toBe('shared\n');
  });

  test('that is not there, or is two things, is refused with its name', async () => {
    await expect(resolve('v9')).rejects.toThrow('file:///srv/source has no branch and no tag v9');
    await here.shell('git -C /srv/source -c safe.directory=/srv/source tag side v2^{commit}');
    await expect(resolve('side')).rejects.toThrow('side is a branch and a tag of file:///srv/source, and they differ');
  });
});

describe('a release', () => {
  test('is fetched, built as the application user with its environment, and named only when it is whole', async () => {
    const { commit } = await resolve('v1', false);
    const fetching = step();
    await release('fetchRelease', fetchArgument('r1', commit), fetching);
    await release('fetchRelease', fetchArgument('r1', commit), fetching);
    expect(await look()).toMatchObject({ releases: [], partial: ['r1.partial'], current: null, link: null });
    expect(await here.shell('cd /srv/shop/releases/r1.partial; readlink .env uploads var/log; cat version')).toBe(
      '/srv/shop/shared/.env\n/srv/shop/shared/uploads\n/srv/shop/shared\nv1\n',
    );
    await release('buildRelease', { ...place, ...build, id: 'r1', commit }, step());
    expect(await look()).toMatchObject({
      releases: [{ id: 'r1', commit }],
      partial: [],
      missing: [],
      userMissing: false,
    });
    expect(await here.shell('cd /srv/shop/releases/r1; cat built/result built/where; stat -c %U . built version')).toBe(
      'v1 hello there test  shop /home/shop\n/srv/shop/releases/r1.partial\n0022\nshop\nshop\nshop\n',
    );
  });

  test('whose build fails leaves its words, and after the undo nothing', async () => {
    const { commit } = await resolve('v1', false);
    const fetching = step();
    await release('fetchRelease', fetchArgument('r2', commit), fetching);
    const failing = { ...build, commands: [{ run: ['bash', '-c', 'echo broken >&2; exit 7'], timeoutSeconds: 60 }] };
    const building = step();
    await expect(release('buildRelease', { ...place, ...failing, id: 'r2', commit }, building)).rejects.toMatchObject({
      type: 'JobFailed',
      message: expect.stringContaining('`bash -c echo broken >&2; exit 7` ended with code 7'),
    });
    expect((await look()).releases).toEqual([]);
    // The way back of migrations failed meanwhile, and only this release knows it.
    await here.shell('mkdir -p /srv/shop/releases/r2; touch /srv/shop/releases/r2/.guardia-needed');
    await expect(release('discardRelease', { ...place, id: 'r2' }, building)).rejects.toMatchObject({
      type: 'ThirdState',
      message: expect.stringMatching(
        /the release r2 is still needed: .*, remove \/srv\/shop\/releases\/r2\/.guardia-needed and try again$/,
      ),
    });
    await here.shell('rm -r /srv/shop/releases/r2');
    for (const at of [building, building, fetching, fetching])
      await release('discardRelease', { ...place, id: 'r2' }, at);
    expect(await here.shell('ls -A /srv/shop')).toBe('shared\n');
  });

  test('that builds for too long is stopped and says so', async () => {
    const { commit } = await resolve('v1', false);
    await release('fetchRelease', fetchArgument('r3', commit), step());
    const slow = { ...build, commands: [{ run: ['sleep', '60'], timeoutSeconds: 1 }] };
    await expect(release('buildRelease', { ...place, ...slow, id: 'r3', commit }, step())).rejects.toThrow(
      '`sleep 60` did not end within 1 s',
    );
  });

  test('without room for it says that, and its undo gives the room back', async () => {
    await here.shell(
      'mkdir -p /srv/shop/releases; mount -t tmpfs -o size=2m tmpfs /srv/shop/releases; chown shop: /srv/shop/releases',
    );
    try {
      const { commit } = await resolve('v1', false);
      const fetching = step();
      await release('fetchRelease', fetchArgument('r4', commit), fetching);
      const greedy = {
        ...build,
        commands: [{ run: ['dd', 'if=/dev/zero', 'of=big', 'bs=1M', 'count=9'], timeoutSeconds: 60 }],
      };
      await expect(release('buildRelease', { ...place, ...greedy, id: 'r4', commit }, step())).rejects.toThrow(
        /no space left in \/srv\/shop\/releases \(\d+ KiB and \d+ inodes free\): `dd .*` ended with code 1/,
      );
      await release('discardRelease', { ...place, id: 'r4' }, fetching);
      expect((await here.shell('ls -A /srv/shop/releases')).trim()).toBe('');
    } finally {
      await here.shell('umount /srv/shop/releases');
    }
  });

  test('whose shared data is missing is not fetched, and the observation names it', async () => {
    const { commit } = await resolve('v1', false);
    const gone = [{ path: 'x', target: '/srv/shop/shared/gone' }];
    await expect(release('fetchRelease', { ...fetchArgument('r5', commit), shared: gone }, step())).rejects.toThrow(
      'shared data is not there: /srv/shop/shared/gone',
    );
    expect(await release('observeRelease', { ...place, shared: gone, services })).toMatchObject({
      missing: ['/srv/shop/shared/gone'],
    });
  });

  test('runs a preflight that gets its secrets by no argument and by no file', async () => {
    await install('r6', 'v1');
    writeFileSync(path.join(here.lab.secretsDirectory, 'token'), 'planted-0123456789\n', { mode: 0o600 });
    const environment = {
      files: ['/srv/shop/shared/.env'],
      values: { STAGE: 'test' },
      secrets: { TOKEN: 'file:token' },
    };
    const command = {
      run: [
        'bash',
        '-c',
        // The command must not say itself what it is not to say; a process may end while the list is read.
        'test "$STAGE $GREETING $TOKEN" = "test hello there $(cat /srv/shop/expected)" && { cat /proc/[0-9]*/cmdline >seen 2>/dev/null; test -s seen; }',
      ],
      in: 'app',
      timeoutSeconds: 30,
    };
    await here.shell('install -d -o shop /srv/shop/releases/r6/app; echo planted-0123456789 >/srv/shop/expected');
    expect(
      await release('runInRelease', { ...place, id: 'r6', command, environment, timeoutSeconds: 60 }, step()),
    ).toMatchObject({
      summary: expect.stringMatching(/^passed in/),
    });
    const where = '/srv/shop/releases/r6/app/seen /var/lib/guardia /dev/shm';
    expect(await here.shell(`test -s /srv/shop/releases/r6/app/seen && ! grep -rla planted- ${where}`)).toBe('');
    const failing = { ...command, run: ['false'] };
    await expect(
      release('runInRelease', { ...place, id: 'r6', command: failing, environment, timeoutSeconds: 60 }, step()),
    ).rejects.toThrow('`false` ended with code 1');
  });
});

describe('the link', () => {
  const to = (id: string | null, from: string | null) => ({
    directory: place.directory,
    releases: place.releases,
    from,
    to: id,
  });

  test('goes to a first release and is gone after the undo; to a next one and back', async () => {
    await install('r1', 'v1');
    await install('r2', 'v2');
    const first = step();
    await release('switchRelease', to('r1', null), first);
    await release('switchRelease', to('r1', null), first);
    expect(await look()).toMatchObject({ link: '/srv/shop/releases/r1', current: 'r1' });
    await here.shell('chown -h games:games /srv/shop/current');
    const second = step();
    await release('switchRelease', to('r2', 'r1'), second);
    expect((await look()).current).toBe('r2');
    for (const _ of [1, 2]) await release('switchBack', to('r2', 'r1'), second);
    expect((await look()).current).toBe('r1');
    expect(await here.shell('stat -c %U:%G /srv/shop/current')).toBe('games:games\n');
    await release('switchBack', to('r2', 'r1'), step()); // a step that never began
    expect((await look()).current).toBe('r1');
    for (const _ of [1, 2]) await release('switchBack', to('r1', null), first);
    expect((await look()).link).toBeNull();
  });

  test('that somebody else moved, or that is no link, is left alone', async () => {
    await install('r1', 'v1');
    await install('r2', 'v2');
    await install('r3', 'v2');
    await release('switchRelease', to('r1', null), step());
    const second = step();
    await release('switchRelease', to('r2', 'r1'), second);
    await here.shell('ln -sfn /srv/shop/releases/r3 /srv/shop/current');
    for (const name of ['switchRelease', 'switchBack'])
      await expect(release(name, to('r2', 'r1'), second)).rejects.toMatchObject({
        type: 'ThirdState',
        message: expect.stringContaining('/srv/shop/current points to /srv/shop/releases/r3, not to'),
      });
    await expect(release('discardRelease', { ...place, id: 'r3' }, step())).rejects.toThrow(
      'the release r3: it is in use',
    );
    await here.shell('rm /srv/shop/current; mkdir /srv/shop/current');
    await expect(release('switchRelease', to('r2', 'r1'), step())).rejects.toThrow('/srv/shop/current is no link');
    expect(await look()).toMatchObject({ linkIsOther: true, link: null });
  });
});

test('pruning keeps the newest, the current one, what is named, what migrations need, what was taken over and what guardia did not make; leftovers of runs go', async () => {
  for (const id of ['20260100', '20260101', '20260102', '20260103', '20260104', '20260105', '20260106'])
    await install(id, 'v1');
  await here.shell(`ln -s /srv/shop/releases/20260102 /srv/shop/current
    touch /srv/shop/releases/20260100/.guardia-needed
    mkdir /srv/shop/releases/{by-hand,20251231,20260107.partial}
    echo '{"commit":"0f1e2d3c","adopted":true}' >/srv/shop/releases/20251231/.guardia-release.json`);
  const argument = { directory: place.directory, releases: place.releases, keep: 2, protect: ['20260103'] };
  const { removed } = await release('pruneReleases', argument, step());
  expect(removed).toEqual(['20260107.partial', '20260104', '20260101']);
  expect((await look()).releases.map(({ id }) => id)).toEqual([
    '20251231',
    '20260100',
    '20260102',
    '20260103',
    '20260105',
    '20260106',
    'by-hand',
  ]);
  expect(await release('pruneReleases', argument, step())).toMatchObject({ removed: [] });
});

describe('services', () => {
  const two = [...services, { kind: 'systemd', name: 'worker', unit: 'shop-worker.service' }];
  const states = async () => {
    const { services: now } = (await service('observeServices', { services: two })) as {
      services: Record<string, { state: string }>;
    };
    return Object.values(now).map(({ state }) => state);
  };
  beforeEach(async () => {
    await install('r1', 'v1');
    await here.shell('ln -s /srv/shop/releases/r1 /srv/shop/current');
  });

  test('are stopped in reverse and started in order, and the undo brings back what ran', async () => {
    await here.shell('systemctl start shop');
    const stopping = step();
    for (const _ of [1, 2]) await service('stopServices', { services: two }, stopping);
    expect(await states()).toEqual(['stopped', 'stopped']);
    const starting = step();
    for (const _ of [1, 2]) await service('startServices', { services: two }, starting);
    expect(await states()).toEqual(['running', 'running']);
    for (const _ of [1, 2]) await service('restoreServices', { services: two, step: 'start' }, starting);
    expect(await states()).toEqual(['stopped', 'stopped']);
    for (const _ of [1, 2]) await service('restoreServices', { services: two, step: 'stop' }, stopping);
    expect(await states()).toEqual(['running', 'stopped']);
    await service('restoreServices', { services: two }, step());
    expect(await states()).toEqual(['running', 'stopped']);
  });

  test('that a boot has started between stop and start are of the old release: they are started anew, there and back', async () => {
    await here.shell('systemctl start shop shop-worker');
    const id = () => here.shell('systemctl show --value --property=InvocationID shop shop-worker');
    const [stopping, starting] = [step(), step()];
    await service('stopServices', { services: two }, stopping);
    await here.shell('systemctl start shop shop-worker');
    const booted = await id();
    await service('startServices', { services: two }, starting);
    const started = await id();
    expect(started.split('\n').filter((one) => one !== '' && booted.includes(one))).toEqual([]);
    await service('startServices', { services: two }, starting);
    expect(await id()).toBe(started);
    await service('restoreServices', { services: two, step: 'start' }, starting);
    expect(await states()).toEqual(['stopped', 'stopped']);
    await here.shell('systemctl start shop shop-worker');
    const bootedAgain = await id();
    await service('restoreServices', { services: two, step: 'stop' }, stopping);
    expect(await states()).toEqual(['running', 'running']);
    expect((await id()).split('\n').filter((one) => one !== '' && bootedAgain.includes(one))).toEqual([]);
  });

  test('are restarted once for a step, however often it is tried', async () => {
    await here.shell('systemctl start shop shop-worker');
    const id = () => here.shell('systemctl show --value --property=InvocationID shop shop-worker');
    const before = await id();
    const restarting = step();
    await service('restartServices', { services: two }, restarting);
    const after = await id();
    expect(after).not.toBe(before);
    await service('restartServices', { services: two }, restarting);
    expect(await id()).toBe(after);
  });

  test('that do not exist or do not start are named', async () => {
    const absent = [{ kind: 'systemd', name: 'nothing', unit: 'nothing.service' }];
    await expect(service('stopServices', { services: absent }, step())).rejects.toThrow(
      'app has no nothing. Run provision-host',
    );
    await here.shell('rm /srv/shop/current');
    await expect(service('startServices', { services }, step())).rejects.toThrow(
      /shop (could not be started|is \w+ after its start)/,
    );
  });
});
