// A tokenizer.json small enough to read in a test: byte-level BPE with a few merges and added
// tokens.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer/byte_alphabet.h"
#include "wire/json.h"

namespace pixii::text {

struct SmallTokenizer {
  wire::Json::Object vocab;
  wire::Json::Array merges;
  wire::Json::Array added;
  wire::Json normalizer;
  wire::Json pre_tokenizer = wire::Json::Object{{"type", "ByteLevel"}, {"add_prefix_space", false}};
  wire::Json post_processor;
  wire::Json decoder = wire::Json::Object{{"type", "ByteLevel"}};
  wire::Json::Object model_options;

  /// The 256 bytes, then `merges` in order, each "left right" in the byte alphabet.
  explicit SmallTokenizer(const std::vector<std::string>& pairs = {"h e", "l l", "he ll",
                                                                   "hell o"}) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string piece;
      AppendInByteAlphabet(piece, std::string(1, static_cast<char>(byte)));
      vocab.emplace_back(piece, byte);
    }
    for (const std::string& pair : pairs) {
      std::string merged = pair;
      merged.erase(merged.find(' '), 1);
      vocab.emplace_back(merged, static_cast<int>(vocab.size()));
      merges.emplace_back(pair);
    }
  }

  int AddToken(std::string_view content, bool special, wire::Json::Object more = {}) {
    int id = static_cast<int>(vocab.size() + added.size());
    wire::Json token(wire::Json::Object{
        {"id", id}, {"content", content}, {"special", special}, {"normalized", false}});
    for (auto& [key, value] : more) {
      token.Set(key, std::move(value));
    }
    added.push_back(std::move(token));
    return id;
  }

  std::string Dump() const {
    wire::Json model(model_options);
    model.Set("type", "BPE");
    model.Set("vocab", vocab);
    model.Set("merges", merges);
    return wire::Json(wire::Json::Object{{"version", "1.0"},
                                         {"added_tokens", added},
                                         {"normalizer", normalizer},
                                         {"pre_tokenizer", pre_tokenizer},
                                         {"post_processor", post_processor},
                                         {"decoder", decoder},
                                         {"model", model}})
        .Dump();
  }
};

}  // namespace pixii::text
