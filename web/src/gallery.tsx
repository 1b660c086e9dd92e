// Pictures and videos: made, followed, shown, deleted.
import { useEffect, useState } from "preact/hooks";
import { ask, askJson, type Model } from "./api";
import { Field, Problem, textOf, usePolled } from "./parts";

interface Job {
  id: string;
  status: "queued" | "in_progress" | "completed" | "failed";
  progress: number;
  prompt?: string;
  error?: { message: string } | null;
}

interface Picture {
  prompt: string;
  url: string;
}

const kEvery = 500;

export function Gallery({ models, apiKey }: { models: Model[]; apiKey: string }) {
  const makers = models.filter((model) => /video|image/.test(model.task));
  const [kind, setKind] = useState<"image" | "video">("image");
  const [prompt, setPrompt] = useState("a red circle moving left");
  const [numbers, setNumbers] = useState<Record<string, string>>({ n: "1" });
  const [size, setSize] = useState("");
  const [pictures, setPictures] = useState<Picture[]>([]);
  const [error, setError] = useState<unknown>(null);
  const [busy, setBusy] = useState<AbortController | null>(null);
  const [turn, setTurn] = useState(0);
  const jobs = usePolled(() => (makers.length ? askJson<{ data: Job[] }>("/v1/videos?limit=20") : Promise.resolve({ data: [] })), kEvery, `${apiKey} ${turn} ${makers.length}`);
  useEffect(() => () => busy?.abort(), [busy]);

  if (!makers.length) return <section aria-label="Gallery"><p>No served model makes pictures or videos. Start one with <code>pixii serve tiny-video</code>, or beside another with <code>--video-model</code>.</p></section>;

  const make = async () => {
    setError(null);
    const names = kind === "image" ? ["n", "seed", "num_inference_steps"] : ["num_frames", "seed", "num_inference_steps"];
    const body = {
      model: makers[0]!.id,
      prompt,
      ...(size ? { size } : {}),
      ...Object.fromEntries(names.filter((name) => numbers[name]).map((name) => [name, Number(numbers[name])])),
    };
    const stop = new AbortController();
    setBusy(stop);
    try {
      if (kind === "video") {
        await askJson<Job>("/v1/videos", { body, signal: stop.signal });
        setTurn((now) => now + 1);
      } else {
        const made = await askJson<{ data: { b64_json: string }[] }>("/v1/images/generations", { body: { ...body, response_format: "b64_json" }, signal: stop.signal });
        setPictures((now) => [...made.data.map((one) => ({ prompt, url: `data:image/png;base64,${one.b64_json}` })), ...now]);
      }
    } catch (problem) {
      if (!stop.signal.aborted) setError(problem);
    }
    setBusy(null);
  };

  const remove = async (id: string) => {
    try {
      await ask(`/v1/videos/${id}`, { method: "DELETE" });
    } catch (problem) {
      setError(problem);
    }
    setTurn((now) => now + 1);
  };

  const number = (name: string, label: string) => (
    <Field label={label}><input type="number" min={0} value={numbers[name] ?? ""} onInput={(event) => setNumbers({ ...numbers, [name]: textOf(event) })} /></Field>
  );
  return (
    <section aria-label="Gallery">
      <form
        class="panel"
        onSubmit={(event) => {
          event.preventDefault();
          if (!busy) void make();
        }}
      >
        <Field label="Make">
          <select value={kind} onChange={(event) => setKind(textOf(event) as "image" | "video")}>
            <option value="image">pictures</option>
            <option value="video">a video</option>
          </select>
        </Field>
        <Field label="Prompt"><textarea rows={2} required value={prompt} onInput={(event) => setPrompt(textOf(event))} /></Field>
        <div class="grid three">
          <Field label="Size" hint="WIDTHxHEIGHT"><input pattern="\d+x\d+" value={size} onInput={(event) => setSize(textOf(event))} /></Field>
          {kind === "image" ? number("n", "Pictures") : number("num_frames", "Frames")}
          {number("num_inference_steps", "Steps")}
          {number("seed", "Seed")}
        </div>
        <div class="row">
          <button type="submit" class="strong" disabled={Boolean(busy)}>{busy ? "Making…" : "Make"}</button>
          {busy ? <button type="button" onClick={() => busy.abort()}>Stop</button> : null}
        </div>
      </form>
      <Problem error={error ?? jobs.error} />
      <h2>Videos</h2>
      <ul class="tiles" aria-label="Videos" aria-live="polite">
        {(jobs.value?.data ?? []).map((job) => (
          <li key={job.id}>
            {job.status === "completed" ? <Film id={job.id} label={job.prompt ?? job.id} /> : job.status === "failed" ? <Problem error={new Error(job.error?.message ?? "failed")} /> : (
              <progress max={100} value={job.progress} aria-label={`Progress of ${job.prompt ?? job.id}`}>{job.progress} %</progress>
            )}
            <p>{job.prompt ?? job.id}<br /><small>{job.status}{job.status === "in_progress" ? `, ${job.progress} %` : ""}</small></p>
            <button type="button" onClick={() => void remove(job.id)}>{job.status === "completed" || job.status === "failed" ? "Delete" : "Cancel"}</button>
          </li>
        ))}
      </ul>
      <h2>Pictures</h2>
      <ul class="tiles" aria-label="Pictures" aria-live="polite">
        {pictures.map((picture) => (
          <li key={picture.url}>
            <img src={picture.url} alt={picture.prompt} />
            <p>{picture.prompt}</p>
            <button type="button" onClick={() => setPictures(pictures.filter((other) => other !== picture))}>Remove</button>
          </li>
        ))}
      </ul>
    </section>
  );
}

// Its bytes need the key, which a plain link would not carry.
function Film({ id, label }: { id: string; label: string }) {
  const [url, setUrl] = useState("");
  const [error, setError] = useState<unknown>(null);
  useEffect(() => {
    let made = "";
    ask(`/v1/videos/${id}/content`)
      .then((answer) => answer.blob())
      .then((blob) => setUrl((made = URL.createObjectURL(blob))), setError);
    return () => URL.revokeObjectURL(made);
  }, [id]);
  return error ? <Problem error={error} /> : url ? <video src={url} controls muted loop aria-label={label} /> : <p>Fetching…</p>;
}
