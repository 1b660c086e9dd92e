// What one request did, and when.
import { useEffect, useState } from "preact/hooks";
import { askJson } from "./api";
import { Bar, Field, Problem, Table, textOf } from "./parts";

interface Span {
  name: string;
  span_id: string;
  parent_span_id: string | null;
  start_ns: number;
  end_ns: number;
  attributes: Record<string, unknown>;
}

interface Trace {
  trace_id: string;
  spans: Span[];
}

const milliseconds = (ns: number) => `${(ns / 1e6).toFixed(2)} ms`;

/** Parents before children, each level by start; a span whose parent is not there stands at the top. */
export function ordered(spans: Span[]): { span: Span; depth: number }[] {
  const known = new Set(spans.map((span) => span.span_id));
  const out: { span: Span; depth: number }[] = [];
  const under = (parent: string | null, depth: number) => {
    const here = spans.filter((span) => (parent === null ? !span.parent_span_id || !known.has(span.parent_span_id) : span.parent_span_id === parent));
    for (const span of here.sort((left, right) => left.start_ns - right.start_ns)) {
      if (out.some((one) => one.span === span)) continue; // a circle is no tree
      out.push({ span, depth });
      under(span.span_id, depth + 1);
    }
  };
  under(null, 0);
  return out;
}

export function Timeline({ id }: { id: string }) {
  const [wanted, setWanted] = useState(id);
  const [trace, setTrace] = useState<Trace | null>(null);
  const [error, setError] = useState<unknown>(null);
  const look = async (name: string) => {
    setError(null);
    setTrace(null);
    try {
      setTrace(await askJson<Trace>(`/v1/traces/${encodeURIComponent(name)}`));
    } catch (problem) {
      setError(problem);
    }
  };
  useEffect(() => {
    setWanted(id);
    if (id) void look(id);
  }, [id]);
  const begin = Math.min(...(trace?.spans ?? []).map((span) => span.start_ns));
  const end = Math.max(...(trace?.spans ?? []).map((span) => span.end_ns));
  return (
    <section aria-label="Timeline">
      <form
        class="panel"
        onSubmit={(event) => {
          event.preventDefault();
          location.hash = `#timeline/${wanted}`;
          if (wanted === id) void look(wanted);
        }}
      >
        <Field label="Request id" hint="of an answer, or its x-request-id"><input required value={wanted} onInput={(event) => setWanted(textOf(event))} /></Field>
        <button type="submit">Show</button>
      </form>
      <Problem error={error} />
      <div aria-live="polite">
        {trace ? (
          <>
            <p>Trace <code>{trace.trace_id}</code>, {milliseconds(end - begin)}</p>
            <Table name="spans" kind="spans" heads={["span", "begins", "takes", "when"]}>
              {ordered(trace.spans).map(({ span, depth }) => (
                <tr>
                  <th scope="row" style={{ paddingLeft: `${0.5 + depth}rem` }}>
                    {Object.keys(span.attributes).length ? (
                      <details><summary>{span.name}</summary><pre>{JSON.stringify(span.attributes, null, 1)}</pre></details>
                    ) : span.name}
                  </th>
                  <td>{milliseconds(span.start_ns - begin)}</td>
                  <td>{milliseconds(span.end_ns - span.start_ns)}</td>
                  <td><Bar whole={Math.max(end - begin, 1)} begin={span.start_ns - begin} parts={[{ kind: "used", size: span.end_ns - span.start_ns }]} /></td>
                </tr>
              ))}
            </Table>
          </>
        ) : null}
      </div>
    </section>
  );
}
