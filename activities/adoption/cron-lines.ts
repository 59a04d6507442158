/** What stands before a line that guardia has taken over. */
const MARK = '# guardia has taken this over: ';

const holds = (line: string, commands: readonly string[]): boolean =>
  !/^\s*#/.test(line) && commands.some((command) => line.includes(command));

/** How many lines of a crontab are in force and hold one of the commands. Pure. */
export const linesInForce = (text: string, commands: readonly string[]): number =>
  text.split('\n').filter((line) => holds(line, commands)).length;

/** The crontab with those lines as comments; every other byte as it was. Pure. */
export const withoutLines = (text: string, commands: readonly string[]): string =>
  text
    .split('\n')
    .map((line) => (holds(line, commands) ? MARK + line : line))
    .join('\n');

/** The way back: lines that guardia has turned into comments are in force again, whatever else was changed meanwhile. Pure. */
export const withLines = (text: string, lines: readonly string[]): string =>
  text
    .split('\n')
    .map((line) => (line.startsWith(MARK) && lines.includes(line.slice(MARK.length)) ? line.slice(MARK.length) : line))
    .join('\n');

/** The lines that `withoutLines` turns into comments. Pure. */
export const linesOf = (text: string, commands: readonly string[]): string[] =>
  text.split('\n').filter((line) => holds(line, commands));

/** The lines that guardia has turned into comments and that hold one of the commands, as they were. Pure. */
export const linesTakenOver = (text: string, commands: readonly string[]): string[] =>
  text.split('\n').flatMap((line) => {
    const was = line.startsWith(MARK) ? line.slice(MARK.length) : '';
    return holds(was, commands) ? [was] : [];
  });
