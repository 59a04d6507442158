import { readFileSync } from 'node:fs';
import { text as readAll } from 'node:stream/consumers';
import type { Readable } from 'node:stream';
import { LineCounter, isMap, isScalar, parseDocument, type Document } from 'yaml';
import { z } from 'zod';
import { closestName } from '../activities/inventory/closest-name.js';
import type { Runbook } from '../workflows/contracts/runbooks.js';
import { CommandFailure } from './command-failure.js';

/** A field of a runbook's input, for help and for messages. */
export interface InputField {
  name: string;
  /** `true or false`, `text`, `one of: a, b`, ... */
  allowed: string;
  description: string;
  required: boolean;
  fallback?: unknown;
}

interface FieldSchema {
  type?: string;
  const?: unknown;
  enum?: unknown[];
  anyOf?: FieldSchema[];
  default?: unknown;
  description?: string;
  pattern?: string;
  maxLength?: number;
}

/** The fields of a runbook's input, in the order of its schema. */
export function inputFields(runbook: Pick<Runbook, 'input'>): InputField[] {
  const schema = inputJsonSchema(runbook);
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties ?? {}).map(([name, field]) => ({
    name,
    allowed: allowedText(field),
    description: field.description ?? '',
    required: required.has(name),
    ...(field.default === undefined ? {} : { fallback: field.default }),
  }));
}

export function inputJsonSchema(runbook: Pick<Runbook, 'input'>): {
  properties?: Record<string, FieldSchema>;
  required?: string[];
} {
  return z.toJSONSchema(runbook.input, { io: 'input' }) as ReturnType<typeof inputJsonSchema>;
}

function allowedText(field: FieldSchema): string {
  const choices = field.enum ?? (field.const === undefined ? undefined : [field.const]);
  if (choices) return `one of: ${choices.map(String).join(', ')}`;
  if (field.anyOf) return field.anyOf.map(allowedText).join(', or ');
  switch (field.type) {
    case 'boolean':
      return 'true or false';
    case 'integer':
      return 'a whole number';
    case 'number':
      return 'a number';
    case 'array':
      return 'a list';
    case 'object':
      return 'a mapping';
    default:
      return `text${field.maxLength === undefined ? '' : `, at most ${field.maxLength} characters`}`;
  }
}

/** Part of an input, and where each of its fields was said. */
export interface InputPart {
  values: Record<string, unknown>;
  /** `backup.yaml:3:5`, `--set`, `--reason`: where a field stands, for messages. */
  place(field: string): string;
}

