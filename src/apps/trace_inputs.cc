#include "apps/trace_inputs.h"

#include "rt/file.h"

namespace pixii::apps {

namespace {

constexpr std::uint64_t kTraceBytesMax = std::uint64_t{4} << 30;
constexpr std::uint64_t kProfileBytesMax = std::uint64_t{64} << 20;

}  // namespace

Result<sim::Trace> ReadTraceFile(const std::string& path, std::int64_t block_tokens) {
  PX_TRY(const std::string text, rt::ReadFile(path, kTraceBytesMax));
  return sim::ReadTrace(text, static_cast<std::uint32_t>(block_tokens));
}

Result<engine::MockTiming> SimulatedTiming(const TraceFlags& flags) {
  engine::MockTiming out{.model = engine::MockTimingModel::kPolynomial,
                         .speedup = flags.mock_speedup,
                         .decode_speedup = flags.mock_decode_speedup};
  if (!flags.mock_profile.empty()) {
    PX_TRY(const std::string text, rt::ReadFile(flags.mock_profile, kProfileBytesMax));
    PX_TRY(out.profile, engine::ParseMockProfile(text));
    out.model = engine::MockTimingModel::kProfile;
  }
  return out;
}

}  // namespace pixii::apps
