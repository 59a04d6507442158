import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { execa } from 'execa';
import { failure } from '../../workflows/contracts/errors.js';
import type { FrameActivities } from '../../workflows/contracts/frame-activities.js';
import { SIGNATURE_NAMESPACE, signedText } from '../../workflows/contracts/gate.js';

/** How the signatures of people are verified. */
export function createDecisionActivities(): Pick<FrameActivities, 'verifyDecision'> {
  return {
    /** `ssh-keygen -Y verify` against the approver's key of the inventory, as it was when the run was planned. Reads only. */
    async verifyDecision({ place, decision, signingKey }) {
      const { signature = '', ...said } = decision;
      const directory = await mkdtemp(path.join(tmpdir(), 'guardia-decision-'));
      try {
        const signers = path.join(directory, 'allowed-signers');
        const file = path.join(directory, 'signature');
        await writeFile(signers, `${decision.approver} namespaces="${SIGNATURE_NAMESPACE}" ${signingKey}\n`);
        await writeFile(file, signature);
        const argv = ['-Y', 'verify', '-f', signers, '-I', decision.approver, '-n', SIGNATURE_NAMESPACE, '-s', file];
        const verified = await execa('ssh-keygen', argv, {
          input: signedText(place, said),
          reject: false,
          timeout: 20_000,
        });
        if (verified.failed && verified.exitCode === undefined)
          throw failure('VerificationImpossible', `ssh-keygen does not run on the worker: ${verified.shortMessage}`, {
            remedy: 'Install openssh-client there',
          });
        if (verified.exitCode !== 0)
          throw failure(
            'DecisionRefused',
            `the signature is not that of ${decision.approver} over this decision: it was made with another key, for another run, gate, plan or answer, or it was altered`,
          );
      } finally {
        await rm(directory, { recursive: true, force: true });
      }
    },
  };
}
