/**
 * Quotes one argument for a POSIX shell, so that the shell passes it on unchanged.
 * Any text without NUL; throws a RangeError for NUL, which no argument of a Unix process can hold.
 */
export function quote(argument: string): string {
  if (argument.includes('\0')) throw new RangeError('an argument cannot hold a NUL character; send such data by stdin');
  if (/^[A-Za-z0-9_@%+=:,./-]+$/.test(argument)) return argument;
  return `'${argument.replaceAll("'", `'\\''`)}'`;
}

/** A command line for a POSIX shell that runs exactly this argument list. */
export function commandLine(argv: readonly string[]): string {
  return argv.map(quote).join(' ');
}
