// The frame: which view is open, the model, the key, the theme.
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { apiKey, models, useKey, type Model } from "./api";
import { Chat } from "./chat";
import { Cluster } from "./cluster";
import { Gallery } from "./gallery";
import { Field, Problem, textOf } from "./parts";
import { Playground } from "./playground";
import { useKept } from "./store";
import { Timeline } from "./timeline";
import "./style.css";

const kViews = ["chat", "playground", "cluster", "timeline", "gallery"] as const;
const kTitles: Record<string, string> = { chat: "Chat", playground: "Playground", cluster: "Cluster", timeline: "Timeline", gallery: "Gallery" };

function App() {
  const [hash, setHash] = useState(location.hash.slice(1));
  const [list, setList] = useState<Model[]>([]);
  const [error, setError] = useState<unknown>(null);
  const [key, setKey] = useState(apiKey());
  const [model, setModel] = useKept("model", "");
  const [theme, setTheme] = useKept("theme", "system");
  const [view = "chat", id = ""] = hash.split("/").map((part) => decodeURIComponent(part));
  const open = (kViews as readonly string[]).includes(view) ? view : "chat";

  useEffect(() => {
    const follow = () => setHash(location.hash.slice(1));
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
  }, [theme]);
  useEffect(() => {
    document.title = `${kTitles[open]} · Pixii`;
  }, [open]);
  useEffect(() => {
    models().then((found) => {
      setList(found);
      setError(null);
    }, setError);
  }, [key]);

  const texts = list.filter((one) => one.task.startsWith("generate"));
  const chosen = texts.some((one) => one.id === model) ? model : (texts[0]?.id ?? "");
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById("main")?.focus(); }}>Skip to content</a>
      <header>
        <h1>Pixii</h1>
        <nav aria-label="Views">
          {kViews.map((name) => <a href={`#${name}`} aria-current={name === open ? "page" : undefined}>{kTitles[name]}</a>)}
        </nav>
        <label class="pick"><span class="unseen">Model</span>
          <select value={chosen} onChange={(event) => setModel(textOf(event))}>
            {texts.length ? texts.map((one) => <option key={one.id} value={one.id}>{one.id}</option>) : <option key="" value="">no model</option>}
          </select>
        </label>
        <details class="settings">
          <summary>Settings</summary>
          <div class="panel">
            <form
              onSubmit={(event) => {
                event.preventDefault();
                const typed = new FormData(event.currentTarget).get("key") as string;
                useKey(typed);
                setKey(apiKey());
              }}
            >
              <Field label="API key" hint="kept until this tab is closed"><input name="key" type="password" autocomplete="off" defaultValue={key} /></Field>
              <button type="submit">Use key</button>
            </form>
            <Field label="Theme">
              <select value={theme} onChange={(event) => setTheme(textOf(event))}>
                <option value="system">as the system</option>
                <option value="light">light</option>
                <option value="dark">dark</option>
              </select>
            </Field>
          </div>
        </details>
      </header>
      <main id="main" tabIndex={-1}>
        <Problem error={error} />
        {open === "chat" ? <Chat model={chosen} />
          : open === "playground" ? <Playground model={chosen} />
          : open === "cluster" ? <Cluster apiKey={key} />
          : open === "timeline" ? <Timeline id={id} />
          : <Gallery models={list} apiKey={key} />}
      </main>
    </>
  );
}

render(<App />, document.getElementById("app")!);
