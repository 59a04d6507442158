import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createAccountActivities } from '../../activities/accounts/account-activities.js';
import { createAdoptionActivities } from '../../activities/adoption/adoption-activities.js';
import { createComposeActivities } from '../../activities/compose/compose-activities.js';
import { createFileActivities } from '../../activities/files/file-activities.js';
import { createFirewallActivities } from '../../activities/firewall/firewall-activities.js';
import { createPackageActivities } from '../../activities/packages/package-activities.js';
import { createClusterActivities } from '../../activities/postgres/cluster-activities.js';
import { createProvisionActivities } from '../../activities/provision/provision-activities.js';
import { createSecretFileActivities } from '../../activities/secret-files/secret-file-activities.js';
import { createSshdActivities } from '../../activities/sshd/sshd-activities.js';
import { createSysctlActivities, observeKernel } from '../../activities/sysctl/sysctl-activities.js';
import { inventoryLocations } from '../../activities/inventory/locations.js';
import { loadSystem } from '../../activities/inventory/load.js';
import { readSources } from '../../activities/inventory/sources.js';
import { haproxyConfiguration } from '../../workflows/provision-host/haproxy.js';
import { fill } from '../../workflows/provision-host/template.js';
import { publishedPortRules } from '../../workflows/provision-host/firewall.js';
import { spelled } from '../../workflows/contracts/network.js';
import { ruleText, type FirewallRule } from '../../workflows/contracts/provision.js';
import { startLabActivities, type LabActivities } from '../activities/lab-activities.js';

jest.setTimeout(300_000);

