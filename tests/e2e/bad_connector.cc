// A KV connector that keeps blocks well until the file that its configuration names says otherwise.
#include <pixii/kv_connector.h>

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using Key = std::string;
using Record = std::vector<char>;

struct Cache {
  std::string fault_file;
  size_t record_bytes = 0;
  size_t block_tokens = 0;
  std::map<Key, Record> records;

  std::string Fault() const {
    std::ifstream file(fault_file);
    std::string fault;
    std::getline(file, fault);
    return fault;
  }
};

Key KeyOf(const pixii_kv_key& key) {
  return {reinterpret_cast<const char*>(key.bytes), sizeof(key.bytes)};
}

void* Create(const char* config, size_t size, const pixii_kv_geometry* geometry,
             pixii_error_text* error) {
  const std::string text(config, size);
  const size_t begin = text.find("\"fault_file\": \"");
  if (begin == std::string::npos) {
    std::snprintf(error->text, error->capacity, "fault_file is not there");
    return nullptr;
  }
  auto* cache = new Cache;
  cache->fault_file = text.substr(begin + 15, text.find('"', begin + 15) - begin - 15);
  cache->record_bytes = geometry->record_bytes;
  cache->block_tokens = geometry->block_tokens;
  return cache;
}

void Destroy(void* self) { delete static_cast<Cache*>(self); }

void Misbehave(const std::string& fault) {
  if (fault == "throw") {
    throw std::runtime_error("on purpose");
  }
  if (fault == "throw a number") {
    throw 5;
  }
  while (fault == "hang") {
    pause();
  }
}

size_t MatchedTokens(void* self, const pixii_kv_request* request, size_t computed_tokens) {
  const auto* cache = static_cast<Cache*>(self);
  const std::string fault = cache->Fault();
  Misbehave(fault);
  if (fault == "too many") {
    return static_cast<size_t>(-1);
  }
  size_t end = computed_tokens / cache->block_tokens;
  while (end < request->key_count && cache->records.count(KeyOf(request->keys[end])) > 0) {
    ++end;
  }
  return end * cache->block_tokens - computed_tokens;
}

void Allocated(void* self, const pixii_kv_request* /*request*/, size_t /*computed_tokens*/,
               pixii_kv_target* targets, size_t count) {
  const auto* cache = static_cast<Cache*>(self);
  const std::string fault = cache->Fault();
  for (size_t i = 0; i < count; ++i) {
    const auto found = cache->records.find(KeyOf(targets[i].key));
    if (found == cache->records.end()) {
      return;
    }
    Record record = found->second;
    if (fault == "flip") {
      record[record.size() - 1 - (i * 977) % record.size()] ^= 4;
    } else if (fault == "other") {
      for (const auto& [key, other] : cache->records) {
        if (key != found->first) {
          record = other;
          break;
        }
      }
    } else if (fault == "zeros") {
      std::fill(record.begin(), record.end(), 0);
    }
    std::memcpy(targets[i].record, record.data(), record.size());
    targets[i].record_size = fault == "short"  ? record.size() / 2
                             : fault == "long" ? record.size() + 1
                             : fault == "gone" ? 0
                                               : record.size();
  }
}

void Step(void* self, const pixii_kv_step* step) {
  auto* cache = static_cast<Cache*>(self);
  Misbehave(cache->Fault());
  for (size_t i = 0; i < step->block_count; ++i) {
    const pixii_kv_block& block = step->blocks[i];
    const char* bytes = static_cast<const char*>(block.record);
    cache->records[KeyOf(block.key)] = Record(bytes, bytes + block.record_size);
  }
}

void Finished(void* self, uint64_t /*request_id*/) {
  Misbehave(static_cast<Cache*>(self)->Fault());
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const pixii_kv_connector*
pixii_kv_connector_entry(uint32_t /*host_abi*/) {
  static const pixii_kv_connector kConnector = {
      PIXII_KV_CONNECTOR_ABI, sizeof kConnector, "bad", Create,  Destroy,
      MatchedTokens,          Allocated,         Step,  Finished};
  return &kConnector;
}
