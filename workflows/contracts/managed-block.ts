/**
 * A block that guardia keeps in a file of somebody else's: its lines stand between two markers, and the rest of the file is left alone,
 * byte for byte. Pure. A file is a string here in which every character is one byte (latin1), so that no encoding is touched.
 */
export interface ManagedBlock {
  /** Names the block in its markers. */
  name: string;
  /** What starts a comment in this kind of file. */
  comment: string;
  /** Where a new block goes; one that is there stays in its place. */
  at: 'start' | 'end';
}

const begin = ({ name, comment }: ManagedBlock): string => `${comment} BEGIN guardia ${name}: changes in here are lost`;
const end = ({ name, comment }: ManagedBlock): string => `${comment} END guardia ${name}`;

/** Thrown where the markers of a file do not come in one pair. */
export class BrokenBlock extends Error {}

interface Found {
  from: number;
  to: number;
  content: string;
  /** How its lines end. */
  lineEnd: string;
}

/**
 * Where the block stands with its markers: [from, to), and its content. Undefined where the file has none. An editor may have given the whole file other
 * line ends: it is the same block.
 */
function find(text: string, block: ManagedBlock): Found | undefined {
  const lines = text.split('\n');
  const plain = lines.map((line) => line.replace(/\r$/, ''));
  const starts = plain.flatMap((line, i) => (line === begin(block) ? [i] : []));
  const ends = plain.flatMap((line, i) => (line === end(block) ? [i] : []));
  if (starts.length === 0 && ends.length === 0) return undefined;
  const [first] = starts;
  const [last] = ends;
  if (starts.length !== 1 || ends.length !== 1 || first === undefined || last === undefined || last < first)
    throw new BrokenBlock(`the markers of block ${block.name} do not come in one pair`);
  const offset = (line: number): number => lines.slice(0, line).reduce((sum, one) => sum + one.length + 1, 0);
  const lineEnd = lines[first] === plain[first] ? '\n' : '\r\n';
  const content = (lineEnd === '\n' ? lines : plain).slice(first + 1, last).map((line) => `${line}\n`);
  return { from: offset(first), to: Math.min(offset(last + 1), text.length), content: content.join(''), lineEnd };
}

/** The block's content, each line with the line end \n, whatever the file has; undefined where the file has no such block. Throws `BrokenBlock`. */
export function blockIn(text: string, block: ManagedBlock): string | undefined {
  return find(text, block)?.content;
}

/** The file with this content of the block, in the file's own line ends. A file that lacks its last line end gets one before a block at its end. */
export function withBlock(text: string, block: ManagedBlock, content: string): string {
  const lines = content === '' || content.endsWith('\n') ? content : `${content}\n`;
  const found = find(text, block);
  const lineEnd = found?.lineEnd ?? /\r?\n/.exec(text)?.[0] ?? '\n';
  const whole = `${begin(block)}\n${lines}${end(block)}\n`.replaceAll('\n', lineEnd);
  if (found) return text.slice(0, found.from) + whole + text.slice(found.to);
  if (block.at === 'start') return whole + text;
  return text + (text === '' || text.endsWith('\n') ? '' : lineEnd) + whole;
}

/** The file without the block. `lineEndAdded`: the line end before it was added with the block, and goes with it. */
export function withoutBlock(text: string, block: ManagedBlock, lineEndAdded = false): string {
  const found = find(text, block);
  if (!found) return text;
  const before = text.slice(0, found.from);
  const without = lineEndAdded && before.endsWith(found.lineEnd) ? before.slice(0, -found.lineEnd.length) : before;
  return without + text.slice(found.to);
}
