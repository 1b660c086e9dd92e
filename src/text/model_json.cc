#include "text/model_json.h"

#include <fmt/format.h>

#include <cmath>

#include "text/bpe.h"
#include "text/json_cursor.h"

namespace pixii::text {

Result<wire::Json> ParseComponent(std::string_view raw, std::size_t offset,
                                  const JsonPlace& place) {
  auto json = wire::ParseJson(raw);
  if (!json) {
    return place.Refuse(
        fmt::format("{} (counted from byte {} of the file)", json.error().detail(), offset));
  }
  return std::move(*json);
}

namespace {

tl::unexpected<Error> RefuseEntry(Vocabulary::Added why, std::string_view piece, std::int64_t id,
                                  std::size_t offset, const JsonPlace& place) {
  switch (why) {
    case Vocabulary::Added::kDuplicatePiece:
      return place.Refuse(fmt::format("piece \"{:.60}\" stands twice, at byte {}", piece, offset));
    case Vocabulary::Added::kDuplicateId:
      return place.Refuse(
          fmt::format("id {} of piece \"{:.60}\" is taken already, at byte {}", id, piece, offset));
    case Vocabulary::Added::kTooLarge:
      return place.Refuse(fmt::format("pieces of more than {} bytes", kVocabularyBytesMax),
                          Code::kTooLarge);
    default:
      return place.Refuse(fmt::format("id {} of piece \"{:.60}\" at byte {} is not in 0 to {}", id,
                                      piece, offset, kTokenIdMax));
  }
}

Result<void> AddPiece(std::string_view piece, std::int64_t id, const JsonCursor& cursor,
                      Vocabulary& vocabulary, const JsonPlace& place) {
  auto added = id < 0 || id > kTokenIdMax ? Vocabulary::Added::kIdOutOfRange
                                          : vocabulary.Add(piece, static_cast<TokenId>(id));
  if (added != Vocabulary::Added::kYes) {
    return RefuseEntry(added, piece, id, cursor.offset(), place);
  }
  return {};
}

// {"piece": id, ...}
Result<void> ReadVocabularyObject(JsonCursor& cursor, Vocabulary& vocabulary,
                                  const JsonPlace& place) {
  cursor.Open('{');
  for (std::string_view piece; cursor.NextKey(piece);) {
    std::int64_t id = 0;
    if (!cursor.Integer(id)) {
      break;
    }
    PX_CHECK_OK(AddPiece(piece, id, cursor, vocabulary, place));
  }
  return {};
}

// [["piece", score], ...]; ids count from 0.
Result<void> ReadVocabularyList(JsonCursor& cursor, Vocabulary& vocabulary,
                                std::vector<double>& scores, const JsonPlace& place) {
  cursor.Open('[');
  while (cursor.NextItem()) {
    std::string_view text;
    double score = 0;
    if (!cursor.Open('[') || !cursor.NextItem() || !cursor.String(text)) {
      cursor.Fail("[piece, score] is expected");
      break;
    }
    std::string piece(text);
    if (!cursor.NextItem() || !cursor.Double(score) || cursor.NextItem() || !std::isfinite(score)) {
      cursor.Fail("[piece, score] is expected");
      break;
    }
    PX_CHECK_OK(
        AddPiece(piece, static_cast<std::int64_t>(scores.size()), cursor, vocabulary, place));
    scores.push_back(score);
  }
  return {};
}

}  // namespace

Result<ModelJson> ReadModel(std::string_view raw, std::size_t offset, Vocabulary& vocabulary,
                            const JsonPlace& place) {
  ModelJson out;
  JsonCursor cursor(raw, offset);
  cursor.Open('{');
  for (std::string_view key; cursor.NextKey(key);) {
    std::string name(key);
    char kind = cursor.Peek();
    std::size_t begin = cursor.offset();
    bool again = out.options.Find(name) != nullptr || (name == "vocab" && vocabulary.count() > 0) ||
                 (name == "merges" && !out.merges.empty());
    if (again) {
      return place.Refuse(fmt::format("key \"{:.60}\" stands twice, at byte {}", name, begin));
    }
    if (name == "vocab" && kind == '{') {
      PX_CHECK_OK(ReadVocabularyObject(cursor, vocabulary, place.Member(name)));
    } else if (name == "vocab") {
      PX_CHECK_OK(ReadVocabularyList(cursor, vocabulary, out.scores, place.Member(name)));
    } else if (name == "merges") {
      out.merges_offset = begin;
      cursor.Raw(out.merges);
    } else {
      constexpr std::size_t kOptionsMax = 64;  // members of a model
      std::string_view value;
      if (!cursor.Raw(value)) {
        break;
      }
      if (out.options.object().size() >= kOptionsMax) {
        return place.Refuse(fmt::format("has more than {} options", kOptionsMax), Code::kTooLarge);
      }
      PX_TRY(wire::Json option, ParseComponent(value, begin, place.Member(name.substr(0, 60))));
      out.options.Set(name, std::move(option));
    }
  }
  if (!cursor.End()) {
    return place.Refuse(cursor.error());
  }
  if (vocabulary.count() == 0) {
    return place.Member("vocab").Refuse("is empty");
  }
  return out;
}

namespace {

// Reads the merges: "left right" or ["left", "right"].
class MergesReader final {
 public:
  MergesReader(const ModelJson& json, const Vocabulary& vocabulary, std::size_t prefix_bytes,
               const JsonPlace& place)
      : cursor_(json.merges, json.merges_offset),
        vocabulary_(vocabulary),
        prefix_bytes_(prefix_bytes),
        place_(place) {
    table_.Reserve(std::min(json.merges.size() / 16, kMergesMax));
  }

