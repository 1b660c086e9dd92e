// A small look at whether a value follows a schema: the server enforces all of it, this shows the common keywords.
type Schema = boolean | { [name: string]: any };

const typeOf = (value: unknown) =>
  value === null ? "null" : Array.isArray(value) ? "array" : Number.isInteger(value) ? "integer" : typeof value;

/** Sentences, each with where in the value it is. */
export function faults(schema: Schema, value: any, at = "$"): string[] {
  if (typeof schema === "boolean") return schema ? [] : [`${at} must not be there`];
  const out: string[] = [];
  const kinds: string[] = schema.type === undefined ? [] : [schema.type].flat();
  const own = typeOf(value);
  if (kinds.length && !kinds.includes(own) && !(own === "integer" && kinds.includes("number"))) {
    out.push(`${at} is ${own}, not ${kinds.join(" or ")}`);
  }
  if (schema.enum && !schema.enum.some((one: unknown) => JSON.stringify(one) === JSON.stringify(value))) out.push(`${at} is none of the values`);
  if (schema.const !== undefined && JSON.stringify(schema.const) !== JSON.stringify(value)) out.push(`${at} is another value`);
  if (typeof value === "number") {
    if (value < (schema.minimum ?? -Infinity)) out.push(`${at} is below ${schema.minimum}`);
    if (value > (schema.maximum ?? Infinity)) out.push(`${at} is above ${schema.maximum}`);
  }
  if (typeof value === "string") {
    if ([...value].length < (schema.minLength ?? 0)) out.push(`${at} is too short`);
    if ([...value].length > (schema.maxLength ?? Infinity)) out.push(`${at} is too long`);
    if (schema.pattern && !new RegExp(schema.pattern, "u").test(value)) out.push(`${at} does not match the pattern`);
  }
  if (Array.isArray(value)) {
    if (value.length < (schema.minItems ?? 0)) out.push(`${at} has too few items`);
    if (value.length > (schema.maxItems ?? Infinity)) out.push(`${at} has too many items`);
    if (schema.items !== undefined) value.forEach((item, index) => out.push(...faults(schema.items, item, `${at}[${index}]`)));
  } else if (own === "object") {
    for (const name of schema.required ?? []) if (!(name in value)) out.push(`${at}.${name} is missing`);
    for (const [name, member] of Object.entries(value)) {
      const rule = schema.properties?.[name] ?? schema.additionalProperties;
      if (rule !== undefined) out.push(...faults(rule, member, `${at}.${name}`));
    }
  }
  return out;
}
