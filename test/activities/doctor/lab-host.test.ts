import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { readFileSync } from 'node:fs';
import type { Finding } from '../../../activities/doctor/findings.js';
import { examineHost, type HostNeeds } from '../../../activities/doctor/host-examination.js';
import { createSshPool, type SshPool } from '../../../activities/hosts/ssh-pool.js';
import { startLab, type Lab } from '../../../infra/lab/lab.js';
import type { SshTarget } from '../../../workflows/contracts/host-target.js';

jest.setTimeout(180_000);

describe('a host over SSH', () => {
  let lab: Lab;
  let ssh: SshPool;
  let connection: SshTarget;

  beforeAll(async () => {
    lab = await startLab({
      hosts: [{ name: 'app', fixture: { name: 'proofpass', megabytes: 50 } }],
      systems: [],
      owner: true,
    });
    ssh = createSshPool({
      readIdentity: (reference) => Promise.resolve(readFileSync(reference.replace('file:', ''), 'utf8')),
    });
    const host = lab.hosts['app'];
    if (host === undefined) throw new Error('the lab has no host');
    const { address, port, user, hostKeys, identityFile } = host;
    connection = { address, port, user, hostKeys, identity: `file:${identityFile}` };
  });
  afterAll(async () => {
    ssh?.close();
    await lab?.down();
  });

  async function examine(
    change: Partial<SshTarget> = {},
  ): Promise<{ byId: Record<string, Finding>; missing: string[]; install?: string | undefined }> {
    const needs: HostNeeds = {
      target: {
        name: 'app',
        site: 'main',
        become: 'sudo',
        stateDirectory: '/var/lib/guardia',
        connection: { ...connection, ...change },
      },
      backup: true,
      databases: [
        {
          name: 'main',
          major: 15,
          access: { kind: 'peer', osUser: 'postgres' },
          port: 5432,
          place: '-',
          user: 'postgres',
        },
      ],
      endpoint: lab.s3.endpoint,
    };
    const { findings, install } = await examineHost(needs, ssh, 'host app');
    return {
      byId: Object.fromEntries(findings.map((finding) => [finding.id, finding])),
      missing: findings.filter(({ state }) => state === 'missing').map(({ id }) => id),
      install,
    };
  }
  const root = async (line: string): Promise<void> => {
    const { exitCode, stderr } = await lab.exec('app', ['/bin/sh', '-c', line]);
    if (exitCode !== 0) throw new Error(`${line}: ${stderr}`);
  };

  test('a host that is set up lacks nothing', async () => {
    const { byId, missing, install } = await examine();
    expect(missing).toEqual([]);
    expect(install).toBeUndefined();
    expect(byId['systemd']?.state).toBe('ok');
    expect(byId['pg-dump-main']?.found).toMatch(/^15/);
    expect(byId['store']?.found).toContain(lab.s3.endpoint);
    // Nothing was made there by looking.
    expect((await lab.exec('app', ['ls', '/var/lib/guardia'])).exitCode).not.toBe(0);
  });

  test('what was taken away is missed, and the line that brings it back is exact', async () => {
    await root('mv /usr/bin/age /usr/bin/age.away; mv /usr/bin/zstd /usr/bin/zstd.away; systemctl stop postgresql');
    try {
      const { missing, install, byId } = await examine();
      expect(missing.sort()).toEqual(['database-main', 'tool-age', 'tool-zstd']);
      expect(byId['database-main']?.found).toContain('no response');
      expect(install).toBe(
        `ssh ${connection.user}@${connection.address} 'sudo apt-get update && sudo apt-get install -y zstd age'`,
      );
    } finally {
      await root('mv /usr/bin/age.away /usr/bin/age; mv /usr/bin/zstd.away /usr/bin/zstd; systemctl start postgresql');
    }
  });

  test('a login that may not become root is told how', async () => {
    await root('mkdir /root/sudoers; mv /etc/sudoers.d/* /root/sudoers/');
    try {
      const { byId, missing } = await examine();
      expect(missing).toContain('sudo');
      expect(byId['sudo']?.found).toContain('sudo: ');
      expect(byId['sudo']?.remedy).toContain(`${connection.user} ALL=(ALL) NOPASSWD: ALL`);
    } finally {
      await root('mv /root/sudoers/* /etc/sudoers.d/');
    }
  });

  test('another host key, a silent address: one finding each, with what helps', async () => {
    const key = `ssh-ed25519 ${Buffer.from('not the key of this host, but long enough to be one').toString('base64')}`;
    expect(await examine({ hostKeys: [key] })).toMatchObject({
      missing: ['host-key'],
      byId: { 'host-key': { remedy: expect.stringContaining('ssh-keygen') as unknown } },
    });
    expect(await examine({ port: 9 })).toMatchObject({
      missing: ['reachable'],
      byId: { reachable: { remedy: expect.stringContaining('nc -vz') as unknown } },
    });
  });
});
