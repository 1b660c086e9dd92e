#include "frontend/pooling_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include "frontend/field_error.h"

namespace pixii::frontend {

namespace {

// The fields that hold a surface's texts, for errors.
std::string_view InputField(Surface surface) {
  return surface == Surface::kRerank  ? "documents"
         : surface == Surface::kScore ? "text_2"
                                      : "input";
}

class Planner final {
 public:
  Planner(PoolingRequest request, const ServedModel& model, const wire::ModelCard& card)
      : model_(model), profile_(model.pooling), card_(card) {
    plan_.request = std::move(request);
    tokens_max_ = card.context_tokens_max;
    if (profile_.tokens_max > 0) {
      tokens_max_ = std::min(tokens_max_, profile_.tokens_max);
    }
  }

  Result<PoolingPlan> Plan() {
    PX_TRY(const wire::AdapterCard* adapter, FindAdapter(request().model, model_, card_));
    plan_.adapter = adapter != nullptr ? adapter->name : std::string();
    PX_CHECK_OK(CheckTask());
    PX_CHECK_OK(CheckDimensions());
    plan_.feature_count = card_.feature_count;
    PX_CHECK_OK(PlanTexts());
    for (const PoolText& text : plan_.texts) {
      plan_.prompt_tokens += text.ids.size();
    }
    return std::move(plan_);
  }

 private:
  const PoolingRequest& request() const { return plan_.request; }

  std::string_view input_field() const { return InputField(request().surface); }

  bool embeds() const { return card_.task == wire::ModelTask::kEmbed; }

  // Whether the model does what the route is for.
  Result<void> CheckTask() const {
    auto refuse = [&](std::string_view does) {
      return Fail(Code::kNotFound, fmt::format("the model \"{}\" {}", model_.name(), does),
                  "model");
    };
    switch (request().surface) {
      case Surface::kEmbeddings:
        return embeds() ? Result<void>() : refuse("gives no embeddings");
      case Surface::kClassify:
        return card_.task == wire::ModelTask::kClassify ? Result<void>()
                                                        : refuse("does not classify");
      default:
        break;
    }
    if (card_.task == wire::ModelTask::kClassify && card_.feature_count != 1) {
      return refuse(fmt::format("has {} classes; a score comes from one", card_.feature_count));
    }
    if (card_.task == wire::ModelTask::kGenerate && !profile_.score) {
      return refuse("generates and has no score tokens, so it does not rank");
    }
    return {};
  }

  Result<void> CheckDimensions() const {
    if (!request().dimensions) {
      return {};
    }
    std::uint32_t wanted = *request().dimensions;
    if (!profile_.matryoshka && wanted != card_.feature_count) {
      return Fail(Code::kUnsupported,
                  fmt::format("dimensions: vectors of the model \"{}\" have {} and cannot be cut",
                              model_.name(), card_.feature_count),
                  "dimensions");
    }
    if (wanted > card_.feature_count) {
      return Bad("dimensions", fmt::format("{} is more than the {} that the model gives", wanted,
                                           card_.feature_count));
    }
    const std::vector<std::uint32_t>& allowed = profile_.dimensions;
    if (!allowed.empty() && wanted != card_.feature_count &&
        std::ranges::find(allowed, wanted) == allowed.end()) {
      return Bad("dimensions",
                 fmt::format("{} is not allowed; {} are", wanted, fmt::join(allowed, ", ")));
    }
    return {};
  }

  Result<void> PlanTexts() {
    if (request().surface == Surface::kEmbeddings || request().surface == Surface::kClassify) {
      return PlanInputs();
    }
    if (!model_.text) {
      return Fail(Code::kUnsupported,
                  fmt::format("{}: the model \"{}\" has no tokenizer; use a route that takes token "
                              "ids",
                              input_field(), model_.name()),
                  std::string(input_field()));
    }
    const bool renders = !embeds() && model_.text->renders_pairs();
    if (request().instruction && !renders) {
      return NotDone(
          "instruction",
          fmt::format("the model \"{}\" has no template with a place for it", model_.name()));
    }
    if (!request().add_special_tokens && renders) {
      return NotDone(
          "add_special_tokens",
          fmt::format("the template of the model \"{}\" says which there are", model_.name()));
    }
    for (std::string& document : plan_.request.second) {
      PX_CHECK_OK(CheckTextSize(document, input_field(), card_));
    }
    if (embeds()) {
      return PlanVectorPairs();
    }
    if (profile_.score) {
      plan_.logit_tokens.push_back(profile_.score->yes);
      if (profile_.score->no >= 0) {
        plan_.logit_tokens.push_back(profile_.score->no);
      }
      plan_.feature_count = static_cast<std::uint32_t>(plan_.logit_tokens.size());
    }
    return PlanPairs();
  }

