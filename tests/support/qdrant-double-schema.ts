import { existsSync, readFileSync } from 'node:fs';
import { Ajv, type ValidateFunction } from 'ajv';
import addFormats from 'ajv-formats';

const OPENAPI = new URL('../../../shared/qdrant/openapi-1.19.json', import.meta.url);

type Content = Record<string, { readonly schema: object }>;

interface RawOperation {
  readonly parameters?: readonly { readonly in: string; readonly name: string; readonly schema: object }[];
  readonly requestBody?: { readonly content: Content };
  readonly responses: Record<string, { readonly content?: Content }>;
}

/** What Qdrant's own API description says of a request and of its answer. */
export interface ApiDescription {
  /** What is wrong with the request; nothing when it is as described. */
  requestFaults(method: string, path: string, query: URLSearchParams, body: unknown): readonly string[];
  answerFaults(method: string, path: string, body: unknown): readonly string[];
}

/** Null where the description is absent. */
export function readApiDescription(): ApiDescription | null {
  if (!existsSync(OPENAPI)) {
    console.log(
      'Requests to the Qdrant double are not validated: ../shared/qdrant/openapi-1.19.json is absent.',
    );
    return null;
  }
  const document = toStrict(JSON.parse(readFileSync(OPENAPI, 'utf8'))) as {
    readonly components: object;
    readonly paths: Record<string, Record<string, RawOperation>>;
  };
  const ajv = new Ajv({ strict: false });
  addFormats.default(ajv);
  for (const format of ['uint', 'uint8', 'uint16', 'uint32', 'uint64']) {
    ajv.addFormat(format, { type: 'number', validate: (value) => Number.isInteger(value) && value >= 0 });
  }
  ajv.addSchema({ $id: 'qdrant', components: document.components });

  const validators = new Map<object, ValidateFunction>();
  const faultsOf = (schema: object | undefined, value: unknown, where: string): readonly string[] => {
    if (schema === undefined) return [];
    const validate = validators.get(schema) ?? ajv.compile(withBase(schema) as object);
    validators.set(schema, validate);
    return validate(value) === true ? [] : [`${where}: ${ajv.errorsText(validate.errors)}`];
  };
  const operations = Object.entries(document.paths).flatMap(([template, methods]) =>
    Object.entries(methods).map(([method, raw]) => ({
      path: new RegExp(`^${template.replaceAll(/\{[^}]+\}/g, '[^/]+')}$`),
      method: method.toUpperCase(),
      raw,
    })),
  );
  const find = (method: string, path: string): RawOperation | undefined =>
    operations.find((operation) => operation.method === method && operation.path.test(path))?.raw;

  return {
    requestFaults(method, path, query, body) {
      const operation = find(method, path);
      if (operation === undefined) return [`Qdrant knows no ${method} ${path}`];
      const parameters = operation.parameters?.filter((parameter) => parameter.in === 'query') ?? [];
      const queryFaults = [...query].flatMap(([name, value]) => {
        const parameter = parameters.find((candidate) => candidate.name === name);
        return parameter === undefined
          ? [`unknown parameter ${name}`]
          : faultsOf(parameter.schema, toValue(value), name);
      });
      const content = operation.requestBody?.content['application/json'];
      return [...queryFaults, ...faultsOf(content?.schema, body, 'body')];
    },
    answerFaults(method, path, body) {
      const content = find(method, path)?.responses['200']?.content?.['application/json'];
      return faultsOf(content?.schema, body, `answer to ${method} ${path}`);
    },
  };
}

function toValue(text: string): unknown {
  return /^(?:true|false|\d+)$/.test(text) ? JSON.parse(text) : text;
}

/**
 * The OpenAPI schemas as JSON Schema, and stricter. `{nullable: true}` alone would let anything pass where null is
 * meant; and a name that the description doesn't know, which Qdrant would ignore, is a mistake of ours.
 */
function toStrict(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(toStrict);
  if (typeof node !== 'object' || node === null) return node;
  const { nullable, ...rest } = node as Record<string, unknown>;
  const strict = Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, toStrict(value)]));
  if (nullable === true && Object.keys(rest).length === 0) return { type: 'null' };
  if (nullable === true && typeof rest['type'] === 'string') strict['type'] = [rest['type'], 'null'];
  if (rest['type'] === 'object' && 'properties' in rest && !('additionalProperties' in rest)) {
    strict['additionalProperties'] = false;
  }
  return strict;
}

/** A schema taken out of the document still refers to its components. */
function withBase(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(withBase);
  if (typeof node !== 'object' || node === null) return node;
  return Object.fromEntries(
    Object.entries(node).map(([key, value]) => [
      key,
      key === '$ref' ? `qdrant${String(value)}` : withBase(value),
    ]),
  );
}
