#include "engine/watermark.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <set>
#include <string>
#include <utility>

#include "engine/processor_arguments.h"

namespace pixii::engine {

namespace {

// The finalizer of splitmix64 (Steele, Lea, Flood 2014): a bijection that mixes all bits.
std::uint64_t Mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

std::uint64_t Bits(TokenId id) { return static_cast<std::uint32_t>(id); }

}  // namespace

std::uint64_t WatermarkSecret(std::string_view key) {
  std::uint64_t secret = Mix(key.size());
  for (char byte : key) {
    secret = Mix(secret ^ static_cast<unsigned char>(byte));
  }
  return secret;
}

Result<WatermarkOptions> ReadWatermark(const wire::Json& config) {
  ArgumentReader reader(config);
  WatermarkOptions out;
  std::string key;
  PX_CHECK_OK(reader.Text("key", key));
  PX_CHECK_OK(reader.Number("gamma", {0.01, 0.99}, out.key.gamma));
  PX_CHECK_OK(reader.Number("delta", {0.01, 100}, out.delta));
  PX_CHECK_OK(reader.Integer("context", {1, 8}, out.key.context));
  PX_CHECK_OK(reader.Finish());
  if (key.empty()) {
    return Fail(Code::kInvalidArgument, "the watermark needs a \"key\" in its configuration",
                "key");
  }
  out.key.secret = WatermarkSecret(key);
  return out;
}

std::uint64_t WatermarkContext(const WatermarkKey& key, std::span<const TokenId> before) {
  std::uint64_t context = key.secret;
  for (TokenId id : before.last(key.context)) {
    context = Mix(context ^ Bits(id));
  }
  return context;
}

bool IsGreen(const WatermarkKey& key, std::uint64_t context, TokenId token) {
  double place = static_cast<double>(Mix(context ^ Mix(Bits(token))) >> 11) * 0x1p-53;
  return place < key.gamma;
}

WatermarkScore DetectWatermark(const WatermarkKey& key, std::span<const TokenId> tokens) {
  WatermarkScore score;
  std::set<std::pair<std::uint64_t, TokenId>> seen;
  for (std::size_t i = key.context; i < tokens.size(); ++i) {
    std::uint64_t context = WatermarkContext(key, tokens.first(i));
    if (!seen.emplace(context, tokens[i]).second) {
      continue;
    }
    ++score.scored;
    score.green += IsGreen(key, context, tokens[i]) ? 1 : 0;
  }
  if (score.scored > 0) {
    double expected = key.gamma * score.scored;
    score.z = (score.green - expected) / std::sqrt(expected * (1 - key.gamma));
    score.p_value = 0.5 * std::erfc(score.z / std::sqrt(2.0));
  }
  return score;
}

}  // namespace pixii::engine
