// Blocks to store, for the tests of this folder.
#pragma once

#include <cstddef>
#include <fstream>
#include <iterator>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "kv/tiers/stored_block.h"
#include "rt/random.h"
#include "support/golden.h"

namespace pixii::kv {

struct TestRoot {
  std::string model = "model";
  std::string numerics = "numerics";
  std::string dtype = "bf16";
  std::string adapter = {};
  std::string tenant = {};
  std::string salt = {};
};

inline const BlockIdentity& TestIdentity() {
  static const BlockIdentity identity("a key");
  return identity;
}

inline std::shared_ptr<const BlockRoot> MakeTestRoot(const TestRoot& root = {}) {
  return TestIdentity().MakeRoot({.model_fingerprint = root.model,
                                  .numerics_id = root.numerics,
                                  .kv_dtype = root.dtype,
                                  .adapter = root.adapter,
                                  .tenant = root.tenant,
                                  .salt = root.salt,
                                  .public_seed = 7,
                                  .public_adapter = root.adapter});
}

/// 2 layers, 2 heads, 4 tokens: 8 slices, 960 bytes.
inline BlockShape SmallShape() { return {4, {128, 128, 112, 112, 128, 128, 112, 112}}; }

/// Block `index` of the chain of `tokens` behind `root`.
inline StoredBlock MakeStored(const std::shared_ptr<const BlockRoot>& root,
                              std::span<const TokenId> tokens, std::uint32_t index,
                              const BlockShape& shape = SmallShape()) {
  StoredBlock block;
  block.parent = root->hash;
  block.hash = root->hash;
  for (std::uint32_t i = 0; i <= index; ++i) {
    block.parent = block.hash;
    block.hash = TestIdentity().Chain(
        block.parent, tokens.subspan(std::size_t{i} * shape.block_tokens(), shape.block_tokens()));
  }
  const auto own = tokens.subspan(std::size_t{index} * shape.block_tokens(), shape.block_tokens());
  block.root = root;
  block.index = index;
  block.generation = 1;
  block.shape = shape;
  block.tokens.assign(own.begin(), own.end());
  return block;
}

inline WantedBlock WantedOf(const StoredBlock& block) {
  return {.hash = block.hash,
          .parent = block.parent,
          .root = block.root,
          .index = block.index,
          .tokens = block.tokens,
          .generation = block.generation};
}

inline std::vector<std::byte> RandomBytes(std::size_t size, std::uint64_t seed) {
  rt::Random random(seed);
  std::vector<std::byte> bytes(size);
  for (std::byte& byte : bytes) {
    byte = static_cast<std::byte>(random.Below(256));
  }
  return bytes;
}

/// 32 bytes a line.
inline std::string ToHexLines(std::span<const std::byte> bytes) {
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    text += fmt::format("{:02x}{}", std::to_integer<int>(bytes[i]),
                        i % 32 == 31 || i + 1 == bytes.size() ? "\n" : "");
  }
  return text;
}

/// A file of tests/golden/kv.
inline std::string ReadVector(const std::string& name) {
  std::ifstream file(pixii::testing::OwnGoldenDir() + "/kv/" + name);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Header and payload as one slot of a file, each padded.
inline std::vector<std::byte> Encoded(StoredBlock block, std::span<const std::byte> payload) {
  block.checksums.resize(block.shape.slice_count());
  SumSlices(block.shape, payload, block.checksums);
  std::vector<std::byte> bytes(HeaderCapacity(block.shape, 1024));
  EncodeHeader(block, bytes);
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  return bytes;
}

}  // namespace pixii::kv
