#include "kernels/collective.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace pixii::kernels {

namespace {

/// rows [count, size] become their sum in the first one, level by level.
void SumRows(std::span<float> rows, std::size_t count, std::size_t size) {
  for (std::size_t step = 1; step < count; step *= 2) {
    for (std::size_t row = 0; row + step < count; row += 2 * step) {
      float* to = rows.data() + row * size;
      const float* from = rows.data() + (row + step) * size;
      for (std::size_t i = 0; i < size; ++i) {
        to[i] += from[i];
      }
    }
  }
}

}  // namespace

Result<void> Collective::Barrier() {
  return Exchange(Verb::kBarrier, {},
                  [](std::uint32_t, std::size_t total, std::size_t, std::span<const std::byte>) {
                    return total == 0;
                  });
}

Result<void> Collective::Broadcast(std::uint32_t root, std::span<std::byte> data) {
  const std::span<const std::byte> mine = rank() == root ? data : std::span<std::byte>();
  return Exchange(Verb::kBroadcast, mine,
                  [&](std::uint32_t from, std::size_t total, std::size_t offset,
                      std::span<const std::byte> bytes) {
                    if (total != (from == root ? data.size() : 0)) {
                      return false;
                    }
                    if (from == root && rank() != root && !bytes.empty()) {
                      std::memcpy(data.data() + offset, bytes.data(), bytes.size());
                    }
                    return true;
                  });
}

Result<void> Collective::AllGather(std::span<const std::byte> mine, std::span<std::byte> out) {
  std::vector<std::byte> gathered;
  std::vector<std::size_t> sizes;
  PX_CHECK_OK(AllGatherAny(mine, gathered, sizes));
  if (gathered.size() != out.size()) {
    Abort();  // the others have their data; whatever comes next would not fit either
    return Fail(Code::kUnavailable,
                fmt::format("all_gather: members gave {} bytes, {} were expected", gathered.size(),
                            out.size()));
  }
  std::ranges::copy(gathered, out.begin());
  return {};
}

Result<void> Collective::AllGatherAny(std::span<const std::byte> mine, std::vector<std::byte>& out,
                                      std::vector<std::size_t>& sizes) {
  // Windows of several members come in turns: each member's bytes are kept apart until the end.
  std::vector<std::vector<std::byte>> parts(size());
  sizes.assign(size(), 0);
  PX_CHECK_OK(Exchange(
      Verb::kAllGather, mine,
      [&](std::uint32_t from, std::size_t total, std::size_t, std::span<const std::byte> bytes) {
        sizes[from] = total;
        parts[from].reserve(total);
        parts[from].insert(parts[from].end(), bytes.begin(), bytes.end());
        return true;
      }));
  out.clear();
  for (const std::vector<std::byte>& part : parts) {
    out.insert(out.end(), part.begin(), part.end());
  }
  return {};
}

Result<void> Collective::AllToAll(std::span<const std::span<const std::byte>> out,
                                  std::span<const std::span<std::byte>> in) {
  if (out.size() != size() || in.size() != size()) {
    Abort();
    return Fail(Code::kInvalidArgument,
                fmt::format("all_to_all: {} parts go out and {} come in, of "
                            "{} members",
                            out.size(), in.size(), size()));
  }
  const std::size_t table_bytes = size() * sizeof(std::uint64_t);
  outgoing_.clear();
  for (const std::span<const std::byte>& part : out) {
    const std::uint64_t part_bytes = part.size();
    const auto* bytes = reinterpret_cast<const std::byte*>(&part_bytes);
    outgoing_.insert(outgoing_.end(), bytes, bytes + sizeof part_bytes);
  }
  for (const std::span<const std::byte>& part : out) {
    outgoing_.insert(outgoing_.end(), part.begin(), part.end());
  }

  struct From {
    std::vector<std::uint64_t> table;  // sizes of the parts it gives
    std::size_t table_read = 0;        // bytes
    std::size_t begin = 0;             // where ours begins
  };

  std::vector<From> members(size());
  return Exchange(
      Verb::kAllToAll, outgoing_,
      [&](std::uint32_t from, std::size_t, std::size_t offset, std::span<const std::byte> bytes) {
        From& member = members[from];
        if (member.table_read < table_bytes) {
          member.table.resize(size());
          const std::size_t count = std::min(bytes.size(), table_bytes - member.table_read);
          std::memcpy(reinterpret_cast<std::byte*>(member.table.data()) + member.table_read,
                      bytes.data(), count);
          member.table_read += count;
          if (member.table_read < table_bytes) {
            return true;
          }
          member.begin = table_bytes;
          for (std::uint32_t to = 0; to < rank(); ++to) {
            member.begin += member.table[to];
          }
          if (member.table[rank()] != in[from].size()) {
            return false;
          }
        }
        // What of [begin, begin + size) is in this window.
        const std::size_t first = std::max(offset, member.begin);
        const std::size_t last = std::min(offset + bytes.size(), member.begin + in[from].size());
        if (first < last) {
          std::memcpy(in[from].data() + (first - member.begin), bytes.data() + (first - offset),
                      last - first);
        }
        return true;
      });
}

