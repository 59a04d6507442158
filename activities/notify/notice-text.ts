import type { Notice } from '../../workflows/contracts/notice.js';

/** A notice as plain text for people, without its title. Pure. */
export function noticeText(notice: Notice): string {
  const { text, command, system, runbook, host, step, workflowId, runId, link, occurredAt } = notice;
  const facts: [string, string | undefined][] = [
    ['System', system],
    ['Runbook', runbook],
    ['Host', host],
    ['Step', step],
    ['Run', workflowId === undefined ? undefined : `${workflowId}${runId === undefined ? '' : ` (${runId})`}`],
    ['Look at it', link],
    ['When', occurredAt],
  ];
  return [
    ...(text === '' ? [] : [text, '']),
    ...(command === undefined ? [] : ['What to do:', `    ${command}`, '']),
    ...facts.flatMap(([name, value]) => (value === undefined ? [] : [`${name}: ${value}`])),
  ].join('\n');
}
