import { hostname, userInfo } from 'node:os';
import { canonicalJson } from '../activities/inventory/canonical-json.js';
import { loadSystem } from '../activities/inventory/load.js';
import { inventoryLocations } from '../activities/inventory/locations.js';
import {
  nameOfRequester,
  REQUEST_NAMESPACE,
  requestText,
  type RequesterProof,
  type RequestPlace,
} from '../workflows/contracts/requester.js';
import type { System } from '../workflows/contracts/system.js';
import { needsSignatures } from '../workflows/contracts/gate.js';
import { isUnset } from '../workflows/contracts/unset.js';
import { signingKey, signText } from './signing.js';

type Environment = Readonly<Record<string, string | undefined>>;

/** Who asks, where nobody says otherwise: the name in the inventory (GUARDIA_APPROVER) or of the login, at this machine. */
export function requesterHere(env: Environment = process.env, account: () => { username: string } = userInfo): string {
  const said = env['GUARDIA_APPROVER'];
  if (said !== undefined && said !== '') return `${said}@${hostname()}`;
  try {
    return `${account().username}@${hostname()}`;
  } catch {
    return `uid ${process.getuid?.()}@${hostname()}`;
  }
}

/**
 * Signs the start of a run where the system's policy counts signatures. What keeps it from being signed is told, and no reason not to start:
 * the gate then asks one more. `input` is what is sent, without the proof.
 */
export async function signRequest(
  place: RequestPlace,
  input: Readonly<Record<string, unknown>> & { system: string },
  env: Environment,
): Promise<{ proof?: RequesterProof; unproved?: string }> {
  const system = systemHere(input.system, env);
  const policy = system?.approvals[place.runbook as keyof System['approvals']];
  if (system === undefined || policy === undefined || policy === 'none' || !needsSignatures(policy)) return {};
  const name = nameOfRequester(typeof input['requester'] === 'string' ? input['requester'] : '');
  const known = system.approvers[name]?.signingKey;
  if (known === undefined || isUnset(known)) return { unproved: `the inventory has no signing key of ${name}` };
  let key: string;
  try {
    key = signingKey(undefined, env);
  } catch (error) {
    return { unproved: (error as Error).message };
  }
  const at = new Date().toISOString();
  const { requesterProof: _, ...asked } = input as Record<string, unknown>;
  const signed = await signText(requestText(place, canonicalJson(asked), at), {
    key,
    namespace: REQUEST_NAMESPACE,
  });
  return signed.signature === undefined
    ? { unproved: `${key} does not sign: ${signed.trouble}` }
    : { proof: { at, signature: signed.signature } };
}

/** The worker's inventory counts, not this machine's: what cannot be read here is no mistake. */
function systemHere(name: string, env: Environment): System | undefined {
  try {
    return loadSystem(name, inventoryLocations(env)).system;
  } catch {
    return undefined;
  }
}
