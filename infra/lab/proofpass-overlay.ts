import { entranceOf } from './certificate-authority.js';
import { proofpassUrlOf } from './git-server.js';
import type { LabState } from './lab-state.js';
import { ADMINISTRATOR, secretsToFind } from './proofpass-secrets.js';

/**
 * What the shipped file of ProofPass leaves unset and a lab knows: where it answers, its repository, the account of the smoke tests, and secrets
 * that somebody else issues or that several hosts share. A lab has nobody who could agree.
 */
export function proofpassOverlay(state: LabState): object {
  const address = entranceOf(state)?.address;
  const answers = (url: string) => ({ url, ...(address === undefined ? {} : { address }), ca: 'file:tls/ca.crt' });
  return {
    endpoints: {
      api: answers('https://api.proofpass.test/health'),
      platform: answers('https://platform.proofpass.test/health'),
    },
    approvals: { adopt: 'none', deploy: 'none', 'provision-host': 'none' },
    deployments: {
      platform: {
        source: { url: proofpassUrlOf(state) },
        smoke: { login: { json: { email: ADMINISTRATOR, password: { secret: 'file:proofpass/admin-password' } } } },
      },
    },
    secrets: Object.fromEntries(secretsToFind(state).map((name) => [name, { from: `file:proofpass/${name}` }])),
    ...(state.layout === undefined ? { flows: { postgresql: { from: '10.77.0.0/16' } } } : {}),
    provision: {
      values: {
        'smtp-host': 'smtp.proofpass.test',
        'smtp-user': 'noreply@proofpass.test',
        'alerts-to': 'support@proofpass.test',
      },
    },
  };
}