  Result<void> PlanInputs() {
    PX_TRY(const std::string* prompt, PromptOf(request()));
    for (std::size_t i = 0; i < request().inputs.size(); ++i) {
      PoolText out;
      const PromptInput& input = request().inputs[i];
      if (const auto* ids = std::get_if<std::vector<TokenId>>(&input)) {
        PX_CHECK_OK(CheckIds(*ids));
        out.ids = *ids;
        if (!request().token_types.empty()) {
          out.types = request().token_types[i];
          PX_CHECK_OK(CheckTypes(out.types));
        }
        if (out.ids.size() > CutAt()) {
          out.ids.resize(CutAt());
          out.types.resize(std::min(out.types.size(), CutAt()));
        }
      } else {
        PX_TRY(out, Encode(std::get<std::string>(input), prompt));
      }
      PX_CHECK_OK(Add(std::move(out)));
    }
    return {};
  }

  // The text that stands before every input; null: none.
  Result<const std::string*> PromptOf(const PoolingRequest& request) const {
    if (!request.prompt_name) {
      return profile_.default_prompt.empty() ? nullptr
                                             : profile_.FindPrompt(profile_.default_prompt);
    }
    const std::string& name = *request.prompt_name;
    if (const std::string* prompt = profile_.FindPrompt(name)) {
      return prompt;
    }
    if (name == "document" || name == "passage" || name == "search_document") {
      return DocumentPrompt();
    }
    if (name == "query" || name == "search_query") {
      return profile_.FindPrompt("query");
    }
    std::string known;
    for (const auto& [each, text] : profile_.prompts) {
      known += (known.empty() ? "" : ", ") + each;
    }
    return Bad("input_type",
               fmt::format("{} is no prompt of this model{}{}", Shown(wire::Json(name)),
                           known.empty() ? "" : "; it has ", known));
  }

  const std::string* DocumentPrompt() const {
    for (std::string_view name : {"document", "passage", "corpus"}) {
      if (const std::string* prompt = profile_.FindPrompt(name)) {
        return prompt;
      }
    }
    return nullptr;
  }

  // Tokens after which a text is cut; more than any: it is not.
  std::size_t CutAt() const {
    if (!request().truncate_prompt_tokens) {
      return SIZE_MAX;
    }
    std::int64_t asked = *request().truncate_prompt_tokens;
    return asked < 0 ? tokens_max_
                     : std::min<std::size_t>(tokens_max_, static_cast<std::size_t>(asked));
  }

  TextProcessor::JoinOptions Joining(bool parse_special) const {
    return {.add_special = request().add_special_tokens,
            .parse_special = parse_special,
            .tokens_max = CutAt() == SIZE_MAX ? 0 : CutAt()};
  }

  Result<PoolText> Encode(const std::string& text, const std::string* prompt) const {
    if (!model_.text) {
      return Fail(
          Code::kUnsupported,
          fmt::format("input: the model \"{}\" has no tokenizer; give token ids", model_.name()),
          "input");
    }
    PX_CHECK_OK(CheckTextSize(text, input_field(), card_));
    bool prompted = prompt != nullptr && !prompt->empty();
    PX_TRY(auto joined,
           model_.text->Join(prompted ? *prompt + text : text, std::nullopt, Joining(true)));
    PoolText out{.ids = std::move(joined.ids), .types = std::move(joined.types)};
    if (prompted && profile_.skip_prompt) {
      // As sentence-transformers: the prompt's own tokens but for the one that ends a text.
      PX_TRY(auto alone, model_.text->Join(*prompt, std::nullopt, Joining(true)));
      std::size_t size = alone.ids.empty() ? 0 : alone.ids.size() - 1;
      out.skip_tokens =
          static_cast<std::uint32_t>(std::min(size, out.ids.empty() ? 0 : out.ids.size() - 1));
    }
    return out;
  }

  // Each text once, and which are compared.
  Result<void> PlanVectorPairs() {
    const std::string* query_prompt = nullptr;
    const std::string* document_prompt = nullptr;
    if (request().surface == Surface::kRerank) {
      query_prompt = profile_.FindPrompt("query");
      document_prompt = DocumentPrompt();
    }
    for (const std::string& text : request().first) {
      PX_TRY(PoolText out, Encode(text, query_prompt));
      PX_CHECK_OK(Add(std::move(out)));
    }
    auto first_count = static_cast<std::uint32_t>(request().first.size());
    for (std::uint32_t i = 0; i < request().second.size(); ++i) {
      PX_TRY(std::string document, CutDocument(request().second[i]));
      PX_TRY(PoolText out, Encode(document, document_prompt));
      PX_CHECK_OK(Add(std::move(out)));
      plan_.pairs.emplace_back(first_count == 1 ? 0 : i, first_count + i);
    }
    return {};
  }