Result<void> Collective::ReduceScatter(std::span<const float> values, std::span<float> part) {
  const std::size_t size_bytes = part.size_bytes();
  if (values.size() != size() * part.size()) {
    Abort();
    return Fail(Code::kInvalidArgument,
                fmt::format("reduce_scatter: {} values are no {} parts of {}", values.size(),
                            size(), part.size()));
  }
  gathered_.resize(size() * part.size());
  const std::size_t begin = rank() * size_bytes;
  PX_CHECK_OK(Exchange(Verb::kReduceScatter, std::as_bytes(values),
                       [&](std::uint32_t from, std::size_t total, std::size_t offset,
                           std::span<const std::byte> bytes) {
                         if (total != values.size_bytes()) {
                           return false;
                         }
                         const std::size_t first = std::max(offset, begin);
                         const std::size_t last =
                             std::min(offset + bytes.size(), begin + size_bytes);
                         if (first < last) {
                           std::memcpy(reinterpret_cast<std::byte*>(gathered_.data()) +
                                           from * size_bytes + (first - begin),
                                       bytes.data() + (first - offset), last - first);
                         }
                         return true;
                       }));
  SumRows(gathered_, size(), part.size());
  std::copy_n(gathered_.begin(), part.size(), part.begin());
  return {};
}

// One exchange where little is summed: who waits twice waits longer than all sums take.
Result<void> Collective::AllReduceAtOnce(std::span<float> values) {
  const std::size_t size_bytes = values.size_bytes();
  gathered_.resize(size() * values.size());
  PX_CHECK_OK(Exchange(Verb::kAllReduce, std::as_bytes(values),
                       [&](std::uint32_t from, std::size_t total, std::size_t offset,
                           std::span<const std::byte> bytes) {
                         if (total != size_bytes) {
                           return false;
                         }
                         std::memcpy(reinterpret_cast<std::byte*>(gathered_.data()) +
                                         from * size_bytes + offset,
                                     bytes.data(), bytes.size());
                         return true;
                       }));
  SumRows(gathered_, size(), values.size());
  std::copy_n(gathered_.begin(), values.size(), values.begin());
  return {};
}

// Each member sums its share and all gather the shares.
Result<void> Collective::AllReduce(std::span<float> values) {
  if (values.size_bytes() <= kSumAtOnceBytesMax) {
    return AllReduceAtOnce(values);
  }
  const std::size_t share = (values.size() + size() - 1) / size();
  std::vector<float> padded(size() * share);
  std::ranges::copy(values, padded.begin());
  std::vector<float> part(share);
  PX_CHECK_OK(ReduceScatter(padded, part));
  PX_CHECK_OK(AllGather(std::as_bytes(std::span(part)), std::as_writable_bytes(std::span(padded))));
  std::copy_n(padded.begin(), values.size(), values.begin());
  return {};
}

}  // namespace pixii::kernels
