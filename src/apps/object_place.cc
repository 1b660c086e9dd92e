#include "apps/object_place.h"

#include <fmt/format.h>

#include <chrono>
#include <string_view>
#include <utility>

#include "rt/clock.h"

namespace pixii::apps {

namespace {

constexpr std::size_t kObjectsMax = 1'000'000;  // below the prefix
constexpr rt::Duration kListTimeMax = std::chrono::minutes(2);

class ObjectPlace final : public frontend::BlobPlace {
 public:
  ObjectPlace(std::unique_ptr<kv::ObjectService> service, std::string prefix,
              std::uint64_t blob_bytes_max)
      : service_(std::move(service)), prefix_(std::move(prefix)), blob_bytes_max_(blob_bytes_max) {}

  Result<void> Write(const std::string& name, std::string_view bytes) override {
    return service_->Put(prefix_ + name, bytes);
  }

  Result<void> Append(const std::string& name, std::string_view /*bytes*/) override {
    return Fail(Code::kUnsupported, fmt::format("{}: an object cannot be appended to", name));
  }

  Result<std::string> Read(const std::string& name) override {
    return service_->Get(prefix_ + name, blob_bytes_max_);
  }

  Result<void> Remove(const std::string& name) override { return service_->Delete(prefix_ + name); }

 private:
  std::unique_ptr<kv::ObjectService> service_;
  const std::string prefix_;
  const std::uint64_t blob_bytes_max_;
};

}  // namespace

Result<frontend::OpenedBlobs> OpenObjectBlobStore(rt::Loop& loop,
                                                  std::unique_ptr<kv::ObjectService> service,
                                                  const std::string& prefix,
                                                  std::uint64_t blob_bytes_max) {
  frontend::OpenedBlobs out;
  kv::ListWatch watch({.time_max = kListTimeMax, .clock = rt::SteadyNow});
  PX_CHECK_OK(service->List(prefix, watch, [&](std::string_view name) {
    if (name.starts_with(prefix)) {
      out.found.push_back(
          {.name = std::string(name.substr(prefix.size())), .size_bytes = {}, .bytes = {}});
    }
    return out.found.size() < kObjectsMax;
  }));
  for (frontend::FoundBlob& blob : out.found) {
    if (blob.name.ends_with(".json")) {
      PX_TRY(blob.bytes, service->Get(prefix + blob.name, blob_bytes_max));
      blob.size_bytes = blob.bytes.size();
    }
  }
  out.store = frontend::MakeBlobStore(
      loop, std::make_unique<ObjectPlace>(std::move(service), prefix, blob_bytes_max));
  return out;
}

}  // namespace pixii::apps
