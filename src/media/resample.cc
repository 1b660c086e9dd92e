#include "media/resample.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <cstring>

#include "base/checked.h"

namespace pixii::media {

namespace {

constexpr std::int32_t kHalf = 1 << (kWeightBits - 1);
constexpr std::size_t kLanes = 4;  // red, green, blue and nothing
constexpr std::uint32_t kAvx2Group = 4;

// 16-bit values of one group in SplitWeights: low and high, tap pairs, lanes, taps of a pair.
constexpr std::size_t SplitGroup(std::uint32_t tap_group) {
  return 2 * (tap_group / 2) * kLanes * 2;
}

std::uint8_t ToByte(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> kWeightBits, 0, 255));
}

// Pixels from `begin` on.
void PlainHorizontalFrom(const RowWeights& weights, const std::uint8_t* row, std::size_t begin,
                         std::uint8_t* out) {
  const AxisWeights& axis = weights.axis;
  const std::int32_t* taps = axis.weights.data() + begin * axis.taps_max;
  out += begin * kImageChannels;
  for (const Window& window : std::span(axis.windows).subspan(begin)) {
    const std::uint8_t* pixel = row + std::size_t{window.first} * kImageChannels;
    std::int32_t red = kHalf;
    std::int32_t green = kHalf;
    std::int32_t blue = kHalf;
    for (std::uint32_t k = 0; k < window.count; ++k, pixel += kImageChannels) {
      red += pixel[0] * taps[k];
      green += pixel[1] * taps[k];
      blue += pixel[2] * taps[k];
    }
    *out++ = ToByte(red);
    *out++ = ToByte(green);
    *out++ = ToByte(blue);
    taps += axis.taps_max;
  }
}

void PlainHorizontal(const RowWeights& weights, const RowPair& rows, const OutPair& out) {
  PlainHorizontalFrom(weights, rows[0], 0, out[0]);
  PlainHorizontalFrom(weights, rows[1], 0, out[1]);
}

// Bytes [begin, size) of one row.
void PlainVerticalFrom(std::span<const std::int32_t> weights,
                       std::span<const std::uint8_t* const> rows, std::size_t begin,
                       std::size_t size, std::uint8_t* out) {
  constexpr std::size_t kStrip = 64;  // sums that stay in registers
  for (std::size_t at = begin; at < size; at += kStrip) {
    std::int32_t sums[kStrip];
    std::ranges::fill(sums, kHalf);
    const std::size_t width = std::min(kStrip, size - at);
    for (std::size_t k = 0; k < rows.size(); ++k) {
      const std::uint8_t* row = rows[k] + at;
      for (std::size_t i = 0; i < width; ++i) {
        sums[i] += row[i] * weights[k];
      }
    }
    std::transform(sums, sums + width, out + at, ToByte);
  }
}

void PlainVertical(std::span<const std::int32_t> weights, std::span<const std::uint8_t* const> rows,
                   std::size_t size, std::uint8_t* out) {
  PlainVerticalFrom(weights, rows, 0, size, out);
}

struct Halves {
  std::int16_t low;
  std::int16_t high;
};

Halves Split(std::int32_t weight) {
  const auto low = static_cast<std::int16_t>(weight & 0xffff);
  return {.low = low, .high = static_cast<std::int16_t>((weight - low) >> 16)};
}

#if defined(__x86_64__)

// A sum of byte * weight is a sum of byte * low and one of byte * high, shifted and added. Each may
// wrap around, as their sum modulo 2^32 is what we want, and that is in range.

// Four pixels of four 32-bit sums each, as bytes without the fourth: 12 bytes to `out`, which has
// `room` for at least those.
__attribute__((target("avx2"))) inline void StoreFour(__m128i bytes, std::uint8_t* out,
                                                      std::size_t room) {
  const __m128i packed = _mm_shuffle_epi8(
      bytes, _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
  if (room >= sizeof packed) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), packed);
  } else {
    std::memcpy(out, &packed, 4 * kImageChannels);
  }
}

constexpr std::size_t kFour = 4;  // pixels that are stored at a time; the rest goes the plain way

