import { z } from 'zod';
import { closestName } from '../../activities/inventory/closest-name.js';
import { findTarget } from '../../activities/temporal/connection.js';
import { runbooks, type Runbook } from '../../workflows/contracts/runbooks.js';
import { WORKFLOW_TASK_QUEUE } from '../../workflows/contracts/task-queues.js';
import { runWorkflowId } from '../../workflows/contracts/workflow-ids.js';
import { CommandFailure } from '../command-failure.js';
import { command } from '../command.js';
import { inputFields, inputJsonSchema } from '../run-input.js';
import { newRunSuffix } from '../runs.js';
import { startPage, webUiOf } from '../temporal-access.js';
import { textTable } from '../text-table.js';
import type { Terminal } from '../terminal.js';

/** `guardia runbooks [RUNBOOK]`. Asks no server. */
export const listRunbooks = command({
  options: z.object({ runbook: z.string().optional() }),
  async execute({ runbook: name }, terminal) {
    const all: Runbook[] = Object.values(runbooks);
    const chosen = name === undefined ? all : all.filter((one) => one.name === name);
    if (chosen.length === 0) {
      const meant = closestName(name as string, Object.keys(runbooks));
      throw new CommandFailure('not found', {
        message: `there is no runbook ${JSON.stringify(name)}${meant === undefined ? '' : `; did you mean "${meant}"?`}`,
        remedy: `Runbooks: ${Object.keys(runbooks).join(', ')}`,
      });
    }
    const described = chosen.map((one) => ({
      name: one.name,
      title: one.title,
      taskQueue: WORKFLOW_TASK_QUEUE,
      example: one.example,
      webUi: formOf(one, terminal) ?? null,
      input: inputJsonSchema(one),
    }));
    terminal.document({ runbooks: described });
    const { colors } = terminal;
    for (const [i, one] of chosen.entries()) {
      terminal.print(`${i > 0 ? '\n' : ''}${colors.bold(one.name)}  ${one.title}`);
      terminal.print(
        textTable(
          inputFields(one).map((field) => [
            `${field.name}${field.required ? ' (required)' : ''}`,
            `${field.allowed}${field.fallback === undefined ? '' : ` [${JSON.stringify(field.fallback)}]`}`,
            colors.dim(field.description),
          ]),
          { indent: '    ' },
        ),
      );
      terminal.print(`  command:  guardia run ${one.name} ${one.example.system}`);
      const form = described[i]?.webUi;
      if (form) terminal.print(`  Web UI:   ${form}`);
      terminal.print(`  input there: ${JSON.stringify(one.example)}`);
    }
  },
});

/** The link fills in everything but the input, which the Web UI takes from its form only. */
function formOf(runbook: Runbook, terminal: Terminal): string | undefined {
  const target = findTarget(terminal.env);
  return startPage(
    { target, webUi: webUiOf(target, terminal.env) },
    {
      taskQueue: WORKFLOW_TASK_QUEUE,
      workflowType: runbook.name,
      workflowId: runWorkflowId(runbook.name, runbook.example.system, newRunSuffix()),
    },
  );
}
