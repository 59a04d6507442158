import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type LabState, secretsDirectory } from './lab-state.js';

/** Who logs in to the application first: made from what OpenBao holds. */
export const ADMINISTRATOR = 'admin@proofpass.test';

const stellarKey = (): string => `S${randomBytes(35).toString('hex').toUpperCase().slice(0, 55)}`;

/** What others issue to ProofPass, by its name in the lab's secrets: `file:proofpass/NAME`. */
const issued = {
  'admin-password': () => randomBytes(12).toString('hex'),
  'stellar-issuer-secret': stellarKey,
  'stellar-distribution-secret': stellarKey,
  'smtp-password': () => randomBytes(12).toString('hex'),
};

export type ProofpassSecret = keyof typeof issued;

export const proofpassSecrets = (state: LabState): string => path.join(secretsDirectory(state), 'proofpass');

/** The secret's value; drawn when there is none yet. */
export function proofpassSecret(state: LabState, name: ProofpassSecret): string {
  const file = path.join(proofpassSecrets(state), name);
  if (!existsSync(file)) {
    mkdirSync(proofpassSecrets(state), { recursive: true, mode: 0o700 });
    writeFileSync(file, `${issued[name]()}\n`, { mode: 0o600 });
  }
  return readFileSync(file, 'utf8').trim();
}

/** Draws those that are not there. */
export function makeProofpassSecrets(state: LabState): void {
  for (const name of Object.keys(issued)) proofpassSecret(state, name as ProofpassSecret);
}
