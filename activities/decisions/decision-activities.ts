import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { execa } from 'execa';
import { failure } from '../../workflows/contracts/errors.js';
import type { FrameActivities } from '../../workflows/contracts/frame-activities.js';
import { SIGNATURE_NAMESPACE, signedText } from '../../workflows/contracts/gate.js';
import { REQUEST_NAMESPACE, requestText } from '../../workflows/contracts/requester.js';
import { canonicalJson } from '../inventory/canonical-json.js';

/**
 * How the signatures of people are verified, against their keys of the inventory as it was when the run was planned. Both only read.
 * `runsOf`: the run ids of all runs that Temporal knows of a workflow id.
 */
export function createDecisionActivities({
  runsOf,
}: {
  runsOf: (workflowId: string) => Promise<string[]>;
}): Pick<FrameActivities, 'verifyDecision' | 'verifyRequest'> {
  return {
    async verifyDecision({ place, decision, signingKey }) {
      const { signature = '', ...said } = decision;
      const { approver: signer } = decision;
      const text = signedText(place, said);
      if (!(await isSignedBy({ signer, signingKey, namespace: SIGNATURE_NAMESPACE, text, signature })))
        throw failure(
          'DecisionRefused',
          `the signature is not that of ${signer} over this decision: it was made with another key, for another run, gate, plan or answer, or it was altered`,
        );
    },
    async verifyRequest({ place, runId, input, proof, name, signingKey }) {
      const { requesterProof: _, ...asked } = input;
      const text = requestText(place, canonicalJson(asked), proof.at);
      const { signature } = proof;
      if (!(await isSignedBy({ signer: name, signingKey, namespace: REQUEST_NAMESPACE, text, signature })))
        throw failure('DecisionRefused', `the signature of the start is not that of ${name} over this input`);
      // It stands in the input of the run that it was made for, where others can read it.
      const before = (await runsOf(place.workflowId)).find((other) => other !== runId);
      if (before !== undefined)
        throw failure('DecisionRefused', `the signature of the start has started a run before: ${before}`);
    },
  };
}

/** `ssh-keygen -Y verify`. Throws `VerificationImpossible` where it does not run. */
async function isSignedBy(signed: {
  signer: string;
  signingKey: string;
  namespace: string;
  text: string;
  signature: string;
}): Promise<boolean> {
  const { signer, signingKey, namespace, text, signature } = signed;
  const directory = await mkdtemp(path.join(tmpdir(), 'guardia-signature-'));
  try {
    const signers = path.join(directory, 'allowed-signers');
    const file = path.join(directory, 'signature');
    await writeFile(signers, `${signer} namespaces="${namespace}" ${signingKey}\n`);
    await writeFile(file, signature);
    const argv = ['-Y', 'verify', '-f', signers, '-I', signer, '-n', namespace, '-s', file];
    const verified = await execa('ssh-keygen', argv, { input: text, reject: false, timeout: 20_000 });
    if (verified.failed && verified.exitCode === undefined)
      throw failure('VerificationImpossible', `ssh-keygen does not run on the worker: ${verified.shortMessage}`, {
        remedy: 'Install openssh-client there',
      });
    return verified.exitCode === 0;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}
