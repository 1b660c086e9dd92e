"""Names of NVIDIA Dynamo's Python package that start Pixii: `python3 -m dynamo.frontend`, `dynamo.trtllm`, `dynamo.mocker`."""