// The sums of four pixels' channels, as bytes.
__attribute__((target("avx2"))) inline __m128i Avx2Bytes(const __m256i (&sums)[kFour]) {
  const __m256i half = _mm256_set1_epi32(kHalf);
  __m256i pairs[2];
  for (std::size_t i = 0; i < 2; ++i) {  // pixels 0 and 1, 2 and 3
    pairs[i] = _mm256_add_epi32(_mm256_permute2x128_si256(sums[2 * i], sums[2 * i + 1], 0x20),
                                _mm256_permute2x128_si256(sums[2 * i], sums[2 * i + 1], 0x31));
    pairs[i] = _mm256_srai_epi32(_mm256_add_epi32(pairs[i], half), kWeightBits);
  }
  const __m256i words = _mm256_packs_epi32(pairs[0], pairs[1]);  // 0 and 2 | 1 and 3
  const __m256i bytes = _mm256_packus_epi16(words, words);
  return _mm_unpacklo_epi32(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1));
}

template <std::uint32_t kGroups>  // 0: as many as there are
__attribute__((target("avx2"))) void Avx2HorizontalOf(const RowWeights& weights,
                                                      const RowPair& rows, const OutPair& out) {
  constexpr std::size_t kSplit = SplitGroup(kAvx2Group);
  // Four pixels' bytes to 16 bits: lane c of the low half is channel c of pixels 0 and 1, that of
  // the high half channel c of pixels 2 and 3. -1: zero.
  const __m256i spread =
      _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, 6, -1, 9, -1, 7,
                       -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
  const AxisWeights& axis = weights.axis;
  const std::uint32_t groups = kGroups > 0 ? kGroups : axis.taps_max / kAvx2Group;
  const std::int16_t* split = weights.split.data()->values;
  const std::size_t fours = axis.windows.size() / kFour * kFour;
  const std::size_t size = axis.windows.size() * kImageChannels;
  for (std::size_t x = 0; x < fours; x += kFour) {
    __m256i sums[2][kFour];
    for (std::size_t i = 0; i < kFour; ++i) {
      std::size_t at = std::size_t{axis.windows[x + i].first} * kImageChannels;
      __m256i low[2] = {};
      __m256i high[2] = {};
      for (std::uint32_t g = 0; g < groups; ++g) {
        const __m256i low_taps = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(split));
        const __m256i high_taps =
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(split + kSplit / 2));
        for (std::size_t r = 0; r < 2; ++r) {
          const __m256i bytes = _mm256_broadcastsi128_si256(
              _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[r] + at)));
          const __m256i words = _mm256_shuffle_epi8(bytes, spread);
          low[r] = _mm256_add_epi32(low[r], _mm256_madd_epi16(words, low_taps));
          high[r] = _mm256_add_epi32(high[r], _mm256_madd_epi16(words, high_taps));
        }
        at += std::size_t{kAvx2Group} * kImageChannels;
        split += kSplit;
      }
      for (std::size_t r = 0; r < 2; ++r) {
        sums[r][i] = _mm256_add_epi32(low[r], _mm256_slli_epi32(high[r], 16));
      }
    }
    for (std::size_t r = 0; r < 2; ++r) {
      StoreFour(Avx2Bytes(sums[r]), out[r] + x * kImageChannels, size - x * kImageChannels);
    }
  }
  PlainHorizontalFrom(weights, rows[0], fours, out[0]);
  PlainHorizontalFrom(weights, rows[1], fours, out[1]);
}

void Avx2Horizontal(const RowWeights& weights, const RowPair& rows, const OutPair& out) {
  switch (weights.axis.taps_max / kAvx2Group) {
    case 1:
      return Avx2HorizontalOf<1>(weights, rows, out);
    case 2:
      return Avx2HorizontalOf<2>(weights, rows, out);
    case 3:
      return Avx2HorizontalOf<3>(weights, rows, out);
    default:
      return Avx2HorizontalOf<0>(weights, rows, out);
  }
}

