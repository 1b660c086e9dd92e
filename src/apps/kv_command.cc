// pixii kv: looks at the file of a disk tier and mends it.
#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <set>
#include <utility>

#include "apps/command.h"
#include "apps/kv_tiers.h"
#include "kv/tiers/disk_store.h"
#include "rt/child_process.h"
#include "rt/file.h"
#include "rt/file_lock.h"
#include "wire/json.h"

namespace pixii::apps {

namespace {

constexpr std::string_view kEnding = ".blocks";
constexpr std::size_t kFilesMax = 4096;
constexpr std::size_t kHashDigits = 32;

struct KvArguments {
  std::string verb;
  std::string path;
  std::string other;  // of export and import
  std::string tenant;
  std::string adapter;
  std::string hash;
  bool all = false;
  bool json = false;
  std::string seal_key_file;
  std::shared_ptr<const kv::BlockSealer> sealer;
};

/// A file, or the only one of its kind in a folder.
Result<std::string> BlocksFile(const std::string& path) {
  PX_TRY(const std::optional<rt::FileInfo> info, rt::StatFile(path));
  if (!info || info->kind != rt::FileKind::kFolder) {
    return path;
  }
  PX_TRY(const std::vector<rt::FolderEntry> entries, rt::ListFolder(path, kFilesMax));
  std::string found;
  for (const rt::FolderEntry& entry : entries) {
    if (entry.name.ends_with(kEnding)) {
      if (!found.empty()) {
        return Fail(Code::kInvalidArgument,
                    fmt::format("'{}' holds several files of KV blocks; name one", path));
      }
      found = fmt::format("{}/{}", path, entry.name);
    }
  }
  if (found.empty()) {
    return Fail(Code::kNotFound, fmt::format("'{}' holds no file of KV blocks", path));
  }
  return found;
}

/// Nobody else writes to the file as long as this lives.
Result<rt::FileLock> LockOf(const std::string& path) {
  std::string lock = path;
  if (lock.ends_with(kEnding)) {
    lock.resize(lock.size() - kEnding.size());
  }
  return rt::FileLock::Take(lock + ".lock");
}

struct LockedStore {
  rt::FileLock lock;
  std::unique_ptr<kv::DiskStore> store;
};

/// To be written to. Where there is no such file nothing is made beside it.
Result<LockedStore> OpenLocked(const KvArguments& arguments) {
  PX_CHECK_OK(kv::DiskStore::OpenFile(arguments.path, false, arguments.sealer));
  PX_TRY(rt::FileLock lock, LockOf(arguments.path));
  PX_TRY(std::unique_ptr<kv::DiskStore> store,
         kv::DiskStore::OpenFile(arguments.path, true, arguments.sealer));
  return LockedStore{.lock = std::move(lock), .store = std::move(store)};
}

/// What is not printable as it is in JSON.
std::string Quoted(std::string_view text) {
  std::string quoted = wire::Json(text).Dump();
  return quoted.substr(1, quoted.size() - 2);
}

/// Whole blocks of the file, each proven; `on_bad` hears of the others.
void EachProven(
    kv::DiskStore& store,
    const std::function<void(kv::BlockStore::Found, std::span<const std::byte>)>& on_good,
    const std::function<void(std::uint32_t, kv::BlockFault)>& on_bad) {
  std::vector<kv::BlockStore::Found> all;
  std::uint32_t unreadable = 0;
  store.Scan(
      [&](kv::BlockStore::Found found) {
        all.push_back(std::move(found));
        return true;
      },
      [&](kv::BlockFault fault) {
        ++unreadable;
        on_bad(~0U, fault);
      });
  for (kv::BlockStore::Found& found : all) {
    kv::StoredBlock block;
    std::span<const std::byte> payload;
    kv::BlockFault fault = store.Read(found.place.slot, found.block.hash, block, payload);
    if (fault == kv::BlockFault::kNone) {
      fault = kv::CheckPayload(block, payload);
    }
    if (fault == kv::BlockFault::kNone) {
      on_good(std::move(found), payload);
    } else {
      on_bad(found.place.slot, fault);
    }
  }
}

Result<int> List(const KvArguments& arguments) {
  PX_TRY(const std::unique_ptr<kv::DiskStore> store,
         kv::DiskStore::OpenFile(arguments.path, false, arguments.sealer));
  const kv::DiskHeader& header = store->header();
  if (!arguments.json) {
    Say("file {}\nmodel {}\nnumerics {}\ndtype {}\ntokens of a block {}\nbytes of a block {}\n"
        "slots {}\n",
        store->path(), Quoted(header.model.model_fingerprint), Quoted(header.model.numerics_id),
        Quoted(header.model.kv_dtype), header.block_tokens, header.payload_bytes,
        store->slot_count());
  }
  std::uint64_t count = 0;
  std::uint64_t unreadable = 0;
  store->Scan(
      [&](const kv::BlockStore::Found& found) {
        ++count;
        const kv::StoredBlock& block = found.block;
        const kv::BlockRootFields fields =
            kv::ReadRootBytes(block.root->bytes).value_or(kv::BlockRootFields());
        if (arguments.json) {
          Say("{{\"slot\":{},\"hash\":\"{}\",\"parent\":\"{}\",\"index\":{},\"generation\":{},"
              "\"frequency\":{},\"tenant\":\"{}\",\"adapter\":\"{}\",\"salted\":{}}}\n",
              found.place.slot, ToHex(block.hash), ToHex(block.parent), block.index,
              block.generation, block.frequency, Quoted(fields.tenant), Quoted(fields.adapter),
              !fields.salt.empty());
        } else {
          Say("{:8} {} index {} generation {} frequency {} tenant \"{}\" adapter \"{}\"{}\n",
              found.place.slot, ToHex(block.hash), block.index, block.generation, block.frequency,
              Quoted(fields.tenant), Quoted(fields.adapter), fields.salt.empty() ? "" : " salted");
        }
        return true;
      },
      [&](kv::BlockFault) { ++unreadable; });
  if (!arguments.json) {
    Say("{} blocks, {} slots that cannot be read\n", count, unreadable);
  }
  return kExitDone;
}

Result<int> Verify(const KvArguments& arguments) {
  PX_TRY(const std::unique_ptr<kv::DiskStore> store,
         kv::DiskStore::OpenFile(arguments.path, false, arguments.sealer));
  std::uint64_t good = 0;
  std::uint64_t bad = 0;
  EachProven(
      *store, [&](const kv::BlockStore::Found&, std::span<const std::byte>) { ++good; },
      [&](std::uint32_t slot, kv::BlockFault fault) {
        ++bad;
        if (slot == ~0U) {
          Say("a slot without a header that can be read: {}\n", kv::FaultName(fault));
        } else {
          Say("slot {}: {}\n", slot, kv::FaultName(fault));
        }
      });
  Say("{} blocks are whole, {} are not\n", good, bad);
  return bad == 0 ? kExitDone : kExitNotSo;
}

bool IsHash(std::string_view text) {
  return text.size() == kHashDigits && text.find_first_not_of("0123456789abcdef") == text.npos;
}

Result<int> Evict(const KvArguments& arguments) {
  if (!arguments.all && arguments.tenant.empty() && arguments.adapter.empty() &&
      arguments.hash.empty()) {
    return Fail(Code::kInvalidArgument,
                "evict: which blocks? give --tenant, --adapter, --hash or --all");
  }
  if (!arguments.hash.empty() && !IsHash(arguments.hash)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("hash: '{}' is none; one has {} hexadecimal digits, as ls shows it",
                            arguments.hash.substr(0, 200), kHashDigits),
                "hash");
  }
  PX_TRY(const LockedStore locked, OpenLocked(arguments));
  kv::DiskStore* const store = locked.store.get();
  std::vector<std::pair<std::uint32_t, Hash128>> gone;
  store->Scan(
      [&](const kv::BlockStore::Found& found) {
        const kv::BlockRootFields fields =
            kv::ReadRootBytes(found.block.root->bytes).value_or(kv::BlockRootFields());
        const bool named = (arguments.tenant.empty() || fields.tenant == arguments.tenant) &&
                           (arguments.adapter.empty() || fields.adapter == arguments.adapter) &&
                           (arguments.hash.empty() || ToHex(found.block.hash) == arguments.hash);
        if (named) {
          gone.emplace_back(found.place.slot, found.block.hash);
        }
        return true;
      },
      [](kv::BlockFault) {});
  for (const auto& [slot, hash] : gone) {
    store->Drop(slot, hash);
  }
  Say("{} blocks were dropped\n", gone.size());
  return kExitDone;
}

struct Copied {
  std::uint64_t blocks = 0;
  std::uint64_t bad = 0;
  std::uint64_t there = 0;
};

/// Proven blocks of `from` into slots of `to` that hold none.
Result<Copied> CopyBlocks(kv::DiskStore& from, kv::DiskStore& to) {
  std::set<Hash128> known;
  std::set<std::uint32_t> used;
  to.Scan(
      [&](const kv::BlockStore::Found& found) {
        known.insert(found.block.hash);
        used.insert(found.place.slot);
        return true;
      },
      [](kv::BlockFault) {});
  Copied copied;
  std::optional<Error> error;
  std::uint32_t next = 0;
  EachProven(
      from,
      [&](kv::BlockStore::Found found, std::span<const std::byte> payload) {
        if (error || !known.insert(found.block.hash).second) {
          copied.there += error ? 0 : 1;
          return;
        }
        while (used.contains(next)) {
          ++next;
        }
        if (const Result<void> written = to.Write(next, std::move(found.block), payload);
            !written) {
          error = written.error();
          return;
        }
        ++next;
        ++copied.blocks;
      },
      [&](std::uint32_t, kv::BlockFault) { ++copied.bad; });
  if (error) {
    return Fail(*error);
  }
  return copied;
}

Result<Copied> ExportTo(const std::string& path, kv::DiskStore& from,
                        const KvArguments& arguments) {
  PX_TRY(const std::unique_ptr<kv::DiskStore> to,
         kv::DiskStore::CreateFile(path, from.header(), arguments.sealer));
  return CopyBlocks(from, *to);
}

Result<int> Export(const KvArguments& arguments) {
  PX_TRY(const std::unique_ptr<kv::DiskStore> from,
         kv::DiskStore::OpenFile(arguments.path, false, arguments.sealer));
  PX_TRY(const std::optional<rt::FileInfo> found, rt::StatFile(arguments.other));
  if (found) {
    return Fail(Code::kInvalidArgument, fmt::format("'{}' is there already", arguments.other));
  }
  // Whole, or not there at all.
  const std::string partial = fmt::format("{}.{}.partial", arguments.other, rt::OwnPid());
  Result<Copied> copied = ExportTo(partial, *from, arguments);
  if (copied) {
    if (const Result<void> named = rt::RenameFile(partial, arguments.other); !named) {
      copied = Fail(named.error());
    }
  }
  if (!copied) {
    (void)rt::RemoveFile(partial);
    return Fail(copied.error());
  }
  Say("{} blocks were written to {}, {} were not whole\n", copied->blocks, arguments.other,
      copied->bad);
  return kExitDone;
}

Result<int> Import(const KvArguments& arguments) {
  PX_TRY(const LockedStore locked, OpenLocked(arguments));
  kv::DiskStore* const to = locked.store.get();
  PX_TRY(const std::unique_ptr<kv::DiskStore> from,
         kv::DiskStore::OpenFile(arguments.other, false, arguments.sealer));
  if (from->header() != to->header()) {
    return Fail(Code::kInvalidArgument,
                fmt::format("'{}' holds blocks of another model, numerics, dtype or layout than "
                            "'{}'",
                            arguments.other, arguments.path));
  }
  PX_TRY(const Copied copied, CopyBlocks(*from, *to));
  Say("{} blocks were added, {} were there, {} were not whole\n", copied.blocks, copied.there,
      copied.bad);
  return kExitDone;
}

Result<int> Run(KvArguments arguments) {
  const bool two = arguments.verb == "export" || arguments.verb == "import";
  if (two == arguments.other.empty()) {
    return Fail(Code::kInvalidArgument,
                two ? fmt::format("{}: name two files", arguments.verb)
                    : fmt::format("{}: name one file, not two", arguments.verb));
  }
  PX_TRY(arguments.sealer, ReadSealKey(arguments.seal_key_file));
  PX_TRY(arguments.path, BlocksFile(arguments.path));
  if (arguments.verb == "ls") {
    return List(arguments);
  }
  if (arguments.verb == "verify") {
    return Verify(arguments);
  }
  if (arguments.verb == "evict") {
    return Evict(arguments);
  }
  if (arguments.verb == "export") {
    return Export(arguments);
  }
  if (arguments.verb == "import") {
    return Import(arguments);
  }
  return Fail(Code::kInvalidArgument,
              fmt::format("'{}' is none of ls, verify, evict, export, import", arguments.verb));
}

}  // namespace

