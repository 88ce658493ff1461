import { Ajv2020 } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';

type Json = Record<string, unknown>;

export interface OpenApiCheck {
  /**
   * Throws unless the document foresees such an answer of the route: status, type and every field of the body.
   * @param path as it was asked, without the query
   */
  response(method: string, path: string, status: number, contentType: string, body: unknown): void;
  /** Whether the document's schema of this name takes the value. */
  accepts(schemaName: string, value: unknown): boolean;
}

/** Holds answers against an OpenAPI 3.1 document. Objects are closed: a field that isn't documented is a fault. */
export function createOpenApiCheck(document: Json): OpenApiCheck {
  const closed = toClosed(structuredClone(document)) as { readonly paths: Record<string, Json> };
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  addFormats.default(ajv);
  ajv.addFormat('binary', true);
  ajv.addSchema(closed, 'document');

  function findTemplate(method: string, path: string): string {
    const found = Object.keys(closed.paths).find((template) => {
      const pattern = template.replaceAll(/[.]/g, '\\.').replaceAll(/\{\w+\}/g, '[^/]+');
      return new RegExp(`^${pattern}$`).test(path) && method in closed.paths[template]!;
    });
    if (found === undefined) throw new Error(`The document has no ${method} ${path}.`);
    return found;
  }

  function check(reference: string, value: unknown): string | null {
    const validate = ajv.getSchema(`document#/${reference}`);
    if (validate === undefined) return `The document has no ${reference}.`;
    return validate(value) ? null : `${reference}: ${ajv.errorsText(validate.errors)}`;
  }

  return {
    response(method, path, status, contentType, body) {
      const type = contentType.split(';')[0]!;
      const template = findTemplate(method.toLowerCase(), path);
      const steps = [
        'paths',
        template,
        method.toLowerCase(),
        'responses',
        String(status),
        'content',
        type,
        'schema',
      ];
      const fault = check(
        steps
          .map((step) => step.replaceAll('~', '~0').replaceAll('/', '~1'))
          .map(encodeURIComponent)
          .join('/'),
        body,
      );
      if (fault !== null) throw new Error(`${method} ${path} ${status}: ${fault}`);
    },
    accepts: (name, value) => check(`components/schemas/${name}/`.slice(0, -1), value) === null,
  };
}

function toClosed(node: unknown): unknown {
  if (typeof node !== 'object' || node === null) return node;
  const object = node as Json;
  for (const part of Object.values(object)) toClosed(part);
  const isObjectSchema = object['type'] === 'object' && typeof object['properties'] === 'object';
  if (isObjectSchema && !('additionalProperties' in object)) object['additionalProperties'] = false;
  return node;
}
