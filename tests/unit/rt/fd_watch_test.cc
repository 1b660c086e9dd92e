#include "rt/fd_watch.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "rt/fd.h"

namespace pixii::rt {
namespace {

TEST(FdWatch, TellsOnTheLoopAndNoMoreOnceItIsGone) {
  auto loop = *MakeLoop();
  const Fd event(::eventfd(0, EFD_NONBLOCK));
  const std::uint64_t one = 1;
  int told = 0;
  std::unique_ptr<FdWatch> watch = *WatchReadable(*loop, event.get(), [&] {
    std::uint64_t taken = 0;
    EXPECT_EQ(::read(event.get(), &taken, sizeof(taken)), 8);
    if (++told < 3) {
      EXPECT_EQ(::write(event.get(), &one, sizeof(one)), 8);
      return;
    }
    watch.reset();  // the descriptor goes on
    EXPECT_EQ(::write(event.get(), &one, sizeof(one)), 8);
    loop->Post([&] { loop->Post([&] { loop->Stop(); }); });
  });
  ASSERT_EQ(::write(event.get(), &one, sizeof(one)), 8);
  loop->Run();
  EXPECT_EQ(told, 3);
}

}  // namespace
}  // namespace pixii::rt
