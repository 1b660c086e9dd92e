// libpixii_ucx.so: memory of other processes by UCX. The only file that sees libucp.
//
// Endpoints report a peer that is gone. For that UCX 1.13 takes the network or TCP, on one host,
// too: its shared memory never says that a process has died.
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <ucp/api/ucp.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "transport/fabric_abi.h"

namespace pixii::transport::fabric_abi {

struct Fabric {
  ucp_context_h context = nullptr;
  ucp_worker_h worker = nullptr;
  ucp_address_t* address = nullptr;
  std::size_t address_size = 0;
  int descriptor = -1;
};

struct Memory {
  Fabric* fabric = nullptr;
  ucp_mem_h handle = nullptr;
  void* data = nullptr;
  std::string key;
};

struct Peer {
  Fabric* fabric = nullptr;
  ucp_ep_h endpoint = nullptr;
};

struct Key {
  Peer* peer = nullptr;
  ucp_rkey_h handle = nullptr;
};

namespace {

constexpr int kClosingProgressMax = 1 << 20;  // calls, until an endpoint is closed

const char* Say(const char* what, ucs_status_t status) {
  static thread_local std::string text;
  text = std::string(what) + ": " + ucs_status_string(status);
  return text.c_str();
}

/// The interface that has the address; empty: none that is seen.
std::string InterfaceOf(const char* host) {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) {
    return {};
  }
  std::string out;
  for (const ifaddrs* each = all; each != nullptr && out.empty(); each = each->ifa_next) {
    if (each->ifa_addr == nullptr) {
      continue;
    }
    char text[INET6_ADDRSTRLEN] = {};
    if (each->ifa_addr->sa_family == AF_INET) {
      ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(each->ifa_addr)->sin_addr, text,
                  sizeof(text));
    } else if (each->ifa_addr->sa_family == AF_INET6) {
      ::inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(each->ifa_addr)->sin6_addr, text,
                  sizeof(text));
    }
    if (std::strcmp(text, host) == 0) {
      out = each->ifa_name;
    }
  }
  ::freeifaddrs(all);
  return out;
}

bool IsLoopback(const char* host) {
  return std::strncmp(host, "127.", 4) == 0 || std::strcmp(host, "::1") == 0;
}

void Close(Fabric* fabric) {
  const std::unique_ptr<Fabric> owned(fabric);
  if (fabric->address != nullptr) {
    ucp_worker_release_address(fabric->worker, fabric->address);
  }
  if (fabric->worker != nullptr) {
    ucp_worker_destroy(fabric->worker);
  }
  if (fabric->context != nullptr) {
    ucp_cleanup(fabric->context);
  }
}

const char* Begin(const Options& options, Fabric& fabric) {
  ucp_config_t* config = nullptr;
  ucs_status_t status = ucp_config_read(nullptr, nullptr, &config);
  if (status != UCS_OK) {
    return Say("the configuration of UCX", status);
  }
  // Its TCP lets whoever connects touch memory: where only this host is meant, nobody else shall.
  if (options.host != nullptr && IsLoopback(options.host)) {
    (void)ucp_config_modify(config, "NET_DEVICES", InterfaceOf(options.host).c_str());
  }
  // Reads over its TCP go in segments: 8 KiB, unless somebody chose, at half of the speed. A peer's
  // buffers take 64 KiB wherever nobody chose.
  const char* chosen = std::getenv("UCX_TCP_TX_SEG_SIZE");  // tidy: getenv UCX reads it, too
  if (chosen == nullptr) {
    (void)ucp_config_modify(config, "TX_SEG_SIZE", "64k");
  }
  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_MT_WORKERS_SHARED;
  params.features = UCP_FEATURE_RMA | UCP_FEATURE_WAKEUP;
  params.mt_workers_shared = 1;
  status = ucp_init(&params, config, &fabric.context);
  ucp_config_release(config);
  if (status != UCS_OK) {
    return Say("start UCX", status);
  }
  ucp_worker_params_t worker{};
  worker.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  worker.thread_mode = UCS_THREAD_MODE_MULTI;
  status = ucp_worker_create(fabric.context, &worker, &fabric.worker);
  if (status != UCS_OK) {
    return Say("make a worker of UCX", status);
  }
  status = ucp_worker_get_address(fabric.worker, &fabric.address, &fabric.address_size);
  if (status != UCS_OK) {
    return Say("the address of a worker of UCX", status);
  }
  status = ucp_worker_get_efd(fabric.worker, &fabric.descriptor);
  return status == UCS_OK ? nullptr : Say("the descriptor of a worker of UCX", status);
}

const char* Open(const Options* options, Fabric** out) {
  auto fabric = std::make_unique<Fabric>();
  if (const char* wrong = Begin(*options, *fabric)) {
    Close(fabric.release());
    return wrong;
  }
  *out = fabric.release();
  return nullptr;
}

std::uint32_t Progress(Fabric* fabric) { return ucp_worker_progress(fabric->worker); }

int Descriptor(Fabric* fabric) { return fabric->descriptor; }

bool Arm(Fabric* fabric) { return ucp_worker_arm(fabric->worker) == UCS_OK; }

