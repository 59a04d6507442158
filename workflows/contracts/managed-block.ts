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

/** Where the block stands with its markers: [from, to), and its content. Undefined where the file has none. */
function find(text: string, block: ManagedBlock): { from: number; to: number; content: string } | undefined {
  const lines = text.split('\n');
  const starts = lines.flatMap((line, i) => (line === begin(block) ? [i] : []));
  const ends = lines.flatMap((line, i) => (line === end(block) ? [i] : []));
  if (starts.length === 0 && ends.length === 0) return undefined;
  const [first] = starts;
  const [last] = ends;
  if (starts.length !== 1 || ends.length !== 1 || first === undefined || last === undefined || last < first)
    throw new BrokenBlock(`the markers of block ${block.name} do not come in one pair`);
  const offset = (line: number): number => lines.slice(0, line).reduce((sum, one) => sum + one.length + 1, 0);
  const content = lines.slice(first + 1, last).map((line) => `${line}\n`);
  return { from: offset(first), to: Math.min(offset(last + 1), text.length), content: content.join('') };
}

/** The block's content, each line with its line end; undefined where the file has no such block. Throws `BrokenBlock`. */
export function blockIn(text: string, block: ManagedBlock): string | undefined {
  return find(text, block)?.content;
}

/** The file with this content of the block. A file that lacks its last line end gets one before a block at its end. */
export function withBlock(text: string, block: ManagedBlock, content: string): string {
  const lines = content === '' || content.endsWith('\n') ? content : `${content}\n`;
  const whole = `${begin(block)}\n${lines}${end(block)}\n`;
  const found = find(text, block);
  if (found) return text.slice(0, found.from) + whole + text.slice(found.to);
  if (block.at === 'start') return whole + text;
  return text + (text === '' || text.endsWith('\n') ? '' : '\n') + whole;
}

/** The file without the block. `lineEndAdded`: the line end before it was added with the block, and goes with it. */
export function withoutBlock(text: string, block: ManagedBlock, lineEndAdded = false): string {
  const found = find(text, block);
  if (!found) return text;
  const before = text.slice(0, found.from);
  return (lineEndAdded && before.endsWith('\n') ? before.slice(0, -1) : before) + text.slice(found.to);
}
