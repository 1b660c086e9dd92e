#include "text/parsers/call_script.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "text/parsers/chat_parser.h"
#include "text/parsers/script_builder.h"
#include "text/parsers/tool_set.h"

namespace pixii::text::parsers {

using wire::Json;
using wire::kScriptBody;
using wire::kScriptNever;
using wire::kScriptNoValue;

namespace {

constexpr std::string_view kAnyObject = R"({"type":"object"})";
constexpr std::string_view kNoMembers = R"({"type":"object","additionalProperties":false})";

bool BeginsOther(const wire::ScriptNode& node, std::string_view text) {
  return std::ranges::any_of(node.edges, [&](const wire::ScriptEdge& edge) {
    return !edge.text.empty() && (edge.text.starts_with(text) || text.starts_with(edge.text));
  });
}

class CallScriptMaker final {
 public:
  CallScriptMaker(const ChatFormat& format, CallForm form, const CallScriptOptions& options)
      : format_(format), form_(std::move(form)), options_(options) {}

  wire::Script Make(std::string_view prompt_tail);

 private:
  void AddValues();
  void AddCalls();
  void AddContent();
  void EndCalls();
  void TakeBare(std::uint32_t node, std::string_view beginnings);
  std::uint32_t StartNode(std::string_view prompt_tail);
  void AddHarmony(std::uint32_t start);
  void BeginWithReasoning(std::uint32_t start, std::string_view prompt_tail);

