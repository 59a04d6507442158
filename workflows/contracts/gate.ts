import { defineSignal, defineUpdate } from '@temporalio/workflow';
import { z } from 'zod';
import { Name, StepId, SystemName } from './names.js';

const Minutes = z.int().min(1).max(43_200); // thirty days

/** Who has to agree, and what happens when nobody answers: the policy of a system for one of its runbooks. */
export const ApprovalPolicy = z.strictObject({
  approvals: z
    .int()
    .min(1)
    .max(9)
    .default(1)
    .describe('How many different people have to agree. One rejection is a veto'),
  approvers: z
    .array(Name)
    .min(1)
    .optional()
    .describe('Who may decide, by their names in `approvers`; everybody there without it. Never the requester'),
  signed: z
    .boolean()
    .default(false)
    .describe(
      "Only decisions signed with the approver's SSH key count. Always so when more than one has to agree. One more has to agree where the start of the run was not signed: one of them may have asked for it",
    ),
  typedSystemName: z
    .boolean()
    .default(false)
    .describe("Whoever agrees types the system's name, as a manual has it typed YES"),
  timeoutMinutes: Minutes.default(1440).describe('Minutes that the gate stays open'),
  onTimeout: z
    .enum(['reject', 'rollback', 'hold'])
    .default('reject')
    .describe(
      '`reject` ends the run as rejected, `rollback` as rolled back, both undo what was done; `hold` waits without end until a person has it asked again or ends it. Nothing approves by itself',
    ),
  remindEveryMinutes: Minutes.default(60).describe(
    'Minutes between the first twelve reminders; then each pause is twice as long as the one before, up to a day',
  ),
});
export type ApprovalPolicy = z.infer<typeof ApprovalPolicy>;

/** A mere claim of who somebody is counts once: where more have to agree, signatures count. Pure. */
export const needsSignatures = (gate: Pick<ApprovalPolicy, 'signed' | 'approvals'>): boolean =>
  gate.signed || gate.approvals > 1;

/** A point of a plan where people must agree. The one before the first step is called `apply`. */
export const Gate = ApprovalPolicy.extend({
  id: StepId.describe('Unique in the plan'),
  title: z.string().describe('What is agreed to, as an operator would say it'),
});
export type Gate = z.infer<typeof Gate>;

/** The gate before the first step of a plan. */
export const APPLY_GATE = 'apply';

/** What somebody decides about a gate: the argument of the update and of the signal `decide`. */
export const Decision = z.strictObject({
  gate: StepId.describe('The gate that is open'),
  planDigest: z.string().describe('Digest of the plan that was read: a decision is for this plan only'),
  decision: z.enum(['approve', 'reject']),
  approver: Name.describe("Name in the system's `approvers`"),
  reason: z.string().trim().min(1).max(2000).describe('Why; kept in the record'),
  system: SystemName.optional().describe("The system's name, typed by who approves, where the gate asks for it"),
  expiry: z.iso.datetime().optional().describe('A signed decision counts until then. ISO 8601, UTC'),
  signature: z
    .string()
    .max(8192)
    .optional()
    .describe(
      '`ssh-keygen -Y sign -n guardia-decision` over the text of the decision; without it the approver is only claimed',
    ),
});
export type Decision = z.infer<typeof Decision>;

/** The run, and the gate in it, that a decision belongs to. */
export interface DecisionPlace {
  namespace: string;
  workflowId: string;
  runId: string;
}

/** Namespace of the signatures: keeps a signature made for something else from counting here. */
export const SIGNATURE_NAMESPACE = 'guardia-decision';

/** The text that an approver signs: everything that a decision means, so that it counts once, here, and for nothing else. Pure. */
export function signedText(place: DecisionPlace, decision: Omit<Decision, 'signature'>): string {
  return `${JSON.stringify([
    'guardia-decision-1',
    place.namespace,
    place.workflowId,
    place.runId,
    decision.gate,
    decision.planDigest,
    decision.decision,
    decision.approver,
    decision.expiry ?? '',
    decision.system ?? '',
    decision.reason,
  ])}\n`;
}

/** A decision that was taken. */
export const TakenDecision = z.object({
  approver: z.string(),
  decision: z.enum(['approve', 'reject']),
  reason: z.string(),
  at: z.string(),
  signed: z.boolean().describe('Whether the signature was verified; otherwise the approver is only claimed'),
});
export type TakenDecision = z.infer<typeof TakenDecision>;

/** A gate of a run: what it asks for, and what was decided so far. */
export const GateStatus = z.object({
  id: StepId,
  title: z.string(),
  planDigest: z.string(),
  state: z.enum(['open', 'approved', 'rejected', 'timed out', 'withdrawn']),
  approvals: z.int().describe('How many have to agree'),
  oneMore: z
    .string()
    .optional()
    .describe('Why that is one more than the policy wants: it is not proved who asked for the run'),
  approvers: z.array(z.string()).describe('Who may decide'),
  signed: z.boolean(),
  typedSystemName: z.boolean(),
  openedAt: z.string(),
  closesAt: z.string(),
  onTimeout: z.enum(['reject', 'rollback', 'hold']),
  decisions: z.array(TakenDecision),
});
export type GateStatus = z.infer<typeof GateStatus>;

/** The command that answers an open gate, for this plan only: another one is refused. Pure. */
export const commandThatDecides = (
  decision: 'approve' | 'reject',
  workflowId: string,
  gate: Pick<GateStatus, 'id' | 'planDigest'>,
): string => `guardia ${decision} ${workflowId} --gate ${gate.id} --digest ${gate.planDigest.slice(0, 12)}`;

/** Answers with the gate as it stands after the decision; refused with the reason otherwise. */
export const decideUpdate = defineUpdate<GateStatus, [Decision]>('decide');
/** The same for who can only send signals: a refusal shows in the run's details. */
export const decideSignal = defineSignal<[Decision]>('decide');
