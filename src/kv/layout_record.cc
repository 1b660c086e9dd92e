#include "kv/layout_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/assert.h"
#include "base/hash.h"

namespace pixii::kv {
namespace {

constexpr std::array<std::string_view, 5> kElementNames = {"fp32", "bf16", "fp16", "fp8", "int8"};

constexpr std::string_view kMagic = "PXKL";
constexpr std::uint32_t kVersion = 1;     // another one cannot be read
constexpr std::uint32_t kRevision = 0;    // a higher one has fields behind those known here
constexpr std::size_t kFixedBytes = 44;   // before the intervals
constexpr std::size_t kSumBytes = 4;      // the last ones
constexpr std::size_t kRecordMax = 4096;  // bytes; all that can stand in one are 1,072

template <class T>
void Put(std::string& out, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    out.push_back(static_cast<char>(value >> (8 * i)));
  }
}

std::uint32_t Sum(std::string_view bytes) {
  return static_cast<std::uint32_t>(Hash64(std::as_bytes(std::span(bytes))));
}

/// Little-endian numbers from the front; whoever reads has looked at the length.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  std::size_t left() const { return bytes_.size(); }

  std::uint32_t Take(std::size_t size) {
    PX_ASSERT(bytes_.size() >= size);
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < size; ++i) {
      value |= std::uint32_t{static_cast<unsigned char>(bytes_[i])} << (8 * i);
    }
    bytes_.remove_prefix(size);
    return value;
  }

  std::vector<Interval> TakeIntervals(std::size_t count) {
    std::vector<Interval> out(count);
    for (Interval& interval : out) {
      interval.begin = Take(4);
      interval.end = Take(4);
    }
    return out;
  }

 private:
  std::string_view bytes_;
};

Result<void> Corrupt(std::string what) {
  return Fail(Code::kDataCorrupt, "layout record: " + std::move(what));
}

Result<void> CheckRange(std::string_view field, std::uint64_t value, std::uint64_t min,
                        std::uint64_t max) {
  if (value < min || value > max) {
    return Fail(Code::kInvalidArgument,
                fmt::format("layout: {} is {}, not {} to {}", field, value, min, max),
                std::string(field));
  }
  return {};
}

Result<void> BadInterval(std::string_view field, std::size_t index, Interval interval,
                         std::string_view why) {
  return Fail(Code::kInvalidArgument,
              fmt::format("layout: {}[{}] is {} to {}, which {}", field, index, interval.begin,
                          interval.end, why),
              std::string(field));
}

/// Ascending, none empty, together 0 .. count - 1; overlaps only if allowed.
Result<void> CheckCover(std::string_view field, const std::vector<Interval>& intervals,
                        std::uint32_t count, bool overlaps) {
  std::uint32_t covered = 0;
  std::uint32_t begin = 0;
  for (std::size_t i = 0; i < intervals.size(); ++i) {
    const Interval& interval = intervals[i];
    if (interval.begin >= interval.end || interval.end > count) {
      return BadInterval(field, i, interval, fmt::format("is no part of 0 to {}", count));
    }
    if (interval.begin > covered || interval.begin < begin || interval.end < covered) {
      return BadInterval(field, i, interval, fmt::format("leaves a gap after {}", covered));
    }
    if (!overlaps && interval.begin != covered) {
      return BadInterval(field, i, interval, "is held already");
    }
    begin = interval.begin;
    covered = interval.end;
  }
  if (covered != count) {
    return BadInterval(field, intervals.size() - 1, intervals.back(),
                       fmt::format("is the last, but there are {}", count));
  }
  return {};
}

}  // namespace

std::string_view ElementTypeName(ElementType type) {
  return kElementNames[static_cast<std::size_t>(type)];
}

std::optional<ElementType> ElementTypeOf(std::string_view name) {
  const auto found = std::ranges::find(kElementNames, name);
  return found == kElementNames.end()
             ? std::nullopt
             : std::optional(static_cast<ElementType>(found - kElementNames.begin()));
}

Interval Intersection(Interval a, Interval b) {
  const std::uint32_t begin = std::max(a.begin, b.begin);
  return {begin, std::max(begin, std::min(a.end, b.end))};
}

