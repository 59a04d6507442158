import { z } from 'zod';
import { Name } from './names.js';
import type { RunStatus } from './run.js';

/** How bad it is, in the words of PagerDuty's Events API. */
export const NoticeSeverity = z.enum(['info', 'warning', 'error', 'critical']);
export type NoticeSeverity = z.infer<typeof NoticeSeverity>;

interface EventWords {
  severity: NoticeSeverity;
  /** Whether a target that names no events is told. */
  told: boolean;
  /** What it does to an incident: opens it, says that somebody is at it, closes it. */
  action: 'trigger' | 'acknowledge' | 'resolve';
  means: string;
}

/** Everything that people are told about. Listed here once. */
export const noticeEvents = {
  failed: { severity: 'error', told: true, action: 'trigger', means: 'a run ended before its goal' },
  'rolled back': {
    severity: 'error',
    told: true,
    action: 'trigger',
    means: 'a step failed, and everything before it was undone',
  },
  'rollback incomplete': {
    severity: 'critical',
    told: true,
    action: 'trigger',
    means: 'a step failed, and not everything could be undone',
  },
  refused: { severity: 'warning', told: true, action: 'trigger', means: 'a run was not started' },
  rejected: { severity: 'info', told: false, action: 'trigger', means: 'people said no to a run' },
  cancelled: { severity: 'info', told: false, action: 'trigger', means: 'a run was cancelled and undone' },
  'waits for a person': { severity: 'warning', told: true, action: 'trigger', means: 'a gate is open' },
  'needs a person': {
    severity: 'critical',
    told: true,
    action: 'trigger',
    means: 'a run cannot go on by itself; it holds its locks',
  },
  reminder: { severity: 'warning', told: true, action: 'trigger', means: 'a person is still waited for' },
  escalation: { severity: 'error', told: true, action: 'trigger', means: 'nobody has answered: the next tier is told' },
  'taken up': { severity: 'info', told: true, action: 'acknowledge', means: 'a person is at it' },
  terminated: {
    severity: 'warning',
    told: true,
    action: 'trigger',
    means: 'a run was terminated in Temporal: nothing was undone',
  },
  'timed out': {
    severity: 'error',
    told: true,
    action: 'trigger',
    means: 'Temporal ended a run by its time limit: nothing was undone',
  },
  parked: { severity: 'error', told: true, action: 'trigger', means: 'the worker fails whenever it takes a run up' },
  overdue: {
    severity: 'warning',
    told: true,
    action: 'trigger',
    means: 'a run is open for longer than it should take',
  },
  missed: { severity: 'error', told: true, action: 'trigger', means: 'a scheduled run did not start' },
  'no worker': { severity: 'critical', told: true, action: 'trigger', means: 'runs are open and no worker is there' },
  'no temporal': { severity: 'critical', told: true, action: 'trigger', means: 'Temporal does not answer' },
  blind: { severity: 'warning', told: true, action: 'trigger', means: 'the watcher cannot look at something' },
  recovered: { severity: 'info', told: true, action: 'resolve', means: 'what was told before is over' },
  trial: {
    severity: 'info',
    told: true,
    action: 'trigger',
    means: 'a person tries whether notices arrive: for everybody',
  },
} as const satisfies Record<string, EventWords>;
export type NoticeEvent = keyof typeof noticeEvents;
export const NoticeEvent = z.enum(Object.keys(noticeEvents) as [NoticeEvent, ...NoticeEvent[]]);

/** What people are told. Plain text, no Markdown; holds no secret: it is stored in histories and sent to others. */
export const Notice = z.strictObject({
  schemaVersion: z.literal(1),
  event: NoticeEvent.describe('What happened'),
  about: NoticeEvent.optional().describe(
    'The event that a reminder, an escalation, an acknowledgement or a recovery belongs to: who is told of that is told of this',
  ),
  escalated: z
    .literal(true)
    .optional()
    .describe('It belongs to a matter that was escalated before: who is told of escalations is told of this'),
  severity: NoticeSeverity.describe('How bad it is'),
  system: Name.describe('System'),
  runbook: z.string().optional().describe('Runbook'),
  workflowId: z.string().optional().describe('The run, if it is about one'),
  runId: z.string().optional().describe('Its run id in Temporal'),
  host: z.string().optional().describe('Host that it happened on'),
  step: z.string().optional().describe('Step that it happened in'),
  title: z.string().min(1).max(250).describe('One line'),
  text: z.string().max(8000).describe('What happened, on which host, in which step, and what to do'),
  command: z.string().max(500).optional().describe('The exact command to type next'),
  link: z.url().optional().describe('Page of the run in the Web UI'),
  tier: z.int().min(1).max(9).describe('Targets of this tier and of those below it are told'),
  dedupeKey: z
    .string()
    .min(1)
    .max(255)
    .describe('Names this notice: a target gets one of each key, whoever sends it and however often'),
  incident: z
    .string()
    .min(1)
    .max(255)
    .describe('Names the matter: the same in its reminders, its escalations and its recovery'),
  occurredAt: z.iso.datetime().describe('When it happened, UTC'),
});
export type Notice = z.infer<typeof Notice>;

/** What became of a notice at one target. */
export const NoticeDelivery = z.object({
  target: z.string().describe('Name of the target in the inventory'),
  kind: z.string(),
  outcome: z.enum(['sent', 'sent before', 'failed', 'skipped']).describe('`skipped`: the target is not filled in'),
  attempts: z.int(),
  reason: z.string().optional().describe('Why it failed or was skipped'),
});
export type NoticeDelivery = z.infer<typeof NoticeDelivery>;

