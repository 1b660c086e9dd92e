#include "transport/optional_transport.h"

#include <utility>

#include "base/assert.h"

namespace pixii::transport {

namespace {

class AbsentTransport final : public Transport {
 public:
  explicit AbsentTransport(std::string_view name) : name_(name) {}

  std::string_view name() const override { return name_; }

  std::string address() const override { return {}; }

  bool Fits(std::string_view /*address*/) const override { return false; }

  std::shared_ptr<Link> Connect(std::string_view /*address*/, AgentId /*peer*/) override {
    PX_ASSERT(false);  // no address fits
    return nullptr;
  }

 private:
  std::string_view name_;
};

}  // namespace

TransportFactory IfPossible(TransportFactory inner, std::string_view name) {
  return [inner = std::move(inner),
          name](AgentContext& context) -> Result<std::unique_ptr<Transport>> {
    Result<std::unique_ptr<Transport>> made = inner(context);
    if (made) {
      return made;
    }
    context.LinkChanged(context.id, name, &made.error());
    return std::make_unique<AbsentTransport>(name);
  };
}

}  // namespace pixii::transport
