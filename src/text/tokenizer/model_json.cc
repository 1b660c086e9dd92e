#include "text/tokenizer/model_json.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <span>

#include "text/tokenizer/bpe.h"
#include "text/tokenizer/json_cursor.h"
#include "text/tokenizer/unigram.h"
#include "text/tokenizer/word_piece.h"

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

Result<ModelJson> ReadModel(JsonCursor& cursor, Vocabulary& vocabulary, const JsonPlace& place) {
  ModelJson out;
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
  if (cursor.failed()) {
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
      Pending& pending = batch_[batch_size_];
      bool is_comment = false;
      if (!ReadPair(pending, is_comment)) {
        break;
      }
      if (is_comment) {
        continue;
      }
      if (rank >= kMergesMax) {
        return place_.Refuse(fmt::format("has more than {} merges", kMergesMax), Code::kTooLarge);
      }
      pending.index = index;
      pending.rank = rank++;
      if (++batch_size_ == batch_.size()) {
        PX_CHECK_OK(AddBatch());
      }
    }
    if (!cursor_.End()) {
      return place_.Refuse(cursor_.error());
    }
    PX_CHECK_OK(AddBatch());
    return std::move(table_);
  }

 private:
  // A merge that is read but not looked up: lookups go in batches, so that memory is asked for
  // ahead.
  struct Pending {
    std::string left;
    std::string right;
    std::string merged;
    std::size_t index = 0;
    std::uint32_t rank = 0;
  };

  // False after a failure.
  bool ReadPair(Pending& pending, bool& is_comment) {
    std::string_view text;
    if (cursor_.Peek() == '[') {
      cursor_.Open('[');
      if (!cursor_.NextItem() || !cursor_.String(text)) {
        return cursor_.Fail("a merge of two pieces is expected");
      }
      pending.left = text;
      if (!cursor_.NextItem() || !cursor_.String(text)) {
        return cursor_.Fail("a merge of two pieces is expected");
      }
      pending.right = text;
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
    pending.left = text.substr(0, space);
    pending.right = text.substr(space + 1);
    return true;
  }

  Result<void> AddBatch() {
    std::array<std::string_view, kBatch * 3> pieces;
    std::array<TokenId, kBatch * 3> ids;
    for (std::size_t i = 0; i < batch_size_; ++i) {
      Pending& pending = batch_[i];
      pending.merged = pending.left;
      pending.merged.append(pending.right, std::min(prefix_bytes_, pending.right.size()));
      pieces[3 * i] = pending.left;
      pieces[3 * i + 1] = pending.right;
      pieces[3 * i + 2] = pending.merged;
    }
    vocabulary_.IdsOf(std::span(pieces).first(batch_size_ * 3),
                      std::span(ids).first(batch_size_ * 3));
    for (std::size_t i = 0; i < batch_size_; ++i) {
      table_.Prefetch(ids[3 * i], ids[3 * i + 1]);
    }
    for (std::size_t i = 0; i < batch_size_; ++i) {
      for (std::size_t part = 0; part < 3; ++part) {
        if (ids[3 * i + part] < 0) {
          return place_.Item(batch_[i].index)
              .Refuse(
                  fmt::format("names piece \"{:.60}\", which the vocabulary lacks, before byte {}",
                              pieces[3 * i + part], cursor_.offset()));
        }
      }
      TokenId left = ids[3 * i];
      TokenId right = ids[3 * i + 1];
      TokenId merged = ids[3 * i + 2];
      // A merge with an empty piece can never apply: no symbol is empty.
      if (merged != left && merged != right) {
        table_.Add({left, right, batch_[i].rank, merged});
      }
    }
    batch_size_ = 0;
    return {};
  }

  static constexpr std::size_t kBatch = Vocabulary::kBatchMax / 3;

  JsonCursor cursor_;
  const Vocabulary& vocabulary_;
  std::size_t prefix_bytes_;
  JsonPlace place_;
  MergeTable table_;
  std::array<Pending, kBatch> batch_;
  std::size_t batch_size_ = 0;
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

Result<std::unique_ptr<const TokenModel>> BuildUnigram(const ModelJson& json,
                                                       const Vocabulary& vocabulary,
                                                       const JsonPlace& place) {
  if (json.scores.empty()) {
    return place.Member("vocab").Refuse("must be a list of [piece, score]");
  }
  UnigramOptions options;
  options.scores = json.scores;
  PX_TRY(std::int64_t unknown, IntField(json.options, "unk_id", -1, 0, kTokenIdMax, place));
  if (unknown >= 0) {
    options.unknown = static_cast<TokenId>(unknown);
  }
  PX_TRY(options.byte_fallback, BoolField(json.options, "byte_fallback", false, place));
  auto model = Unigram::Create(vocabulary, std::move(options));
  if (!model) {
    return place.Refuse(model.error().detail(), model.error().code());
  }
  return std::unique_ptr<const TokenModel>(std::move(*model));
}

Result<TokenId> UnknownPiece(const ModelJson& json, const Vocabulary& vocabulary,
                             std::string_view fallback, const JsonPlace& place) {
  PX_TRY(std::string unknown, StringField(json.options, "unk_token", fallback, place));
  auto id = vocabulary.IdOf(unknown);
  if (!id) {
    return place.Member("unk_token")
        .Refuse(fmt::format("\"{:.60}\" is not in the vocabulary", unknown));
  }
  return *id;
}

Result<std::unique_ptr<const TokenModel>> BuildWordPiece(const ModelJson& json,
                                                         const Vocabulary& vocabulary,
                                                         const JsonPlace& place) {
  WordPieceOptions options{};
  PX_TRY(options.unknown, UnknownPiece(json, vocabulary, "[UNK]", place));
  PX_TRY(options.continuing_subword_prefix,
         StringField(json.options, "continuing_subword_prefix", "##", place));
  PX_TRY(std::int64_t chars,
         IntField(json.options, "max_input_chars_per_word", 100, 1, kWordPieceCharsMax, place));
  options.word_chars_max = static_cast<std::size_t>(chars);
  return std::unique_ptr<const TokenModel>(
      std::make_unique<const WordPiece>(vocabulary, std::move(options)));
}

}  // namespace

Result<std::unique_ptr<const TokenModel>> BuildModel(const ModelJson& json,
                                                     const Vocabulary& vocabulary,
                                                     const JsonPlace& place) {
  // Old files leave the type out.
  std::string_view guess = !json.merges.empty() ? "BPE" : !json.scores.empty() ? "Unigram" : "";
  PX_TRY(std::string type, StringField(json.options, "type", guess, place));
  if (type == "BPE") {
    return BuildBpe(json, vocabulary, place);
  }
  if (type == "Unigram") {
    return BuildUnigram(json, vocabulary, place);
  }
  if (type == "WordPiece") {
    return BuildWordPiece(json, vocabulary, place);
  }
  if (type == "WordLevel") {
    PX_TRY(TokenId unknown, UnknownPiece(json, vocabulary, "<unk>", place));
    return std::unique_ptr<const TokenModel>(
        std::make_unique<const WordLevel>(vocabulary, unknown));
  }
  return place.Unsupported(fmt::format("model \"{:.60}\"", type));
}

}  // namespace pixii::text