  Result<void> PlanPairs() {
    for (std::size_t i = 0; i < request().second.size(); ++i) {
      const std::string& query = request().first[request().first.size() == 1 ? 0 : i];
      PX_CHECK_OK(
          CheckTextSize(query, request().surface == Surface::kScore ? "text_1" : "query", card_));
      PX_TRY(std::string document, CutDocument(request().second[i]));
      PX_TRY(PoolText out, model_.text->renders_pairs() ? RenderPair(query, document)
                                                        : JoinPair(query, document));
      PX_CHECK_OK(Add(std::move(out)));
    }
    return {};
  }

  Result<PoolText> JoinPair(const std::string& query, const std::string& document) const {
    Result<TextProcessor::JoinedText> joined =
        model_.text->Join(query, document, Joining(profile_.pairs_are_prompts));
    if (!joined) {
      return Fail(joined.error().code(), joined.error().detail(), std::string(input_field()));
    }
    return PoolText{.ids = std::move(joined->ids), .types = std::move(joined->types)};
  }

  Result<PoolText> RenderPair(const std::string& query, std::string document) const {
    PX_TRY(PoolText out, RenderOnce(query, document));
    if (out.ids.size() <= CutAt()) {
      return out;
    }
    // The template's own words stay whole: what is too much goes from the document's end.
    PX_TRY(auto ids, model_.text->Encode(document, {.add_special = false, .parse_special = false}));
    std::size_t excess = out.ids.size() - CutAt();
    ids.resize(ids.size() - std::min(ids.size(), excess));
    document = DecodeAll(*model_.text, ids, false);
    return RenderOnce(query, document);
  }

  Result<PoolText> RenderOnce(const std::string& query, const std::string& document) const {
    wire::Json::Array messages;
    auto say = [&](std::string_view role, const std::string& content) {
      wire::Json message;
      message.Set("role", role);
      message.Set("content", content);
      messages.push_back(std::move(message));
    };
    if (request().instruction) {
      say("system", *request().instruction);
    }
    say("query", query);
    say("document", document);
    ChatPrompt prompt;
    prompt.messages = std::move(messages);
    Result<std::vector<TokenId>> ids = model_.text->EncodeChat(prompt);
    if (!ids) {
      return Fail(ids.error().code(), ids.error().detail(), std::string(input_field()));
    }
    return PoolText{.ids = std::move(*ids), .types = {}};
  }

  Result<std::string> CutDocument(const std::string& document) const {
    if (!request().max_tokens_per_doc) {
      return document;
    }
    PX_TRY(auto ids, model_.text->Encode(document, {.add_special = false, .parse_special = false}));
    if (ids.size() <= *request().max_tokens_per_doc) {
      return document;
    }
    ids.resize(*request().max_tokens_per_doc);
    return DecodeAll(*model_.text, ids, false);
  }

  Result<void> CheckIds(std::span<const TokenId> ids) const {
    for (TokenId id : ids) {
      if (id < 0 || static_cast<std::uint32_t>(id) >= card_.vocab_size) {
        return Bad(input_field(), fmt::format("token id {} is out of range, allowed is [0, {}]", id,
                                              card_.vocab_size - 1));
      }
    }
    return {};
  }

  Result<void> CheckTypes(std::span<const std::int32_t> types) const {
    std::uint32_t count = std::max(1U, card_.token_type_count);
    for (std::int32_t type : types) {
      if (static_cast<std::uint32_t>(type) >= count) {
        return Bad("token_type_ids",
                   fmt::format("{} is out of range, the model knows {}", type, count));
      }
    }
    return {};
  }

  Result<void> Add(PoolText text) {
    if (text.ids.empty()) {
      return Bad(input_field(), fmt::format("item {} encodes to no tokens", plan_.texts.size()));
    }
    if (text.ids.size() > tokens_max_) {
      return Fail(Code::kTooLarge,
                  fmt::format("{}: this model's maximum context length is {} tokens, item {} has "
                              "{}; truncate_prompt_tokens -1 cuts it",
                              input_field(), tokens_max_, plan_.texts.size(), text.ids.size()),
                  std::string(input_field()));
    }
    PX_CHECK_OK(CheckIds(text.ids));
    // What the tokenizer says of types is meant for models that know them.
    auto known = [&](std::int32_t type) {
      return static_cast<std::uint32_t>(type) < card_.token_type_count;
    };
    if (card_.token_type_count < 2 || !std::ranges::all_of(text.types, known)) {
      text.types.clear();
    }
    plan_.texts.push_back(std::move(text));
    return {};
  }

  const ServedModel& model_;
  const PoolingProfile& profile_;
  const wire::ModelCard& card_;
  std::uint32_t tokens_max_;
  PoolingPlan plan_;
};

}  // namespace

Result<PoolingPlan> PlanPooling(PoolingRequest request, const ServedModel& model,
                                const wire::ModelCard& card) {
  return Planner(std::move(request), model, card).Plan();
}

}  // namespace pixii::frontend
