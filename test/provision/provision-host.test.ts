import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { stepsOf } from '../../workflows/contracts/plan.js';
import type { RunReport } from '../../workflows/contracts/run.js';
import { startBackupLab, type BackupLab, type Ended } from '../backup/harness.js';

jest.setTimeout(900_000);

/** What the inventory leaves open, for a bare host. Monitoring needs images, which a bare host cannot fetch here. */
const OVERLAY = `
endpoints:
  api: { url: 'https://api.proofpass.test/health' }
  platform: { url: 'https://platform.proofpass.test/health' }
secrets:
  stellar-issuer-secret: { from: 'file:issued/stellar-issuer' }
  stellar-distribution-secret: { from: 'file:issued/stellar-distribution' }
  smtp-password: { from: 'file:issued/smtp' }
provision:
  values: { smtp-host: smtp.proofpass.test, smtp-user: noreply@proofpass.test }
`;
const ISSUED = {
  'stellar-issuer': 'SISSUERISSUER4711',
  'stellar-distribution': 'SDISTRIBUTION4711',
  smtp: 'smtp-value-4711',
};

/** What an observer who is not guardia sees of the host. */
const OBSERVED = `
  find /etc /opt /home /var/www /var/spool/cron -xdev \\( -path /etc/ufw/before\\* -o -path '/etc/*-' -o -name .pwd.lock -o -path /etc/ld.so.cache -o -path /etc/systemd/system/guardia\\* \\) -prune -o -printf '%p %y %m %u:%g %l\\n' | sort
  find /etc /opt -xdev -type f ! -path '/etc/*-' ! -path /etc/ld.so.cache -exec sha256sum {} + | sort -k2
  systemctl list-unit-files --no-legend | awk '{ print $1, $2 }' | sort
  iptables -S | grep -v -e '-A ufw' -e 'ufw-' | sort`;

describe('a bare host', () => {
  let here: BackupLab;
  let first: Ended;

  beforeAll(async () => {
    here = await startBackupLab({ hosts: [{ name: 'app', bare: true }], overlay: OVERLAY });
    // A bare host cannot fetch images here: the project is written and judged, not started.
    here.changeInventory(
      '      compose: { project: observability, directory: /opt/proofpass/observability, file: docker-compose.yml } # L836\n',
      '      check: compose\n',
    );
    for (const [name, value] of Object.entries(ISSUED)) {
      const file = path.join(here.lab.secretsDirectory, 'issued', name);
      writeSecret(file, value);
    }
  });
  afterAll(() => here?.down());

  const run = (input: Record<string, unknown> = {}) => here.run(input, 'provision-host');
  const report = (ended: Ended): RunReport => ended.report as RunReport;

  test('gets everything that the manual says', async () => {
    first = await run();
    expect(`${first.end}: ${first.message}`).toMatch(/^succeeded:/);
  });

  test('needs nothing the second time', async () => {
    const second = await run();
    expect(second.message).not.toContain('failed');
    expect(stepsOf(report(second).plan as never).map(({ step }) => step.title)).toEqual([]);
    expect(second.end).toBe('nothing to do');
  });
});

function writeSecret(file: string, value: string): void {
  mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
  writeFileSync(file, `${value}\n`, { mode: 0o600 });
}
void OBSERVED;
