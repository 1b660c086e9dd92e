#include "text/tokenizer/post_processor.h"

#include <fmt/format.h>

#include <algorithm>

namespace pixii::text {

namespace {

constexpr std::size_t kTemplatePiecesMax = 64;  // special tokens and texts of one template
constexpr std::size_t kTextCopiesMax = 64;      // how often all templates together repeat the text
constexpr std::int64_t kTypesMax = 256;

Result<TokenId> IdItem(const wire::Json& json, const JsonPlace& place) {
  auto id = json.AsInt();
  if (!id || *id < 0 || *id > kTokenIdMax) {
    return place.Refuse(fmt::format("must be a token id in 0 to {}", kTokenIdMax));
  }
  return static_cast<TokenId>(*id);
}

void AppendText(const TypedTokens& text, std::int32_t type, TypedTokens& out) {
  out.ids.insert(out.ids.end(), text.ids.begin(), text.ids.end());
  out.types.insert(out.types.end(), text.ids.size(), type);
}

}  // namespace

Result<PostProcessor> PostProcessor::FromJson(const wire::Json& json, const JsonPlace& place) {
  PostProcessor out;
  if (!json.is_null()) {
    PX_CHECK_OK(out.Append(json, place));
  }
  return out;
}

Result<void> PostProcessor::Append(const wire::Json& json, const JsonPlace& place) {
  PX_TRY(std::string type, ComponentType(json, place));
  if (type == "ByteLevel") {
    return {};  // changes offsets only
  }
  if (type == "TemplateProcessing") {
    return AppendTemplate(json, place);
  }
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    return AppendPairOfTokens(json, type == "RobertaProcessing", place);
  }
  if (type == "Sequence") {
    PX_TRY(const wire::Json::Array* items, ArrayField(json, "processors", place));
    for (std::size_t i = 0; i < items->size(); ++i) {
      PX_CHECK_OK(Append((*items)[i], place.Member("processors").Item(i)));
    }
    return {};
  }
  return place.Unsupported(fmt::format("post-processor \"{:.60}\"", type));
}

// One {"Sequence": ...} or {"SpecialToken": ...}, which may be several ids.
Result<void> PostProcessor::AppendPiece(const wire::Json& json, const wire::Json* specials,
                                        const JsonPlace& at, const JsonPlace& place,
                                        std::vector<Piece>& out) {
  const wire::Json* sequence = json.Find("Sequence");
  const wire::Json* token = json.Find("SpecialToken");
  if (sequence == nullptr && token == nullptr) {
    return at.Refuse("must be {\"Sequence\": ...} or {\"SpecialToken\": ...}");
  }
  const wire::Json& item = sequence != nullptr ? *sequence : *token;
  PX_TRY(std::string name, StringField(item, "id", "", at));
  PX_TRY(std::int64_t type, IntField(item, "type_id", 0, 0, kTypesMax - 1, at));
  if (sequence != nullptr) {
    if (name != "A" && name != "B") {
      return at.Refuse("must be sequence A or B");
    }
    out.push_back({name == "A" ? kFirst : kSecond, static_cast<std::int32_t>(type)});
    return {};
  }
  const wire::Json* special = specials == nullptr ? nullptr : specials->Find(name);
  if (special == nullptr) {
    return at.Refuse(
        fmt::format("names special token \"{:.60}\", which special_tokens lacks", name));
  }
  JsonPlace there = place.Member("special_tokens").Member(name.substr(0, 60));
  PX_TRY(const wire::Json::Array* ids, ArrayField(*special, "ids", there));
  for (const wire::Json& each : *ids) {
    PX_TRY(TokenId id, IdItem(each, there.Member("ids")));
    out.push_back({id, static_cast<std::int32_t>(type)});
  }
  return {};
}

Result<std::vector<PostProcessor::Piece>> PostProcessor::ReadPieces(const wire::Json& json,
                                                                    std::string_view key,
                                                                    const JsonPlace& place) {
  PX_TRY(const wire::Json::Array* pieces, ArrayField(json, key, place));
  std::vector<Piece> out;
  for (std::size_t i = 0; i < pieces->size(); ++i) {
    PX_CHECK_OK(AppendPiece((*pieces)[i], json.Find("special_tokens"), place.Member(key).Item(i),
                            place, out));
    if (out.size() > kTemplatePiecesMax) {
      return place.Refuse(fmt::format("a template of more than {} tokens", kTemplatePiecesMax),
                          Code::kTooLarge);
    }
  }
  return out;
}