/** What provisioning does to a host, each act by itself: done, done twice, undone, undone twice, and what must not happen. */
describe('on a host', () => {
  let here: LabActivities;
  let does: ReturnType<LabActivities['calls']>;
  let number = 0;
  const step = () => ({ step: `step-${(number += 1)}` });

  beforeAll(async () => {
    here = await startLabActivities([{ name: 'app', images: true }, { name: 'peer' }]);
    does = here.calls({
      ...createPackageActivities(here),
      ...createAccountActivities(here),
      ...createAdoptionActivities(here),
      ...createSysctlActivities(here),
      ...createFirewallActivities(here),
      ...createSshdActivities(here),
      ...createFileActivities(here),
      ...createSecretFileActivities(here),
      ...createClusterActivities(here),
      ...createComposeActivities(here),
      ...createProvisionActivities(here),
    });
    await here.shell('systemctl start docker.service postgresql@15-main.service');
  });
  afterAll(() => here?.down());

  const packages = () => here.shell("dpkg-query -W -f '${Package} ${db:Status-Abbrev}\\n' | sort");

  test('packages are added, and purged again with what came along', async () => {
    const before = await packages();
    const at = step();
    const install = () => does('installPackages', { packages: ['lsof', 'ufw'], timeoutSeconds: 300 }, at);
    expect(await install()).toMatchObject({ summary: expect.stringMatching(/^\d+ package\(s\) added/) });
    await install();
    expect(await packages()).toMatch(/^lsof ii $/m);
    await does('removePackages', {}, at);
    await does('removePackages', {}, at);
    expect(await packages()).toBe(before);
  });

  test('of alternatives any that is installed will do, else the first that apt can install is; what no source has is named', async () => {
    // Of NodeSource's kind: npm is in it, and it stands against Debian's.
    const names = ['nodejs', 'npm', 'no-such-package | lsof', 'no-such-package | curl'];
    const look = (packages: string[]) => does('observeProvision', { ...nothing, packages });
    expect(await look([...names, 'no-such-package | neither', 'curl=1'])).toMatchObject({
      unavailable: ['no-such-package | neither', 'curl=1'],
    });
    const [before, at] = [await packages(), step()];
    await does('installPackages', { packages: names, timeoutSeconds: 300 }, at);
    const now = await look(names);
    expect(now).toMatchObject({ packages: { lsof: expect.any(String), npm: expect.stringMatching(/^20/) } });
    expect(now).not.toHaveProperty('unavailable');
    await does('removePackages', {}, at);
    expect(await packages()).toBe(before);
  });

  describe('while another apt or dpkg is at work', () => {
    /** A lock of the kind that they take, until `/run/held` is removed. */
    const hold = async (file: string) => {
      const holding = here.shell(
        `perl -MFcntl -e 'open my $f, "+>>", shift or die; my $lock = pack "s s x4 q q i x4", F_WRLCK, 0, 0, 0, 0; fcntl $f, F_SETLK, $lock or die; open my $g, ">", "/run/held"; select undef, undef, undef, 0.1 while -e "/run/held"' ${file}`,
      );
      await here.shell('until [ -e /run/held ]; do sleep 0.05; done');
      return { release: () => Promise.all([here.shell('rm /run/held'), holding]) };
    };
    /** What is true of the host while it waits. */
    const whileHeld = async (file: string, act: () => Promise<unknown>, look = 'true'): Promise<string> => {
      const { release } = await hold(file);
      const acting = act();
      try {
        return await Promise.race([here.shell(`sleep 4; ${look}`), acting.then(() => 'it did not wait')]);
      } finally {
        await release();
        await acting;
      }
    };
    const [archives, dpkg] = ['/var/cache/apt/archives/lock', '/var/lib/dpkg/lock-frontend'];

    test.each(['/var/lib/apt/lists/lock', archives, dpkg])('and holds %s, it is waited for', async (file) => {
      const [before, at] = [await packages(), step()];
      const install = () => does('installPackages', { packages: ['lsof'], timeoutSeconds: 300 }, at);
      expect(await whileHeld(file, install)).toBe('');
      expect(await packages()).toMatch(/^lsof ii $/m);
      if (file.includes('lists')) await does('removePackages', {}, at);
      else expect(await whileHeld(file, () => does('removePackages', {}, at))).toBe('');
      expect(await packages()).toBe(before);
    });

    test('the rules in the kernel stay as long as their package does', async () => {
      const [before, at] = [await packages(), step()];
      await does('installPackages', { packages: ['ufw'], timeoutSeconds: 300 }, at);
      await here.shell('iptables -N ufw-trial');
      const rules = 'iptables -S | grep ufw-trial';
      expect(await whileHeld(archives, () => does('removePackages', {}, at), rules)).toBe('-N ufw-trial\n');
      expect(await here.shell(`${rules}; true`)).toBe('');
      expect(await packages()).toBe(before);
    });

    test('an installation that waits ends when its undo begins', async () => {
      const [before, at] = [await packages(), step()];
      const { release } = await hold(archives);
      const install = does('installPackages', { packages: ['lsof'], timeoutSeconds: 300 }, at);
      const ended = expect(install).rejects.toMatchObject({ type: 'JobCancelled' });
      await here.shell(
        `until grep -q 'Could not get lock' /var/lib/guardia/jobs/run-${at.step}-g1/stderr; do sleep 0.1; done`,
      );
      await does('removePackages', {}, at);
      await Promise.all([ended, release()]);
      expect(await packages()).toBe(before);
    });
  });

  test('an installation that is stopped amid unpacking a package is taken back', async () => {
    const [before, at] = [await packages(), step()];
    const install = does('installPackages', { packages: ['prometheus-alertmanager'], timeoutSeconds: 300 }, at);
    const ended = expect(install).rejects.toMatchObject({ type: 'JobCancelled' });
    const state = "dpkg-query -W -f '${db:Status-Abbrev}' prometheus-alertmanager 2>&1";
    await here.shell(`until ${state} | grep -q H; do :; done; pkill -STOP -x dpkg; ${state}`);
    await does('removePackages', {}, at);
    await ended;
    expect(await packages()).toBe(before);
  });

  test('configuration that a removed package has left stays', async () => {
    await here.shell(`
      apt-get -q -y --no-install-recommends install rsync; echo '# ours' >>/etc/default/rsync
      apt-get -q -y remove rsync`);
    const [before, at] = [await packages(), step()];
    expect(before).toMatch(/^rsync rc $/m);
    await does('installPackages', { packages: ['rsync', 'lsof'], timeoutSeconds: 300 }, at);
    for (let twice = 0; twice < 2; twice++) await does('removePackages', {}, at);
    expect(await packages()).toBe(before);
    expect(await here.shell('tail -n 1 /etc/default/rsync')).toBe('# ours\n');
    await here.shell('apt-get -q -y purge rsync');
  });

  test('certificates that were there before certbot outlive its purge', async () => {
    await here.shell(
      'install -d /etc/letsencrypt/live/here; echo certificate >/etc/letsencrypt/live/here/fullchain.pem',
    );
    const [before, at] = [await packages(), step()];
    await does('installPackages', { packages: ['certbot'], timeoutSeconds: 300 }, at);
    for (let twice = 0; twice < 2; twice++) await does('removePackages', {}, at);
    expect(await packages()).toBe(before);
    expect(await here.shell('find /etc/letsencrypt* -type f | xargs grep .')).toBe('certificate\n');
  });

  test('a user is made with its home and taken away again; one that was there keeps what it had', async () => {
    const state = () =>
      here.shell('getent passwd trial; getent group trial; id -Gn backup; ls -d /home/trial 2>&1; true');
    const before = await state();
    const [made, joined] = [step(), step()];
    const account = { name: 'trial', home: '/home/trial', shell: '/bin/bash', groups: ['adm'] };
    for (let twice = 0; twice < 2; twice++) {
      await does('makeAccount', account, made);
      await does('makeAccount', { ...account, name: 'backup', groups: ['adm'] }, joined);
    }
    expect(await here.shell('id -Gn trial; id -Gn backup; stat -c %U /home/trial')).toBe(
      'trial adm\nbackup adm\ntrial\n',
    );
    for (let twice = 0; twice < 2; twice++) {
      await does('restoreAccount', { name: 'backup' }, joined);
      await does('restoreAccount', { name: 'trial' }, made);
    }
    expect(await state()).toBe(before);
  });

  describe('the firewall', () => {
    const rules: FirewallRule[] = [
      { port: 22, protocol: 'tcp', from: 'any', comment: 'guardia: ssh' },
      { port: 8081, protocol: 'tcp', from: '192.0.2.0/24', comment: 'guardia: elsewhere' },
      { port: 8082, protocol: 'tcp', from: 'any', comment: 'guardia: open' },
    ];
    const wanted = { rules, publishedPorts: { v4: publishedPortRules(rules, 4), v6: publishedPortRules(rules, 6) } };
    const state = () =>
      here.shell(
        'sha256sum /etc/ufw/*.rules /etc/ufw/ufw.conf /etc/default/ufw; ufw status verbose; iptables -S DOCKER-USER; for family in iptables ip6tables; do $family -S FORWARD | head -1; done; ls /var/lib/guardia/dead-man /etc/systemd/system/guardia-dead-man.service 2>&1; systemctl is-active guardia-dead-man.timer; true',
      );
    beforeAll(() => does('installPackages', { packages: ['ufw'], timeoutSeconds: 300 }, step()));
    const reaches = async (port: number): Promise<boolean> => {
      const { exitCode } = await here.lab.exec('peer', [
        'timeout',
        '3',
        'bash',
        '-c',
        `exec 3<>/dev/tcp/${here.lab.hosts['app']?.address}/${port}`,
      ]);
      return exitCode === 0;
    };

    test('that would cut SSH is taken back by the host itself', async () => {
      const before = await state();
      // As Docker leaves it.
      expect(before).toMatch(/^-P FORWARD DROP$/m);
      const at = step();
      const cut = rules.filter(({ port }) => port !== 22);
      await expect(
        does('setFirewall', { rules: cut, publishedPorts: wanted.publishedPorts, seconds: 8 }, at),
      ).rejects.toMatchObject({
        type: 'AccessLost',
        message: expect.stringMatching(
          /^the firewall on app cut the login off .* the host has put the old state back by itself\. /,
        ),
      });
      expect(await state()).toBe(before);
      expect((await here.lab.ssh('app', ['true'])).exitCode).toBe(0);
      await does('restoreFirewall', {}, at);
      expect(await state()).toBe(before);
    });

    test('lets in the flows and nothing else, for published ports of containers as well, and is as it was after the undo', async () => {
      await here.shell(`
        for port in 8081 8082 8083; do
          docker run -d --name web$port -p $port:9100 prom/node-exporter:latest >/dev/null
        done`);
      await here.shell(
        'for i in $(seq 50); do curl -sf -o /dev/null http://127.0.0.1:8083/ && exit; sleep 0.2; done; exit 1',
      );
      expect([await reaches(8081), await reaches(8082), await reaches(8083)]).toEqual([true, true, true]);
      const before = await state();
      const at = step();
      await does('setFirewall', wanted, at);
      await does('setFirewall', wanted, at);
      expect([await reaches(22), await reaches(8082), await reaches(8081), await reaches(8083)]).toEqual([
        true,
        true,
        false,
        false,
      ]);
      expect(await here.shell('ufw show added; ip6tables -S DOCKER-USER')).toContain(
        "ufw allow from 192.0.2.0/24 to any port 8081 proto tcp comment 'guardia: elsewhere'",
      );
      // A container still reaches the world, and the host its containers.
      await here.shell('curl -sf -o /dev/null http://127.0.0.1:8083/');
      const { firewall } = await does('observeProvision', { ...nothing, firewall: true });
      expect(firewall).toMatchObject({
        installed: true,
        active: true,
        closed: true,
        publishedPorts: wanted.publishedPorts,
        networks: [`${here.lab.hosts['app']?.address}/24`],
      });

      await here.shell('ufw allow 9999/tcp');
      await expect(does('restoreFirewall', {}, at)).rejects.toMatchObject({
        type: 'ThirdState',
        message: expect.stringContaining('allow 9999/tcp'),
      });
      await here.shell('ufw delete allow 9999/tcp');
      await does('restoreFirewall', {}, at);
      await does('restoreFirewall', {}, at);
      expect(await state()).toBe(before);
      expect([await reaches(8081), await reaches(8083)]).toEqual([true, true]);
      await here.shell('docker rm -f web8081 web8082 web8083');
    });

    test('takes over rules that were made by hand for the same flows, and nobody notices', async () => {
      await here.shell(
        'for rule in "route allow in on eth0 out on docker0 to any port 8083 proto tcp" "allow 22/tcp" "limit 8082/tcp" "allow 8083/tcp" "allow from 192.0.2.0/24 to any port 8081 proto tcp"; do ufw $rule; done; ufw --force enable',
      );
      const before = await state();
      const at = step();
      await does('setFirewall', wanted, at);
      const added = await here.shell('ufw show added');
      expect(added.trim().split('\n').slice(1).sort()).toEqual([
        "ufw allow 22/tcp comment 'guardia: ssh'",
        "ufw allow 8082/tcp comment 'guardia: open'",
        "ufw allow from 192.0.2.0/24 to any port 8081 proto tcp comment 'guardia: elsewhere'",
      ]);
      await does('restoreFirewall', {}, at);
      expect(await state()).toBe(before);
      await here.shell('ufw --force reset; rm -f /etc/ufw/*.rules.2*');
    });

    test('gives ufw addresses that it does not spell in another way, and tells interfaces that pass for bridges of Docker', async () => {
      await here.shell(
        'ip link add br-lan type bridge; ip addr add 198.51.100.1/24 dev br-lan; ip link set br-lan up; docker network create trial; docker network create -o com.docker.network.bridge.name=br-named --subnet 198.51.101.0/24 named',
      );
      const from = ['192.168.1.10/24', '10.0.0.1/32', '2001:DB8::0:5', '2001:db8:1:2:3:4:5:6/32', '::ffff:192.0.2.1'];
      for (const one of from)
        await here.shell(`ufw allow from ${spelled(one)} to any port 8090 proto tcp comment 'mine'`);
      const { firewall } = await does('observeProvision', { ...nothing, firewall: true });
      await here.shell(
        'ufw --force reset; rm -f /etc/ufw/*.rules.2*; ip link del br-lan; docker network rm trial named >/dev/null',
      );
      expect(firewall).toMatchObject({
        bridges: expect.arrayContaining(['br-lan', 'br-named']),
        // Behind br-named are containers only.
        networks: [`${here.lab.hosts['app']?.address}/24`, '198.51.100.1/24'],
        rules: from.map((one) => ruleText({ port: 8090, protocol: 'tcp', from: spelled(one), comment: 'mine' })),
      });
    });

    test('is looked at before there is ufw: what would pass for bridges of Docker once it is installed', async () => {
      await here.shell('ip link add br-lan type bridge; ip addr add 198.51.100.1/24 dev br-lan', 'peer');
      const { firewall } = await does('observeProvision', { ...nothing, firewall: true }, { on: 'peer' });
      await here.shell('ip link del br-lan', 'peer');
      expect(firewall).toMatchObject({
        installed: false,
        bridges: ['br-lan'],
        networks: [`${here.lab.hosts['peer']?.address}/24`, '198.51.100.1/24'],
      });
    });

    test('is put back after a power cut in the moment before the confirmation', async () => {
      const before = await here.shell('sha256sum /etc/ufw/*.rules /etc/ufw/ufw.conf');
      const cut = rules.filter(({ port }) => port !== 22);
      const trying = does('setFirewall', { rules: cut, publishedPorts: null, seconds: 120 }, step()).catch(
        () => 'failed',
      );
      await here.shell(
        'for i in $(seq 100); do ufw status | grep -q "^Status: active" && exit; sleep 0.1; done; exit 1',
      );
      await here.lab.poweroff('app');
      await here.lab.poweron('app');
      expect(await trying).toBe('failed');
      expect(
        await here.shell(
          'sha256sum /etc/ufw/*.rules /etc/ufw/ufw.conf; ls /etc/systemd/system/guardia-dead-man.service 2>&1; true',
        ),
      ).toContain(before);
      await here.shell('systemctl start docker.service postgresql@15-main.service');
    });
  });

  describe('sshd', () => {
    const drop = '/etc/ssh/sshd_config.d/10-guardia.conf';
    const state = () =>
      here.shell(`sshd -T | sort | sha256sum; ls ${drop} /etc/systemd/system/guardia-dead-man.service 2>&1; true`);

    test.each([
      ['AllowUsers', 'somebody', /AllowUsers somebody, and the worker logs in as guardia/],
      ['PubkeyAuthentication', 'no', /PubkeyAuthentication no/],
      ['Port', '2222', /Port 2222, and the worker connects to 22/],
      ['DenyGroups', 'guardia', /DenyGroups names a group of guardia/],
      ['NoSuchKeyword', 'yes', /does not take these options/],
    ])('is left as it is where %s %s would cut the login or is wrong', async (keyword, value, why) => {
      const before = await state();
      await expect(
        does('setSshd', { path: drop, options: { [keyword]: value }, jump: false }, step()),
      ).rejects.toMatchObject({
        type: 'AccessAtRisk',
        message: expect.stringMatching(why),
      });
      expect(await state()).toBe(before);
    });

    test('that nobody could foresee to cut the login is taken back by the host itself', async () => {
      const before = await state();
      const at = step();
      await expect(
        does(
          'setSshd',
          { path: drop, options: { PubkeyAcceptedAlgorithms: 'ecdsa-sha2-nistp521' }, jump: false, seconds: 8 },
          at,
        ),
      ).rejects.toMatchObject({ type: 'AccessLost' });
      expect(await state()).toBe(before);
      expect((await here.lab.ssh('app', ['true'])).exitCode).toBe(0);
      await does('restoreSshd', { path: drop }, at);
      expect(await state()).toBe(before);
    });

    test('tells what it would read before the drop-in, before there is that and with it', async () => {
      const options = { PermitRootLogin: 'no', X11Forwarding: 'no' };
      const seen = async () => {
        const nothing = { packages: [], accounts: [], files: [], units: [], secretFiles: [], compose: [] };
        const { sshd } = await does('observeProvision', { ...nothing, firewall: false, sshd: { path: drop, options } });
        return (sshd as { overridden?: unknown }).overridden;
      };
      const first = '/etc/ssh/sshd_config.d/00-image.conf';
      expect(await seen()).toBeUndefined();
      await here.shell(`printf '# of the image\nPermitRootLogin yes\n' >${first}`);
      const lost = [{ keyword: 'PermitRootLogin', value: 'yes', place: `${first}:2` }];
      expect(await seen()).toEqual(lost);
      await here.shell(`printf 'PermitRootLogin no\nX11Forwarding no\n' >${drop}`);
      expect(await seen()).toEqual(lost);
      // What says the same takes nothing away, and what comes later neither.
      await here.shell(`sed -i 's/yes/no/' ${first}; echo 'X11Forwarding yes' >/etc/ssh/sshd_config.d/90-late.conf`);
      expect(await seen()).toBeUndefined();
      await here.shell(`rm ${drop} ${first} /etc/ssh/sshd_config.d/90-late.conf
        cp -p /etc/ssh/sshd_config /root/; sed -i '1i PermitRootLogin without-password' /etc/ssh/sshd_config`);
      expect(await seen()).toEqual([
        { keyword: 'PermitRootLogin', value: 'without-password', place: '/etc/ssh/sshd_config:1' },
      ]);
      await here.shell(`sed -i -e 1d -e '/^Include/d' /etc/ssh/sshd_config`);
      expect(await seen()).toEqual([
        expect.objectContaining({ keyword: 'PermitRootLogin' }),
        expect.objectContaining({ keyword: 'X11Forwarding' }),
      ]);
      await here.shell('mv /root/sshd_config /etc/ssh/sshd_config');
    });

    test('is not taken for hardened where a Match block undoes it, for the worker or for root', async () => {
      const options = { PermitRootLogin: 'no', X11Forwarding: 'no' };
      const late = '/etc/ssh/sshd_config.d/90-late.conf';
      const [before, at] = [await state(), step()];
      // What is read after the drop-in does nothing, before the drop-in is there as well.
      await here.shell(`cp -p /etc/ssh/sshd_config /root/; echo 'X11Forwarding yes' >${late}
        printf 'Match User nobody\n X11Forwarding yes\nMatch User guardia\n X11Forwarding yes\nMatch User root\n PermitRootLogin yes\n' >>/etc/ssh/sshd_config`);
      const end = Number(await here.shell('wc -l </etc/ssh/sshd_config'));
      const [main, places] = ['/etc/ssh/sshd_config', (n: number) => `/etc/ssh/sshd_config:${n}`];
      const lost = [
        { keyword: 'X11Forwarding', value: 'yes', place: `${places(end - 4)} or ${places(end - 2)}` },
        { keyword: 'PermitRootLogin', value: 'yes', user: 'root', place: places(end) },
      ];
      const { sshd } = await does('observeProvision', { ...nothing, sshd: { path: drop, options } });
      expect(sshd).toMatchObject({ overridden: lost });
      await expect(does('setSshd', { path: drop, options, jump: false }, at)).rejects.toMatchObject({
        type: 'VerificationFailed',
        message: expect.stringContaining(
          `has no effect on X11Forwarding yes (${lost[0]?.place}), PermitRootLogin yes for root (${lost[1]?.place})`,
        ),
      });
      await here.shell(`mv /root/sshd_config ${main}; rm ${late}`);
      await does('restoreSshd', { path: drop }, at);
      expect(await state()).toBe(before);
    });

    test('takes keys of the host and a port from the inventory, though they add up with those that there are', async () => {
      const before = await state();
      expect((await here.shell('sshd -T | grep ^hostkey')).split('\n').length).toBeGreaterThan(2);
      const at = step();
      const key = '/etc/ssh/ssh_host_ed25519_key';
      const options = { HostKey: key, Port: '22' };
      const { sshd } = await does('observeProvision', { ...nothing, sshd: { path: drop, options } });
      expect(sshd).not.toHaveProperty('overridden');
      await does('setSshd', { path: drop, options, jump: false }, at);
      expect(await here.shell('sshd -T | grep -E "^(hostkey|port) "')).toBe(`port 22\nhostkey ${key}\n`);
      await does('restoreSshd', { path: drop }, at);
      expect(await state()).toBe(before);
    });

    test('is hardened, seen by sshd itself, and as it was after the undo', async () => {
      const before = await state();
      const at = step();
      const argument = { path: drop, options: { PermitRootLogin: 'no', X11Forwarding: 'no' }, jump: false };
      await does('setSshd', argument, at);
      await does('setSshd', argument, at);
      expect(await here.shell('sshd -T | grep -E "^(permitrootlogin|x11forwarding) "')).toBe(
        'permitrootlogin no\nx11forwarding no\n',
      );
      await does('restoreSshd', { path: drop }, at);
      await does('restoreSshd', { path: drop }, at);
      expect(await state()).toBe(before);
    });
  });

  test.each([
    ['restoreFirewall', {}],
    ['restoreSshd', { path: '/etc/ssh/sshd_config.d/10-guardia.conf' }],
  ])('%s settles a switch that a lost attempt has left armed, before it puts anything back', async (undo, argument) => {
    const script = readFileSync('activities/hosts/dead-man.sh', 'utf8');
    const armed = ['arm', '/var/lib/guardia/dead-man', '600', 'touch /run/fired'];
    await here.hosts.run(here.target(), {
      argv: ['/bin/bash', '-c', script, 'dead-man', ...armed],
      stdin: Buffer.alloc(10_240), // an empty archive
    });
    await does(undo, argument, step());
    expect(
      await here.shell(
        'ls -d /run/fired /var/lib/guardia/dead-man /etc/systemd/system/guardia-dead-man.service 2>/dev/null; systemctl is-active guardia-dead-man.timer; rm -f /run/fired',
      ),
    ).toBe('/run/fired\ninactive\n');
  });

  describe('secrets', () => {
    const file = '/etc/trial.env';
    const secret = (name: string, more: Record<string, unknown> = {}) => ({
      name,
      kind: 'hex',
      length: 64,
      on: [{ file, key: name.toUpperCase(), form: 'value' }],
      make: true,
      later: false,
      ...more,
    });
    const argument = {
      path: file,
      mode: '0600',
      owner: 'root',
      group: 'root',
      without: ['OLD'],
      template: 'A=1\nTOKEN={{secret:token}}\nISSUED={{secret:issued}}\nURL=postgresql://u:{{secret:issued|url}}@h/d\n',
      secrets: [secret('token'), secret('issued', { kind: 'issued', make: false, from: 'file:issued' })],
    };

    test('are made where they are nowhere, read where they are referred to, and kept where they are', async () => {
      mkdirSync(here.lab.secretsDirectory, { recursive: true });
      writeFileSync(path.join(here.lab.secretsDirectory, 'issued'), 'Issued/4711:x\n', { mode: 0o600 });
      const seen = await does('observeProvision', { ...nothing, secretFiles: [argument] });
      expect(seen).toMatchObject({ secretFiles: { [file]: { same: false, made: ['token'] } } });
      expect(JSON.stringify(seen)).not.toContain('4711');
      const at = step();
      expect(await does('writeSecretFile', argument, at)).toEqual({ summary: 'made: token' });
      const text = await here.shell(`cat ${file}; stat -c %a ${file}`);
      expect(text).toMatch(
        /^A=1\nTOKEN=[0-9a-f]{64}\nISSUED=Issued\/4711:x\nURL=postgresql:\/\/u:Issued%2F4711%3Ax@h\/d\n600\n$/,
      );
      await does('writeSecretFile', argument, at);
      // Another run finds nothing to do, and another secret of the worker does not replace what is there.
      writeFileSync(path.join(here.lab.secretsDirectory, 'issued'), 'other\n', { mode: 0o600 });
      expect(await does('observeProvision', { ...nothing, secretFiles: [argument] })).toMatchObject({
        secretFiles: { [file]: { same: true, made: [] } },
      });
      expect(await here.shell(`cat ${file}; stat -c %a ${file}`)).toBe(text);
      // What somebody adds by hand is kept; what the inventory takes out goes.
      await here.shell(`printf 'OLD=1\nMINE=two words\n' >>${file}`);
      const other = step();
      await does('writeSecretFile', argument, other);
      expect(await here.shell(`tail -n 3 ${file}`)).toBe(
        '\n# Not in the template of guardia; kept as they were.\nMINE=two words\n',
      );
      expect(await does('observeProvision', { ...nothing, secretFiles: [argument] })).toMatchObject({
        secretFiles: { [file]: { same: true } },
      });
      await does('restorePath', { path: file }, other);
      await here.shell(`sed -i '/^OLD=/d; /^MINE=/d' ${file}`);
      await does('restorePath', { path: file }, at);
      expect(await here.shell(`ls ${file} 2>&1; true`)).toContain('No such file');
    });

    test('that files of the host do not agree about are refused, by their places and never by a value', async () => {
      const at = (path: string, key: string, more = {}) => ({ file: path, key, form: 'value', ...more });
      const on = [at(file, 'ISSUED'), { file, key: 'URL', form: 'url' }, at('/etc/old.env', 'ISSUED', { older: true })];
      const torn = { ...argument, secrets: [secret('token'), secret('issued', { on })] };
      const look = () => does('observeProvision', { ...nothing, secretFiles: [torn] });
      await here.shell(`printf 'ISSUED=value-one\nURL=postgresql://u:value-two@h/d\n' >${file}; touch /etc/old.env`);
      const refused = {
        type: 'SecretUnavailable',
        message: `app holds more than one value of issued (ISSUED of ${file}; another in URL of ${file}). Find out which value is in use, and correct the other places on the host`,
      };
      await expect(look()).rejects.toMatchObject(refused);
      await expect(does('writeSecretFile', torn, step())).rejects.toMatchObject(refused);
      // One that only refers to the other says nothing else, nor does a file that no longer counts.
      for (const same of ['value-one', '${ISSUED}']) {
        await here.shell(`printf 'ISSUED=value-one\nURL=postgresql://u:${same}@h/d\n' >${file}`);
        await here.shell(`echo ISSUED=value-old >/etc/old.env`);
        expect(await look()).toMatchObject({ secretFiles: { [file]: { made: ['token'] } } });
      }
      await here.shell(`rm ${file} /etc/old.env`);
    });

    test('are not made anew because their file is a link; one to a file that is looked at itself says nothing', async () => {
      const at = (path: string, older: boolean) => ({ file: path, key: 'TOKEN', form: 'value', older });
      const on = [at(file, false), at('/etc/old.env', true)];
      const linked = { ...argument, secrets: [secret('token', { on }), ...argument.secrets.slice(1)] };
      const look = () => does('observeProvision', { ...nothing, secretFiles: [linked] });
      await here.shell(`echo TOKEN=kept >${file}; ln -s ${file} /etc/old.env`);
      expect(await look()).toMatchObject({ secretFiles: { [file]: { made: [] } } });
      await here.shell(`mv ${file} /etc/real.env; ln -s /etc/real.env ${file}`);
      const refused = {
        type: 'HostUnusable',
        message: expect.stringMatching(`^${file} on app is a link to /etc/real.env. What it holds is not read`),
      };
      await expect(look()).rejects.toMatchObject(refused);
      await expect(does('writeSecretFile', linked, step())).rejects.toMatchObject(refused);
      expect(await here.shell(`cat ${file}`)).toBe('TOKEN=kept\n');
      await here.shell(`rm ${file}; mkdir ${file}`);
      await expect(look()).rejects.toMatchObject({ message: expect.stringMatching(`^${file} on app is no file`) });
      await here.shell(`rmdir ${file}; rm /etc/old.env /etc/real.env`);
    });

    test('that nobody has and nobody may make are named', async () => {
      const open = { ...argument, secrets: [secret('token'), secret('issued', { kind: 'issued', make: false })] };
      await expect(does('writeSecretFile', open, step())).rejects.toMatchObject({
        type: 'SecretUnavailable',
        message: 'app has no value for issued. Say in secrets.NAME.from of the inventory where the worker finds it',
      });
    });

    test('that are guarded are never made while a file names their key, whatever it says of it', async () => {
      const guarded = { ...argument, secrets: [secret('token', { guarded: true }), ...argument.secrets.slice(1)] };
      const look = () => does('observeProvision', { ...nothing, secretFiles: [guarded] });
      for (const line of ['TOKEN=', '# TOKEN=old', 'TOKEN=${OTHER}', 'set TOKEN old']) {
        await here.shell(`printf '%s\n' '${line}' >${file}`);
        const refused = {
          type: 'SecretUnavailable',
          message: `files of app name without a value that can be read: token (TOKEN in ${file}). Write KEY=value there on one line, or, where there has never been a value, take out what names the key`,
        };
        await expect(look()).rejects.toMatchObject(refused);
        await expect(does('writeSecretFile', guarded, step())).rejects.toMatchObject(refused);
      }
      for (const [line, made] of [
        ['TOKEN = old\r', []],
        ['TOKENS=1', ['token']],
      ] as const) {
        await here.shell(`printf '${line}\n' >${file}`);
        expect(await look()).toMatchObject({ secretFiles: { [file]: { made } } });
      }
      await here.shell(`rm ${file}`);
    });
  });

  test('a role and a database are made, proved by a login, and gone after the undo', async () => {
    await here.shell(`printf 'PW=it%%27s\\n' >/etc/pw.env; sed -i "s/it%27s/it-s/" /etc/pw.env`);
    const cluster = {
      version: 15,
      port: 5432,
      settingsFile: '/etc/postgresql/15/main/conf.d/zz-guardia.conf',
      role: 'trial_user',
      database: 'trial',
      password: {
        name: 'pw',
        kind: 'hex',
        on: [{ file: '/etc/pw.env', key: 'PW', form: 'value' }],
        make: false,
        later: false,
      },
    };
    const state = () =>
      here.shell(
        `cd /; runuser -u postgres -- psql -XAtc "select rolname from pg_roles where rolname !~ '^pg_' union select datname from pg_database order by 1"`,
      );
    const before = await state();
    const [role, database] = [step(), step()];
    for (let twice = 0; twice < 2; twice++) {
      await does('makeRole', cluster, role);
      await does('makeDatabase', cluster, database);
    }
    expect(await does('checkCluster', cluster)).toEqual({ summary: 'trial_user logged in to trial' });
    await here.shell(`cd /; runuser -u postgres -- psql -Xqc 'create table t ()' trial`);
    await expect(does('dropMadeDatabase', cluster, database)).rejects.toMatchObject({ type: 'ThirdState' });
    await here.shell(`cd /; runuser -u postgres -- psql -Xqc 'drop table t' trial`);
    for (let twice = 0; twice < 2; twice++) {
      await does('dropMadeDatabase', cluster, database);
      await does('restoreRole', cluster, role);
    }
    expect(await state()).toBe(before);
    await expect(does('checkCluster', cluster)).rejects.toMatchObject({
      type: 'VerificationFailed',
      message: expect.stringContaining('trial_user cannot log in to trial'),
    });
  });

  describe('a PostgreSQL that serves already', () => {
    const conf = '/etc/postgresql/15/main';
    const password = {
      name: 'pw',
      kind: 'hex',
      on: [{ file: '/etc/pw.env', key: 'PW', form: 'value' }],
      make: false,
      later: false,
    };
    const cluster = {
      ...{ version: 15, port: 5432, settingsFile: `${conf}/conf.d/zz-guardia.conf` },
      ...{ role: 'serving', database: 'postgres', password },
    };
    const names = ['max_connections', 'work_mem', 'wal_level', 'shared_preload_libraries'];
    const sql = (text: string) =>
      here.shell(`cd /; runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 <<'SQL'\n${text}\nSQL`);
    const look = async () => {
      const question = { ...cluster, settings: names };
      return (await does('observeProvision', { ...nothing, packages: ['postgresql-15'], postgresql: question }))[
        'postgresql'
      ];
    };

    beforeAll(async () => {
      await here.shell(`cp ${conf}/postgresql.conf /root/postgresql.conf; echo PW=ours >/etc/pw.env`);
    });
    afterAll(async () => {
      await here?.shell(`
        systemctl stop postgresql@15-main; cat /root/postgresql.conf >${conf}/postgresql.conf
        rm -f ${conf}/conf.d/trial.conf ${conf}/conf.d/zz-guardia.conf ${conf}/conf.d/zzz.conf /var/lib/postgresql/15/main/postgresql.auto.conf
        systemctl start postgresql@15-main; cd /; runuser -u postgres -- psql -Xqc 'drop role if exists serving'`);
    });

    test('tells what is in force and where it comes from, and running or not what it loads', async () => {
      await here.shell(`
        printf "max_connections = 150\nwal_level = logical\nshared_preload_libraries = 'auto_explain, pg_stat_statements'\n" >${conf}/conf.d/trial.conf
        rm -f ${conf}/conf.d/zz-guardia.conf; systemctl restart postgresql@15-main`);
      const file = `${conf}/conf.d/trial.conf`;
      expect(await look()).toMatchObject({
        running: true,
        overrides: [],
        settings: {
          max_connections: { value: '150', type: 'integer', unit: null, file },
          work_mem: { type: 'integer', unit: 'kB' },
          wal_level: { value: 'logical', type: 'enum', file },
          shared_preload_libraries: { value: 'auto_explain, pg_stat_statements', type: 'string', file },
        },
      });
      await here.shell('systemctl stop postgresql@15-main');
      expect(await look()).toMatchObject({
        running: false,
        settings: {
          wal_level: { value: 'logical' },
          shared_preload_libraries: { value: 'auto_explain, pg_stat_statements' },
        },
      });
      await here.shell('systemctl start postgresql@15-main');
    });

    test('tells what it reads after the file of guardia, before there is that file', async () => {
      await sql("alter system set max_connections = 500; alter system set work_mem = '5MB'");
      await here.shell(`
        sed -i '1i work_mem = 1MB' ${conf}/postgresql.conf; echo 'wal_level = replica' >>${conf}/postgresql.conf
        echo "shared_preload_libraries = ''" >${conf}/conf.d/zzz.conf`);
      const line = Number(await here.shell(`wc -l <${conf}/postgresql.conf`));
      const auto = '/var/lib/postgresql/15/main/postgresql.auto.conf';
      expect(await look()).toMatchObject({
        overrides: [
          { name: 'max_connections', value: '500', file: auto, line: 3 },
          { name: 'shared_preload_libraries', value: '', file: `${conf}/conf.d/zzz.conf`, line: 1 },
          { name: 'wal_level', value: 'replica', file: `${conf}/postgresql.conf`, line },
          { name: 'work_mem', value: '5MB', file: auto, line: 4 },
        ],
      });
    });

    test('keeps the password that its role may log in with', async () => {
      await here.shell(`rm ${conf}/conf.d/zzz.conf; cat /root/postgresql.conf >${conf}/postgresql.conf`);
      await sql("alter system reset max_connections; create role serving login password 'theirs'");
      const verifier = () => sql("select rolpassword from pg_authid where rolname = 'serving'");
      const before = await verifier();
      const seen = await look();
      expect(seen).toMatchObject({ ownerPassword: 'other', passwordWorks: false });
      expect(JSON.stringify(seen)).not.toContain('SCRAM-SHA-256');
      const at = step();
      await expect(does('makeRole', cluster, at)).rejects.toMatchObject({
        type: 'HostUnusable',
        message: expect.stringContaining('serving on app has another password than pw. Put '),
      });
      await does('restoreRole', cluster, at);
      expect(await verifier()).toBe(before);
      for (const encryption of ['md5', 'scram-sha-256']) {
        await sql(`set password_encryption = '${encryption}'; alter role serving password 'ours'`);
        expect(await look()).toMatchObject({ ownerPassword: encryption === 'md5' ? 'ours, as MD5' : 'ours' });
        // The same one, as SCRAM; and as it was after the undo.
        const [kept, again] = [await verifier(), step()];
        await does('makeRole', cluster, again);
        expect(await look()).toMatchObject({ ownerPassword: 'ours', passwordWorks: true });
        await does('restoreRole', cluster, again);
        expect(await verifier()).toBe(kept);
      }
      await sql('alter role serving password null');
      expect(await look()).toMatchObject({ ownerPassword: 'none' });
      await does('makeRole', cluster, at);
      await does('makeRole', cluster, at);
      expect(await look()).toMatchObject({ ownerPassword: 'ours', passwordWorks: true });
      // An undo does not care what somebody has done to the secret.
      const torn = { ...password, on: [...password.on, { file: '/etc/pw.env', key: 'OTHER', form: 'value' }] };
      await here.shell('echo OTHER=another >>/etc/pw.env');
      await does('restoreRole', { ...cluster, password: torn }, at);
      await here.shell('echo PW=ours >/etc/pw.env');
      expect(await look()).toMatchObject({ ownerPassword: 'none' });
      await does('makeRole', cluster, step());
    });

    test('is not as it should be where it cannot read a line of pg_hba.conf', async () => {
      await here.shell(`echo 'host all all no-such-thing/32 scram-sha-256' >>${conf}/pg_hba.conf`);
      await expect(does('checkCluster', cluster)).rejects.toMatchObject({
        type: 'VerificationFailed',
        message: expect.stringMatching(/lines that it cannot read: pg_hba\.conf:\d+: .*no-such-thing/),
      });
      await here.shell(`sed -i '$d' ${conf}/pg_hba.conf`);
    });

    test('is as it should be where ALTER SYSTEM says the same, and not where it says something else', async () => {
      await here.shell(
        `echo 'work_mem = 5120kB' >${conf}/conf.d/zz-guardia.conf; systemctl restart postgresql@15-main`,
      );
      expect(await does('checkCluster', cluster)).toEqual({ summary: 'serving logged in to postgres' });
      await here.shell(`echo 'work_mem = 6MB' >${conf}/conf.d/zz-guardia.conf; systemctl restart postgresql@15-main`);
      await expect(does('checkCluster', cluster)).rejects.toMatchObject({
        type: 'VerificationFailed',
        message: expect.stringContaining('settings that another file overrides: work_mem'),
      });
    });
  });

  test('a compose project is started, and gone with its volumes after the undo', async () => {
    await here.shell(`mkdir -p /opt/trial; cat >/opt/trial/docker-compose.yml <<'EOT'
services:
  exporter:
    image: prom/node-exporter:latest
    volumes: ['data:/data']
volumes:
  data:
EOT`);
    const project = { project: 'trial', directory: '/opt/trial', file: 'docker-compose.yml' };
    const state = () =>
      here.shell(
        'docker ps -a --format "{{.Names}}"; docker volume ls -q; docker network ls --format "{{.Name}}" | sort',
      );
    const before = await state();
    const at = step();
    const start = () => does('startCompose', { ...project, timeoutSeconds: 120 }, at);
    expect(await start()).toEqual({ summary: '1 services run' });
    await start();
    expect(await state()).toContain('trial_data');
    await does('stopMadeCompose', project, at);
    await does('stopMadeCompose', project, at);
    expect(await state()).toBe(before);
  });

  test('a compose project that is still being started ends when its undo begins', async () => {
    await here.shell(`mkdir -p /opt/waiting; cat >/opt/waiting/docker-compose.yml <<'EOT'
services:
  first:
    image: prom/node-exporter:latest
    healthcheck: { test: [CMD, 'false'], interval: 1s, start_period: 600s }
  second:
    image: prom/node-exporter:latest
    depends_on: { first: { condition: service_healthy } }
EOT`);
    const project = { project: 'waiting', directory: '/opt/waiting', file: 'docker-compose.yml' };
    const at = step();
    const ended = expect(does('startCompose', { ...project, timeoutSeconds: 120 }, at)).rejects.toMatchObject({
      type: 'JobCancelled',
    });
    await here.shell('until docker ps --format "{{.Names}}" | grep -q waiting-first; do sleep 0.1; done');
    await does('stopMadeCompose', project, at);
    await ended;
    expect(await here.shell('docker ps -a --format "{{.Names}}" | grep waiting; rm -r /opt/waiting')).toBe('');
  });

  describe('a compose project that serves', () => {
    const directory = '/opt/serving';
    const project = { project: 'serving', directory, file: 'docker-compose.yml' };
    const serve = (...more: string[]) => `services:
  prometheus:
    image: prom/prometheus:latest
    restart: always
    ports: ['127.0.0.1:9095:9090']
    volumes: ['./config:/etc/prometheus', 'data:/prometheus']
${more.join('')}volumes:
  data:
`;
    const exporter = (name: string) => `  ${name}:\n    image: prom/node-exporter:latest\n    restart: always\n`;
    const write = (file: string, content: string) =>
      here.shell(`mkdir -p ${directory}/config; cat >${directory}/${file} <<'EOT'\n${content}EOT`);
    const configure = (seconds: number) => write('config/prometheus.yml', `global:\n  scrape_interval: ${seconds}s\n`);
    const compose = `docker compose -p serving --project-directory ${directory}`;
    /** What Prometheus itself says that it works with. */
    const interval = () =>
      here.shell(`for i in $(seq 50); do
        curl -sf http://127.0.0.1:9095/api/v1/status/config | grep -o 'scrape_interval: [0-9a-z]*' && exit; sleep 0.2; done; exit 1`);
    const starts = (service = '') =>
      here.shell(
        `docker ps -q --filter label=com.docker.compose.project=serving ${service && `--filter label=com.docker.compose.service=${service}`} | xargs docker inspect -f '{{.Name}} {{.State.StartedAt}}' | sort`,
      );
    const names = () =>
      here.shell("docker ps --filter label=com.docker.compose.project=serving --format '{{.Names}}' | sort");
    const start = (at: { step: string }, recreate = true) =>
      does('startCompose', { ...project, recreate, timeoutSeconds: 120 }, at);

    beforeEach(async () => {
      await configure(31);
      await write('docker-compose.yml', serve());
      await write('by-hand.yml', `services:\n${exporter('cadvisor')}`);
      await here.shell(
        `${compose} -f ${directory}/docker-compose.yml up -d 2>&1; ${compose} -f ${directory}/by-hand.yml up -d 2>&1`,
      );
    });
    afterEach(async () => {
      await here.shell(
        `systemctl start docker.socket docker.service; ${compose} -f ${directory}/docker-compose.yml down -v --remove-orphans 2>&1; rm -r ${directory}`,
      );
    });

    test('is not taken for absent because Docker does not answer', async () => {
      const [note, begin] = [step(), step()];
      await here.shell('systemctl stop docker.socket docker.service');
      const unseen = { type: 'VerificationImpossible', nonRetryable: false };
      await expect(does('noteCompose', project, note)).rejects.toMatchObject(unseen);
      await expect(start(begin)).rejects.toMatchObject(unseen);
      await here.shell('systemctl start docker.socket docker.service');
      const before = await starts();
      await does('stopMadeCompose', project, begin);
      await does('reapplyCompose', project, note);
      expect(await starts()).toBe(before);
      expect(await here.shell('docker volume ls -q')).toContain('serving_data');
    });

    test('keeps a volume that is older than the step, whatever the step remembers', async () => {
      const at = step();
      await here.shell(`${compose} -f ${directory}/docker-compose.yml down 2>&1; sleep 1.1`);
      const nothingSeen = { defined: ['prometheus'], running: [], present: [], starts: {}, volumes: [], networks: [] };
      const now = Number(await here.shell('date +%s'));
      const content = Buffer.from(JSON.stringify({ ...nothingSeen, now }));
      await here.hosts.journalPut(here.target(), { run: 'run', ...at, content });
      await start(at);
      // Docker's own CreatedAt moves on with the files in a volume.
      await here.shell('touch /var/lib/docker/volumes/serving_data/_data/file');
      expect(await does('stopMadeCompose', project, at)).toMatchObject({
        summary: 'kept serving_default, serving_data: older than this run, or in use',
      });
      expect(await here.shell('ls /var/lib/docker/volumes/serving_data/_data/file')).toContain('file');
    });

    test('is seen with its images', async () => {
      const seen = await does('observeProvision', { ...nothing, compose: [project] });
      expect(seen).toMatchObject({
        compose: { serving: { images: expect.arrayContaining(['prom/prometheus:latest']) } },
      });
    });

    test('reads its changed files, and its old ones after the undo; what somebody added stays', async () => {
      const [added, before] = [await starts('cadvisor'), await names()];
      const [note, begin] = [step(), step()];
      expect(await interval()).toBe('scrape_interval: 31s\n');
      await does('noteCompose', project, note);
      await configure(47);
      await write('docker-compose.yml', serve(exporter('more')));
      expect(await start(begin)).toEqual({ summary: '2 services run' });
      expect(await interval()).toBe('scrape_interval: 47s\n');
      expect(await names()).toBe('serving-cadvisor-1\nserving-more-1\nserving-prometheus-1\n');

      await does('stopMadeCompose', project, begin);
      await configure(31);
      await write('docker-compose.yml', serve());
      for (let twice = 0; twice < 2; twice++) await does('reapplyCompose', project, note);
      expect(await interval()).toBe('scrape_interval: 31s\n');
      expect(await names()).toBe(before);
      expect(await starts('cadvisor')).toBe(added);
    });

    test('is left alone where nothing was started since', async () => {
      const [before, note, begin] = [await starts(), step(), step()];
      await does('noteCompose', project, note);
      await start(begin, false);
      await does('stopMadeCompose', project, begin);
      await does('reapplyCompose', project, note);
      expect(await starts()).toBe(before);
    });

    test('does not run where a service ends again and again', async () => {
      await write(
        'docker-compose.yml',
        serve(
          `  short:\n    image: grafana/grafana:latest\n    restart: always\n    entrypoint: [/bin/node, -e, 'setTimeout(process.exit, 2000)']\n`,
        ),
      );
      await expect(start(step())).rejects.toMatchObject({
        type: 'VerificationFailed',
        message: expect.stringMatching(/^short of serving on app does not run, or not for long\. /),
      });
    });
  });

  test('nginx takes the site of the inventory, and HAProxy what is made from its groups, with and without certificates', async () => {
    const overlay = path.join(here.lab.directory, 'overlay-scaled');
    mkdirSync(overlay);
    writeFileSync(
      path.join(overlay, 'proofpass.yaml'),
      `layout: scaled
hosts: { app1: { connection: { address: 10.0.0.2 } }, app2: { connection: { address: 10.0.0.3 } } }
endpoints: { api: { url: 'https://api.proofpass.test/health' }, platform: { url: 'https://platform.proofpass.test/health' } }
`,
    );
    const locations = { ...inventoryLocations({}), overlayDirectory: overlay };
    const { system } = loadSystem('proofpass', locations);
    await does('installPackages', { packages: ['haproxy', 'socat'], timeoutSeconds: 300 }, step());
    await here.shell(`
      mkdir -p /etc/haproxy/certs
      for name in api platform; do
        live=/etc/letsencrypt/live/$name.proofpass.test; mkdir -p $live
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 9 -subj /CN=$name -keyout $live/privkey.pem -out $live/fullchain.pem 2>/dev/null
        cat $live/fullchain.pem $live/privkey.pem >/etc/haproxy/certs/$name.proofpass.test.pem
      done`);
    for (const tls of [false, true]) {
      const content = haproxyConfiguration(system, 'balancers', tls);
      await does('writeFile', { path: '/etc/haproxy/haproxy.cfg', content }, step());
      expect(await does('checkConfiguration', { kind: 'haproxy', paths: [] })).toEqual({});
    }
    // A server that somebody has taken out stays out when HAProxy reads its files again.
    const [[source = '', content = '']] = Object.entries(readSources(['proofpass/haproxy/reload.conf'], locations)) as [
      [string, string],
    ];
    expect(source).toBe('proofpass/haproxy/reload.conf');
    await here.shell('mkdir /etc/systemd/system/haproxy.service.d');
    await does('writeFile', { path: '/etc/systemd/system/haproxy.service.d/guardia.conf', content }, step());
    const servers = "echo 'show servers state' | socat - /run/haproxy/admin.sock | awk '/app[12]/ { print $4, $7 }'";
    await here.shell(`systemctl restart haproxy
      echo 'set server api_backend/app2 state maint' | socat - /run/haproxy/admin.sock`);
    expect(await here.shell(servers)).toBe('app1 0\napp2 1\napp1 0\napp2 0\n');
    await here.shell('systemctl reload haproxy; sleep 1');
    expect(await here.shell(servers)).toBe('app1 0\napp2 1\napp1 0\napp2 0\n');
    // The limits of nginx: so many at once, as many a second for long, /health without one, each name its own. Nobody is behind it: 503.
    const said = (name: string, at: string, requests: number) =>
      here.shell(`curl -sk --resolve ${name}.proofpass.test:443:127.0.0.1 -o /dev/null -w '%{http_code}\n' \
        'https://${name}.proofpass.test${at}?[1-${requests}]' | sort | uniq -c | awk '{ print $2, $1 }'`);
    expect(await said('api', '/', 40)).toMatch(/^429 \d+\n503 2\d\n$/);
    expect(await said('api', '/health', 40)).toBe('503 40\n');
    expect(await said('platform', '/', 60)).toMatch(/^429 \d+\n503 5\d\n$/);
    expect(await said('platform', '/_next/static/x', 60)).toBe('503 60\n');
    // Who goes on asking is let in at the rate, and not shut out for good.
    await here.shell('sleep 4');
    expect(await said('api', '/', 10)).toBe('503 10\n');
    expect(
      await here.shell(`curl -skI --resolve api.proofpass.test:443:127.0.0.1 'https://api.proofpass.test/?[1-30]' |
        awk '/^HTTP.* 429/ { refused = 1 } refused' | grep -icE '^(strict-transport|x-frame)'`),
    ).not.toBe('0\n');
    for (const [source = '', text = ''] of Object.entries(
      readSources(['proofpass/nginx/site-without-tls.conf', 'proofpass/nginx/site.conf'], locations),
    )) {
      const content = fill(text, system, 'app1', source);
      await does('writeFile', { path: '/etc/nginx/sites-enabled/trial', content }, step());
      expect(await does('checkConfiguration', { kind: 'nginx', paths: [] })).toEqual({});
    }
  });

  test('a configuration that its program refuses is a failure with the words of the program', async () => {
    await here.shell('echo nonsense >/etc/nginx/conf.d/wrong.conf');
    await expect(does('checkConfiguration', { kind: 'nginx', paths: [] })).rejects.toMatchObject({
      type: 'VerificationFailed',
      message: expect.stringMatching(/^nginx on app refuses its configuration: /),
    });
    await here.shell('rm /etc/nginx/conf.d/wrong.conf; printf "vm.swappiness = 10\\n" >/etc/sysctl.d/60-trial.conf');
    expect(await does('checkConfiguration', { kind: 'nginx', paths: [] })).toEqual({});
    expect(await does('checkConfiguration', { kind: 'sysctl', paths: ['/etc/sysctl.d/60-trial.conf'] })).toEqual({});
    await here.shell('echo nonsense >/etc/sysctl.d/60-trial.conf');
    await expect(
      does('checkConfiguration', { kind: 'sysctl', paths: ['/etc/sysctl.d/60-trial.conf'] }),
    ).rejects.toMatchObject({ message: expect.stringContaining('not a setting: nonsense') });
    // What no container can put in force is judged as a file, and says so.
    const file = '/root/trial';
    const judged = async (kind: string, text: string) => {
      await here.shell(`cat >${file} <<'END'\n${text}\nEND`);
      return does('checkConfiguration', { kind, paths: [file] }).then(
        ({ summary }) => String(summary),
        (error: Error) => error.message,
      );
    };
    for (const [kind, source] of [
      ['audit', 'proofpass/hardening/audit.conf'],
      ['limits', 'proofpass/hardening/limits.conf'],
    ] as const)
      expect(await judged(kind, readSources([source], inventoryLocations({}))[source] ?? '')).toMatch(
        /^checked as a file: /,
      );
    expect(await judged('audit', '-w /etc/passwd -p q -k identity')).toMatch(/not a rule of audit: -w/);
    expect(await judged('audit', '-w /opt/nowhere/.env -p wa -k secrets')).toMatch(
      /watches \/opt\/nowhere\/.env, and \/opt\/nowhere is not there/,
    );
    expect(await judged('limits', '* soft nofile many')).toMatch(/not a limit: \* soft nofile many/);
    await here.shell('rm /etc/sysctl.d/60-trial.conf');
  });

  test('kernel settings are put in force, and back to what they were', async () => {
    // Settings of the network are the host's own, even where it is a container.
    const paths = ['/etc/sysctl.d/60-trial.conf'];
    const now = () => here.shell('sysctl net.ipv4.tcp_keepalive_time net.ipv4.ip_local_port_range');
    const before = await now();
    await here.shell(
      `printf '# ours\nnet.ipv4.tcp_keepalive_time = 611\nnet.ipv4.ip_local_port_range = 20000 60000\n' >${paths[0]}`,
    );
    const at = step();
    expect(await does('applySysctl', { paths }, at)).toEqual({ summary: '2 changed' });
    expect(await does('applySysctl', { paths }, at)).toEqual({ summary: '2 changed' });
    expect(await now()).toContain('net.ipv4.tcp_keepalive_time = 611');
    const keys = ['net.ipv4.ip_local_port_range', 'net.ipv4.tcp_keepalive_time', 'no.such'];
    const kernel = here.calls({ look: ({ context }) => observeKernel(here.hosts, context, keys) });
    expect(await kernel('look', {})).toEqual({
      'net.ipv4.ip_local_port_range': '20000 60000',
      'net.ipv4.tcp_keepalive_time': '611',
    });
    for (let twice = 0; twice < 2; twice++) await does('restoreSysctl', { paths }, at);
    expect(await now()).toBe(before);
    await here.shell(`rm ${paths[0]}`);
  });

  test('mounts below a checkout are seen, with blanks in their names; what its links lead to is not below it', async () => {
    const one = { path: '/opt/by hand', releases: '/opt/releases', writable: '/opt/shared' };
    const shared = ['storage', 'data', 'elsewhere'].map((path) => ({ path, target: `/opt/shared/${path}` }));
    await here.shell(`mkdir -p '${one.path}/storage/up loads' '${one.path}/data' /opt/shared/elsewhere '/opt/by hand too'
      ln -s /opt/shared/elsewhere '${one.path}/elsewhere'
      for at in '${one.path}/storage/up loads' '${one.path}/data' /opt/shared/elsewhere '/opt/by hand too'; do mount -t tmpfs tmpfs "$at"; done`);
    const look = () => does('observeAdoption', { checkouts: [{ ...one, name: 'one', shared }], cron: [] });
    expect(await look()).toMatchObject({
      checkouts: {
        one: {
          kind: 'checkout',
          mounts: ['storage/up loads', 'data'],
          shared: {
            storage: { inCheckout: 'there', target: 'absent' },
            elsewhere: { inCheckout: 'link', leads: '/opt/shared/elsewhere' },
          },
        },
      },
    });
    await here.shell(`umount '${one.path}/storage/up loads' '${one.path}/data'; mount -t tmpfs tmpfs '${one.path}'`);
    expect(await look()).toMatchObject({ checkouts: { one: { mounts: ['.'] } } });
    await here.shell(`umount '${one.path}' /opt/shared/elsewhere '/opt/by hand too'
      rm -r '${one.path}' /opt/shared '/opt/by hand too'`);
  });

  test('what neither git nor the inventory has is named of a checkout, and goals on another disk', async () => {
    const path = '/opt/hand';
    await here.shell(`apt-get -q -y --no-install-recommends install git; mkdir -p ${path} /opt/disk; cd ${path}
      mkdir -p storage/uploads uploads/2024 apps/web/node_modules/x apps/api/dist empty 'data/kept here'
      printf '%s\n' uploads/ storage/ node_modules/ dist/ '.env*' >.gitignore; echo code >apps/web/index
      for file in .env .env.old storage/uploads/a uploads/2024/photo apps/web/node_modules/x/y apps/api/dist/z apps/web/größe 'data/kept here/b'; do echo 1 >"$file"; done
      git init -q; git add .gitignore apps/web/index; git -c user.name=a -c user.email=b commit -qm c; chown -R nobody .
      mount -t tmpfs tmpfs /opt/disk`);
    const one = { name: 'one', path, releases: '/opt/releases', writable: '/opt/shared' };
    const shared = ['.env', 'storage', 'data/kept here'].map((inside) => ({
      path: inside,
      target: `/opt/shared/${inside}`,
    }));
    const look = async (more: object) => {
      const checkouts = [{ ...one, leftBehind: ['node_modules', 'dist'], shared, ...more }];
      const seen = await does('observeAdoption', { checkouts, cron: [] });
      return (seen['checkouts'] as Record<string, { unnamed: string[]; elsewhere: string[] }>)['one'];
    };
    expect(await look({})).toMatchObject({ unnamed: ['.env.old', 'apps/web/größe', 'uploads/'], elsewhere: [] });
    expect(await look({ shared: [{ path: 'storage', target: '/opt/disk/storage' }] })).toMatchObject({
      unnamed: ['.env', '.env.old', 'apps/web/größe', 'data/', 'uploads/'],
      elsewhere: ['/opt/disk/storage'],
    });
    // As the git of Ubuntu 22.04, which takes from no command line that a repository is somebody else's.
    await here.shell(`printf '%s\n' '#!/bin/bash' 'exec /usr/bin/git "\${@/#safe.directory=*/core.trial=1}"' >/usr/local/bin/git
      chmod +x /usr/local/bin/git`);
    expect(await look({})).toMatchObject({ unnamed: ['.env.old', 'apps/web/größe', 'uploads/'] });
    await here.shell(`rm /usr/local/bin/git; echo broken >${path}/.git/HEAD`);
    expect(await look({})).toMatchObject({ commit: '', gitSays: expect.stringContaining('not a git repository') });
    await here.shell('mv /usr/bin/git /usr/bin/git-away');
    expect(await look({})).toMatchObject({ commit: '', gitSays: 'git: command not found' });
    await here.shell(`mv /usr/bin/git-away /usr/bin/git; mv ${path}/.git /root/`);
    expect(await look({})).not.toHaveProperty('gitSays');
    await here.shell(`umount /opt/disk; rm -r /root/.git ${path} /opt/disk`);
  });

  describe('a directory that is moved', () => {
    const look = () => here.shell('cd /opt; find trial -printf "%p %y %l\n" | sort; cat trial/old/data/file');
    const paths = { from: '/opt/trial/old/data', to: '/opt/trial/new/data' };
    beforeEach(async () => {
      await here.shell('mkdir -p /opt/trial/old/data /opt/trial/new; echo upload >/opt/trial/old/data/file');
    });
    afterEach(async () => {
      await here.shell(
        'for at in /opt/trial/old/data /opt/trial/new; do ! mountpoint -q $at || umount $at || exit; done; rm -rf /opt/trial',
      );
    });

    test('leaves a link, and comes back', async () => {
      const [before, at] = [await look(), step()];
      for (let twice = 0; twice < 2; twice++) await does('relocatePath', paths, at);
      expect(await here.shell('readlink /opt/trial/old/data; cat /opt/trial/old/data/file')).toBe(
        '/opt/trial/new/data\nupload\n',
      );
      for (let twice = 0; twice < 2; twice++) await does('returnPath', paths, at);
      expect(await look()).toBe(before);
    });

    test('is not touched where it is a mount point: it would be copied to another disk', async () => {
      await here.shell('mount -t tmpfs tmpfs /opt/trial/old/data; echo mounted >/opt/trial/old/data/file');
      const at = step();
      await expect(does('relocatePath', paths, at)).rejects.toMatchObject({
        type: 'ThirdState',
        message: expect.stringContaining('/opt/trial/old/data is a mount point'),
      });
      await does('returnPath', paths, at);
      expect(await here.shell('cat /opt/trial/old/data/file')).toBe('mounted\n');
    });

    test('is not brought to another disk', async () => {
      await here.shell('mount -t tmpfs tmpfs /opt/trial/new');
      // "other" was a secret above: it is masked.
      await expect(does('relocatePath', paths, step())).rejects.toThrow(
        /\/opt\/trial\/new\/data is on an.* file system than \/opt\/trial\/old\/data/,
      );
      expect(await here.shell('cat /opt/trial/old/data/file')).toBe('upload\n');
    });

    test('is not copied while its unit writes, which a reboot has started', async () => {
      // The kernel renames nothing from one mount to another, be they of one file system.
      await here.shell(`mount --bind /opt/trial/new /opt/trial/new
        systemd-run -q --unit=trial-writer sh -c 'while :; do echo line >>/opt/trial/old/data/file; done'`);
      const at = step();
      const moved = { ...paths, units: ['trial-writer.service', 'no-such.service'] };
      await does('relocatePath', moved, at);
      expect(await here.shell('systemctl is-active trial-writer; readlink /opt/trial/old/data')).toBe(
        'inactive\n/opt/trial/new/data\n',
      );
      await does('returnPath', moved, at);
      expect(await here.shell('head -1 /opt/trial/old/data/file; ls -A /opt/trial/new')).toBe('upload\n');
    });

    test('is copied anew where an interrupted copy is older than what was written since', async () => {
      await here.shell(`cp -a /opt/trial/old/data /opt/trial/new/.data.guardia-draft
        touch /opt/trial/new/.data.guardia-draft.complete; echo later >/opt/trial/old/data/later`);
      await does('relocatePath', paths, step());
      expect(await here.shell('cd /opt/trial/new/data; cat file later; ls -A /opt/trial/new')).toBe(
        'upload\nlater\ndata\n',
      );
    });

    test('keeps what was written to it after its copy had taken its place; the rest of it goes', async () => {
      await here.shell(`cp -a /opt/trial/old/data /opt/trial/new/data; echo gone already >/opt/trial/new/data/other
        touch /opt/trial/new/.data.guardia-draft.complete; echo later >/opt/trial/old/data/later`);
      const at = step();
      const refused = {
        type: 'ThirdState',
        message: expect.stringMatching(/\/old\/data was written to after it had been copied .*: later/),
      };
      await expect(does('relocatePath', paths, at)).rejects.toMatchObject(refused);
      await expect(does('returnPath', paths, at)).rejects.toMatchObject(refused);
      await here.shell('mv /opt/trial/old/data/later /opt/trial/new/data/');
      await does('relocatePath', paths, at);
      expect(await here.shell('readlink /opt/trial/old/data; cd /opt/trial/old/data; cat file later other')).toBe(
        '/opt/trial/new/data\nupload\nlater\ngone already\n',
      );
    });

    test('is not given up for a copy that is gone', async () => {
      // As an undo leaves it that ran while the move was under way: the mark of a complete copy, without the copy.
      await here.shell('touch /opt/trial/new/.data.guardia-draft.complete');
      await expect(does('relocatePath', paths, step())).rejects.toMatchObject({
        message: expect.stringContaining('the copy of /opt/trial/old/data is gone'),
      });
      expect(await here.shell('cat /opt/trial/old/data/file')).toBe('upload\n');
    });

    test('waits for an earlier attempt that is still at work', async () => {
      const earlier = here.shell(
        'exec 9</opt/trial/old; flock 9; touch /opt/trial/began; sleep 2; touch /opt/trial/ended',
      );
      await here.shell('until [[ -e /opt/trial/began ]]; do sleep 0.05; done');
      const at = step();
      await does('relocatePath', paths, at);
      expect(await here.shell('ls /opt/trial')).toContain('ended');
      await earlier;
    });
  });
});

/** Of everything that can be observed, nothing. */
const nothing = {
  packages: [],
  accounts: [],
  files: [],
  units: [],
  firewall: false,
  secretFiles: [],
  compose: [],
};
