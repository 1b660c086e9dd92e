// libpixii_libfabric.so: memory of other processes by libfabric. The only file that sees it.
//
// Each peer has an endpoint and a queue of its own: closing them ends what runs with that peer and
// nothing else. (A queue that others still use keeps what was closed, in version 1.17.)
// Keys of memory are random, where the provider lets us choose them, and it checks each read.
#include <rdma/fabric.h>
#include <rdma/fi_cm.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <rdma/fi_rma.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "transport/fabric_abi.h"

namespace pixii::transport::fabric_abi {

namespace {

constexpr std::size_t kCompletionsMax = 16;  // of one look
constexpr std::size_t kAddressBytesMax = 256;
constexpr std::size_t kQueueSize = 1024;  // completions
constexpr std::size_t kPiecesMax = 16;    // of one read

struct Operation {
  fi_context2 context{};  // first: what completions name
  Done done = nullptr;
  void* self = nullptr;
  std::array<fid_mr*, kPiecesMax> registered{};  // for this one alone
};

template <class Thing>
void CloseFid(Thing*& thing) {
  if (thing != nullptr) {
    fi_close(&thing->fid);
    thing = nullptr;
  }
}

const char* Say(const char* what, long code) {
  static thread_local std::string text;
  text = std::string(what) + ": " + fi_strerror(static_cast<int>(code < 0 ? -code : code));
  return text.c_str();
}

}  // namespace

struct Fabric {
  fi_info* info = nullptr;
  fid_fabric* fabric = nullptr;
  fid_domain* domain = nullptr;
  fid_av* addresses = nullptr;
  int descriptor = -1;  // of all queues
  std::random_device random;
  std::vector<Peer*> peers;