  const ChatFormat& format_;
  CallForm form_;
  const CallScriptOptions& options_;
  ScriptBuilder build_;
  std::uint32_t first_ = 0;               // the answer begins here
  std::uint32_t after_ = 0;               // behind a call
  std::uint32_t done_ = 0;                // behind all calls
  std::uint32_t inside_ = 0;              // behind the opener
  std::uint32_t named_ = 0;               // a call, from before_name
  std::uint32_t content_ = kScriptNever;  // free text, if that may be written
};

// What the arguments of a tool are.
wire::ScriptValue ValueOf(const ScriptTool& tool, wire::ScriptNotation notation) {
  const std::string_view other = tool.parameters.is_null() ? kNoMembers : kAnyObject;
  wire::ScriptValue out{.name = tool.name,
                        .schema = tool.enforced && !tool.parameters.is_null()
                                      ? tool.parameters.Dump()
                                      : std::string(other)};
  const Json* properties = tool.parameters.Find("properties");
  if (notation != wire::ScriptNotation::kElements) {
    return out;
  }
  for (std::size_t i = 0;
       properties != nullptr && properties->is_object() && i < properties->object().size(); ++i) {
    const std::string& name = properties->object()[i].first;
    out.members.push_back({.name = name, .kinds = MemberKinds(tool.parameters, name)});
  }
  out.other_kinds = MemberKinds(tool.parameters, {});
  return out;
}

void CallScriptMaker::AddValues() {
  for (const ScriptTool& tool : options_.tools) {
    build_.script.values.push_back(ValueOf(tool, form_.notation));
  }
  if (!options_.content_schema.empty()) {
    build_.script.values.push_back(
        {.name = "the answer", .schema = options_.content_schema, .any_kind = true});
  }
  build_.script.notation = form_.notation;
  build_.script.elements = form_.elements;
}

void CallScriptMaker::AddCalls() {
  const std::uint32_t names = build_.Add();
  const std::uint32_t behind = build_.Chain(form_.after_arguments, after_);
  const std::size_t special = form_.before_name.find_last_of(std::string{kFormGap, kFormDigits});
  const std::size_t cut = special == std::string::npos ? 0 : special + 1;
  const std::string tail = form_.before_name.substr(cut);
  for (std::uint32_t i = 0; i < options_.tools.size(); ++i) {
    std::string name = options_.tools[i].name;
    if (form_.quoted_names) {
      name = Quoted(name);
      name = name.substr(1, name.size() - 2);
    }
    wire::ScriptEdge edge = build_.EdgeOver(tail + name + form_.after_name, i, behind);
    build_.node(names).edges.push_back(std::move(edge));
  }
  named_ = build_.Chain(form_.before_name.substr(0, cut), names);
  inside_ = build_.Chain(form_.begin, named_);
}

// Free text: what begins a call there must go on as one.
void CallScriptMaker::AddContent() {
  if (options_.required || !options_.content_schema.empty()) {
    return;
  }
  content_ = build_.Add({.free = true, .may_end = true});
  std::uint32_t inside = inside_;
  if (!form_.content_name.empty()) {
    inside = build_.Add();
    build_.Merge(inside, inside_);
    build_.node(inside).edges.push_back({.text = form_.content_name + "\n", .next = content_});
    inside_ = inside;
  }
  std::vector<wire::ScriptEdge>& edges = build_.node(content_).edges;
  edges.push_back({.text = form_.opener, .next = inside});
  for (const std::string& other : form_.other_openers) {
    edges.push_back({.text = other, .next = kScriptNever});
  }
}

void CallScriptMaker::EndCalls() {
  const std::uint32_t closing = build_.Add({.may_end = form_.bare || form_.closer.empty()});
  build_.Merge(closing, build_.Chain(form_.closer, done_));
  build_.Merge(after_, build_.Chain(form_.end, closing));
  const bool free = content_ != kScriptNever;
  if (!options_.one_call && !form_.between.empty() && !(free && form_.opens_each)) {
    build_.Merge(after_, build_.Chain(form_.between, named_));
  }
  if (!free || format_.harmony()) {
    return;
  }
  // Text may follow the calls, and others in it.
  for (const std::uint32_t end : {after_, closing, done_}) {
    if (!build_.node(end).may_end) {
      continue;
    }
    if (form_.quoted_names && form_.closer.empty()) {
      TakeBare(end, ",;{[");
    } else if (form_.bare) {
      TakeBare(end, form_.quoted_names ? "{[" : "[");
    }
    build_.node(end).edges.push_back({.text = {}, .next = content_});
  }
}

// Where a call is read without its opener: it is enforced, and nothing else begins so.
void CallScriptMaker::TakeBare(std::uint32_t node, std::string_view beginnings) {
  if (!options_.one_call || node != after_) {
    build_.Merge(node, inside_);
  }
  for (const char c : beginnings) {
    const std::string text(1, c);
    if (!BeginsOther(build_.node(node), text)) {
      build_.node(node).edges.push_back({.text = text, .next = kScriptNever});
    }
  }
}

std::uint32_t CallScriptMaker::StartNode(std::string_view prompt_tail) {
  if (OpenedBy(prompt_tail, {form_.opener})) {
    return inside_;
  }
  const std::uint32_t start = build_.Add({.gap_max = kGapBytesMax});
  if (form_.bare && !format_.harmony()) {
    TakeBare(start, form_.quoted_names ? "{[" : "[");
  }
  if (content_ != kScriptNever) {
    build_.node(start).may_end = true;
    build_.node(start).edges.push_back({.text = {}, .next = content_});
    return start;
  }
  build_.node(start).edges.push_back({.text = form_.opener, .next = inside_});
  if (!options_.content_schema.empty()) {
    const std::uint32_t end = build_.Add({.may_end = true});
    build_.node(start).edges.push_back(
        {.text = {}, .next = end, .value = static_cast<std::uint32_t>(options_.tools.size())});
  }
  return start;
}

// Messages before the last one are reasoning.
void AddMessages(ScriptBuilder& build, const ChatFormat& chat, std::uint32_t start,
                 std::uint32_t final) {
  const HarmonyFormat& format = std::get<HarmonyFormat>(*chat.calls);
  if (final != kScriptNever) {
    build.node(start).edges.push_back(
        {.text = format.channel + "final" + format.message, .next = final});
  }
  if (chat.reasoning_name == "none") {
    return;
  }
  const std::uint32_t again = build.Chain(format.start + "assistant", start);
  const std::uint32_t message = build.Add({.free = true});
  build.node(message).edges = {{.text = format.end, .next = again}};
  for (const std::string* other : {&format.start, &format.channel, &format.message, &format.call}) {
    build.node(message).edges.push_back({.text = *other, .next = kScriptNever});
  }
  build.node(start).edges.push_back(
      {.text = format.channel + "analysis" + format.message, .next = message});
}

void CallScriptMaker::AddHarmony(std::uint32_t start) {
  const HarmonyFormat& format = std::get<HarmonyFormat>(*format_.calls);
  std::uint32_t final = kScriptNever;
  std::vector<wire::ScriptEdge>& edges = build_.node(start).edges;
  std::erase_if(edges, [](const wire::ScriptEdge& edge) { return edge.text.empty(); });
  build_.node(start).may_end = false;
  if (content_ != kScriptNever) {
    final = content_;
    edges.push_back({.text = form_.opener, .next = inside_});
    std::vector<wire::ScriptEdge>& never = build_.node(content_).edges;
    never.clear();
    for (const std::string* marker :
         {&format.start, &format.channel, &format.message, &format.end, &format.call}) {
      never.push_back({.text = *marker, .next = kScriptNever});
    }
  } else if (!options_.content_schema.empty()) {
    const std::uint32_t end = build_.Add({.may_end = true});
    final = build_.Add();
    build_.node(final).edges = {
        {.text = {}, .next = end, .value = static_cast<std::uint32_t>(options_.tools.size())}};
  }
  AddMessages(build_, format_, start, final);
}

// The answer begins at node 0: in reasoning, or where it may come, or behind it.
void PutReasoning(ScriptBuilder& build, const ReasoningFormat& format, std::uint32_t first,
                  std::uint32_t start, std::string_view prompt_tail) {
  std::uint32_t behind = start;
  if (!format.dropped.empty()) {
    behind = build.Add();
    build.Merge(behind, start);
    for (const std::string& dropped : format.dropped) {
      if (!BeginsOther(build.node(behind), dropped)) {
        build.node(behind).edges.push_back({.text = dropped, .next = start});
      }
    }
  }
  const std::uint32_t reasoning = build.Add({.free = true, .may_end = build.node(start).may_end});
  for (const std::string& closer : format.closers) {
    build.node(reasoning).edges.push_back({.text = closer, .next = behind});
  }
  if (BeginsInReasoning(format, prompt_tail)) {
    build.node(first) = build.node(reasoning);
    return;
  }
  build.Merge(first, start);
  if (OpenedBy(prompt_tail, format.closers)) {
    return;
  }
  std::uint32_t opens = first;
  for (const wire::ScriptEdge& edge : build.node(start).edges) {
    if (edge.text.empty() && edge.next < build.script.nodes.size() && build.node(edge.next).free) {
      opens = edge.next;  // found there wherever it stands
    }
  }
  for (const std::string& opener : format.openers) {
    if (opens != first || !BeginsOther(build.node(first), opener)) {
      build.node(opens).edges.push_back({.text = opener, .next = reasoning});
    }
  }
}

wire::Script CallScriptMaker::Make(std::string_view prompt_tail) {
  first_ = build_.Add();
  after_ = build_.Add({.gap_max = kGapBytesMax});
  done_ = build_.Add({.may_end = true, .gap_max = kGapBytesMax});
  AddValues();
  AddCalls();
  AddContent();
  EndCalls();
  const std::uint32_t start = StartNode(prompt_tail);
  if (format_.harmony()) {
    AddHarmony(start);
    build_.Merge(first_, start);
  } else if (format_.reasoning) {
    PutReasoning(build_, *format_.reasoning, first_, start, prompt_tail);
  } else {
    build_.Merge(first_, start);
  }
  return std::move(build_.script);
}

}  // namespace

Result<wire::Script> CallScript(const ChatFormat& format, const CallScriptOptions& options,
                                std::string_view prompt_tail) {
  if (!format.calls) {
    return Fail(Code::kUnsupported,
                "calls cannot be enforced: no tool-call format is known of this model; set "
                "--tool-call-parser");
  }
  CallForm form = FormOf(*format.calls);
  for (const ScriptTool& tool : options.tools) {
    if (!CanName(form, tool.name)) {
      return Fail(Code::kUnsupported,
                  fmt::format("the name \"{}\" cannot be written in calls of the format {}",
                              tool.name, format.calls_name));
    }
  }
  if (OpenedBy(prompt_tail, form.other_openers)) {
    return Fail(Code::kUnsupported,
                fmt::format("the prompt begins a call in a way that the format {} does not enforce",
                            format.calls_name));
  }
  return CallScriptMaker(format, std::move(form), options).Make(prompt_tail);
}

wire::Script ReasoningScript(const ChatFormat& format, std::string_view prompt_tail) {
  ScriptBuilder build;
  const std::uint32_t first = build.Add();
  if (format.harmony()) {
    AddMessages(build, format, first, kScriptBody);
    return std::move(build.script);
  }
  if (!format.reasoning || (OpenedBy(prompt_tail, format.reasoning->closers) &&
                            !BeginsInReasoning(*format.reasoning, prompt_tail))) {
    return {};
  }
  const std::uint32_t start = build.Add();
  build.node(start).edges = {{.text = {}, .next = kScriptBody}};
  PutReasoning(build, *format.reasoning, first, start, prompt_tail);
  return std::move(build.script);
}

}  // namespace pixii::text::parsers
