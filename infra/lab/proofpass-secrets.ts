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

/** What several hosts of a layout need with the same value: on one host alone provision-host makes it. */
const shared = {
  'jwt-secret': () => randomBytes(32).toString('hex'),
  'nextauth-secret': () => randomBytes(32).toString('hex'),
  'encryption-key': () => randomBytes(16).toString('hex'),
  'database-password': () => randomBytes(16).toString('hex'),
};

const drawn = { ...issued, ...shared };

/** Secrets of the inventory that a lab has to say where to find, by layout. */
export const secretsToFind = (state: LabState): string[] =>
  Object.keys(state.layout === undefined ? issued : drawn).filter((name) => name !== 'admin-password');

export type ProofpassSecret = keyof typeof drawn;

export const proofpassSecrets = (state: LabState): string => path.join(secretsDirectory(state), 'proofpass');

/** The secret's value; drawn when there is none yet. */
export function proofpassSecret(state: LabState, name: ProofpassSecret): string {
  const file = path.join(proofpassSecrets(state), name);
  if (!existsSync(file)) {
    mkdirSync(proofpassSecrets(state), { recursive: true, mode: 0o700 });
    writeFileSync(file, `${drawn[name]()}\n`, { mode: 0o600 });
  }
  return readFileSync(file, 'utf8').trim();
}

/** Draws those that are not there. */
export function makeProofpassSecrets(state: LabState): void {
  for (const name of Object.keys(drawn)) proofpassSecret(state, name as ProofpassSecret);
}