int RunKv(const Arguments& arguments) {
  KvArguments own;
  config::Command command;
  command.name = "kv";
  command.summary =
      "Looks at the file of a disk tier: ls, verify, evict, export (to a new file), import (from "
      "another file).";
  command.positionals = {{.name = "VERB",
                          .help = "ls, verify, evict, export or import",
                          .required = true,
                          .repeated = false},
                         {.name = "FILE",
                          .help = "file of KV blocks, or a folder with one (--kv-disk)",
                          .required = true,
                          .repeated = false},
                         {.name = "OTHER",
                          .help = "export: where to; import: where from",
                          .required = false,
                          .repeated = false}};
  auto text = [&](const char* name, std::string& target, const char* help) {
    config::Option& option = command.options.emplace_back();
    option.name = name;
    option.field = config::TextField{&target, {}};
    option.help = help;
  };
  auto flag = [&](const char* name, bool& target, const char* help) {
    config::Option& option = command.options.emplace_back();
    option.name = name;
    option.field = config::BoolField{&target};
    option.help = help;
  };
  text("tenant", own.tenant, "evict: blocks of this tenant");
  text("adapter", own.adapter, "evict: blocks of this adapter, as ls names it");
  text("hash", own.hash, "evict: the block with this hash");
  text("kv-seal-key-file", own.seal_key_file, "file with the secret of blocks that are encrypted");
  flag("all", own.all, "evict: every block");
  flag("json", own.json, "ls: one JSON object a line");
  auto [parsed, exit] = ParseOrExit(command, arguments);
  if (exit != kGoOn) {
    return exit;
  }
  own.verb = parsed.positionals[0];
  own.path = parsed.positionals[1];
  own.other = parsed.positionals.size() > 2 ? parsed.positionals[2] : "";
  const Result<int> done = Run(std::move(own));
  return done ? *done : Complain(done.error());
}

}  // namespace pixii::apps
