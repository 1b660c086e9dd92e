#include "text/post_processor.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace pixii::text {

namespace {

constexpr std::size_t kTemplatePiecesMax = 64;  // special tokens and texts of one template
constexpr std::size_t kTextCopiesMax = 64;      // how often all templates together repeat the text

Result<TokenId> IdItem(const wire::Json& json, const JsonPlace& place) {
  auto id = json.AsInt();
  if (!id || *id < 0 || *id > kTokenIdMax) {
    return place.Refuse(fmt::format("must be a token id in 0 to {}", kTokenIdMax));
  }
  return static_cast<TokenId>(*id);
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
    return AppendPair(json, place);
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

Result<void> PostProcessor::AppendTemplate(const wire::Json& json, const JsonPlace& place) {
  PX_TRY(const wire::Json::Array* pieces, ArrayField(json, "single", place));
  const wire::Json* specials = json.Find("special_tokens");
  Template out;
  for (std::size_t i = 0; i < pieces->size(); ++i) {
    JsonPlace at = place.Member("single").Item(i);
    if (const wire::Json* sequence = (*pieces)[i].Find("Sequence")) {
      PX_TRY(std::string id, StringField(*sequence, "id", "", at));
      if (id != "A") {
        return at.Refuse("must be sequence A: the template is for one text");
      }
      out.push_back(kText);
    } else if (const wire::Json* token = (*pieces)[i].Find("SpecialToken")) {
      PX_TRY(std::string name, StringField(*token, "id", "", at));
      const wire::Json* special = specials == nullptr ? nullptr : specials->Find(name);
      if (special == nullptr) {
        return at.Refuse(
            fmt::format("names special token \"{:.60}\", which special_tokens lacks", name));
      }
      JsonPlace there = place.Member("special_tokens").Member(name.substr(0, 60));
      PX_TRY(const wire::Json::Array* ids, ArrayField(*special, "ids", there));
      for (const wire::Json& item : *ids) {
        PX_TRY(TokenId id, IdItem(item, there.Member("ids")));
        out.push_back(id);
      }
    } else {
      return at.Refuse("must be {\"Sequence\": ...} or {\"SpecialToken\": ...}");
    }
    if (out.size() > kTemplatePiecesMax) {
      return place.Refuse(fmt::format("a template of more than {} tokens", kTemplatePiecesMax),
                          Code::kTooLarge);
    }
  }
  templates_.push_back(std::move(out));
  std::size_t copies = 1;
  for (const Template& each : templates_) {
    copies *= static_cast<std::size_t>(
        std::max<std::ptrdiff_t>(1, std::count(each.begin(), each.end(), kText)));
    if (copies > kTextCopiesMax) {
      return place.Refuse(
          fmt::format("the templates repeat the text more than {} times", kTextCopiesMax),
          Code::kTooLarge);
    }
  }
  return {};
}

Result<void> PostProcessor::AppendPair(const wire::Json& json, const JsonPlace& place) {
  Template out;
  for (std::string_view key : {"cls", "sep"}) {
    PX_TRY(const wire::Json::Array* pair, ArrayField(json, key, place));
    if (pair->size() != 2) {
      return place.Member(key).Refuse("must be [token, id]");
    }
    PX_TRY(TokenId id, IdItem((*pair)[1], place.Member(key)));
    out.push_back(id);
  }
  out.insert(out.begin() + 1, kText);
  templates_.push_back(std::move(out));
  return {};
}

std::vector<TokenId> PostProcessor::Ids() const {
  std::vector<TokenId> ids;
  for (const Template& pieces : templates_) {
    std::copy_if(pieces.begin(), pieces.end(), std::back_inserter(ids),
                 [](TokenId id) { return id != kText; });
  }
  return ids;
}

void PostProcessor::Apply(bool add_special_tokens, std::vector<TokenId>& ids) const {
  for (const Template& pieces : templates_) {
    if (pieces.size() == 1 && pieces[0] == kText) {
      continue;
    }
    std::vector<TokenId> out;
    out.reserve(ids.size() + pieces.size());
    for (TokenId piece : pieces) {
      if (piece == kText) {
        out.insert(out.end(), ids.begin(), ids.end());
      } else if (add_special_tokens) {
        out.push_back(piece);
      }
    }
    ids = std::move(out);
  }
}

}  // namespace pixii::text
