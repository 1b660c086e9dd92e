#include "text/tokenizer/sentence_piece.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <optional>
#include <vector>

#include "base/utf8.h"
#include "text/tokenizer/scored_merges.h"
#include "text/tokenizer/vocabulary.h"
#include "wire/base64.h"

namespace pixii::text {

namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581

// One field of a message.
struct Field {
  std::uint64_t number = 0;
  std::uint64_t value = 0;  // of a varint or a fixed one
  std::string_view bytes;   // of a string or a message
};

// The fields of one message, in order.
class Message final {
 public:
  explicit Message(std::string_view bytes) : bytes_(bytes) {}

  /// False at the end and where the bytes are no message.
  bool Next(Field& field) {
    if (at_ == bytes_.size() || failed_) {
      return false;
    }
    std::uint64_t tag = 0;
    field = {};
    failed_ = !Varint(tag);
    field.number = tag >> 3;
    switch (tag & 7) {
      case 0:
        failed_ = failed_ || !Varint(field.value);
        break;
      case 1:
        failed_ = failed_ || !Fixed(8, field.value);
        break;
      case 2: {
        std::uint64_t size = 0;
        failed_ = failed_ || !Varint(size) || size > bytes_.size() - at_;
        if (!failed_) {
          field.bytes = bytes_.substr(at_, size);
          at_ += size;
        }
        break;
      }
      case 5:
        failed_ = failed_ || !Fixed(4, field.value);
        break;
      default:
        failed_ = true;
    }
    return !failed_;
  }

  bool failed() const { return failed_; }

  std::size_t at() const { return at_; }

 private:
  bool Varint(std::uint64_t& value) {
    value = 0;
    for (unsigned shift = 0; shift < 64 && at_ < bytes_.size(); shift += 7) {
      auto byte = static_cast<unsigned char>(bytes_[at_++]);
      value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) {
        return true;
      }
    }
    return false;
  }

  bool Fixed(std::size_t size, std::uint64_t& value) {
    value = 0;
    if (bytes_.size() - at_ < size) {
      return false;
    }
    for (std::size_t i = 0; i < size; ++i) {
      value |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes_[at_ + i])) << (8 * i);
    }
    at_ += size;
    return true;
  }

  std::string_view bytes_;
  std::size_t at_ = 0;
  bool failed_ = false;
};

enum class PieceType : std::uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

enum class ModelType : std::uint8_t { kUnigram = 1, kBpe = 2 };

struct Model {
  std::vector<std::string_view> pieces;
  std::vector<double> scores;
  std::vector<PieceType> types;
  std::uint64_t type = 1;
  bool byte_fallback = false;
  bool suffix_space = false;
  std::int64_t bos_id = 1;
  std::int64_t eos_id = 2;
  std::string_view charsmap;
  bool dummy_prefix = true;
  bool remove_extra_spaces = true;
  bool escape_spaces = true;

  bool IsAdded(std::size_t id) const {
    return types[id] == PieceType::kControl || types[id] == PieceType::kUserDefined ||
           types[id] == PieceType::kUnknown;
  }
};

bool ReadPiece(std::string_view bytes, Model& out) {
  std::string_view piece;
  float score = 0;
  std::uint64_t type = 1;
  Message message(bytes);
  for (Field field; message.Next(field);) {
    if (field.number == 1) {
      piece = field.bytes;
    } else if (field.number == 2) {
      score = std::bit_cast<float>(static_cast<std::uint32_t>(field.value));
    } else if (field.number == 3) {
      type = field.value;
    }
  }
  if (message.failed() || !IsValidUtf8(piece) || !std::isfinite(score) || type < 1 || type > 6) {
    return false;
  }
  out.pieces.push_back(piece);
  out.scores.push_back(static_cast<double>(score));
  out.types.push_back(static_cast<PieceType>(type));
  return true;
}

bool ReadTrainer(std::string_view bytes, Model& out) {
  Message message(bytes);
  for (Field field; message.Next(field);) {
    auto id = static_cast<std::int64_t>(static_cast<std::int32_t>(field.value));
    switch (field.number) {
      case 3:
        out.type = field.value;
        break;
      case 24:
        out.suffix_space = field.value != 0;
        break;
      case 35:
        out.byte_fallback = field.value != 0;
        break;
      case 41:
        out.bos_id = id;
        break;
      case 42:
        out.eos_id = id;
        break;
      default:
        break;
    }
  }
  return !message.failed();
}

