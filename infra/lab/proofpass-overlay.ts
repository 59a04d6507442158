import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { proofpassUrlOf } from './git-server.js';
import type { LabState } from './lab-state.js';
import { ADMINISTRATOR } from './running-proofpass.js';

/** The host that answers from outside: HAProxy in the layout `scaled`, nginx on the one host otherwise. */
const EDGE = ['balancer', 'app'];

/**
 * What the shipped file of ProofPass leaves unset and a lab knows: where it answers, its repository, the account of the smoke tests, and secrets
 * that somebody else issues, drawn here. `secrets` is the directory that `file:` references start from.
 */
export function proofpassOverlay(state: LabState, secrets: string): object {
  const drawn = (name: string): string => {
    const file = path.join(secrets, name);
    mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
    if (!existsSync(file)) writeFileSync(file, `${randomBytes(16).toString('hex')}\n`, { mode: 0o600 });
    return `file:${name}`;
  };
  const edge = state.hosts.find(({ name }) => EDGE.includes(name))?.address;
  const answers = (url: string) => ({ url, ...(edge === undefined ? {} : { address: edge }), ca: 'file:tls/ca.crt' });
  return {
    endpoints: {
      api: answers('https://api.proofpass.test/health'),
      platform: answers('https://platform.proofpass.test/health'),
    },
    deployments: {
      platform: {
        source: { url: proofpassUrlOf(state) },
        smoke: { login: { json: { email: ADMINISTRATOR, password: { secret: drawn('proofpass/admin-password') } } } },
      },
    },
    secrets: Object.fromEntries(
      ['stellar-issuer-secret', 'stellar-distribution-secret', 'smtp-password'].map((name) => [
        name,
        { from: drawn(`proofpass/${name}`) },
      ]),
    ),
    ...(state.layout === undefined ? { flows: { postgresql: { from: '10.77.0.0/16' } } } : {}),
    provision: { values: { 'smtp-host': 'smtp.proofpass.test', 'smtp-user': 'noreply@proofpass.test' } },
  };
}
