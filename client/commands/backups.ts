import { z } from 'zod';
import { command } from '../command.js';
import { backupWarnings, listRecoveryPoints, type RecoveryPointSummary } from '../recovery-points.js';
import { textTable } from '../text-table.js';
import type { Terminal } from '../terminal.js';
import { ageText, bytesText, durationText } from '../text-units.js';

/** Recovery points that are looked at for warnings: some days of them, also where each of many deploys has made one. */
const LOOKED_AT = 100;

/** `guardia backups SYSTEM`. Reads the bucket; needs neither Temporal nor a worker. */
export const backups = command({
  options: z.object({
    system: z.string(),
    newest: z.coerce
      .number('--newest takes a whole number from 1 to 1000')
      .int('--newest takes a whole number')
      .min(1)
      .max(1000)
      .default(20),
  }),
  async execute({ system, newest }, terminal) {
    // What is wrong does not depend on how many are shown.
    const { points, ...found } = await listRecoveryPoints(terminal.env, system, Math.max(newest, LOOKED_AT));
    const list = { ...found, points: points.slice(0, newest) };
    const now = Date.now();
    const warnings = backupWarnings({ ...found, points }, now);
    terminal.document({ ...list, warnings });
    if (list.points.length > 0)
      terminal.print(
        textTable(
          list.points.map((point) => [
            point.id,
            state(point, terminal),
            `${ageText(point.at, now)} ago`,
            bytesText(point.plainBytes),
            bytesText(point.storedBytes),
            contents(point),
            terminal.colors.dim(point.run.workflowId),
          ]),
          { head: ['RECOVERY POINT', 'STATE', 'AGE', 'DATA', 'STORED', 'HOLDS', 'RUN'] },
        ),
      );
    terminal.say(`${list.points.length > 0 ? '\n' : ''}in ${list.location}`);
    for (const warning of warnings) terminal.warn(warning);
  },
});

function state(point: RecoveryPointSummary, { colors }: Terminal): string {
  const mark = point.acceptedAnomalies.length > 0 ? ' (anomaly accepted)' : '';
  if (point.state === 'damaged') return colors.red(point.state);
  return point.state === 'complete' ? colors.yellow(`${point.state}${mark}`) : colors.green(`${point.state}${mark}`);
}

function contents(point: RecoveryPointSummary): string {
  return point.artifacts
    .filter(({ kind }) => kind !== 'globals')
    .map(
      ({ kind, name, seconds, tables }) =>
        `${kind} ${name}${tables === undefined ? '' : ` (${tables} tables, ${durationText(seconds * 1000)})`}`,
    )
    .join(', ');
}
