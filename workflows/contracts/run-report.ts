import { stepsOf } from './plan.js';
import type { RunReport } from './run.js';

/** The report of a run for people, in Markdown. Pure. */
export function reportMarkdown(report: RunReport): string {
  const why = new Map((report.plan ? stepsOf(report.plan) : []).map(({ step }) => [step.id, step.why]));
  const table = report.steps.map(
    (step) =>
      `| ${cell(step.stage)} | ${step.on} | ${cell(step.title)} | ${step.state}${step.generation > 1 ? ` (run ${step.generation})` : ''} | ${seconds(step.startedAt, step.endedAt)} | ${cell(step.note ?? '')} |`,
  );
  const lines = [
    `# ${report.runbook} of ${report.system}: ${report.end ?? report.phase}`,
    '',
    report.message ?? '',
    '',
    `- Run: \`${report.workflowId}\` (\`${report.runId}\`)`,
    `- Requested by ${report.requester}${report.reason ? `: ${report.reason}` : ''}`,
    `- Started ${report.startedAt}${report.endedAt ? `, ended ${report.endedAt} (${seconds(report.startedAt, report.endedAt)})` : ''}`,
    ...(report.planDigest ? [`- Plan: \`${report.planDigest}\``] : []),
    ...Object.entries(report.result ?? {})
      .filter(([, value]) => !isList(value))
      .map(([name, value]) => `- ${name}: ${typeof value === 'string' ? value : JSON.stringify(value)}`),
    '',
    ...Object.entries(report.result ?? {}).flatMap(([name, value]) => (isList(value) ? listTable(name, value) : [])),
    ...(table.length > 0
      ? ['| Stage | On | Step | State | Took | Result |', '|---|---|---|---|---|---|', ...table, '']
      : []),
    ...(report.remaining.length > 0
      ? ['## To be done by hand', '', ...report.remaining.map((line) => `- ${line}`), '']
      : []),
    ...(report.notes.length > 0 ? ['## Notes', '', ...report.notes.map((line) => `- ${line}`), ''] : []),
    ...(why.size > 0
      ? ['## Why', '', ...report.steps.map((step) => `- **${step.title}**: ${why.get(step.id) ?? ''}`), '']
      : []),
  ];
  return lines.join('\n');
}

type Row = Record<string, unknown>;

function isList(value: unknown): value is Row[] {
  return Array.isArray(value) && value.length > 0 && value.every((row) => typeof row === 'object' && row !== null);
}

/** A list of objects as a table; its columns are the fields of all of them, in the order of their first appearance. */
function listTable(name: string, rows: readonly Row[]): string[] {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const text = (value: unknown): string =>
    value === undefined ? '' : cell(typeof value === 'string' ? value : JSON.stringify(value));
  return [
    `## ${name}`,
    '',
    `| ${columns.join(' | ')} |`,
    `|${columns.map(() => '---').join('|')}|`,
    ...rows.map((row) => `| ${columns.map((column) => text(row[column])).join(' | ')} |`),
    '',
  ];
}

function seconds(from: string | undefined, to: string | undefined): string {
  return from === undefined || to === undefined ? '' : `${((Date.parse(to) - Date.parse(from)) / 1000).toFixed(1)} s`;
}

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ');
