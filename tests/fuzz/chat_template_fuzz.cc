// Any bytes as a chat template: load and render end with a prompt or a typed error, twice the same,
// and the untrusted ranges are sorted, disjoint, inside the text and on character boundaries.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "base/utf8.h"
#include "text/jinja/chat_template.h"
#include "wire/json.h"

namespace {

using pixii::text::ChatTemplate;
using pixii::text::ChatTemplateInput;
using pixii::text::ChatTemplateOptions;
using pixii::text::RenderedPrompt;
using pixii::text::TextRange;

constexpr std::string_view kMessages =
    R"([{"role": "system", "content": "Be <|terse|>."},
        {"role": "user", "content": [{"type": "text", "text": "Größe 你好"}], "n": 3, "f": 1.5},
        {"role": "assistant", "content": null, "tool_calls": [{"id": "abcdefghi", "type": "function",
          "function": {"name": "get", "arguments": {"k": [1, "é", null, true]}}}]},
        {"role": "tool", "content": "{\"a\": 1}", "tool_call_id": "abcdefghi"}])";

void CheckRanges(const RenderedPrompt& prompt) {
  PX_ASSERT(pixii::IsValidUtf8(prompt.text));
  std::size_t at = 0;
  const auto boundary = [&](std::size_t i) {
    return i == prompt.text.size() || (static_cast<unsigned char>(prompt.text[i]) & 0xC0) != 0x80;
  };
  for (const TextRange& range : prompt.untrusted) {
    PX_ASSERT(at <= range.begin && range.begin < range.end && range.end <= prompt.text.size());
    PX_ASSERT(boundary(range.begin) && boundary(range.end));
    at = range.end;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const pixii::wire::Json messages = *pixii::wire::ParseJson(kMessages);
  static const pixii::wire::Json tools =
      *pixii::wire::ParseJson(R"([{"type": "function", "function": {"name": "get"}}])");
  static const std::vector<std::pair<std::string, std::string>> tokens = {{"bos_token", "<s>"},
                                                                          {"eos_token", "</s>"}};
  ChatTemplateOptions options;
  options.limits.steps_max = 20'000;
  options.limits.memory_bytes_max = 4 << 20;
  options.limits.output_bytes_max = 1 << 20;
  const auto parsed = ChatTemplate::Parse({reinterpret_cast<const char*>(data), size}, options);
  if (!parsed) {
    return 0;
  }
  ChatTemplateInput input;
  input.messages = &messages;
  input.tools = &tools;
  input.special_tokens = &tokens;
  input.now = {.year = 2026, .month = 11, .day = 20};
  const auto first = parsed->Render(input);
  const auto second = parsed->Render(input);
  PX_ASSERT(first.has_value() == second.has_value());
  if (!first) {
    PX_ASSERT(first.error().detail() == second.error().detail());
    return 0;
  }
  PX_ASSERT(first->text == second->text && first->untrusted == second->untrusted);
  CheckRanges(*first);
  return 0;
}
