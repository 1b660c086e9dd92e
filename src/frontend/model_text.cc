#include "frontend/model_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "base/utf8.h"
#include "rt/clock.h"
#include "text/jinja/chat_template_files.h"
#include "text/tokenizer/detokenizer.h"

namespace pixii::frontend {

namespace {

double Milliseconds(rt::Duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

double Seconds(rt::Duration duration) { return std::chrono::duration<double>(duration).count(); }

// Counts at its end what all of it took.
class Decoder final : public TextDecoder {
 public:
  /// `meters`: null, or outlives it.
  Decoder(const text::Tokenizer& tokenizer, std::span<const TokenId> prompt, bool skip_special,
          const TextMeters* meters)
      : detokenizer_(tokenizer, prompt, {.skip_special_tokens = skip_special}), meters_(meters) {}

  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  ~Decoder() override {
    if (meters_ != nullptr && token_count_ > 0) {
      meters_->detokenize_ms->Observe(Milliseconds(spent_));
      meters_->detokenize_per_token_us->Observe(Milliseconds(spent_) * 1000 /
                                                static_cast<double>(token_count_));
    }
  }

  void Push(TokenId token, std::string& out) override {
    if (meters_ == nullptr) {
      detokenizer_.Push(token, out);
      return;
    }
    const rt::Time begun = rt::SteadyNow();
    detokenizer_.Push(token, out);
    spent_ += rt::SteadyNow() - begun;
    ++token_count_;
  }

  void Flush(std::string& out) override { out += detokenizer_.Flush(); }

 private:
  text::IncrementalDetokenizer detokenizer_;
  const TextMeters* meters_;
  rt::Duration spent_{};
  std::uint64_t token_count_ = 0;
};

std::optional<std::string_view> View(const std::optional<std::string>& text) {
  return text ? std::optional<std::string_view>(*text) : std::nullopt;
}

// The text of a message's content: a string, or its text parts one after another.
std::string ContentText(const wire::Json& message) {
  const wire::Json* content = message.Find("content");
  if (content == nullptr) {
    return {};
  }
  if (content->is_string()) {
    return content->string();
  }
  std::string out;
  for (std::size_t i = 0; content->is_array() && i < content->array().size(); ++i) {
    const wire::Json* part = content->array()[i].Find("text");
    out += part != nullptr && part->is_string() ? part->string() : "";
  }
  return out;
}

// Ends the prompt right behind the last message's own text, so that the model goes on with it.
Result<void> CutAfterFinalMessage(text::RenderedPrompt& rendered, const wire::Json& messages) {
  std::string final_text = messages.array().empty() ? "" : ContentText(messages.array().back());
  std::size_t end = final_text.find_last_not_of(" \t\r\n");
  final_text.resize(end == std::string::npos ? 0 : end + 1);
  std::size_t at = final_text.empty() ? std::string::npos : rendered.text.rfind(final_text);
  if (at == std::string::npos) {
    return Fail(
        Code::kInvalidArgument,
        "the chat template does not end in the last message's text, so it cannot be continued",
        "continue_final_message");
  }
  rendered.text.resize(at + final_text.size());
  while (!rendered.untrusted.empty() && rendered.untrusted.back().begin >= rendered.text.size()) {
    rendered.untrusted.pop_back();
  }
  if (!rendered.untrusted.empty()) {
    std::size_t size = rendered.text.size();
    rendered.untrusted.back().end = std::min(rendered.untrusted.back().end, size);
  }
  return {};
}

}  // namespace

Result<std::shared_ptr<const ModelText>> ModelText::Create(
    const ModelTextFiles& files, std::function<text::CivilTime()> civil_now) {
  auto out = std::shared_ptr<ModelText>(new ModelText);  // tidy: new the constructor is private
  PX_TRY(out->tokenizer_,
         text::Tokenizer::FromJson(files.tokenizer_json, files.tokenizer_json_path));
  PX_TRY(text::LoadedChatTemplates loaded,
         text::LoadChatTemplates({.tokenizer_config_json = View(files.tokenizer_config_json),
                                  .chat_template_jinja = View(files.chat_template_jinja),
                                  .chat_template_json = View(files.chat_template_json)}));
  for (const auto& [name, source] : loaded.templates) {
    PX_TRY(text::ChatTemplate parsed, text::ChatTemplate::Parse(source, {}));
    out->templates_.emplace_back(name, std::move(parsed));
  }
  const std::string* source = loaded.Choose(true);
  out->template_source_ = source == nullptr ? std::string() : *source;
  out->special_tokens_ = std::move(loaded.special_tokens);
  out->civil_now_ = std::move(civil_now);
  out->renders_pairs_ = out->ProbePairs();
  return std::shared_ptr<const ModelText>(std::move(out));
}

const text::ChatTemplate* ModelText::Choose(bool with_tools) const {
  const text::ChatTemplate* chosen = nullptr;
  for (const auto& [name, parsed] : templates_) {
    if (name == "default" || (with_tools && name == "tool_use")) {
      chosen = &parsed;
      if (name == "tool_use") {
        break;
      }
    }
  }
  return chosen;
}

Result<std::vector<TokenId>> ModelText::Encode(std::string_view text, EncodeOptions options) const {
  if (!IsValidUtf8(text)) {
    return Fail(Code::kInvalidArgument, "the text is not UTF-8", "prompt");
  }
  text::EncodeOptions encode;
  encode.add_special_tokens = options.add_special;
  encode.parse_special = options.parse_special;
  return Tokens(text, encode);
}

Result<std::vector<TokenId>> ModelText::Tokens(std::string_view text,
                                               const text::EncodeOptions& options) const {
  const TextMeters* const meters = this->meters();
  if (meters == nullptr) {
    return tokenizer_->Encode(text, options);
  }
  const rt::Time begun = rt::SteadyNow();
  Result<std::vector<TokenId>> out = tokenizer_->Encode(text, options);
  const rt::Duration took = rt::SteadyNow() - begun;
  meters->tokenize_ms->Observe(Milliseconds(took));
  meters->tokenize_seconds->Observe(Seconds(took));
  return out;
}

void ModelText::Meter(const TextMeters& meters) const {
  if (!meters_taken_.exchange(true)) {
    meters_ = meters;
    metered_.store(true, std::memory_order_release);
  }
}

const TextMeters* ModelText::meters() const {
  return metered_.load(std::memory_order_acquire) ? &meters_ : nullptr;
}

Result<TextProcessor::JoinedText> ModelText::Join(std::string_view first,
                                                  std::optional<std::string_view> second,
                                                  JoinOptions options) const {
  if (!IsValidUtf8(first) || (second && !IsValidUtf8(*second))) {
    return Fail(Code::kInvalidArgument, "the text is not UTF-8", "input");
  }
  PX_TRY(text::TypedTokens joined, tokenizer_->Join(first, second,
                                                    {.add_special_tokens = options.add_special,
                                                     .parse_special = options.parse_special,
                                                     .tokens_max = options.tokens_max}));
  return JoinedText{.ids = std::move(joined.ids), .types = std::move(joined.types)};
}

// A template that has no place for the roles leaves out what they say, refuses them, or writes any
// role's name as it is.
bool ModelText::ProbePairs() const {
  constexpr std::string_view kQuery = "probe of what is asked";
  constexpr std::string_view kDocument = "probe of what is known";
  auto render = [&](std::string_view first_role, std::string_view second_role) {
    wire::Json::Array messages;
    for (auto [role, content] :
         {std::pair(first_role, kQuery), std::pair(second_role, kDocument)}) {
      wire::Json message;
      message.Set("role", role);
      message.Set("content", content);
      messages.push_back(std::move(message));
    }
    ChatPrompt prompt;
    prompt.messages = std::move(messages);
    Result<text::RenderedPrompt> rendered = Render(prompt);
    return rendered ? rendered->text : std::string();
  };
  std::string known = render("query", "document");
  if (known.find(kQuery) == std::string::npos || known.find(kDocument) == std::string::npos) {
    return false;
  }
  constexpr std::string_view kNobody[] = {"role-q", "role-d"};
  std::string unknown = render(kNobody[0], kNobody[1]);
  std::size_t place = 0;
  for (std::string_view role : {"query", "document"}) {
    std::string_view nobody = kNobody[place++];
    for (std::size_t at = unknown.find(nobody); at != std::string::npos;
         at = unknown.find(nobody)) {
      unknown.replace(at, nobody.size(), role);
    }
  }
  return known != unknown;
}

Result<text::RenderedPrompt> ModelText::Render(const ChatPrompt& prompt) const {
  bool with_tools = prompt.tools.is_array() && !prompt.tools.array().empty();
  const text::ChatTemplate* chosen = Choose(with_tools);
  if (chosen == nullptr) {
    return Fail(Code::kUnsupported, "the model has no chat template; use /v1/completions",
                "messages");
  }
  text::ChatTemplateInput input;
  input.messages = &prompt.messages;
  input.tools = with_tools ? &prompt.tools : nullptr;
  input.add_generation_prompt = prompt.add_generation_prompt;
  input.variables = prompt.template_kwargs.is_object() ? &prompt.template_kwargs : nullptr;
  input.special_tokens = &special_tokens_;
  input.now = civil_now_();
  const TextMeters* const meters = this->meters();
  const rt::Time begun = meters == nullptr ? rt::Time() : rt::SteadyNow();
  Result<text::RenderedPrompt> out = chosen->Render(input);
  if (meters != nullptr) {
    meters->template_seconds->Observe(Seconds(rt::SteadyNow() - begun));
  }
  return out;
}

void PutForMark(std::string_view mark, std::string_view text, text::RenderedPrompt& prompt) {
  text::RenderedPrompt out;
  auto range = prompt.untrusted.begin();
  std::size_t at = 0;
  const auto copy_to = [&](std::size_t end) {
    const std::size_t shift = out.text.size() - at;  // may wrap: so does the sum
    for (; range != prompt.untrusted.end() && range->begin < end; ++range) {
      out.untrusted.push_back({range->begin + shift, range->end + shift});
    }
    out.text.append(prompt.text, at, end - at);
    at = end;
  };
  for (std::size_t found = mark.empty() ? std::string::npos : prompt.text.find(mark);
       found != std::string::npos; found = prompt.text.find(mark, found + mark.size())) {
    const bool written = std::ranges::any_of(prompt.untrusted, [&](const text::TextRange& one) {
      return one.begin < found + mark.size() && found < one.end;
    });
    if (!written) {
      copy_to(found);
      out.text += text;
      at = found + mark.size();
    }
  }
  copy_to(prompt.text.size());
  prompt = std::move(out);
}

Result<std::vector<TokenId>> ModelText::EncodeChat(const ChatPrompt& prompt) const {
  if (prompt.times != nullptr) {
    prompt.times->template_begun = rt::SteadyNow();
  }
  PX_TRY(text::RenderedPrompt rendered, Render(prompt));
  if (prompt.times != nullptr) {
    prompt.times->template_ended = rt::SteadyNow();
  }
  if (prompt.continue_final_message) {
    PX_CHECK_OK(CutAfterFinalMessage(rendered, prompt.messages));
  }
  if (prompt.frame) {
    const std::string begin(tokenizer_->TokenText(prompt.frame->begin));
    PutForMark(begin,
               fmt::format("\n\n{}{}{}\n\n", begin, tokenizer_->TokenText(prompt.frame->image),
                           tokenizer_->TokenText(prompt.frame->end)),
               rendered);
  }
  // The template writes the model's special tokens itself: none are added around it.
  text::EncodeOptions encode;
  encode.untrusted = rendered.untrusted;
  Result<std::vector<TokenId>> out = Tokens(rendered.text, encode);
  if (prompt.times != nullptr) {
    prompt.times->tokens_ended = rt::SteadyNow();
  }
  return out;
}

std::unique_ptr<TextDecoder> ModelText::NewDecoder(std::span<const TokenId> prompt,
                                                   bool skip_special) const {
  return std::make_unique<Decoder>(*tokenizer_, prompt, skip_special, meters());
}

std::optional<TokenId> ModelText::AddedToken(std::string_view spelling) const {
  for (const text::AddedTokenInfo& token : tokenizer_->AddedTokenList()) {
    if (token.content == spelling) {
      return token.id;
    }
  }
  return std::nullopt;
}

std::string ModelText::TokenBytes(TokenId token) const {
  std::string bytes = tokenizer_->TokenBytes(token);
  return bytes.empty() ? std::string(tokenizer_->TokenText(token)) : bytes;
}

}  // namespace pixii::frontend
