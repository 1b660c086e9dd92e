// Identity of a checkpoint: a 128-bit digest over its config and its tensors.
//
// Thread: pure functions. Numbers: XXH3 digests more than 10 GB/s, but reading the file may not.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "model/checkpoint.h"

namespace pixii::model {

/// Checkpoints up to this size are digested whole; larger ones by headers and
/// kFingerprintSampleCount pages of each tensor, so two large checkpoints that differ only between
/// the samples get one fingerprint.
inline constexpr std::uint64_t kFingerprintWholeMax = std::uint64_t{64} << 20;  // bytes
inline constexpr std::uint64_t kFingerprintSampleSize = 4096;                   // bytes
inline constexpr std::uint64_t kFingerprintSampleCount =
    16;  // the first and the last page are among them

/// 32 hexadecimal digits over config.json's text and each tensor's name, dtype, shape and bytes, in
/// order of name: how the checkpoint is cut into shards does not matter.
std::string Fingerprint(std::string_view config_text, const Checkpoint& checkpoint);

}  // namespace pixii::model