std::uint64_t LayoutRecord::scales_offset_bytes(std::uint32_t dim) const {
  const std::uint64_t data = std::uint64_t{block_tokens} * dim * SizeOf(dtype);
  return HasScales(dtype) ? (data + 3) / 4 * 4 : data;
}

std::uint64_t LayoutRecord::slice_size_bytes(std::uint32_t dim) const {
  return scales_offset_bytes(dim) + (HasScales(dtype) ? std::uint64_t{4} * block_tokens : 0);
}

std::uint64_t LayoutRecord::layer_size_bytes(std::uint32_t heads) const {
  return heads * (slice_size_bytes(key_dim) + (value_in_key ? 0 : slice_size_bytes(value_dim)));
}

std::uint64_t LayoutRecord::block_size_bytes(std::uint32_t rank) const {
  return layers_of(rank).size() * layer_size_bytes(heads_of(rank).size());
}

std::uint64_t LayoutRecord::rank_offset_bytes(std::uint32_t rank) const {
  std::uint64_t offset = 0;
  for (std::uint32_t before = 0; before < rank; ++before) {
    offset += block_size_bytes(before);
  }
  return offset;
}

std::vector<std::uint32_t> LayoutRecord::SliceSizes() const {
  std::vector<std::uint32_t> out;
  for (std::uint32_t rank = 0; rank < rank_count(); ++rank) {
    const std::uint32_t heads = heads_of(rank).size();
    for (std::uint32_t layer = 0; layer < layers_of(rank).size(); ++layer) {
      out.insert(out.end(), heads, static_cast<std::uint32_t>(slice_size_bytes(key_dim)));
      out.insert(out.end(), value_in_key ? 0 : heads,
                 static_cast<std::uint32_t>(slice_size_bytes(value_dim)));
    }
  }
  return out;
}

std::vector<Interval> CutLayers(std::uint32_t layers, std::uint32_t stages) {
  std::vector<Interval> out(stages);
  for (std::uint64_t s = 0; s < stages; ++s) {
    out[s] = {static_cast<std::uint32_t>(s * layers / stages),
              static_cast<std::uint32_t>((s + 1) * layers / stages)};
  }
  return out;
}

std::vector<Interval> CutHeads(std::uint32_t heads, std::uint32_t ranks) {
  std::vector<Interval> out(ranks);
  for (std::uint64_t r = 0; r < ranks; ++r) {
    out[r] = {static_cast<std::uint32_t>(r * heads / ranks),
              static_cast<std::uint32_t>(((r + 1) * heads + ranks - 1) / ranks)};
  }
  return out;
}

Result<void> CheckLayout(const LayoutRecord& record) {
  struct Field {
    std::string_view name;
    std::uint64_t value;
    std::uint64_t min;
    std::uint64_t max;
  };

  for (const Field& field : {
           Field{"layer_count", record.layer_count, 1, kLayoutLayersMax},
           Field{"kv_head_count", record.kv_head_count, 1, kLayoutHeadsMax},
           Field{"key_dim", record.key_dim, 1, kLayoutDimMax},
           Field{"value_dim", record.value_dim, 1, kLayoutDimMax},
           Field{"block_tokens", record.block_tokens, 1, kLayoutBlockTokensMax},
           Field{"dtype", static_cast<std::uint64_t>(record.dtype), 0, kElementNames.size() - 1},
           Field{"stages", record.stage_layers.size(), 1, kLayoutRanksMax},
           Field{"tensor_ranks", record.rank_heads.size(), 1, kLayoutRanksMax},
           Field{"data_ranks", record.data_rank_count, 1, kLayoutDataRanksMax},
           Field{"stage", record.stage, 0, record.stage_layers.size() - 1},
           Field{"tensor_rank", record.tensor_rank, 0, record.rank_heads.size() - 1},
           Field{"data_rank", record.data_rank, 0, std::uint64_t{record.data_rank_count} - 1},
       }) {
    PX_CHECK_OK(CheckRange(field.name, field.value, field.min, field.max));
  }
  if (record.value_in_key) {
    PX_CHECK_OK(CheckRange("value_dim", record.value_dim, 1, record.key_dim));
  }
  PX_CHECK_OK(CheckCover("stage_layers", record.stage_layers, record.layer_count, false));
  return CheckCover("rank_heads", record.rank_heads, record.kv_head_count, true);
}

