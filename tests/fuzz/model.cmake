pixii_fuzz(safetensors_fuzz SRCS safetensors_fuzz.cc DEPS pixii_model)
pixii_fuzz(model_config_fuzz SRCS model_config_fuzz.cc DEPS pixii_model)
pixii_fuzz(lora_adapter_fuzz SRCS lora_adapter_fuzz.cc DEPS pixii_model)
pixii_fuzz(gguf_fuzz SRCS gguf_fuzz.cc DEPS pixii_model pixii_text pixii_kernels)