__attribute__((target("avx2"))) void Avx2Vertical(std::span<const std::int32_t> weights,
                                                  std::span<const std::uint8_t* const> rows,
                                                  std::size_t size, std::uint8_t* out) {
  constexpr std::size_t kStrip = 32;  // bytes
  std::size_t at = 0;
  for (; at + kStrip <= size; at += kStrip) {
    // sums[i]: 8 bytes of the strip, in the order that the unpacking leaves and the packing undoes.
    __m256i low[4] = {};
    __m256i high[4] = {};
    for (std::size_t k = 0; k < rows.size(); k += 2) {
      const bool paired = k + 1 < rows.size();
      const __m256i even = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[k] + at));
      const __m256i odd =
          paired ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[k + 1] + at))
                 : _mm256_setzero_si256();
      const Halves one = Split(weights[k]);
      const Halves two = paired ? Split(weights[k + 1]) : Halves{};
      const __m256i low_taps = _mm256_set1_epi32((static_cast<std::uint16_t>(one.low)) |
                                                 (static_cast<std::int32_t>(two.low) << 16));
      const __m256i high_taps = _mm256_set1_epi32((static_cast<std::uint16_t>(one.high)) |
                                                  (static_cast<std::int32_t>(two.high) << 16));
      const __m256i zero = _mm256_setzero_si256();
      const __m256i first = _mm256_unpacklo_epi8(even, odd);
      const __m256i second = _mm256_unpackhi_epi8(even, odd);
      const __m256i words[4] = {
          _mm256_unpacklo_epi8(first, zero), _mm256_unpackhi_epi8(first, zero),
          _mm256_unpacklo_epi8(second, zero), _mm256_unpackhi_epi8(second, zero)};
      for (int i = 0; i < 4; ++i) {
        low[i] = _mm256_add_epi32(low[i], _mm256_madd_epi16(words[i], low_taps));
        high[i] = _mm256_add_epi32(high[i], _mm256_madd_epi16(words[i], high_taps));
      }
    }
    __m256i sums[4];
    for (int i = 0; i < 4; ++i) {
      sums[i] = _mm256_add_epi32(low[i], _mm256_slli_epi32(high[i], 16));
      sums[i] = _mm256_srai_epi32(_mm256_add_epi32(sums[i], _mm256_set1_epi32(kHalf)), kWeightBits);
    }
    const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(sums[0], sums[1]),
                                              _mm256_packs_epi32(sums[2], sums[3]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + at), bytes);
  }
  PlainVerticalFrom(weights, rows, at, size, out);
}

#endif

}  // namespace

std::vector<SplitBlock> SplitWeights(const AxisWeights& axis, std::uint32_t tap_group) {
  const std::size_t size = SplitGroup(tap_group);
  const std::size_t count = axis.weights.size() / tap_group * size;
  std::vector<SplitBlock> split(CeilDiv(count, std::size(SplitBlock{}.values)));
  std::int16_t* group = split.data()->values;
  for (std::size_t at = 0; at < axis.weights.size(); at += tap_group, group += size) {
    for (std::size_t tap = 0; tap < tap_group; ++tap) {
      const Halves halves = Split(axis.weights[at + tap]);
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        const std::size_t place = (tap / 2 * kLanes + lane) * 2 + tap % 2;
        group[place] = halves.low;
        group[size / 2 + place] = halves.high;
      }
    }
  }
  return split;
}

std::span<const Passes> PassesHere() {
  static constexpr Passes kAll[] = {
      {.tap_group = kAvx2Group,
       .row_slack_bytes = 0,
       .horizontal = PlainHorizontal,
       .vertical = PlainVertical},
#if defined(__x86_64__)
      {.tap_group = kAvx2Group,
       .row_slack_bytes = 16,
       .horizontal = Avx2Horizontal,
       .vertical = Avx2Vertical},
  };
  static const std::size_t count = __builtin_cpu_supports("avx2") != 0 ? 2 : 1;
#else
  };
  static constexpr std::size_t count = 1;
#endif
  return std::span(kAll).first(count);
}

}  // namespace pixii::media
