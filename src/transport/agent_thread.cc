#include "transport/agent_thread.h"

namespace pixii::transport {

Result<std::unique_ptr<AgentThread>> AgentThread::Start(AgentOptions options,
                                                        const Choose& choose) {
  auto made =
      std::unique_ptr<AgentThread>(new AgentThread);  // tidy: new the constructor is private
  PX_TRY(made->loop_, rt::MakeLoop());
  made->net_ = rt::MakeNet(*made->loop_);
  PX_TRY(made->agent_, TransferAgent::Create(*made->loop_, std::move(options),
                                             choose(*made->loop_, *made->net_)));
  made->thread_ = rt::Thread("transfer", [loop = made->loop_.get()] { loop->Run(); });
  return made;
}

AgentThread::~AgentThread() {
  if (thread_.joinable()) {
    loop_->Stop();
    thread_.Join();
  }
}

}  // namespace pixii::transport
