"""The official `openai` npm client, unmodified."""
import harness


class OpenAiClient(harness.NpmClientCase):
    client = "openai"

    def test_chat(self):
        self.run_case("chat")

    def test_streaming(self):
        self.run_case("streaming")

    def test_completions(self):
        self.run_case("completions")

    def test_responses(self):
        self.run_case("responses")

    def test_files_and_batches(self):
        self.run_case("batches")

    def test_models(self):
        self.run_case("models")

    def test_abort_cancels_in_the_engine(self):
        self.run_case("abort")
        self.server.wait_for(lambda: self.server.running() == 0, 2, "no running sequence")

    def test_errors(self):
        self.run_case("errors")


if __name__ == "__main__":
    harness.main()