  Result<MergeTable> Read() {
    cursor_.Open('[');
    std::uint32_t rank = 0;
    for (std::size_t index = 0; cursor_.NextItem(); ++index) {
      bool is_comment = false;
      if (!ReadPair(is_comment)) {
        break;
      }
      if (is_comment) {
        continue;
      }
      if (rank >= kMergesMax) {
        return place_.Refuse(fmt::format("has more than {} merges", kMergesMax), Code::kTooLarge);
      }
      PX_CHECK_OK(Add(index, rank));
      ++rank;
    }
    if (!cursor_.End()) {
      return place_.Refuse(cursor_.error());
    }
    return std::move(table_);
  }

 private:
  // Fills left_ and right_. False after a failure.
  bool ReadPair(bool& is_comment) {
    std::string_view text;
    if (cursor_.Peek() == '[') {
      cursor_.Open('[');
      if (!cursor_.NextItem() || !cursor_.String(text)) {
        return cursor_.Fail("a merge of two pieces is expected");
      }
      left_ = text;
      if (!cursor_.NextItem() || !cursor_.String(text)) {
        return cursor_.Fail("a merge of two pieces is expected");
      }
      right_ = text;
      return cursor_.NextItem() ? cursor_.Fail("a merge of two pieces is expected")
                                : !cursor_.failed();
    }
    if (!cursor_.String(text)) {
      return false;
    }
    is_comment = text.starts_with("#version");
    std::size_t space = text.find(' ');
    if (is_comment) {
      return true;
    }
    if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) {
      return cursor_.Fail("a merge must be two pieces with one space between");
    }
    left_ = text.substr(0, space);
    right_ = text.substr(space + 1);
    return true;
  }

  Result<void> Add(std::size_t index, std::uint32_t rank) {
    auto left = vocabulary_.IdOf(left_);
    auto right = vocabulary_.IdOf(right_);
    merged_ = left_;
    merged_.append(right_, std::min(prefix_bytes_, right_.size()));
    auto merged = vocabulary_.IdOf(merged_);
    if (!left || !right || !merged) {
      return place_.Item(index).Refuse(
          fmt::format("names piece \"{:.60}\", which the vocabulary lacks, before byte {}",
                      !left    ? left_
                      : !right ? right_
                               : merged_,
                      cursor_.offset()));
    }
    table_.Add({*left, *right, rank, *merged});
    return {};
  }

  JsonCursor cursor_;
  const Vocabulary& vocabulary_;
  std::size_t prefix_bytes_;
  JsonPlace place_;
  MergeTable table_;
  std::string left_;
  std::string right_;
  std::string merged_;
};

Result<std::unique_ptr<const TokenModel>> BuildBpe(const ModelJson& json,
                                                   const Vocabulary& vocabulary,
                                                   const JsonPlace& place) {
  const wire::Json& options = json.options;
  BpeOptions bpe;
  PX_TRY(bpe.unknown, StringField(options, "unk_token", "", place));
  PX_TRY(bpe.continuing_subword_prefix,
         StringField(options, "continuing_subword_prefix", "", place));
  PX_TRY(bpe.end_of_word_suffix, StringField(options, "end_of_word_suffix", "", place));
  PX_TRY(bpe.fuse_unknown, BoolField(options, "fuse_unk", false, place));
  PX_TRY(bpe.byte_fallback, BoolField(options, "byte_fallback", false, place));
  PX_TRY(bpe.ignore_merges, BoolField(options, "ignore_merges", false, place));
  const wire::Json* dropout = options.Find("dropout");
  if (dropout != nullptr && !dropout->is_null() && dropout->AsDouble() != 0.0) {
    return place.Member("dropout").Unsupported("a BPE dropout other than 0");
  }
  if (json.merges.empty()) {
    return place.Member("merges").Refuse("is missing");
  }
  PX_TRY(MergeTable merges, MergesReader(json, vocabulary, bpe.continuing_subword_prefix.size(),
                                         place.Member("merges"))
                                .Read());
  auto model = Bpe::Create(vocabulary, std::move(merges), std::move(bpe));
  if (!model) {
    return place.Refuse(model.error().detail(), model.error().code());
  }
  return std::unique_ptr<const TokenModel>(std::move(*model));
}

}  // namespace

Result<std::unique_ptr<const TokenModel>> BuildModel(const ModelJson& json,
                                                     const Vocabulary& vocabulary,
                                                     const JsonPlace& place) {
  // Old files leave the type out; a model with merges is BPE.
  PX_TRY(std::string type,
         StringField(json.options, "type", json.merges.empty() ? "" : "BPE", place));
  if (type == "BPE") {
    return BuildBpe(json, vocabulary, place);
  }
  return place.Unsupported(fmt::format("model \"{:.60}\"", type));
}

}  // namespace pixii::text
