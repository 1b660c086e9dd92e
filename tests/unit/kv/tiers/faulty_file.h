// A file whose reads and writes fail when a test says so.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "rt/block_file.h"

namespace pixii::kv {

struct FaultState {
  std::optional<Code> read_error;
  std::optional<Code> write_error;
  /// Written bytes after which nothing is written any more and nobody is told, as when the process
  /// dies.
  std::optional<std::uint64_t> bytes_until_death;
  /// Bytes of one write that are written before it fails; those behind it do not.
  std::optional<std::uint64_t> bytes_until_error;
  /// What is said of the page cache, whatever is true.
  bool says_direct = false;
  /// Pieces that have begun move when they are awaited.
  std::size_t under_way = 0;
  std::size_t pieces = 0;  // ever
};

class FaultyFile final : public rt::BlockFile {
 public:
  FaultyFile(std::unique_ptr<rt::BlockFile> file, std::shared_ptr<FaultState> state)
      : file_(std::move(file)), state_(std::move(state)) {}

  Result<void> Read(std::uint64_t offset, std::span<std::byte> bytes) override {
    if (state_->read_error) {
      return Fail(*state_->read_error, "a read that fails");
    }
    return file_->Read(offset, bytes);
  }

  Result<void> Write(std::uint64_t offset, std::span<const std::byte> bytes) override {
    if (state_->write_error) {
      return Fail(*state_->write_error, "a write that fails");
    }
    if (state_->bytes_until_error && *state_->bytes_until_error < bytes.size()) {
      const std::uint64_t count = *std::exchange(state_->bytes_until_error, std::nullopt);
      static_cast<void>(file_->Write(offset, bytes.first(count)));
      return Fail(Code::kResourceExhausted, "a write that ends in the middle");
    }
    if (state_->bytes_until_death) {
      const std::uint64_t count = std::min<std::uint64_t>(*state_->bytes_until_death, bytes.size());
      *state_->bytes_until_death -= count;
      bytes = bytes.first(count);
    }
    return file_->Write(offset, bytes);
  }

  void Begin(rt::BlockOperation operation, rt::BlockPiece& piece) override {
    piece.operation = operation;
    ++state_->under_way;
    ++state_->pieces;
  }

  void Await(rt::BlockPiece& piece) override {
    rt::BlockFile::Begin(piece.operation, piece);
    --state_->under_way;
  }

  Result<void> Truncate(std::uint64_t size_bytes) override { return file_->Truncate(size_bytes); }

  Result<void> Sync() override { return file_->Sync(); }

  Result<std::uint64_t> Size() override { return file_->Size(); }

  bool direct() const override { return state_->says_direct; }

 private:
  std::unique_ptr<rt::BlockFile> file_;
  std::shared_ptr<FaultState> state_;
};

struct FileFaults {
  std::shared_ptr<FaultState> state = std::make_shared<FaultState>();

  /// Not past the page cache: writes may end anywhere.
  rt::BlockFileOpener Opener() const {
    return [state = state](const std::string& path,
                           rt::BlockFileOptions options) -> Result<std::unique_ptr<rt::BlockFile>> {
      options.direct = false;
      PX_TRY(std::unique_ptr<rt::BlockFile> file, rt::OpenBlockFile(path, options));
      return std::make_unique<FaultyFile>(std::move(file), state);
    };
  }
};

}  // namespace pixii::kv
