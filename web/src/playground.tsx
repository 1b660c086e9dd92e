// One request with every sampling setting, constraints, logprobs and both bodies as they are.
import { useEffect, useState } from "preact/hooks";
import { askJson } from "./api";
import { Field, Problem, textOf } from "./parts";
import { useKept } from "./store";
import { faults } from "./schema";

interface Likely {
  token: string;
  logprob: number;
}

interface Answer {
  id: string;
  choices: { message: { content: string | null; reasoning_content?: string }; finish_reason: string; logprobs?: { content: (Likely & { top_logprobs: Likely[] })[] } }[];
  usage: { prompt_tokens: number; completion_tokens: number };
}

const kNumbers = [
  ["temperature", "0 to 2"], ["top_p", "0 to 1"], ["top_k", "-1: off"], ["min_p", "0 to 1"], ["max_tokens", ""], ["seed", ""],
  ["presence_penalty", "-2 to 2"], ["frequency_penalty", "-2 to 2"], ["repetition_penalty", "0 to 2"],
] as const;

type Kind = "none" | "json" | "regex" | "choice";

const kExamples: Record<Kind, string> = {
  none: "",
  json: '{"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"], "additionalProperties": false}',
  regex: "[0-9]{1,3}",
  choice: "yes\nno",
};

function constraint(kind: Kind, text: string): object {
  if (kind === "none") return {};
  if (kind === "json") return { json: JSON.parse(text) };
  return kind === "regex" ? { regex: text } : { choice: text.split("\n").filter((line) => line) };
}

// Why the text of the constraint cannot be one; empty: it can.
function wrong(kind: Kind, text: string): string {
  try {
    const made = constraint(kind, text);
    if (kind === "regex") new RegExp(text, "u");
    return kind === "choice" && !(made as { choice: string[] }).choice.length ? "a choice needs a line at least" : "";
  } catch (error) {
    return (error as Error).message;
  }
}

// What of the answer does not follow the constraint.
function judge(kind: Kind, text: string, answer: string): string[] {
  if (kind === "regex") return new RegExp(`^(?:${text})$`, "u").test(answer) ? [] : ["the answer does not match the pattern"];
  if (kind === "choice") return text.split("\n").includes(answer) ? [] : ["the answer is none of the choices"];
  try {
    return kind === "json" ? faults(JSON.parse(text), JSON.parse(answer)) : [];
  } catch (error) {
    return [(error as Error).message];
  }
}

