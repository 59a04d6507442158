import { stripVTControlCharacters } from 'node:util';

/** Columns side by side, as wide as their widest cell; the last one is left open. Colours do not count. Pure. */
export function textTable(
  rows: readonly (readonly string[])[],
  options: { head?: readonly string[]; indent?: string } = {},
): string {
  const all = options.head ? [options.head, ...rows] : rows;
  const widths: number[] = [];
  for (const row of all) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, visibleWidth(cell))));
  return all
    .map((row) => {
      const cells = row.map(
        (cell, i) => cell + ' '.repeat(i === row.length - 1 ? 0 : (widths[i] as number) - visibleWidth(cell)),
      );
      return `${options.indent ?? ''}${cells.join('  ')}`.trimEnd();
    })
    .join('\n');
}

export function visibleWidth(text: string): number {
  return [...stripVTControlCharacters(text)].length;
}

/** The text, cut to a number of columns. Only for text without colours. */
export function fit(text: string, columns: number): string {
  const characters = [...text];
  return characters.length <= columns ? text : `${characters.slice(0, Math.max(0, columns - 1)).join('')}…`;
}