std::string EncodeLayout(const LayoutRecord& record) {
  PX_ASSERT(CheckLayout(record));
  std::string out(kMagic);
  const std::size_t size =
      kFixedBytes + 8 * (record.stage_layers.size() + record.rank_heads.size()) + kSumBytes;
  Put(out, static_cast<std::uint8_t>(kVersion));
  Put(out, static_cast<std::uint8_t>(kRevision));
  Put(out, static_cast<std::uint16_t>(size));
  Put(out, record.layer_count);
  Put(out, record.kv_head_count);
  Put(out, record.key_dim);
  Put(out, record.value_dim);
  Put(out, record.block_tokens);
  Put(out, static_cast<std::uint8_t>(record.dtype));
  Put(out, static_cast<std::uint8_t>(record.value_in_key ? 1 : 0));
  Put(out, static_cast<std::uint16_t>(0));
  for (const std::size_t number :
       {record.stage_layers.size(), record.rank_heads.size(),
        static_cast<std::size_t>(record.data_rank_count), static_cast<std::size_t>(record.stage),
        static_cast<std::size_t>(record.tensor_rank), static_cast<std::size_t>(record.data_rank)}) {
    Put(out, static_cast<std::uint16_t>(number));
  }
  for (const std::vector<Interval>* intervals : {&record.stage_layers, &record.rank_heads}) {
    for (const Interval& interval : *intervals) {
      Put(out, interval.begin);
      Put(out, interval.end);
    }
  }
  Put(out, Sum(out));
  PX_ASSERT(out.size() == size);
  return out;
}

Result<LayoutRecord> DecodeLayout(std::string_view bytes) {
  const std::size_t least = kFixedBytes + 2 * 8 + kSumBytes;
  if (bytes.size() < least || bytes.size() > kRecordMax || !bytes.starts_with(kMagic)) {
    return Fail(Code::kDataCorrupt,
                fmt::format("layout record: {} bytes that are none", bytes.size()));
  }
  const std::string_view content = bytes.substr(0, bytes.size() - kSumBytes);
  Reader reader(content.substr(kMagic.size()));
  const std::uint32_t version = reader.Take(1);
  const std::uint32_t revision = reader.Take(1);
  if (version != kVersion) {
    return Fail(Code::kUnsupported,
                fmt::format("layout record of version {}; this program reads version {}", version,
                            kVersion));
  }
  const std::uint32_t size = reader.Take(2);
  const std::uint32_t sum = Reader(bytes.substr(content.size())).Take(kSumBytes);
  if (size != bytes.size() || sum != Sum(content)) {
    PX_CHECK_OK(Corrupt(fmt::format("{} bytes, said to be {}, sum {:08x}, said to be {:08x}",
                                    bytes.size(), size, Sum(content), sum)));
  }
  LayoutRecord record;
  record.layer_count = reader.Take(4);
  record.kv_head_count = reader.Take(4);
  record.key_dim = reader.Take(4);
  record.value_dim = reader.Take(4);
  record.block_tokens = reader.Take(4);
  record.dtype = static_cast<ElementType>(reader.Take(1));
  const std::uint32_t flags = reader.Take(1);
  record.value_in_key = (flags & 1U) != 0;
  const std::uint32_t spare = reader.Take(2);
  if (revision == kRevision && (flags > 1 || spare != 0)) {
    PX_CHECK_OK(Corrupt(fmt::format("flags {:02x} {:04x} mean nothing here", flags, spare)));
  }
  const std::uint32_t stages = reader.Take(2);
  const std::uint32_t tensor_ranks = reader.Take(2);
  record.data_rank_count = reader.Take(2);
  record.stage = reader.Take(2);
  record.tensor_rank = reader.Take(2);
  record.data_rank = reader.Take(2);
  const std::size_t intervals = std::size_t{8} * (stages + tensor_ranks);
  if (reader.left() < intervals || (revision == kRevision && reader.left() != intervals)) {
    PX_CHECK_OK(Corrupt(fmt::format("{} stages and {} tensor ranks in {} bytes", stages,
                                    tensor_ranks, reader.left())));
  }
  record.stage_layers = reader.TakeIntervals(stages);
  record.rank_heads = reader.TakeIntervals(tensor_ranks);
  if (const auto checked = CheckLayout(record); !checked) {
    return Fail(Code::kDataCorrupt, checked.error().detail());
  }
  return record;
}

}  // namespace pixii::kv
