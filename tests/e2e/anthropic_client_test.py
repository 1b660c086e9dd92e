"""The official `@anthropic-ai/sdk` npm client, unmodified."""
import harness


class AnthropicClient(harness.NpmClientCase):
    client = "anthropic"
    server_arguments = ("tiny-chat", "--enable-anthropic-api")

    def test_message(self):
        self.run_case("message")

    def test_streaming(self):
        self.run_case("streaming")

    def test_abort_cancels_in_the_engine(self):
        self.run_case("abort")
        self.server.wait_for(lambda: self.server.running() == 0, 2, "no running sequence")

    def test_errors(self):
        self.run_case("errors")


if __name__ == "__main__":
    harness.main()
