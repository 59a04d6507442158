import { readFileSync } from 'node:fs';
import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, type Node } from 'yaml';

export type Path = readonly (string | number)[];
export interface Position {
  line: number;
  column: number;
}

/** A YAML file with the places of its values. */
export interface SourceFile {
  file: string;
  /** What the file says; undefined when it cannot be read as YAML. */
  value: unknown;
  /** What is wrong with the YAML itself. */
  mistakes: (Position & { message: string })[];
  /** How many parts of the path the file has, and where the last of them stands: its key, or the item of a list. */
  locate(path: Path): Position & { depth: number };
}

/** Reads a YAML file (version 1.2, one document, no key twice, no merge keys). Throws what the file system throws. */
export function readSourceFile(file: string): SourceFile {
  const counter = new LineCounter();
  const document = parseDocument(readFileSync(file, 'utf8'), {
    lineCounter: counter,
    prettyErrors: false,
    version: '1.2',
    merge: false,
  });
  const position = (offset: number): Position => {
    const { line, col } = counter.linePos(offset);
    return { line: Math.max(1, line), column: Math.max(1, col) };
  };
  const mistakes = [...document.errors, ...document.warnings].map(({ code, message, pos }) => ({
    ...position(pos[0]),
    message: code === 'DUPLICATE_KEY' ? 'this field stands here twice; keep one' : `not valid YAML: ${message}`,
  }));
  const readable = document.errors.every(({ code }) => code === 'DUPLICATE_KEY');
  let value: unknown;
  try {
    if (readable) value = document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    mistakes.push({
      line: 1,
      column: 1,
      message: `not valid YAML: ${error instanceof Error ? error.message : String(error)}`,
    });
  }

  return {
    file,
    value,
    mistakes,
    locate(path) {
      let node: unknown = document.contents;
      let offset = (document.contents as Node | null)?.range?.[0] ?? 0;
      for (const [depth, part] of path.entries()) {
        if (isAlias(node)) node = node.resolve(document);
        if (isMap(node)) {
          const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(part));
          if (!pair) return { ...position(offset), depth };
          offset = (pair.key as Node).range?.[0] ?? offset;
          node = pair.value;
        } else if (isSeq(node)) {
          const item = node.items[Number(part)] as Node | undefined;
          if (!item) return { ...position(offset), depth };
          offset = item.range?.[0] ?? offset;
          node = item;
        } else return { ...position(offset), depth };
      }
      return { ...position(offset), depth: path.length };
    },
  };
}