export function Playground({ model }: { model: string }) {
  const [prompt, setPrompt] = useKept("play.prompt", "What is 17 + 25?");
  const [numbers, setNumbers] = useKept<Record<string, string>>("play.numbers", { max_tokens: "64" });
  const [stops, setStops] = useKept("play.stops", "");
  const [kind, setKind] = useKept<Kind>("play.kind", "none");
  const [text, setText] = useKept("play.constraint", "");
  const [alternatives, setAlternatives] = useKept("play.logprobs", "5");
  const [sent, setSent] = useState<object | null>(null);
  const [answer, setAnswer] = useState<Answer | null>(null);
  const [judged, setJudged] = useState<string[] | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [running, setRunning] = useState<AbortController | null>(null);
  const [shown, setShown] = useState(0);
  const fault = wrong(kind, text);
  useEffect(() => () => running?.abort(), [running]);

  const run = async () => {
    const made = constraint(kind, text);
    const body = {
      ...(model ? { model } : {}),
      messages: [{ role: "user", content: prompt }],
      ...Object.fromEntries(Object.entries(numbers).filter(([, value]) => value !== "").map(([name, value]) => [name, Number(value)])),
      ...(stops ? { stop: stops.split("\n").filter((line) => line) } : {}),
      ...(kind === "none" ? {} : { structured_outputs: made }),
      ...(Number(alternatives) > 0 ? { logprobs: true, top_logprobs: Number(alternatives) } : {}),
    };
    const stop = new AbortController();
    setRunning(stop);
    setSent(body);
    setAnswer(null);
    setJudged(null);
    setError(null);
    setShown(0);
    try {
      const got = await askJson<Answer>("/v1/chat/completions", { body, signal: stop.signal });
      setAnswer(got);
      if (kind !== "none") setJudged(judge(kind, text, got.choices[0]?.message.content ?? ""));
    } catch (problem) {
      if (!stop.signal.aborted) setError(problem);
    }
    setRunning(null);
  };

  const choice = answer?.choices[0];
  const tokens = choice?.logprobs?.content ?? [];
  const token = tokens[shown];
  return (
    <section aria-label="Playground" class="columns">
      <form
        class="panel"
        onSubmit={(event) => {
          event.preventDefault();
          if (!running && !fault) void run();
        }}
      >
        <Field label="Prompt"><textarea rows={4} required value={prompt} onInput={(event) => setPrompt(textOf(event))} /></Field>
        <div class="grid three">
          {kNumbers.map(([name, hint]) => (
            <Field label={name} hint={hint}>
              <input type="number" step="any" value={numbers[name] ?? ""} onInput={(event) => setNumbers({ ...numbers, [name]: textOf(event) })} />
            </Field>
          ))}
          <Field label="alternatives" hint="0 to 20"><input type="number" min={0} max={20} value={alternatives} onInput={(event) => setAlternatives(textOf(event))} /></Field>
        </div>
        <Field label="Stop strings" hint="one a line"><textarea rows={1} value={stops} onInput={(event) => setStops(textOf(event))} /></Field>
        <Field label="Constraint">
          <select
            value={kind}
            onChange={(event) => {
              const next = textOf(event) as Kind;
              setKind(next);
              setText(kExamples[next]);
            }}
          >
            <option value="none">none</option>
            <option value="json">JSON schema</option>
            <option value="regex">regular expression</option>
            <option value="choice">choice, one a line</option>
          </select>
        </Field>
        {kind === "none" ? null : (
          <Field label={kind === "json" ? "Schema" : kind === "regex" ? "Pattern" : "Choices"}>
            <textarea rows={4} aria-invalid={Boolean(fault)} aria-describedby="fault" value={text} onInput={(event) => setText(textOf(event))} />
          </Field>
        )}
        <p id="fault" role="status" class={fault ? "bad" : "good"}>{kind === "none" ? "" : fault || "well-formed"}</p>
        <div class="row">
          <button type="submit" class="strong" disabled={Boolean(running) || Boolean(fault)}>Run</button>
          {running ? <button type="button" onClick={() => running.abort()}>Stop</button> : null}
        </div>
      </form>
      <div class="panel" aria-live="polite" aria-busy={Boolean(running)}>
        <Problem error={error} />
        {choice ? (
          <>
            <h2>Answer</h2>
            {choice.message.reasoning_content ? <details><summary>Thinking</summary><p class="plain">{choice.message.reasoning_content}</p></details> : null}
            <p class="plain answer">{choice.message.content}</p>
            <p><small>{choice.finish_reason}, {answer!.usage.prompt_tokens} + {answer!.usage.completion_tokens} tokens</small></p>
            {judged ? <p class={judged.length ? "bad" : "good"}>{judged.length ? judged.join("; ") : "The answer follows the constraint."}</p> : null}
          </>
        ) : <p>{running ? "Running…" : "The answer appears here."}</p>}
        {tokens.length ? (
          <>
            <h2>Tokens</h2>
            <div class="tokens" role="group" aria-label="Tokens, each with its probability">
              {tokens.map((one, at) => (
                <button
                  type="button"
                  aria-pressed={at === shown}
                  aria-label={`${JSON.stringify(one.token)}, ${percent(one.logprob)}`}
                  class={`p${Math.min(4, Math.floor(Math.exp(one.logprob) * 5))}`}
                  onClick={() => setShown(at)}
                >
                  {one.token.replace(/\n/g, "↵") || "∅"}
                </button>
              ))}
            </div>
            {token ? (
              <table>
                <caption>Alternatives of token {shown + 1}, {JSON.stringify(token.token)}</caption>
                <thead><tr><th scope="col">token</th><th scope="col">probability</th><th scope="col">logprob</th></tr></thead>
                <tbody>
                  {token.top_logprobs.map((one) => (
                    <tr><td><code>{JSON.stringify(one.token)}</code></td><td>{percent(one.logprob)}</td><td>{one.logprob.toFixed(3)}</td></tr>
                  ))}
                </tbody>
              </table>
            ) : null}
          </>
        ) : null}
        {sent ? <details><summary>Request</summary><pre tabIndex={0} aria-label="request body">{JSON.stringify(sent, null, 2)}</pre></details> : null}
        {answer ? <details><summary>Response</summary><pre tabIndex={0} aria-label="response body">{JSON.stringify(answer, null, 2)}</pre></details> : null}
      </div>
    </section>
  );
}

const percent = (logprob: number) => `${(Math.exp(logprob) * 100).toFixed(1)} %`;
