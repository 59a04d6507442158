/** What stands before a line that guardia has taken over. */
const MARK = '# guardia has taken this over: ';

const holds = (line: string, commands: readonly string[]): boolean =>
  !/^\s*#/.test(line) && commands.some((command) => line.includes(command));

/** The lines of a crontab that are in force and hold one of the commands. Pure. */
export const linesInForce = (text: string, commands: readonly string[]): string[] =>
  text.split('\n').filter((line) => holds(line, commands));

/** The lines that guardia has turned into comments and that hold one of the commands, as they were. Pure. */
export const linesTakenOver = (text: string, commands: readonly string[]): string[] =>
  text.split('\n').flatMap((line) => {
    const was = line.startsWith(MARK) ? line.slice(MARK.length) : '';
    return holds(was, commands) ? [was] : [];
  });

/** Of those the ones that nobody has added again by hand since: they would be in force twice. Pure. */
export const linesToPutBack = (text: string, commands: readonly string[]): string[] => {
  const inForce = linesInForce(text, commands);
  return linesTakenOver(text, commands).filter((line) => !inForce.includes(line));
};

/** The crontab with the lines that hold one of the commands as comments; every other byte as it was. Pure. */
export const withoutLines = (text: string, commands: readonly string[]): string =>
  text
    .split('\n')
    .map((line) => (holds(line, commands) ? MARK + line : line))
    .join('\n');

/**
 * The way back of `withoutLines`: these lines are in force again, whatever else was changed meanwhile. As many copies of each as are named, the last
 * ones, and never one of those that were comments `before`: a line may have been taken over once and added by hand since. Journals of earlier versions
 * have no `before`. Pure.
 */
export const linesBack = (text: string, lines: readonly string[], before: readonly string[] = []): string =>
  turned(
    text,
    lines.map((line) => MARK + line),
    before.map((line) => MARK + line),
    (line) => line.slice(MARK.length),
  );

/** The way back of `linesBack`: these lines, whole, are comments again; never one of those that were in force `before`. Pure. */
export const commentsBack = (text: string, lines: readonly string[], before: readonly string[] = []): string =>
  turned(text, lines, before, (line) => MARK + line);

function turned(
  text: string,
  lines: readonly string[],
  before: readonly string[],
  turn: (line: string) => string,
): string {
  const whole = text.split('\n');
  const count = (all: readonly string[], line: string): number => all.filter((one) => one === line).length;
  return whole
    .map((line, i) => {
      const most = Math.min(count(lines, line), count(whole, line) - count(before, line));
      return count(whole.slice(i), line) <= most ? turn(line) : line;
    })
    .join('\n');
}
