#include "model/diffusion/clip_tokenizer.h"

#include <fmt/format.h>

#include <utility>

#include "model/config_reader.h"
#include "text/tokenizer/tokenizer.h"
#include "wire/json.h"

namespace pixii::model {
namespace {

constexpr std::string_view kBegin = "<|startoftext|>";
constexpr std::string_view kEnd = "<|endoftext|>";
constexpr std::size_t kMergesRead = 49152 - 256 - 2;  // lines behind are not the tokenizer's

wire::Json Member(std::string_view name, const wire::Json& value) {
  wire::Json out(wire::Json::Object{});
  out.Set("type", name);
  for (const auto& [key, item] : value.object()) {
    out.Set(key, item);
  }
  return out;
}

wire::Json Object(std::initializer_list<std::pair<const char*, wire::Json>> members) {
  wire::Json out(wire::Json::Object{});
  for (const auto& [key, value] : members) {
    out.Set(key, value);
  }
  return out;
}

wire::Json AddedToken(std::string_view content, std::int64_t id) {
  return Object({{"id", wire::Json(id)},
                 {"content", wire::Json(content)},
                 {"single_word", wire::Json(false)},
                 {"lstrip", wire::Json(false)},
                 {"rstrip", wire::Json(false)},
                 {"normalized", wire::Json(false)},
                 {"special", wire::Json(true)}});
}

wire::Json Normalizer() {
  wire::Json::Array steps = {
      Member("NFC", Object({})),
      Member("Replace", Object({{"pattern", Object({{"Regex", wire::Json("\\s+")}})},
                                {"content", wire::Json(" ")}})),
      Member("Lowercase", Object({}))};
  return Member("Sequence", Object({{"normalizers", wire::Json(std::move(steps))}}));
}

wire::Json PreTokenizer() {
  const wire::Json words(
      "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|"
      "[^\\s\\p{L}\\p{N}]+");
  wire::Json::Array steps = {Member("Split", Object({{"pattern", Object({{"Regex", words}})},
                                                     {"behavior", wire::Json("Removed")},
                                                     {"invert", wire::Json(true)}})),
                             Member("ByteLevel", Object({{"add_prefix_space", wire::Json(false)},
                                                         {"trim_offsets", wire::Json(true)},
                                                         {"use_regex", wire::Json(true)}}))};
  return Member("Sequence", Object({{"pretokenizers", wire::Json(std::move(steps))}}));
}

Result<wire::Json> Merges(std::string_view text, std::string_view place) {
  wire::Json::Array out;
  std::size_t line_number = 0;
  while (!text.empty() && out.size() < kMergesRead) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) {
      line.remove_suffix(1);
    }
    if (line_number++ == 0 || line.empty()) {
      continue;  // the first line says the file's version
    }
    const std::size_t space = line.find(' ');
    if (space == 0 || space == std::string_view::npos || space + 1 == line.size()) {
      return Fail(Code::kDataCorrupt,
                  fmt::format("{}/merges.txt: line {} is not two pieces", place, line_number));
    }
    out.emplace_back(
        wire::Json::Array{wire::Json(line.substr(0, space)), wire::Json(line.substr(space + 1))});
  }
  return wire::Json(std::move(out));
}

}  // namespace

Result<std::string> ClipTokenizerJson(std::string_view vocabulary, std::string_view merges,
                                      std::string_view place) {
  PX_TRY(wire::Json pieces, ParseConfigJson(vocabulary, fmt::format("{}/vocab.json", place)));
  std::int64_t ids[2] = {};
  for (const auto& [index, name] : {std::pair{0, kBegin}, std::pair{1, kEnd}}) {
    const wire::Json* id = pieces.Find(name);
    const auto value = id != nullptr && id->is_number() ? id->AsInt() : std::nullopt;
    if (!value) {
      return Fail(Code::kDataCorrupt, fmt::format("{}/vocab.json: {} is missing", place, name),
                  std::string(name));
    }
    ids[index] = *value;
  }
  PX_TRY(wire::Json pairs, Merges(merges, place));
  const auto with_id = [&](int index) {
    return wire::Json(
        wire::Json::Array{wire::Json(index == 0 ? kBegin : kEnd), wire::Json(ids[index])});
  };
  const wire::Json decoder = Member("ByteLevel", Object({{"add_prefix_space", wire::Json(true)},
                                                         {"trim_offsets", wire::Json(true)},
                                                         {"use_regex", wire::Json(true)}}));
  const wire::Json post =
      Member("RobertaProcessing", Object({{"sep", with_id(1)},
                                          {"cls", with_id(0)},
                                          {"trim_offsets", wire::Json(false)},
                                          {"add_prefix_space", wire::Json(false)}}));
  const wire::Json model = Member("BPE", Object({{"dropout", wire::Json()},
                                                 {"unk_token", wire::Json(kEnd)},
                                                 {"continuing_subword_prefix", wire::Json("")},
                                                 {"end_of_word_suffix", wire::Json("</w>")},
                                                 {"fuse_unk", wire::Json(false)},
                                                 {"byte_fallback", wire::Json(false)},
                                                 {"vocab", std::move(pieces)},
                                                 {"merges", std::move(pairs)}}));
  const wire::Json::Array added = {AddedToken(kBegin, ids[0]), AddedToken(kEnd, ids[1])};
  return Object({{"version", wire::Json("1.0")},
                 {"truncation", wire::Json()},
                 {"padding", wire::Json()},
                 {"added_tokens", wire::Json(added)},
                 {"normalizer", Normalizer()},
                 {"pre_tokenizer", PreTokenizer()},
                 {"post_processor", post},
                 {"decoder", decoder},
                 {"model", model}})
      .Dump();
}

Result<std::string> ReadClipTokenizer(const CheckpointFolder& folder) {
  constexpr const char* kWhole = "tokenizer.json";
  if (folder.Has(kWhole) || !folder.Has("vocab.json")) {
    return folder.ReadText(kWhole, text::kTokenizerJsonBytesMax);
  }
  PX_TRY(const std::string vocabulary, folder.ReadText("vocab.json", text::kTokenizerJsonBytesMax));
  PX_TRY(const std::string merges, folder.ReadText("merges.txt", text::kTokenizerJsonBytesMax));
  return ClipTokenizerJson(vocabulary, merges, folder.path());
}

}  // namespace pixii::model
