import { z } from 'zod';
import { System } from '../../workflows/contracts/system.js';
import { isUnset } from '../../workflows/contracts/unset.js';
import { closestName } from './closest-name.js';
import type { Path } from './source-file.js';

/** One thing that is wrong in the inventory (`error`), or that is not filled in yet (`unset`). */
export interface Problem {
  file: string;
  line: number;
  column: number;
  /** Dotted path of the field. */
  path: string;
  message: string;
  /** What may stand there instead. */
  allowed?: string;
  severity: 'error' | 'unset';
}

/** A problem before its place in a file is known. */
export interface Mistake {
  path: Path;
  message: string;
  allowed?: string;
}

/** `FILE:LINE:COLUMN: PATH: MESSAGE (allowed: ...)`, one line. */
export function problemLine(problem: Problem): string {
  const { file, line, column, path, message, allowed } = problem;
  return `${file}:${line}:${column}: ${path === '' ? '' : `${path}: `}${message}${allowed ? ` (allowed: ${allowed})` : ''}`;
}

/** The parts of the JSON Schema of a system that are read here. */
interface Shape {
  type?: string;
  const?: unknown;
  enum?: unknown[];
  properties?: Record<string, Shape>;
  required?: string[];
  additionalProperties?: Shape | boolean;
  propertyNames?: Shape;
  items?: Shape;
  anyOf?: Shape[];
  oneOf?: Shape[];
  minimum?: number;
  maximum?: number;
  description?: string;
}

/** The JSON Schema of a system file (draft 2020-12), for editors and for the texts of problems. */
export const systemJsonSchema = z.toJSONSchema(System, { io: 'input' });
const shape = systemJsonSchema as Shape;

/**
 * Everything that is wrong with a system, as mistakes that a person can act on. Never repeats a value that could be a secret
 * pasted in the wrong place: only choices from a list are quoted.
 */
export function mistakesOf(error: z.ZodError, value: unknown): Mistake[] {
  return error.issues.flatMap((issue) => explain(issue, [], value));
}

type Issue = z.core.$ZodIssue;

function explain(issue: Issue, above: Path, root: unknown): Mistake[] {
  const path = [...above, ...issue.path.map((part) => (typeof part === 'symbol' ? String(part) : part))];
  const value = valueAt(root, path);
  const expected = expectedAt(path, root);
  if (value === undefined && issue.code !== 'custom' && issue.code !== 'invalid_key')
    return [{ path, message: 'is missing', ...(expected ? { allowed: expected } : {}) }];

  switch (issue.code) {
    case 'unrecognized_keys': {
      const names = fieldsAt(path, root);
      return issue.keys.map((key) => {
        const meant = closestName(key, names);
        const allowed = names.filter((name) => name === meant || !isFields(value) || !Object.hasOwn(value, name));
        return {
          path: [...path, key],
          message: `there is no field "${key}" here${meant ? `; did you mean "${meant}"?` : cutText(value, key)}`,
          allowed: allowed.length > 0 ? allowed.join(', ') : 'no further field',
        };
      });
    }
    case 'invalid_union': {
      if (issue.errors.length === 0) break;
      // A value that is not filled in is judged as one, anything else as what has to stand there.
      const looksUnset = isFields(value) && Object.hasOwn(value, 'unset');
      const branches = issue.errors.filter((branch) => branch.some(({ path: at }) => at[0] === 'unset') === looksUnset);
      const fitting = (branches.length > 0 ? branches : issue.errors).filter(
        (branch) =>
          !branch.some(
            ({ path: at, code }) => at.length === 0 && (code === 'invalid_type' || code === 'invalid_value'),
          ),
      );
      const [best] = fitting.sort((a, b) => a.length - b.length);
      if (best) return best.flatMap((inner) => explain(inner, path, root));
      break;
    }
    case 'invalid_key':
      return issue.issues.map(({ message }) => ({ path, message: 'this name is not allowed', allowed: text(message) }));
    case 'invalid_format':
      return [{ path, message: 'is not written as it has to be', allowed: text(issue.message) }];
    case 'custom':
      return [{ path, message: issue.message }];
    case 'too_small':
    case 'too_big':
      if (Array.isArray(value))
        return [
          { path, message: `has ${count(value.length, 'entry', 'entries')}`, allowed: `${bound(issue)} of them` },
        ];
      if (typeof value === 'string')
        return [
          {
            path,
            message: value === '' ? 'is empty' : `has ${count(value.length, 'character', 'characters')}`,
            allowed: `${bound(issue)} of them`,
          },
        ];
      return [{ path, message: `is ${String(value)}`, allowed: expected ?? bound(issue) }];
    case 'invalid_value':
      break;
    case 'invalid_type':
    case 'not_multiple_of':
    case 'invalid_element':
      break;
  }
  if (isUnset(value)) return [{ path, message: 'cannot be left unset', ...(expected ? { allowed: expected } : {}) }];
  const choices = choicesAt(path, root).map(String);
  const meant = typeof value === 'string' ? closestName(value, choices) : undefined;
  const quoted =
    typeof value === 'string' && value !== '' && shapesAt(path, root).some(({ type }) => isScalarOf(type, value));
  return [
    {
      path,
      message:
        typeof value === 'string' && choices.length > 0
          ? `"${value}" is not one of the choices${meant ? `; did you mean "${meant}"?` : ''}`
          : `is ${kindOf(value)}${quoted ? '; write it without quotes' : ''}`,
      ...(expected ? { allowed: expected } : {}),
    },
  ];
}

