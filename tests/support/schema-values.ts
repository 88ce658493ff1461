import fc, { type Arbitrary } from 'fast-check';

export interface Schema {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly format?: string;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly example?: unknown;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly items?: Schema;
  readonly minItems?: number;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: boolean | Schema;
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly allOf?: readonly Schema[];
}

export type Resolve = (reference: string) => Schema;

const anyText = fc.oneof(
  fc.string({ maxLength: 30 }),
  fc.string({ unit: 'binary', maxLength: 30 }),
  fc.constantFrom('', '.', '..', '__proto__', 'constructor', '\ud800', '\0', "'; DROP TABLE jobs; --", '%00'),
  fc.nat(20_000).map((length) => 'x'.repeat(length)),
);

/** Values of the schema, nearly: most follow it, and any part of them may be something else. */
export function toValues(schema: Schema, resolve: Resolve): Arbitrary<unknown> {
  return fc.oneof(
    { weight: 12, arbitrary: toFitting(schema, resolve) },
    { weight: 1, arbitrary: fc.oneof(fc.jsonValue({ maxDepth: 3 }), anyText) },
  );
}

function toFitting(schema: Schema, resolve: Resolve): Arbitrary<unknown> {
  if (schema.$ref !== undefined) return toFitting(resolve(schema.$ref), resolve);
  if (schema.const !== undefined) return fc.constant(schema.const);
  if (schema.enum !== undefined) return fc.constantFrom(...schema.enum);
  const choices = schema.anyOf ?? (schema.properties === undefined ? schema.oneOf : undefined);
  if (choices !== undefined) return fc.oneof(...choices.map((choice) => toFitting(choice, resolve)));
  if (schema.allOf?.[0] !== undefined) return toFitting(schema.allOf[0], resolve);
  const [type] = [schema.type ?? 'any'].flat();
  const { minimum = -1e9, maximum = 1e9 } = schema;
  switch (type) {
    case 'string':
      return toTexts(schema);
    case 'integer':
      return fc.oneof(
        fc.integer({ min: Math.max(minimum, -(2 ** 31)), max: Math.min(maximum, 2 ** 31 - 1) }),
        fc.constantFrom(minimum, maximum, Number.MAX_SAFE_INTEGER, 0, 1),
      );
    case 'number':
      return fc.double({ min: minimum, max: maximum, noNaN: true });
    case 'boolean':
      return fc.boolean();
    case 'null':
      return fc.constant(null);
    case 'array':
      return fc.array(toValues(schema.items ?? {}, resolve), {
        minLength: schema.minItems ?? 0,
        maxLength: 5,
      });
    case 'object':
      return toObjects(schema, resolve);
    default:
      return fc.jsonValue({ maxDepth: 3 });
  }
}

function toTexts({ format, example, minLength = 0, maxLength = 40 }: Schema): Arbitrary<unknown> {
  const formats: Readonly<Record<string, Arbitrary<string>>> = {
    uuid: fc.uuid(),
    'date-time': fc.date({ noInvalidDate: true }).map((date) => date.toISOString()),
    uri: fc.webUrl(),
  };
  const known = format === undefined ? undefined : formats[format];
  const text = known ?? fc.string({ minLength, maxLength: Math.max(minLength, Math.min(maxLength, 40)) });
  return typeof example === 'string' ? fc.oneof(text, fc.constant(example)) : text;
}

function toObjects(schema: Schema, resolve: Resolve): Arbitrary<unknown> {
  const properties = Object.entries(schema.properties ?? {});
  const known = fc.record(
    Object.fromEntries(properties.map(([name, part]) => [name, toValues(part, resolve)])),
    { requiredKeys: [] },
  );
  // Each required field is there nearly always, the others seldom: an object with all of them is rarely valid.
  const kept = fc.array(fc.nat(9), { minLength: properties.length, maxLength: properties.length });
  const own = fc
    .tuple(known, kept)
    .map(([object, dice]) =>
      Object.fromEntries(
        Object.entries(object).filter(([name], at) =>
          schema.required?.includes(name) ? (dice[at] ?? 0) > 0 : (dice[at] ?? 0) > 6,
        ),
      ),
    );
  const { additionalProperties = false } = schema;
  const others =
    typeof additionalProperties === 'object'
      ? fc.dictionary(fc.string(), toValues(additionalProperties, resolve), { maxKeys: 4 })
      : fc.oneof(
          { weight: 9, arbitrary: fc.constant({}) },
          { weight: 1, arbitrary: fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 1 }), { maxKeys: 3 }) },
        );
  return fc.tuple(own, others).map(([object, more]) => ({ ...object, ...more }));
}