  bool Needs(int mode) const { return (info->domain_attr->mr_mode & mode) != 0; }
};

struct Memory {
  Fabric* fabric = nullptr;
  fid_mr* region = nullptr;
  std::uint64_t base = 0;
  std::string key;  // u64
};

struct Peer {
  Fabric* fabric = nullptr;
  fid_ep* endpoint = nullptr;
  fid_cq* queue = nullptr;
  int descriptor = -1;  // the queue's
  std::unordered_set<Operation*> running;
  fi_addr_t to = FI_ADDR_UNSPEC;
  std::string own_address;
};

struct Key {
  Peer* peer = nullptr;
  std::uint64_t key = 0;
};

namespace {

void Close(Fabric* fabric) {
  const std::unique_ptr<Fabric> owned(fabric);
  CloseFid(fabric->addresses);
  CloseFid(fabric->domain);
  CloseFid(fabric->fabric);
  if (fabric->info != nullptr) {
    fi_freeinfo(fabric->info);
  }
  if (fabric->descriptor >= 0) {
    ::close(fabric->descriptor);
  }
}

bool IsLoopback(const char* host) {
  return std::strncmp(host, "127.", 4) == 0 || std::strcmp(host, "::1") == 0;
}

const char* Begin(const Options& options, Fabric& fabric) {
  fi_info* hints = fi_allocinfo();
  hints->ep_attr->type = FI_EP_RDM;
  hints->caps = FI_RMA | FI_READ | FI_REMOTE_READ;
  hints->mode = FI_CONTEXT | FI_CONTEXT2;
  hints->domain_attr->mr_mode = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;
  hints->domain_attr->threading = FI_THREAD_SAFE;
  if (options.host != nullptr && IsLoopback(options.host)) {
    hints->fabric_attr->prov_name = ::strdup("tcp");  // freed with the hints
  }
  int code = fi_getinfo(FI_VERSION(1, 17), options.host, nullptr, FI_SOURCE, hints, &fabric.info);
  fi_freeinfo(hints);
  if (code != 0) {
    return Say("find a provider of libfabric", code);
  }
  code = fi_fabric(fabric.info->fabric_attr, &fabric.fabric, nullptr);
  if (code == 0) {
    code = fi_domain(fabric.fabric, fabric.info, &fabric.domain, nullptr);
  }
  if (code != 0) {
    return Say("open a domain of libfabric", code);
  }
  fabric.descriptor = ::epoll_create1(EPOLL_CLOEXEC);
  if (fabric.descriptor < 0) {
    return Say("watch queues of libfabric", errno);
  }
  fi_av_attr addresses{};
  addresses.type = FI_AV_TABLE;
  code = fi_av_open(fabric.domain, &addresses, &fabric.addresses, nullptr);
  return code == 0 ? nullptr : Say("open a table of addresses of libfabric", code);
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

void Unregister(Operation& one) {
  for (fid_mr*& each : one.registered) {
    CloseFid(each);
  }
}

void End(Peer& peer, void* context, bool succeeded) {
  if (context == nullptr) {
    return;
  }
  const std::unique_ptr<Operation> one(static_cast<Operation*>(context));
  peer.running.erase(one.get());
  Unregister(*one);
  one->done(one->self, succeeded);
}

std::uint32_t ProgressOf(Peer& peer) {
  fi_cq_entry entries[kCompletionsMax];
  const ssize_t count = fi_cq_read(peer.queue, entries, kCompletionsMax);
  for (ssize_t i = 0; i < count; ++i) {
    End(peer, entries[i].op_context, true);
  }
  if (count == -FI_EAVAIL) {
    fi_cq_err_entry error{};
    if (fi_cq_readerr(peer.queue, &error, 0) > 0) {
      End(peer, error.op_context, false);
    }
    return 1;
  }
  return count > 0 ? static_cast<std::uint32_t>(count) : 0;
}

std::uint32_t Progress(Fabric* fabric) {
  std::uint32_t done = 0;
  for (Peer* peer : fabric->peers) {
    done += ProgressOf(*peer);
  }
  return done;
}

int Descriptor(Fabric* fabric) { return fabric->descriptor; }

bool Arm(Fabric* fabric) {
  return std::ranges::all_of(fabric->peers, [fabric](Peer* peer) {
    fid* queues[] = {&peer->queue->fid};
    return fi_trywait(fabric->fabric, queues, 1) == FI_SUCCESS;
  });
}

std::uint64_t RandomKey(Fabric& fabric) {
  // As long as the provider takes.
  const std::size_t bytes = fabric.info->domain_attr->mr_key_size;
  const std::uint64_t bits = std::uint64_t{fabric.random()} << 32U | fabric.random();
  return bytes >= 8 ? bits : bits & ((std::uint64_t{1} << (8 * bytes)) - 1);
}

int Register(Fabric& fabric, void* data, std::size_t size, std::uint64_t access, fid_mr** out) {
  int code = -FI_ENOKEY;
  for (int tries = 0; tries < 8 && code == -FI_ENOKEY; ++tries) {  // somebody has that key
    code = fi_mr_reg(fabric.domain, data, size, access, 0,
                     fabric.Needs(FI_MR_PROV_KEY) ? 0 : RandomKey(fabric), 0, out, nullptr);
  }
  return code;
}

const char* Expose(Fabric* fabric, void* data, std::size_t size, Memory** out) {
  auto memory = std::make_unique<Memory>();
  memory->fabric = fabric;
  const int code = Register(*fabric, data, size, FI_READ | FI_REMOTE_READ, &memory->region);
  if (code != 0) {
    return Say("register memory with libfabric", code);
  }
  memory->base = fabric->Needs(FI_MR_VIRT_ADDR) ? reinterpret_cast<std::uint64_t>(data) : 0;
  const std::uint64_t key = fi_mr_key(memory->region);
  memory->key.assign(reinterpret_cast<const char*>(&key), sizeof(key));
  *out = memory.release();
  return nullptr;
}

Bytes MemoryKey(Memory* memory) { return {memory->key.data(), memory->key.size()}; }

std::uint64_t Base(Memory* memory) { return memory->base; }

void Withdraw(Memory* memory) {
  const std::unique_ptr<Memory> owned(memory);
  CloseFid(memory->region);
}

void EndPeer(Peer* peer) { const std::unique_ptr<Peer> owned(peer); }

void Disconnect(Peer* peer) {
  Fabric& fabric = *peer->fabric;
  std::erase(fabric.peers, peer);
  if (peer->descriptor >= 0) {
    ::epoll_ctl(fabric.descriptor, EPOLL_CTL_DEL, peer->descriptor, nullptr);
  }
  CloseFid(peer->endpoint);
  CloseFid(peer->queue);
  // Nothing touches their memory any more, and nothing names them.
  for (Operation* each : std::exchange(peer->running, {})) {
    End(*peer, each, false);
  }
  if (peer->to != FI_ADDR_UNSPEC) {
    (void)fi_av_remove(fabric.addresses, &peer->to, 1, 0);
  }
}

int OpenPeer(Fabric& fabric, Peer& peer) {
  fi_cq_attr queue{};
  queue.size = kQueueSize;
  queue.format = FI_CQ_FORMAT_CONTEXT;
  queue.wait_obj = FI_WAIT_FD;
  int code = fi_cq_open(fabric.domain, &queue, &peer.queue, nullptr);
  if (code == 0) {
    code = fi_control(&peer.queue->fid, FI_GETWAIT, &peer.descriptor);
  }
  if (code == 0) {
    code = fi_endpoint(fabric.domain, fabric.info, &peer.endpoint, nullptr);
  }
  if (code == 0) {
    code = fi_ep_bind(peer.endpoint, &peer.queue->fid, FI_TRANSMIT | FI_RECV);
  }
  if (code == 0) {
    code = fi_ep_bind(peer.endpoint, &fabric.addresses->fid, 0);
  }
  if (code == 0) {
    code = fi_enable(peer.endpoint);
  }
  std::size_t size = kAddressBytesMax;
  peer.own_address.resize(size);
  if (code == 0) {
    code = fi_getname(&peer.endpoint->fid, peer.own_address.data(), &size);
  }
  peer.own_address.resize(std::min(size, kAddressBytesMax));
  epoll_event event{.events = EPOLLIN, .data = {.ptr = &peer}};
  if (code == 0 && ::epoll_ctl(fabric.descriptor, EPOLL_CTL_ADD, peer.descriptor, &event) != 0) {
    code = -errno;
  }
  return code;
}

const char* BeginPeer(Fabric* fabric, Peer** out) {
  auto peer = std::make_unique<Peer>();
  peer->fabric = fabric;
  if (const int code = OpenPeer(*fabric, *peer); code != 0) {
    Disconnect(peer.get());
    return Say("make an endpoint of libfabric", code);
  }
  fabric->peers.push_back(peer.get());
  *out = peer.release();
  return nullptr;
}

Bytes Address(Peer* peer) { return {peer->own_address.data(), peer->own_address.size()}; }

const char* Connect(Peer* peer, Bytes address) {
  if (address.size != peer->own_address.size()) {
    return "an address of another kind of fabric";
  }
  const int count = fi_av_insert(peer->fabric->addresses, address.data, 1, &peer->to, 0, nullptr);
  return count == 1 ? nullptr : Say("take an address of libfabric", count);
}

const char* ImportKey(Peer* peer, Bytes bytes, Key** out) {
  auto key = std::make_unique<Key>();
  key->peer = peer;
  if (bytes.size != sizeof(key->key)) {
    return "a key of libfabric has another size than 8 bytes";
  }
  std::memcpy(&key->key, bytes.data, sizeof(key->key));
  *out = key.release();
  return nullptr;
}

void DropKey(Key* key) { const std::unique_ptr<Key> owned(key); }

std::size_t PiecesMax(Fabric* fabric) {
  const fi_tx_attr& limits = *fabric->info->tx_attr;
  return std::clamp<std::size_t>(std::min(limits.iov_limit, limits.rma_iov_limit), 1, kPiecesMax);
}

Begun Read(const Piece* pieces, std::size_t count, Done done, void* self) {
  Peer& peer = *pieces->key->peer;
  Fabric& fabric = *peer.fabric;
  auto one = std::make_unique<Operation>();
  one->done = done;
  one->self = self;
  std::array<iovec, kPiecesMax> to;
  std::array<fi_rma_iov, kPiecesMax> from;
  std::array<void*, kPiecesMax> local{};
  for (std::size_t i = 0; i < count; ++i) {
    const Piece& piece = pieces[i];
    to[i] = {.iov_base = piece.to, .iov_len = piece.size};
    from[i] = {.addr = piece.address, .len = piece.size, .key = piece.key->key};
    if (!fabric.Needs(FI_MR_LOCAL)) {
      continue;
    }
    fid_mr* region = piece.memory == nullptr ? nullptr : piece.memory->region;
    if (region == nullptr) {
      if (Register(fabric, piece.to, piece.size, FI_READ, &one->registered[i]) != 0) {
        Unregister(*one);
        return Begun::kFailed;
      }
      region = one->registered[i];
    }
    local[i] = fi_mr_desc(region);
  }
  const fi_msg_rma message{.msg_iov = to.data(),
                           .desc = local.data(),
                           .iov_count = count,
                           .addr = peer.to,
                           .rma_iov = from.data(),
                           .rma_iov_count = count,
                           .context = &one->context,
                           .data = 0};
  const ssize_t code = fi_readmsg(peer.endpoint, &message, FI_COMPLETION);
  if (code != 0) {
    Unregister(*one);
    return code == -FI_EAGAIN ? Begun::kLater : Begun::kFailed;
  }
  peer.running.insert(one.get());
  (void)one.release();
  return Begun::kRuns;
}

constexpr Library kLibrary{.abi = kAbi,
                           .name = "libfabric",
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
