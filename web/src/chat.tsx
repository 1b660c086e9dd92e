// Conversations: streamed answers, pictures, tools, thinking.
import { useEffect, useRef, useState } from "preact/hooks";
import { events } from "./api";
import { Markdown } from "./markdown";
import { Copy, Field, Problem, textOf } from "./parts";
import { save, load, useKept } from "./store";

interface Call {
  id: string;
  name: string;
  arguments: string;
}

interface Message {
  role: "user" | "assistant" | "tool";
  text: string;
  images?: string[];
  thinking?: string;
  calls?: Call[];
  callId?: string;
  finish?: string;
  id?: string;
}

interface Tool {
  name: string;
  description: string;
  schema: string;
}

interface Chunk {
  id: string;
  choices: {
    finish_reason: string | null;
    delta: {
      content?: string | null;
      reasoning_content?: string | null;
      tool_calls?: { index: number; id?: string; function?: { name?: string; arguments?: string } }[];
    };
  }[];
}

const kImageBytesMax = 8 * 1024 * 1024;
const kSchema = '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}';

function onWire(message: Message): unknown {
  if (message.role === "tool") return { role: "tool", tool_call_id: message.callId, content: message.text };
  if (message.role === "assistant") {
    return {
      role: "assistant",
      content: message.text,
      ...(message.calls?.length
        ? { tool_calls: message.calls.map(({ id, name, arguments: given }) => ({ id, type: "function", function: { name, arguments: given } })) }
        : {}),
    };
  }
  if (!message.images?.length) return { role: "user", content: message.text };
  return {
    role: "user",
    content: [...message.images.map((url) => ({ type: "image_url", image_url: { url } })), { type: "text", text: message.text }],
  };
}

// The last message, changed by a piece of the stream.
function grown(messages: Message[], chunk: Chunk): Message[] {
  const last = { ...messages[messages.length - 1]! };
  last.id = chunk.id;
  for (const { delta, finish_reason } of chunk.choices) {
    last.text += delta.content ?? "";
    if (delta.reasoning_content) last.thinking = (last.thinking ?? "") + delta.reasoning_content;
    for (const piece of delta.tool_calls ?? []) {
      const calls = [...(last.calls ?? [])];
      const call = { ...(calls[piece.index] ?? { id: "", name: "", arguments: "" }) };
      call.id = piece.id ?? call.id;
      call.name += piece.function?.name ?? "";
      call.arguments += piece.function?.arguments ?? "";
      calls[piece.index] = call;
      last.calls = calls;
    }
    if (finish_reason) last.finish = finish_reason;
  }
  return [...messages.slice(0, -1), last];
}

// A conversation with large pictures may not fit: it is then kept without them.
function keep(messages: Message[]): void {
  if (!save("chat", messages)) save("chat", messages.map(({ images: _, ...rest }) => rest));
}

const asUrl = (file: Blob) =>
  new Promise<string>((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(String(reader.result));
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });

