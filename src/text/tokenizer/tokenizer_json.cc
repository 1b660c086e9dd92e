// Reads a tokenizer.json: walks the large lists without building them, builds the small parts as
// JSON values.
#include <fmt/format.h>

#include <array>
#include <map>
#include <set>

#include "text/tokenizer/bpe.h"
#include "text/tokenizer/component_json.h"
#include "text/tokenizer/json_cursor.h"
#include "text/tokenizer/model_json.h"
#include "text/tokenizer/tokenizer_parts.h"

namespace pixii::text {

class TokenizerJsonLoader final {
 public:
  TokenizerJsonLoader(std::string_view text, std::string_view file)
      : text_(text), place_{std::string(file), {}} {}

  Result<std::unique_ptr<const Tokenizer>> Load() {
    if (text_.size() > kTokenizerJsonBytesMax) {
      return place_.Refuse(
          fmt::format("has {} bytes, allowed are {}", text_.size(), kTokenizerJsonBytesMax),
          Code::kTooLarge);
    }
    PX_CHECK_OK(ReadTopLevel());
    PX_CHECK_OK(CheckVersion());
    PX_TRY(parts_->normalizer,
           Normalizer::FromJson(components_["normalizer"], place_.Member("normalizer")));
    PX_TRY(parts_->pre_tokenizer,
           PreTokenizer::FromJson(components_["pre_tokenizer"], place_.Member("pre_tokenizer")));
    PX_TRY(parts_->decoder, Decoder::FromJson(components_["decoder"], place_.Member("decoder")));
    PX_TRY(parts_->post_processor,
           PostProcessor::FromJson(components_["post_processor"], place_.Member("post_processor")));
    PX_TRY(parts_->model, BuildModel(model_, parts_->vocabulary, place_.Member("model")));
    PX_CHECK_OK(AddTokens());
    PX_CHECK_OK(CheckTemplateIds());
    if (parts_->pre_tokenizer != nullptr) {
      parts_->byte_words =
          ByteWords::Create(*parts_->pre_tokenizer, *parts_->model, parts_->added.control_ids());
    }
    return std::unique_ptr<const Tokenizer>(
        new Tokenizer(std::move(parts_)));  // tidy: new private constructor
  }

 private:
  static constexpr std::array<std::string_view, 6> kComponents = {
      "version", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder"};

  Result<void> ReadTopLevel() {
    JsonCursor cursor(text_);
    std::set<std::string, std::less<>> seen;
    bool has_model = false;
    cursor.Open('{');
    for (std::string_view key; cursor.NextKey(key);) {
      std::string name(key);
      if (!seen.insert(name).second) {
        return place_.Refuse(
            fmt::format("key \"{:.60}\" stands twice, at byte {}", name, cursor.offset()));
      }
      cursor.Peek();
      std::size_t begin = cursor.offset();
      if (name == "model") {
        has_model = true;
        PX_TRY(model_, ReadModel(cursor, parts_->vocabulary, place_.Member("model")));
        continue;
      }
      std::string_view raw;
      if (!cursor.Raw(raw)) {
        break;
      }
      // What the library ignores (truncation, padding, keys it does not know) is only checked to be
      // JSON.
      PX_TRY(wire::Json value, ParseComponent(raw, begin, place_.Member(name.substr(0, 60))));
      if (std::find(kComponents.begin(), kComponents.end(), name) != kComponents.end()) {
        components_.insert_or_assign(name, std::move(value));
      }
    }
    if (!cursor.End()) {
      return place_.Refuse(cursor.error());
    }
    return has_model ? Result<void>() : place_.Refuse("has no \"model\"");
  }

  Result<void> CheckVersion() {
    const wire::Json& version = components_["version"];
    if (!version.is_null() && version != wire::Json("1.0")) {
      return place_.Member("version").Unsupported(fmt::format("version {:.40}", version.Dump()));
    }
    return {};
  }

  Result<void> AddTokens() {
    PX_TRY(std::vector<AddedToken> listed,
           AddedTokensFromJson(components_["added_tokens"], place_.Member("added_tokens")));
    std::vector<AddedToken> tokens;
    std::map<std::string, std::size_t, std::less<>> by_content;
    std::map<TokenId, std::size_t> by_id;
    for (std::size_t i = 0; i < listed.size(); ++i) {
      AddedToken& token = listed[i];
      JsonPlace at = place_.Member("added_tokens").Item(i);
      if (token.content.empty()) {
        continue;
      }
      // A piece of the vocabulary keeps its id, whatever the entry says: so does the reference.
      if (auto id = parts_->vocabulary.IdOf(token.content)) {
        token.id = *id;
      } else if (parts_->vocabulary.Has(token.id)) {
        return at.Refuse(fmt::format("id {} belongs to piece \"{:.60}\" of the vocabulary",
                                     token.id, parts_->vocabulary.Piece(token.id)));
      }
      auto known = by_content.find(token.content);
      if (known != by_content.end()) {
        token.id = tokens[known->second].id;
        tokens[known->second] = std::move(token);
        continue;
      }
      if (!by_id.emplace(token.id, tokens.size()).second) {
        return at.Refuse(fmt::format("id {} belongs to another added token", token.id));
      }
      by_content.emplace(token.content, tokens.size());
      tokens.push_back(std::move(token));
    }
    auto added = AddedTokens::Create(std::move(tokens), parts_->normalizer.get());
    if (!added) {
      return place_.Member("added_tokens").Refuse(added.error().detail(), added.error().code());
    }
    parts_->added = std::move(*added);
    IndexAddedTokens();
    return {};
  }

  void IndexAddedTokens() {
    Tokenizer::Parts& parts = *parts_;
    parts.id_end = parts.vocabulary.id_end();
    for (const AddedToken& token : parts.added.tokens()) {
      parts.id_end = std::max(parts.id_end, token.id + 1);
    }
    parts.special.resize(static_cast<std::size_t>(parts.id_end));
    for (std::uint32_t i = 0; i < parts.added.tokens().size(); ++i) {
      const AddedToken& token = parts.added.tokens()[i];
      parts.added_by_id.emplace(token.id, i);
      parts.added_by_content.emplace(token.content, token.id);
      parts.special[static_cast<std::size_t>(token.id)] = token.special;
    }
  }

  Result<void> CheckTemplateIds() {
    for (TokenId id : parts_->post_processor.Ids()) {
      if (!parts_->Has(id)) {
        return place_.Member("post_processor")
            .Refuse(fmt::format("token id {} does not exist", id));
      }
    }
    return {};
  }

  std::string_view text_;
  JsonPlace place_;
  std::map<std::string, wire::Json, std::less<>> components_;
  ModelJson model_;
  std::unique_ptr<Tokenizer::Parts> parts_ = std::make_unique<Tokenizer::Parts>();
};

Result<std::unique_ptr<const Tokenizer>> Tokenizer::FromJson(
    std::string_view tokenizer_json, std::string_view file_name_for_errors) {
  return TokenizerJsonLoader(tokenizer_json, file_name_for_errors).Load();
}

}  // namespace pixii::text
