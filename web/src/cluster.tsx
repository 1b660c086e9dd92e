// The cluster as this frontend sees it, now.
import { useState } from "preact/hooks";
import { ask, askJson } from "./api";
import { Bar, Field, Problem, Table, textOf, usePolled } from "./parts";

interface Load {
  state: string;
  running: number;
  queued: number;
  blocks: { used: number; cached: number; total: number };
  steps: number;
}

interface View {
  ready: boolean;
  draining: boolean;
  message: string;
  requests_in_flight: number;
  connections: number;
  models: { name: string; names: string[]; task: string; ready: boolean; message: string; version: string; context_tokens: number; block_tokens: number; adapters: string[]; routed: boolean; load: Load; ranks: Load[] }[];
  workers: { worker_id: number; name: string; component: string; role: string; model: string; version: string; address: string; ranks: { first: number; count: number }; state: string; reason: string; message: string; load: Load | null }[];
  media_model: string | null;
}

interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

const kEvery = 2000;

/** Prometheus' text, as far as it is ours: no escapes but \" in labels are met. */
export function samples(text: string): Sample[] {
  const out: Sample[] = [];
  for (const line of text.split("\n")) {
    const found = /^([A-Za-z_:][\w:]*)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!found) continue;
    const labels = Object.fromEntries([...(found[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map((pair) => [pair[1]!, pair[2]!]));
    out.push({ name: found[1]!, labels, value: Number(found[3]) });
  }
  return out;
}

function Blocks({ load, label }: { load: Load; label: string }) {
  const { used, cached, total } = load.blocks;
  return (
    <div>
      <Bar whole={total} parts={[{ kind: "used", size: used }, { kind: "cached", size: cached }]} label={`${label}: of ${total} KV blocks ${used} used, ${cached} cached`} />
      <small>{used} used, {cached} cached, {total}</small>
    </div>
  );
}

const State = ({ name, good }: { name: string; good: boolean }) => <span class={good ? "state good" : "state bad"}>{name}</span>;

export function Cluster({ apiKey }: { apiKey: string }) {
  const { value, error } = usePolled(
    async () => {
      const [view, metrics] = await Promise.all([askJson<View>("/v1/cluster"), ask("/metrics").then((answer) => answer.text())]);
      return { view, metrics: samples(metrics) };
    },
    kEvery,
    apiKey,
  );
  const view = value?.view;
  return (
    <section aria-label="Cluster">
      <Problem error={error} />
      {view ? (
        <>
          <p>
            <State name={view.draining ? "draining" : view.ready ? "ready" : "not ready"} good={view.ready && !view.draining} /> {view.message}
          </p>
          <dl class="figures">
            <div><dt>requests in flight</dt><dd>{view.requests_in_flight}</dd></div>
            <div><dt>connections</dt><dd>{view.connections}</dd></div>
            <div><dt>models</dt><dd>{view.models.length + (view.media_model ? 1 : 0)}</dd></div>
            <div><dt>workers of other processes</dt><dd>{view.workers.length}</dd></div>
          </dl>
          <h2>Models</h2>
          <Table name="models" heads={["model", "state", "version", "running", "queued", "KV blocks", "ranks"]}>
            {view.models.map((model) => (
              <tr>
                <th scope="row">{model.name}<br /><small>{model.task}, {model.context_tokens} tokens{model.adapters.length ? `, ${model.adapters.length} adapters` : ""}</small></th>
                <td><State name={model.ready ? "ready" : "not ready"} good={model.ready} />{model.ready ? null : <><br /><small>{model.message}</small></>}</td>
                <td><code>{model.version.slice(0, 8)}</code></td>
                <td>{model.load.running}</td>
                <td>{model.load.queued}</td>
                <td><Blocks load={model.load} label={model.name} /></td>
                <td>{model.ranks.length > 1 ? model.ranks.map((rank, at) => <Blocks load={rank} label={`rank ${at}, ${rank.state}`} />) : model.ranks.length ? model.ranks[0]!.state : "in workers"}</td>
              </tr>
            ))}
            {view.media_model ? <tr><th scope="row">{view.media_model}<br /><small>video, image</small></th><td colSpan={6}>in this process</td></tr> : null}
          </Table>
          {view.workers.length ? (
            <>
              <h2>Workers</h2>
              <Table name="workers" heads={["worker", "role", "state", "ranks", "running", "queued", "KV blocks"]}>
                {view.workers.map((worker) => (
                  <tr>
                    <th scope="row"><code>{worker.name}</code><br /><small>{worker.model} {worker.version.slice(0, 8)}, {worker.address}</small></th>
                    <td>{worker.role}</td>
                    <td><State name={worker.state} good={worker.state === "available"} /><br /><small>{[worker.reason, worker.message].filter(Boolean).join(": ")}</small></td>
                    <td>{worker.ranks.first} to {worker.ranks.first + worker.ranks.count - 1}</td>
                    <td>{worker.load?.running ?? ""}</td>
                    <td>{worker.load?.queued ?? ""}</td>
                    <td>{worker.load ? <Blocks load={worker.load} label={`worker ${worker.name}`} /> : null}</td>
                  </tr>
                ))}
              </Table>
            </>
          ) : null}
          <Tiers all={value.metrics} />
          <Holders models={view.models} workers={view.workers} />
        </>
      ) : error ? null : <p>Looking…</p>}
    </section>
  );
}

// Of this process: each worker of another one has its own /metrics.
function Tiers({ all }: { all: Sample[] }) {
  const tiers = all.filter(({ name }) => name === "pixii_kv_tier_blocks");
  const moved = all.filter(({ name }) => name === "pixii_transfers_total");
  const bytes = (labels: Record<string, string>) =>
    all.find((one) => one.name === "pixii_transfer_bytes_total" && one.labels.transport === labels.transport && one.labels.operation === labels.operation)?.value ?? 0;
  if (!tiers.length && !moved.length) return null;
  return (
    <>
      <h2>Tiers and transfers of this process</h2>
      <ul>
        {tiers.map((tier) => <li>{tier.labels.model}, {tier.labels.tier}: {tier.value} KV blocks</li>)}
        {moved.map((one) => <li>{one.labels.transport}, {one.labels.operation}: {one.value} transfers, {bytes(one.labels)} bytes</li>)}
      </ul>
    </>
  );
}

interface Explained {
  mode: string;
  block_size: number;
  isl_tokens: number;
  choice: { worker_id: number; dp_rank: number; overlap_tokens: number; waits: boolean } | null;
  refusal?: { code: string; message: string };
  candidates: { worker_id: number; dp_rank: number; standing: string; input: Record<string, number>; terms?: { cost: number } }[];
}

function Holders({ models, workers }: { models: View["models"]; workers: View["workers"] }) {
  const [prompt, setPrompt] = useState("");
  const [model, setModel] = useState(models[0]?.name ?? "");
  const [found, setFound] = useState<Explained | null>(null);
  const [error, setError] = useState<unknown>(null);
  const nameOf = (id: number) => workers.find((worker) => worker.worker_id === id)?.name ?? String(id);
  const look = async () => {
    setError(null);
    setFound(null);
    try {
      setFound(await askJson<Explained>("/router/explain", { body: { model, messages: [{ role: "user", content: prompt }] } }));
    } catch (problem) {
      setError(problem);
    }
  };
  return (
    <>
      <h2>Who holds a prompt</h2>
      <form
        class="panel"
        onSubmit={(event) => {
          event.preventDefault();
          void look();
        }}
      >
        <Field label="Model">
          <select value={model} onChange={(event) => setModel(textOf(event))}>{models.map(({ name }) => <option>{name}</option>)}</select>
        </Field>
        <Field label="Prompt of a chat"><textarea rows={2} required value={prompt} onInput={(event) => setPrompt(textOf(event))} /></Field>
        <button type="submit">Look</button>
      </form>
      <Problem error={error} />
      <div aria-live="polite">
        {found ? (
          <>
            <p>
              {found.choice ? <>It would go to <code>{nameOf(found.choice.worker_id)}</code>, rank {found.choice.dp_rank}, with {found.choice.overlap_tokens} of {found.isl_tokens} tokens cached</> : found.refusal?.message} (mode {found.mode}).
            </p>
            <Table name="candidates" heads={["worker", "rank", "standing", "device", "host", "disk", "shared", "active decode blocks", "cost"]}>
              {found.candidates.map((one) => (
                <tr>
                  <th scope="row"><code>{nameOf(one.worker_id)}</code></th>
                  <td>{one.dp_rank}</td>
                  <td>{one.standing}</td>
                  {["device_blocks", "host_blocks", "disk_blocks", "shared_blocks", "active_decode_blocks"].map((name) => <td>{one.input[name]}</td>)}
                  <td>{one.terms ? one.terms.cost.toFixed(2) : ""}</td>
                </tr>
              ))}
            </Table>
          </>
        ) : null}
      </div>
    </>
  );
}
