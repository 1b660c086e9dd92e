#include "transport/choice.h"

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "rt/tls.h"
#include "transport/optional_transport.h"

namespace pixii::transport {

namespace {

/// A net whose connections are encrypted; it and what it needs live as long as the factory's agent.
class EncryptedTransport final : public Transport {
 public:
  static Result<std::unique_ptr<Transport>> Create(AgentContext& context, rt::Net& net,
                                                   const ClusterKey& key, TcpOptions options) {
    const Mac mac = key.Derive("transfer tls", "");
    PX_TRY(std::shared_ptr<const rt::TlsContext> server, rt::TlsContext::ForServerWithKey(mac));
    PX_TRY(std::shared_ptr<const rt::TlsContext> client, rt::TlsContext::ForClientWithKey(mac));
    options.encrypted = true;
    auto made = std::make_unique<EncryptedTransport>();
    made->net_ = rt::MakeTlsNet(context.loop, net, std::move(server), std::move(client));
    PX_TRY(made->inner_, MakeTcpTransport(*made->net_, key, std::move(options))(context));
    return made;
  }

  std::string_view name() const override { return inner_->name(); }

  std::string address() const override { return inner_->address(); }

  bool Fits(std::string_view address) const override { return inner_->Fits(address); }

  std::shared_ptr<Link> Connect(std::string_view address, AgentId peer) override {
    return inner_->Connect(address, peer);
  }

 private:
  std::unique_ptr<rt::Net> net_;
  std::unique_ptr<Transport> inner_;  // uses it
};

bool SameWord(std::string_view a, std::string_view lower) {
  if (a.size() != lower.size()) {
    return false;
  }
  for (std::size_t i = 0; i < a.size(); ++i) {
    const char letter = a[i] >= 'A' && a[i] <= 'Z' ? static_cast<char>(a[i] - 'A' + 'a') : a[i];
    if (letter != lower[i]) {
      return false;
    }
  }
  return true;
}

}  // namespace

Result<Backend> ParseBackend(std::string_view name) {
  if (SameWord(name, "default")) {
    return Backend::kDefault;
  }
  if (SameWord(name, "shm")) {
    return Backend::kShm;
  }
  if (SameWord(name, "tcp")) {
    return Backend::kTcp;
  }
  if (SameWord(name, "ucx")) {
    return Backend::kUcx;
  }
  if (SameWord(name, "libfabric")) {
    return Backend::kLibfabric;
  }
  return Fail(
      Code::kInvalidArgument,
      fmt::format("the transfer back end \"{}\" is none of default, shm, tcp, ucx, libfabric",
                  name),
      "backend");
}

AgentThread::Choose ChooseTransports(ClusterKey key, ChoiceOptions options) {
  return [key, options](rt::Loop& /*loop*/, rt::Net& net) {
    std::vector<TransportFactory> out;
    if (options.backend == Backend::kUcx || options.backend == Backend::kLibfabric) {
      FabricOptions fabric = options.fabric;
      fabric.kind = options.backend == Backend::kUcx ? FabricKind::kUcx : FabricKind::kLibfabric;
      out.push_back(MakeFabricTransport(net, key, std::move(fabric)));
      return out;
    }
    if (options.backend == Backend::kShm) {
      out.push_back(MakeShmTransport(net, key, options.shm));
    } else if (options.backend == Backend::kDefault) {
      out.push_back(IfPossible(MakeShmTransport(net, key, options.shm), "shm"));
    }
    if (options.backend != Backend::kShm && options.encrypted) {
      out.push_back([&net, key, tcp = options.tcp](AgentContext& context) {
        return EncryptedTransport::Create(context, net, key, tcp);
      });
    } else if (options.backend != Backend::kShm) {
      out.push_back(MakeTcpTransport(net, key, options.tcp));
    }
    return out;
  };
}

}  // namespace pixii::transport
