#include "kv/handover_layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace pixii::kv {

namespace {

std::uint64_t NumberAt(std::string_view bytes, std::size_t at) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof(value); ++i) {
    value |= std::uint64_t{static_cast<unsigned char>(bytes[at + i])} << (8 * i);
  }
  return value;
}

}  // namespace

std::string PackHashes(std::span<const Hash128> hashes) {
  std::string out;
  for (const Hash128& hash : hashes) {
    for (const std::uint64_t half : {hash.low, hash.high}) {
      for (std::size_t i = 0; i < sizeof(half); ++i) {
        out.push_back(static_cast<char>(half >> (8 * i)));
      }
    }
  }
  return out;
}

Result<std::shared_ptr<const HandoverLayout>> HandoverLayout::Create(
    const wire::KvLayoutRecord& theirs, const BlockGeometry& ours) {
  if (theirs.cut.empty() || !ours.layout) {
    return std::shared_ptr<const HandoverLayout>();  // equal in size, as CheckHandover has seen
  }
  PX_TRY(const LayoutRecord source, DecodeLayout(theirs.cut));
  PX_TRY(Reshard reshard, Reshard::Create(source, *ours.layout));
  const std::uint64_t bytes = source.rank_offset_bytes(source.rank_count());
  if (bytes != theirs.block_bytes || source.block_tokens != theirs.block_tokens) {
    return Fail(Code::kDataCorrupt,
                fmt::format("the layout is of blocks of {} tokens and {} bytes, the record of {} "
                            "and {}",
                            source.block_tokens, bytes, theirs.block_tokens, theirs.block_bytes));
  }
  if (reshard.identical()) {
    return std::shared_ptr<const HandoverLayout>();
  }
  return std::make_shared<const HandoverLayout>(std::move(reshard));
}

std::uint32_t HandoverLayout::Usable(const wire::HandoverRecord& record, const BlockChain& chain,
                                     const BlockIdentity& identity) const {
  const std::uint32_t theirs = reshard_.source().block_tokens;
  const std::uint32_t ours = reshard_.target().block_tokens;
  const auto known = static_cast<std::uint32_t>(
      std::min(record.chain.size() / kHandoverHashBytes, chain.tokens.size() / theirs));
  if (known == 0) {
    return 0;
  }
  Hash128 hash = chain.root->hash;
  for (std::uint32_t block = 0; block < known; ++block) {
    hash =
        identity.Chain(hash, std::span(chain.tokens).subspan(std::size_t{block} * theirs, theirs));
  }
  const std::size_t last = (known - 1) * kHandoverHashBytes;
  if (hash != Hash128{.low = NumberAt(record.chain, last),
                      .high = NumberAt(record.chain, last + sizeof(std::uint64_t))}) {
    return 0;
  }
  return known * theirs / ours;
}

Interval HandoverLayout::Sources(std::uint32_t first, std::uint32_t count) const {
  const std::uint32_t ours = reshard_.target().block_tokens;
  return reshard_.SourceBlocks({first * ours, (first + count) * ours});
}

std::uint32_t HandoverLayout::Fill(std::span<const std::byte> sources, Interval from,
                                   std::uint32_t first,
                                   std::span<const BlockMemory> targets) const {
  const LayoutRecord& source = reshard_.source();
  const LayoutRecord& target = reshard_.target();
  const std::uint32_t begin = first * target.block_tokens;
  const std::uint32_t end = from.end * source.block_tokens;  // of what is here
  const std::uint32_t whole =
      end <= begin ? 0
                   : std::min<std::uint32_t>((end - begin) / target.block_tokens,
                                             static_cast<std::uint32_t>(targets.size()));
  const std::uint64_t size = source_size_bytes();
  std::vector<BlockCopy> copies;
  for (std::uint32_t rank = 0; rank < target.rank_count(); ++rank) {
    copies.clear();
    reshard_.Append(rank, {begin, begin + whole * target.block_tokens}, copies);
    for (const BlockCopy& copy : copies) {
      const std::uint64_t at = (copy.source_block - from.begin) * size +
                               source.rank_offset_bytes(copy.source_rank) +
                               copy.source_offset_bytes;
      reshard_.Move(
          sources.subspan(at, copy.source_size_bytes),
          targets[copy.target_block - first].bytes.subspan(
              target.rank_offset_bytes(rank) + copy.target_offset_bytes, copy.target_size_bytes));
    }
  }
  return whole;
}

}  // namespace pixii::kv
