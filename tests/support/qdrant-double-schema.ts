import { existsSync, readFileSync } from 'node:fs';
import { Ajv } from 'ajv';
import addFormats from 'ajv-formats';

const OPENAPI = new URL('../../../shared/qdrant/openapi-1.19.json', import.meta.url);

interface RawOperation {
  readonly parameters?: readonly { readonly in: string; readonly name: string }[];
  readonly requestBody?: object;
}

/** Where something leaves Qdrant's own API description; nothing where the description is absent. */
export interface ApiDescription {
  requestFaults(method: string, path: string, query: string, body: unknown): readonly string[];
  answerFaults(method: string, path: string, body: unknown): readonly string[];
}

function readApiDescription(): ApiDescription {
  if (!existsSync(OPENAPI)) {
    console.log('The Qdrant double validates nothing: ../shared/qdrant/openapi-1.19.json is absent.');
    return { requestFaults: () => [], answerFaults: () => [] };
  }
  const document = toStrict(JSON.parse(readFileSync(OPENAPI, 'utf8'))) as {
    readonly paths: Record<string, Record<string, RawOperation>>;
  };
  const ajv = new Ajv({ strict: false });
  addFormats.default(ajv);
  for (const format of ['uint', 'uint8', 'uint16', 'uint32', 'uint64']) {
    ajv.addFormat(format, { type: 'number', validate: (value) => Number.isInteger(value) && value >= 0 });
  }
  ajv.addSchema(document, 'qdrant');

  const faultsOf = (steps: readonly (string | number)[], value: unknown): readonly string[] => {
    const pointer = steps.map((step) =>
      encodeURIComponent(String(step).replaceAll('~', '~0').replaceAll('/', '~1')),
    );
    const validate = ajv.getSchema(`qdrant#/paths/${pointer.join('/')}`);
    return validate?.(value) === true ? [] : [`${steps.join(' ')}: ${ajv.errorsText(validate?.errors)}`];
  };
  const find = (method: string, path: string): readonly [string, RawOperation | undefined] => {
    const template = Object.keys(document.paths).find(
      (candidate) =>
        new RegExp(`^${candidate.replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(path) &&
        document.paths[candidate]?.[method] !== undefined,
    );
    return [template ?? path, document.paths[template ?? '']?.[method]];
  };

  return {
    requestFaults(method, path, query, body) {
      const [template, operation] = find(method, path);
      if (operation === undefined) return [`Qdrant knows no ${method} ${path}`];
      const queryFaults = [...new URLSearchParams(query)].flatMap(([name, value]) => {
        const at = operation.parameters?.findIndex(({ name: known }) => known === name) ?? -1;
        if (at === -1) return [`${template} ${method} knows no parameter ${name}`];
        const typed: unknown = /^(?:true|false|\d+)$/.test(value) ? JSON.parse(value) : value;
        return faultsOf([template, method, 'parameters', at, 'schema'], typed);
      });
      if (operation.requestBody === undefined) return queryFaults;
      const steps = [template, method, 'requestBody', 'content', 'application/json', 'schema'];
      return [...queryFaults, ...faultsOf(steps, body)];
    },
    answerFaults: (method, path, body) =>
      faultsOf(
        [find(method, path)[0], method, 'responses', 200, 'content', 'application/json', 'schema'],
        body,
      ),
  };
}

let description: ApiDescription | undefined;

/** Read once a process: the description has half a megabyte. */
export function apiDescription(): ApiDescription {
  description ??= readApiDescription();
  return description;
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
