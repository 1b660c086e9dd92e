// Markdown as elements. What is not understood stays text; HTML is never made of it.
import type { ComponentChildren, VNode } from "preact";

const kInline = /(`+)([\s\S]+?)\1|\*\*([\s\S]+?)\*\*|__([\s\S]+?)__|\*([^\s*][\s\S]*?)\*|~~([\s\S]+?)~~|\[([^\]]+)\]\(([^()\s]+)\)/;
const kDepthMax = 8; // marks inside marks

function inline(text: string, depth = 0): ComponentChildren {
  const out: ComponentChildren[] = [];
  for (let rest = text; rest; ) {
    const found = depth < kDepthMax ? kInline.exec(rest) : null;
    if (!found) {
      out.push(rest);
      break;
    }
    if (found.index) out.push(rest.slice(0, found.index));
    const [all, ticks, code, strong, strong2, em, del, label, url] = found;
    const inner = (part: string) => inline(part, depth + 1);
    if (ticks) out.push(<code>{code}</code>);
    else if (strong ?? strong2) out.push(<strong>{inner((strong ?? strong2)!)}</strong>);
    else if (em) out.push(<em>{inner(em)}</em>);
    else if (del) out.push(<del>{inner(del)}</del>);
    else if (/^https?:\/\//i.test(url!)) out.push(<a href={url} target="_blank" rel="noopener noreferrer">{inner(label!)}</a>);
    else out.push(all);
    rest = rest.slice(found.index + all.length);
  }
  return out;
}

const cells = (line: string) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
const kRule = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;
const kItem = /^(\s*)([-*+]|\d+[.)])\s+(.*)$/;

export function Markdown({ text }: { text: string }) {
  const lines = text.split("\n");
  const out: VNode[] = [];
  let at = 0;
  const take = (fits: (line: string) => boolean) => {
    const taken: string[] = [];
    while (at < lines.length && fits(lines[at]!)) taken.push(lines[at++]!);
    return taken;
  };
  while (at < lines.length) {
    const line = lines[at]!;
    const heading = /^(#{1,6})\s+(.*)$/.exec(line);
    if (/^\s*(```|~~~)/.test(line)) {
      const language = line.trim().slice(3);
      at += 1;
      const code = take((next) => !/^\s*(```|~~~)\s*$/.test(next)).join("\n");
      at += 1;
      out.push(<pre tabIndex={0} aria-label={language ? `code, ${language}` : "code"}><code>{code}</code></pre>);
    } else if (heading) {
      at += 1;
      out.push(<p class="heading"><strong>{inline(heading[2]!)}</strong></p>);
    } else if (line.includes("|") && kRule.test(lines[at + 1] ?? "")) {
      at += 2;
      const rows = take((next) => next.includes("|"));
      out.push(
        <div class="scroll" tabIndex={0} role="region" aria-label="table">
          <table>
            <thead><tr>{cells(line).map((cell) => <th scope="col">{inline(cell)}</th>)}</tr></thead>
            <tbody>{rows.map((row) => <tr>{cells(row).map((cell) => <td>{inline(cell)}</td>)}</tr>)}</tbody>
          </table>
        </div>,
      );
    } else if (kItem.test(line)) {
      const items = take((next) => kItem.test(next)).map((item) => kItem.exec(item)!);
      const entries = items.map((item) => <li class={item[1]!.length > 1 ? "deep" : ""}>{inline(item[3]!)}</li>);
      out.push(/\d/.test(items[0]![2]!) ? <ol start={parseInt(items[0]![2]!, 10)}>{entries}</ol> : <ul>{entries}</ul>);
    } else if (line.startsWith(">")) {
      out.push(<blockquote>{inline(take((next) => next.startsWith(">")).map((next) => next.replace(/^>\s?/, "")).join("\n"))}</blockquote>);
    } else if (!line.trim()) {
      at += 1;
    } else {
      at += 1;
      const more = take((next) => Boolean(next.trim()) && !/^(#{1,6}\s|>|\s*(```|~~~))/.test(next) && !kItem.test(next));
      out.push(<p>{inline([line, ...more].join("\n"))}</p>);
    }
  }
  return <div class="markdown">{out}</div>;
}