export function Chat({ model }: { model: string }) {
  const [messages, setMessages] = useState<Message[]>(() => load<Message[]>("chat", []));
  const [system, setSystem] = useKept("system", "");
  const [tools, setTools] = useKept<Tool[]>("tools", []);
  const [temperature, setTemperature] = useKept("temperature", "");
  const [thinks, setThinks] = useKept("thinks", "");
  const [draft, setDraft] = useState("");
  const [images, setImages] = useState<string[]>([]);
  const [running, setRunning] = useState<AbortController | null>(null);
  const [error, setError] = useState<unknown>(null);
  const [editing, setEditing] = useState<{ at: number; text: string } | null>(null);
  const [dragged, setDragged] = useState(false);
  const [said, setSaid] = useState(""); // to screen readers: whole answers, not each piece
  const end = useRef<HTMLDivElement>(null);
  const input = useRef<HTMLTextAreaElement>(null);

  useEffect(() => {
    if (!running) keep(messages);
  }, [messages, running]);
  useEffect(() => end.current?.scrollIntoView({ block: "nearest" }), [messages]);
  useEffect(() => () => running?.abort(), [running]);

  const run = async (before: Message[]) => {
    const stop = new AbortController();
    let now: Message[] = [...before, { role: "assistant", text: "" }];
    setError(null);
    setRunning(stop);
    setMessages(now);
    setSaid("Answering");
    try {
      const body = {
        ...(model ? { model } : {}),
        stream: true,
        ...(temperature === "" ? {} : { temperature: Number(temperature) }),
        ...(thinks === "" ? {} : { chat_template_kwargs: { enable_thinking: thinks === "on" } }),
        messages: [...(system.trim() ? [{ role: "system", content: system }] : []), ...before.map(onWire)],
        ...(tools.length
          ? {
              tools: tools.map(({ name, description, schema }) => ({
                type: "function",
                function: { name, description, parameters: JSON.parse(schema) },
              })),
            }
          : {}),
      };
      for await (const chunk of events<Chunk>("/v1/chat/completions", { body, signal: stop.signal })) {
        now = grown(now, chunk);
        setMessages(now);
      }
    } catch (problem) {
      if (stop.signal.aborted) now = [...now.slice(0, -1), { ...now[now.length - 1]!, finish: "stopped" }];
      else setError(problem);
    }
    const last = now[now.length - 1]!;
    if (!last.text && !last.calls?.length && !last.thinking) now = now.slice(0, -1);
    setMessages(now);
    setRunning(null);
    setSaid(last.finish === "stopped" ? "Stopped" : last.text || "The answer has no text");
    input.current?.focus();
  };

  const send = () => {
    if (running || (!draft.trim() && !images.length)) return;
    const next: Message[] = [...messages, { role: "user", text: draft, ...(images.length ? { images } : {}) }];
    setDraft("");
    setImages([]);
    void run(next);
  };

  const addImages = async (files: Iterable<File>) => {
    for (const file of files) {
      if (!file.type.startsWith("image/")) setError(new Error(`${file.name} is not an image`));
      else if (file.size > kImageBytesMax) setError(new Error(`${file.name} has ${file.size} bytes; at most ${kImageBytesMax} are sent`));
      else {
        const url = await asUrl(file);
        setImages((now) => [...now, url]);
      }
    }
  };

  // Everything behind the last thing the user said or a tool gave is made anew.
  const regenerate = () => {
    let count = messages.length;
    while (count > 0 && messages[count - 1]!.role === "assistant") count -= 1;
    void run(messages.slice(0, count));
  };

  const last = messages[messages.length - 1];
  const open = last?.role === "assistant" && last.finish === "tool_calls" ? (last.calls ?? []) : [];

  return (
    <section
      aria-label="Chat"
      class={dragged ? "chat dragged" : "chat"}
      onDragOver={(event) => {
        event.preventDefault();
        setDragged(true);
      }}
      onDragLeave={() => setDragged(false)}
      onDrop={(event) => {
        event.preventDefault();
        setDragged(false);
        void addImages(event.dataTransfer?.files ?? []);
      }}
    >
      <details class="panel">
        <summary>Prompt, thinking and tools ({tools.length})</summary>
        <Field label="System prompt">
          <textarea rows={2} value={system} onInput={(event) => setSystem(textOf(event))} />
        </Field>
        <div class="grid three">
          <Field label="Temperature" hint="empty: the model's"><input type="number" min={0} max={2} step="any" value={temperature} onInput={(event) => setTemperature(textOf(event))} /></Field>
          <Field label="Thinking">
            <select value={thinks} onChange={(event) => setThinks(textOf(event))}>
              <option value="">as the model does</option>
              <option value="on">on</option>
              <option value="off">off</option>
            </select>
          </Field>
        </div>
        <Tools tools={tools} onChange={setTools} />
      </details>
      <ol class="messages" aria-label="Conversation">
        {messages.map((message, at) => (
          <li class={`message ${message.role}`}>
            <div class="who">{message.role === "user" ? "You" : message.role === "tool" ? "Tool result" : "Pixii"}</div>
            {message.thinking ? (
              <details class="thinking">
                <summary>Thinking</summary>
                <Markdown text={message.thinking} />
              </details>
            ) : null}
            {message.images?.map((url, index) => <img src={url} alt={`picture ${index + 1} of this message`} />)}
            {editing?.at === at ? (
              <form
                onSubmit={(event) => {
                  event.preventDefault();
                  setEditing(null);
                  void run([...messages.slice(0, at), { ...message, text: editing.text }]);
                }}
              >
                <textarea aria-label="Edited message" rows={3} value={editing.text} onInput={(event) => setEditing({ at, text: textOf(event) })} />
                <button type="submit">Send again</button>
                <button type="button" class="quiet" onClick={() => setEditing(null)}>Cancel</button>
              </form>
            ) : message.role === "assistant" ? (
              <Markdown text={message.text} />
            ) : (
              <p class="plain">{message.text}</p>
            )}
            {message.calls?.map((call) => (
              <figure class="call">
                <figcaption>Calls <code>{call.name}</code></figcaption>
                <pre tabIndex={0} aria-label={`arguments of ${call.name}`}><code>{call.arguments}</code></pre>
              </figure>
            ))}
            {running && at === messages.length - 1 ? null : (
              <div class="actions">
                {message.finish && message.finish !== "stop" ? <small>{message.finish}</small> : null}
                <Copy text={message.text || (message.calls ?? []).map((call) => call.arguments).join("\n")} />
                {message.role === "user" && !running ? (
                  <button type="button" class="quiet" onClick={() => setEditing({ at, text: message.text })}>Edit</button>
                ) : null}
                {message.id ? <a class="quiet" href={`#timeline/${message.id}`}>Timeline</a> : null}
              </div>
            )}
          </li>
        ))}
      </ol>
      <div ref={end} />
      {open.length && !running ? (
        <Results calls={open} onDone={(texts) => void run([...messages, ...open.map((call, at) => ({ role: "tool" as const, callId: call.id, text: texts[at]! }))])} />
      ) : null}
      <Problem error={error} />
      <p class="unseen" role="status">{said}</p>
      <form
        class="composer"
        onSubmit={(event) => {
          event.preventDefault();
          send();
        }}
      >
        {images.length ? (
          <ul class="thumbs" aria-label="Pictures to send">
            {images.map((url, at) => (
              <li>
                <img src={url} alt={`picture ${at + 1} to send`} />
                <button type="button" aria-label={`Remove picture ${at + 1}`} onClick={() => setImages(images.filter((_, other) => other !== at))}>×</button>
              </li>
            ))}
          </ul>
        ) : null}
        <textarea
          ref={input}
          aria-label="Message"
          placeholder="Message (Enter sends, Shift+Enter breaks the line)"
          rows={2}
          value={draft}
          onInput={(event) => setDraft(textOf(event))}
          onPaste={(event) => {
            const files = [...(event.clipboardData?.files ?? [])];
            if (files.length) {
              event.preventDefault();
              void addImages(files);
            }
          }}
          onKeyDown={(event) => {
            if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
              event.preventDefault();
              send();
            }
          }}
        />
        <div class="row">
          <label class="button">
            Add picture
            <input
              type="file"
              accept="image/*"
              multiple
              class="unseen"
              onChange={(event) => {
                void addImages([...(event.currentTarget.files ?? [])]);
                event.currentTarget.value = "";
              }}
            />
          </label>
          {messages.length && !running ? <button type="button" onClick={regenerate}>Regenerate</button> : null}
          {messages.length && !running ? (
            <button
              type="button"
              onClick={() => {
                setMessages([]);
                setError(null);
                input.current?.focus();
              }}
            >
              New chat
            </button>
          ) : null}
          <span class="gap" />
          {running ? (
            <button type="button" class="strong" onClick={() => running.abort()}>Stop</button>
          ) : (
            <button type="submit" class="strong">Send</button>
          )}
        </div>
      </form>
    </section>
  );
}

