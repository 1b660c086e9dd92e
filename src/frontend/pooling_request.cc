#include "frontend/pooling_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "frontend/field_error.h"

namespace pixii::frontend {

using wire::Json;

namespace {

constexpr std::uint8_t kEmbed = static_cast<std::uint8_t>(Surface::kEmbeddings);
constexpr std::uint8_t kScore = static_cast<std::uint8_t>(Surface::kScore);
constexpr std::uint8_t kRerank = static_cast<std::uint8_t>(Surface::kRerank);
constexpr std::uint8_t kClassify = static_cast<std::uint8_t>(Surface::kClassify);
constexpr std::uint8_t kInput = kEmbed | kClassify;
constexpr std::uint8_t kPairs = kScore | kRerank;
constexpr std::uint8_t kAll = kInput | kPairs;

constexpr std::int64_t kCountMax = 1 << 24;  // of tokens, features and results
constexpr std::int64_t kTypeMax = 255;

Result<std::string> ReadString(std::string_view name, const Json& value) {
  if (!value.is_string()) {
    return Bad(name, fmt::format("{} is not a string", Shown(value)));
  }
  return value.string();
}

Result<bool> ReadFlag(std::string_view name, const Json& value) {
  if (!value.is_bool()) {
    return Bad(name, fmt::format("{} is neither true nor false", Shown(value)));
  }
  return value.boolean();
}

Result<std::int64_t> ReadCount(std::string_view name, const Json& value, std::int64_t min) {
  std::optional<std::int64_t> number =
      value.is_number() && value.IsIntegerLiteral() ? value.AsInt() : std::nullopt;
  if (!number || *number < min || *number > kCountMax) {
    return Bad(name, fmt::format("{} is not an integer in [{}, {}]", Shown(value), min, kCountMax));
  }
  return *number;
}

Result<void> CheckCount(std::string_view name, std::size_t count) {
  if (count == 0 || count > kPoolTextsMax) {
    return Bad(name, fmt::format("has {} items, allowed are 1 to {}", count, kPoolTextsMax));
  }
  return {};
}

// A text, token ids, or a list of either.
Result<void> ReadInput(std::string_view name, const Json& value, PoolingRequest& out) {
  if (value.is_string()) {
    out.inputs.emplace_back(value.string());
    return {};
  }
  if (!value.is_array() || value.array().empty()) {
    return Bad(name,
               fmt::format("{} is neither a text nor a list of texts or token ids", Shown(value)));
  }
  if (value.array().front().is_number()) {
    PX_TRY(auto ids, ParseTokenIds(value, name));
    out.inputs.emplace_back(std::move(ids));
    return {};
  }
  PX_CHECK_OK(CheckCount(name, value.array().size()));
  for (const Json& item : value.array()) {
    if (item.is_string()) {
      out.inputs.emplace_back(item.string());
      continue;
    }
    PX_TRY(auto ids, ParseTokenIds(item, name));
    out.inputs.emplace_back(std::move(ids));
  }
  return {};
}

Result<std::vector<std::int32_t>> ReadTypeList(std::string_view name, const Json& value) {
  std::vector<std::int32_t> out;
  for (const Json& item : value.array()) {
    std::optional<std::int64_t> type = item.is_number() ? item.AsInt() : std::nullopt;
    if (!type || *type < 0 || *type > kTypeMax) {
      return Bad(name, fmt::format("{} is no type in [0, {}]", Shown(item), kTypeMax));
    }
    out.push_back(static_cast<std::int32_t>(*type));
  }
  return out;
}

Result<void> ReadTypes(std::string_view name, const Json& value, PoolingRequest& out) {
  if (!value.is_array() || value.array().empty()) {
    return Bad(name, "is no list of types, or of such lists");
  }
  if (!value.array().front().is_array()) {
    PX_TRY(auto types, ReadTypeList(name, value));
    out.token_types.push_back(std::move(types));
    return {};
  }
  PX_CHECK_OK(CheckCount(name, value.array().size()));
  for (const Json& item : value.array()) {
    if (!item.is_array()) {
      return Bad(name, "is no list of lists of types");
    }
    PX_TRY(auto types, ReadTypeList(name, item));
    out.token_types.push_back(std::move(types));
  }
  return {};
}

// A text or {"text": …}, as Cohere's and Jina's clients send documents.
Result<std::string> ReadDocument(std::string_view name, const Json& value) {
  if (!value.is_object()) {
    return ReadString(name, value);
  }
  const Json* text = value.Find("text");
  if (text == nullptr || !text->is_string() || value.object().size() != 1) {
    return Bad(name,
               fmt::format("{} is neither a text nor an object with only \"text\"", Shown(value)));
  }
  return text->string();
}

Result<std::vector<std::string>> ReadTexts(std::string_view name, const Json& value) {
  std::vector<std::string> out;
  if (!value.is_array()) {
    PX_TRY(std::string text, ReadDocument(name, value));
    out.push_back(std::move(text));
    return out;
  }
  PX_CHECK_OK(CheckCount(name, value.array().size()));
  for (const Json& item : value.array()) {
    PX_TRY(std::string text, ReadDocument(name, item));
    out.push_back(std::move(text));
  }
  return out;
}

using Reader = Result<void> (*)(std::string_view name, const Json& value, PoolingRequest& out);

// Some fields have two names, of which a body gives one.
Result<void> TakeName(std::string_view name, bool taken, std::string_view own,
                      PoolingRequest& out) {
  if (taken) {
    return Bad(name, fmt::format("is another name of {}; give one of them", out.names.Of(own)));
  }
  out.names.Add({.inner = std::string(own), .outer = std::string(name)});
  return {};
}

Result<void> ReadFirst(std::string_view name, const Json& value, PoolingRequest& out) {
  PX_CHECK_OK(TakeName(name, !out.first.empty(), "text_1", out));
  PX_TRY(out.first, ReadTexts(name, value));
  return {};
}

Result<void> ReadSecond(std::string_view name, const Json& value, PoolingRequest& out) {
  PX_CHECK_OK(TakeName(name, !out.second.empty(), "text_2", out));
  PX_TRY(out.second, ReadTexts(name, value));
  return {};
}

Result<void> ReadQuery(std::string_view name, const Json& value, PoolingRequest& out) {
  PX_TRY(std::string text, ReadDocument(name, value));
  out.first = {std::move(text)};
  return {};
}

Result<void> ReadDocuments(std::string_view name, const Json& value, PoolingRequest& out) {
  if (!value.is_array()) {
    return Bad(name, fmt::format("{} is not a list of texts", Shown(value)));
  }
  return ReadSecond(name, value, out);
}

Result<void> ReadFormat(std::string_view name, const Json& value, PoolingRequest& out) {
  PX_TRY(std::string format, ReadString(name, value));
  if (format != "float" && format != "base64") {
    return Bad(name, fmt::format("{} is neither \"float\" nor \"base64\"", Shown(value)));
  }
  out.base64 = format == "base64";
  return {};
}

Result<void> ReadDimensions(std::string_view name, const Json& value, PoolingRequest& out) {
  PX_TRY(std::int64_t count, ReadCount(name, value, 1));
  out.dimensions = static_cast<std::uint32_t>(count);
  return {};
}

Result<void> ReadPromptName(std::string_view name, const Json& value, PoolingRequest& out) {
  PX_CHECK_OK(TakeName(name, out.prompt_name.has_value(), "input_type", out));
  PX_TRY(out.prompt_name, ReadString(name, value));
  return {};
}

Result<void> ReadInstruction(std::string_view name, const Json& value, PoolingRequest& out) {
  PX_TRY(out.instruction, ReadString(name, value));
  return {};
}

Result<void> ReadTruncate(std::string_view name, const Json& value, PoolingRequest& out) {
  PX_TRY(std::int64_t count, ReadCount(name, value, -1));
  if (count == 0) {
    return Bad(name, "0 is not allowed; -1 cuts at what the model takes");
  }
  out.truncate_prompt_tokens = count;
  return {};
}

Result<void> ReadTokensPerDoc(std::string_view name, const Json& value, PoolingRequest& out) {
  PX_TRY(std::int64_t count, ReadCount(name, value, 1));
  out.max_tokens_per_doc = static_cast<std::uint32_t>(count);
  return {};
}

Result<void> ReadTopN(std::string_view name, const Json& value, PoolingRequest& out) {
  PX_TRY(std::int64_t count, ReadCount(name, value, 0));  // 0: all, as vLLM's clients send it
  out.top_n = static_cast<std::uint32_t>(count);
  return {};
}

Result<void> ReadModel(std::string_view name, const Json& value, PoolingRequest& out) {
  PX_TRY(out.model, ReadString(name, value));
  return {};
}

Result<void> ReadLabel(std::string_view name, const Json& value, PoolingRequest& /*out*/) {
  PX_TRY(std::string label, ReadString(name, value));
  if (label.size() > kLabelBytesMax) {
    return Bad(name, fmt::format("{} bytes, allowed are {}", label.size(), kLabelBytesMax));
  }
  return {};
}

template <bool PoolingRequest::* kMember>
Result<void> ReadBool(std::string_view name, const Json& value, PoolingRequest& out) {
  PX_TRY(out.*kMember, ReadFlag(name, value));
  return {};
}

struct Field {
  std::string_view name;
  std::uint8_t surfaces;
  Reader read;
};

constexpr auto kFields = std::to_array<Field>({
    {"model", kAll, ReadModel},
    {"user", kAll, ReadLabel},
    {"request_id", kAll, ReadLabel},
    {"input", kInput, ReadInput},
    {"token_type_ids", kInput, ReadTypes},
    {"encoding_format", kEmbed, ReadFormat},
    {"dimensions", kEmbed, ReadDimensions},
    {"input_type", kEmbed, ReadPromptName},
    {"prompt_name", kEmbed, ReadPromptName},
    {"text_1", kScore, ReadFirst},
    {"queries", kScore, ReadFirst},
    {"text_2", kScore, ReadSecond},
    {"documents", kScore, ReadSecond},
    {"query", kRerank, ReadQuery},
    {"documents", kRerank, ReadDocuments},
    {"top_n", kRerank, ReadTopN},
    {"return_documents", kRerank, ReadBool<&PoolingRequest::return_documents>},
    {"max_tokens_per_doc", kRerank, ReadTokensPerDoc},
    {"instruction", kPairs, ReadInstruction},
    {"use_activation", kPairs | kClassify, ReadBool<&PoolingRequest::activate>},
    {"truncate_prompt_tokens", kAll, ReadTruncate},
    {"add_special_tokens", kAll, ReadBool<&PoolingRequest::add_special_tokens>},
    {"receipt", kAll, ReadBool<&PoolingRequest::receipt>},
});

Result<void> CheckInputs(const PoolingRequest& request) {
  if (request.inputs.empty()) {
    return Bad("input", "is missing");
  }
  if (request.token_types.empty()) {
    return {};
  }
  if (request.token_types.size() != request.inputs.size()) {
    return Bad("token_type_ids", fmt::format("has {} lists for {} inputs",
                                             request.token_types.size(), request.inputs.size()));
  }
  for (std::size_t i = 0; i < request.inputs.size(); ++i) {
    const auto* ids = std::get_if<std::vector<TokenId>>(&request.inputs[i]);
    if (ids == nullptr || ids->size() != request.token_types[i].size()) {
      return Bad("token_type_ids",
                 fmt::format("list {} is not one type for each token id of its input", i));
    }
  }
  return {};
}

Result<void> CheckPairs(const PoolingRequest& request) {
  bool score = request.surface == Surface::kScore;
  if (request.first.empty()) {
    return Bad(score ? "text_1" : "query", "is missing");
  }
  if (request.second.empty()) {
    return Bad(score ? "text_2" : "documents", "is missing");
  }
  if (request.first.size() != 1 && request.first.size() != request.second.size()) {
    return Bad("text_1", fmt::format("has {} texts for {} of text_2; 1 or as many are allowed",
                                     request.first.size(), request.second.size()));
  }
  return {};
}

}  // namespace

Result<PoolingRequest> ParsePoolingRequest(const Json& body, Surface surface) {
  if (!body.is_object()) {
    return Fail(Code::kInvalidArgument, "the body must be a JSON object");
  }
  PoolingRequest out;
  out.surface = surface;
  const auto bit = static_cast<std::uint8_t>(surface);
  for (const auto& [name, value] : body.object()) {
    const auto* field = std::ranges::find_if(kFields, [&](const Field& each) {
      return each.name == name && (each.surfaces & bit) != 0;
    });
    if (field == kFields.end()) {
      std::string shown = name.substr(0, 100);
      return Fail(Code::kInvalidArgument, fmt::format("unknown field \"{}\"", shown), shown);
    }
    if (!value.is_null()) {
      PX_CHECK_OK(field->read(field->name, value, out));
    }
  }
  if (Result<void> fits = (bit & kInput) != 0 ? CheckInputs(out) : CheckPairs(out); !fits) {
    return Fail(out.names.InCallersWords(fits.error()));
  }
  return out;
}

}  // namespace pixii::frontend
