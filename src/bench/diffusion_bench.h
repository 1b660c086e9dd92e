// A step of Wan's transformer and a decoding of its VAE, beside what the multiply-adds that they
// run would take at the peak measured in the same run.
//
// Thread: the caller's, and the operators' pool. Takes the machine for itself.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "bench/report.h"
#include "kernels/operators.h"

namespace pixii::bench {

struct DiffusionBenchOptions {
  /// Folder of a Wan pipeline: "tiny", whose shapes are measured at its own default size.
  std::string folder;
  std::string only;  // name of the one case that is run; empty: all
  kernels::CpuOptions cpu = {};
  std::int32_t width = 832;  // pixels, of the Wan 1.3B shapes
  std::int32_t height = 480;
  std::int32_t frames = 9;
  std::int32_t vae_width = 416;  // pixels, of the Wan 2.1 VAE
  std::int32_t vae_height = 48;
  std::uint32_t repeats = 5;
};

/// Figures dit_tiny, dit_tiny_bf16, dit_wan, dit_wan_bf16 (one step; of Wan one block of its
/// thirty, with random weights), vae_tiny and vae_wan (two latent frames) in G multiply-adds/s, as
/// the operators count them: linears, convolutions and attention. The limit is what they would
/// reach at the peak of the types that they are multiplied in: attention in fp32 everywhere.
/// multiply_add and multiply_add_bf16 are these peaks. Errors: those of the folder's parts;
/// kUnsupported (instruction set); kInvalidArgument for a size that cannot be cut into patches, or
/// if there is no case `only`.
Result<std::vector<Figure>> BenchDiffusion(const DiffusionBenchOptions& options);

}  // namespace pixii::bench