function Results({ calls, onDone }: { calls: Call[]; onDone: (texts: string[]) => void }) {
  const [texts, setTexts] = useState(() => calls.map(() => ""));
  return (
    <form
      class="panel"
      aria-label="Results of the calls"
      onSubmit={(event) => {
        event.preventDefault();
        onDone(texts);
      }}
    >
      {calls.map((call, at) => (
        <Field label={`Result of ${call.name}`}>
          <textarea rows={2} required value={texts[at]} onInput={(event) => setTexts(texts.map((text, other) => (other === at ? textOf(event) : text)))} />
        </Field>
      ))}
      <button type="submit" class="strong">Give results</button>
    </form>
  );
}

function Tools({ tools, onChange }: { tools: Tool[]; onChange: (tools: Tool[]) => void }) {
  const [name, setName] = useState("");
  const [description, setDescription] = useState("");
  const [schema, setSchema] = useState(kSchema);
  const [error, setError] = useState<unknown>(null);
  const add = () => {
    try {
      JSON.parse(schema);
    } catch (problem) {
      setError(problem);
      return;
    }
    setError(null);
    onChange([...tools.filter((tool) => tool.name !== name), { name, description, schema }]);
    setName("");
    setDescription("");
  };
  return (
    <div>
      <ul class="tools" aria-label="Tools">
        {tools.map((tool) => (
          <li>
            <code>{tool.name}</code> {tool.description}
            <button type="button" class="quiet" aria-label={`Remove tool ${tool.name}`} onClick={() => onChange(tools.filter((other) => other !== tool))}>Remove</button>
          </li>
        ))}
      </ul>
      <form
        class="grid"
        onSubmit={(event) => {
          event.preventDefault();
          add();
        }}
      >
        <Field label="Function name"><input required pattern="[A-Za-z0-9_\-]+" value={name} onInput={(event) => setName(textOf(event))} /></Field>
        <Field label="Description"><input value={description} onInput={(event) => setDescription(textOf(event))} /></Field>
        <Field label="Parameters" hint="JSON schema"><textarea rows={3} value={schema} onInput={(event) => setSchema(textOf(event))} /></Field>
        <button type="submit">Add tool</button>
      </form>
      <Problem error={error} />
    </div>
  );
}