export const NoticeReport = z.object({
  deliveries: z.array(NoticeDelivery),
  notes: z.array(z.string()).describe('What a person should know about the sending, one sentence each'),
  away: z
    .array(z.object({ target: z.string(), note: z.string().describe('The one of `notes` about it') }))
    .optional()
    .describe('Targets that failed and can work later: they or their network are away'),
});
export type NoticeReport = z.infer<typeof NoticeReport>;

/** What a caller says of a notice; the rest follows from the event. */
export type NoticeWords = Omit<Notice, 'schemaVersion' | 'severity' | 'tier' | 'incident'> &
  Partial<Pick<Notice, 'severity' | 'tier' | 'incident'>>;

/** A whole notice, with what follows from its event, cut to the lengths that every target takes. Pure. */
export function notice(words: NoticeWords): Notice {
  const { title, text, command, ...rest } = words;
  return {
    schemaVersion: 1,
    severity: noticeEvents[words.event].severity,
    tier: 1,
    incident: words.dedupeKey,
    ...rest,
    title: cut(title, 250),
    text: cut(text, 8000),
    ...(command === undefined ? {} : { command: cut(command, 500) }),
  };
}

/** Ends of a run that people may want to be told of; the others are good ones. */
const toldEnds = ['failed', 'refused', 'rejected', 'rolled back', 'rollback incomplete', 'cancelled'] as const;

/** The notice about how a run ended; undefined where it ended well. Deduplicated by run. Pure. */
export function endNotice(status: RunStatus): Notice | undefined {
  const event = toldEnds.find((end) => end === status.end);
  if (event === undefined) return undefined;
  const failed = status.steps.find(({ state }) => state === 'undo failed' || state === 'failed');
  return notice({
    event,
    ...aboutRun(status),
    ...(failed ? { step: failed.id, host: failed.on } : {}),
    title: `${status.runbook} of ${status.system}: ${event}`,
    text: paragraphs(
      status.message,
      list('To be done by hand:', status.remaining),
      list('Notes:', status.notes),
      `Requested by ${status.requester}${status.reason === undefined ? '' : `: ${status.reason}`}`,
    ),
    command: `guardia watch ${status.workflowId}`,
    dedupeKey: `end/${status.runId}`,
    occurredAt: status.endedAt ?? status.startedAt,
  });
}

/** What a run waits for. `key` tells two waits of one run apart: the gate's name, the step's id. */
export interface PersonWait {
  event: 'waits for a person' | 'needs a person';
  key: string;
  /** One line: what is to be decided. */
  title: string;
  text: string;
  command?: string;
  /** When the wait began, ISO. */
  since: string;
  host?: string;
  step?: string;
}

/**
 * The notices of a wait for a person: the first one, the n-th reminder, the escalation to a tier, that somebody is at it and that it is over. All of them
 * belong to one incident. No I/O; what is made after an escalation says that there was one.
 */
export function waitNotices(status: RunStatus, wait: PersonWait) {
  const incident = `wait/${status.runId}/${wait.key}`;
  const words = {
    ...aboutRun(status),
    ...(wait.host === undefined ? {} : { host: wait.host }),
    ...(wait.step === undefined ? {} : { step: wait.step }),
    incident,
  };
  const asking = { ...words, text: wait.text, ...(wait.command === undefined ? {} : { command: wait.command }) };
  const title = `${status.runbook} of ${status.system} ${wait.event}: ${wait.title}`;
  let escalated = false;
  const following = () => ({ about: wait.event, ...(escalated ? { escalated } : {}) }) as const;
  return {
    first: (tier: number): Notice =>
      notice({ event: wait.event, ...asking, title, tier, dedupeKey: incident, occurredAt: wait.since }),
    reminder: (n: number, now: string, tier: number): Notice =>
      notice({
        event: 'reminder',
        ...following(),
        ...asking,
        title: `Still: ${title}`,
        tier,
        dedupeKey: `${incident}/reminder-${n}`,
        occurredAt: now,
      }),
    /** `tier` is the tier that is told now for the first time; those below it are told that it was. */
    escalation(tier: number, now: string): Notice {
      escalated = true;
      return notice({
        event: 'escalation',
        ...following(),
        ...asking,
        title: `Nobody has answered: ${title}`,
        tier,
        dedupeKey: `${incident}/tier-${tier}`,
        occurredAt: now,
      });
    },
    takenUp: (by: string, now: string, tier: number): Notice =>
      notice({
        event: 'taken up',
        ...following(),
        ...words,
        title: `${by} is at it: ${title}`,
        text: `${by} has answered; more people have to.`,
        tier,
        dedupeKey: `${incident}/taken-up/${by}`,
        occurredAt: now,
      }),
    over: (outcome: string, now: string, tier: number): Notice =>
      notice({
        event: 'recovered',
        ...following(),
        ...words,
        title: `Over: ${title}`,
        text: outcome,
        tier,
        dedupeKey: `${incident}/over`,
        occurredAt: now,
      }),
  };
}

function aboutRun({ system, runbook, workflowId, runId }: RunStatus) {
  return { system, runbook, workflowId, runId };
}

function paragraphs(...parts: (string | undefined)[]): string {
  return parts.filter((part) => part !== undefined && part !== '').join('\n\n');
}

function list(head: string, lines: readonly string[]): string | undefined {
  return lines.length === 0 ? undefined : [head, ...lines.map((line) => `- ${line}`)].join('\n');
}

const cut = (text: string, characters: number): string =>
  text.length <= characters ? text : `${text.slice(0, characters - 3)}...`;