const isScalarOf = (type: string | undefined, text: string) =>
  type === 'boolean'
    ? /^(true|false)$/.test(text)
    : (type === 'integer' || type === 'number') && Number.isFinite(Number(text));

/** `{ a: one, two }` is two fields in YAML: a second one without a value was most likely meant as text. */
function cutText(value: unknown, key: string): string {
  const cut = isFields(value) && value[key] === null && key.includes(' ');
  return cut ? '; a comma within { } begins a new field: put the text before it in quotes' : '';
}

const count = (n: number, one: string, many: string) => `${n} ${n === 1 ? one : many}`;
const text = (message: string) => message.replace(/^allowed: /, '');

function bound(issue: Extract<Issue, { code: 'too_small' | 'too_big' }>): string {
  return issue.code === 'too_small' ? `at least ${String(issue.minimum)}` : `at most ${String(issue.maximum)}`;
}

/** What the schema says about a place, passing over the alternatives that the value at hand rules out. */
function shapesAt(path: Path, root: unknown): Shape[] {
  let shapes = alternatives(shape, root);
  let value = root;
  for (const part of path) {
    value = isFields(value) || Array.isArray(value) ? (value as Record<string | number, unknown>)[part] : undefined;
    shapes = shapes.flatMap((one) => {
      const under =
        typeof part === 'number'
          ? one.items
          : (one.properties?.[part] ??
            (typeof one.additionalProperties === 'object' ? one.additionalProperties : undefined));
      return under ? alternatives(under, value) : [];
    });
  }
  return shapes;
}

function alternatives(one: Shape, value: unknown): Shape[] {
  const branches = one.anyOf ?? one.oneOf;
  if (!branches) return [one];
  const all = branches.flatMap((branch) => alternatives(branch, value));
  if (!isFields(value)) return all;
  const fitting = all.filter(({ properties }) =>
    Object.entries(properties ?? {}).every(([key, field]) => field.const === undefined || field.const === value[key]),
  );
  return fitting.length > 0 ? fitting : all;
}

const isUnsetShape = ({ properties }: Shape) => properties !== undefined && Object.keys(properties).join() === 'unset';

function fieldsAt(path: Path, root: unknown): string[] {
  const shapes = shapesAt(path, root);
  const value = valueAt(root, path);
  const wanted =
    isFields(value) && Object.hasOwn(value, 'unset')
      ? shapes.filter(isUnsetShape)
      : shapes.filter((one) => !isUnsetShape(one));
  const names = wanted.flatMap(({ properties, propertyNames }) => [
    ...Object.keys(properties ?? {}),
    ...(propertyNames?.enum ?? []).map(String),
  ]);
  return [...new Set(names)];
}

function choicesAt(path: Path, root: unknown): unknown[] {
  return shapesAt(path, root).flatMap((one) => (one.const !== undefined ? [one.const] : (one.enum ?? [])));
}

/** What may stand at a place, in words. */
function expectedAt(path: Path, root: unknown): string | undefined {
  const shapes = shapesAt(path, root);
  const words = shapes.filter((one) => !isUnsetShape(one)).map(inWords);
  const choices = choicesAt(path, root).map((choice) => JSON.stringify(choice));
  const list = [...new Set([...choices, ...words.filter((word) => word !== undefined)])];
  if (shapes.some(isUnsetShape)) list.push('{ unset: "..." }');
  const last = list.pop();
  return list.length > 0 ? `${list.join(', ')} or ${last}` : last;
}

function inWords(one: Shape): string | undefined {
  if (one.const !== undefined || one.enum) return undefined;
  const described = one.description ? ` (${one.description})` : '';
  switch (one.type) {
    case 'string':
      return `text${described}`;
    case 'boolean':
      return 'true or false';
    case 'integer':
    case 'number': {
      const { minimum, maximum } = one;
      const most = maximum === undefined || maximum >= Number.MAX_SAFE_INTEGER ? undefined : maximum;
      const range =
        minimum !== undefined && most !== undefined
          ? ` from ${minimum} to ${most}`
          : minimum !== undefined
            ? ` from ${minimum}`
            : '';
      return `${one.type === 'integer' ? 'a whole number' : 'a number'}${range}`;
    }
    case 'array':
      return `a list${described}`;
    case 'object': {
      const names = Object.keys(one.properties ?? {});
      return names.length > 0
        ? `a mapping with ${(one.required ?? names).join(', ')}`
        : 'a mapping of names to entries';
    }
    default:
      return undefined;
  }
}

function kindOf(value: unknown): string {
  if (value === null) return 'empty';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a mapping';
  if (typeof value === 'string') return 'text';
  return typeof value === 'number' ? `the number ${value}` : String(value === true);
}

export function valueAt(root: unknown, path: Path): unknown {
  let value = root;
  for (const part of path) {
    if ((!isFields(value) && !Array.isArray(value)) || !Object.hasOwn(value, part)) return undefined;
    value = (value as Record<string | number, unknown>)[part];
  }
  return value;
}

function isFields(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