/** Reads `--input FILE` or `--input -`: one YAML or JSON mapping. Throws `usage` with every place that cannot be read. */
export async function readInput(file: string, stdin: Readable): Promise<InputPart> {
  const name = file === '-' ? 'standard input' : file;
  let content: string;
  try {
    content = file === '-' ? await readAll(stdin) : readFileSync(file, 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const why =
      code === 'ENOENT'
        ? 'it does not exist'
        : code === 'EACCES'
          ? 'it may not be read'
          : code === 'EISDIR'
            ? 'it is a directory'
            : message;
    throw new CommandFailure(
      'usage',
      {
        message: `--input ${file} cannot be read: ${why}`,
        remedy: 'Name a JSON or YAML file, or - for standard input',
      },
      { cause: error },
    );
  }
  return parseInputText(content, name);
}

export function parseInputText(content: string, name: string): InputPart {
  const counter = new LineCounter();
  const document = parseDocument(content, { lineCounter: counter, prettyErrors: false, version: '1.2', merge: false });
  const at = (offset: number): string => {
    const { line, col } = counter.linePos(offset);
    return `${name}:${Math.max(1, line)}:${Math.max(1, col)}`;
  };
  if (document.errors.length > 0)
    throw new CommandFailure('usage', {
      message: document.errors
        .map(
          ({ code, message, pos }) =>
            `${at(pos[0])}: ${code === 'DUPLICATE_KEY' ? 'this field stands here twice; keep one' : `neither JSON nor YAML: ${message}`}`,
        )
        .join('\n'),
    });
  const value: unknown = document.toJS({ maxAliasCount: 100 });
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new CommandFailure('usage', {
      message: `${name}: the input is ${value === null || value === undefined ? 'empty' : Array.isArray(value) ? 'a list' : 'a single value'}`,
      remedy: 'Write one mapping of fields, for example {"system": "proofpass"}',
    });
  return { values: value as Record<string, unknown>, place: (field) => at(offsetOf(document, field)) };
}

function offsetOf(document: Document, field: string): number {
  const { contents } = document;
  const pair = isMap(contents)
    ? contents.items.find(({ key }) => isScalar(key) && String(key.value) === field)
    : undefined;
  const key = isScalar(pair?.key) ? pair.key : contents;
  return (key as { range?: [number, number, number] | null } | null | undefined)?.range?.[0] ?? 0;
}

/** Fields of an input as the values of `--set` that say them: what `parseSettings` reads. Pure. */
export const settingsOf = (input: Readonly<Record<string, unknown>>): string[] =>
  Object.entries(input).map(
    ([field, value]) => `${field}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  );

/**
 * The fields of `--set name=value`. A value is JSON where it reads as such and the field is no text. Throws `usage` for an
 * argument without a name.
 */
export function parseSettings(settings: readonly string[], runbook: Pick<Runbook, 'input'>): InputPart {
  const { properties = {} } = inputJsonSchema(runbook);
  const values: Record<string, unknown> = {};
  for (const setting of settings) {
    const equals = setting.indexOf('=');
    if (equals < 1)
      throw new CommandFailure('usage', {
        message: `--set ${setting}: not a field with a value`,
        remedy: 'Write --set FIELD=VALUE',
      });
    const name = setting.slice(0, equals);
    const text = setting.slice(equals + 1);
    values[name] = properties[name]?.type === 'string' ? text : jsonOr(text);
  }
  return { values, place: (field) => `--set ${field}` };
}

function jsonOr(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

/**
 * Puts the parts of an input together, later ones over earlier ones, and checks it with the runbook's schema. Returns what
 * was said, without defaults: the worker that takes the run up knows its own.
 * Throws `usage` that names every wrong field, where it was said and what is allowed.
 */
export function composeInput(
  runbook: Pick<Runbook, 'name' | 'input'>,
  parts: readonly InputPart[],
): Record<string, unknown> & { system: string } {
  const values: Record<string, unknown> = {};
  const places = new Map<string, string>();
  for (const part of parts) {
    for (const [field, value] of Object.entries(part.values)) {
      if (value === undefined) continue;
      values[field] = value;
      places.set(field, part.place(field));
    }
  }
  const parsed = runbook.input.safeParse(values);
  if (parsed.success) return values as Record<string, unknown> & { system: string };
  const fields = inputFields(runbook);
  const problems = parsed.error.issues.flatMap((issue) =>
    problemsOf(issue, values, fields).map(
      ([field, text]) => `${places.has(field) ? `${places.get(field)}: ` : ''}${text}`,
    ),
  );
  throw new CommandFailure('usage', {
    message: `the input of ${runbook.name} is wrong; nothing was started\n${problems.join('\n')}`,
    remedy: `\`guardia runbooks ${runbook.name}\` describes every field`,
  });
}

function problemsOf(
  issue: z.core.$ZodIssue,
  values: Record<string, unknown>,
  fields: readonly InputField[],
): [field: string, text: string][] {
  if (issue.code === 'unrecognized_keys' && issue.path.length === 0)
    return issue.keys.map((key) => {
      const names = fields.map(({ name }) => name);
      const meant = closestName(key, names);
      return [
        key,
        `there is no field "${key}"${meant === undefined ? '' : `; did you mean "${meant}"?`} (allowed: ${names.join(', ')})`,
      ];
    });
  const field = String(issue.path[0] ?? '');
  const allowed = fields.find(({ name }) => name === field)?.allowed;
  const hint = allowed === undefined ? '' : ` (allowed: ${allowed})`;
  if (!(field in values)) return [[field, field === '' ? issue.message : `"${field}" is missing${hint}`]];
  return [[field, `"${issue.path.map(String).join('.')}": ${issue.message}${hint}`]];
}