Result<void> PostProcessor::AppendTemplate(const wire::Json& json, const JsonPlace& place) {
  Template out;
  PX_TRY(out.single, ReadPieces(json, "single", place));
  if (std::ranges::find(out.single, kSecond, &Piece::id) != out.single.end()) {
    return place.Member("single").Refuse("must be of sequence A: the template is for one text");
  }
  if (const wire::Json* pair = json.Find("pair"); pair != nullptr && !pair->is_null()) {
    PX_TRY(out.pair, ReadPieces(json, "pair", place));
  }
  templates_.push_back(std::move(out));
  std::size_t copies = 1;
  for (const Template& each : templates_) {
    copies *= static_cast<std::size_t>(
        std::max<std::ptrdiff_t>(1, std::ranges::count(each.single, kFirst, &Piece::id)));
    if (copies > kTextCopiesMax) {
      return place.Refuse(
          fmt::format("the templates repeat the text more than {} times", kTextCopiesMax),
          Code::kTooLarge);
    }
  }
  return {};
}

// BERT: [CLS] A [SEP] B [SEP], B and what follows of type 1. RoBERTa: <s> A </s></s> B </s>, all of
// type 0.
Result<void> PostProcessor::AppendPairOfTokens(const wire::Json& json, bool roberta,
                                               const JsonPlace& place) {
  std::vector<TokenId> ids;
  for (std::string_view key : {"cls", "sep"}) {
    PX_TRY(const wire::Json::Array* pair, ArrayField(json, key, place));
    if (pair->size() != 2) {
      return place.Member(key).Refuse("must be [token, id]");
    }
    PX_TRY(TokenId id, IdItem((*pair)[1], place.Member(key)));
    ids.push_back(id);
  }
  Template out;
  out.single = {{ids[0], 0}, {kFirst, 0}, {ids[1], 0}};
  out.pair = out.single;
  std::int32_t second = roberta ? 0 : 1;
  if (roberta) {
    out.pair.push_back({ids[1], 0});
  }
  out.pair.push_back({kSecond, second});
  out.pair.push_back({ids[1], second});
  templates_.push_back(std::move(out));
  return {};
}

std::vector<TokenId> PostProcessor::Ids() const {
  std::vector<TokenId> ids;
  for (const Template& each : templates_) {
    for (const std::vector<Piece>* pieces : {&each.single, &each.pair}) {
      for (const Piece& piece : *pieces) {
        if (piece.id >= 0) {
          ids.push_back(piece.id);
        }
      }
    }
  }
  return ids;
}

void PostProcessor::Apply(bool add_special_tokens, std::vector<TokenId>& ids) const {
  for (const Template& each : templates_) {
    if (each.single.size() == 1 && each.single[0].id == kFirst) {
      continue;
    }
    std::vector<TokenId> out;
    out.reserve(ids.size() + each.single.size());
    for (const Piece& piece : each.single) {
      if (piece.id == kFirst) {
        out.insert(out.end(), ids.begin(), ids.end());
      } else if (add_special_tokens) {
        out.push_back(piece.id);
      }
    }
    ids = std::move(out);
  }
}

TypedTokens PostProcessor::ApplyTyped(bool add_special_tokens, std::vector<TokenId> ids) const {
  TypedTokens text{.ids = std::move(ids), .types = {}};
  text.types.assign(text.ids.size(), 0);
  for (const Template& each : templates_) {
    TypedTokens out;
    for (const Piece& piece : each.single) {
      if (piece.id == kFirst) {
        AppendText(text, piece.type, out);
      } else if (add_special_tokens) {
        out.ids.push_back(piece.id);
        out.types.push_back(piece.type);
      }
    }
    text = std::move(out);
  }
  return text;
}

Result<TypedTokens> PostProcessor::ApplyPair(bool add_special_tokens, std::vector<TokenId> first,
                                             std::vector<TokenId> second) const {
  // Without a processor, and without its tokens, one text follows the other.
  static const std::vector<Piece> kPlain = {{kFirst, 0}, {kSecond, 1}};
  if (templates_.size() > 1 || (templates_.size() == 1 && templates_[0].pair.empty())) {
    return Fail(Code::kUnsupported,
                "the tokenizer's post-processor does not say how two texts are joined");
  }
  const TypedTokens texts[] = {{.ids = std::move(first), .types = {}},
                               {.ids = std::move(second), .types = {}}};
  TypedTokens out;
  for (const Piece& piece : templates_.empty() ? kPlain : templates_[0].pair) {
    if (piece.id < 0) {
      AppendText(texts[piece.id == kFirst ? 0 : 1], piece.type, out);
    } else if (add_special_tokens) {
      out.ids.push_back(piece.id);
      out.types.push_back(piece.type);
    }
  }
  return out;
}

std::size_t PostProcessor::AddedCount(bool pair) const {
  std::size_t count = 0;
  for (const Template& each : templates_) {
    count += static_cast<std::size_t>(std::ranges::count_if(
        pair ? each.pair : each.single, [](const Piece& piece) { return piece.id >= 0; }));
  }
  return count;
}

}  // namespace pixii::text