bool ReadNormalizer(std::string_view bytes, Model& out) {
  Message message(bytes);
  for (Field field; message.Next(field);) {
    switch (field.number) {
      case 2:
        out.charsmap = field.bytes;
        break;
      case 3:
        out.dummy_prefix = field.value != 0;
        break;
      case 4:
        out.remove_extra_spaces = field.value != 0;
        break;
      case 5:
        out.escape_spaces = field.value != 0;
        break;
      default:
        break;
    }
  }
  return !message.failed();
}

Result<Model> ReadModel(std::string_view bytes, const JsonPlace& place) {
  Model out;
  Message message(bytes);
  for (Field field; message.Next(field);) {
    bool read = field.number == 1   ? ReadPiece(field.bytes, out)
                : field.number == 2 ? ReadTrainer(field.bytes, out)
                : field.number == 3 ? ReadNormalizer(field.bytes, out)
                                    : true;
    if (!read) {
      return place.Refuse(
          fmt::format("field {} before byte {} is ill-formed", field.number, message.at()));
    }
  }
  if (message.failed()) {
    return place.Refuse(fmt::format("is no SentencePiece model from byte {} on", message.at()));
  }
  if (out.pieces.empty() || out.pieces.size() > static_cast<std::size_t>(kTokenIdMax)) {
    return place.Refuse(
        fmt::format("has {} pieces, allowed are 1 to {}", out.pieces.size(), kTokenIdMax));
  }
  return out;
}

std::string NormalizerJson(const Model& model) {
  std::string steps;
  if (!model.charsmap.empty()) {
    steps += fmt::format(R"({{"type":"Precompiled","precompiled_charsmap":"{}"}})",
                         wire::EncodeBase64(model.charsmap));
  }
  if (model.remove_extra_spaces) {
    steps += steps.empty() ? "" : ",";
    steps += R"({"type":"Strip","strip_left":true,"strip_right":true},)"
             R"({"type":"Replace","pattern":{"Regex":" {2,}"},"content":" "})";
  }
  return steps.empty() ? "null" : fmt::format(R"({{"type":"Sequence","normalizers":[{}]}})", steps);
}

std::vector<AddedToken> AllAddedTokens(const Model& model, const TokenizerConfig& config) {
  std::vector<AddedToken> out;
  auto known = [&](const AddedToken& token) {
    return std::any_of(config.added.begin(), config.added.end(), [&](const AddedToken& other) {
      return other.id == token.id || other.content == token.content;
    });
  };
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    if (model.IsAdded(id) && !model.pieces[id].empty()) {
      AddedToken token{.id = static_cast<TokenId>(id), .content = std::string(model.pieces[id])};
      token.normalized = false;
      token.special = model.types[id] != PieceType::kUserDefined;
      if (!known(token)) {
        out.push_back(std::move(token));
      }
    }
  }
  out.insert(out.end(), config.added.begin(), config.added.end());
  std::sort(out.begin(), out.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  return out;
}

// The token put at one end of a text: the config's, else the model's own.
std::optional<AddedToken> EndToken(const std::vector<AddedToken>& added, std::string_view content,
                                   std::int64_t id) {
  for (const AddedToken& token : added) {
    if (content.empty() ? token.id == id : token.content == content) {
      return token;
    }
  }
  return std::nullopt;
}

std::string PostProcessorOf(const Model& model, const TokenizerConfig& config,
                            const std::vector<AddedToken>& added) {
  // Where the config is silent: as the class that reads such files does.
  bool is_t5 = config.tokenizer_class.starts_with("T5");
  bool add_bos =
      config.add_bos_token.value_or(static_cast<ModelType>(model.type) == ModelType::kBpe);
  bool add_eos = config.add_eos_token.value_or(is_t5);
  return PostProcessorToJson(
      add_bos ? EndToken(added, config.bos_token, model.bos_id) : std::nullopt,
      add_eos ? EndToken(added, config.eos_token, model.eos_id) : std::nullopt);
}

