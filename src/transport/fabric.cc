#include "transport/fabric.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace pixii::transport {

namespace {

constexpr int kProgressPerTurn = 64;  // calls, before others of the loop get their turn
constexpr rt::Duration kSpin = std::chrono::microseconds(50);  // what comes next is mostly near
constexpr rt::Duration kLater = std::chrono::milliseconds(1);
constexpr int kDrainMax = 4096;  // calls

struct KindFacts {
  std::string_view name;
  const char* library;
  std::string_view how_to_build;
};

const KindFacts& FactsOf(FabricKind kind) {
  static constexpr KindFacts kUcx{
      .name = "ucx",
      .library = fabric_abi::kUcxLibraryName,
      .how_to_build = "build the target pixii_ucx, which needs the package libucx-dev"};
  static constexpr KindFacts kLibfabric{
      .name = "libfabric",
      .library = fabric_abi::kLibfabricLibraryName,
      .how_to_build = "build the target pixii_libfabric, which needs the package libfabric-dev"};
  return kind == FabricKind::kUcx ? kUcx : kLibfabric;
}

}  // namespace

std::string_view FabricName(FabricKind kind) { return FactsOf(kind).name; }

Result<FabricLibrary> LoadFabricLibrary(FabricKind kind, std::string path) {
  const KindFacts& facts = FactsOf(kind);
  if (path.empty()) {
    PX_TRY(path,
           rt::SharedLibrary::FindBesideProgram(facts.library, std::string(facts.how_to_build)));
  }
  PX_TRY(rt::SharedLibrary file, rt::SharedLibrary::Open(path));
  PX_TRY(void* symbol, file.Symbol(fabric_abi::kEntryName));
  FabricLibrary out;
  out.functions = reinterpret_cast<fabric_abi::Entry>(symbol)();
  if (out.functions->abi != fabric_abi::kAbi) {
    return Fail(Code::kUnsupported,
                fmt::format("{} speaks ABI {}, this program {}: build both of one version", path,
                            out.functions->abi, fabric_abi::kAbi));
  }
  out.file = std::make_shared<rt::SharedLibrary>(std::move(file));
  return out;
}

Result<std::unique_ptr<Fabric>> Fabric::Open(rt::Loop& loop, FabricLibrary library,
                                             const std::string& host) {
  auto made = std::unique_ptr<Fabric>(
      new Fabric(loop, std::move(library)));  // tidy: new the constructor is private
  const fabric_abi::Options options{.host = host.c_str()};
  if (const char* wrong = made->functions().open(&options, &made->fabric_)) {
    return Fail(Code::kUnavailable, fmt::format("{}: {}", made->functions().name, wrong));
  }
  made->pieces_max_ = std::min(made->functions().pieces_max(made->fabric_), kPiecesMax);
  PX_TRY(made->watch_, rt::WatchReadable(loop, made->functions().descriptor(made->fabric_),
                                         [fabric = made.get()] { fabric->Turn(); }));
  made->Kick();
  return made;
}

Fabric::~Fabric() {
  watch_.reset();
  if (fabric_ != nullptr) {
    functions().close(fabric_);
  }
}

Result<std::shared_ptr<FabricMemory>> Fabric::Expose(std::span<std::byte> memory) {
  fabric_abi::Memory* raw = nullptr;
  if (const char* wrong = functions().expose(fabric_, memory.data(), memory.size(), &raw)) {
    return Fail(Code::kUnsupported, fmt::format("{}: {}", functions().name, wrong));
  }
  return std::make_shared<FabricMemory>(functions(), raw);
}

void Fabric::Kick() {
  if (std::exchange(kicked_, true)) {
    return;
  }
  loop_.Post([this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) {
      kicked_ = false;
      Turn();
    }
  });
}

void Fabric::KickLater() { later_.Set(loop_.Now() + kLater); }

void Fabric::Turn() {
  for (int i = 0; i < kProgressPerTurn; ++i) {
    const std::uint32_t done = functions().progress(fabric_);
    SettleAll();
    const rt::Time now = loop_.Now();
    if (done > 0) {
      busy_until_ = now + kSpin;
    }
    if (done == 0 && now >= busy_until_ && functions().arm(fabric_)) {
      return;  // the descriptor tells of more
    }
  }
  Kick();
}

void Fabric::SettleAll() {
  for (std::size_t i = 0; i < users_.size(); ++i) {
    users_[i]->Settle();
  }
}

void Fabric::Drain() {
  for (int i = 0; i < kDrainMax && functions().progress(fabric_) > 0; ++i) {
  }
  Kick();
}

}  // namespace pixii::transport
