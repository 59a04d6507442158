import { commandExitCodes } from '../workflows/contracts/run.js';
import { watchRun, type RunReference } from './run-observer.js';
import { changeTeller, howToAnswer, runTree, waitsForPeople, windowOf } from './run-text.js';
import type { RunView } from './run-view.js';
import { runPage, type TemporalAccess } from './temporal-access.js';
import type { Terminal } from './terminal.js';

/** A run that has ended stays open until its notices are told or given up, which is up to 15 minutes: nobody waits for them. */
const NOTICES_MS = 10_000;

/**
 * Follows a run on the terminal until it has ended, a person interrupts, or (where nobody can be asked) the run waits for a
 * person. Live where a tree can be drawn, one line per change elsewhere, JSON lines under --json. Returns the exit code.
 */
export async function followRun(access: TemporalAccess, run: RunReference, terminal: Terminal): Promise<number> {
  const enough = new AbortController();
  const signal = AbortSignal.any([terminal.interruption(), enough.signal]);
  const tell = changeTeller();
  const screen = terminal.live ? await liveScreen(terminal) : undefined;
  let last: RunView | undefined;
  let notices: NodeJS.Timeout | undefined;
  try {
    // The clock goes on where nothing changes.
    const tick = screen === undefined ? undefined : setInterval(() => last && screen.draw(last), 1000);
    try {
      for await (const view of watchRun(access, run, { signal })) {
        last = view;
        terminal.line(view);
        if (view.end !== undefined) notices ??= setTimeout(() => enough.abort(), NOTICES_MS);
        if (screen !== undefined) screen.draw(view);
        else
          for (const line of tell(view, Date.now()))
            terminal.print(`${new Date().toISOString().slice(11, 19)} ${line}`);
        if (view.open && view.report && waitsForPeople(view.report) && !terminal.interactive) {
          const answers = howToAnswer(view.report).map((line) => `  ${line}`);
          terminal.say(
            [`The run waits for a person: ${view.report.waitingFor ?? 'a decision'}`, ...answers].join('\n'),
          );
          return commandExitCodes['needs a person'].exitCode;
        }
      }
    } finally {
      clearInterval(tick);
    }
  } finally {
    clearTimeout(notices);
    screen?.end(last);
  }
  if (last?.open && last.end !== undefined) terminal.say('Its notices are still on their way; nothing else is.');
  else if (last === undefined || last.open) {
    const id = last?.workflowId ?? run.workflowId;
    terminal.say(
      `\nThe run goes on without this command.\n  come back:  guardia watch ${id}\n  stop it:    guardia cancel ${id}`,
    );
    return commandExitCodes['still running'].exitCode;
  }
  return last.exitCode ?? 0;
}

async function liveScreen(
  terminal: Terminal,
): Promise<{ draw(view: RunView): void; end(view: RunView | undefined): void }> {
  const { createLogUpdate } = await import('log-update');
  const update = createLogUpdate(terminal.streams.stdout as NodeJS.WritableStream);
  const text = (view: RunView): string =>
    runTree(view, { now: Date.now(), columns: terminal.columns, colors: terminal.colors });
  return {
    draw: (view) => update(windowOf(text(view), terminal.rows - 1)),
    // The last picture stays, whole, also where it is higher than the window.
    end: (view) => {
      update.clear();
      update.done();
      if (view !== undefined) terminal.print(text(view));
    },
  };
}

/** Where else the run can be seen, and how to leave and stop it: said once, at its start. */
export function whereToLook(access: TemporalAccess, run: { workflowId: string; runId: string }): string[] {
  const page = runPage(access, run);
  return [
    ...(page === undefined ? [] : [`  Web UI:  ${page}`]),
    `  watch:   guardia watch ${run.workflowId}`,
    `  cancel:  guardia cancel ${run.workflowId}`,
  ];
}