std::string UnigramJson(const Model& model) {
  std::string vocab;
  std::size_t unknown = model.pieces.size();
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    vocab += vocab.empty() ? "[" : ",[";
    wire::AppendJsonString(vocab, model.pieces[id]);
    fmt::format_to(std::back_inserter(vocab), ",{}]", model.scores[id]);
    if (model.types[id] == PieceType::kUnknown && unknown == model.pieces.size()) {
      unknown = id;
    }
  }
  return fmt::format(R"({{"type":"Unigram","unk_id":{},"byte_fallback":{},"vocab":[{}]}})",
                     unknown == model.pieces.size() ? "null" : fmt::format("{}", unknown),
                     model.byte_fallback, vocab);
}

Result<std::string> BpeJson(const Model& model, const JsonPlace& place) {
  auto merges = MergesOfScores(
      {.pieces = model.pieces,
       .scores = model.scores,
       .may_be_part = [&](std::size_t id) { return !model.IsAdded(id); },
       .may_be_made = [&](std::size_t id) { return model.types[id] == PieceType::kNormal; }});
  if (!merges) {
    return place.Refuse(merges.error().detail(), merges.error().code());
  }
  std::string vocab;
  std::string unknown = "null";
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    vocab += vocab.empty() ? "" : ",";
    wire::AppendJsonString(vocab, model.pieces[id]);
    fmt::format_to(std::back_inserter(vocab), ":{}", id);
    if (model.types[id] == PieceType::kUnknown && unknown == "null") {
      unknown.clear();
      wire::AppendJsonString(unknown, model.pieces[id]);
    }
  }
  return fmt::format(
      R"({{"type":"BPE","dropout":null,"unk_token":{},"continuing_subword_prefix":null,)"
      R"("end_of_word_suffix":null,"fuse_unk":true,"byte_fallback":{},"ignore_merges":false,)"
      R"("vocab":{{{}}},"merges":{}}})",
      unknown, model.byte_fallback, vocab, MergesJson(model.pieces, *merges));
}

// Whether no piece reaches from one word into the next: then words can be cut before.
bool WordsAreApart(const Model& model) {
  return std::none_of(model.pieces.begin(), model.pieces.end(), [](std::string_view piece) {
    return piece.size() > kSpace.size() &&
           piece.find(kSpace, kSpace.size()) != std::string_view::npos;
  });
}

}  // namespace

bool LooksLikeSentencePiece(std::string_view bytes) {
  Message message(bytes.substr(0, 4'096));
  Field field;
  Model piece;
  return message.Next(field) && field.number == 1 && ReadPiece(field.bytes, piece);
}

Result<std::string> SentencePieceToJson(std::string_view bytes, const TokenizerConfig& config,
                                        std::string_view file) {
  JsonPlace place{std::string(file), {}};
  PX_TRY(Model model, ReadModel(bytes, place));
  bool unigram = static_cast<ModelType>(model.type) == ModelType::kUnigram;
  if (model.type > 2 || model.type == 0) {
    return place.Unsupported(fmt::format("SentencePiece model type {}", model.type));
  }
  if (!model.escape_spaces || model.suffix_space) {
    return place.Unsupported("white space that is not escaped or stands behind words");
  }
  std::string vocabulary;
  if (unigram) {
    vocabulary = UnigramJson(model);
  } else {
    PX_TRY(vocabulary, BpeJson(model, place));
  }
  std::vector<AddedToken> added = AllAddedTokens(model, config);
  const char* scheme = !model.dummy_prefix ? "never" : unigram ? "always" : "first";
  std::string strip =
      model.dummy_prefix ? R"(,{"type":"Strip","content":" ","start":1,"stop":0})" : std::string();
  return fmt::format(
      R"({{"version":"1.0","added_tokens":{},"normalizer":{},"pre_tokenizer":{{"type":"Metaspace",)"
      R"("replacement":"{}","prepend_scheme":"{}","split":{}}},"post_processor":{},)"
      R"("decoder":{{"type":"Sequence","decoders":[{{"type":"Replace","pattern":{{"String":"{}"}},)"
      R"("content":" "}},{{"type":"ByteFallback"}},{{"type":"Fuse"}}{}]}},"model":{}}})",
      AddedTokensToJson(added), NormalizerJson(model), kSpace, scheme, WordsAreApart(model),
      PostProcessorOf(model, config, added), kSpace, strip, vocabulary);
}

}  // namespace pixii::text
