import type { Path, SourceFile } from './source-file.js';

type Fields = Record<string, unknown>;
const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The layouts that a shipped file describes: for each name what is different in it, as a JSON merge patch (RFC 7396). */
export function layoutsOf(value: unknown): Record<string, unknown> {
  const layouts = isFields(value) ? value['layouts'] : undefined;
  return isFields(layouts) ? layouts : {};
}

/** The shipped file as it reads in one of its layouts, or as it stands without a name; places of values are those of the layout where it has them. */
export function inLayout(shipped: SourceFile, name: string | undefined): SourceFile {
  if (!isFields(shipped.value)) return shipped;
  const { layouts: _, ...base } = shipped.value;
  const patch = name === undefined ? undefined : layoutsOf(shipped.value)[name];
  if (name === undefined || !isFields(patch)) return { ...shipped, value: base };
  return {
    ...shipped,
    value: { ...(mergePatch(base, patch) as Fields), layout: name },
    locate(at: Path) {
      const own = shipped.locate(at);
      const { depth, ...place } = shipped.locate(['layouts', name, ...at]);
      return depth - 2 >= own.depth && depth > 2 ? { ...place, depth: depth - 2 } : own;
    },
  };
}

/** RFC 7396: mappings are merged, null takes away, everything else replaces. */
function mergePatch(base: unknown, patch: unknown): unknown {
  if (!isFields(patch)) return patch;
  const result: Fields = isFields(base) ? { ...base } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = mergePatch(result[key], value);
  }
  return result;
}