const char* Expose(Fabric* fabric, void* data, std::size_t size, Memory** out) {
  auto memory = std::make_unique<Memory>();
  memory->fabric = fabric;
  ucp_mem_map_params_t params{};
  params.field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH;
  params.address = data;
  params.length = size;
  ucs_status_t status = ucp_mem_map(fabric->context, &params, &memory->handle);
  if (status != UCS_OK) {
    return Say("register memory with UCX", status);
  }
  memory->data = data;
  void* key = nullptr;
  std::size_t key_size = 0;
  status = ucp_rkey_pack(fabric->context, memory->handle, &key, &key_size);
  if (status != UCS_OK) {
    ucp_mem_unmap(fabric->context, memory->handle);
    return Say("the key of memory of UCX", status);
  }
  memory->key.assign(static_cast<const char*>(key), key_size);
  ucp_rkey_buffer_release(key);
  *out = memory.release();
  return nullptr;
}

Bytes MemoryKey(Memory* memory) { return {memory->key.data(), memory->key.size()}; }

std::uint64_t Base(Memory* memory) { return reinterpret_cast<std::uint64_t>(memory->data); }

void Withdraw(Memory* memory) {
  const std::unique_ptr<Memory> owned(memory);
  ucp_mem_unmap(memory->fabric->context, memory->handle);
}

const char* BeginPeer(Fabric* fabric, Peer** out) {
  auto peer = std::make_unique<Peer>();
  peer->fabric = fabric;
  *out = peer.release();
  return nullptr;
}

Bytes Address(Peer* peer) {
  return {reinterpret_cast<const char*>(peer->fabric->address), peer->fabric->address_size};
}

const char* Connect(Peer* peer, Bytes address) {
  const std::string copy(address.data, address.size);  // aligned, which a message need not be
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                      UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params.address = reinterpret_cast<const ucp_address_t*>(copy.data());
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler.cb = [](void* /*self*/, ucp_ep_h /*endpoint*/, ucs_status_t /*status*/) {
    // What runs is told that it has failed; the connection to the peer ends by itself.
  };
  const ucs_status_t status = ucp_ep_create(peer->fabric->worker, &params, &peer->endpoint);
  return status == UCS_OK ? nullptr : Say("connect by UCX", status);
}

void Disconnect(Peer* peer) {
  if (peer->endpoint == nullptr) {
    return;
  }
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
  params.flags = UCP_EP_CLOSE_FLAG_FORCE;
  void* request = ucp_ep_close_nbx(peer->endpoint, &params);
  peer->endpoint = nullptr;
  if (!UCS_PTR_IS_PTR(request)) {
    return;
  }
  for (int i = 0; i < kClosingProgressMax && ucp_request_check_status(request) == UCS_INPROGRESS;
       ++i) {
    ucp_worker_progress(peer->fabric->worker);
  }
  ucp_request_free(request);
}

void EndPeer(Peer* peer) { const std::unique_ptr<Peer> owned(peer); }

const char* ImportKey(Peer* peer, Bytes bytes, Key** out) {
  const std::string copy(bytes.data, bytes.size);  // as above
  auto key = std::make_unique<Key>();
  key->peer = peer;
  const ucs_status_t status = ucp_ep_rkey_unpack(peer->endpoint, copy.data(), &key->handle);
  if (status != UCS_OK) {
    return Say("read a key of UCX", status);
  }
  *out = key.release();
  return nullptr;
}

void DropKey(Key* key) {
  const std::unique_ptr<Key> owned(key);
  ucp_rkey_destroy(key->handle);
}

struct Waiting {
  Done done = nullptr;
  void* self = nullptr;
};

std::size_t PiecesMax(Fabric* /*fabric*/) { return 1; }

Begun Read(const Piece* pieces, std::size_t /*count*/, Done done, void* self) {
  const auto told = [](void* request, ucs_status_t status, void* data) {
    const std::unique_ptr<Waiting> waiting(static_cast<Waiting*>(data));
    ucp_request_free(request);
    waiting->done(waiting->self, status == UCS_OK);
  };
  auto waiting = std::make_unique<Waiting>(Waiting{.done = done, .self = self});
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  params.cb.send = told;
  params.user_data = waiting.get();
  if (pieces->memory != nullptr) {
    params.op_attr_mask |= UCP_OP_ATTR_FIELD_MEMH;
    params.memh = pieces->memory->handle;
  }
  void* const request = ucp_get_nbx(pieces->key->peer->endpoint, pieces->to, pieces->size,
                                    pieces->address, pieces->key->handle, &params);
  if (request == nullptr) {
    return Begun::kDone;
  }
  if (!UCS_PTR_IS_PTR(request)) {
    return UCS_PTR_STATUS(request) == UCS_ERR_NO_RESOURCE ? Begun::kLater : Begun::kFailed;
  }
  (void)waiting.release();
  return Begun::kRuns;
}

constexpr Library kLibrary{.abi = kAbi,
                           .name = "ucx",
                           .open = Open,
                           .close = Close,
                           .progress = Progress,
                           .descriptor = Descriptor,
                           .arm = Arm,
                           .expose = Expose,
                           .key = MemoryKey,
                           .base = Base,
                           .withdraw = Withdraw,
                           .begin_peer = BeginPeer,
                           .address = Address,
                           .connect = Connect,
                           .disconnect = Disconnect,
                           .end_peer = EndPeer,
                           .import_key = ImportKey,
                           .drop_key = DropKey,
                           .pieces_max = PiecesMax,
                           .read = Read};

}  // namespace

}  // namespace pixii::transport::fabric_abi

extern "C" __attribute__((visibility("default"))) const pixii::transport::fabric_abi::Library*
pixii_fabric_library() {
  return &pixii::transport::fabric_abi::kLibrary;
}
