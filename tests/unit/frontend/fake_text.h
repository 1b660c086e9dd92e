// A tokenizer for tests: a token is a byte; ids from 256 on are special.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/utf8.h"
#include "frontend/text_processor.h"

namespace pixii::frontend::testing {

inline constexpr TokenId kBos = 256;
inline constexpr TokenId kEos = 257;
inline constexpr TokenId kImStart = 258;
inline constexpr TokenId kImEnd = 259;
inline constexpr TokenId kImage = 260;
inline constexpr std::array<std::string_view, 5> kSpecials = {"<s>", "</s>", "<|im_start|>",
                                                              "<|im_end|>", "<|image|>"};

class FakeDecoder final : public TextDecoder {
 public:
  explicit FakeDecoder(bool skip_special) : skip_special_(skip_special) {}

  void Push(TokenId token, std::string& out) override {
    if (token >= 256) {
      if (!skip_special_) {
        bytes_ += kSpecials[static_cast<std::size_t>(token - 256)];
      }
    } else {
      bytes_ += static_cast<char>(token);
    }
    std::size_t whole = bytes_.size() - Utf8IncompleteTail(bytes_);
    Emit(bytes_.substr(0, whole), out);
    bytes_.erase(0, whole);
  }

  void Flush(std::string& out) override {
    Emit(bytes_, out);
    bytes_.clear();
  }

 private:
  static void Emit(std::string_view bytes, std::string& out) {
    while (!bytes.empty()) {
      std::size_t length = Utf8SequenceLength(bytes);
      if (length == 0) {
        out += "\xEF\xBF\xBD";
        bytes.remove_prefix(1);
        continue;
      }
      out += bytes.substr(0, length);
      bytes.remove_prefix(length);
    }
  }

  bool skip_special_;
  std::string bytes_;
};

class FakeText final : public TextProcessor {
 public:
  Result<std::vector<TokenId>> Encode(std::string_view text, EncodeOptions options) const override {
    std::vector<TokenId> out;
    if (options.add_special) {
      out.push_back(kBos);
    }
    while (!text.empty()) {
      std::size_t taken = 0;
      for (std::size_t i = 0; options.parse_special && i < kSpecials.size(); ++i) {
        if (text.starts_with(kSpecials[i])) {
          out.push_back(256 + static_cast<TokenId>(i));
          taken = kSpecials[i].size();
          break;
        }
      }
      if (taken == 0) {
        out.push_back(static_cast<unsigned char>(text[0]));
        taken = 1;
      }
      text.remove_prefix(taken);
    }
    return out;
  }

  // <|im_start|>role\ncontent<|im_end|> for each message; <|image|> where a picture stands.
  Result<std::vector<TokenId>> EncodeChat(const ChatPrompt& prompt) const override {
    std::vector<TokenId> out;
    for (const wire::Json& message : prompt.messages.array()) {
      out.push_back(kImStart);
      Plain(message.Find("role")->string() + "\n", out);
      Content(*message.Find("content"), out);
      out.push_back(kImEnd);
    }
    if (prompt.add_generation_prompt) {
      out.push_back(kImStart);
      Plain("assistant\n", out);
    }
    return out;
  }

  // <s> first </s> second </s>, the second of type 1.
  Result<JoinedText> Join(std::string_view first, std::optional<std::string_view> second,
                          JoinOptions options) const override {
    std::size_t room = options.tokens_max == 0 ? SIZE_MAX : options.tokens_max;
    JoinedText out;
    auto add = [&](std::string_view text, std::int32_t type) {
      auto ids = *Encode(text, {.add_special = false, .parse_special = options.parse_special});
      for (TokenId id : ids) {
        if (out.ids.size() < room) {
          out.ids.push_back(id);
          out.types.push_back(type);
        }
      }
    };
    EncodeOptions special{.add_special = false, .parse_special = true};
    if (options.add_special) {
      out.ids = *Encode("<s>", special);
      out.types = {0};
    }
    add(first, 0);
    if (second) {
      out.ids.push_back(kEos);
      out.types.push_back(0);
      add(*second, 1);
    }
    return out;
  }

  bool renders_pairs() const override { return pairs; }

  bool pairs = false;

  std::unique_ptr<TextDecoder> NewDecoder(std::span<const TokenId>,
                                          bool skip_special) const override {
    return std::make_unique<FakeDecoder>(skip_special);
  }

  std::string TokenBytes(TokenId token) const override {
    return token >= 256 ? std::string(kSpecials[static_cast<std::size_t>(token - 256)])
                        : std::string(1, static_cast<char>(token));
  }

 private:
  static void Content(const wire::Json& content, std::vector<TokenId>& out) {
    if (content.is_string()) {
      Plain(content.string(), out);
      return;
    }
    for (const wire::Json& part : content.array()) {
      if (part.Find("type")->string() == "image") {
        out.push_back(kImage);
      } else {
        Plain(part.Find("text")->string(), out);
      }
    }
  }

  static void Plain(std::string_view text, std::vector<TokenId>& out) {
    for (char c : text) {
      out.push_back(static_cast<unsigned char>(c));
    }
  }
};

}  // namespace pixii::frontend::testing
